package console

import (
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/oauth"
)

const (
	pageRows = 50
	// lookRows is how many rows a search looks at for one page; lookLog in the audit
	// log, whose rows are short.
	lookRows = 4_000
	lookLog  = 10_000
	maxText  = 200
)

// text is a field of the query, trimmed, bounded, and without characters that
// only change how others look: it is shown again.
func (v *visit) text(name string) string {
	t := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, strings.TrimSpace(v.query.Get(name)))
	if strings.ContainsRune(t, 0) || len(t) > 2048 {
		return ""
	}
	return t
}

// exact is a field of the query as it stands: the name of a definition, which may
// hold anything that is text.
func (v *visit) exact(name string) string {
	t := v.query.Get(name)
	if strings.ContainsRune(t, 0) || !utf8.ValidString(t) {
		return ""
	}
	return t
}

// ask reads search text and place.
func (v *visit) ask() Query {
	return Query{Text: clip(v.text("q"), maxText), After: readPlace(v.query.Get("after")), Limit: pageRows, Look: lookRows}
}

// more is the end of a list: where it goes on.
type more struct {
	Next   string // address of the next page; empty at the end
	First  string // address of the first page; empty there
	Looked Place  // set when a search stopped here
	Stop   bool   // the search stopped before its page was full
}

// morePages makes the links below a list.
func morePages[T any](v *visit, p Page[T]) more {
	q := v.r.URL.Query()
	for _, drop := range []string{"after", "done", "lang"} {
		q.Del(drop)
	}
	at := func(q url.Values) string {
		if len(q) == 0 {
			return v.r.URL.EscapedPath()
		}
		return v.r.URL.EscapedPath() + "?" + q.Encode()
	}
	m := more{Stop: !p.Looked.IsZero(), Looked: Place{At: p.Looked}}
	if v.query.Get("after") != "" {
		m.First = at(q)
	}
	if !p.Next.At.IsZero() {
		q.Set("after", p.Next.String())
		m.Next = at(q)
	}
	return m
}

// clientRow is a client as lists show it: what it says of itself, marked by how
// far that is proven.
type clientRow struct {
	authserver.Client
	Name      string // as it calls itself; its id when it has no name
	Redirects []string
	Hosts     []string
	Scope     string
	Auth      string
	DocHost   string
	Denied    bool
	Known     bool // it is still registered
}

// look reads a client's registration in the languages of the person.
func (v *visit) look(c authserver.Client) clientRow {
	row := clientRow{Client: c, Name: c.ID, Known: true}
	if c.Kind == authserver.ClientCIMD {
		row.DocHost = authserver.DocumentHost(c.ID)
	}
	m, err := oauth.ParseClientMetadata(c.Metadata)
	if err != nil {
		return row
	}
	if name := m.In("client_name", v.langs...); name != "" {
		row.Name = name
	}
	row.Redirects, row.Scope, row.Auth = m.RedirectURIs, m.Scope, m.AuthMethod()
	seen := map[string]bool{}
	for _, u := range m.RedirectURIs {
		if h := authserver.RedirectHost(u); !seen[h] {
			seen[h] = true
			row.Hosts = append(row.Hosts, h)
		}
	}
	return row
}

// names looks up what lists show instead of ids.
type names struct {
	users   map[string]string
	clients map[string]clientRow
}

func (v *visit) names(users, clients []string) (n names, err error) {
	ctx, st := v.r.Context(), v.s.deps.Store
	if n.users, err = st.UserNames(ctx, unique(users)); err != nil {
		return n, err
	}
	found, err := st.ClientNames(ctx, unique(clients))
	n.clients = map[string]clientRow{}
	for id, c := range found {
		n.clients[id] = v.look(c)
	}
	return n, err
}

// User is a name for an id.
func (n names) User(id string) string {
	if name := n.users[id]; name != "" {
		return name
	}
	return id
}

// Client is a client's row for an id.
func (n names) Client(id string) clientRow {
	if c, ok := n.clients[id]; ok {
		return c
	}
	return clientRow{Client: authserver.Client{ID: id}, Name: id}
}

func unique(ids []string) []string {
	seen := map[string]bool{"": true}
	var out []string
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}

// millis shows microseconds as milliseconds.
func millis(us int64) string {
	switch ms := float64(us) / 1000; {
	case us == 0:
		return "–"
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	case ms < 10_000:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	default:
		return strconv.FormatFloat(ms/1000, 'f', 1, 64) + " s"
	}
}

// whole reads a number of rows; what is none is 0.
func whole(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 1<<30 {
		return 0
	}
	return n
}

func containsFold(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}

func clipList(list []string, n int) []string { return list[:min(len(list), n)] }
