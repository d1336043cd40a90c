package store_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/store/storetest"
)

var cluster storetest.Cluster

func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }

// onBoth runs a test of the contract on both engines.
func onBoth(t *testing.T, test func(t *testing.T, s *store.DB)) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": storetest.SQLite, "postgres": cluster.Postgres} {
		t.Run(name, func(t *testing.T) {
			s, err := store.Open(t.Context(), store.Options{URL: url(t)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			test(t, s)
		})
	}
}

var epoch = time.UnixMilli(1_800_000_000_000)

func hash(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:] }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, k kidoban.Kind) {
	t.Helper()
	if err == nil || kidoban.KindOf(err) != k {
		t.Fatalf("got error %v, want kind %s", err, k)
	}
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(time.Millisecond)); d != "" {
		t.Fatalf("(-want +got)\n%s", d)
	}
}

// parallel runs fn n times at once and returns how often it said yes.
func parallel(t *testing.T, n int, fn func(i int) (bool, error)) int {
	t.Helper()
	var yes atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			ok, err := fn(i)
			if err != nil {
				t.Error(err)
			}
			if ok {
				yes.Add(1)
			}
		})
	}
	close(start)
	wg.Wait()
	return int(yes.Load())
}

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

func dcr(id, fingerprint string) authserver.Client {
	return authserver.Client{ID: id, Kind: authserver.ClientDCR, Metadata: json.RawMessage(`{"client_name":"x"}`),
		Fingerprint: fingerprint, Created: epoch, Expires: epoch.Add(time.Hour)}
}

func TestGRG5_RegistrationIsIdempotentUntilConsent(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		n := parallel(t, 20, func(i int) (bool, error) {
			_, created, _, err := s.RegisterClient(ctx, dcr(fmt.Sprint("c", i), "fp"), hash(fmt.Sprint("tok", i)), true, 3)
			return created, err
		})
		if n != 1 {
			t.Fatalf("%d clients for one registration", n)
		}
		c, created, attached, err := s.RegisterClient(ctx, dcr("again", "fp"), hash("x"), true, 3)
		must(t, err)
		if created || attached {
			t.Fatal("a fourth token was attached, or a client made")
		}
		if n, err := s.CountPending(ctx, epoch); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		must(t, s.MarkConsented(ctx, c.ID, epoch, epoch.Add(24*time.Hour)))
		d, created, attached, err := s.RegisterClient(ctx, dcr("after", "fp"), hash("y"), true, 3)
		must(t, err)
		if !created || !attached || d.ID != "after" {
			t.Fatal("a consented client was shared")
		}
		// An expired one makes way.
		late := dcr("late", "fp")
		late.Created, late.Expires = epoch.Add(2*time.Hour), epoch.Add(3*time.Hour)
		e, created, _, err := s.RegisterClient(ctx, late, hash("z"), true, 3)
		must(t, err)
		if !created || e.ID != "late" {
			t.Fatal("an expired registration came back")
		}
		// Confidential ones are never shared.
		_, created, _, err = s.RegisterClient(ctx, dcr("s1", "fp2"), hash("s1"), false, 3)
		must(t, err)
		_, again, _, err := s.RegisterClient(ctx, dcr("s2", "fp2"), hash("s2"), false, 3)
		must(t, err)
		if !created || !again {
			t.Fatal("clients with secrets were shared")
		}
	})
}

func TestRegistrationTokens(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		c, _, _, err := s.RegisterClient(ctx, dcr("c1", "fp"), hash("t1"), true, 3)
		must(t, err)
		_, _, _, err = s.RegisterClient(ctx, dcr("c2", "fp"), hash("t2"), true, 3)
		must(t, err)
		_, err = s.ClientByToken(ctx, c.ID, hash("wrong"))
		wantKind(t, err, kidoban.KindNotFound)
		_, err = s.ClientByToken(ctx, c.ID, hash("t2"))
		must(t, err)
		must(t, s.CreateGrant(ctx, grant("g1", "u1", c.ID)))
		gone, err := s.DropToken(ctx, c.ID, hash("t1"), epoch)
		must(t, err)
		if gone {
			t.Fatal("one registrant deleted the other's client")
		}
		_, err = s.DropToken(ctx, c.ID, hash("t1"), epoch)
		wantKind(t, err, kidoban.KindNotFound)
		gone, err = s.DropToken(ctx, c.ID, hash("t2"), epoch)
		must(t, err)
		if !gone {
			t.Fatal("the last token did not delete")
		}
		_, err = s.Client(ctx, c.ID)
		wantKind(t, err, kidoban.KindNotFound)
		g, err := s.Grant(ctx, "g1")
		must(t, err)
		if g.Revoked.IsZero() {
			t.Fatal("the grant outlived its client")
		}
	})
}

