package store

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
)

const heardColumns = `user_id, provider, issuer, claim, group_names, heard_ms, ended_ms, why, version`

func scanHeard(h *authserver.Heard) func(row) error {
	return func(r row) error {
		var groups string
		if err := r.Scan(&h.UserID, &h.Provider, &h.Issuer, &h.Claim, &groups, at(&h.At), at(&h.Ended), &h.Why, &h.Version); err != nil {
			return err
		}
		return kidoban.Wrap(kidoban.KindInternal, json.Unmarshal([]byte(groups), &h.Groups), "the groups of a user cannot be read")
	}
}

// Heard implements authserver.Accounts.
func (d *DB) Heard(ctx context.Context, userID string) (h authserver.Heard, err error) {
	err = d.readOne(ctx, "login at a provider", `SELECT `+heardColumns+` FROM heard WHERE user_id = $1`, scanHeard(&h), userID)
	return h, err
}

// HeardOf implements console.Store.
func (d *DB) HeardOf(ctx context.Context, ids []string) (map[string]authserver.Heard, error) {
	out := map[string]authserver.Heard{}
	if len(ids) == 0 {
		return out, nil
	}
	list, args := in(ids)
	err := d.read(ctx, `SELECT `+heardColumns+` FROM heard WHERE user_id IN (`+list+`)`, func(r row) error {
		var h authserver.Heard
		err := scanHeard(&h)(r)
		out[h.UserID] = h
		return err
	}, args...)
	return out, err
}

// PutHeard implements authserver.Accounts.
func (d *DB) PutHeard(ctx context.Context, h authserver.Heard) error {
	_, err := d.putHeard(ctx, h, false)
	return err
}

// SwapHeard implements authserver.Accounts.
func (d *DB) SwapHeard(ctx context.Context, h authserver.Heard) (bool, error) {
	return d.putHeard(ctx, h, true)
}

func (d *DB) putHeard(ctx context.Context, h authserver.Heard, swap bool) (done bool, err error) {
	if h.Groups == nil {
		h.Groups = []string{}
	}
	groups, err := json.Marshal(h.Groups)
	if err != nil {
		return false, kidoban.Wrap(kidoban.KindInternal, err, "the groups cannot be written")
	}
	err = d.write(ctx, func(t tx) error {
		done = false
		// The row is locked before it is read: of two logins at once the later one
		// compares with what the first one wrote.
		if _, err := t.exec(`UPDATE heard SET version = version + 1 WHERE user_id = $1`, h.UserID); err != nil {
			return err
		}
		var was authserver.Heard
		if err := t.query(`SELECT `+heardColumns+` FROM heard WHERE user_id = $1`, scanHeard(&was), h.UserID); err != nil {
			return err
		}
		if swap && was.Version != h.Version+1 {
			// Somebody else was heard meanwhile; the count that was moved says nothing.
			_, err := t.exec(`UPDATE heard SET version = version - 1 WHERE user_id = $1`, h.UserID)
			return err
		}
		if _, err := t.exec(`INSERT INTO heard(`+heardColumns+`) VALUES ($1, $2, $3, $4, $5, $6, 0, '', $7)
			ON CONFLICT (user_id) DO UPDATE SET provider = excluded.provider, issuer = excluded.issuer, claim = excluded.claim,
				group_names = excluded.group_names, heard_ms = excluded.heard_ms, ended_ms = 0, why = '', version = excluded.version`,
			h.UserID, h.Provider, h.Issuer, h.Claim, string(groups), ms(h.At), max(was.Version, 1)); err != nil {
			return err
		}
		done = true
		if was.Provider == h.Provider && was.Issuer == h.Issuer && was.Claim == h.Claim && slices.Equal(was.Groups, h.Groups) {
			return nil
		}
		return logChange(t, h.UserID, h.At)
	})
	return done, err
}

// logChange tells every replica that a person is not who policy remembers. A change
// that follows another at once has a later time, so that it is told, too.
func logChange(t tx, userID string, now time.Time) error {
	_, err := t.exec(`INSERT INTO revocations(id, at_ms) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET
		at_ms = CASE WHEN excluded.at_ms > revocations.at_ms THEN excluded.at_ms ELSE revocations.at_ms + 1 END`, authserver.ChangedUser+userID, ms(now))
	return err
}

// EndHeard implements authserver.Accounts.
func (d *DB) EndHeard(ctx context.Context, h authserver.Heard) (done bool, err error) {
	err = d.write(ctx, func(t tx) error {
		n, err := t.exec(`UPDATE heard SET ended_ms = $1, why = $2, version = version + 1 WHERE user_id = $3 AND version = $4`, ms(h.Ended), h.Why, h.UserID, h.Version)
		if done = n > 0; err != nil || !done {
			return err
		}
		_, err = t.exec(`DELETE FROM sessions WHERE user_id = $1`, h.UserID)
		return err
	})
	return done, err
}
