package audit

import (
	"context"

	"github.com/kidoban/kidoban"
)

// E05 without a login: does the authorization server look at resource at all?
func probeE05() probe {
	return define(spec{name: "foreign resource", keys: []string{"E05-a"}, tier: kidoban.T1, cost: 1},
		func(ctx context.Context, s *session) mutation {
			r := s.baseline(s.facts.Client)
			r.Params = r.Params.with("resource", "https://"+s.nonce(10)+probeDomain+"/mcp")
			m := mutation{key: "E05-a", what: "a request for a resource of somebody else", asked: true}
			m.t = s.mutate(ctx, m.key, m.what, r, s.trials())
			return m
		}, func(f *Facts, m mutation) []kidoban.Result { return verdicts([]mutation{m}) })
}
