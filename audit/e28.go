package audit

import (
	"context"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
)

// judgeE28 reads the headers and forms of the first page that a person sees.
func judgeE28(f *Facts) []kidoban.Result {
	keys := []string{"E28-a", "E28-b", "E28-d", "E28-g"}
	var out []kidoban.Result
	t := f.Base
	if t.Kind != Login && t.Kind != Consent {
		for _, k := range keys {
			r, ok := blocked(k, t)
			switch {
			case !ok:
			case t.Kind == CallbackCode:
				r = absent(k, "no page is shown", t.Last())
			case t.Kind == Upstream:
				r = untested(k, kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin))
			default:
				r = unclear(k, kidoban.ReasonUnstable, "a valid request ends with "+trailText(t), t.Last())
			}
			out = append(out, r)
		}
		return out
	}
	x := t.Last()
	page := "the " + strings.ToLower(string(t.Kind)) + " page"
	if frameable(x) {
		out = append(out, positive("E28-a", kidoban.Confirmed, page+" may be framed: neither frame-ancestors nor X-Frame-Options", x))
	} else {
		out = append(out, passed("E28-a", page+" may not be framed", x))
	}
	out = append(out, judgeCSRF(t))
	cc := strings.ToLower(x.Header("Cache-Control"))
	if strings.Contains(cc, "no-store") {
		out = append(out, passed("E28-d", page+" is not stored by caches", x))
	} else {
		out = append(out, positive("E28-d", kidoban.Confirmed, page+" may be stored by caches: Cache-Control lacks no-store", x))
	}
	if x.Header("Referrer-Policy") != "" {
		out = append(out, passed("E28-g", page+" sets a referrer policy", x))
	} else {
		out = append(out, positive("E28-g", kidoban.Confirmed, page+" sets no Referrer-Policy", x))
	}
	return out
}

// frameable tells whether a page may be framed by strangers. frame-ancestors in
// a meta element is ignored by browsers and so by us.
func frameable(x *kidoban.Exchange) bool {
	for _, csp := range x.Response.Header.Values("Content-Security-Policy") {
		for _, d := range strings.Split(csp, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(d), " ")
			if strings.EqualFold(name, "frame-ancestors") {
				return strings.Contains(" "+value+" ", " * ")
			}
		}
	}
	switch strings.ToUpper(strings.TrimSpace(x.Header("X-Frame-Options"))) {
	case "DENY", "SAMEORIGIN":
		return false
	}
	return true
}

// forgeryToken tells whether a hidden field can be a token against forgery: long,
// of high entropy, and not a parameter of the request handed back. Its name says
// little: real pages call it t, ticket or transaction as often as csrf_token.
func forgeryToken(in Input, t *Trail) bool {
	if in.Type != "hidden" || len(in.Value) < 16 || entropy(in.Value) <= 2.5 {
		return false
	}
	low := strings.ToLower(in.Name)
	if containsWord(low, []string{"csrf", "xsrf", "token", "nonce", "authenticity", "_t"}) {
		return true
	}
	for _, x := range t.Exchanges {
		if u, err := url.Parse(x.Request.URL); err == nil {
			for _, vs := range u.Query() {
				for _, v := range vs {
					if v == in.Value {
						return false
					}
				}
			}
		}
	}
	return len(in.Value) >= 22 && entropy(in.Value) > 3.5 && !strings.Contains(in.Value, "://") && !strings.ContainsAny(in.Value, " {")
}

// unguessable tells whether the path of a form's action holds a random segment of
// 128 bits or more.
func unguessable(action string) bool {
	path, _, _ := strings.Cut(action, "?")
	for _, seg := range strings.Split(path, "/") {
		if len(seg) >= 22 && looksRandom(seg) {
			return true
		}
	}
	return false
}

// judgeCSRF looks for an unguessable hidden field in the form that approves.
func judgeCSRF(t *Trail) kidoban.Result {
	const key = "E28-b"
	if t.Kind != Consent {
		return untested(key, kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin))
	}
	x := t.Last()
	posts := 0
	for _, form := range t.Page.Forms {
		if form.Method != "POST" {
			continue
		}
		posts++
		if unguessable(form.Action) {
			return passed(key, "the approving form is sent to an address that only this browser was given", x)
		}
		for _, in := range form.Inputs {
			if forgeryToken(in, t) {
				return passed(key, "the approving form carries an unguessable token", x)
			}
		}
	}
	if posts == 0 {
		return unclear(key, kidoban.ReasonNeedsUI, "the consent page has no form that posts; a script may send the decision", x)
	}
	return positive(key, kidoban.Likely, "the approving form carries no token against forgery", x)
}

// probeE28Markup registers a client whose name is markup and looks at the
// consent page that is shown before a login.
func probeE28Markup() probe {
	return define(spec{name: "markup in client_name", keys: []string{"E28-e"}, tier: kidoban.T2, cost: 4}, func(ctx context.Context, s *session) (ev markupEvidence) {
		f := s.facts
		if f.Base == nil || f.Client == nil || f.Client.Pre && f.AS.Meta.RegistrationEndpoint == "" {
			return ev
		}
		if f.Base.Kind == Login || f.Base.Kind == Upstream && !f.Base.Consents {
			ev.login = true
			return ev
		}
		ev.mark = s.nonce(8)
		r, ok := s.registerMarkup(ctx, ev.mark)
		if !ok {
			return ev
		}
		ev.reg = &r
		if r.accepted() {
			ev.trail = s.follow(ctx, "E28-e", "the consent page of that client", s.baseline(r.Client))
		}
		return ev
	}, judgeMarkup)
}

// registerMarkup registers a client whose name would be an element of the page.
func (s *session) registerMarkup(ctx context.Context, mark string) (Registration, bool) {
	meta := s.template(s.loopbackRedirect())
	meta["client_name"] = `"><b data-kidoban=` + mark + `>x`
	return s.register(ctx, "E28-e", "a name that is markup", meta)
}

type markupEvidence struct {
	login bool
	mark  string
	reg   *Registration
	trail *Trail
}

func judgeMarkup(f *Facts, ev markupEvidence) []kidoban.Result {
	const key = "E28-e"
	one := func(r kidoban.Result) []kidoban.Result { return []kidoban.Result{r} }
	switch {
	case ev.login:
		return one(untested(key, kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin)))
	case ev.reg == nil:
		if f.Client == nil {
			return one(untested(key, kidoban.ReasonClient, detailFor(kidoban.ReasonClient)))
		}
		return one(untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
	}
	if !ev.reg.accepted() {
		r, _ := (attempt{reg: ev.reg}).turnedDown(key, "a client name that is markup", f)
		return one(r)
	}
	if r, ok := blocked(key, ev.trail); !ok {
		return one(r)
	}
	switch {
	case ev.trail.Page.Marks[ev.mark]:
		return one(positive(key, kidoban.Confirmed, "the client's name is written into the page as markup", ev.reg.X, ev.trail.Last()))
	case ev.trail.Kind != Consent:
		return one(untested(key, kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin)))
	}
	return one(passed(key, "the client's name is shown as text", ev.reg.X, ev.trail.Last()))
}
