package kidoban

import (
	"net/textproto"
	"strings"
	"time"
)

// Field is one header field as it stood on the wire: the name's case and the
// order among its fellows are kept, so that duplicates stay visible.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Fields is a header in wire order.
type Fields []Field

// Get returns the first value of name (case-insensitive), or "".
func (f Fields) Get(name string) string {
	for _, h := range f {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// Values returns all values of name in wire order (case-insensitive).
func (f Fields) Values(name string) []string {
	var out []string
	for _, h := range f {
		if strings.EqualFold(h.Name, name) {
			out = append(out, h.Value)
		}
	}
	return out
}

// Set replaces all values of name by one, keeping the place of the first.
func (f Fields) Set(name, value string) Fields {
	out := make(Fields, 0, len(f)+1)
	done := false
	for _, h := range f {
		if strings.EqualFold(h.Name, name) {
			if !done {
				out = append(out, Field{textproto.CanonicalMIMEHeaderKey(name), value})
				done = true
			}
			continue
		}
		out = append(out, h)
	}
	if !done {
		out = append(out, Field{textproto.CanonicalMIMEHeaderKey(name), value})
	}
	return out
}

// Exchange is one request and what came back: the unit of evidence. Collection
// produces exchanges; judges read them and do nothing else. In memory an
// exchange is complete, secrets included; what is written to a file or shown in
// a report is its redacted copy (package outbound).
type Exchange struct {
	ID       int           // number in the run, from 1; reports print it as #12
	Probe    string        // key of the check that asked for it ("F5-a"), "discover", "baseline", …
	Note     string        // what this request is in the probe: "control", "mutation 1", "negative control"
	Jar      string        // name of the cookie jar; "" means none
	Started  time.Time     // from the run's clock
	Duration time.Duration // until the last byte or the failure
	Request  Request
	Response *Response // nil when no response head arrived
	Err      string    // why there is no (whole) response; empty on success
	ErrKind  Kind      // kind of Err
	Sentence string    // what Err says to the person in front: without the cause
	Cause    string    // what the system said, without local ports; "" where Sentence says all
}

// Request is what was sent.
type Request struct {
	Method string
	URL    string // absolute; for raw request lines the URL that was meant
	Target string // the request target as sent, when it differs from URL's
	Header Fields
	Body   []byte
}

// Response is what came back.
type Response struct {
	Status    int
	Proto     string // "HTTP/1.1", "HTTP/2.0"
	Header    Fields
	Body      []byte // decoded from Content-Encoding, at most the run's bound
	Truncated bool   // the body was longer than the bound
	Addr      string // address that was dialled, ip:port
	TLS       *TLSInfo
}

// TLSInfo is what the audit keeps of a TLS connection.
type TLSInfo struct {
	Version  uint16 // crypto/tls constant
	SPKI     string // SHA-256 of the leaf's SubjectPublicKeyInfo, hex
	Verified bool   // the chain and the name were accepted
}

// Status returns the response's status, or 0 without a response.
func (x *Exchange) Status() int {
	if x == nil || x.Response == nil {
		return 0
	}
	return x.Response.Status
}

// Header returns the first response header value of name, or "".
func (x *Exchange) Header(name string) string {
	if x == nil || x.Response == nil {
		return ""
	}
	return x.Response.Header.Get(name)
}
