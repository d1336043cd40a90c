package audit

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// F7: is the redirect URI compared byte for byte?
//
// Where the server sends errors to the registered redirect URI (N2 shows it), a
// provoked error confirms an open redirect without any account: the Location
// leads to the changed URI. Where it does not, the mutation goes out as a valid
// request and the oracle's table decides.

// redirectForm is one way of writing a redirect URI that is not the registered
// one.
type redirectForm struct {
	key    string
	what   string
	target string // the URI that is supplied; "" when the parameter list says it
	change func(params) params
	header kidoban.Fields
	host   string // Host header
	only   bool   // acceptance says nothing: the server may have ignored the change
	mode   bool   // about the response mode, not about the URI
	extra  bool   // only when the budget is large
}

func probeF7() probe {
	keys := []string{"F7-1", "F7-7", "F7-8", "F7-12", "F7-13", "F7-17"}
	return define(spec{name: "redirect URIs on another host", keys: keys, tier: kidoban.T1, cost: len(keys)}, collectF7, judgeF7)
}

// probeF7Near tries URIs on the registered host, which are worth less to an
// attacker.
func probeF7Near() probe {
	keys := []string{"F7-2", "F7-3", "F7-4", "F7-5", "F7-6", "F7-9", "F7-11", "F7-15"}
	return define(spec{name: "redirect URIs near the registered one", keys: keys, tier: kidoban.T1, cost: len(keys)}, collectF7, judgeF7)
}

// f7Evidence is what was seen for one form.
type f7Evidence struct {
	form  redirectForm
	probe *Trail // the provoked error, nil when it was not asked
	again *Trail
	valid *Trail // a valid request with the form, for whether codes go where errors go
	t     Trials
	asked bool
	moot  bool // F7-1 holds: there is no comparison to be fooled
}

func collectF7(ctx context.Context, s *session) []f7Evidence {
	var out []f7Evidence
	for _, form := range redirectForms(s.facts.Client.RedirectURI, s.nonce(10)+probeDomain) {
		if !s.wants(form.key) || form.extra && !s.thorough() {
			continue
		}
		ev := f7Evidence{form: form, moot: s.facts.anyRedirect && !form.only && !form.mode && form.key != "F7-1"}
		if !ev.moot && s.left() > 0 {
			s.tryForm(ctx, &ev)
			if form.key == "F7-1" {
				s.facts.anyRedirect = judgeForm(s.facts, ev).Outcome == kidoban.Fail
			}
		}
		out = append(out, ev)
	}
	return out
}

// tryForm sends one form: as a provoked error where that is telling, else as a
// valid request.
func (s *session) tryForm(ctx context.Context, ev *f7Evidence) {
	ev.asked = true
	form := ev.form
	req := s.baseline(s.facts.Client)
	req.Header, req.Host = form.header, form.host
	if form.target != "" {
		req.Params = req.Params.with("redirect_uri", form.target)
		req.Targets = []string{form.target}
	}
	if form.change != nil {
		req.Params = form.change(req.Params)
	}
	if !form.mode && form.header == nil && form.host == "" && errorsReturn(s.facts) {
		bad := req
		bad.Params = req.Params.with("response_type", "kidoban_invalid").with("state", s.secret(24))
		ev.probe = s.twice(ctx, form.key, form.what+", in an invalid request", bad)
		switch {
		case ev.probe.Kind == CallbackError && ev.probe.Foreign || ev.probe.Kind == CallbackBare && ev.probe.Foreign:
			bad.Params = bad.Params.with("state", s.secret(24))
			ev.again = s.follow(ctx, form.key, form.what+", in an invalid request, again", bad)
			if s.o.loggedIn() {
				req.Params = req.Params.with("state", s.secret(24))
				ev.valid = s.follow(ctx, form.key, form.what+", in a valid request", req)
			}
			return
		case ev.probe.Kind == CallbackError, ev.probe.Kind == ErrorPage && !ev.probe.crashed() && ev.probe.Error != s.facts.N2.Error:
			return // the registered URI was used, or the refusal is about the redirect URI
		}
	}
	if form.mode && s.tryMode(ctx, ev, req) {
		return
	}
	t := s.trials()
	t.Redirect = !form.mode
	if u, err := url.Parse(form.target); err == nil && strings.HasSuffix(u.Hostname(), probeDomain) {
		t.Shown = u.Hostname()
	}
	if form.only { // only a delivery counts here, so only a delivery is asked for twice
		req.Params = req.Params.with("state", s.secret(24))
		t.M1 = s.twice(ctx, form.key, form.what, req)
		if Decide(t).Row != RowDelivered && Decide(t).Row != RowShown {
			ev.t = t
			return
		}
	}
	ev.t = s.mutate(ctx, form.key, form.what, req, t)
}

