package store

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
)

// Secret implements authserver.Operations.
func (d *DB) Secret(ctx context.Context, name string, sealed []byte) (got []byte, err error) {
	err = d.readOne(ctx, "secret", `SELECT sealed FROM secrets WHERE name = $1`, func(r row) error { return r.Scan(&got) }, name)
	if err == nil || !isNotFound(err) {
		return got, err
	}
	err = d.write(ctx, func(t tx) error {
		// The no-op update makes RETURNING give the row that is there.
		return t.query(`INSERT INTO secrets(name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING sealed`,
			func(r row) error { return r.Scan(&got) }, name, sealed)
	})
	return got, err
}

const keyColumns = `kid, slot, alg, sealed, public_jwk, active_ms, retire_ms, expires_ms`

func scanKey(k *authserver.SigningKey) func(row) error {
	return func(r row) error {
		return r.Scan(&k.KID, &k.Slot, &k.Alg, &k.Sealed, text(&k.Public), at(&k.Active), at(&k.Retire), at(&k.Expires))
	}
}

// AddKey implements authserver.Operations.
func (d *DB) AddKey(ctx context.Context, k authserver.SigningKey) (got authserver.SigningKey, err error) {
	err = d.write(ctx, func(t tx) error {
		got = authserver.SigningKey{}
		return t.query(`INSERT INTO signing_keys(`+keyColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (slot) DO UPDATE SET slot = excluded.slot RETURNING `+keyColumns, scanKey(&got),
			k.KID, k.Slot, k.Alg, k.Sealed, string(k.Public), ms(k.Active), ms(k.Retire), ms(k.Expires))
	})
	return got, err
}

// SigningKeys implements authserver.Operations.
func (d *DB) SigningKeys(ctx context.Context, now time.Time) (out []authserver.SigningKey, err error) {
	err = d.read(ctx, `SELECT `+keyColumns+` FROM signing_keys WHERE expires_ms > $1 ORDER BY active_ms, kid`, func(r row) error {
		var k authserver.SigningKey
		err := scanKey(&k)(r)
		out = append(out, k)
		return err
	}, ms(now))
	return out, err
}

// RetireKeys implements authserver.Operations.
func (d *DB) RetireKeys(ctx context.Context, now time.Time) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`UPDATE signing_keys SET retire_ms = $1 WHERE retire_ms > $2`, ms(now), ms(now))
		return err
	})
}

// UseOnce implements authserver.Operations.
func (d *DB) UseOnce(ctx context.Context, id string, now, expires time.Time) (fresh bool, err error) {
	err = d.write(ctx, func(t tx) error {
		n, err := t.exec(`INSERT INTO once(id, expires_ms) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET expires_ms = excluded.expires_ms WHERE once.expires_ms <= $3`,
			id, ms(expires), ms(now))
		fresh = n == 1
		return err
	})
	return fresh, err
}

// TakeLimit implements authserver.Operations.
func (d *DB) TakeLimit(ctx context.Context, key string, now time.Time, interval time.Duration, burst int) (time.Duration, error) {
	_, wait, err := d.TakeLimits(ctx, now, authserver.Share{Key: key, Interval: interval, Burst: burst})
	return wait, err
}

// TakeLimits implements authserver.Operations. The theoretical arrival time is
// kept in microseconds, so that intervals below a millisecond add up.
func (d *DB) TakeLimits(ctx context.Context, now time.Time, shares ...authserver.Share) (spent int, wait time.Duration, err error) {
	err = d.write(ctx, func(t tx) error {
		for i, s := range shares {
			var err error
			if wait, err = takeShare(t, now.UnixMicro(), s); err != nil {
				return err
			}
			if wait == 0 {
				continue
			}
			spent = i
			for _, s := range shares[:i] { // give back what the earlier ones took
				if _, err := t.exec(`UPDATE limits SET tat_us = tat_us - $1 WHERE key = $2`, s.Interval.Microseconds(), s.Key); err != nil {
					return err
				}
			}
			for _, s := range shares[i:] {
				if err := pullIn(t, now.UnixMicro(), s); err != nil {
					return err
				}
			}
			return nil
		}
		return nil
	})
	return spent, wait, err
}

// maxSkew is how far the clocks of callers that share a limit may differ, and how
// far a request may have waited since it read its clock, before the burst shrinks.
const maxSkew = time.Second

// takeShare takes one. Callers arrive in another order than that of their clocks:
// less than one interval of slack leaves the burst what it is, and without it the
// last place of a burst would be refused to whoever read the clock before the one
// that took the first.
func takeShare(t tx, nowUS int64, s authserver.Share) (wait time.Duration, err error) {
	step := s.Interval.Microseconds()
	room := nowUS + step*int64(s.Burst)
	slack := min(step/2, maxSkew.Microseconds())
	n, err := t.exec(`INSERT INTO limits(key, tat_us) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET
			tat_us = CASE WHEN limits.tat_us < $3 THEN $4 ELSE limits.tat_us + $5 END
		WHERE limits.tat_us + $6 <= $7`, s.Key, nowUS+step, nowUS, nowUS+step, step, step, room+slack)
	if err != nil || n == 1 {
		return 0, err
	}
	err = t.query(`SELECT tat_us FROM limits WHERE key = $1`, func(r row) error {
		var tat int64
		err := r.Scan(&tat)
		wait = max(time.Duration(min(tat, room)+step-room)*time.Microsecond, time.Millisecond)
		return err
	}, s.Key)
	return wait, err
}

// pullIn brings a state of the future back: when the clock went back, a limit would
// else hold for as long as it leapt.
func pullIn(t tx, nowUS int64, s authserver.Share) error {
	room := nowUS + s.Interval.Microseconds()*int64(s.Burst)
	_, err := t.exec(`UPDATE limits SET tat_us = $1 WHERE key = $2 AND tat_us > $3`, room, s.Key, room)
	return err
}

// ClearLimit implements authserver.Operations.
func (d *DB) ClearLimit(ctx context.Context, key string) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`DELETE FROM limits WHERE key = $1`, key)
		return err
	})
}

// CreateTransaction implements authserver.Operations.
func (d *DB) CreateTransaction(ctx context.Context, x authserver.Transaction) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`INSERT INTO transactions(hash, browser, data, expires_ms) VALUES ($1, $2, $3, $4)`, x.Hash, x.Browser, x.Data, ms(x.Expires))
		return err
	})
}

// UseTransaction implements authserver.Operations.
func (d *DB) UseTransaction(ctx context.Context, hash, browser []byte, now time.Time) (x authserver.Transaction, err error) {
	err = d.write(ctx, func(t tx) error {
		x = authserver.Transaction{}
		scan := func(r row) error { return r.Scan(&x.Hash, &x.Browser, &x.Data, at(&x.Expires)) }
		err := t.query(`UPDATE transactions SET used_ms = $1 WHERE hash = $2 AND browser = $3 AND used_ms IS NULL AND expires_ms > $4 RETURNING hash, browser, data, expires_ms`,
			scan, ms(now), hash, browser, ms(now))
		if err != nil || x.Hash != nil {
			return err
		}
		err = t.query(`SELECT hash, browser, data, expires_ms FROM transactions WHERE hash = $1 AND used_ms IS NULL AND expires_ms > $2`, scan, hash, ms(now))
		if err != nil {
			return err
		}
		if x.Hash != nil && !bytes.Equal(x.Browser, browser) {
			return kidoban.Errorf(kidoban.KindRefused, "this step was begun in another browser")
		}
		return notFound("transaction")
	})
	if err != nil {
		return authserver.Transaction{}, err
	}
	return x, nil
}

// keptAlerts bounds the table of alerts.
const keptAlerts = 10_000

// AddAlert implements authserver.Operations.
func (d *DB) AddAlert(ctx context.Context, a authserver.Alert) error {
	return d.write(ctx, func(t tx) error {
		words := ""
		if a.With != nil {
			raw, err := json.Marshal(a.With)
			if err != nil {
				return err
			}
			words = string(raw)
		}
		_, err := t.exec(`INSERT INTO alerts(id, kind, at_ms, subject, text, do_text, words) VALUES ($1, $2, $3, $4, $5, $6, $7)`, a.ID, a.Kind, ms(a.At), a.Subject, a.Text, a.Do, words)
		return err
	})
}

// alertColumns are read by scanAlert.
const alertColumns = `id, kind, at_ms, subject, text, do_text, words`

// scanAlert reads an alert. One without words, or with words that nobody can read,
// is told as it was stored.
func scanAlert(r row, a *kidoban.Alert) error {
	var words string
	err := r.Scan(&a.ID, &a.Kind, at(&a.At), &a.Subject, &a.Text, &a.Do, &words)
	if err == nil && words != "" && json.Unmarshal([]byte(words), &a.With) != nil {
		a.With = nil
	}
	return err
}

// Alerts implements authserver.Operations.
func (d *DB) Alerts(ctx context.Context, limit int) (out []authserver.Alert, err error) {
	err = d.read(ctx, `SELECT `+alertColumns+` FROM alerts ORDER BY at_ms DESC, id LIMIT $1`, func(r row) error {
		var a authserver.Alert
		err := scanAlert(r, &a)
		out = append(out, a)
		return err
	}, limit)
	return out, err
}

// hostMemory is how long a redirect host without any grant is remembered after
// it was last registered.
const hostMemory = 90 * 24 * time.Hour

// Purge implements authserver.Operations.
func (d *DB) Purge(ctx context.Context, now time.Time, keep time.Duration, batch int) (total int, err error) {
	type sweep struct {
		q     string
		bound int64
	}
	// A grant stays a while after its end, so that the console can say what it was.
	ended, before := ms(now), ms(now.Add(-keep))
	sweeps := []sweep{
		{`DELETE FROM codes WHERE hash IN (SELECT hash FROM codes WHERE expires_ms < $1 LIMIT $2)`, before},
		{`DELETE FROM refreshes WHERE hash IN (SELECT hash FROM refreshes WHERE expires_ms < $1 LIMIT $2)`, ended},
		{`DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE expires_ms < $1 LIMIT $2)`, before},
		{`DELETE FROM revocations WHERE id IN (SELECT id FROM revocations WHERE at_ms < $1 LIMIT $2)`, before},
		{`DELETE FROM consents WHERE (user_id, client_id, redirect_uri, resource) IN (SELECT user_id, client_id, redirect_uri, resource FROM consents WHERE expires_ms < $1 LIMIT $2)`, ended},
		{`DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE expires_ms < $1 LIMIT $2)`, ended},
		{`DELETE FROM setups WHERE hash IN (SELECT hash FROM setups WHERE expires_ms < $1 LIMIT $2)`, ended},
		{`DELETE FROM once WHERE id IN (SELECT id FROM once WHERE expires_ms < $1 LIMIT $2)`, ended},
		{`DELETE FROM notes WHERE key IN (SELECT key FROM notes WHERE expires_ms < $1 LIMIT $2)`, ended},
		{`DELETE FROM limits WHERE key IN (SELECT key FROM limits WHERE tat_us < $1 LIMIT $2)`, now.UnixMicro()},
		{`DELETE FROM transactions WHERE hash IN (SELECT hash FROM transactions WHERE expires_ms < $1 LIMIT $2)`, ended},
		{`DELETE FROM signing_keys WHERE kid IN (SELECT kid FROM signing_keys WHERE expires_ms < $1 LIMIT $2)`, before},
		{`DELETE FROM client_hosts WHERE client_id IN (SELECT id FROM clients WHERE expires_ms > 0 AND expires_ms < $1 ORDER BY expires_ms, id LIMIT $2)`, ended},
		{`DELETE FROM clients WHERE id IN (SELECT id FROM clients WHERE expires_ms > 0 AND expires_ms < $1 ORDER BY expires_ms, id LIMIT $2)`, ended},
		{`DELETE FROM approvals WHERE id IN (SELECT id FROM approvals WHERE expires_ms < $1 LIMIT $2)`, before},
		{`DELETE FROM session_labels WHERE (session, label) IN (SELECT session, label FROM session_labels WHERE at_ms < $1 LIMIT $2)`, before},
		{`DELETE FROM hosts WHERE host IN (SELECT h.host FROM hosts h WHERE h.last_ms < $1
			AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.redirect_host = h.host)
			AND NOT EXISTS (SELECT 1 FROM client_hosts c WHERE c.host = h.host) LIMIT $2)`, ms(now.Add(-hostMemory))},
	}
	for _, s := range sweeps {
		// One transaction per sweep: a purge must not hold up the other writers.
		err := d.write(ctx, func(t tx) error {
			n, err := t.exec(s.q, s.bound, batch)
			total += int(n)
			return err
		})
		if err != nil {
			return total, err
		}
	}
	err = d.write(ctx, func(t tx) error {
		_, err := t.exec(`DELETE FROM alerts WHERE id IN (SELECT id FROM alerts ORDER BY at_ms DESC, id LIMIT $1 OFFSET $2)`, batch, keptAlerts)
		return err
	})
	return total, err
}
