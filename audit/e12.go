package audit

import "github.com/kidoban/kidoban"

// judgeE12 compares iss of an authorization response with the issuer, byte for
// byte (RFC 9207; MCP AS-06, AS-07).
func judgeE12(f *Facts, answer *Trail) []kidoban.Result {
	keys := []string{"E12-a", "E12-b", "E12-c"}
	var out []kidoban.Result
	for _, k := range keys {
		if r, ok := blocked(k, f.Base); !ok {
			out = append(out, r)
		}
	}
	if len(out) > 0 {
		return out
	}
	if answer == nil {
		reason := kidoban.ReasonLogin
		if f.Base.Signature() == sigOf(f.N2) {
			for _, k := range keys {
				out = append(out, unclear(k, kidoban.ReasonDeferred, "no authorization response before a login", f.Base.Last()))
			}
			return out
		}
		for _, k := range keys {
			out = append(out, untested(k, reason, detailFor(reason)))
		}
		return out
	}
	x := answer.Last()
	iss, has := answer.Params.Get("iss"), answer.Params.Has("iss")
	advertised := f.AS.Meta.IssParameterSupported
	a, b, c := passed("E12-a", "authorization responses carry iss", x), passed("E12-b", "iss is sent as advertised", x), passed("E12-c", "iss is the issuer, byte for byte", x)
	switch {
	case !has && advertised:
		a = passed("E12-a", "counted as E12-b: advertised and not sent", x)
		b = positive("E12-b", kidoban.Confirmed, "the metadata promise iss in authorization responses, the response has none", x)
		c = absent("E12-c", "no iss to compare", x)
	case !has:
		a = positive("E12-a", kidoban.Confirmed, "authorization responses carry no iss, so a client of several servers cannot tell them apart", x)
		b = passed("E12-b", "iss is neither advertised nor sent", x)
		c = absent("E12-c", "no iss to compare", x)
	case iss != f.AS.Meta.Issuer:
		c = positive("E12-c", kidoban.Confirmed, "iss in the authorization response is not the issuer", x)
	}
	return append(out, a, b, c)
}

func sigOf(t *Trail) string {
	if t == nil {
		return ""
	}
	return t.Signature()
}
