package store

import (
	"context"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
)

const clientColumns = `id, kind, metadata, fingerprint, secret_hash, review, created_ms, consented_ms, used_ms, expires_ms, fresh_ms`

func clientDest(c *authserver.Client) []any {
	return []any{&c.ID, &c.Kind, text(&c.Metadata), &c.Fingerprint, &c.SecretHash, &c.Review,
		at(&c.Created), at(&c.Consented), at(&c.LastUsed), at(&c.Expires), at(&c.FreshUntil)}
}

func scanClient(c *authserver.Client) func(row) error {
	return func(r row) error { return r.Scan(clientDest(c)...) }
}

func isNotFound(err error) bool { return kidoban.KindOf(err) == kidoban.KindNotFound }

// RegisterClient implements authserver.Clients.
func (d *DB) RegisterClient(ctx context.Context, c authserver.Client, token []byte, share bool, maxTokens int) (got authserver.Client, created, attached bool, err error) {
	err = d.write(ctx, func(t tx) error {
		got, created, attached = authserver.Client{}, false, false
		if share {
			// An expired one with the same fingerprint makes way: it was never used.
			if _, err := t.exec(`DELETE FROM clients WHERE fingerprint = $1 AND shared AND consented_ms IS NULL AND expires_ms > 0 AND expires_ms <= $2`,
				c.Fingerprint, ms(c.Created)); err != nil {
				return err
			}
		}
		err := t.query(`INSERT INTO clients(id, kind, metadata, fingerprint, secret_hash, shared, review, created_ms, used_ms, expires_ms, fresh_ms)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
			ON CONFLICT (fingerprint) WHERE shared AND consented_ms IS NULL DO UPDATE SET expires_ms = excluded.expires_ms
			RETURNING `+clientColumns, scanClient(&got),
			c.ID, c.Kind, string(c.Metadata), c.Fingerprint, c.SecretHash, share, c.Review, ms(c.Created), ms(c.LastUsed), ms(c.Expires), ms(c.FreshUntil))
		if err != nil {
			return err
		}
		created = got.ID == c.ID
		n := 0
		if err := t.query(`SELECT COUNT(*) FROM client_tokens WHERE client_id = $1`, func(r row) error { return r.Scan(&n) }, got.ID); err != nil {
			return err
		}
		// One more than there may be is kept for all who get none: it is told to nobody,
		// so that the others cannot delete the client together.
		if attached = n < maxTokens; n > maxTokens {
			return nil
		}
		_, err = t.exec(`INSERT INTO client_tokens(hash, client_id) VALUES ($1, $2)`, token, got.ID)
		return err
	})
	return got, created, attached, err
}

// PutClient implements authserver.Clients.
func (d *DB) PutClient(ctx context.Context, c authserver.Client) (got authserver.Client, err error) {
	err = d.write(ctx, func(t tx) error {
		got = authserver.Client{}
		before := ""
		if err := t.query(`SELECT fingerprint FROM clients WHERE id = $1`, func(r row) error { return r.Scan(&before) }, c.ID); err != nil {
			return err
		}
		err := t.query(`INSERT INTO clients(id, kind, metadata, fingerprint, secret_hash, shared, review, created_ms, used_ms, expires_ms, fresh_ms)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
			ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, metadata = excluded.metadata, fingerprint = excluded.fingerprint,
				secret_hash = excluded.secret_hash, fresh_ms = excluded.fresh_ms, expires_ms = CASE
					WHEN clients.consented_ms IS NULL AND clients.kind = 'cimd' THEN excluded.expires_ms
					WHEN excluded.kind = 'pre' THEN 0 ELSE clients.expires_ms END
			RETURNING `+clientColumns, scanClient(&got),
			c.ID, c.Kind, string(c.Metadata), c.Fingerprint, c.SecretHash, false, c.Review, ms(c.Created), ms(c.LastUsed), ms(c.Expires), ms(c.FreshUntil))
		if err != nil || before == "" || before == c.Fingerprint {
			return err
		}
		_, err = t.exec(`DELETE FROM consents WHERE client_id = $1`, c.ID)
		return err
	})
	return got, err
}

