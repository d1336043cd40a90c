package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/store/storetest"
)

func TestMigrationsRunOnceAndForwardOnly(t *testing.T) {
	for name, url := range map[string]string{"sqlite": storetest.SQLite(t), "postgres": cluster.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			parallel(t, 4, func(int) (bool, error) {
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
				if version < 12 {
					h, err := s.Heard(t.Context(), "u")
					must(t, err)
					if h.Issuer != "https://idp.example" || !h.At.IsZero() || len(h.Groups) > 0 {
						t.Errorf("%+v", h)
					}
				}
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
