package audit

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// Judges on recorded answers. A registration is written as status, content type
// and body; the judge sees what a run would have made of it.

func answered(status int, ctype, body string) *kidoban.Exchange {
	return &kidoban.Exchange{ID: 1, Response: &kidoban.Response{Status: status, Header: kidoban.Fields{{Name: "Content-Type", Value: ctype}}, Body: []byte(body)}}
}

func jsonAnswer(status int, body string) *kidoban.Exchange {
	return answered(status, "application/json", body)
}

// tried is an attempt that was answered with x.
func tried(x *kidoban.Exchange) attempt {
	r := &Registration{X: x, Asked: map[string]any{}}
	if m, err := oauth.ParseClientMetadata(x.Response.Body); err == nil && m.ClientID != "" && x.Status() < 300 {
		r.Client = &Client{ID: m.ClientID, Secret: m.ClientSecret, Redirects: m.RedirectURIs, Meta: m, X: x, regURI: m.RegistrationClientURI, regTok: m.RegistrationAccessToken}
	}
	return attempt{reg: r}
}

func knowing() *Facts {
	as := &AS{Issuer: "https://as.example"}
	as.Meta.TokenEndpoint = "https://as.example/token"
	as.Meta.RegistrationEndpoint = "https://as.example/register"
	as.Meta.AuthorizationEndpoint = "https://as.example/authorize"
	return &Facts{AS: as, Client: &Client{ID: "c0"}}
}

func expect(t *testing.T, name string, r kidoban.Result, out kidoban.Outcome, reason kidoban.Reason) {
	t.Helper()
	if r.Outcome != out || r.Reason != reason {
		t.Errorf("%s: %s is %s %s: %s", name, r.Key(), r.Outcome, r.Reason, r.Summary)
	}
}

// TestTurnedDown: which answers to a registration are a refusal of what was asked.
func TestTurnedDown(t *testing.T) {
	closed := knowing()
	closed.Client, closed.C0 = nil, []Registration{{X: jsonAnswer(400, `{"error":"invalid_client_metadata"}`)}}
	for name, c := range map[string]struct {
		x      *kidoban.Exchange
		f      *Facts
		out    kidoban.Outcome
		reason kidoban.Reason
	}{
		"refused":             {jsonAnswer(400, `{"error":"invalid_redirect_uri"}`), knowing(), kidoban.Pass, ""},
		"closed":              {jsonAnswer(401, `{"error":"invalid_token"}`), knowing(), kidoban.Pass, ""},
		"limit":               {jsonAnswer(429, `{}`), knowing(), kidoban.Inconclusive, kidoban.ReasonRateLimit},
		"limit in a 400":      {jsonAnswer(400, `{"error":"too_many_requests"}`), knowing(), kidoban.Inconclusive, kidoban.ReasonRateLimit},
		"challenge":           {answered(403, "text/html", "<title>Just a moment...</title>"), knowing(), kidoban.Inconclusive, kidoban.ReasonChallenge},
		"server error":        {jsonAnswer(500, `{}`), knowing(), kidoban.Inconclusive, kidoban.ReasonUnstable},
		"a page":              {answered(200, "text/html", "<p>registered</p>"), knowing(), kidoban.Inconclusive, kidoban.ReasonUnstable},
		"a list":              {jsonAnswer(201, `["client_id"]`), knowing(), kidoban.Inconclusive, kidoban.ReasonUnstable},
		"a number for an id":  {jsonAnswer(201, `{"client_id":7}`), knowing(), kidoban.Inconclusive, kidoban.ReasonUnstable},
		"a redirect":          {answered(302, "text/html", ""), knowing(), kidoban.Inconclusive, kidoban.ReasonUnstable},
		"everything refused":  {jsonAnswer(400, `{"error":"invalid_client_metadata"}`), closed, kidoban.Inconclusive, kidoban.ReasonUnstable},
		"no answer":           {&kidoban.Exchange{ID: 1, Err: "reset", ErrKind: kidoban.KindUnreachable, Response: nil}, knowing(), kidoban.Inconclusive, kidoban.ReasonNetwork},
		"an unprocessable":    {jsonAnswer(422, `{}`), knowing(), kidoban.Pass, ""},
		"not found":           {answered(404, "text/plain", ""), knowing(), kidoban.Pass, ""},
		"a limit without 429": {&kidoban.Exchange{ID: 1, Response: &kidoban.Response{Status: 503, Header: kidoban.Fields{{Name: "Retry-After", Value: "9"}}}}, knowing(), kidoban.Inconclusive, kidoban.ReasonRateLimit},
	} {
		at := attempt{reg: &Registration{X: c.x}}
		if c.x.Response != nil {
			at = tried(c.x)
		}
		r, ok := at.turnedDown("E13-a", "it", c.f)
		if !ok {
			t.Errorf("%s: taken for a client", name)
			continue
		}
		expect(t, name, r, c.out, c.reason)
	}
	r, ok := attempt{why: kidoban.ReasonOwnServer}.turnedDown("E13-a", "it", knowing())
	if !ok || r.Outcome != kidoban.NotTested || r.Detail == "" {
		t.Errorf("not sent: %+v", r)
	}
}

