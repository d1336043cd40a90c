package store_test

import (
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/store/storetest"
)

func grant(id, userID, client string) authserver.Grant {
	return authserver.Grant{ID: id, UserID: userID, ClientID: client, RedirectURI: "http://127.0.0.1:1/cb", RedirectHost: "127.0.0.1",
		Resource: "https://k/s/a/mcp", Scopes: []string{"mcp:read"}, Created: epoch, LastUsed: epoch, Expires: epoch.Add(24 * time.Hour)}
}

func codeOf(name, grantID, user, client string) authserver.Code {
	c := code(name, grantID)
	c.UserID, c.ClientID = user, client
	return c
}

func code(name, grantID string) authserver.Code {
	return authserver.Code{Hash: hash(name), GrantID: grantID, UserID: "u1", ClientID: "c1", RedirectURI: "http://127.0.0.1:1/cb", Resource: "r",
		Scopes: []string{"a"}, Challenge: "ch", DPoPKey: "k", Remember: true, AuthTime: epoch, Created: epoch, Expires: epoch.Add(time.Minute), GrantEnds: epoch.Add(time.Hour), Covers: "1 files=aa"}
}

func TestGAS4_ParallelRedemptionsGiveOneGrant(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		c := code("code", "g1")
		must(t, s.CreateCode(ctx, c))
		got, err := s.Code(ctx, c.Hash)
		must(t, err)
		same(t, got, c)
		var again atomic.Int64
		n := parallel(t, 100, func(i int) (bool, error) {
			r, err := s.RedeemCode(ctx, authserver.Redemption{Hash: c.Hash, Now: epoch, Grant: grant("g1", "u1", "c1"),
				Refresh: authserver.Refresh{Hash: hash(fmt.Sprint("r", i)), GrantID: "g1", Created: epoch, Expires: epoch.Add(time.Hour)}})
			if r == authserver.SpendAgain {
				again.Add(1)
			}
			return r == authserver.SpendDone && err == nil, err
		})
		if n != 1 || again.Load() != 99 {
			t.Fatalf("%d redemptions, %d replays", n, again.Load())
		}
		g, err := s.Grant(ctx, "g1")
		must(t, err)
		if g.Revoked.IsZero() {
			t.Fatal("a replay did not revoke")
		}
	})
}

func TestGAS4_BurnAndExpiry(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		must(t, s.CreateCode(ctx, code("late", "g1")))
		r, err := s.RedeemCode(ctx, authserver.Redemption{Hash: hash("late"), Now: epoch.Add(time.Minute), Grant: grant("g1", "u1", "c1")})
		must(t, err)
		same(t, r, authserver.SpendUnknown)
		r, err = s.RedeemCode(ctx, authserver.Redemption{Hash: hash("late"), Now: epoch, Burn: true})
		must(t, err)
		same(t, r, authserver.SpendDone)
		r, err = s.RedeemCode(ctx, authserver.Redemption{Hash: hash("late"), Now: epoch, Grant: grant("g1", "u1", "c1")})
		must(t, err)
		same(t, r, authserver.SpendAgain)
		_, err = s.Grant(ctx, "g1")
		wantKind(t, err, kidoban.KindNotFound)

		must(t, s.CreateCode(ctx, code("good", "g2")))
		_, err = s.RedeemCode(ctx, authserver.Redemption{Hash: hash("good"), Now: epoch, Grant: grant("g2", "u1", "c1")})
		must(t, err)
		r, err = s.RedeemCode(ctx, authserver.Redemption{Hash: hash("good"), Now: epoch, Burn: true})
		must(t, err)
		same(t, r, authserver.SpendAgain)
		g, err := s.Grant(ctx, "g2")
		must(t, err)
		if !g.Revoked.IsZero() {
			t.Fatal("a replay with a wrong verifier revoked the grant")
		}
	})
}