// Client implements authserver.Clients.
func (d *DB) Client(ctx context.Context, id string) (c authserver.Client, err error) {
	err = d.readOne(ctx, "client", `SELECT `+clientColumns+` FROM clients WHERE id = $1`, scanClient(&c), id)
	return c, err
}

// ClientByToken implements authserver.Clients.
func (d *DB) ClientByToken(ctx context.Context, id string, token []byte) (c authserver.Client, err error) {
	err = d.readOne(ctx, "registration", `SELECT `+clientColumns+` FROM clients WHERE id = $1
		AND EXISTS (SELECT 1 FROM client_tokens WHERE hash = $2 AND client_id = clients.id)`, scanClient(&c), id, token)
	return c, err
}

// DropToken implements authserver.Clients.
func (d *DB) DropToken(ctx context.Context, id string, token []byte, now time.Time) (gone bool, err error) {
	err = d.write(ctx, func(t tx) error {
		gone = false
		n, err := t.exec(`DELETE FROM client_tokens WHERE hash = $1 AND client_id = $2`, token, id)
		if err != nil {
			return err
		}
		if n == 0 {
			return notFound("registration")
		}
		left := 0
		if err := t.query(`SELECT COUNT(*) FROM client_tokens WHERE client_id = $1`, func(r row) error { return r.Scan(&left) }, id); err != nil || left > 0 {
			return err
		}
		gone = true
		return deleteClient(t, id, now)
	})
	return gone, err
}

func deleteClient(t tx, id string, now time.Time) error {
	if _, err := revokeAll(t, "client_id", id, "client deleted", now); err != nil {
		return err
	}
	for _, q := range []string{
		`DELETE FROM consents WHERE client_id = $1`,
		`DELETE FROM client_hosts WHERE client_id = $1`,
		`DELETE FROM codes WHERE client_id = $1`,
		`DELETE FROM clients WHERE id = $1`,
	} {
		if _, err := t.exec(q, id); err != nil {
			return err
		}
	}
	return nil
}

// DeleteClient implements authserver.Clients.
func (d *DB) DeleteClient(ctx context.Context, id string, now time.Time) error {
	return d.write(ctx, func(t tx) error { return deleteClient(t, id, now) })
}

// MarkConsented implements authserver.Clients.
func (d *DB) MarkConsented(ctx context.Context, id string, now, expires time.Time) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`UPDATE clients SET consented_ms = COALESCE(consented_ms, $1), used_ms = $2, expires_ms = $3 WHERE id = $4`,
			ms(now), ms(now), ms(expires), id)
		return err
	})
}

// TouchClient implements authserver.Clients.
func (d *DB) TouchClient(ctx context.Context, id string, now, expires time.Time) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`UPDATE clients SET used_ms = $1, expires_ms = $2 WHERE id = $3`, ms(now), ms(expires), id)
		return err
	})
}

// SetReview implements authserver.Clients.
func (d *DB) SetReview(ctx context.Context, id string, review bool) error {
	return d.change(ctx, "client", `UPDATE clients SET review = $1 WHERE id = $2`, review, id)
}

// ReviewQueue implements authserver.Clients.
func (d *DB) ReviewQueue(ctx context.Context, after string, limit int) (out []authserver.Client, err error) {
	err = d.read(ctx, `SELECT `+clientColumns+` FROM clients WHERE review AND id > $1 ORDER BY id LIMIT $2`, func(r row) error {
		var c authserver.Client
		err := scanClient(&c)(r)
		out = append(out, c)
		return err
	}, after, limit)
	return out, err
}

// AdmitDomain implements authserver.Clients.
func (d *DB) AdmitDomain(ctx context.Context, a authserver.Admission) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`INSERT INTO admitted(domain, by_whom, created_ms) VALUES ($1, $2, $3) ON CONFLICT (domain) DO NOTHING`, a.Domain, a.By, ms(a.Created))
		return err
	})
}

// DismissDomain implements authserver.Clients.
func (d *DB) DismissDomain(ctx context.Context, domain string) error {
	return d.change(ctx, "admitted domain", `DELETE FROM admitted WHERE domain = $1`, domain)
}