// TestE13Delivered: registered is not delivered, and the result says which was seen.
func TestE13Delivered(t *testing.T) {
	const uri = "javascript:void(0)//n"
	kept := tried(jsonAnswer(201, `{"client_id":"k","redirect_uris":["`+uri+`"]}`))
	ends := func(k Kind) *Trail {
		return &Trail{Kind: k, Exchanges: []*kidoban.Exchange{answered(200, "text/html", "")}}
	}
	for name, c := range map[string]struct {
		ev  e13Evidence
		out kidoban.Outcome
		sev kidoban.Severity
		say string
	}{
		"taken up":        {e13Evidence{at: kept, uri: uri, trail: ends(Consent)}, kidoban.Fail, kidoban.High, "taken up"},
		"refused later":   {e13Evidence{at: kept, uri: uri, trail: ends(ErrorPage)}, kidoban.Weak, kidoban.Info, "refuses"},
		"behind a script": {e13Evidence{at: kept, uri: uri, trail: ends(JSOnly)}, kidoban.Fail, kidoban.High, "cannot be seen"},
		"not asked":       {e13Evidence{at: kept, uri: uri}, kidoban.Fail, kidoban.High, "not asked"},
		"replaced":        {e13Evidence{at: tried(jsonAnswer(201, `{"client_id":"k","redirect_uris":["https://a.example/"]}`)), uri: uri}, kidoban.Pass, kidoban.High, "without"},
	} {
		r := judgeE13("E13-a", knowing(), c.ev)
		if r.Outcome != c.out || r.Severity != c.sev || !strings.Contains(r.Summary, c.say) {
			t.Errorf("%s: %s %s %s", name, r.Outcome, r.Severity, r.Summary)
		}
	}
}

func TestE14Kept(t *testing.T) {
	f := knowing()
	expect(t, "kept", judgeE14a(f, tried(jsonAnswer(201, `{"client_id":"k","client_uri":"JavaScript:void(0)"}`))), kidoban.Fail, "")
	expect(t, "dropped", judgeE14a(f, tried(jsonAnswer(201, `{"client_id":"k"}`))), kidoban.Pass, "")
	name, _ := json.Marshal(map[string]string{"client_id": "k", "client_name": hiddenName})
	expect(t, "kept", judgeE14c(f, tried(jsonAnswer(201, string(name)))), kidoban.Fail, "")
	expect(t, "cleaned", judgeE14c(f, tried(jsonAnswer(201, `{"client_id":"k","client_name":"kidoban probe"}`))), kidoban.Pass, "")
}