func TestGAS5_ParallelRotationsGiveOneSuccessor(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		must(t, s.CreateCode(ctx, code("code", "g1")))
		_, err := s.RedeemCode(ctx, authserver.Redemption{Hash: hash("code"), Now: epoch, Grant: grant("g1", "u1", "c1"),
			Refresh: authserver.Refresh{Hash: hash("r0"), GrantID: "g1", Created: epoch, Expires: epoch.Add(time.Hour)}})
		must(t, err)
		rotate := func(now time.Time, i int) (authserver.Spend, string, error) {
			sp, sealed, err := s.RotateRefresh(ctx, authserver.Rotation{Hash: hash("r0"), Now: now, Grace: time.Minute, Sealed: fmt.Append(nil, "s", i),
				Successor: authserver.Refresh{Hash: hash(fmt.Sprint("s", i)), GrantID: "g1", Created: now, Expires: now.Add(time.Hour)}})
			return sp, string(sealed), err
		}
		var mu sync.Mutex
		successors := map[string]bool{}
		n := parallel(t, 100, func(i int) (bool, error) {
			sp, sealed, err := rotate(epoch, i)
			mu.Lock()
			defer mu.Unlock()
			if sp == authserver.SpendDone {
				sealed = fmt.Sprint("s", i)
			}
			successors[sealed] = true
			return sp == authserver.SpendDone, err
		})
		if n != 1 || len(successors) != 1 {
			t.Fatalf("%d rotations, successors %v", n, successors)
		}
		f, g, err := s.Refresh(ctx, hash("r0"))
		must(t, err)
		if f.Used.IsZero() || g.ID != "g1" || !g.Revoked.IsZero() {
			t.Fatalf("%+v %+v", f, g)
		}
		sp, _, err := rotate(epoch.Add(time.Minute), 1)
		must(t, err)
		same(t, sp, authserver.SpendAgain)
		for name := range successors {
			sp, _, err := s.RotateRefresh(ctx, authserver.Rotation{Hash: hash(name), Now: epoch, Sealed: []byte("x"),
				Successor: authserver.Refresh{Hash: hash("n"), GrantID: "g1", Created: epoch, Expires: epoch.Add(time.Hour)}})
			must(t, err)
			same(t, sp, authserver.SpendDead)
		}
		sp, _, err = s.RotateRefresh(ctx, authserver.Rotation{Hash: hash("unknown"), Now: epoch, Sealed: []byte("x")})
		must(t, err)
		same(t, sp, authserver.SpendUnknown)
	})
}

func TestRevocation(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		for i := range 3 {
			must(t, s.CreateGrant(ctx, grant(fmt.Sprint("g", i), "u1", "c1")))
		}
		must(t, s.CreateCode(ctx, code("waiting", "g9")))
		ids, err := s.ClientGrants(ctx, epoch)
		must(t, err)
		same(t, ids, []string{"c1"})
		must(t, s.PutConsent(ctx, authserver.Consent{UserID: "u1", ClientID: "c1", RedirectURI: "http://127.0.0.1:1/cb", Resource: "https://k/s/a/mcp", Expires: epoch.Add(time.Hour)}))
		must(t, s.RevokeGrant(ctx, "g0", "user", epoch))
		must(t, s.RevokeGrant(ctx, "g0", "twice", epoch.Add(time.Hour)))
		wantKind(t, s.RevokeGrant(ctx, "g7", "x", epoch), kidoban.KindNotFound)
		_, err = s.Consent(ctx, "u1", "c1", "http://127.0.0.1:1/cb", "https://k/s/a/mcp")
		wantKind(t, err, kidoban.KindNotFound)
		live, err := s.UserGrants(ctx, "u1", epoch)
		must(t, err)
		if len(live) != 2 {
			t.Fatalf("%d live", len(live))
		}
		n, err := s.RevokeClientGrants(ctx, "c1", "denied", epoch.Add(time.Second))
		must(t, err)
		same(t, n, 2)
		_, err = s.Code(ctx, hash("waiting"))
		wantKind(t, err, kidoban.KindNotFound)
		must(t, s.RevokeToken(ctx, "jti", epoch.Add(2*time.Second)))
		log, err := s.Revocations(ctx, epoch.Add(time.Second))
		must(t, err)
		if len(log) != 3 || log[2].ID != "t:jti" {
			t.Fatalf("%+v", log)
		}
		all, err := s.AllGrants(ctx, epoch, "", 10)
		must(t, err)
		same(t, len(all), 0)
	})
}

