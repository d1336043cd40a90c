package audit

import (
	"context"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// F2: does the authorization server go on with a client_id that it never
// registered? N1 is the first mutation itself, so N2 is the control.
func probeF2() probe {
	return define(spec{name: "unknown client ids", keys: []string{"F2-a", "F2-b", "F2-c", "F2-d"}, tier: kidoban.T1, cost: 3},
		func(ctx context.Context, s *session) []mutation {
			f := s.facts
			req := s.baseline(f.Client)
			frame := s.trials()
			frame.ClientMutation = true
			out := []mutation{{key: "F2-a", what: "an unknown client_id", asked: true}}
			out[0].t = frame
			out[0].t.M1, out[0].t.Alive = f.N1, f.alive
			if !settles(out[0].t) {
				again := req
				again.Params = req.Params.with("client_id", s.word(32)).with("state", s.secret(24))
				out[0].t.M2 = s.follow(ctx, "F2-a", "another unknown client", again)
				s.askBehind(ctx, "F2-a", "an unknown client", again, &out[0].t)
			}
			foreign := s.foreign()
			add := func(key, what string, change func(authRequest) authRequest, t Trials) {
				if s.wants(key) && s.left() > 0 {
					out = append(out, mutation{key: key, what: what, asked: true, t: s.mutate(ctx, key, what, change(req), t)})
				} else {
					out = append(out, mutation{key: key})
				}
			}
			withForeign := frame
			withForeign.Shown = hostOf(foreign)
			add("F2-b", "an unknown client_id with a foreign redirect URI", func(r authRequest) authRequest {
				r.Params = r.Params.with("client_id", s.word(32)).with("redirect_uri", foreign)
				r.Targets = []string{foreign}
				return r
			}, withForeign)
			add("F2-c", "a client_id whose last character was changed", func(r authRequest) authRequest {
				r.Params = r.Params.with("client_id", alter(f.Client.ID))
				return r
			}, frame)
			add("F2-d", "a request without client_id", func(r authRequest) authRequest {
				r.Params = r.Params.without("client_id")
				return r
			}, frame)
			return out
		}, judgeF2)
}

func judgeF2(f *Facts, ms []mutation) []kidoban.Result {
	out := verdicts(ms)
	for i, r := range out {
		// A client document is no blind trust; nor is a server that gives one id to
		// everybody and checks it.
		if r.Key() == "F2-c" && oauth.LooksLikeClientIDURL(f.Client.ID) {
			out[i] = absent("F2-c", "the client_id is the URL of a client document")
		}
	}
	return out
}

// alter changes the last character of an id to another of its kind.
func alter(id string) string {
	if id == "" {
		return id
	}
	last, other := id[len(id)-1], byte('A')
	switch {
	case last >= '0' && last <= '9':
		other = '0' + (last-'0'+5)%10
	case last >= 'a' && last <= 'f' && strings.Trim(id, "0123456789abcdef-") == "":
		other = 'a' + (last-'a'+3)%6
	case last >= 'a' && last <= 'z':
		other = 'a' + (last-'a'+13)%26
	case last >= 'A' && last <= 'Z':
		other = 'A' + (last-'A'+13)%26
	}
	return id[:len(id)-1] + string(other)
}