// TestE18Echo: what is granted is what the answer says, and an echo of everything
// is a signal at most.
func TestE18Echo(t *testing.T) {
	f := knowing()
	expect(t, "scope", judgeE18a(f, tried(jsonAnswer(201, `{"client_id":"k","scope":"read *"}`))), kidoban.Fail, "")
	expect(t, "other scope", judgeE18a(f, tried(jsonAnswer(201, `{"client_id":"k","scope":"administrator read"}`))), kidoban.Pass, "")
	expect(t, "grants", judgeE18b(f, e18Evidence{grants: tried(jsonAnswer(201, `{"client_id":"k","grant_types":["password"]}`))}), kidoban.Fail, "")
	offered := knowing()
	offered.AS.Meta.GrantTypesSupported = []string{"client_credentials"}
	expect(t, "offered on purpose", judgeE18b(offered, e18Evidence{grants: tried(jsonAnswer(201, `{"client_id":"k","grant_types":["client_credentials"]}`))}), kidoban.Pass, "")
	offered.AS.Meta.GrantTypesSupported = []string{"authorization_code"}
	for answer, want := range map[string]kidoban.Severity{"unsupported_grant_type": kidoban.Low, "invalid_client": kidoban.High} {
		ev := e18Evidence{grants: tried(jsonAnswer(201, `{"client_id":"k","grant_types":["password"]}`)), token: jsonAnswer(400, `{"error":"`+answer+`"}`)}
		if r := judgeE18b(offered, ev); r.Severity != want || r.Evidence != kidoban.Likely {
			t.Errorf("an echo and %s: %+v", answer, r)
		}
	}
	c := func(body string) kidoban.Result {
		return judgeE18c(f, e18Evidence{extras: tried(jsonAnswer(201, body)), nonsense: "kidoban_n"})
	}
	if r := c(`{"client_id":"k","skip_consent":true}`); r.Evidence != kidoban.Likely {
		t.Errorf("kept: %+v", r)
	}
	if r := c(`{"client_id":"k","skip_consent":true,"kidoban_n":true}`); r.Evidence != kidoban.Signal {
		t.Errorf("echoed: %+v", r)
	}
	expect(t, "overruled", c(`{"client_id":"k","skip_consent":false,"require_pkce":true}`), kidoban.Pass, "")
	d := func(x *kidoban.Exchange) kidoban.Result {
		return judgeE18d(f, e18Evidence{tokenOf: tried(jsonAnswer(201, `{"client_id":"k","client_secret":"s"}`)), token: x})
	}
	if r := d(jsonAnswer(200, `{"access_token":"t"}`)); r.Evidence != kidoban.Confirmed || r.Severity != kidoban.High {
		t.Errorf("token: %+v", r)
	}
	if r := d(jsonAnswer(200, `{"access_token":"t","scope":""}`)); r.Severity != kidoban.Low {
		t.Errorf("token without rights: %+v", r)
	}
	expect(t, "error with 200", d(jsonAnswer(200, `{"access_token":"t","error":"unauthorized_client"}`)), kidoban.Pass, "")
	expect(t, "page", d(answered(200, "text/html", "welcome")), kidoban.Pass, "")
	expect(t, "limit", d(jsonAnswer(429, `{}`)), kidoban.Inconclusive, kidoban.ReasonRateLimit)
}