func BenchmarkRotate(b *testing.B) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": storetest.SQLite, "postgres": cluster.Postgres} {
		b.Run(name, func(b *testing.B) {
			s, err := store.Open(b.Context(), store.Options{URL: url(b)})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			now := time.Now()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				id := rand.Text()
				if err := s.CreateCode(b.Context(), code(id, id)); err != nil {
					b.Error(err)
					return
				}
				last := "r" + id
				g := grant(id, "u1", "c1")
				g.Expires = now.Add(time.Hour)
				if _, err := s.RedeemCode(b.Context(), authserver.Redemption{Hash: hash(id), Now: epoch, Grant: g,
					Refresh: authserver.Refresh{Hash: hash(last), GrantID: id, Created: now, Expires: now.Add(time.Hour)}}); err != nil {
					b.Error(err)
					return
				}
				for i := 0; pb.Next(); i++ {
					next := fmt.Sprint(id, i)
					_, _, err := s.Refresh(b.Context(), hash(last))
					if err != nil {
						b.Error(err)
						return
					}
					sp, _, err := s.RotateRefresh(b.Context(), authserver.Rotation{Hash: hash(last), Now: now, Sealed: make([]byte, 76),
						Successor: authserver.Refresh{Hash: hash(next), GrantID: id, Created: now, Expires: now.Add(time.Hour)}})
					if err != nil || sp != authserver.SpendDone {
						b.Error(sp, err)
						return
					}
					last = next
				}
			})
		})
	}
}

// TestGCO6_RevokingAUserEndsEverything: more grants than one page lists, and codes
// that wait to be redeemed.
func TestGCO6_RevokingAUserEndsEverything(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		const many = 1100
		for i := range many {
			must(t, s.CreateGrant(ctx, grant(fmt.Sprint("g", i), "u1", "c1")))
		}
		must(t, s.CreateGrant(ctx, grant("other", "u2", "c1")))
		must(t, s.CreateCode(ctx, codeOf("waiting", "gw", "u1", "c1")))
		n, err := s.RevokeUserGrants(ctx, "u1", "over", epoch)
		must(t, err)
		left, err := s.UserGrants(ctx, "u1", epoch)
		must(t, err)
		if n != many || len(left) != 0 {
			t.Errorf("%d ended, %d are left", n, len(left))
		}
		if g, err := s.Grant(ctx, "other"); err != nil || !g.Revoked.IsZero() {
			t.Errorf("another user's: %v %v", g, err)
		}
		spent, err := s.RedeemCode(ctx, authserver.Redemption{Hash: hash("waiting"), Now: epoch, Grant: grant("gw", "u1", "c1")})
		must(t, err)
		if spent != authserver.SpendUnknown {
			t.Errorf("a code outlived the end of everything: %v", spent)
		}
	})
}

// TestGRG4_NoRedemptionOutrunsARevocation: a code that is redeemed while its client
// is blocked, its user switched off, or everything is taken back, leaves no grant.
func TestGRG4_NoRedemptionOutrunsARevocation(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		must(t, s.CreateUser(ctx, authserver.User{ID: "u", Name: "u", Display: "u", Created: epoch}))
		for i := range 60 {
			id := fmt.Sprint("g", i)
			client := fmt.Sprint("c", i)
			must(t, s.CreateCode(ctx, codeOf(id, id, "u", client)))
			parallel(t, 2, func(k int) (bool, error) {
				if k == 0 {
					_, err := s.RedeemCode(ctx, authserver.Redemption{Hash: hash(id), Now: epoch, Grant: grant(id, "u", client)})
					return true, err
				}
				var err error
				switch i % 3 {
				case 0:
					_, err = s.RevokeClientGrants(ctx, client, "blocked", epoch)
				case 1:
					_, err = s.RevokeUserGrants(ctx, "u", "over", epoch)
				default:
					err = s.SetUserDisabled(ctx, "u", true, epoch)
				}
				return true, err
			})
			if g, err := s.Grant(ctx, id); err == nil && g.Revoked.IsZero() {
				t.Fatalf("grant %d lives on", i)
			}
		}
	})
}
