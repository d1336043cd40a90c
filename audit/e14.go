package audit

import (
	"context"
	"strings"

	"github.com/kidoban/kidoban"
)

// E14: does registration keep what a page will show without looking at it: an
// address with a script, a name that hides characters or fills the screen? What
// is kept is what the answer says; whether a page shows it needs a login.

const (
	scriptURI    = "javascript:void(0)"
	hiddenName   = "kidoban probe\u202egnp.exe\u200b\nverified"
	oversizeName = 10_000
)

type e14Evidence struct {
	script, hidden attempt // the same one when both were asked at once
}

func probeE14() probe {
	return define(spec{name: "registration with harmful metadata", keys: []string{"E14-a", "E14-c"}, tier: kidoban.T2, cost: 3},
		func(ctx context.Context, s *session) (ev e14Evidence) {
			ask := func(key, note string, script, hidden bool) attempt {
				meta := s.template(s.loopbackRedirect())
				if script {
					meta["client_uri"] = scriptURI
				}
				if hidden {
					meta["client_name"] = hiddenName
				}
				return s.attempt(ctx, key, note, meta)
			}
			if s.wants("E14-a") && s.wants("E14-c") {
				both := ask("E14-a", "a script address and a name with hidden characters", true, true)
				ev.script, ev.hidden = both, both
				if !both.refused() {
					return ev
				}
				// Refused together tells nothing of the one that is not blamed.
				script, hidden := both.blames("client_uri"), both.blames("client_name")
				if !script || hidden { // blaming both may be a text that names every member
					ev.script = ask("E14-a", "a script address", true, false)
				}
				if !hidden || script {
					ev.hidden = ask("E14-c", "a name with hidden characters", false, true)
				}
				return ev
			}
			if s.wants("E14-a") {
				ev.script = ask("E14-a", "a script address", true, false)
			}
			if s.wants("E14-c") {
				ev.hidden = ask("E14-c", "a name with hidden characters", false, true)
			}
			return ev
		}, judgeE14)
}

func judgeE14(f *Facts, ev e14Evidence) []kidoban.Result {
	a, c := judgeE14a(f, ev.script), judgeE14c(f, ev.hidden)
	return []kidoban.Result{a, c}
}

func judgeE14a(f *Facts, at attempt) kidoban.Result {
	const key = "E14-a"
	if r, ok := at.turnedDown(key, "a client_uri with a script", f); ok {
		return r
	}
	if !strings.HasPrefix(strings.ToLower(strings.TrimSpace(at.meta().ClientURI)), "javascript:") {
		return passed(key, "a client_uri with a script is dropped", at.x())
	}
	return positive(key, kidoban.Likely, "registration keeps a client_uri with a script; whether a page links to it shows after a login", at.x())
}

func judgeE14c(f *Facts, at attempt) kidoban.Result {
	const key = "E14-c"
	if r, ok := at.turnedDown(key, "a client_name with hidden characters", f); ok {
		return r
	}
	if !strings.ContainsAny(at.meta().ClientName, "\u202e\u200b\n") {
		return passed(key, "hidden characters are taken out of client_name", at.x())
	}
	return positive(key, kidoban.Likely, "registration keeps hidden characters in client_name; how a page shows them is seen after a login", at.x())
}

func probeE14Size() probe {
	const key, what = "E14-b", "a client_name of 10,000 characters"
	return define(spec{name: "registration with an oversize name", keys: []string{key}, tier: kidoban.T2, cost: 3},
		func(ctx context.Context, s *session) attempt {
			meta := s.template(s.loopbackRedirect())
			meta["client_name"] = "kidoban " + strings.Repeat("x", oversizeName)
			return s.attempt(ctx, key, what, meta)
		}, func(f *Facts, at attempt) []kidoban.Result {
			if r, ok := at.turnedDown(key, what, f); ok {
				return one(r)
			}
			if n := len(at.meta().ClientName); n < oversizeName {
				return one(passed(key, what+" is shortened or dropped", at.x()))
			}
			return one(positive(key, kidoban.Likely, "registration keeps "+what, at.x()))
		})
}