func TestGCO5_ChangedClientDropsConsents(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		c := authserver.Client{ID: "https://app.example/c.json", Kind: authserver.ClientCIMD, Metadata: json.RawMessage(`{}`), Fingerprint: "1",
			Created: epoch, Expires: epoch.Add(time.Hour), Review: true}
		_, err := s.PutClient(ctx, c)
		must(t, err)
		must(t, s.SetReview(ctx, c.ID, false))
		consent := authserver.Consent{UserID: "u1", ClientID: c.ID, RedirectURI: "https://app.example/cb", Resource: "r",
			Scopes: []string{"a", "b"}, Fingerprint: "1", Created: epoch, Expires: epoch.Add(time.Hour), Covers: "1 files=aa"}
		must(t, s.PutConsent(ctx, consent))
		c.FreshUntil = epoch.Add(time.Minute)
		got, err := s.PutClient(ctx, c)
		must(t, err)
		if got.Review {
			t.Fatal("the review came back with a refresh of the document")
		}
		kept, err := s.Consent(ctx, "u1", c.ID, "https://app.example/cb", "r")
		must(t, err)
		same(t, kept, consent)
		c.Fingerprint = "2"
		_, err = s.PutClient(ctx, c)
		must(t, err)
		_, err = s.Consent(ctx, "u1", c.ID, "https://app.example/cb", "r")
		wantKind(t, err, kidoban.KindNotFound)
	})
}

func TestGRG3_HostsAreRecorded(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		hosts := []authserver.Host{{Host: "evil.example"}, {Host: "127.0.0.1", Loopback: true}}
		fresh, err := s.SeeHosts(ctx, "c1", hosts, epoch)
		must(t, err)
		same(t, fresh, []string{"evil.example", "127.0.0.1"})
		fresh, err = s.SeeHosts(ctx, "c2", hosts[:1], epoch.Add(time.Hour))
		must(t, err)
		same(t, fresh, []string(nil))
		g := grant("g1", "u1", "c1")
		g.RedirectHost = "evil.example"
		must(t, s.CreateGrant(ctx, g))
		list, err := s.Hosts(ctx, 10)
		must(t, err)
		same(t, list, []authserver.Host{
			{Host: "127.0.0.1", Loopback: true, FirstSeen: epoch, LastSeen: epoch, Clients: 1},
			{Host: "evil.example", FirstSeen: epoch, LastSeen: epoch.Add(time.Hour), Clients: 2, Users: 1, Grants: 1},
		})
	})
}

func TestDenyList(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		d := authserver.Deny{ID: "d1", Kind: "host", Pattern: "evil.example", Reason: "phishing", By: "admin", Created: epoch}
		must(t, s.AddDeny(ctx, d))
		again := d
		again.ID = "d2"
		must(t, s.AddDeny(ctx, again))
		list, err := s.DenyList(ctx)
		must(t, err)
		same(t, list, []authserver.Deny{d})
		must(t, s.RemoveDeny(ctx, "d1"))
		wantKind(t, s.RemoveDeny(ctx, "d1"), kidoban.KindNotFound)
	})
}

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

func TestSecretsAndKeysAgree(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		var mu sync.Mutex
		got := map[string]bool{}
		parallel(t, 20, func(i int) (bool, error) {
			v, err := s.Secret(ctx, "ticket", fmt.Append(nil, "sealed", i))
			mu.Lock()
			defer mu.Unlock()
			got[string(v)] = true
			k, kerr := s.AddKey(ctx, authserver.SigningKey{KID: fmt.Sprint("k", i), Slot: "EdDSA:1", Alg: "EdDSA", Sealed: []byte{1}, Public: json.RawMessage(`{}`),
				Active: epoch, Retire: epoch.Add(time.Hour), Expires: epoch.Add(2 * time.Hour)})
			got[k.KID] = true
			if err == nil {
				err = kerr
			}
			return true, err
		})
		if len(got) != 2 {
			t.Fatalf("processes disagree: %v", got)
		}
		must(t, s.RetireKeys(ctx, epoch.Add(time.Minute)))
		keys, err := s.SigningKeys(ctx, epoch.Add(time.Minute))
		must(t, err)
		if len(keys) != 1 || !keys[0].Retire.Equal(epoch.Add(time.Minute)) {
			t.Fatalf("%+v", keys)
		}
	})
}

