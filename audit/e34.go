package audit

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// probeSampleKeys is E34-a: is a value accepted that documentation shows, or the
// refusal itself? Three at most; there is no guessing.
func probeSampleKeys() probe {
	return define(spec{name: "sample keys", keys: []string{"E34-a"}, tier: kidoban.T1},
		func(ctx context.Context, s *session) volley {
			if s.facts.door() != doorClosed || s.facts.anyBearer {
				return volley{}
			}
			keys, core := sampleKeys(), 0
			if s.facts.AS == nil && s.facts.PRM == nil {
				core = 1 // a server with keys of its own
			}
			if k := shownKey(s.facts.Refused); k != "" {
				keys, core = append([]string{k}, keys[:2]...), 1
			}
			var forms []form
			for _, v := range keys {
				forms = append(forms, form{"the sample key " + v, call{Method: "tools/list", Header: kidoban.Fields{
					{Name: "Authorization", Value: "Bearer " + v}, {Name: "X-API-Key", Value: v}}}})
			}
			return s.volley(ctx, "E34-a", core, forms)
		},
		func(f *Facts, v volley) []kidoban.Result {
			const key = "E34-a"
			switch {
			case f.door() == doorOpen:
				return []kidoban.Result{absent(key, "the tools are listed without any key (E03-a)", f.List)}
			case f.door() == doorUnknown:
				return []kidoban.Result{noControl(key, f)}
			case f.anyBearer:
				return []kidoban.Result{absent(key, "any bearer token is accepted already (E04-a)")}
			}
			return []kidoban.Result{v.decide(key, f.List, func(h *shot) string {
				return h.what + " opens the server"
			}, "sample keys of the kind that documentation shows are refused")}
		})
}

// sampleKeys are the placeholders that guides print most.
func sampleKeys() []string { return []string{"changeme", "your-api-key", "test"} }

// shownKey is the value behind "Bearer" in the text of a refusal, as servers
// print it to explain themselves.
func shownKey(x *kidoban.Exchange) string {
	if x == nil || x.Response == nil {
		return ""
	}
	_, rest, ok := strings.Cut(string(head(x.Response.Body, 4096)), "Bearer ")
	if !ok {
		return ""
	}
	end := strings.IndexFunc(rest, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
	if end < 0 {
		end = len(rest)
	}
	if end < 4 || end > 64 {
		return ""
	}
	return rest[:end]
}

const wrongTries = 10 // what the catalogue allows, on the tester's own server

// probeLockout is E34-c: may wrong passwords be tried without limit? Only on the
// tester's own server, ten times, for a person that does not exist.
func probeLockout() probe {
	return define(spec{name: "lock-out", keys: []string{"E34-c"}, tier: kidoban.T2}, collectLockout, judgeLockout)
}

type wrongPasswords struct {
	none  string // why there is nothing to try
	form  *Trail // the way to the login form
	tries []*kidoban.Exchange
}

func collectLockout(ctx context.Context, s *session) (w wrongPasswords) {
	f := s.facts
	if !s.thorough() || s.left() < wrongTries+1 {
		return w
	}
	if f.Client == nil || f.AS == nil {
		w.none = "there is no login form that the run can reach"
		return w
	}
	jar := outbound.NewJar()
	t := s.followFront(ctx, jar, "E34-c", "a login form", s.baseline(f.Client))
	w.form = t
	page, at := t.Page, t.At
	name := "kidoban-" + s.nonce(8)
	for len(w.tries) < wrongTries {
		target, values, ok := loginForm(page, at, name, "wrong-"+s.nonce(12))
		if !ok || !f.owns(hostOf(target)) {
			if len(w.tries) == 0 {
				w.none = "the run reaches no login form of the server's own"
			}
			return w
		}
		x := s.do(ctx, outbound.Req{Method: http.MethodPost, URL: target, Jar: jar, Probe: "E34-c", Note: "a wrong password for nobody", Body: []byte(values.Encode()),
			Header: kidoban.Fields{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}, {Name: "Origin", Value: originHeader(target)}}})
		w.tries = append(w.tries, x)
		if x.Response == nil || x.Status() == http.StatusTooManyRequests {
			return w
		}
		if next := ParsePage(x.Response.Body); next.Password {
			page = next
		}
	}
	return w
}

// originHeader is the Origin that a browser would send with the form.
func originHeader(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// loginForm fills in the first form with a password field.
func loginForm(p Page, at, name, password string) (target string, values url.Values, ok bool) {
	for _, form := range p.Forms {
		values = url.Values{}
		has := false
		for _, in := range form.Inputs {
			switch {
			case in.Type == "password":
				values.Set(in.Name, password)
				has = true
			case in.Type == "hidden":
				values.Set(in.Name, in.Value)
			case in.Type == "text" || in.Type == "email" || in.Type == "":
				values.Set(in.Name, name)
			}
		}
		if has && form.Method == http.MethodPost {
			return resolve(at, form.Action), values, true
		}
	}
	return "", nil, false
}

func judgeLockout(f *Facts, w wrongPasswords) []kidoban.Result {
	const key = "E34-c"
	one := func(r kidoban.Result) []kidoban.Result { return []kidoban.Result{r} }
	if r, bad := f.unseen(key); bad && len(w.tries) == 0 {
		return one(r)
	}
	if r, bad := f.unreadServer(key); bad {
		return one(r)
	}
	if f.Client == nil && f.AS != nil && w.none != "" {
		r, _ := gateClient(kidoban.Check{ID: "E34", Variant: "c", Needs: kidoban.NeedsClient}, f)
		return one(r)
	}
	if w.form != nil && len(w.tries) == 0 {
		if r, ok := blocked(key, w.form); !ok {
			return one(r)
		}
	}
	if w.none != "" {
		return one(absent(key, w.none))
	}
	if len(w.tries) == 0 {
		return one(untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
	}
	last := w.tries[len(w.tries)-1]
	if last.Response == nil {
		r, _ := unanswered(key, last)
		return one(r)
	}
	for _, x := range w.tries {
		if r, bad := undecided(key, "the login form", x); bad && !rateLimited(x) {
			return one(r)
		}
	}
	first := w.tries[0]
	if at := resolve(last.Request.URL, last.Header("Location")); last.Status() >= 300 && last.Status() < 400 && !strings.Contains(at, homeOf(last.Request.URL).Path) && !strings.Contains(strings.ToLower(at), "error") {
		return one(unclear(key, kidoban.ReasonNeedsUI, "the login form sends the browser on whatever the password is, so a wrong one cannot be told from a right one", last))
	}
	low := strings.ToLower(ParsePage(last.Response.Body).Text)
	switch {
	case last.Status() == http.StatusTooManyRequests, strings.Contains(low, "too many"), strings.Contains(low, "locked"), last.Status() != first.Status():
		return one(passed(key, "wrong passwords are limited after "+itoa(len(w.tries))+" tries", first, last))
	case len(w.tries) < wrongTries:
		return one(unclear(key, kidoban.ReasonUnstable, "the login form went away after "+itoa(len(w.tries))+" tries", first, last))
	}
	return one(positive(key, kidoban.Confirmed, itoa(wrongTries)+" wrong passwords in a row were taken without any limit", first, last))
}
