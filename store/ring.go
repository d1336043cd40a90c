package store

import "context"

// Ring implements vault.Shelf.
func (d *DB) Ring(ctx context.Context) (sealed []byte, err error) {
	err = d.read(ctx, `SELECT sealed FROM vault_ring`, func(r row) error { return r.Scan(&sealed) })
	return sealed, err
}

// SwapRing implements vault.Shelf.
func (d *DB) SwapRing(ctx context.Context, old, fresh []byte) (done bool, err error) {
	query, args := `UPDATE vault_ring SET sealed = $1 WHERE sealed = $2`, []any{fresh, old}
	if old == nil {
		query, args = `INSERT INTO vault_ring (slot, sealed) VALUES (1, $1) ON CONFLICT (slot) DO NOTHING`, []any{fresh}
	}
	err = d.write(ctx, func(x tx) error {
		n, err := x.exec(query, args...)
		done = n == 1
		return err
	})
	return done, err
}
