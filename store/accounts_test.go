package store_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/store"
)

func user(id, name string) authserver.User {
	return authserver.User{ID: id, Name: name, Display: "D " + name, PasswordHash: "$argon2id$x", Created: epoch}
}

func TestUsers(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		alice := user("u1", "Alice")
		alice.Admin = true
		must(t, s.CreateUser(ctx, alice))
		wantKind(t, s.CreateUser(ctx, user("u2", "aLICE")), kidoban.KindConflict)
		got, err := s.UserByName(ctx, "ALICE")
		must(t, err)
		same(t, got, alice)
		_, err = s.User(ctx, "nobody")
		wantKind(t, err, kidoban.KindNotFound)

		ids := sync.Map{}
		parallel(t, 20, func(i int) (bool, error) {
			u, err := s.UserForIdentity(ctx, "https://idp.example", "sub-1", user(fmt.Sprint("n", i), fmt.Sprint("bob", i)))
			ids.Store(u.ID, true)
			return true, err
		})
		n := 0
		ids.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Fatalf("one identity became %d users", n)
		}
		_, err = s.UserForIdentity(ctx, "https://idp.example", "sub-2", user("u9", "alice"))
		wantKind(t, err, kidoban.KindConflict)
		list, err := s.Users(ctx, "", 10)
		must(t, err)
		if len(list) != 2 || list[0].ID != "u1" {
			t.Fatalf("users: %+v", list)
		}
	})
}

func TestSessionsAndDisable(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		must(t, s.CreateUser(ctx, user("u1", "alice")))
		for _, n := range []string{"a", "b"} {
			must(t, s.CreateSession(ctx, authserver.Session{Hash: hash(n), UserID: "u1", Method: "password", Created: epoch, LastSeen: epoch, Expires: epoch.Add(time.Hour)}))
		}
		must(t, s.TouchSession(ctx, hash("a"), epoch.Add(time.Minute)))
		ses, u, err := s.Session(ctx, hash("a"))
		must(t, err)
		if u.ID != "u1" || !ses.LastSeen.Equal(epoch.Add(time.Minute)) {
			t.Fatalf("%+v %+v", ses, u)
		}
		must(t, s.SetPassword(ctx, "u1", "new", hash("a")))
		_, _, err = s.Session(ctx, hash("b"))
		wantKind(t, err, kidoban.KindNotFound)
		must(t, s.CreateGrant(ctx, grant("g1", "u1", "c1")))
		must(t, s.SetUserDisabled(ctx, "u1", true, epoch))
		_, _, err = s.Session(ctx, hash("a"))
		wantKind(t, err, kidoban.KindNotFound)
		g, err := s.Grant(ctx, "g1")
		must(t, err)
		if g.Revoked.IsZero() {
			t.Fatal("the grant of a disabled user lives")
		}
		rev, err := s.Revocations(ctx, epoch)
		must(t, err)
		same(t, rev, []authserver.Revocation{{ID: "g:g1", At: epoch}})
		must(t, s.CreateSession(ctx, authserver.Session{Hash: hash("c"), UserID: "u1", Created: epoch, Expires: epoch.Add(time.Hour)}))
		_, _, err = s.Session(ctx, hash("c"))
		wantKind(t, err, kidoban.KindNotFound)
	})
}

func TestPasskeys(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		must(t, s.CreateUser(ctx, user("u1", "alice")))
		p := authserver.Passkey{ID: []byte{0, 1, 0xff}, UserID: "u1", Label: "key", Data: json.RawMessage(`{"a":1}`), Created: epoch}
		must(t, s.AddPasskey(ctx, p))
		wantKind(t, s.AddPasskey(ctx, p), kidoban.KindConflict)
		p.LastUsed, p.Data = epoch.Add(time.Second), json.RawMessage(`{"a":2}`)
		must(t, s.UpdatePasskey(ctx, p))
		list, err := s.Passkeys(ctx, "u1")
		must(t, err)
		same(t, list, []authserver.Passkey{p})
		wantKind(t, s.DeletePasskey(ctx, "u2", p.ID), kidoban.KindNotFound)
		must(t, s.DeletePasskey(ctx, "u1", p.ID))
	})
}

// TestOneFirstAdministrator: replicas that start at the same moment each print
// a link; one of them works, once, and none when an administrator has come
// another way.
func TestOneFirstAdministrator(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		const links = 8
		parallel(t, links, func(i int) (bool, error) {
			return true, s.CreateSetup(ctx, authserver.Setup{Hash: hash(fmt.Sprint("link", i)), Expires: epoch.Add(time.Hour)})
		})
		redeem := func(i int) (bool, error) {
			_, err := s.RedeemSetup(ctx, hash(fmt.Sprint("link", i)), epoch, admin(fmt.Sprint("u", i), fmt.Sprint("admin", i)))
			if err != nil && kidoban.KindOf(err) == kidoban.KindNotFound {
				return false, nil
			}
			return err == nil, err
		}
		if n := parallel(t, links, redeem); n != 1 {
			t.Fatalf("%d links made an administrator", n)
		}
		must(t, s.CreateSetup(ctx, authserver.Setup{Hash: hash("link8"), Expires: epoch.Add(time.Hour)}))
		_, err := s.Setup(ctx, hash("link8"), epoch)
		wantKind(t, err, kidoban.KindNotFound)
		if made, err := redeem(8); made || err != nil {
			t.Fatalf("a second administrator: %v %v", made, err)
		}
	})
}

func admin(id, name string) authserver.User {
	u := user(id, name)
	u.Admin = true
	return u
}

func TestSetupIsRedeemedOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		must(t, s.CreateSetup(ctx, authserver.Setup{Hash: hash("old"), Expires: epoch.Add(time.Hour)}))
		must(t, s.CreateSetup(ctx, authserver.Setup{Hash: hash("link"), Expires: epoch.Add(time.Hour)}))
		_, err := s.Setup(ctx, hash("old"), epoch)
		wantKind(t, err, kidoban.KindNotFound)
		_, err = s.RedeemSetup(ctx, hash("link"), epoch.Add(time.Hour), user("u0", "late"))
		wantKind(t, err, kidoban.KindNotFound)
		n := parallel(t, 20, func(i int) (bool, error) {
			_, err := s.RedeemSetup(ctx, hash("link"), epoch, user(fmt.Sprint("u", i), fmt.Sprint("admin", i)))
			if kidoban.KindOf(err) == kidoban.KindNotFound && err != nil {
				return false, nil
			}
			return err == nil, err
		})
		if n != 1 {
			t.Fatalf("the link was used %d times", n)
		}
		all, err := s.Users(ctx, "", 100)
		must(t, err)
		if len(all) != 1 {
			t.Fatalf("%d users", len(all))
		}
		must(t, s.CreateSetup(ctx, authserver.Setup{Hash: hash("reset"), UserID: all[0].ID, Expires: epoch.Add(time.Hour)}))
		u, err := s.RedeemSetup(ctx, hash("reset"), epoch, authserver.User{PasswordHash: "fresh"})
		must(t, err)
		if u.ID != all[0].ID || u.PasswordHash != "fresh" {
			t.Fatalf("%+v", u)
		}
	})
}
