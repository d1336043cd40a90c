package audit

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kidoban/kidoban"
)

func found1(key string, ev kidoban.Evidence) kidoban.Result { return positive(key, ev, "seen") }

func chainIDs(rs ...kidoban.Result) []string {
	var out []string
	for _, c := range Chains(rs) {
		out = append(out, c.ID)
	}
	return out
}

// TestChains has each way in with its links, and each link alone.
func TestChains(t *testing.T) {
	local := found1("E09-a", kidoban.Confirmed)
	local.Severity = kidoban.High
	for id, links := range map[string][]kidoban.Result{
		"F7+F5":        {found1("F7-1", kidoban.Confirmed), found1("F5-a", kidoban.Likely)},
		"F1+F6":        {found1("F1-a", kidoban.Likely), found1("F6-A", kidoban.Confirmed)},
		"F1+E01":       {found1("F1-a", kidoban.Likely), found1("E01-a", kidoban.Likely)},
		"F1+E02":       {found1("F1-d", kidoban.Likely), found1("E02-a", kidoban.Likely)},
		"F2+F7":        {found1("F2-a", kidoban.Likely), found1("F7-7", kidoban.Confirmed)},
		"F4+L2":        {found1("F4-1", kidoban.Confirmed)},
		"E13+E28":      {found1("E13-a", kidoban.Likely), found1("E28-a", kidoban.Confirmed)},
		"E03+E09":      {found1("E03-a", kidoban.Confirmed), local},
		"E12+multi-AS": {found1("E12-a", kidoban.Confirmed), found1("E10-f", kidoban.Confirmed)},
		"F9+E23":       {found1("F9-2", kidoban.Confirmed), found1("E23-a", kidoban.Confirmed)},
		"E17+F1":       {found1("E17-a", kidoban.Confirmed), found1("F1-b", kidoban.Likely)},
	} {
		if got := chainIDs(links...); len(got) != 1 || got[0] != id {
			t.Errorf("%s: %v", id, got)
		}
		if len(links) < 2 {
			continue
		}
		for _, l := range links {
			if got := chainIDs(l); len(got) > 0 {
				t.Errorf("%s alone makes %v", l.Key(), got)
			}
		}
	}
	if got := chainRules(); len(got) != 11 {
		t.Errorf("%d chains", len(got))
	}
	if got := chainIDs(found1("E03-a", kidoban.Confirmed), found1("E09-a", kidoban.Confirmed)); len(got) > 0 {
		t.Errorf("an open server on the internet needs no browser: %v", got)
	}
}

// TestChainsAreHonest: signals, passes and suppressed findings link nothing, and
// every hop that names a check is one of the chain's.
func TestChainsAreHonest(t *testing.T) {
	sup := found1("F4-1", kidoban.Confirmed)
	sup.Suppressed = "accepted"
	if got := chainIDs(sup, found1("F4-4", kidoban.Signal), passed("F4-3", "fine")); len(got) > 0 {
		t.Errorf("chains from nothing: %v", got)
	}
	all := []kidoban.Result{}
	for _, c := range kidoban.Checks() {
		all = append(all, found1(c.Key(), c.Max))
	}
	for _, c := range Chains(all) {
		have := map[string]bool{}
		for _, k := range c.Checks {
			have[k] = true
		}
		if c.Title == "" || c.Break == "" || c.Effort == "" || len(c.Hops) < 2 {
			t.Errorf("%s is incomplete", c.ID)
		}
		for _, h := range c.Hops {
			if h.Check != "" && !have[h.Check] || h.Proven && h.Check == "" || h.Text == "" {
				t.Errorf("%s: hop %+v", c.ID, h)
			}
		}
		if _, ok := kidoban.FlawByID(c.Explain); !ok {
			t.Errorf("%s explains %q", c.ID, c.Explain)
		}
	}
}

func everything(o kidoban.Outcome) []kidoban.Result {
	var out []kidoban.Result
	for _, c := range kidoban.Checks() {
		r := blank(c.Key())
		r.Outcome = o
		out = append(out, r)
	}
	return out
}

