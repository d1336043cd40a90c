package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/store"
)

// TestGTG5_WhatProvidersSaidIsKept: the later login replaces the earlier one, a renewal
// that a login has overtaken changes nothing, and every replica is told when groups
// differ.
func TestGTG5_WhatProvidersSaidIsKept(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		must(t, s.CreateUser(ctx, user("u1", "alice")))
		_, err := s.Heard(ctx, "u1")
		wantKind(t, err, kidoban.KindNotFound)
		var told []time.Time
		changed := func(want bool, what string) {
			t.Helper()
			log, err := s.Revocations(ctx, epoch)
			must(t, err)
			var now []time.Time
			for _, r := range log {
				if r.ID == authserver.ChangedUser+"u1" {
					now = append(now, r.At)
				}
			}
			if got := !slices.EqualFunc(now, told, time.Time.Equal); got != want {
				t.Errorf("%s: told %v, before %v", what, now, told)
			}
			told = now
		}
		one := authserver.Heard{UserID: "u1", Provider: "corp", Issuer: "https://idp.example", Claim: "groups", Groups: []string{"a", "b\"; ü"}, At: epoch}
		must(t, s.PutHeard(ctx, one))
		changed(true, "a first login")
		got, err := s.Heard(ctx, "u1")
		must(t, err)
		one.Version = got.Version
		same(t, got, one)
		must(t, s.PutHeard(ctx, one))
		changed(false, "the same groups")

		got, err = s.Heard(ctx, "u1")
		must(t, err)
		late := got
		got.Groups, got.At = []string{"a"}, epoch // at the same time as the first: still told
		done, err := s.SwapHeard(ctx, got)
		must(t, err)
		same(t, done, true)
		changed(true, "fewer groups")
		late.Groups = []string{"admins"}
		done, err = s.SwapHeard(ctx, late)
		must(t, err)
		same(t, done, false)
		changed(false, "a renewal that was overtaken")
		late.Ended, late.Why = epoch.Add(time.Hour), "gone"
		done, err = s.EndHeard(ctx, late)
		must(t, err)
		same(t, done, false)

		must(t, s.CreateSession(ctx, authserver.Session{Hash: hash("a"), UserID: "u1", Method: "oidc", Created: epoch, LastSeen: epoch, Expires: epoch.Add(time.Hour)}))
		got, err = s.Heard(ctx, "u1")
		must(t, err)
		same(t, got.Groups, []string{"a"})
		got.Ended, got.Why = epoch.Add(time.Hour), "gone"
		done, err = s.EndHeard(ctx, got)
		must(t, err)
		same(t, done, true)
		_, _, err = s.Session(ctx, hash("a"))
		wantKind(t, err, kidoban.KindNotFound)
		over, err := s.Heard(ctx, "u1")
		must(t, err)
		if !over.Ended.Equal(got.Ended) || over.Why != "gone" || !slices.Equal(over.Groups, got.Groups) {
			t.Errorf("%+v", over)
		}
		must(t, s.PutHeard(ctx, one))
		back, err := s.Heard(ctx, "u1")
		must(t, err)
		if !back.Ended.IsZero() || back.Why != "" || back.Version <= over.Version {
			t.Errorf("after a new login: %+v", back)
		}
		all, err := s.HeardOf(ctx, []string{"u1", "nobody"})
		must(t, err)
		if len(all) != 1 || all["u1"].Version != back.Version {
			t.Errorf("%+v", all)
		}
	})
}

// TestGTG5_OneRenewalIsHeard: of renewals at once that began with the same word one
// counts.
func TestGTG5_OneRenewalIsHeard(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		must(t, s.CreateUser(ctx, user("u1", "alice")))
		must(t, s.PutHeard(ctx, authserver.Heard{UserID: "u1", At: epoch}))
		was, err := s.Heard(ctx, "u1")
		must(t, err)
		n := parallel(t, 12, func(i int) (bool, error) {
			mine := was
			mine.Groups = []string{fmt.Sprint(i)}
			return s.SwapHeard(ctx, mine)
		})
		same(t, n, 1)
	})
}
