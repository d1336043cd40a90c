package store

import (
	"context"
	"strings"
	"time"

	"github.com/kidoban/kidoban/authserver"
)

const grantColumns = `g.id, g.user_id, g.client_id, g.redirect_uri, g.redirect_host, g.resource, g.scopes, g.dpop_key, g.created_ms, g.used_ms, g.expires_ms, g.revoked_ms, g.reason, g.covers`

func grantDest(g *authserver.Grant) []any {
	return []any{&g.ID, &g.UserID, &g.ClientID, &g.RedirectURI, &g.RedirectHost, &g.Resource, words(&g.Scopes), &g.DPoPKey,
		at(&g.Created), at(&g.LastUsed), at(&g.Expires), at(&g.Revoked), &g.Reason, &g.Covers}
}

func insertGrant(t tx, g authserver.Grant) error {
	_, err := t.exec(`INSERT INTO grants(id, user_id, client_id, redirect_uri, redirect_host, resource, scopes, dpop_key, created_ms, used_ms, expires_ms, reason, covers)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '', $12)`,
		g.ID, g.UserID, g.ClientID, g.RedirectURI, g.RedirectHost, g.Resource, strings.Join(g.Scopes, " "), g.DPoPKey,
		ms(g.Created), ms(g.Created), ms(g.Expires), g.Covers)
	return err
}

func insertRefresh(t tx, r authserver.Refresh) error {
	_, err := t.exec(`INSERT INTO refreshes(hash, grant_id, created_ms, expires_ms) VALUES ($1, $2, $3, $4)`, r.Hash, r.GrantID, ms(r.Created), ms(r.Expires))
	return err
}

// revokeWhere revokes the live grants that match, writes the log that replicas
// follow, and drops the consents remembered with them. The condition uses $3.
func revokeWhere(t tx, condition string, value any, reason string, now time.Time) (int, error) {
	var ended []authserver.Grant
	err := t.query(`UPDATE grants SET revoked_ms = $1, reason = $2 WHERE `+condition+` AND revoked_ms IS NULL RETURNING id, user_id, client_id, redirect_uri, resource`,
		func(r row) error {
			var g authserver.Grant
			err := r.Scan(&g.ID, &g.UserID, &g.ClientID, &g.RedirectURI, &g.Resource)
			ended = append(ended, g)
			return err
		}, ms(now), reason, value)
	if err != nil {
		return 0, err
	}
	for _, g := range ended {
		if err := logRevocation(t, "g:"+g.ID, now); err != nil {
			return 0, err
		}
		if g.UserID == "" {
			continue
		}
		if _, err := t.exec(`DELETE FROM consents WHERE user_id = $1 AND client_id = $2 AND redirect_uri = $3 AND resource = $4`,
			g.UserID, g.ClientID, g.RedirectURI, g.Resource); err != nil {
			return 0, err
		}
	}
	return len(ended), nil
}

func logRevocation(t tx, id string, now time.Time) error {
	_, err := t.exec(`INSERT INTO revocations(id, at_ms) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`, id, ms(now))
	return err
}

// revokeAll revokes the live grants whose column has the value, and deletes the codes
// that would bring one to life. The codes go first: a redemption under way is waited
// for, so that its grant is seen and ends with the others.
func revokeAll(t tx, column, value, reason string, now time.Time) (int, error) {
	if _, err := t.exec(`DELETE FROM codes WHERE `+column+` = $1 AND used_ms IS NULL`, value); err != nil {
		return 0, err
	}
	return revokeWhere(t, column+` = $3`, value, reason, now)
}

