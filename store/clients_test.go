package store_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/store"
)

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