// TestGrade has each letter of the cap table.
func TestGrade(t *testing.T) {
	put := func(rs []kidoban.Result, x kidoban.Result) []kidoban.Result {
		for i := range rs {
			if rs[i].Key() == x.Key() {
				rs[i] = x
			}
		}
		return rs
	}
	for _, c := range []struct {
		name    string
		results []kidoban.Result
		letter  string
		bracket bool
	}{
		{"all good, login done", everything(kidoban.Pass), "A+", false},
		{"nothing tested", everything(kidoban.NotTested), "A", true},
		{"a SHOULD", put(everything(kidoban.Pass), found1("E11-f", kidoban.Confirmed)), "B", false},
		{"information", put(everything(kidoban.Pass), found1("E11-g", kidoban.Confirmed)), "A", false},
		{"a signal", put(everything(kidoban.Pass), found1("E30-a", kidoban.Signal)), "A", false},
		{"a MUST without impact", put(everything(kidoban.Pass), found1("E10-a", kidoban.Confirmed)), "C", false},
		{"a high fail", put(everything(kidoban.Pass), found1("F2-a", kidoban.Likely)), "D", false},
		{"a redirected error", put(everything(kidoban.Pass), found1("F7-1", kidoban.Confirmed)), "D", false},
		{"a code for the attacker", put(everything(kidoban.Pass), found1("F1-e", kidoban.Confirmed)), "F", false},
		{"a bad token opens the tools", put(everything(kidoban.Pass), found1("E04-a", kidoban.Confirmed)), "F", false},
		{"a chain", put(put(everything(kidoban.Pass), found1("F1-a", kidoban.Likely)), found1("F6-B", kidoban.Likely)), "D", false},
	} {
		g, _, _ := grade(kidoban.HeadlineGraded, c.results, Chains(c.results))
		if g.Letter != c.letter || g.Bracketed != c.bracket {
			t.Errorf("%s: %s bracketed %v (%v)", c.name, g.Letter, g.Bracketed, g.Caps)
		}
	}
	if g, _, _ := grade(kidoban.HeadlineOpen, everything(kidoban.Pass), nil); g.Letter != "" {
		t.Errorf("an open server got %s", g.Letter)
	}
}

// TestGradeProperties: fixing a finding never lowers the grade.
func TestGradeProperties(t *testing.T) {
	checks := kidoban.Checks()
	rapid.Check(t, func(t *rapid.T) {
		rs := everything(kidoban.Pass)
		n := rapid.IntRange(1, 8).Draw(t, "findings")
		at := -1
		for range n {
			i := rapid.IntRange(0, len(checks)-1).Draw(t, "check")
			rs[i], at = found1(checks[i].Key(), checks[i].Max), i
		}
		before, _, _ := grade(kidoban.HeadlineGraded, rs, Chains(rs))
		rs[at] = passed(checks[at].Key(), "fixed")
		after, _, _ := grade(kidoban.HeadlineGraded, rs, Chains(rs))
		rank := map[string]int{}
		for i, l := range letters {
			rank[l] = i
		}
		if rank[after.Letter] > rank[before.Letter] {
			t.Fatalf("fixing %s lowers %s to %s", checks[at].Key(), before.Letter, after.Letter)
		}
	})
}

// TestPageKinds: pages as servers write them, told apart.
func TestPageKinds(t *testing.T) {
	for want, pages := range map[Kind][]string{
		Login: {
			`<form method=post><input name=user><input type=password name=pw><button>Sign in</button></form>`,
			`<form><input type="email" name="email"><input type=submit value=Next></form>`,
			`<a href="https://accounts.google.com/o/oauth2/v2/auth?x">Continue</a>`,
			`<p>Use your passkey</p><script>navigator.credentials.get({})</script>`,
			`<form method=post><h1>Allow probe?</h1><input type=password><button>Allow</button><button>Deny</button></form>`,
		},
		Consent: {
			`<form method=post><p>kidoban security probe wants access</p><button>Allow</button><button>Cancel</button></form>`,
			`<p>probe-marker asks</p><button>Authorize</button>`,
			`<form><input type=submit value="Zulassen"><input type=submit value="Ablehnen"></form>`,
			`<form><button>許可する</button><button>キャンセル</button></form>`,
		},
		JSOnly: {`<div id=root></div><script src=/app.js></script><noscript>enable JavaScript</noscript>`},
		ErrorPage: {
			`<h1>Something is wrong</h1><p>error: invalid_client</p>`,
		},
		Other: {`<p>Welcome to our server, this text is long enough not to be an application shell.</p>`},
	} {
		for _, body := range pages {
			x := &kidoban.Exchange{Response: &kidoban.Response{Status: 200, Header: kidoban.Fields{{Name: "Content-Type", Value: "text/html"}}, Body: []byte(body)}}
			p := ParsePage(x.Response.Body)
			if k, _ := classifyPage(x, &p, nil, "probe-marker"); k != want {
				t.Errorf("%s is %s, want %s", body, k, want)
			}
		}
	}
}

