package outbound

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/kidoban/kidoban"
)

// maxFollow caps the redirects any caller may follow.
const maxFollow = 20

// Follow sends a GET or HEAD and follows at most max redirects by hand. Every
// hop is a Do of its own: judged, budgeted, numbered, recorded. When a hop
// leaves the origin, credential headers stay behind and a credential bound to
// the old origin is not sent. A body is never sent on: there is none.
//
// stop, if not nil, is asked before each hop with the absolute next URL; true
// ends the walk there without an error. The exchanges so far are always
// returned, the last one being the answer. The error is that of the failed hop,
// KindLimit for a loop or too many redirects, KindInput for a Location that
// cannot be read, KindUsage for another method or a body.
func (c *Client) Follow(ctx context.Context, r Req, max int, stop func(next string) bool) ([]*kidoban.Exchange, error) {
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead || len(r.Body) > 0 || r.Raw {
		return nil, kidoban.Errorf(kidoban.KindUsage, "only GET and HEAD without a body are followed")
	}
	var out []*kidoban.Exchange
	seen := map[string]int{r.URL: 1}
	// A site may set a cookie and send the browser back to the same URL once.
	revisits := 1
	if r.Jar != nil {
		revisits = 2
	}
	for hops := 0; ; hops++ {
		x, err := c.Do(ctx, r)
		out = append(out, x)
		if err != nil || !isRedirect(x.Status()) {
			return out, err
		}
		next, err := nextURL(r.URL, x.Response.Header)
		if next == "" || err != nil || stop != nil && stop(next) {
			return out, err
		}
		if hops >= min(max, maxFollow) {
			return out, kidoban.Errorf(kidoban.KindLimit, "more than %d redirects were given", min(max, maxFollow))
		}
		if seen[next]++; seen[next] > revisits {
			return out, kidoban.Errorf(kidoban.KindLimit, "the redirects go in a circle")
		}
		r = r.moved(next)
	}
}

// moved returns r for the next hop, without credentials if the origin changes.
func (r Req) moved(next string) Req {
	from, errFrom := Origin(r.URL)
	to, errTo := Origin(next)
	r.URL = next
	if errFrom == nil && errTo == nil && from == to {
		return r
	}
	var kept kidoban.Fields
	for _, f := range r.Header {
		if !secretHeader(f.Name) && !strings.EqualFold(f.Name, "Host") {
			kept = append(kept, f)
		}
	}
	r.Header, r.Credential, r.CredentialOrigin = kept, false, ""
	return r
}

func isRedirect(status int) bool {
	switch status {
	case 301, 302, 303, 307, 308:
		return true
	}
	return false
}

// nextURL resolves the Location field against base; "" when there is none.
// Fragments are not part of a request. Two different Locations are refused: who
// follows which one is the game of a smuggler.
func nextURL(base string, h kidoban.Fields) (string, error) {
	locs := h.Values("Location")
	if len(locs) == 0 || locs[0] == "" {
		return "", nil
	}
	for _, l := range locs[1:] {
		if l != locs[0] {
			return "", kidoban.Errorf(kidoban.KindInput, "the redirect has two different Location fields")
		}
	}
	b, err := parseURL(base)
	if err != nil {
		return "", err
	}
	ref, err := parseURL(locs[0])
	if err != nil {
		return "", kidoban.Errorf(kidoban.KindInput, "the redirect's Location is not a URL")
	}
	u := b.ResolveReference(ref)
	u.Fragment, u.RawFragment = "", ""
	return u.String(), nil
}

// HTTPClient adapts c for libraries that want an *http.Client. Every request
// becomes a Do: guarded, bounded, recorded, redirects not followed; the body is
// read whole before the call returns, so it does not serve event streams.
func (c *Client) HTTPClient() *http.Client {
	return &http.Client{
		Transport:     roundTripper{c},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type roundTripper struct{ c *Client }

// RoundTrip implements http.RoundTripper.
func (t roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	r := Req{Method: req.Method, URL: req.URL.String(), Header: fieldsOf(req.Header)}
	if req.Host != "" && req.Host != req.URL.Host {
		r.Header = append(r.Header, kidoban.Field{Name: "Host", Value: req.Host})
	}
	if req.Body != nil {
		defer req.Body.Close()
		body, err := io.ReadAll(io.LimitReader(req.Body, HardMaxBody))
		if err != nil {
			return nil, err
		}
		r.Body = body
	}
	x, err := t.c.Do(req.Context(), r)
	if err != nil {
		return nil, err
	}
	if x.Err != "" || x.Response.Truncated {
		// A library must never take half a document for a whole one.
		return nil, kidoban.Errorf(kidoban.KindLimit, "the answer of %s is cut off or larger than the bound", req.URL.Hostname())
	}
	h := make(http.Header, len(x.Response.Header))
	for _, f := range x.Response.Header {
		h.Add(f.Name, f.Value)
	}
	h.Del("Content-Encoding") // already undone
	return &http.Response{Status: http.StatusText(x.Response.Status), StatusCode: x.Response.Status, Proto: x.Response.Proto,
		ProtoMajor: 1, ProtoMinor: 1, Header: h, Body: io.NopCloser(bytes.NewReader(x.Response.Body)),
		ContentLength: int64(len(x.Response.Body)), Request: req}, nil
}
