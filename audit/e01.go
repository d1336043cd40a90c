package audit

import (
	"strings"

	"github.com/kidoban/kidoban"
)

// judgeE01a decides whether the browser goes to the upstream before anybody has
// asked about this client. Only a login proves the rest (E01-b).
func judgeE01a(f *Facts) kidoban.Result {
	const key = "E01-a"
	b := f.Base
	if b.Kind != Upstream {
		l := f.L2.Samples[0]
		return unclear(key, kidoban.ReasonUnstable, "the valid request ends elsewhere than another one did", l.Trail.Last())
	}
	if b.Consents {
		return passed(key, "the server asks about the client before it goes upstream", b.Last())
	}
	clients := map[string]bool{}
	static := true
	xs := []*kidoban.Exchange{}
	for _, l := range f.L2.Samples {
		clients[l.sent.Params.get("client_id")] = true
		static = static && l.ClientID == f.L2.Samples[0].ClientID
		if len(xs) < 3 {
			xs = append(xs, l.Trail.Last())
		}
	}
	fact := "the browser is sent to " + hostOf(f.L2.Samples[0].Upstream) + " without any page that asks about this client"
	if static && len(clients) > 1 {
		fact += "; two clients share one upstream client_id"
	}
	return positive(key, kidoban.Likely, fact, xs...)
}

// judgeE02a decides whether the callback takes an answer from a browser that
// never started the flow.
func judgeE02a(f *Facts, ev upstreamEvidence) kidoban.Result {
	const key = "E02-a"
	if ev.control == nil || ev.empty == nil {
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	for _, t := range []*Trail{ev.control, ev.empty} {
		if r, ok := blocked(key, t); !ok {
			return r
		}
	}
	xs := []*kidoban.Exchange{ev.control.Last(), ev.empty.Last()}
	switch {
	case ev.control.Kind == CallbackError && ev.empty.Kind == CallbackError && ev.codeBound():
		r := positive(key, kidoban.Signal, "a refusal by the upstream goes on to the client from a browser that did not start the flow; a code does not", append(xs, ev.codeHere.Last(), ev.codeThere.Last())...)
		r.Outcome, r.Severity = kidoban.Weak, kidoban.Low
		return r
	case ev.control.Kind == CallbackError && ev.empty.Kind == CallbackError:
		return positive(key, kidoban.Likely, "an empty browser with the state of another one is taken for it: the answer goes on to the client", xs...)
	case ev.control.Kind == CallbackError:
		return passed(key, "a browser that did not start the flow is refused", xs...)
	case ev.control.Signature() == ev.empty.Signature():
		return unclear(key, kidoban.ReasonDeferred, "the callback answers alike in both browsers", xs...)
	}
	return passed(key, "a browser that did not start the flow is treated differently", xs...)
}

// codeBound tells whether a code, unlike a refusal, is looked at in the browser that
// started the flow only: there a made-up one gets as far as the upstream.
func (ev *upstreamEvidence) codeBound() bool {
	if ev.codeHere == nil || ev.codeThere == nil {
		return false
	}
	// Here the made-up code may well end in a 500, from the exchange with the upstream.
	if x := ev.codeHere.Last(); x == nil || x.Response == nil || rateLimited(x) || challenged(x) {
		return false
	}
	if _, ok := blocked("E02-a", ev.codeThere); !ok {
		return false
	}
	return ev.codeThere.Kind == ErrorPage && ev.codeThere.Last().Status() < 500 && ev.codeHere.Signature() != ev.codeThere.Signature()
}

// strangers are cookies of content networks and load balancers, which bind
// nothing.
var strangers = []string{"__cf_bm", "_cfuvid", "cf_clearance", "awsalb", "awsalbcors", "arraffinity", "incap_ses", "visid_incap", "ak_bmsc", "bm_sv", "gclb"}

// judgeE02c reads the cookies that the server sets before it goes upstream.
func judgeE02c(f *Facts) kidoban.Result {
	const key = "E02-c"
	l := f.L2.Samples[0]
	x := l.Trail.Last()
	own, faults := 0, []string{}
	for _, raw := range l.Trail.Cookies {
		name, lacks := cookieFaults(raw, f.TLS)
		if name == "" {
			continue
		}
		own++
		if len(lacks) > 0 {
			faults = append(faults, name+" lacks "+strings.Join(lacks, ", "))
		}
	}
	switch {
	case own == 0 && l.Trail.Browser:
		return unclear(key, kidoban.ReasonNeedsUI, "a real browser went to the upstream, and does not tell what cookies were set on the way", x)
	case own == 0:
		return positive(key, kidoban.Signal, "no cookie binds the transaction to the browser before it goes upstream", x)
	case len(faults) > 0:
		return positive(key, kidoban.Signal, "a transaction cookie is weak: "+strings.Join(faults, "; "), x)
	}
	return passed(key, "the transaction cookie is bound to its host and closed to scripts", x)
}

// cookieFaults returns a Set-Cookie's name and the attributes it lacks. The
// __Host- prefix alone is no fault: the attributes do its work.
func cookieFaults(raw string, tls bool) (name string, lacks []string) {
	parts := strings.Split(raw, ";")
	name, value, _ := strings.Cut(strings.TrimSpace(parts[0]), "=")
	low := strings.ToLower(name)
	for _, s := range strangers {
		if strings.HasPrefix(low, s) {
			return "", nil
		}
	}
	if value == "" {
		return "", nil // a deletion
	}
	has := map[string]bool{}
	for _, p := range parts[1:] {
		k, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(p)), "=")
		has[k] = true
	}
	if tls && !has["secure"] {
		lacks = append(lacks, "Secure")
	}
	if !has["httponly"] {
		lacks = append(lacks, "HttpOnly")
	}
	if !has["samesite"] {
		lacks = append(lacks, "SameSite")
	}
	if len(name) > 64 {
		name = name[:64]
	}
	return name, lacks
}