func TestGVA4_OneRingOnTheShelf(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		ring, err := s.Ring(ctx)
		must(t, err)
		same(t, ring, []byte(nil))
		same(t, parallel(t, 20, func(i int) (bool, error) { return s.SwapRing(ctx, nil, fmt.Append(nil, "first", i)) }), 1)
		first, err := s.Ring(ctx)
		must(t, err)
		same(t, parallel(t, 20, func(i int) (bool, error) { return s.SwapRing(ctx, first, fmt.Append(nil, "second", i)) }), 1)
		done, err := s.SwapRing(ctx, first, []byte("late"))
		must(t, err)
		same(t, done, false)
	})
}

func TestUseOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		n := parallel(t, 50, func(int) (bool, error) { return s.UseOnce(t.Context(), "jti", epoch, epoch.Add(time.Minute)) })
		same(t, n, 1)
		ok, err := s.UseOnce(t.Context(), "jti", epoch.Add(time.Minute), epoch.Add(2*time.Minute))
		must(t, err)
		same(t, ok, true)
	})
}

func TestTakeLimit(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		n := parallel(t, 50, func(int) (bool, error) {
			wait, err := s.TakeLimit(ctx, "login:alice", epoch, time.Minute, 5)
			return wait == 0, err
		})
		same(t, n, 5)
		wait, err := s.TakeLimit(ctx, "login:alice", epoch, time.Minute, 5)
		must(t, err)
		same(t, wait, time.Minute)
		wait, err = s.TakeLimit(ctx, "login:alice", epoch.Add(time.Minute), time.Minute, 5)
		must(t, err)
		same(t, wait, time.Duration(0))
		wait, err = s.TakeLimit(ctx, "login:alice", epoch.Add(time.Hour), time.Minute, 1)
		must(t, err)
		same(t, wait, time.Duration(0))
	})
}

// TestGRG5_SharesAreTakenTogether: all or none, exactly as many as there are, and a
// clock that leapt back holds nobody longer than a whole burst.
func TestGRG5_SharesAreTakenTogether(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		wide, narrow := authserver.Share{Key: "wide", Interval: time.Minute, Burst: 20}, authserver.Share{Key: "narrow", Interval: time.Minute, Burst: 5}
		n := parallel(t, 50, func(int) (bool, error) {
			spent, wait, err := s.TakeLimits(ctx, epoch, wide, narrow)
			if wait > 0 && spent != 1 {
				t.Errorf("share %d is said to be spent", spent)
			}
			return wait == 0, err
		})
		same(t, n, 5)
		n = parallel(t, 50, func(int) (bool, error) {
			_, wait, err := s.TakeLimits(ctx, epoch, wide)
			return wait == 0, err
		})
		same(t, n, 15) // what the narrow one refused was given back
		_, wait, err := s.TakeLimits(ctx, epoch.Add(-time.Hour), narrow)
		must(t, err)
		same(t, wait, time.Minute)
		_, wait, err = s.TakeLimits(ctx, epoch.Add(-58*time.Minute), narrow)
		must(t, err)
		same(t, wait, time.Duration(0))
	})
}

// TestGRG5_ABurstIsWholeInAnyOrder: callers read their clocks in one order and reach
// the database in another.
func TestGRG5_ABurstIsWholeInAnyOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		share := authserver.Share{Key: "rate", Interval: time.Hour, Burst: 12}
		given := 0
		for i := range 20 {
			_, wait, err := s.TakeLimits(t.Context(), epoch.Add(-time.Duration(i*10)*time.Millisecond), share)
			must(t, err)
			if wait == 0 {
				given++
			}
		}
		same(t, given, 12)
		_, wait, err := s.TakeLimits(t.Context(), epoch, share)
		must(t, err)
		if wait == 0 || wait > time.Hour {
			t.Errorf("a spent limit says to wait %v", wait)
		}
	})
}

