package store

import (
	"context"
	"strings"

	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/toolscan"
)

var _ gateway.PinStore = (*DB)(nil)

const pinColumns = `server, kind, name, sha256, raw, state, reason, first_ms, decided_ms, decided_by`

// Pins implements gateway.PinStore.
func (d *DB) Pins(ctx context.Context, server string, whole bool) (out []gateway.Pin, err error) {
	columns := pinColumns
	if !whole {
		columns = strings.Replace(columns, ` raw,`, ` NULL,`, 1)
	}
	err = d.read(ctx, `SELECT `+columns+` FROM pins WHERE server = $1 OR $2 = '' ORDER BY server, kind, name, first_ms, sha256`, func(r row) error {
		var p gateway.Pin
		var kind, state string
		err := r.Scan(&p.Server, &kind, &p.Name, &p.SHA256, &p.Raw, &state, &p.Reason, at(&p.First), at(&p.Decided), &p.By)
		p.Kind, p.State = toolscan.Kind(kind), gateway.PinState(state)
		out = append(out, p)
		return err
	}, server, server)
	return out, err
}

// AddPins implements gateway.PinStore.
func (d *DB) AddPins(ctx context.Context, pins []gateway.Pin) error {
	return d.write(ctx, func(t tx) error {
		for _, p := range pins {
			if _, err := t.exec(`INSERT INTO pins(`+pinColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (server, kind, name, sha256) DO NOTHING`,
				p.Server, string(p.Kind), p.Name, p.SHA256, p.Raw, string(p.State), p.Reason, ms(p.First), ms(p.Decided), p.By); err != nil {
				return err
			}
		}
		return nil
	})
}

// DecidePin implements gateway.PinStore.
func (d *DB) DecidePin(ctx context.Context, p gateway.Pin) error {
	return d.change(ctx, "pin", `UPDATE pins SET state = $1, decided_ms = $2, decided_by = $3 WHERE server = $4 AND kind = $5 AND name = $6 AND sha256 = $7`,
		string(p.State), ms(p.Decided), p.By, p.Server, string(p.Kind), p.Name, p.SHA256)
}
