package audit

import (
	"net/http"
	"strings"

	"github.com/kidoban/kidoban"
)

// judgeF6A decides whether a code comes without anybody being asked.
func judgeF6A(b *Trail) kidoban.Result {
	const key = "F6-A"
	if r, ok := blocked(key, b); !ok {
		return r
	}
	switch b.Kind {
	case CallbackCode:
		if b.last(http.MethodPost) {
			return positive(key, kidoban.Confirmed, "a first-time client got a code as soon as the person was logged in, and nobody was asked", b.Last())
		}
		return positive(key, kidoban.Confirmed, "a first-time client got a code without any page being shown", b.Last())
	case Login, Consent, Upstream:
		return passed(key, "a person is asked first: "+trailText(b), b.Last())
	case CallbackError:
		if strings.HasSuffix(b.Error, "_required") {
			return passed(key, "the server wants a person: "+b.Error, b.Last())
		}
	}
	return unclear(key, kidoban.ReasonUnstable, "a valid request ends with "+trailText(b), b.Last())
}

// judgeF6Static reads a consent page that is shown before any login. Behind a
// login the questions need one.
func judgeF6Static(f *Facts) []kidoban.Result {
	keys := []string{"F6-B", "F6-C", "F6-D", "F6-F"}
	var out []kidoban.Result
	if f.Base.Kind != Consent {
		for _, k := range keys {
			out = append(out, untested(k, kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin)))
		}
		return out
	}
	p, x := &f.Base.Page, f.Base.Last()
	// A page with scripts may show more than its HTML; then the proof is weaker.
	ev := kidoban.Confirmed
	if p.Scripts > 0 {
		ev = kidoban.Likely
	}
	text := strings.ToLower(p.Text)
	say := func(key string, good bool, bad, fine string) {
		if good {
			out = append(out, passed(key, fine, x))
		} else {
			out = append(out, positive(key, ev, bad, x))
		}
	}
	say("F6-B", strings.Contains(text, strings.ToLower(hostOnly(f.Client.RedirectURI))), "the consent page does not show the host that gets the code", "the consent page shows the redirect host")
	named := f.Client.Name == "" || strings.Contains(p.Text, f.Client.Name)
	marked := containsWord(text, []string{"unverified", "not verified", "unknown application", "dynamic", "not been reviewed", "nicht geprüft"})
	unnamed := "the consent page does not name the client"
	if named {
		unnamed = "the consent page names the client as it calls itself, and does not say that nobody has verified it"
	}
	say("F6-C", named && (marked || f.Client.Pre), unnamed, "the consent page names the client and says that it is unverified")
	if isLoopbackURL(f.Client.RedirectURI) {
		say("F6-D", warnsLocal(text),
			"the consent page gives no warning that any program on this computer may listen", "the consent page warns of a local redirect")
	} else {
		out = append(out, absent("F6-D", "the client's redirect URI is not loopback"))
	}
	scope := f.SmallestScope
	say("F6-F", scope == "" || strings.Contains(p.Text, scope) || containsWord(text, append(scopeWords(scope), "permission", "will be able to", "wants to", "access to")),
		"the consent page does not say what is allowed", "the consent page says what is allowed")
	return out
}

// scopeWords are the words of a scope name that a page may use instead.
func scopeWords(scope string) []string {
	var out []string
	for _, w := range strings.FieldsFunc(strings.ToLower(scope), func(r rune) bool { return strings.ContainsRune(":._-/", r) }) {
		if len(w) > 3 {
			out = append(out, w)
		}
	}
	return out
}

func hostOnly(raw string) string { return bareHost(hostOf(raw)) }