// TestE19Order: a server that looks at the code first cannot be told from one that
// never looks at the secret.
func TestE19Order(t *testing.T) {
	grant, client := jsonAnswer(400, `{"error":"invalid_grant"}`), jsonAnswer(401, `{"error":"invalid_client"}`)
	base := e19Evidence{at: tried(jsonAnswer(201, `{"client_id":"k","client_secret":"s"}`)), method: "client_secret_basic", right: grant}
	judge := func(wrong, missing, other *kidoban.Exchange) []kidoban.Result {
		ev := base
		ev.wrong, ev.missing, ev.otherx = wrong, missing, other
		return judgeE19(knowing(), ev)
	}
	for i, r := range judge(grant, grant, grant) {
		expect(t, "code first "+itoa(i), r, kidoban.Inconclusive, kidoban.ReasonDeferred)
	}
	for i, r := range judge(client, client, client) {
		expect(t, "safe "+itoa(i), r, kidoban.Pass, "")
	}
	rs := judge(grant, grant, client)
	expect(t, "never looked at", rs[0], kidoban.Fail, "")
	expect(t, "left out", rs[1], kidoban.Fail, "")
	expect(t, "other way", rs[2], kidoban.Pass, "")
	expect(t, "only other way", judge(client, client, grant)[2], kidoban.Weak, "")
	base.right = client
	expect(t, "control refused", judge(client, client, client)[0], kidoban.Inconclusive, kidoban.ReasonUnstable)
	base.at = tried(jsonAnswer(201, `{"client_id":"k","token_endpoint_auth_method":"none"}`))
	expect(t, "public", judge(nil, nil, nil)[0], kidoban.NotApplicable, kidoban.ReasonNotApplicable)
}

// TestE17Series: limits, façades and refusals in a quick series.
func TestE17Series(t *testing.T) {
	series := func(xs ...*kidoban.Exchange) (ev e17Rate) {
		for _, x := range xs {
			ev.tries = append(ev.tries, *tried(x).reg)
		}
		return ev
	}
	ok := func(id string) *kidoban.Exchange { return jsonAnswer(201, `{"client_id":"`+id+`"}`) }
	limit := jsonAnswer(429, `{}`)
	rs := judgeE17Rate(knowing(), series(ok("a"), ok("b"), ok("c")))
	expect(t, "none", rs[0], kidoban.Weak, "")
	expect(t, "none", rs[1], kidoban.NotApplicable, kidoban.ReasonNotApplicable)
	expect(t, "façade", judgeE17Rate(knowing(), series(ok("a"), ok("a")))[0], kidoban.Inconclusive, kidoban.ReasonUnstable)
	ev := series(ok("a"), limit)
	expect(t, "limit", judgeE17Rate(knowing(), ev)[0], kidoban.Pass, "")
	ev.forwarded = tried(limit).reg
	expect(t, "limit holds", judgeE17Rate(knowing(), ev)[1], kidoban.Pass, "")
	ev.forwarded = tried(ok("b")).reg
	expect(t, "limit reset", judgeE17Rate(knowing(), ev)[1], kidoban.Weak, "")
	expect(t, "cut off", judgeE17Rate(knowing(), series(ok("a"), jsonAnswer(403, `{}`)))[0], kidoban.Pass, "")
	expect(t, "broken", judgeE17Rate(knowing(), series(ok("a"), jsonAnswer(500, `{}`)))[0], kidoban.Inconclusive, kidoban.ReasonUnstable)
	expect(t, "nothing sent", judgeE17Rate(knowing(), e17Rate{why: kidoban.ReasonBudget})[0], kidoban.NotTested, kidoban.ReasonBudget)
}

