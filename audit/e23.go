package audit

import (
	"context"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// probeQuery puts made-up credentials into the query: does one open the endpoint
// (E03-f), and does the answer show that the server looks at it (E23-b)?
func probeQuery() probe {
	return define(spec{name: "credentials in the query", keys: []string{"E03-f", "E23-b", "E34-b"}, tier: kidoban.T1}, collectQuery, judgeQuery)
}

type queryTokens struct{ all, single volley }

func collectQuery(ctx context.Context, s *session) (q queryTokens) {
	if s.facts.door() != doorClosed {
		return q
	}
	at := func(names ...string) call {
		u := s.facts.URL
		for _, n := range names {
			u = addQuery(u, n, "kidoban-invalid-"+s.word(20))
		}
		return call{Method: "tools/list", URL: u}
	}
	q.all = s.volley(ctx, "E03-f", 1, []form{{"a made-up token in the query", at("access_token", "token", "api_key")}})
	if s.thorough() && q.all.hit() == nil {
		q.single = s.volley(ctx, "E03-f", 3, []form{
			{"a made-up ?token=", at("token")}, {"a made-up ?api_key=", at("api_key")}, {"a made-up ?key=", at("key")},
			{"a made-up ?access_token=", at("access_token")},
		})
	}
	return q
}

func judgeQuery(f *Facts, q queryTokens) []kidoban.Result {
	inURL := judgeKeyInURL(f)
	switch f.door() {
	case doorOpen:
		return append(everyone([]string{"E03-f", "E23-b"}, func(k string) kidoban.Result {
			return absent(k, "the tools are listed to anyone already (E03-a)", f.List)
		}), inURL)
	case doorUnknown:
		return append(everyone([]string{"E03-f", "E23-b"}, func(k string) kidoban.Result { return noControl(k, f) }), inURL)
	}
	v := &q.all
	if q.single.hit() != nil {
		v = &q.single
	}
	opens := v.decide("E03-f", f.List, func(h *shot) string { return h.what + " opens the endpoint: the tools are listed" }, "a made-up token in the query does not help")
	return []kidoban.Result{opens, judgeExamined(f, append(q.all.shots, q.single.shots...)), inURL}
}

// judgeExamined: an answer that differs from the one without a token shows that
// tokens in the query are looked at.
func judgeExamined(f *Facts, shots []shot) kidoban.Result {
	const key = "E23-b"
	var last *kidoban.Exchange
	for i := range shots {
		x := shots[i].first.last()
		if shots[i].served() || x == nil || x.Response == nil {
			continue
		}
		if r, bad := undecided(key, "a made-up token in the query", x); bad {
			return r
		}
		last = x
		if how := differs(f.List, x); how != "" {
			return positive(key, kidoban.Signal, "a made-up token in the query changes the answer ("+how+"), so tokens in the query are looked at", f.List, x)
		}
	}
	if last == nil {
		if len(shots) > 0 {
			return absent(key, "a token in the query opens the endpoint already (E03-f)", shots[0].first.last())
		}
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	return passed(key, "a made-up token in the query is not looked at", f.List, last)
}

// differs says how two refusals differ in what they say about the credentials.
func differs(a, b *kidoban.Exchange) string {
	if st := b.Status(); st >= 500 || st == 404 || st == 405 || st < 400 && !ReplyOf(b).RPC {
		return "" // the address with a query is another one to this server
	}
	if a.Status() != b.Status() {
		return "status " + itoa(a.Status()) + " and " + itoa(b.Status())
	}
	if x, y := challengeError(a), challengeError(b); x != y {
		return "error " + orNone(x) + " and " + orNone(y)
	}
	if x, y := oauthError(a), oauthError(b); x != y {
		return "error " + orNone(x) + " and " + orNone(y)
	}
	return ""
}

// challengeError is the error code of the bearer challenge.
func challengeError(x *kidoban.Exchange) string {
	if x == nil || x.Response == nil {
		return ""
	}
	for _, c := range oauth.ParseChallenges(x.Response.Header.Values("WWW-Authenticate")) {
		if e := c.Get("error"); e != "" {
			return e
		}
	}
	return ""
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// judgeKeyInURL is E34-b: is a key part of the address itself?
func judgeKeyInURL(f *Facts) kidoban.Result {
	const key = "E34-b"
	if names := secretsIn(f.URL, keyNames()); len(names) > 0 {
		return positive(key, kidoban.Signal, "the address carries a key in its query ("+strings.Join(names, ", ")+")", f.List)
	}
	if name := asksForQueryKey(f.Refused); name != "" {
		return positive(key, kidoban.Signal, "the refusal asks for a key in the query ("+name+")", f.Refused)
	}
	return passed(key, "the address carries no key", f.List)
}

// keyNames are query parameters that hold a static key.
func keyNames() []string {
	return []string{"key", "apikey", "api_key", "api-key", "x-api-key", "auth_key", "secret", "password"}
}

// tokenNames are query parameters that hold a token or session.
func tokenNames() []string {
	return []string{"access_token", "token", "refresh_token", "id_token", "bearer", "auth", "jwt", "client_secret"}
}

// secretsIn returns the names among wanted that stand with a value in raw's query
// or fragment.
func secretsIn(raw string, wanted []string) []string {
	u, err := url.Parse(raw)
	if err != nil {
		return nil
	}
	var out []string
	for _, part := range strings.FieldsFunc(u.RawQuery+"&"+u.Fragment, func(r rune) bool { return r == '&' || r == ';' }) {
		name, v, _ := strings.Cut(part, "=")
		for _, w := range wanted {
			if strings.EqualFold(name, w) && v != "" {
				out = append(out, w)
			}
		}
	}
	return out
}

// asksForQueryKey finds a refusal whose text tells callers to put a key into the
// query.
func asksForQueryKey(x *kidoban.Exchange) string {
	if x == nil || x.Response == nil {
		return ""
	}
	low := strings.ToLower(string(head(x.Response.Body, 4096)) + " " + strings.Join(x.Response.Header.Values("WWW-Authenticate"), " "))
	for _, n := range keyNames() {
		if strings.Contains(low, "?"+n+"=") || strings.Contains(low, "query parameter "+n) || strings.Contains(low, n+" query parameter") {
			return n
		}
	}
	return ""
}