func FuzzParsePage(f *testing.F) {
	f.Add([]byte(`<form action=x><input type=password><button>ok</form><meta http-equiv=refresh content="0;url='/y'">`))
	f.Add([]byte("<title>\xff\x00</title><script>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := ParsePage(b)
		if len(p.Text) > 2*maxText || len(p.Forms) > maxForms || len(p.Title) > 1024 {
			t.Fatal("a bound was passed")
		}
	})
}

// TestTemplate: what is random in a path goes, what names a page stays.
func TestTemplate(t *testing.T) {
	for in, want := range map[string]string{
		"/oauth2/authorize": "/oauth2/authorize", "/login": "/login", "/txn/6f1c2d3e4a5b": "/txn/*", "/u/550e8400-e29b-41d4-a716-446655440000/consent": "/u/*/consent",
		"/a/123456/b": "/a/*/b", "/interaction/Qb0kPzL9xWm3": "/interaction/*", "/v1/continue-with-google": "/v1/continue-with-google",
	} {
		if got := templatePath(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// TestStateDecoding: routing data are found in every nesting that servers use,
// rewritten in the same, and a signature beside them is seen.
func TestStateDecoding(t *testing.T) {
	const uri, evil = "http://127.0.0.1:4711/callback/ab", "https://n.kidoban-probe.invalid/cb"
	sent := authRequest{Registered: uri, Params: params{{"client_id", "client-4711"}}}
	plain := `{"tx":"1","redirect_uri":"` + uri + `"}`
	b64 := base64.RawURLEncoding.EncodeToString
	sig := b64([]byte("0123456789abcdefghijklmnopqrstuv"))
	jwt := b64([]byte(`{"alg":"HS256"}`)) + "." + b64([]byte(plain)) + "." + sig
	for name, c := range map[string]struct {
		state  string
		signed bool
	}{
		"json": {plain, false}, "base64": {b64([]byte(plain)), false}, "padded": {base64.URLEncoding.EncodeToString([]byte(plain)), false},
		"standard alphabet": {base64.StdEncoding.EncodeToString([]byte(plain)), false}, "twice": {b64([]byte(b64([]byte(plain)))), false},
		"jwt": {jwt, true}, "jwt without signature": {b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(plain)) + ".", false},
		"data and mac": {b64([]byte(plain)) + "." + sig, true}, "escaped slashes": {b64([]byte(strings.ReplaceAll(plain, "/", `\/`))), false},
	} {
		what, signed := routing(c.state, sent)
		if what != "the client's redirect URI" || signed != c.signed {
			t.Errorf("%s: %q signed %v", name, what, signed)
		}
		forged, ok := retarget(c.state, uri, evil)
		if !ok {
			t.Errorf("%s cannot be rewritten", name)
			continue
		}
		if w, _ := routing(forged, authRequest{Registered: evil}); w != "the client's redirect URI" || strings.Contains(forged, uri) {
			t.Errorf("%s: rewritten to %q (%s)", name, forged, w)
		}
	}
	for _, opaque := range []string{"", "xyz", sig, "5a3c7e91d2f04b68a1c9e7350f2d4b86", b64([]byte{0, 1, 2, 250, 251, 252, 9, 9, 9, 9, 9, 9})} {
		if what, _ := routing(opaque, sent); what != "" {
			t.Errorf("%q carries %s", opaque, what)
		}
	}
}

func FuzzUnnest(f *testing.F) {
	f.Add("eyJyZWRpcmVjdF91cmkiOiJodHRwOi8vMTI3LjAuMC4xIn0")
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, s string) {
		if n := len(unnest(s)); n > 8 {
			t.Fatalf("%d layers", n)
		}
		retarget(s, "http://127.0.0.1", "https://x.invalid")
	})
}

