package store

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/console"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/toolscan"
)

var _ console.Store = (*DB)(nil)

// Totals implements console.Store.
func (d *DB) Totals(ctx context.Context, now time.Time) (t console.Totals, err error) {
	err = d.read(ctx, `SELECT (SELECT COUNT(*) FROM users), (SELECT COUNT(*) FROM clients),
		(SELECT COUNT(*) FROM grants WHERE revoked_ms IS NULL AND expires_ms > $1), (SELECT COUNT(*) FROM hosts)`, func(r row) error {
		return r.Scan(&t.Users, &t.Clients, &t.Grants, &t.Hosts)
	}, ms(now))
	return t, err
}

// Waiting implements console.Store.
func (d *DB) Waiting(ctx context.Context) (w console.Waiting, err error) {
	err = d.read(ctx, `SELECT (SELECT COUNT(*) FROM clients WHERE review), (SELECT COUNT(*) FROM pins WHERE state = 'held')`, func(r row) error {
		return r.Scan(&w.Review, &w.Held)
	})
	return w, err
}

// WaitingCalls implements console.Store.
func (d *DB) WaitingCalls(ctx context.Context, userID string, now time.Time) (own, all int, err error) {
	err = d.read(ctx, `SELECT COUNT(CASE WHEN user_id = $1 THEN 1 END), COUNT(*) FROM approvals WHERE state = 'waiting' AND expires_ms > $2`,
		func(r row) error { return r.Scan(&own, &all) }, userID, ms(now))
	return own, all, err
}

// listing builds the query of a page. The inner select walks an index and looks
// at so many rows at most; the outer one keeps those that hold the text.
type listing struct {
	columns string // of the outer select
	from    string // table
	key     []string
	where   []string
	args    []any
	looks   []string // expressions that the text is looked for in
	q       console.Query
}

// arg adds a parameter and returns its name.
func (l *listing) arg(v any) string {
	l.args = append(l.args, v)
	return "$" + strconv.Itoa(len(l.args))
}

// and adds a condition with one parameter, written ?.
func (l *listing) and(condition string, v any) {
	l.where = append(l.where, strings.Replace(condition, "?", l.arg(v), 1))
}

// behind limits the list to rows after the place. rest are the key's columns
// behind the time.
func (l *listing) behind(at time.Time, rest ...any) {
	t := int64(math.MaxInt64)
	if !at.IsZero() {
		t = ms(at)
	}
	names := []string{l.arg(t)}
	for _, v := range rest {
		names = append(names, l.arg(v))
	}
	l.where = append(l.where, "("+strings.Join(l.key, ", ")+") < ("+strings.Join(names, ", ")+")")
}

// inner walks the index.
func (l *listing) inner(columns string) string {
	return "SELECT " + columns + " FROM " + l.from + " WHERE " + strings.Join(l.where, " AND ") + l.order()
}

func (l *listing) order() string { return " ORDER BY " + strings.Join(l.key, " DESC, ") + " DESC" }

func (l *listing) sql() string {
	out := "SELECT " + l.columns + " FROM (" + l.inner("*")
	if l.q.Text == "" {
		return out + " LIMIT " + l.arg(l.q.Limit+1) + ") x" + l.order()
	}
	out += " LIMIT " + l.arg(l.q.Look) + ") x WHERE ("
	pattern := l.arg("%" + likeText.Replace(strings.ToLower(l.q.Text)) + "%")
	for i, e := range l.looks {
		if i > 0 {
			out += " OR "
		}
		out += "lower(" + e + ") LIKE " + pattern + ` ESCAPE '\'`
	}
	return out + ")" + l.order() + " LIMIT " + l.arg(l.q.Limit+1)
}

// page runs a listing. dest gives what a row is scanned into; place tells where
// it stands, end scans the columns of the key.
func page[T any](ctx context.Context, d *DB, l *listing, scan func(row, *T) error, place func(T) console.Place, end func(row) (console.Place, error)) (p console.Page[T], err error) {
	args := l.args
	err = d.read(ctx, l.sql(), func(r row) error {
		var v T
		err := scan(r, &v)
		p.Rows = append(p.Rows, v)
		return err
	}, l.args...)
	if err != nil {
		return p, err
	}
	if len(p.Rows) > l.q.Limit {
		p.Rows = p.Rows[:l.q.Limit]
		p.Next = place(p.Rows[l.q.Limit-1])
		return p, nil
	}
	if l.q.Text == "" {
		return p, nil
	}
	// Not full: either the list ended or enough was looked at.
	l.args = args
	err = d.read(ctx, l.inner(strings.Join(l.key, ", "))+" LIMIT 1 OFFSET "+l.arg(max(l.q.Look-1, 0)), func(r row) error {
		p.Next, err = end(r)
		p.Looked = p.Next.At
		return err
	}, l.args...)
	return p, err
}