// tryMode asks for a response mode together with an unknown scope. The mode that
// the error comes back in shows whether the server honours it; that a request
// goes on shows nothing, because unknown parameters are to be ignored.
func (s *session) tryMode(ctx context.Context, ev *f7Evidence, req authRequest) bool {
	bad := req
	bad.Params = req.Params.with("scope", "kidoban:unknown").with("state", s.secret(24))
	ev.probe = s.twice(ctx, ev.form.key, ev.form.what+", with an unknown scope", bad)
	if ev.probe.crashed() {
		return false
	}
	switch ev.probe.Kind {
	case CallbackError, CallbackCode:
		if ev.probe.Mode != "query" {
			bad.Params = bad.Params.with("state", s.secret(24))
			ev.again = s.follow(ctx, ev.form.key, ev.form.what+", with an unknown scope, again", bad)
		}
		return true
	case ErrorPage:
		return true
	}
	return false
}

// judgeMode reads what tryMode saw.
func judgeMode(ev f7Evidence) kidoban.Result {
	key, what, p := ev.form.key, ev.form.what, ev.probe
	switch {
	case p.Kind == ErrorPage:
		return passed(key, what+" is refused: "+trailText(p), p.Last())
	case p.Mode == "query":
		return passed(key, what+" is not honoured: the answer comes in the query", p.Last())
	case ev.again == nil || ev.again.Mode != p.Mode:
		return unclear(key, kidoban.ReasonUnstable, "two runs of the same request ended differently", p.Last())
	}
	return positive(key, kidoban.Confirmed, what+" is honoured: the answer comes as "+p.Mode, ev.again.Last(), p.Last())
}

// errorsReturn tells whether the server sends errors to the registered redirect
// URI.
func errorsReturn(f *Facts) bool {
	return f.N2 != nil && f.N2.Kind == CallbackError && !f.N2.Foreign
}

func judgeF7(f *Facts, evs []f7Evidence) []kidoban.Result {
	best := map[string]kidoban.Result{}
	var order []string
	for _, ev := range evs {
		r := judgeForm(f, ev)
		old, have := best[r.Key()]
		if !have {
			order = append(order, r.Key())
		}
		if !have || worse(r, old) {
			best[r.Key()] = r
		}
	}
	var out []kidoban.Result
	for _, k := range order {
		out = append(out, best[k])
	}
	return out
}

// worse orders the results of several forms of one mutation: the finding counts,
// then what is unclear, then the rest.
func worse(a, b kidoban.Result) bool { return badness(a) > badness(b) }

func badness(r kidoban.Result) int {
	switch r.Outcome {
	case kidoban.Fail, kidoban.Weak:
		return 10 + r.Evidence.Rank()
	case kidoban.Inconclusive:
		return 5
	case kidoban.Pass:
		return 3
	}
	return 0
}