func TestGCO4_TransactionBelongsToOneBrowser(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		x := authserver.Transaction{Hash: hash("state"), Browser: hash("A"), Data: []byte("sealed"), Expires: epoch.Add(time.Minute)}
		must(t, s.CreateTransaction(ctx, x))
		_, err := s.UseTransaction(ctx, x.Hash, hash("B"), epoch)
		wantKind(t, err, kidoban.KindRefused)
		_, err = s.UseTransaction(ctx, x.Hash, x.Browser, epoch.Add(time.Minute))
		wantKind(t, err, kidoban.KindNotFound)
		n := parallel(t, 20, func(int) (bool, error) {
			got, err := s.UseTransaction(ctx, x.Hash, x.Browser, epoch)
			if err != nil && kidoban.KindOf(err) == kidoban.KindNotFound {
				return false, nil
			}
			return string(got.Data) == "sealed", err
		})
		same(t, n, 1)
	})
}

func TestPurgeKeepsWhatLives(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		_, _, _, err := s.RegisterClient(ctx, dcr("old", "1"), hash("1"), true, 3)
		must(t, err)
		c := dcr("kept", "2")
		_, _, _, err = s.RegisterClient(ctx, c, hash("2"), true, 3)
		must(t, err)
		must(t, s.MarkConsented(ctx, "kept", epoch, epoch.Add(90*24*time.Hour)))
		must(t, s.CreateCode(ctx, code("c", "g")))
		must(t, s.CreateGrant(ctx, grant("g", "u1", "kept")))
		must(t, s.RevokeToken(ctx, "t", epoch))
		must(t, s.AddAlert(ctx, authserver.Alert{ID: "a", Kind: "k", At: epoch, Subject: "s", Text: "t", Do: "d"}))
		must(t, s.AddAlert(ctx, authserver.Alert{ID: "b", Kind: "k", At: epoch.Add(-time.Second), Subject: "s", Text: "t", Do: "d", With: kidoban.AlertWords{"host": "h\"{x}"}}))
		must(t, s.CreateTransaction(ctx, authserver.Transaction{Hash: hash("x"), Browser: hash("b"), Data: []byte{1}, Expires: epoch.Add(time.Minute)}))
		n, err := s.Purge(ctx, epoch.Add(2*time.Hour), time.Hour, 1000)
		must(t, err)
		if n != 4 { // the old client, the code, the revocation, the transaction
			t.Fatalf("%d rows purged", n)
		}
		_, err = s.Client(ctx, "old")
		wantKind(t, err, kidoban.KindNotFound)
		_, err = s.Client(ctx, "kept")
		must(t, err)
		_, err = s.Grant(ctx, "g")
		must(t, err)
		al, err := s.Alerts(ctx, 5)
		must(t, err)
		same(t, len(al), 2)
		same(t, al[0].With == nil, true) // as it was stored before alerts had languages
		same(t, al[1].With["host"], "h\"{x}")
	})
}

func TestMigrationsRunOnceAndForwardOnly(t *testing.T) {
	for name, url := range map[string]string{"sqlite": storetest.SQLite(t), "postgres": cluster.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			n := 4 // several processes start on one empty PostgreSQL database
			if name == "sqlite" {
				n = 2
			}
			parallel(t, n, func(int) (bool, error) {
				s, err := store.Open(t.Context(), store.Options{URL: url})
				if err != nil {
					return false, err
				}
				return true, s.Close()
			})
			if err := store.PretendNewer(t.Context(), url); err != nil {
				t.Fatal(err)
			}
			_, err := store.Open(t.Context(), store.Options{URL: url})
			wantKind(t, err, kidoban.KindUsage)
		})
	}
}