// scanPlace scans a key of a time and an id.
func scanPlace(r row) (p console.Place, err error) {
	err = r.Scan(at(&p.At), &p.Key)
	return p, err
}

// PageClients implements console.Store.
func (d *DB) PageClients(ctx context.Context, q console.ClientQuery) (console.Page[authserver.Client], error) {
	l := &listing{columns: clientColumns, from: "clients", key: []string{"created_ms", "id"}, looks: []string{"id", "metadata"}, q: q.Query}
	l.behind(q.After.At, q.After.Key)
	if q.Kind != "" {
		l.and("kind = ?", q.Kind)
	}
	if q.Review {
		l.where = append(l.where, "review")
	}
	return page(ctx, d, l, func(r row, c *authserver.Client) error { return r.Scan(clientDest(c)...) },
		func(c authserver.Client) console.Place { return console.Place{At: c.Created, Key: c.ID} }, scanPlace)
}

// hostColumns count up to console.Many and one: a host that everybody uses must not
// cost more than one that nobody does.
const hostColumns = `x.host, x.loopback, x.first_ms, x.last_ms,
	(SELECT COUNT(*) FROM (SELECT 1 FROM client_hosts c WHERE c.host = x.host LIMIT 1001) y),
	(SELECT COUNT(*) FROM (SELECT DISTINCT user_id FROM (SELECT g.user_id FROM grants g WHERE g.redirect_host = x.host LIMIT 10000) z LIMIT 1001) y),
	(SELECT COUNT(*) FROM (SELECT 1 FROM grants g WHERE g.redirect_host = x.host LIMIT 1001) y),
	COALESCE((SELECT MIN(c.client_id) FROM client_hosts c WHERE c.host = x.host), '')`

func hostDest(h *console.Host) []any {
	return []any{&h.Host.Host, &h.Loopback, at(&h.FirstSeen), at(&h.LastSeen), &h.Clients, &h.Users, &h.Grants, &h.ClientID}
}

// PageHosts implements console.Store.
func (d *DB) PageHosts(ctx context.Context, q console.Query) (console.Page[console.Host], error) {
	l := &listing{columns: hostColumns, from: "hosts", key: []string{"first_ms", "host"}, looks: []string{"host"}, q: q}
	l.behind(q.After.At, q.After.Key)
	return page(ctx, d, l, func(r row, h *console.Host) error { return r.Scan(hostDest(h)...) },
		func(h console.Host) console.Place { return console.Place{At: h.FirstSeen, Key: h.Host.Host} }, scanPlace)
}

// Host implements console.Store.
func (d *DB) Host(ctx context.Context, name string) (h console.Host, err error) {
	err = d.readOne(ctx, "host", `SELECT `+hostColumns+` FROM hosts x WHERE x.host = $1`, func(r row) error { return r.Scan(hostDest(&h)...) }, name)
	return h, err
}

// HostClients implements console.Store.
func (d *DB) HostClients(ctx context.Context, host, after string, limit int) (out []authserver.Client, err error) {
	err = d.read(ctx, `SELECT `+clientColumns+` FROM clients WHERE id IN (SELECT client_id FROM client_hosts WHERE host = $1 AND client_id > $2 ORDER BY client_id LIMIT $3) ORDER BY id`,
		func(r row) error {
			var c authserver.Client
			err := scanClient(&c)(r)
			out = append(out, c)
			return err
		}, host, after, limit)
	return out, err
}

// HostUsers implements console.Store.
func (d *DB) HostUsers(ctx context.Context, host, after string, limit int) (out []string, err error) {
	err = d.read(ctx, `SELECT DISTINCT user_id FROM grants WHERE redirect_host = $1 AND user_id > $2 ORDER BY user_id LIMIT $3`, func(r row) error {
		var id string
		err := r.Scan(&id)
		out = append(out, id)
		return err
	}, host, after, limit)
	return out, err
}

// PageGrants implements console.Store.
func (d *DB) PageGrants(ctx context.Context, q console.GrantQuery) (console.Page[authserver.Grant], error) {
	q.Text = ""
	l := &listing{columns: strings.ReplaceAll(grantColumns, "g.", ""), from: "grants", key: []string{"created_ms", "id"}, q: q.Query}
	l.behind(q.After.At, q.After.Key)
	if q.User != "" {
		l.and("user_id = ?", q.User)
	}
	if q.Client != "" {
		l.and("client_id = ?", q.Client)
	}
	return page(ctx, d, l, func(r row, g *authserver.Grant) error { return r.Scan(grantDest(g)...) },
		func(g authserver.Grant) console.Place { return console.Place{At: g.Created, Key: g.ID} }, scanPlace)
}