func judgeForm(f *Facts, ev f7Evidence) kidoban.Result {
	key, what := ev.form.key, ev.form.what
	if ev.moot {
		return absent(key, "counted as F7-1: the redirect URI is not compared at all")
	}
	if !ev.asked {
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	if ev.form.mode && ev.probe != nil && ev.t.M1 == nil {
		return judgeMode(ev)
	}
	if p := ev.probe; p != nil && ev.t.M1 == nil {
		switch {
		case p.Foreign && (p.Kind == CallbackError || p.Kind == CallbackBare):
			if ev.again == nil || ev.again.Kind != p.Kind || !ev.again.Foreign {
				return unclear(key, kidoban.ReasonUnstable, "two runs of the same request ended differently", p.Last())
			}
			r := positive(key, kidoban.Confirmed, what+" is accepted: an error is sent to it", f.N2.Last(), ev.again.Last(), p.Last())
			if v := ev.valid; v != nil && (v.Kind == CallbackError && v.Foreign || v.Kind == ErrorPage) && onlyErrors(r.Severity) {
				r = positive(key, kidoban.Confirmed, what+" gets errors of the server, though not a code", ev.again.Last(), v.Last())
				r.Severity = kidoban.Medium
			}
			return r
		case p.Kind == CallbackError:
			return passed(key, what+" is ignored: the registered redirect URI is used", p.Last())
		case p.Kind == ErrorPage:
			return passed(key, what+" is refused: "+trailText(p), p.Last())
		}
	}
	for _, b := range []*Trail{ev.t.M1, ev.t.Behind} {
		if ev.form.mode && b != nil && b.Kind == CallbackCode && b.Mode != strings.TrimPrefix(what, "response_mode=") {
			return passed(key, what+" is ignored: the code comes in the "+b.Mode, b.Last())
		}
	}
	r := verdict(key, what, ev.t)
	if ev.form.only && r.Outcome != kidoban.Pass {
		d := Decide(ev.t)
		if d.Row == RowAccepted && (ev.form.header != nil || ev.form.host != "") {
			return passed(key, "redirects and pages do not take their address from the header", ev.t.M1.Last())
		}
		if d.Row == RowAccepted {
			return unclear(key, kidoban.ReasonDeferred, what+": which of the two is used shows after a login", ev.t.M1.Last())
		}
	}
	if ev.form.mode && Decide(ev.t).Row == RowAccepted {
		if f.AS != nil && slices.Contains(f.AS.Meta.ResponseModesSupported, strings.TrimPrefix(what, "response_mode=")) {
			return r // advertised and taken up
		}
		return unclear(key, kidoban.ReasonDeferred, what+": whether it is honoured or ignored shows after a login", ev.t.M1.Last())
	}
	if key == "F7-17" && r.Outcome == kidoban.Fail {
		r.Summary = "a redirect is built from the request's " + what
	}
	if key == "F7-17" && r.Outcome == kidoban.Inconclusive && Decide(ev.t).Row == RowUnlike {
		return passed(key, "the server does not answer under another Host", ev.t.M1.Last())
	}
	return r
}

// redirectForms lists the mutations of registered, most telling first. evil is a
// host that belongs to nobody.
func redirectForms(registered, evil string) []redirectForm {
	u, err := url.Parse(registered)
	if err != nil {
		return nil
	}
	at := func(host string) string { // registered with another authority
		v := *u
		v.User, v.Host = nil, host
		return v.String()
	}
	port := ""
	if p := u.Port(); p != "" {
		port = ":" + p
	}
	foreign := "https://" + evil + "/cb"
	swapped := "https"
	if u.Scheme == "https" {
		swapped = "http"
	}
	forms := []redirectForm{
		{key: "F7-1", what: "a foreign redirect URI", target: foreign},
		{key: "F7-7", what: "a host that begins with the registered one", target: at(u.Hostname() + "." + evil + port)},
		{key: "F7-8", what: "the registered host as user name of a foreign one", target: u.Scheme + "://" + u.Host + "@" + evil + u.Path},
		{key: "F7-12", what: "a second, foreign redirect_uri", change: func(p params) params { return p.and("redirect_uri", foreign) }, only: true},
		{key: "F7-13", what: "a foreign redirect_uri[]", change: func(p params) params { return p.and("redirect_uri[]", foreign) }, only: true},
		{key: "F7-17", what: "X-Forwarded-Host header", header: kidoban.Fields{{Name: "X-Forwarded-Host", Value: evil}}, only: true},
		{key: "F7-2", what: "a path below the registered one", target: registered + "/x"},
		{key: "F7-3", what: "a path that climbs out of the registered one", target: registered + "/../x"},
		{key: "F7-4", what: "a query added to the registered URI", target: registered + "?kidoban=1"},
		{key: "F7-5", what: "a fragment added to the registered URI", target: registered + "#x"},
		{key: "F7-6", what: "a trailing slash", target: registered + "/"},
		{key: "F7-9", what: "another scheme", target: swapped + strings.TrimPrefix(registered, u.Scheme)},
		{key: "F7-15", what: "response_mode=fragment", change: func(p params) params { return p.and("response_mode", "fragment") }, mode: true},
	}
	if isLoopbackURL(registered) {
		forms = append(forms, redirectForm{key: "F7-11", what: "another spelling of loopback", target: at("localhost" + port)},
			redirectForm{key: "F7-11", what: "loopback as a decimal number", target: at("2130706433" + port), extra: true},
			redirectForm{key: "F7-11", what: "loopback in IPv6", target: at("[::1]" + port), extra: true})
	}
	return append(forms,
		redirectForm{key: "F7-12", what: "a first, foreign redirect_uri", change: func(p params) params { return append(params{{"redirect_uri", foreign}}, p...) }, only: true, extra: true},
		redirectForm{key: "F7-17", what: "Host header", host: evil, only: true, extra: true},
		redirectForm{key: "F7-3", what: "an encoded path that climbs out", target: registered + "/%2e%2e%2fx", extra: true},
		redirectForm{key: "F7-3", what: "a path with ..;", target: registered + "/..;/x", extra: true},
		redirectForm{key: "F7-6", what: "the path in another case", target: at2(u, strings.ToUpper(u.Path)), extra: true},
		redirectForm{key: "F7-6", what: "no path", target: at2(u, ""), extra: true},
		redirectForm{key: "F7-7", what: "a host that ends with the registered one", target: at("evil-" + u.Hostname() + port), extra: true},
		redirectForm{key: "F7-8", what: "a backslash before the registered host", target: u.Scheme + "://" + evil + `\@` + u.Host + u.Path, extra: true},
		redirectForm{key: "F7-15", what: "response_mode=web_message", change: func(p params) params { return p.and("response_mode", "web_message") }, mode: true, extra: true},
	)
}

func at2(u *url.URL, path string) string {
	v := *u
	v.Path, v.RawPath = path, ""
	return v.String()
}

// probeF7Https changes the port of an https redirect URI: only loopback is
// allowed to differ there (RFC 8252 §7.3).
func probeF7Https() probe {
	return define(spec{name: "https redirect with another port", keys: []string{"F7-10"}, tier: kidoban.T2, cost: 2},
		func(ctx context.Context, s *session) (m mutation) {
			c, base := s.facts.Foreign, s.facts.foreignBase
			m = mutation{key: "F7-10", what: "another port of the registered https redirect URI"}
			if strings.HasPrefix(s.facts.Client.RedirectURI, "https://") {
				c, base = s.facts.Client, s.facts.Base
			}
			if c == nil {
				return m
			}
			r := s.baseline(c)
			target := withPort(c.RedirectURI, "8443")
			r.Params, r.Targets = r.Params.with("redirect_uri", target), []string{target}
			t := s.trials()
			t.B, t.Redirect = base, true
			m.asked, m.t = true, s.mutate(ctx, m.key, m.what, r, t)
			return m
		}, func(f *Facts, m mutation) []kidoban.Result {
			if !m.asked {
				if f.ForeignReg == nil {
					return []kidoban.Result{untested(m.key, postReason(f), detailFor(postReason(f)))}
				}
				if r, ok := foreignUnclear(m.key, f); ok {
					return []kidoban.Result{r}
				}
				return []kidoban.Result{absent(m.key, "no client with an https redirect URI could be registered", f.ForeignReg.X)}
			}
			return verdicts([]mutation{m})
		})
}

// foreignUnclear is the result of a check that wants the client with the foreign
// redirect URI, where that client exists and what became of it cannot be seen.
func foreignUnclear(key string, f *Facts) (kidoban.Result, bool) {
	if r, ok := (attempt{reg: f.ForeignReg}).turnedDown(key, "a foreign https redirect URI", f); ok && r.Outcome == kidoban.Inconclusive {
		return r, true
	}
	if f.foreignBase == nil || f.Foreign != nil {
		return kidoban.Result{}, false
	}
	r, ok := blocked(key, f.foreignBase)
	return r, !ok
}

// probeF7Omitted leaves redirect_uri out although the client registered two.
func probeF7Omitted() probe {
	type evidence struct {
		reg *Registration
		m   mutation
	}
	return define(spec{name: "several redirect URIs, none named", keys: []string{"F7-16"}, tier: kidoban.T2, cost: 4},
		func(ctx context.Context, s *session) (ev evidence) {
			meta := s.template("")
			meta["redirect_uris"] = []string{s.loopbackRedirect(), s.loopbackRedirect()}
			r, ok := s.register(ctx, "F7-16", "two redirect URIs", meta)
			if !ok {
				return ev
			}
			ev.reg = &r
			if !r.accepted() || len(r.Client.Redirects) < 2 {
				return ev
			}
			req := s.baseline(r.Client)
			req.Params = req.Params.without("redirect_uri")
			ev.m = mutation{key: "F7-16", what: "a request without redirect_uri by a client with two", asked: true}
			ev.m.t = s.mutate(ctx, "F7-16", ev.m.what, req, s.trials())
			return ev
		}, func(f *Facts, ev evidence) []kidoban.Result {
			const key = "F7-16"
			switch {
			case ev.reg == nil:
				return []kidoban.Result{untested(key, postReason(f), detailFor(postReason(f)))}
			case !ev.reg.accepted():
				if r, _ := (attempt{reg: ev.reg}).turnedDown(key, "two redirect URIs", f); r.Outcome != kidoban.Pass {
					return []kidoban.Result{r}
				}
				return []kidoban.Result{absent(key, "the server registers no client with two redirect URIs", ev.reg.X)}
			case !ev.m.asked:
				return []kidoban.Result{absent(key, "the server keeps one redirect URI", ev.reg.X)}
			}
			return verdicts([]mutation{ev.m})
		})
}
