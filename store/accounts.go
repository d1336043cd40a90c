package store

import (
	"context"
	"strings"
	"time"

	"github.com/kidoban/kidoban/authserver"
)

var _ authserver.Store = (*DB)(nil)

const userColumns = `id, name, display, password_hash, admin, disabled, created_ms`

func scanUser(u *authserver.User) func(row) error {
	return func(r row) error {
		return r.Scan(&u.ID, &u.Name, &u.Display, &u.PasswordHash, &u.Admin, &u.Disabled, at(&u.Created))
	}
}

// nameKey is the form in which login names are unique. The authorization server
// has already mapped the name to one Unicode form.
func nameKey(name string) string { return strings.ToLower(name) }

func insertUser(t tx, u authserver.User) error {
	_, err := t.exec(`INSERT INTO users(id, name, name_key, display, password_hash, admin, disabled, created_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		u.ID, u.Name, nameKey(u.Name), u.Display, u.PasswordHash, u.Admin, u.Disabled, ms(u.Created))
	return err
}

// CreateUser implements authserver.Accounts.
func (d *DB) CreateUser(ctx context.Context, u authserver.User) error {
	return d.write(ctx, func(t tx) error { return insertUser(t, u) })
}

// User implements authserver.Accounts.
func (d *DB) User(ctx context.Context, id string) (u authserver.User, err error) {
	err = d.readOne(ctx, "user", `SELECT `+userColumns+` FROM users WHERE id = $1`, scanUser(&u), id)
	return u, err
}

// UserByName implements authserver.Accounts.
func (d *DB) UserByName(ctx context.Context, name string) (u authserver.User, err error) {
	err = d.readOne(ctx, "user", `SELECT `+userColumns+` FROM users WHERE name_key = $1`, scanUser(&u), nameKey(name))
	return u, err
}

// UserForIdentity implements authserver.Accounts.
func (d *DB) UserForIdentity(ctx context.Context, issuer, subject string, fresh authserver.User) (u authserver.User, err error) {
	const find = `SELECT u.id, u.name, u.display, u.password_hash, u.admin, u.disabled, u.created_ms
		FROM identities i JOIN users u ON u.id = i.user_id WHERE i.issuer = $1 AND i.subject = $2`
	err = d.readOne(ctx, "user", find, scanUser(&u), issuer, subject)
	if err == nil || !isNotFound(err) {
		return u, err
	}
	err = d.write(ctx, func(t tx) error {
		u = authserver.User{}
		if err := t.query(find, scanUser(&u), issuer, subject); err != nil || u.ID != "" {
			return err
		}
		if err := insertUser(t, fresh); err != nil {
			return err
		}
		_, err := t.exec(`INSERT INTO identities(issuer, subject, user_id) VALUES ($1, $2, $3)`, issuer, subject, fresh.ID)
		u = fresh
		return err
	})
	if err != nil {
		// A concurrent first login won: the identity exists now.
		var other authserver.User
		if again := d.readOne(ctx, "user", find, scanUser(&other), issuer, subject); again == nil {
			return other, nil
		}
		return authserver.User{}, err
	}
	return u, nil
}

// Users implements authserver.Accounts.
func (d *DB) Users(ctx context.Context, after string, limit int) (out []authserver.User, err error) {
	err = d.read(ctx, `SELECT `+userColumns+` FROM users WHERE name_key > $1 ORDER BY name_key LIMIT $2`, func(r row) error {
		var u authserver.User
		err := scanUser(&u)(r)
		out = append(out, u)
		return err
	}, nameKey(after), limit)
	return out, err
}

// SetPassword implements authserver.Accounts.
func (d *DB) SetPassword(ctx context.Context, userID, hash string, keep []byte) error {
	if keep == nil {
		keep = []byte{}
	}
	return d.write(ctx, func(t tx) error {
		n, err := t.exec(`UPDATE users SET password_hash = $1 WHERE id = $2`, hash, userID)
		if err != nil {
			return err
		}
		if n == 0 {
			return notFound("user")
		}
		_, err = t.exec(`DELETE FROM sessions WHERE user_id = $1 AND hash <> $2`, userID, keep)
		return err
	})
}

// SetAdmin implements authserver.Accounts.
func (d *DB) SetAdmin(ctx context.Context, userID string, admin bool) error {
	return d.change(ctx, "user", `UPDATE users SET admin = $1 WHERE id = $2`, admin, userID)
}

// SetUserDisabled implements authserver.Accounts.
func (d *DB) SetUserDisabled(ctx context.Context, userID string, disabled bool, now time.Time) error {
	return d.write(ctx, func(t tx) error {
		n, err := t.exec(`UPDATE users SET disabled = $1 WHERE id = $2`, disabled, userID)
		if err != nil {
			return err
		}
		if n == 0 {
			return notFound("user")
		}
		if !disabled {
			return nil
		}
		if _, err := t.exec(`DELETE FROM sessions WHERE user_id = $1`, userID); err != nil {
			return err
		}
		_, err = revokeAll(t, "user_id", userID, "user disabled", now)
		return err
	})
}

// AddPasskey implements authserver.Accounts.
func (d *DB) AddPasskey(ctx context.Context, p authserver.Passkey) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`INSERT INTO passkeys(id, user_id, label, data, created_ms, used_ms) VALUES ($1, $2, $3, $4, $5, $6)`,
			p.ID, p.UserID, p.Label, string(p.Data), ms(p.Created), ms(p.LastUsed))
		return err
	})
}

// Passkeys implements authserver.Accounts.
func (d *DB) Passkeys(ctx context.Context, userID string) (out []authserver.Passkey, err error) {
	err = d.read(ctx, `SELECT id, user_id, label, data, created_ms, used_ms FROM passkeys WHERE user_id = $1 ORDER BY created_ms`, func(r row) error {
		var p authserver.Passkey
		err := r.Scan(&p.ID, &p.UserID, &p.Label, text(&p.Data), at(&p.Created), at(&p.LastUsed))
		out = append(out, p)
		return err
	}, userID)
	return out, err
}

// UpdatePasskey implements authserver.Accounts.
func (d *DB) UpdatePasskey(ctx context.Context, p authserver.Passkey) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`UPDATE passkeys SET data = $1, used_ms = $2 WHERE id = $3 AND user_id = $4`, string(p.Data), ms(p.LastUsed), p.ID, p.UserID)
		return err
	})
}

// DeletePasskey implements authserver.Accounts.
func (d *DB) DeletePasskey(ctx context.Context, userID string, id []byte) error {
	return d.change(ctx, "passkey", `DELETE FROM passkeys WHERE id = $1 AND user_id = $2`, id, userID)
}

// CreateSetup implements authserver.Accounts.
func (d *DB) CreateSetup(ctx context.Context, s authserver.Setup) error {
	return d.write(ctx, func(t tx) error {
		if err := d.aloneInSetups(t); err != nil {
			return err
		}
		if _, err := t.exec(`DELETE FROM setups WHERE user_id = $1`, s.UserID); err != nil {
			return err
		}
		_, err := t.exec(`INSERT INTO setups(hash, user_id, expires_ms) VALUES ($1, $2, $3)`, s.Hash, s.UserID, ms(s.Expires))
		return err
	})
}

// aloneInSetups keeps other replicas out of the set-up links until the
// transaction ends: two that start at the same moment do not see each other's
// link, and would leave two that make an administrator. SQLite has one writer.
func (d *DB) aloneInSetups(t tx) error {
	if !d.Postgres() {
		return nil
	}
	_, err := t.exec(`LOCK TABLE setups IN SHARE ROW EXCLUSIVE MODE`)
	return err
}

// openSetup is what must be true of a link besides its time: the one that makes
// the first administrator ends when there is one, however that one came.
const openSetup = `used_ms IS NULL AND (user_id <> '' OR NOT EXISTS (SELECT 1 FROM users WHERE admin))`

// Setup implements authserver.Accounts.
func (d *DB) Setup(ctx context.Context, hash []byte, now time.Time) (s authserver.Setup, err error) {
	err = d.readOne(ctx, "set-up link", `SELECT hash, user_id, expires_ms FROM setups WHERE hash = $1 AND expires_ms > $2 AND `+openSetup,
		func(r row) error { return r.Scan(&s.Hash, &s.UserID, at(&s.Expires)) }, hash, ms(now))
	return s, err
}

// RedeemSetup implements authserver.Accounts.
func (d *DB) RedeemSetup(ctx context.Context, hash []byte, now time.Time, fresh authserver.User) (u authserver.User, err error) {
	err = d.write(ctx, func(t tx) error {
		u = authserver.User{}
		if err := d.aloneInSetups(t); err != nil {
			return err
		}
		userID, found := "", false
		err := t.query(`UPDATE setups SET used_ms = $1 WHERE hash = $2 AND expires_ms > $3 AND `+openSetup+` RETURNING user_id`,
			func(r row) error { found = true; return r.Scan(&userID) }, ms(now), hash, ms(now))
		if err != nil {
			return err
		}
		if !found {
			return notFound("set-up link")
		}
		if userID == "" {
			u = fresh
			return insertUser(t, fresh)
		}
		if _, err := t.exec(`UPDATE users SET password_hash = $1 WHERE id = $2`, fresh.PasswordHash, userID); err != nil {
			return err
		}
		if _, err := t.exec(`DELETE FROM sessions WHERE user_id = $1`, userID); err != nil {
			return err
		}
		err = t.query(`SELECT `+userColumns+` FROM users WHERE id = $1`, scanUser(&u), userID)
		if err == nil && u.ID == "" {
			return notFound("user")
		}
		return err
	})
	return u, err
}

// CreateSession implements authserver.Accounts.
func (d *DB) CreateSession(ctx context.Context, s authserver.Session) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`INSERT INTO sessions(hash, user_id, method, created_ms, seen_ms, expires_ms) VALUES ($1, $2, $3, $4, $5, $6)`,
			s.Hash, s.UserID, s.Method, ms(s.Created), ms(s.LastSeen), ms(s.Expires))
		return err
	})
}

// Session implements authserver.Accounts.
func (d *DB) Session(ctx context.Context, hash []byte) (s authserver.Session, u authserver.User, err error) {
	err = d.readOne(ctx, "session", `SELECT s.hash, s.user_id, s.method, s.created_ms, s.seen_ms, s.expires_ms,
		u.id, u.name, u.display, u.password_hash, u.admin, u.disabled, u.created_ms
		FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.hash = $1 AND NOT u.disabled`, func(r row) error {
		return r.Scan(&s.Hash, &s.UserID, &s.Method, at(&s.Created), at(&s.LastSeen), at(&s.Expires),
			&u.ID, &u.Name, &u.Display, &u.PasswordHash, &u.Admin, &u.Disabled, at(&u.Created))
	}, hash)
	return s, u, err
}

// TouchSession implements authserver.Accounts.
func (d *DB) TouchSession(ctx context.Context, hash []byte, now time.Time) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`UPDATE sessions SET seen_ms = $1 WHERE hash = $2`, ms(now), hash)
		return err
	})
}

// EndSession implements authserver.Accounts.
func (d *DB) EndSession(ctx context.Context, hash []byte) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`DELETE FROM sessions WHERE hash = $1`, hash)
		return err
	})
}

// EndSessions implements authserver.Accounts.
func (d *DB) EndSessions(ctx context.Context, userID string) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`DELETE FROM sessions WHERE user_id = $1`, userID)
		return err
	})
}