// TestStateRandomness: how much room the samples leave for chance.
func TestStateRandomness(t *testing.T) {
	for _, c := range []struct {
		states []string
		low    bool
	}{
		{[]string{"5a3c7e91", "00aa11bb", "9f8e7d6c"}, true},
		{[]string{"prefix-5a3c7e91-suffix", "prefix-00aa11bb-suffix", "prefix-9f8e7d6c-suffix"}, true},
		{[]string{"Jz8Qm1kP0sXv7bNc3dFg5A", "a9LwErTyUiOpAsDfGhJkLz", "mNbVcXzLkJhGfDsApOiUyT"}, false},
		{[]string{"550e8400-e29b-41d4-a716-446655440000", "6ba7b810-9dad-41d1-80b4-00c04fd430c8"}, false},
		{[]string{strings.Repeat("0123456789abcdef", 2), strings.Repeat("fedcba9876543210", 2)}, false},
	} {
		if bits := randomBits(c.states); bits < 128 != c.low {
			t.Errorf("%v: %.0f bits", c.states, bits)
		}
	}
	for n := range 1 << 11 { // eight hex digits stay short whatever they decode to
		s := fmt.Sprintf("%08x", uint32(n)*0x9e3779b9)
		if structured(L2{State: s}) {
			t.Fatalf("%s counts as structured", s)
		}
	}
	if !counting([]string{"1700000001", "1700000002", "1700000009"}) || counting([]string{"839201", "120332"}) {
		t.Error("counters")
	}
}

// TestLedgerSealsAndSettles: tokens open only in their ledger and entry; torn
// lines are ignored; a settled ledger goes away.
func TestLedgerSealsAndSettles(t *testing.T) {
	dir := t.TempDir()
	l, err := OpenLedger(dir, "aaaabbbbcccc")
	if err != nil {
		t.Fatal(err)
	}
	n, err := l.Intend(Entry{Issuer: "https://as.example", Endpoint: "https://as.example/register", Time: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Registered(Entry{N: n, ClientID: "c", ClientURI: "https://as.example/register/c"}, "the-token"); err != nil {
		t.Fatal(err)
	}
	if dead, _ := orphans(dir); len(dead) > 0 {
		t.Fatal("a living run's ledger was taken")
	}
	entries, err := readLedger(l.path)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v", entries, err)
	}
	sealed := entries[1].SealedToken
	if got, err := l.unseal(n, sealed); err != nil || got != "the-token" {
		t.Errorf("unsealed %q, %v", got, err)
	}
	if _, err := l.unseal(n+1, sealed); err == nil {
		t.Error("opened for another entry")
	}
	other, err := OpenLedger(dir, "ddddeeeeffff")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.unseal(n, sealed); err == nil {
		t.Error("opened in another ledger")
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.f.WriteString(`{"n":2,"event":"inte`); err != nil {
		t.Fatal(err)
	}
	l.f.Close() // as a crash does
	dead, err := orphans(dir)
	if err != nil || len(dead) != 1 {
		t.Fatalf("orphans %v, %v", dead, err)
	}
	again, err := readLedger(dead[0].path)
	if err != nil || len(states(again)) != 1 || states(again)[0].ClientID != "c" || states(again)[0].Endpoint == "" {
		t.Errorf("read after the crash: %+v, %v", again, err)
	}
	if _, err := dead[0].f.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	if err := dead[0].Note(n, "deleted", "", time.Unix(2, 0)); err != nil {
		t.Fatal(err)
	}
	if err := dead[0].Close(); err != nil {
		t.Fatal(err)
	}
	if rest, _ := filepath.Glob(filepath.Join(dir, ledgerDir, "*")); len(rest) > 0 {
		t.Errorf("still there: %v", rest)
	}
	if _, err := os.Stat(filepath.Join(dir, keyFile)); err != nil {
		t.Error(err)
	}
}

// TestEveryKeyHasOneProbe: no check is decided by two probes, and every key is
// in the catalogue.
func TestEveryKeyHasOneProbe(t *testing.T) {
	by := map[string]string{}
	for _, p := range probes() {
		for _, k := range p.keys {
			if _, ok := kidoban.CheckByKey(k); !ok {
				t.Errorf("%s decides %s, which does not exist", p.name, k)
			}
			if other, dup := by[k]; dup {
				t.Errorf("%s is decided by %s and by %s", k, other, p.name)
			}
			by[k] = p.name
		}
	}
}

func TestSummariesAreClean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := clean(rapid.String().Draw(t, "text"))
		if _, err := json.Marshal(s); err != nil || strings.ContainsAny(s, "\x1b\n\r\u202e\u200b") {
			t.Fatalf("%q", s)
		}
	})
}
