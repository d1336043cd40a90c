package store

import (
	"context"
	"strings"
	"testing"
	"time"
)

// PretendNewer marks the schema as one of a later program.
func PretendNewer(ctx context.Context, url string) error {
	d, err := Open(ctx, Options{URL: url})
	if err != nil {
		return err
	}
	defer d.Close()
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`INSERT INTO schema_versions(version, name, applied_ms) VALUES ($1, $2, $3)`, 9999, "later", 0)
		return err
	})
}

// MakeOld makes a database as the program of an earlier schema left it, with a user, an
// alert and, from the second on, an entry of the audit log.
func MakeOld(ctx context.Context, url string, version int) error {
	d := &DB{now: time.Now}
	open := func() error { return d.openSQLite(ctx, Options{URL: url}) }
	if strings.HasPrefix(url, "postgres") {
		open = func() error { return d.openPostgres(Options{URL: url}) }
	}
	if err := open(); err != nil {
		return err
	}
	defer d.Close()
	all, err := loadMigrations()
	if err != nil {
		return err
	}
	return d.write(ctx, func(t tx) error {
		if _, err := t.exec(ledger); err != nil {
			return err
		}
		for _, m := range all[:version] {
			if _, err := t.exec(`INSERT INTO schema_versions(version, name, applied_ms) VALUES ($1, $2, $3)`, m.version, m.name, 0); err != nil {
				return err
			}
			for _, s := range m.statements {
				if _, err := t.exec(s); err != nil {
					return err
				}
			}
		}
		if _, err := t.exec(`INSERT INTO users(id, name, name_key, display, password_hash, admin, disabled, created_ms) VALUES ('u', 'old', 'old', 'Old', '', true, false, 1000)`); err != nil {
			return err
		}
		if _, err := t.exec(`INSERT INTO identities(issuer, subject, user_id) VALUES ('https://idp.example', '7', 'u')`); err != nil {
			return err
		}
		if _, err := t.exec(`INSERT INTO alerts(id, kind, at_ms, subject, text, do_text) VALUES ('a', 'k', 1000, 's', 'It happened.', 'Do this.')`); err != nil || version < 2 {
			return err
		}
		_, err := t.exec(`INSERT INTO journal(chain, seq, at_ms, prev, hash, body) VALUES ('gateway', 1, 1000, $1, $2, $3)`, []byte{1}, []byte{2}, `{"user":"u"}`)
		return err
	})
}

// SchemaVersions is how many schemas there have been.
func SchemaVersions() (int, error) {
	all, err := loadMigrations()
	return len(all), err
}

// SeenRows counts what finds words in the audit log.
func (d *DB) SeenRows(t *testing.T) (n int) {
	t.Helper()
	if err := d.read(t.Context(), `SELECT COUNT(*) FROM journal_seen`, func(r row) error { return r.Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}