// TestMigrationsKeepWhatThereIs: a database of each earlier schema, with something in it,
// opens, keeps it and takes more.
func TestMigrationsKeepWhatThereIs(t *testing.T) {
	latest, err := store.SchemaVersions()
	must(t, err)
	for version := 1; version < latest; version++ {
		for engine, url := range map[string]string{"sqlite": storetest.SQLite(t), "postgres": cluster.Postgres(t)} {
			t.Run(fmt.Sprint(engine, " ", version), func(t *testing.T) {
				must(t, store.MakeOld(t.Context(), url, version))
				s, err := store.Open(t.Context(), store.Options{URL: url})
				must(t, err)
				defer s.Close()
				u, err := s.UserByName(t.Context(), "Old")
				must(t, err)
				same(t, u.ID, "u")
				must(t, s.AddAlert(t.Context(), authserver.Alert{ID: "b", Kind: "k", At: epoch, Subject: "s", Text: "t", Do: "d", With: kidoban.AlertWords{"host": "h"}}))
				alerts, err := s.Alerts(t.Context(), 5)
				must(t, err)
				same(t, len(alerts), 2)
				same(t, alerts[1].Text, "It happened.")
				if version < 2 {
					return
				}
				entries, err := s.JournalEntries(t.Context(), "gateway", 0, 5)
				must(t, err)
				same(t, len(entries), 1)
				same(t, string(entries[0].Body), `{"user":"u"}`)
			})
		}
	}
}

func TestSQLiteFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "k.db")
	s, err := store.Open(context.Background(), store.Options{URL: path})
	must(t, err)
	defer s.Close()
	for _, suffix := range []string{"", "-wal"} {
		st, err := os.Stat(path + suffix)
		must(t, err)
		if st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path+suffix, st.Mode())
		}
	}
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

// TestGRG5_StrangersDeleteNobodysClient: of a registration that more share than have
// a token, those who have one cannot take it from the others.
func TestGRG5_StrangersDeleteNobodysClient(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		var c authserver.Client
		for i := range 5 { // three strangers, then two who get no token
			got, _, attached, err := s.RegisterClient(ctx, dcr(fmt.Sprint("c", i), "fp"), hash(fmt.Sprint("t", i)), true, 3)
			must(t, err)
			if attached != (i < 3) {
				t.Fatalf("registrant %d: %v", i, attached)
			}
			c = got
		}
		must(t, s.CreateGrant(ctx, grant("g1", "u1", c.ID)))
		for i := range 3 {
			gone, err := s.DropToken(ctx, c.ID, hash(fmt.Sprint("t", i)), epoch)
			must(t, err)
			if gone {
				t.Errorf("stranger %d deleted the client", i)
			}
		}
		if g, err := s.Grant(ctx, "g1"); err != nil || !g.Revoked.IsZero() {
			t.Errorf("a stranger ended somebody's access: %v %v", g, err)
		}
	})
}

// TestGCO1_GrantsOfBeforeKeepWhatTheyHad: what is older than the coverage gets the one
// of the upgrade, once, and for its own resource alone.
func TestGCO1_GrantsOfBeforeKeepWhatTheyHad(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		old := grant("g1", "u1", "c1")
		old.Resource, old.Covers = "all", ""
		must(t, s.CreateGrant(ctx, old))
		elsewhere := grant("g2", "u1", "c1")
		elsewhere.Resource, elsewhere.Covers = "one", ""
		must(t, s.CreateGrant(ctx, elsewhere))
		waiting := code("waiting", "g3")
		waiting.Resource, waiting.Covers = "all", ""
		must(t, s.CreateCode(ctx, waiting))
		consent := authserver.Consent{UserID: "u1", ClientID: "c1", RedirectURI: "x", Resource: "all", Created: epoch, Expires: epoch.Add(time.Hour)}
		must(t, s.PutConsent(ctx, consent))
		for i, covers := range []string{"1 files=aa", "1 files=aa mail=bb"} {
			n, err := s.FixCoverage(ctx, "all", covers)
			must(t, err)
			if n != int64(1-i) {
				t.Errorf("%d grants were fixed to %s", n, covers)
			}
		}
		g, err := s.Grant(ctx, "g1")
		must(t, err)
		c, err := s.Code(ctx, waiting.Hash)
		must(t, err)
		k, err := s.Consent(ctx, "u1", "c1", "x", "all")
		must(t, err)
		other, err := s.Grant(ctx, "g2")
		must(t, err)
		if g.Covers != "1 files=aa" || c.Covers != g.Covers || k.Covers != g.Covers || other.Covers != "" {
			t.Errorf("%q %q %q %q", g.Covers, c.Covers, k.Covers, other.Covers)
		}
	})
}
