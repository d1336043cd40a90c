package outbound

import (
	"bytes"
	"io"
	"net/http"

	"github.com/kidoban/kidoban"
)

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
