package audit

import (
	"context"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// Servers remembers authorization servers from one target to the next. Many
// MCP servers share one; a census asks it once and not once a target.
type Servers interface {
	// Server returns what is known about an issuer. ask asks the issuer itself;
	// an implementation calls it at most once and keeps the answer for others.
	Server(ctx context.Context, issuer string, ask func(context.Context) Known) Known
}

// Known is what one look at an authorization server found, in a form that can
// be stored. The judges read the same facts from a stored one as from a fresh one.
type Known struct {
	URL   string   `json:"url,omitempty"`  // of the document in use
	Type  string   `json:"type,omitempty"` // its Content-Type
	Body  []byte   `json:"body,omitempty"` // the document, "" when there is none
	Err   string   `json:"err,omitempty"`  // why there is none
	Tried []string `json:"tried,omitempty"`

	Upstream  string   `json:"upstream,omitempty"`  // where its authorization endpoint sends people without asking who the client is
	Delegated bool     `json:"delegated,omitempty"` // for scopes of the upstream's own
	Flaws     []string `json:"flaws,omitempty"`     // positive keys of F3, F4 and F8 seen in those requests
	Busy      bool     `json:"busy,omitempty"`      // a limit of the server's own kept us from looking
}

// maxKnownBody bounds the document that is kept; real ones are a few KiB.
const maxKnownBody = 64 << 10

// known asks through the run's memory of servers, and rebuilds the facts from
// its answer: so a fresh look and a remembered one cannot differ.
func (s *session) known(ctx context.Context, issuer string) *AS {
	k := s.o.Servers.Server(ctx, issuer, func(ctx context.Context) Known {
		as := s.askServer(ctx, issuer)
		k := Known{URL: as.URL, Err: as.Err}
		for _, d := range as.Tried {
			k.Tried = append(k.Tried, d.URL)
			k.Busy = k.Busy || d.X != nil && (d.X.Response == nil || rateLimited(d.X))
		}
		if as.Err != "" {
			return k
		}
		k.Busy, k.Type, k.Body = false, as.X.Header("Content-Type"), as.X.Response.Body
		if len(k.Body) > maxKnownBody {
			return Known{Tried: k.Tried, Err: "the metadata are larger than 64 KiB"}
		}
		s.strangerAtUpstream(ctx, as, &k)
		return k
	})
	as := &AS{Issuer: issuer, URL: k.URL, Err: k.Err, Known: &k}
	for _, u := range k.Tried {
		as.Tried = append(as.Tried, Document{Kind: kindOfPlace(u), URL: u})
	}
	if k.Err != "" {
		return as
	}
	as.X = &kidoban.Exchange{Request: kidoban.Request{Method: "GET", URL: k.URL}, Response: &kidoban.Response{Status: 200, Body: k.Body,
		Header: kidoban.Fields{{Name: "Content-Type", Value: k.Type}}}}
	as.Meta, _ = oauth.ParseMetadata(k.Body) // it was read once, else Err were set
	return as
}

// strangerAtUpstream sends authorization requests of a client that nobody
// registered. Servers that send people on to their upstream before they look at
// the client show the upstream's request so, without any state made (T1).
func (s *session) strangerAtUpstream(ctx context.Context, as *AS, k *Known) {
	f := s.facts
	was, client := f.AS, f.Client
	defer func() { f.AS, f.Client, f.L2 = was, client, nil }()
	f.AS = as
	f.Client = &Client{ID: s.word(24), RedirectURI: "http://127.0.0.1:33418/callback", Name: "kidoban"}
	if as.Meta.AuthorizationEndpoint == "" || s.left() < stateSamples {
		return
	}
	f.L2 = nil
	for range stateSamples {
		s.sample(ctx, "upstream", "a request of an unknown client", s.baseline(f.Client))
		if f.L2 == nil {
			return
		}
	}
	k.Upstream, k.Delegated = f.L2.Samples[0].Upstream, f.L2.Delegated
	results := append(judgeF3(f), judgeF8(f, upstreamEvidence{})...)
	k.Flaws = Positive(append(results, judgeF4(f, upstreamEvidence{})...))
}

// Passive judges what a look alone has shown about the metadata: E10, E11 and
// the PKCE metadata (F5-e). It sends nothing. Targets without OAuth have no results.
func Passive(f *Facts) []kidoban.Result {
	if f.PRM == nil && f.AS == nil {
		return nil
	}
	out := judgeE10(f, otherCaller{})
	if f.AS != nil {
		out = append(out, judgeE11(f, nil)...)
		out = append(out, judgePKCEMetadata(f)...)
	}
	return out
}

// Positive returns the keys of failed and weak results, in order.
func Positive(rs []kidoban.Result) []string {
	var out []string
	for _, r := range rs {
		if r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak {
			out = append(out, r.Key())
		}
	}
	return out
}

// Busy tells whether a limit or a silence of the server kept the look from
// seeing the server: another look, later, may see more.
func (f *Facts) Busy() bool {
	for _, x := range []*kidoban.Exchange{f.Discover, f.Init, f.List} {
		if x != nil && x.Response != nil && rateLimited(x) {
			return true
		}
	}
	return false
}

// RetryAfter is the longest pause that a limiting answer asks for, as it stands
// in the header; "" when none does.
func (f *Facts) RetryAfter() string {
	for _, x := range []*kidoban.Exchange{f.List, f.Init, f.Discover} {
		if x != nil && x.Response != nil && rateLimited(x) {
			if v := x.Header("Retry-After"); v != "" {
				return v
			}
		}
	}
	return ""
}
