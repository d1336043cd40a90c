package outbound

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban"
)

// Req is one request.
type Req struct {
	Method string // "" = GET
	URL    string // absolute
	Header kidoban.Fields
	Body   []byte
	Jar    *Jar   // nil = no cookies
	Probe  string // copied into the Exchange
	Note   string // copied into the Exchange

	// Raw writes the request with our own HTTP/1.1 writer on a connection of its
	// own: Header goes out verbatim in order and nothing is added, so Host,
	// Content-Length and User-Agent are the caller's; Target is the request
	// target as is ("" = that of URL). URL says where to connect, and there alone
	// IPv4 may stand in any notation. Line breaks and NUL are refused.
	Raw    bool
	Target string

	MaxBody int64         // 0 = the client's; never above HardMaxBody
	Timeout time.Duration // 0 = the client's; never above HardTimeout

	// Stream is called in Do's goroutine with decoded bytes as they arrive, for
	// event streams; the chunk is only valid during the call. false ends the
	// exchange cleanly. The bytes are kept in the Exchange too, up to MaxBody,
	// where the exchange ends truncated.
	Stream func(chunk []byte) (more bool)

	// AllowPlain lets this one request use http to a public host (E29). It never
	// carries Authorization, cookies, key headers, or anything marked Credential.
	AllowPlain bool

	// Credential marks a request whose body or query holds a credential that
	// the header does not show. CredentialOrigin is the origin the credential was
	// issued for (a URL of that origin will do): when set, a request to another
	// origin that carries a credential is refused.
	Credential       bool
	CredentialOrigin string
}

// Do sends one request and never follows a redirect. It always returns the
// Exchange, numbered from 1 and recorded. The error is nil as soon as a whole
// response head arrived; what then happened to the body stands in Exchange.Err
// and Response.Truncated. Otherwise it is a *kidoban.Error:
//
//   - KindRefused: the guard, the URL rules or the credential rule said no; nothing was sent.
//   - KindLimit: a budget was spent (nothing was sent), or the header's size or the time was exceeded.
//   - KindUnreachable: no address, no connection, no TLS, no HTTP.
//   - KindUsage: the request contradicts itself, or the client is closed.
func (c *Client) Do(ctx context.Context, r Req) (*kidoban.Exchange, error) {
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	id, err := c.enter()
	x := &kidoban.Exchange{ID: id, Probe: r.Probe, Note: r.Note, Jar: r.Jar.name(), Started: c.o.Now(),
		Request: kidoban.Request{Method: r.Method, URL: r.URL, Target: r.Target, Header: slices.Clone(r.Header), Body: r.Body}}
	if err == nil {
		defer c.inflight.Done()
		err = c.exchange(ctx, r, x)
	}
	x.Duration = c.o.Now().Sub(x.Started)
	if err != nil {
		x.Err, x.ErrKind = err.Error(), kidoban.KindOf(err)
		x.Sentence, x.Cause = told(err)
	}
	c.o.Recorder.Add(*x)
	if x.Response != nil {
		return x, nil
	}
	return x, err
}

