package gateway

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net/http"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// discoverParams is what a modern request of our own carries.
func discoverParams() wire.Raw {
	meta := wire.SetMember(wire.Raw("{}"), wire.MetaProtocolVersion, wire.Quote(wire.LatestModern))
	meta = wire.SetMember(meta, wire.MetaClientInfo, clientInfo())
	meta = wire.SetMember(meta, wire.MetaClientCapabilities, wire.Raw("{}"))
	return wire.SetMember(wire.Raw("{}"), "_meta", meta)
}

func clientInfo() wire.Raw {
	return wire.Raw(`{"name":"kidoban","version":"` + kidoban.Version + `"}`)
}

// probe finds out whether a server speaks the modern era, by asking what every
// modern server answers (mcp-authorization 3.8, 2). The answer is believed for
// ten minutes.
func (g *Gateway) probe(c *call) (modern bool, refusal *Refusal) {
	st, s := c.st, c.server
	account, refusal := g.credential(c.r.Context(), c, false)
	if refusal != nil {
		return false, refusal
	}
	if ok, retry := s.breaker.enter(g.deps.Now(), c.Caller.User); !ok {
		return false, leftAlone(s.Name, retry)
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), s.Wait)
	defer cancel()
	body := wire.AppendRequest(nil, wire.StringID("kidoban-probe"), wire.MethodDiscover, discoverParams())
	req := (&http.Request{Method: http.MethodPost, URL: s.url, Host: s.url.Host, Header: http.Header{}, ContentLength: int64(len(body)),
		Body: io.NopCloser(bytes.NewReader(body))}).WithContext(ctx)
	p := wire.Params{ProtocolVersion: wire.LatestModern}
	for _, f := range wire.MirrorHeaders(wire.MethodDiscover, p, nil) {
		req.Header.Set(f.Name, f.Value)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("User-Agent", userAgent)
	for _, f := range s.Header {
		req.Header.Set(f.Name, f.Value)
	}
	for _, f := range account {
		req.Header.Set(f.Name, f.Value)
	}
	resp, err := s.http.RoundTrip(req)
	s.breaker.done(g.deps.Now(), c.Caller.User, err != nil, c.r.Context().Err() != nil)
	if err != nil {
		return false, refuse(http.StatusBadGateway, wire.CodeInternal, "upstream:unreachable", "The server "+s.Name+" cannot be reached.").because(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode >= 500 {
		return true, nil // not an answer to the question; the call itself will tell
	}
	modern = g.looksModern(st, s, resp)
	s.eras.learn(g.deps.Now(), modern, true)
	return modern, nil
}

// looksModern reads the answer to server/discover.
func (g *Gateway) looksModern(st *state, s *server, resp *http.Response) bool {
	in := &hoarder{r: resp.Body, s: s}
	defer in.rest()
	raw, err := in.whole(1<<20, resp.ContentLength)
	if err != nil {
		return false
	}
	defer g.rooms.Give(raw)
	if mt, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); mt == "text/event-stream" {
		ev, err := wire.NewEventReader(bytes.NewReader(raw), len(raw)+1).Next()
		if err != nil {
			return false
		}
		raw = ev.Data
	}
	m, err := st.answers.Read(raw)
	if err != nil {
		return false
	}
	if m.Kind == wire.Result {
		versions, _ := wire.Lookup(m.Result, "supportedVersions")
		return listsModern(versions) // a legacy server may know the question, too
	}
	return g.modernOnly(m) || resp.StatusCode == http.StatusNotFound && errorCode(m) == wire.CodeMethodNotFound
}

// modernOnly tells whether an error reply shows a server of the modern era. One
// that knows the code but lists no modern version among those it supports is
// legacy all the same.
func (g *Gateway) modernOnly(m wire.Message) bool {
	code := errorCode(m)
	if m.Kind != wire.ErrorReply || !wire.IsModernCode(code) {
		return false
	}
	supported, _ := wire.Lookup(m.Error, "data", "supported")
	return code != wire.CodeUnsupportedVersion || listsModern(supported)
}

// listsModern tells whether a modern version that we know is in the list.
func listsModern(versions wire.Raw) bool {
	modern := false
	wire.Elements(versions, func(v wire.Raw) bool {
		text, _ := wire.String(v)
		era, known := wire.EraOf(text)
		modern = modern || known && era == wire.Modern
		return !modern
	})
	return modern
}

func errorCode(m wire.Message) int64 {
	v, _ := wire.Lookup(m.Error, "code")
	n, _ := wire.Int(v)
	return n
}
