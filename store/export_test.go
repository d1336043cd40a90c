package store

import (
	"context"
	"testing"
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

// SeenRows counts what finds words in the audit log.
func (d *DB) SeenRows(t *testing.T) (n int) {
	t.Helper()
	if err := d.read(t.Context(), `SELECT COUNT(*) FROM journal_seen`, func(r row) error { return r.Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}