// exchange checks r, waits for its turn and performs it. It fills x.Response
// when a head arrived, and returns why the exchange is not whole.
func (c *Client) exchange(parent context.Context, r Req, x *kidoban.Exchange) error {
	u, err := parseURL(r.URL)
	if err != nil {
		return err
	}
	if err := c.guard.checkParsed(u, r.AllowPlain, r.Raw); err != nil {
		return err
	}
	if err := c.checkCredential(r, u); err != nil {
		return err
	}
	limit := c.o.Timeout
	if r.Timeout > 0 {
		limit = min(r.Timeout, HardTimeout)
	}
	if limit, err = c.patience(u, limit); err != nil {
		return err
	}
	parent, stop := context.WithCancel(parent)
	defer stop()
	defer context.AfterFunc(c.base, stop)() // Close ends the exchange
	if c.o.Admit != nil {
		_, name := hostKey(u)
		release, err := c.o.Admit(parent, name)
		if err != nil {
			return err
		}
		done := sync.OnceFunc(release)
		defer done()
		if read := r.Stream; read != nil { // others may ask while a stream is open
			r.Stream = func(chunk []byte) bool { done(); return read(chunk) }
		}
	}
	if err := c.admit(parent, u); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	p, late := progress{limit: limit, host: u.Hostname()}, c.o.Late()
	if r.Raw {
		err = c.raw(ctx, r, u, x, &p)
	} else {
		err = c.plain(ctx, r, u, x, &p)
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && parent.Err() == nil {
		c.timedOut(u, limit-(c.o.Late()-late))
	}
	return p.explain(err, parent.Err(), ctx.Err())
}

// bodyLimit returns the decoded bytes to keep of r's response.
func (c *Client) bodyLimit(r Req) int64 {
	if r.MaxBody > 0 {
		return min(r.MaxBody, HardMaxBody)
	}
	return c.o.MaxBody
}

// plain performs the exchange with net/http: HTTP/2 or HTTP/1.1, pooled.
func (c *Client) plain(ctx context.Context, r Req, u *url.URL, x *kidoban.Exchange, p *progress) error {
	var addr atomic.Value
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		p.connected.Store(true)
		addr.Store(i.Conn.RemoteAddr().String())
	}})
	req, err := c.build(ctx, r, u, x)
	if err != nil {
		return err
	}
	t := c.secure
	switch {
	case u.Scheme == "http" && r.AllowPlain:
		t = c.open
	case u.Scheme == "http":
		t = c.loop
	}
	// RoundTrip, not http.Client: no redirects, no cookies, no surprises.
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out := &kidoban.Response{Status: resp.StatusCode, Proto: resp.Proto, Header: fieldsOf(resp.Header), TLS: c.tlsInfo(resp.TLS, u.Hostname())}
	out.Addr, _ = addr.Load().(string)
	x.Response = out
	r.Jar.learn(u, out.Header, c.o.Now())
	out.Body, out.Truncated, err = readBody(resp.Body, resp.Header.Get("Content-Encoding"), c.bodyLimit(r), r.Stream)
	return err
}

// build makes the http.Request and writes what will be sent into x.
func (c *Client) build(ctx context.Context, r Req, u *url.URL, x *kidoban.Exchange) (*http.Request, error) {
	clean := *u
	clean.Fragment, clean.RawFragment = "", ""
	req, err := http.NewRequestWithContext(ctx, r.Method, "https://placeholder.invalid/", bytes.NewReader(r.Body))
	if err != nil {
		return nil, kidoban.Errorf(kidoban.KindUsage, "the request's method is not a token")
	}
	if len(r.Body) == 0 {
		req.Body, req.GetBody, req.ContentLength = nil, nil, 0
	}
	req.URL, req.Host = &clean, clean.Host
	fields := slices.Clone(r.Header)
	if cookie := r.Jar.header(u, c.o.Now()); cookie != "" {
		if own := fields.Get("Cookie"); own != "" {
			cookie = own + "; " + cookie
		}
		fields = fields.Set("Cookie", cookie)
	}
	for _, d := range []kidoban.Field{{Name: "User-Agent", Value: c.o.UserAgent}, {Name: "Accept-Encoding", Value: "gzip"}} {
		if len(fields.Values(d.Name)) == 0 {
			fields = append(fields, d)
		}
	}
	x.Request.Header = fields
	for _, f := range fields {
		switch strings.ToLower(f.Name) {
		case "host":
			req.Host = f.Value
		case "content-length", "transfer-encoding": // framing is the transport's; Raw is for lies
		case "connection":
			req.Close = req.Close || strings.EqualFold(f.Value, "close")
		default:
			req.Header.Add(f.Name, f.Value)
		}
	}
	return req, nil
}

// fieldsOf returns h sorted by name; values of one name keep their wire order.
// (The order among names is lost in net/http. Raw keeps it.)
func fieldsOf(h http.Header) kidoban.Fields {
	names := make([]string, 0, len(h))
	for n := range h {
		names = append(names, n)
	}
	slices.Sort(names)
	out := make(kidoban.Fields, 0, len(h))
	for _, n := range names {
		for _, v := range h[n] {
			out = append(out, kidoban.Field{Name: n, Value: v})
		}
	}
	return out
}
