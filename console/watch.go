package console

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
)

type alertsPage struct {
	Text  string
	Kind  kidoban.AlertKind
	Kinds []kidoban.AlertMeaning
	Rows  []kidoban.Alert
	More  more
}

// alerts lists what somebody should look at, each with what to do (G-RG8).
func (s *Server) alerts(v *visit) (any, error) {
	q := AlertQuery{Query: v.ask()}
	p := alertsPage{Text: q.Text, Kinds: kidoban.AlertKinds()}
	for _, k := range p.Kinds {
		if string(k.Kind) == v.query.Get("kind") {
			q.Kind, p.Kind = k.Kind, k.Kind
		}
	}
	page, err := s.deps.Store.PageAlerts(v.r.Context(), q)
	p.Rows, p.More = page.Rows, morePages(v, page)
	return p, err
}

type logPage struct {
	Ask    JournalQuery
	UserIs string // as asked for
	Rows   []JournalEntry
	Names  names
	More   more
	Export string
	Fields []logField
	From   string
	To     string
}

// logField is one field of the search form.
type logField struct{ Name, Value string }

// askLog reads the search of the audit log. ok is false when it names a user that
// there is not.
func (s *Server) askLog(v *visit) (q JournalQuery, ok bool, err error) {
	q = JournalQuery{Query: v.ask(), Request: v.text("request"), User: v.text("user"), Client: v.text("client"), Server: v.text("server"), Other: v.query.Get("other") != "",
		From: readDay(v.query.Get("from")), To: readDay(v.query.Get("to"))}
	q.Look = lookLog
	if !q.To.IsZero() {
		q.To = q.To.Add(24 * time.Hour) // the day itself
	}
	if q.User == "" || strings.HasPrefix(q.User, "u_") {
		return q, true, nil
	}
	u, err := s.deps.Store.UserByName(v.r.Context(), q.User)
	if err != nil && kidoban.KindOf(err) == kidoban.KindNotFound {
		return q, false, nil
	}
	q.User = u.ID
	return q, true, err
}

func readDay(s string) time.Time {
	t, err := time.Parse("2006-01-02", s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// log searches the audit log.
func (s *Server) log(v *visit) (any, error) {
	q, ok, err := s.askLog(v)
	if err != nil {
		return nil, err
	}
	p := logPage{Ask: q, UserIs: v.text("user"), From: v.text("from"), To: v.text("to")}
	p.Fields = []logField{{"user", p.UserIs}, {"client", q.Client}, {"server", q.Server}, {"request", q.Request}}
	p.Export = s.Path() + "/log.jsonl"
	if e := v.r.URL.Query(); len(e) > 0 {
		e.Del("after")
		e.Del("lang")
		e.Del("done")
		p.Export += "?" + e.Encode()
	}
	if !ok {
		return p, nil
	}
	page, err := s.deps.Store.PageJournal(v.r.Context(), q)
	if err != nil {
		return nil, err
	}
	p.Rows, p.More = page.Rows, morePages(v, page)
	var users, clients []string
	for _, e := range p.Rows {
		users, clients = append(users, e.Record.User), append(clients, e.Record.Client)
	}
	p.Names, err = v.names(users, clients)
	return p, err
}

const (
	exportRows = 1000
	// exportWait is how long a browser may take for one piece of an export.
	exportWait = 30 * time.Second
)

// exportLine is an entry as it is exported: the record, and what proves its place.
type exportLine struct {
	Chain  string          `json:"chain"`
	Seq    int64           `json:"seq"`
	Hash   []byte          `json:"hash"`
	Record json.RawMessage `json:"record"`
}

// export writes what the search finds, newest first, as JSON lines. It goes on
// until the end of the log or of the browser's patience; who exports is recorded.
func (s *Server) export(v *visit) error {
	q, ok, err := s.askLog(v)
	if err != nil {
		return err
	}
	v.record("ok", "", clip("export "+v.r.URL.RawQuery, maxShown))
	h := v.w.Header()
	h.Set("Content-Type", "application/jsonl; charset=utf-8")
	h.Set("Content-Disposition", `attachment; filename="kidoban-audit.jsonl"`)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	if !ok || v.r.Method == http.MethodHead {
		return nil
	}
	q.Limit, q.Look = exportRows, 10*exportRows
	out := http.NewResponseController(v.w)
	for {
		page, err := s.deps.Store.PageJournal(v.r.Context(), q)
		if err == nil {
			_ = out.SetWriteDeadline(time.Now().Add(exportWait)) // not every writer can; the server has bounds of its own
			err = writeLines(v.w, page.Rows)
		}
		if err == nil && !page.Next.At.IsZero() {
			q.After = page.Next
			continue
		}
		if err != nil { // the status is out: a file that ends early must not pass for a whole one
			s.deps.Log.Warn("export of the audit log broke off", "request", v.id, "error", err)
			panic(http.ErrAbortHandler)
		}
		return nil
	}
}

func writeLines(w io.Writer, rows []JournalEntry) error {
	for _, e := range rows {
		line, err := json.Marshal(exportLine{e.Chain, e.Seq, e.Hash, e.Body})
		if err == nil {
			_, err = w.Write(append(line, '\n'))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Query writes a search of the log as an address.
func (p logPage) Query(name, value string) string {
	return "?" + url.Values{name: {value}}.Encode()
}
