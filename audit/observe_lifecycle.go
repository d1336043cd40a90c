package audit

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// judgeFlows judges the authorizations that clients made: what the server let
// through (F2, F5, F7), how it answered (F6, F8, E12, E28) and what it sent on
// to its upstream (F3, F4, F8, E01, E02).
func (t *traffic) judgeFlows() (out []kidoban.Result) {
	f := t.f
	if len(t.flows) == 0 {
		return nil
	}
	out = append(out, t.judgeInteraction())
	out = append(out, t.judgeStates(), t.judgeUnknownClient())
	out = append(out, t.judgePKCE()...)
	out = append(out, t.judgeRedirects()...)
	out = append(out, t.judgeResponses()...)
	out = append(out, t.judgePages()...)
	out = append(out, t.judgeConsentPages()...)
	if a := t.answered(); a != nil && t.asDoc {
		g := *f
		g.Base = a // what stood before the answer does not matter once it came
		out = append(out, judgeE12(&g, a)...)
	}
	if f.L2 == nil {
		if t.answered() == nil {
			return out
		}
		for _, k := range []string{"F3-a", "F3-b", "F4-0", "F8-a", "F8-b", "F8-e", "E01-a", "E02-c"} {
			out = append(out, absent(k, "the recorded logins went to no upstream", t.flows[0].x))
		}
		return out
	}
	for _, r := range append(append(judgeF3(f), judgeF4(f, upstreamEvidence{})...), judgeF8(f, upstreamEvidence{})...) {
		if check(r.Key()).Passive {
			out = append(out, r)
		}
	}
	g := *f
	g.Base = f.L2.Samples[0].Trail // a login page may have come before it
	return append(out, judgeE01a(&g), judgeE02c(f))
}

// answered is the first authorization response.
func (t *traffic) answered() *Trail {
	for _, fl := range t.flows {
		if fl.answer != nil && (fl.answer.Params.Get("code") != "" || fl.answer.Params.Get("error") != "") && t.ofServer(fl.callback) {
			return fl.answer
		}
	}
	return nil
}

// judgeInteraction is F6-A. A browser that brought a cookie may have been logged
// in before; then a code without a page proves nothing.
func (t *traffic) judgeInteraction() kidoban.Result {
	const key = "F6-A"
	for _, fl := range t.flows {
		if fl.trail.Kind != CallbackCode || len(fl.trail.Exchanges) == 0 {
			continue
		}
		if fl.x.Request.Header.Get("Cookie") == "" {
			return judgeF6A(fl.trail)
		}
	}
	if t.f.Base.Kind == CallbackCode || t.f.Base.Kind == Other {
		return notShown(key)
	}
	return judgeF6A(t.f.Base)
}

// judgeStates is F8-d over all flows. An answer that was bound by its state is
// unchanged by construction; one bound otherwise is compared.
func (t *traffic) judgeStates() kidoban.Result {
	out := notShown("F8-d")
	for _, fl := range t.flows {
		sent := fl.params.Get("state")
		if fl.answer == nil || sent == "" || !t.ofServer(fl.callback) {
			continue
		}
		switch got := fl.answer.Params.Get("state"); {
		case got == sent:
			out = passed("F8-d", "the client's state comes back unchanged", fl.callback)
		case got == "":
			return positive("F8-d", kidoban.Confirmed, "the client's state does not come back", fl.callback)
		default:
			return positive("F8-d", kidoban.Confirmed, "the client's state comes back altered", fl.callback)
		}
	}
	return out
}

// judgeUnknownClient is the signal of F2: clients that were never registered get
// as far as a code. One such client may be known from before; two, beside
// registrations that the recording shows, hardly.
func (t *traffic) judgeUnknownClient() kidoban.Result {
	const key = "F2-a"
	if len(t.f.registered) == 0 {
		return notShown(key)
	}
	ids := map[string]bool{}
	var xs []*kidoban.Exchange
	for _, fl := range t.flows {
		id := fl.params.Get("client_id")
		if t.client(id) == nil && !strings.HasPrefix(id, "https://") && fl.answer != nil && fl.answer.Kind == CallbackCode && !ids[id] {
			ids[id] = true
			xs = append(xs, fl.x)
		}
	}
	if len(ids) < 2 {
		return notShown(key)
	}
	return positive(key, kidoban.Signal, itoa(len(ids))+" clients that were never registered got codes", xs...)
}

