package audit

import "github.com/kidoban/kidoban"

// judgeF3 compares PKCE on the two layers: demanded of the client, missing
// towards the upstream. From outside nobody sees whether the upstream client is
// confidential and checks a nonce, so this stays weak.
func judgeF3(f *Facts) []kidoban.Result {
	l := f.L2.Samples[0]
	x := l.Trail.Last()
	if l.Hidden {
		return []kidoban.Result{
			unclear("F3-a", kidoban.ReasonUpstream, "the request to the upstream is pushed or signed; its contents cannot be seen", x),
			unclear("F3-b", kidoban.ReasonUpstream, "the request to the upstream is pushed or signed; its contents cannot be seen", x),
		}
	}
	a, b := passed("F3-a", "the request to the upstream has a code_challenge", x), passed("F3-b", "the request to the upstream uses S256", x)
	switch {
	case l.Challenge == "":
		a = positive("F3-a", kidoban.Confirmed, "the request to "+hostOf(l.Upstream)+" has no code_challenge"+without(l), x)
		if l.HasState && l.Nonce != "" {
			a.Severity = kidoban.Low // a checked nonce would do the same; whether it is checked cannot be seen
		}
		b = absent("F3-b", "counted as F3-a: there is no challenge", x)
	case l.Method == "plain" || l.Method == "":
		b = positive("F3-b", kidoban.Confirmed, "the request to "+hostOf(l.Upstream)+" uses a plain code_challenge", x)
	}
	return []kidoban.Result{a, b}
}

func without(l L2) string {
	switch {
	case !l.HasState && l.Nonce == "":
		return ", no state and no nonce"
	case !l.HasState:
		return " and no state"
	case l.Nonce == "":
		return " and no nonce"
	}
	return ""
}