// PageAlerts implements console.Store.
func (d *DB) PageAlerts(ctx context.Context, q console.AlertQuery) (console.Page[kidoban.Alert], error) {
	l := &listing{columns: alertColumns, from: "alerts", key: []string{"at_ms", "id"}, looks: []string{"subject", "text"}, q: q.Query}
	l.behind(q.After.At, q.After.Key)
	if q.Kind != "" {
		l.and("kind = ?", string(q.Kind))
	}
	return page(ctx, d, l, scanAlert,
		func(a kidoban.Alert) console.Place { return console.Place{At: a.At, Key: a.ID} }, scanPlace)
}

// likeText is a text in the form of a LIKE pattern with the escape \.
var likeText = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// PageUsers implements console.Store.
func (d *DB) PageUsers(ctx context.Context, prefix, after string, limit int) (out []authserver.User, err error) {
	err = d.read(ctx, `SELECT `+userColumns+` FROM users WHERE name_key > $1 AND name_key LIKE $2 ESCAPE '\' ORDER BY name_key LIMIT $3`, func(r row) error {
		var u authserver.User
		err := scanUser(&u)(r)
		out = append(out, u)
		return err
	}, nameKey(after), likeText.Replace(nameKey(prefix))+"%", limit)
	return out, err
}

// in writes the parameters of an IN list.
func in(ids []string) (list string, args []any) {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(i+1))
		args = append(args, id)
	}
	return b.String(), args
}

// UserNames implements console.Store.
func (d *DB) UserNames(ctx context.Context, ids []string) (map[string]string, error) {
	out := map[string]string{}
	if len(ids) == 0 {
		return out, nil
	}
	list, args := in(ids)
	err := d.read(ctx, `SELECT id, name FROM users WHERE id IN (`+list+`)`, func(r row) error {
		var id, name string
		err := r.Scan(&id, &name)
		out[id] = name
		return err
	}, args...)
	return out, err
}

// ClientNames implements console.Store.
func (d *DB) ClientNames(ctx context.Context, ids []string) (map[string]authserver.Client, error) {
	out := map[string]authserver.Client{}
	if len(ids) == 0 {
		return out, nil
	}
	list, args := in(ids)
	err := d.read(ctx, `SELECT `+clientColumns+` FROM clients WHERE id IN (`+list+`)`, func(r row) error {
		var c authserver.Client
		err := scanClient(&c)(r)
		out[c.ID] = c
		return err
	}, args...)
	return out, err
}

// PinCounts implements console.Store.
func (d *DB) PinCounts(ctx context.Context) (out []console.PinCount, err error) {
	err = d.read(ctx, `SELECT server, state, COUNT(*) FROM pins GROUP BY server, state ORDER BY server, state`, func(r row) error {
		var c console.PinCount
		err := r.Scan(&c.Server, &c.State, &c.N)
		out = append(out, c)
		return err
	})
	return out, err
}

func scanPin(p *gateway.Pin) func(row) error {
	return func(r row) error {
		var kind, state string
		err := r.Scan(&p.Server, &kind, &p.Name, &p.SHA256, &p.Raw, &state, &p.Reason, at(&p.First), at(&p.Decided), &p.By)
		p.Kind, p.State = toolscan.Kind(kind), gateway.PinState(state)
		return err
	}
}

// PagePins implements console.Store.
func (d *DB) PagePins(ctx context.Context, q console.PinQuery) (out []gateway.Pin, err error) {
	query := `SELECT ` + strings.Replace(pinColumns, ` raw,`, ` NULL,`, 1) + ` FROM pins WHERE (server, kind, name, sha256) > ($1, $2, $3, $4)`
	args := []any{q.After.Server, string(q.After.Kind), q.After.Name, q.After.SHA256}
	if q.Server != "" {
		args = append(args, q.Server)
		query += ` AND server = $` + strconv.Itoa(len(args))
	}
	if q.State != "" {
		args = append(args, string(q.State))
		query += ` AND state = $` + strconv.Itoa(len(args))
	}
	args = append(args, q.Limit)
	err = d.read(ctx, query+` ORDER BY server, kind, name, sha256 LIMIT $`+strconv.Itoa(len(args)), func(r row) error {
		var p gateway.Pin
		err := scanPin(&p)(r)
		out = append(out, p)
		return err
	}, args...)
	return out, err
}

// PinVersions implements console.Store.
func (d *DB) PinVersions(ctx context.Context, p gateway.Pin) (out []gateway.Pin, err error) {
	err = d.read(ctx, `SELECT `+pinColumns+` FROM pins WHERE server = $1 AND kind = $2 AND name = $3 ORDER BY first_ms, sha256 LIMIT 200`, func(r row) error {
		var p gateway.Pin
		err := scanPin(&p)(r)
		out = append(out, p)
		return err
	}, p.Server, string(p.Kind), p.Name)
	return out, err
}
