package audit

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// probeTLS looks at the transport itself with a client that accepts anything and
// in return sends nothing but a GET without credentials: are old versions spoken,
// and, when no honest connection came about, is the certificate the reason?
func probeTLS() probe {
	return define(spec{name: "TLS", keys: []string{"E29-c"}, tier: kidoban.T1}, collectTLS, judgeTLS)
}

type handshakes struct {
	old    *kidoban.Exchange // offered TLS 1.1 at most
	any    *kidoban.Exchange // any certificate; only when the honest one failed
	honest *kidoban.Exchange
}

func collectTLS(ctx context.Context, s *session) (h handshakes) {
	f := s.facts
	if !f.TLS {
		return h
	}
	h.honest = f.Discover
	h.old = s.look(ctx, "at most TLS 1.1", tls.VersionTLS11)
	if f.Headline == kidoban.HeadlineUnreachable {
		h.any = s.look(ctx, "any certificate", 0)
	}
	return h
}

// look sends one GET over a connection whose certificate is not checked.
func (s *session) look(ctx context.Context, note string, max uint16) *kidoban.Exchange {
	r := outbound.Req{Method: http.MethodGet, URL: s.facts.URL, Probe: "E29-c", Note: note, MaxBody: 4096}
	if !s.take(s.reserve) {
		return &kidoban.Exchange{Probe: r.Probe, Note: note, Err: errBudget, ErrKind: kidoban.KindLimit}
	}
	s.pause(ctx)
	c := outbound.New(outbound.Options{Lab: s.o.Lab, RootCAs: s.o.RootCAs, Resolve: s.o.Resolve, Now: s.o.Now, Recorder: s.rec, NextID: s.ids,
		InsecureTLSProbe: true, ProbeTLSMax: max})
	defer c.Close()
	x, err := c.Do(ctx, r)
	if x == nil {
		x = &kidoban.Exchange{Probe: r.Probe, Note: note, Err: err.Error()}
	}
	return x
}

func judgeTLS(f *Facts, h handshakes) []kidoban.Result {
	const key = "E29-c"
	one := func(r kidoban.Result) []kidoban.Result { return []kidoban.Result{r} }
	switch {
	case !f.TLS:
		return one(positive(key, kidoban.Confirmed, "the server is reached without TLS", f.Discover))
	case h.any != nil && h.any.Response != nil && h.any.Response.TLS != nil && !h.any.Response.TLS.Verified:
		return one(positive(key, kidoban.Confirmed, "the certificate is not valid for this name, or its chain is not trusted", h.honest, h.any))
	case h.any != nil && h.any.Response != nil && h.any.Response.TLS != nil && h.any.Response.TLS.Version < tls.VersionTLS12,
		h.old != nil && h.old.Response != nil && h.old.Response.TLS != nil && h.old.Response.TLS.Version < tls.VersionTLS12:
		x := h.old
		if x.Response == nil {
			x = h.any
		}
		return one(positive(key, kidoban.Confirmed, "the server speaks "+tls.VersionName(x.Response.TLS.Version), x))
	case h.old == nil || h.old.Err == errBudget:
		return one(untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
	case f.Headline == kidoban.HeadlineUnreachable:
		return one(unclear(key, kidoban.ReasonNetwork, "no connection, with a valid certificate or without: "+firstLine(f.Detail), h.honest, h.any))
	}
	return one(passed(key, "the certificate is valid, and versions before TLS 1.2 are refused", h.honest, h.old))
}

// probePlainHTTP asks over http what is served over https. Nothing of worth is
// sent: a list request without credentials.
func probePlainHTTP() probe {
	return define(spec{name: "plain http", keys: []string{"E29-a"}, tier: kidoban.T1}, collectPlain, judgePlain)
}

func collectPlain(ctx context.Context, s *session) (out []*kidoban.Exchange) {
	f := s.facts
	if !f.TLS {
		return nil
	}
	r := s.build(call{Method: "tools/list", URL: plainForm(f.URL), Session: "none", Drop: []string{"Mcp-Session-Id"}})
	r.Probe, r.Note, r.AllowPlain = "E29-a", "tools/list over plain http", true
	out = append(out, s.do(ctx, r))
	if !s.thorough() {
		return out
	}
	for _, u := range []string{prmURL(f), asURL(f)} {
		if u != "" && s.left() > 0 {
			out = append(out, s.do(ctx, outbound.Req{URL: plainForm(u), Probe: "E29-a", Note: "metadata over plain http", AllowPlain: true, MaxBody: 64 << 10}))
		}
	}
	return out
}

func prmURL(f *Facts) string {
	if f.PRM == nil {
		return ""
	}
	return f.PRM.URL
}

func asURL(f *Facts) string {
	if f.AS == nil {
		return ""
	}
	return f.AS.URL
}

// plainForm is the http address beside an https one: port 80, or the same port
// where that is not the usual one.
func plainForm(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	u.Scheme = "http"
	if host, port, err := net.SplitHostPort(u.Host); err == nil && port == "443" {
		u.Host = host
	}
	return u.String()
}

func judgePlain(f *Facts, xs []*kidoban.Exchange) []kidoban.Result {
	const key = "E29-a"
	one := func(r kidoban.Result) []kidoban.Result { return []kidoban.Result{r} }
	if !f.TLS {
		return one(positive(key, kidoban.Confirmed, "the server is reached over plain http", f.Discover))
	}
	if len(xs) == 0 {
		return one(untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
	}
	redirected := false
	for i, x := range xs {
		if x.Response == nil {
			if x.Err == errBudget && i == 0 {
				return one(untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
			}
			continue
		}
		if servesPlain(x) {
			return one(positive(key, kidoban.Confirmed, "the server answers over plain http (status "+itoa(x.Status())+")", x))
		}
		if r, bad := unanswered(key, x); bad {
			return one(r)
		}
		redirected = redirected || x.Status() >= 300 && x.Status() < 400
	}
	if redirected {
		return one(passed(key, "plain http is redirected; a client that starts there has sent its first request in the clear (low)", xs[0]))
	}
	return one(passed(key, "nothing is served over plain http", xs[0]))
}

// servesPlain tells an answer of the server itself from a refusal: a redirect to
// https, a wall before the server, or the note that this port speaks TLS.
func servesPlain(x *kidoban.Exchange) bool {
	body := x.Response.Body
	switch st := x.Status(); {
	case st == 400 && bytes.Contains(bytes.ToLower(head(body, 1024)), []byte("https")):
		return false
	case st >= 300 && st < 400:
		u, err := url.Parse(x.Header("Location"))
		return err == nil && u.Scheme == "http" && isLoopbackURL(u.String()) == isLoopbackURL(x.Request.URL) && hostOf(u.String()) == hostOf(x.Request.URL)
	case st == 401 && x.Header("WWW-Authenticate") != "":
		return true
	case st >= 200 && st < 300, st == 401, st == 403, st == 400:
		return jsonObject(body) != nil || ReplyOf(x).RPC
	}
	return false
}