// judgePKCE is F5 as observed: what counts is that a code came, and that it was
// redeemed.
func (t *traffic) judgePKCE() []kidoban.Result {
	a, b, c, f := notShown("F5-a"), notShown("F5-b"), notShown("F5-c"), notShown("F5-f")
	for _, fl := range t.flows {
		ch, method := fl.params.Get("code_challenge"), fl.params.Get("code_challenge_method")
		if fl.token != nil && ch != "" {
			p := paramsOf(fl.token)
			if p.Get("code_verifier") == "" {
				f = positive("F5-f", kidoban.Confirmed, "a code that was asked for with a challenge was redeemed without the verifier", fl.x, fl.token)
			} else if f.Outcome != kidoban.Fail {
				f = untested("F5-f", kidoban.ReasonLogin, "")
			}
		}
		if !fl.coded() {
			continue
		}
		xs := []*kidoban.Exchange{fl.x}
		if fl.callback != nil {
			xs = append(xs, fl.callback)
		}
		if fl.token != nil {
			xs = append(xs, fl.token)
		}
		confidential := false
		if cl := t.client(fl.params.Get("client_id")); cl != nil && cl.Secret != "" {
			confidential = true
		}
		var r kidoban.Result
		switch {
		case ch == "" && fl.hidden():
			continue // a signed request that cannot be read
		case ch == "":
			r = positive("F5-a", kidoban.Likely, "a request without code_challenge got a code", xs...)
		case method == "plain":
			r = positive("F5-b", kidoban.Likely, "a request with a plain code_challenge got a code", xs...)
		case method == "":
			r = positive("F5-c", kidoban.Likely, "a request with a code_challenge and no method got a code", xs...)
		default:
			continue
		}
		if confidential {
			r.Severity = kidoban.Info
		}
		switch r.Key() {
		case "F5-a":
			a = r
		case "F5-b":
			b = r
		default:
			c = r
		}
	}
	return []kidoban.Result{a, b, c, f}
}

// coded tells whether the flow ended with a code.
func (fl *flow) coded() bool {
	return fl.answer != nil && fl.answer.Params.Get("code") != "" || fl.token != nil
}

// hidden tells a request whose parameters travelled otherwise.
func (fl *flow) hidden() bool {
	return !fl.pushed && (fl.params.Get("request_uri") != "" || fl.params.Get("request") != "")
}

// judgeRedirects is F7 as observed: a code at an address that the client did not
// register. The port of a loopback redirect may differ (RFC 8252 §7.3). A server
// that takes foreign hosts takes everything; the narrower findings are part of it.
func (t *traffic) judgeRedirects() []kidoban.Result {
	one, two, alias := notShown("F7-1"), notShown("F7-2"), notShown("F7-11")
	for _, fl := range t.flows {
		c := t.client(fl.params.Get("client_id"))
		to := fl.params.Get("redirect_uri")
		if c == nil || to == "" || len(c.Redirects) == 0 || fl.answer == nil || fl.answer.Kind != CallbackCode {
			continue
		}
		if slices.ContainsFunc(c.Redirects, func(r string) bool { return oauth.MatchRedirect(r, to) }) {
			continue
		}
		under := slices.ContainsFunc(c.Redirects, func(r string) bool {
			return sameOrigin(r, to) && strings.HasPrefix(to, strings.TrimRight(r, "/")+"/")
		})
		same := slices.ContainsFunc(c.Redirects, func(r string) bool { return sameOrigin(r, to) })
		switch {
		case under:
			two = positive("F7-2", kidoban.Confirmed, "a code went to a path below the registered redirect URI", c.X, fl.callback)
		case slices.ContainsFunc(c.Redirects, func(r string) bool { return otherSpelling(r, to) }):
			alias = positive("F7-11", kidoban.Confirmed, "a code went to another spelling of the registered loopback host", c.X, fl.callback)
		case !same:
			one = positive("F7-1", kidoban.Confirmed, "a code went to a host that the client never registered", c.X, fl.callback)
		}
	}
	if one.Outcome == kidoban.Fail {
		two, alias = notShown("F7-2"), notShown("F7-11")
	}
	return []kidoban.Result{one, two, alias}
}

