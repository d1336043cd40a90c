package store

import (
	"context"
	"strings"
	"time"

	"github.com/kidoban/kidoban/console"
)

const meterCounts = `calls, refused, failed, registrations, consents, logins, alerts, micros, lat0, lat1, lat2, lat3, lat4, lat5, lat6, lat7, lat8, lat9, lat10, lat11`

// meterAdd is the upsert's other half: every count is added to what is there.
var meterAdd = func() string {
	var sets []string
	for _, c := range strings.Split(meterCounts, ", ") {
		sets = append(sets, c+" = meters."+c+" + excluded."+c)
	}
	return strings.Join(sets, ", ")
}()

func meterDest(m *console.Meter) []any {
	out := []any{&m.Calls, &m.Refused, &m.Failed, &m.Registrations, &m.Consents, &m.Logins, &m.Alerts, &m.Micros}
	for i := range m.Latency {
		out = append(out, &m.Latency[i])
	}
	return out
}

// AddMeters implements console.Store.
func (d *DB) AddMeters(ctx context.Context, meters []console.Meter) error {
	return d.write(ctx, func(t tx) error {
		for _, m := range meters {
			args := []any{int64(m.Width.Seconds()), m.Server, ms(m.At), m.Calls, m.Refused, m.Failed, m.Registrations, m.Consents, m.Logins, m.Alerts, m.Micros}
			for _, n := range m.Latency {
				args = append(args, n)
			}
			if _, err := t.exec(`INSERT INTO meters(width_s, server, at_ms, `+meterCounts+`)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
				ON CONFLICT (width_s, server, at_ms) DO UPDATE SET `+meterAdd, args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// Meters implements console.Store.
func (d *DB) Meters(ctx context.Context, width time.Duration, server string, from, to time.Time) (out []console.Meter, err error) {
	err = d.read(ctx, `SELECT at_ms, `+meterCounts+` FROM meters WHERE width_s = $1 AND server = $2 AND at_ms >= $3 AND at_ms < $4 ORDER BY at_ms`, func(r row) error {
		m := console.Meter{Width: width, Server: server}
		err := r.Scan(append([]any{at(&m.At)}, meterDest(&m)...)...)
		out = append(out, m)
		return err
	}, int64(width.Seconds()), server, ms(from), ms(to))
	return out, err
}

// ServerMeters implements console.Store.
func (d *DB) ServerMeters(ctx context.Context, width time.Duration, from, to time.Time) (out []console.Meter, err error) {
	var sums []string
	for _, c := range strings.Split(meterCounts, ", ") {
		sums = append(sums, "CAST(SUM("+c+") AS BIGINT)")
	}
	err = d.read(ctx, `SELECT server, `+strings.Join(sums, ", ")+` FROM meters WHERE width_s = $1 AND at_ms >= $2 AND at_ms < $3 GROUP BY server ORDER BY server`, func(r row) error {
		m := console.Meter{Width: width, At: from}
		err := r.Scan(append([]any{&m.Server}, meterDest(&m)...)...)
		out = append(out, m)
		return err
	}, int64(width.Seconds()), ms(from), ms(to))
	return out, err
}

// DropMeters implements console.Store.
func (d *DB) DropMeters(ctx context.Context, width time.Duration, before time.Time, batch int) (n int, err error) {
	err = d.write(ctx, func(t tx) error {
		gone, err := t.exec(`DELETE FROM meters WHERE (width_s, server, at_ms) IN (SELECT width_s, server, at_ms FROM meters WHERE width_s = $1 AND at_ms < $2 LIMIT $3)`,
			int64(width.Seconds()), ms(before), batch)
		n = int(gone)
		return err
	})
	return n, err
}
