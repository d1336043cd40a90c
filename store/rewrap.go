package store

import (
	"context"
)

// RewrapSecrets gives every secret that is neither an account's nor short-lived
// (the servers' own keys, the signing keys) to rewrap, and stores what comes
// back in place of exactly what was read. It returns how many rows changed. Rows
// that others write meanwhile are left to them. Safe to run again.
func (d *DB) RewrapSecrets(ctx context.Context, rewrap func(ctx context.Context, sealed []byte) (out []byte, changed bool, err error)) (n int, err error) {
	for _, t := range []struct{ list, swap string }{
		{`SELECT name, sealed FROM secrets ORDER BY name`, `UPDATE secrets SET sealed = $1 WHERE name = $2 AND sealed = $3`},
		{`SELECT kid, sealed FROM signing_keys ORDER BY kid`, `UPDATE signing_keys SET sealed = $1 WHERE kid = $2 AND sealed = $3`},
	} {
		type entry struct {
			id     string
			sealed []byte
		}
		var all []entry
		err := d.read(ctx, t.list, func(r row) error {
			var e entry
			err := r.Scan(&e.id, &e.sealed)
			all = append(all, e)
			return err
		})
		if err != nil {
			return n, err
		}
		for _, e := range all {
			out, changed, err := rewrap(ctx, e.sealed)
			if err != nil {
				return n, err
			}
			if !changed {
				continue
			}
			err = d.write(ctx, func(x tx) error {
				_, err := x.exec(t.swap, out, e.id, e.sealed)
				return err
			})
			if err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}
