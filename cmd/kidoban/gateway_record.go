package main

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// Bounds of what a recording gateway keeps.
const (
	keptBody      = 256 << 10 // bytes of a body
	keptExchanges = 50_000    // later ones pass unrecorded
)

// traffic records what passes the gateway's door, so that kidoban audit --har can
// judge it: the audit log names calls and deciders, and has no addresses, headers
// or bodies by design. What a recorder keeps is redacted; what people do with tools
// is left out but for its method and name.
type traffic struct {
	next   http.Handler
	public string // scheme and host that clients use
	to     *outbound.Recorder
	now    func() time.Time

	mu sync.Mutex // guards n
	n  int
}

func (t *traffic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	t.n++
	n := t.n
	t.mu.Unlock()
	if n > keptExchanges || r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		t.next.ServeHTTP(w, r)
		return
	}
	x := kidoban.Exchange{ID: n, Started: t.now(), Request: kidoban.Request{Method: r.Method, URL: t.public + r.URL.RequestURI(), Header: fieldsOf(r.Header)}}
	asked := &prefix{}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, asked), r.Body}
	}
	k := &keeper{ResponseWriter: w}
	t.next.ServeHTTP(k, r)
	x.Duration = t.now().Sub(x.Started)
	if k.status == 0 {
		k.status, k.header = http.StatusOK, fieldsOf(w.Header())
	}
	x.Request.Body = asked.b
	x.Response = &kidoban.Response{Status: k.status, Proto: r.Proto, Header: k.header, Body: k.body.b, Truncated: k.body.more}
	discreet(&x, r.URL.Path)
	t.to.Add(x)
}

// discreet takes away what a person asked a tool for and got from it, wherever at an
// endpoint of MCP it may stand: in a call, in the answer to a server's question, or on
// the stream on which a cut answer is fetched. The lists that a server gives to
// everybody stay, and so do states and addresses that it hands out.
func discreet(x *kidoban.Exchange, path string) {
	if path = strings.TrimSuffix(path, "/"); !strings.HasSuffix(path, "/mcp") || strings.Contains(path, "/.well-known/") {
		return
	}
	method := wire.LookupString(wire.Raw(x.Request.Body), "method")
	switch method {
	case wire.MethodInitialize, wire.MethodDiscover, wire.MethodPing, wire.MethodToolsList, wire.MethodPromptsList, wire.MethodResourcesList, wire.MethodTemplatesList, "notifications/initialized":
		return
	}
	if len(x.Request.Body) > 0 {
		ask := `{"jsonrpc":"2.0"`
		if method != "" {
			ask += `,"method":` + string(wire.Quote(method))
		}
		if id, ok := wire.Lookup(wire.Raw(x.Request.Body), "id"); ok {
			ask += `,"id":` + string(id)
		}
		x.Request.Body = []byte(ask + "}")
	}
	x.Response.Body, x.Response.Truncated = nil, true
}

// fieldsOf lists headers in the order of their names.
func fieldsOf(h http.Header) (out kidoban.Fields) {
	for name, vs := range h {
		for _, v := range vs {
			out = append(out, kidoban.Field{Name: name, Value: v})
		}
	}
	slices.SortStableFunc(out, func(a, b kidoban.Field) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// prefix keeps the first keptBody bytes written to it.
type prefix struct {
	b    []byte
	more bool
}

func (p *prefix) Write(b []byte) (int, error) {
	room := keptBody - len(p.b)
	p.more = p.more || len(b) > room
	p.b = append(p.b, b[:min(len(b), room)]...)
	return len(b), nil
}

// keeper passes an answer on and keeps its head and beginning.
type keeper struct {
	http.ResponseWriter
	status int
	header kidoban.Fields
	body   prefix
}

// Unwrap lets http.ResponseController reach the connection.
func (k *keeper) Unwrap() http.ResponseWriter { return k.ResponseWriter }

// WriteHeader keeps the final status, not the interim ones.
func (k *keeper) WriteHeader(status int) {
	if k.status == 0 && status >= 200 {
		k.status, k.header = status, fieldsOf(k.Header())
	}
	k.ResponseWriter.WriteHeader(status)
}

func (k *keeper) Write(b []byte) (int, error) {
	if k.status == 0 {
		k.status, k.header = http.StatusOK, fieldsOf(k.Header())
	}
	n, err := k.ResponseWriter.Write(b)
	_, _ = k.body.Write(b[:n]) // never fails
	return n, err
}

// record puts a recorder before the service. The caller ends it with done, which
// tells when the file could not be written.
func (s *service) record(file string) (done func() error, err error) {
	rec, err := outbound.CreateRecorder(file)
	if err != nil {
		return nil, err
	}
	t := &traffic{next: s.front, public: strings.TrimSuffix(s.conf.PublicURL, "/"), to: rec, now: time.Now}
	s.front = t
	s.log.Warn("what passes is recorded, with secrets masked and without what tools are asked and answer", "file", file, "exchanges at most", keptExchanges)
	return rec.Close, nil
}