// TestE20Answers: data or nothing, for whoever asks.
func TestE20Answers(t *testing.T) {
	k1 := tried(jsonAnswer(201, `{"client_id":"k1","registration_client_uri":"https://as.example/register/k1","registration_access_token":"t1"}`)).reg.Client
	data, no := jsonAnswer(200, `{"client_id":"k1"}`), jsonAnswer(401, `{"error":"invalid_token"}`)
	base := e20Evidence{k1: k1, k2: &Client{ID: "k2", regTok: "t2"}, own: data, bare: no, others: no, query: no}
	judge := func(change func(*e20Evidence)) map[string]kidoban.Result {
		ev, out := base, map[string]kidoban.Result{}
		change(&ev)
		for _, r := range judgeE20(knowing(), ev) {
			out[r.Key()] = r
		}
		if len(out) != len(e20Keys) {
			t.Errorf("%d results", len(out))
		}
		return out
	}
	safe := judge(func(*e20Evidence) {})
	for _, k := range []string{"E20-a", "E20-b", "E20-c", "E20-f", "E20-g"} {
		expect(t, "safe", safe[k], kidoban.Pass, "")
	}
	expect(t, "open", judge(func(ev *e20Evidence) { ev.bare, ev.query = data, nil })["E20-a"], kidoban.Fail, "")
	expect(t, "open", judge(func(ev *e20Evidence) { ev.bare, ev.query = data, nil })["E20-c"], kidoban.Inconclusive, kidoban.ReasonUnstable)
	expect(t, "a page is no data", judge(func(ev *e20Evidence) { ev.bare = answered(200, "text/html", "k1") })["E20-a"], kidoban.Pass, "")
	expect(t, "another client's data", judge(func(ev *e20Evidence) { ev.others = jsonAnswer(200, `{"client_id":"k2"}`) })["E20-b"], kidoban.Pass, "")
	expect(t, "foreign token", judge(func(ev *e20Evidence) { ev.others = data })["E20-b"], kidoban.Fail, "")
	expect(t, "no address", judge(func(ev *e20Evidence) { ev.own = answered(404, "text/html", "") })["E20-f"], kidoban.Weak, "")
	expect(t, "own token refused", judge(func(ev *e20Evidence) { ev.own = no })["E20-f"], kidoban.Inconclusive, kidoban.ReasonUnstable)
	expect(t, "no deletion", judge(func(ev *e20Evidence) { ev.del = jsonAnswer(405, `{}`) })["E20-f"], kidoban.Weak, "")
	far := judge(func(ev *e20Evidence) { ev.foreign = true })
	expect(t, "far", far["E20-g"], kidoban.Fail, "")
	expect(t, "far", far["E20-a"], kidoban.NotApplicable, kidoban.ReasonNotApplicable)
	put := func(x *kidoban.Exchange, trail *Trail) kidoban.Result {
		return judge(func(ev *e20Evidence) { ev.bad, ev.put, ev.putTrail = "https://n.kidoban-probe.invalid/cb", x, trail })["E20-d"]
	}
	kept := jsonAnswer(200, `{"client_id":"k1","redirect_uris":["https://n.kidoban-probe.invalid/cb"]}`)
	expect(t, "update", put(kept, &Trail{Kind: Login}), kidoban.Fail, "")
	expect(t, "stored only", put(kept, &Trail{Kind: ErrorPage, Exchanges: []*kidoban.Exchange{answered(400, "text/html", "")}}), kidoban.Pass, "")
	expect(t, "left out", put(data, nil), kidoban.Pass, "")
	expect(t, "refused", put(jsonAnswer(400, `{"error":"invalid_redirect_uri"}`), nil), kidoban.Pass, "")
}

// TestE15Fetches: a fetch is a signal for a logo; elsewhere what it follows is.
func TestE15Fetches(t *testing.T) {
	at := tried(jsonAnswer(201, `{"client_id":"k"}`))
	hit := []CanaryHit{{Method: "GET"}}
	judge := func(key string, tr fetchTrial) kidoban.Result {
		tr.key, tr.member, tr.at = key, "m", at
		return judgeFetch(knowing(), &tr)
	}
	expect(t, "none", judge("E15-b", fetchTrial{}), kidoban.Pass, "")
	expect(t, "logo", judge("E15-a", fetchTrial{hits: hit}), kidoban.Weak, "")
	expect(t, "by design", judge("E15-b", fetchTrial{hits: hit}), kidoban.Pass, "")
	expect(t, "followed", judge("E15-b", fetchTrial{hits: hit, next: hit}), kidoban.Weak, "")
	if r := judge("E15-b", fetchTrial{hits: hit, next: hit, inside: hit}); r.Evidence != kidoban.Signal || !strings.Contains(r.Summary, "not public") {
		t.Errorf("inside: %+v", r)
	}
}