// Admitted implements authserver.Clients.
func (d *DB) Admitted(ctx context.Context) (out []authserver.Admission, err error) {
	err = d.read(ctx, `SELECT domain, by_whom, created_ms FROM admitted ORDER BY created_ms, domain`, func(r row) error {
		var a authserver.Admission
		err := r.Scan(&a.Domain, &a.By, at(&a.Created))
		out = append(out, a)
		return err
	})
	return out, err
}

// CountPending implements authserver.Clients.
func (d *DB) CountPending(ctx context.Context, now time.Time) (n int, err error) {
	err = d.read(ctx, `SELECT COUNT(*) FROM clients WHERE consented_ms IS NULL AND kind IN ('dcr', 'cimd') AND expires_ms > $1`,
		func(r row) error { return r.Scan(&n) }, ms(now))
	return n, err
}

// ListClients implements authserver.Clients.
func (d *DB) ListClients(ctx context.Context, after string, limit int) (out []authserver.Client, err error) {
	err = d.read(ctx, `SELECT `+clientColumns+` FROM clients WHERE id > $1 ORDER BY id LIMIT $2`, func(r row) error {
		var c authserver.Client
		err := scanClient(&c)(r)
		out = append(out, c)
		return err
	}, after, limit)
	return out, err
}

// SeeHosts implements authserver.Clients.
func (d *DB) SeeHosts(ctx context.Context, clientID string, hosts []authserver.Host, now time.Time) (fresh []string, err error) {
	err = d.write(ctx, func(t tx) error {
		fresh = nil
		for _, h := range hosts {
			n, err := t.exec(`INSERT INTO hosts(host, loopback, first_ms, last_ms) VALUES ($1, $2, $3, $4) ON CONFLICT (host) DO NOTHING`,
				h.Host, h.Loopback, ms(now), ms(now))
			if err != nil {
				return err
			}
			if n == 1 {
				fresh = append(fresh, h.Host)
			} else if _, err := t.exec(`UPDATE hosts SET last_ms = $1 WHERE host = $2 AND last_ms < $3`, ms(now), h.Host, ms(now.Add(-time.Minute))); err != nil {
				return err
			}
			if _, err := t.exec(`INSERT INTO client_hosts(client_id, host) VALUES ($1, $2) ON CONFLICT (client_id, host) DO NOTHING`, clientID, h.Host); err != nil {
				return err
			}
		}
		return nil
	})
	return fresh, err
}

// Hosts implements authserver.Clients.
func (d *DB) Hosts(ctx context.Context, limit int) (out []authserver.Host, err error) {
	err = d.read(ctx, `SELECT h.host, h.loopback, h.first_ms, h.last_ms,
			(SELECT COUNT(*) FROM client_hosts c WHERE c.host = h.host),
			(SELECT COUNT(DISTINCT g.user_id) FROM grants g WHERE g.redirect_host = h.host),
			(SELECT COUNT(*) FROM grants g WHERE g.redirect_host = h.host)
		FROM hosts h ORDER BY h.first_ms DESC, h.host LIMIT $1`, func(r row) error {
		var h authserver.Host
		err := r.Scan(&h.Host, &h.Loopback, at(&h.FirstSeen), at(&h.LastSeen), &h.Clients, &h.Users, &h.Grants)
		out = append(out, h)
		return err
	}, limit)
	return out, err
}

// AddDeny implements authserver.Clients.
func (d *DB) AddDeny(ctx context.Context, e authserver.Deny) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`INSERT INTO denies(id, kind, pattern, reason, by_whom, created_ms) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (kind, pattern) DO NOTHING`,
			e.ID, e.Kind, e.Pattern, e.Reason, e.By, ms(e.Created))
		return err
	})
}

// RemoveDeny implements authserver.Clients.
func (d *DB) RemoveDeny(ctx context.Context, id string) error {
	return d.change(ctx, "deny-list entry", `DELETE FROM denies WHERE id = $1`, id)
}

// DenyList implements authserver.Clients.
func (d *DB) DenyList(ctx context.Context) (out []authserver.Deny, err error) {
	err = d.read(ctx, `SELECT id, kind, pattern, reason, by_whom, created_ms FROM denies ORDER BY created_ms, id`, func(r row) error {
		var e authserver.Deny
		err := r.Scan(&e.ID, &e.Kind, &e.Pattern, &e.Reason, &e.By, at(&e.Created))
		out = append(out, e)
		return err
	})
	return out, err
}