// CreateCode implements authserver.Grants.
func (d *DB) CreateCode(ctx context.Context, c authserver.Code) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`INSERT INTO codes(hash, grant_id, user_id, client_id, redirect_uri, resource, scopes, challenge, dpop_key, remember, auth_ms, created_ms, expires_ms, ends_ms, covers)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
			c.Hash, c.GrantID, c.UserID, c.ClientID, c.RedirectURI, c.Resource, strings.Join(c.Scopes, " "), c.Challenge, c.DPoPKey,
			c.Remember, ms(c.AuthTime), ms(c.Created), ms(c.Expires), ms(c.GrantEnds), c.Covers)
		return err
	})
}

// Code implements authserver.Grants.
func (d *DB) Code(ctx context.Context, hash []byte) (c authserver.Code, err error) {
	err = d.readOne(ctx, "code", `SELECT hash, grant_id, user_id, client_id, redirect_uri, resource, scopes, challenge, dpop_key, remember, auth_ms, created_ms, expires_ms, ends_ms, covers FROM codes WHERE hash = $1`,
		func(r row) error {
			return r.Scan(&c.Hash, &c.GrantID, &c.UserID, &c.ClientID, &c.RedirectURI, &c.Resource, words(&c.Scopes), &c.Challenge, &c.DPoPKey,
				&c.Remember, at(&c.AuthTime), at(&c.Created), at(&c.Expires), at(&c.GrantEnds), &c.Covers)
		}, hash)
	return c, err
}

// RedeemCode implements authserver.Grants.
func (d *DB) RedeemCode(ctx context.Context, r authserver.Redemption) (s authserver.Spend, err error) {
	err = d.write(ctx, func(t tx) error {
		s = authserver.SpendUnknown
		n, err := t.exec(`UPDATE codes SET used_ms = $1 WHERE hash = $2 AND used_ms IS NULL AND expires_ms > $3`, ms(r.Now), r.Hash, ms(r.Now))
		if err != nil {
			return err
		}
		if n == 1 {
			s = authserver.SpendDone
			if r.Burn {
				return nil
			}
			if err := insertGrant(t, r.Grant); err != nil || r.Refresh.Hash == nil {
				return err
			}
			return insertRefresh(t, r.Refresh)
		}
		grant := ""
		err = t.query(`SELECT grant_id FROM codes WHERE hash = $1 AND used_ms IS NOT NULL`, func(r row) error { return r.Scan(&grant) }, r.Hash)
		if err != nil || grant == "" {
			return err
		}
		s = authserver.SpendAgain
		if r.Burn {
			return nil
		}
		_, err = revokeWhere(t, `id = $3`, grant, "authorization code used twice", r.Now)
		return err
	})
	return s, err
}

// Refresh implements authserver.Grants.
func (d *DB) Refresh(ctx context.Context, hash []byte) (f authserver.Refresh, g authserver.Grant, err error) {
	err = d.readOne(ctx, "refresh token", `SELECT f.hash, f.grant_id, f.created_ms, f.expires_ms, f.used_ms, f.successor, `+grantColumns+`
		FROM refreshes f JOIN grants g ON g.id = f.grant_id WHERE f.hash = $1`, func(r row) error {
		return r.Scan(append([]any{&f.Hash, &f.GrantID, at(&f.Created), at(&f.Expires), at(&f.Used), &f.Successor}, grantDest(&g)...)...)
	}, hash)
	return f, g, err
}

// RotateRefresh implements authserver.Grants.
func (d *DB) RotateRefresh(ctx context.Context, r authserver.Rotation) (s authserver.Spend, sealed []byte, err error) {
	err = d.write(ctx, func(t tx) error {
		s, sealed = authserver.SpendUnknown, nil
		n, err := t.exec(`UPDATE refreshes SET used_ms = $1, successor = $2 WHERE hash = $3 AND used_ms IS NULL AND expires_ms > $4
			AND EXISTS (SELECT 1 FROM grants g WHERE g.id = refreshes.grant_id AND g.revoked_ms IS NULL AND g.expires_ms > $5)`,
			ms(r.Now), r.Sealed, r.Hash, ms(r.Now), ms(r.Now))
		if err != nil {
			return err
		}
		if n == 1 {
			s = authserver.SpendDone
			return insertRefresh(t, r.Successor)
		}
		var used, expires, revoked, ends time.Time
		grant := ""
		err = t.query(`SELECT f.grant_id, f.used_ms, f.expires_ms, f.successor, g.revoked_ms, g.expires_ms FROM refreshes f JOIN grants g ON g.id = f.grant_id WHERE f.hash = $1`,
			func(r row) error {
				return r.Scan(&grant, at(&used), at(&expires), &sealed, at(&revoked), at(&ends))
			}, r.Hash)
		switch {
		case err != nil || grant == "":
		case !revoked.IsZero() || !ends.After(r.Now):
			s, sealed = authserver.SpendDead, nil
		case used.IsZero() || sealed == nil:
			sealed = nil // it has expired unspent
		case r.Now.Before(used.Add(r.Grace)):
			s = authserver.SpendGrace
		default:
			s, sealed = authserver.SpendAgain, nil
			_, err = revokeWhere(t, `id = $3`, grant, "refresh token used again", r.Now)
		}
		return err
	})
	return s, sealed, err
}

// CreateGrant implements authserver.Grants.
func (d *DB) CreateGrant(ctx context.Context, g authserver.Grant) error {
	return d.write(ctx, func(t tx) error { return insertGrant(t, g) })
}

// Grant implements authserver.Grants.
func (d *DB) Grant(ctx context.Context, id string) (g authserver.Grant, err error) {
	err = d.readOne(ctx, "grant", `SELECT `+grantColumns+` FROM grants g WHERE g.id = $1`, func(r row) error { return r.Scan(grantDest(&g)...) }, id)
	return g, err
}

func (d *DB) grants(ctx context.Context, q string, args ...any) (out []authserver.Grant, err error) {
	err = d.read(ctx, q, func(r row) error {
		var g authserver.Grant
		err := r.Scan(grantDest(&g)...)
		out = append(out, g)
		return err
	}, args...)
	return out, err
}

// UserGrants implements authserver.Grants.
func (d *DB) UserGrants(ctx context.Context, userID string, now time.Time) ([]authserver.Grant, error) {
	return d.grants(ctx, `SELECT `+grantColumns+` FROM grants g WHERE g.user_id = $1 AND g.revoked_ms IS NULL AND g.expires_ms > $2 ORDER BY g.created_ms DESC, g.id LIMIT 1000`, userID, ms(now))
}

// AllGrants implements authserver.Grants.
func (d *DB) AllGrants(ctx context.Context, now time.Time, after string, limit int) ([]authserver.Grant, error) {
	return d.grants(ctx, `SELECT `+grantColumns+` FROM grants g WHERE g.id > $1 AND g.revoked_ms IS NULL AND g.expires_ms > $2 ORDER BY g.id LIMIT $3`, after, ms(now), limit)
}

// RevokeGrant implements authserver.Grants.
func (d *DB) RevokeGrant(ctx context.Context, id, reason string, now time.Time) error {
	return d.write(ctx, func(t tx) error {
		n, err := revokeWhere(t, `id = $3`, id, reason, now)
		if err != nil || n > 0 {
			return err
		}
		found := false
		err = t.query(`SELECT id FROM grants WHERE id = $1`, func(r row) error { found = true; return r.Scan(&id) }, id)
		if err == nil && !found {
			return notFound("grant")
		}
		return err
	})
}

// RevokeClientGrants implements authserver.Grants.
func (d *DB) RevokeClientGrants(ctx context.Context, clientID, reason string, now time.Time) (n int, err error) {
	err = d.write(ctx, func(t tx) (err error) {
		n, err = revokeAll(t, "client_id", clientID, reason, now)
		return err
	})
	return n, err
}

// RevokeUserGrants implements authserver.Grants.
func (d *DB) RevokeUserGrants(ctx context.Context, userID, reason string, now time.Time) (n int, err error) {
	err = d.write(ctx, func(t tx) (err error) {
		n, err = revokeAll(t, "user_id", userID, reason, now)
		return err
	})
	return n, err
}

// RevokeToken implements authserver.Grants.
func (d *DB) RevokeToken(ctx context.Context, jti string, now time.Time) error {
	return d.write(ctx, func(t tx) error { return logRevocation(t, "t:"+jti, now) })
}

// Revocations implements authserver.Grants.
func (d *DB) Revocations(ctx context.Context, since time.Time) (out []authserver.Revocation, err error) {
	err = d.read(ctx, `SELECT id, at_ms FROM revocations WHERE at_ms >= $1 ORDER BY at_ms`, func(r row) error {
		var v authserver.Revocation
		err := r.Scan(&v.ID, at(&v.At))
		out = append(out, v)
		return err
	}, ms(since))
	return out, err
}

// PutConsent implements authserver.Grants.
func (d *DB) PutConsent(ctx context.Context, c authserver.Consent) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`INSERT INTO consents(user_id, client_id, redirect_uri, resource, scopes, fingerprint, created_ms, expires_ms, covers)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			ON CONFLICT (user_id, client_id, redirect_uri, resource) DO UPDATE SET scopes = excluded.scopes,
				fingerprint = excluded.fingerprint, created_ms = excluded.created_ms, expires_ms = excluded.expires_ms, covers = excluded.covers`,
			c.UserID, c.ClientID, c.RedirectURI, c.Resource, strings.Join(c.Scopes, " "), c.Fingerprint, ms(c.Created), ms(c.Expires), c.Covers)
		return err
	})
}

// Consent implements authserver.Grants.
func (d *DB) Consent(ctx context.Context, userID, clientID, redirectURI, resource string) (c authserver.Consent, err error) {
	err = d.readOne(ctx, "consent", `SELECT user_id, client_id, redirect_uri, resource, scopes, fingerprint, created_ms, expires_ms, covers FROM consents
		WHERE user_id = $1 AND client_id = $2 AND redirect_uri = $3 AND resource = $4`, func(r row) error {
		return r.Scan(&c.UserID, &c.ClientID, &c.RedirectURI, &c.Resource, words(&c.Scopes), &c.Fingerprint, at(&c.Created), at(&c.Expires), &c.Covers)
	}, userID, clientID, redirectURI, resource)
	return c, err
}

// RecentGrants implements authserver.Grants.
func (d *DB) RecentGrants(ctx context.Context, clientID string, since time.Time) (n int, err error) {
	err = d.read(ctx, `SELECT COUNT(DISTINCT user_id) FROM codes WHERE client_id = $1 AND created_ms >= $2`,
		func(r row) error { return r.Scan(&n) }, clientID, ms(since))
	return n, err
}

// ClientGrants implements authserver.Grants.
func (d *DB) ClientGrants(ctx context.Context, now time.Time) (out []string, err error) {
	err = d.read(ctx, `SELECT DISTINCT client_id FROM grants WHERE revoked_ms IS NULL AND expires_ms > $1
		UNION SELECT client_id FROM codes WHERE used_ms IS NULL AND expires_ms > $2`, func(r row) error {
		var id string
		err := r.Scan(&id)
		out = append(out, id)
		return err
	}, ms(now), ms(now))
	return out, err
}

// FixCoverage gives the codes, grants and remembered answers for a resource that are
// older than their coverage the one given, in one transaction. It returns how many
// grants that were.
func (d *DB) FixCoverage(ctx context.Context, resource, covers string) (n int64, err error) {
	err = d.write(ctx, func(t tx) error {
		for _, table := range []string{"codes", "consents", "grants"} {
			if n, err = t.exec(`UPDATE `+table+` SET covers = $1 WHERE resource = $2 AND covers = ''`, covers, resource); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}