// otherSpelling tells two loopback addresses that differ in how the host is
// written, and in the port at most.
func otherSpelling(a, b string) bool {
	u, err := url.Parse(a)
	v, err2 := url.Parse(b)
	return err == nil && err2 == nil && u.Scheme == v.Scheme && u.RequestURI() == v.RequestURI() && u.Hostname() != v.Hostname() &&
		isLoopbackURL(a) && (isLoopbackURL(b) || numericLoopback(v.Hostname()))
}

// numericLoopback tells spellings of 127.0.0.1 that browsers read as such and Go
// does not: one number, hexadecimal or octal parts, parts left out (WHATWG URL
// §4.5.3, the host parser).
func numericLoopback(host string) bool {
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return false
	}
	var ip uint64
	for i, p := range parts {
		n, err := strconv.ParseUint(octal(p), 0, 32)
		if err != nil {
			return false
		}
		last := i == len(parts)-1
		switch {
		case last:
			if n >= 1<<(8*(4-i)) {
				return false
			}
			ip |= n
		case n > 255:
			return false
		default:
			ip |= n << (24 - 8*i)
		}
	}
	return ip>>24 == 127
}

// octal writes a leading zero as Go reads it.
func octal(s string) string {
	if len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '7' {
		return "0o" + s[1:]
	}
	return s
}

// judgeResponses is E26 as observed.
func (t *traffic) judgeResponses() []kidoban.Result {
	token, hybrid := notShown("E26-a"), notShown("E26-b")
	for _, fl := range t.flows {
		rt := strings.Fields(fl.params.Get("response_type"))
		if fl.answer == nil || fl.answer.Params.Get("access_token") == "" && fl.answer.Params.Get("id_token") == "" {
			continue
		}
		if slices.Contains(rt, "code") {
			hybrid = positive("E26-b", kidoban.Likely, "a hybrid response type was answered with a token in the address", fl.x, fl.callback)
		} else {
			token = positive("E26-a", kidoban.Likely, "response_type=token was answered with a token in the address", fl.x, fl.callback)
		}
	}
	return []kidoban.Result{token, hybrid}
}

// judgePages is E28 on the login and consent pages that were shown, and the
// status that their forms were answered with.
func (t *traffic) judgePages() []kidoban.Result {
	best := map[string]kidoban.Result{}
	for _, x := range t.all {
		if x.Response == nil || !t.ofServer(x) || !strings.Contains(mediaType(x), "html") || x.Status() >= 400 && x.Status() != 401 {
			continue
		}
		p := ParsePage(x.Response.Body)
		kind, _ := classifyPage(x, &p, nil, t.marker())
		if kind != Login && kind != Consent {
			continue
		}
		g := *t.f
		g.Base = &Trail{Kind: kind, Page: p, Exchanges: []*kidoban.Exchange{x}}
		for _, r := range judgeE28(&g) {
			if old, ok := best[r.Key()]; !ok || heavier(r, old) {
				best[r.Key()] = r
			}
		}
	}
	out := []kidoban.Result{t.judgeFormStatus()}
	for _, k := range []string{"E28-a", "E28-b", "E28-d", "E28-g"} {
		if r, ok := best[k]; ok {
			out = append(out, r)
		}
	}
	return out
}

func (t *traffic) marker() string {
	if t.f.Client != nil {
		return t.f.Client.Name
	}
	return ""
}

// heavier orders results by what they say: a finding over a pass over nothing.
func heavier(a, b kidoban.Result) bool { return weight(a) > weight(b) }

func weight(r kidoban.Result) int {
	switch r.Outcome {
	case kidoban.Fail, kidoban.Weak:
		return 3
	case kidoban.Pass:
		return 2
	case kidoban.Inconclusive:
		return 1
	}
	return 0
}

// judgeFormStatus is E28-f: a form answered by a redirect that sends the same
// form, password included, to the next address.
func (t *traffic) judgeFormStatus() kidoban.Result {
	out := notShown("E28-f")
	for _, x := range t.all {
		if x.Request.Method != "POST" || x.Response == nil || !t.ofServer(x) || !strings.HasPrefix(x.Request.Header.Get("Content-Type"), "application/x-www-form-urlencoded") || kindOfMessage(x) == askToken {
			continue
		}
		switch st := x.Status(); {
		case st == 307 || st == 308:
			return positive("E28-f", kidoban.Confirmed, "a form is answered with "+itoa(st)+", which sends its fields on to the next address", x)
		case st == 302 || st == 303:
			out = passed("E28-f", "forms are answered with "+itoa(st), x)
		}
	}
	return out
}
