package gateway

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/kidoban/kidoban"
)

// agreed is what people agreed to, by grant.
type agreed struct {
	mu   sync.Mutex
	all  map[string]string
	away bool
}

func (a *agreed) Covers(_ context.Context, grant string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	text, ok := a.all[grant]
	switch {
	case a.away:
		return "", kidoban.Errorf(kidoban.KindUnreachable, "the store is away")
	case !ok:
		return "", kidoban.Errorf(kidoban.KindNotFound, "there is no such grant")
	}
	return text, nil
}

func (a *agreed) put(grant, covers string) { a.mu.Lock(); defer a.mu.Unlock(); a.all[grant] = covers }

type coverRig struct {
	*rig
	a, b *talker
	said *agreed
}

func newCoverRig(t *testing.T) *coverRig {
	p := &coverRig{a: newTalker(t), b: newTalker(t), said: &agreed{all: map[string]string{}}}
	p.rig = newRig(t, []Server{at("a", p.a.URL)}, func(_ *Config, d *Deps) { d.Coverage = p.said })
	return p
}

// serve puts servers in force.
func (p *coverRig) serve(servers ...Server) {
	p.t.Helper()
	p.config.Servers = servers
	if err := p.g.Reload(p.config); err != nil {
		p.t.Fatal(err)
	}
}

// agree gives a grant that covers what there is now, and returns its headers.
func (p *coverRig) agree(grant string) []string {
	p.said.put(grant, p.g.Coverage(p.url+"/mcp"))
	return p.with(grant)
}

func (p *coverRig) with(grant string) []string {
	return []string{"Authorization", "Bearer " + p.as.token(p.t, p.url+"/mcp", "alice", func(m map[string]any) { m["kidoban_grant"], m["jti"] = grant, grant })}
}

func (p *coverRig) list(who []string) string {
	return p.do(http.MethodPost, p.url+"/mcp", listTools, who...).body
}

// TestGCO1_AConsentCoversWhatItNamed: a server that is added after the consent is not
// reached with it, hears nothing, and whoever calls it is told to consent again.
func TestGCO1_AConsentCoversWhatItNamed(t *testing.T) {
	p := newCoverRig(t)
	old := p.agree("old")
	if list := p.list(old); !strings.Contains(list, "a__add") || strings.Contains(list, "_meta") {
		t.Errorf("the list before: %s", list)
	}
	p.serve(at("a", p.a.URL), at("b", p.b.URL))
	url := p.url + "/mcp"
	if list := p.list(old); !strings.Contains(list, "a__add") || strings.Contains(list, "b__") || !strings.Contains(list, `"_meta":{"kidoban/uncovered":["b"]}`) {
		t.Errorf("the list: %s", list)
	}
	for _, method := range []string{`"tools/call","params":{"name":"b__add","arguments":{}}`, `"prompts/get","params":{"name":"b__ask"}`, `"resources/read","params":{"uri":"b+test://a"}`,
		`"completion/complete","params":{"ref":{"type":"ref/prompt","name":"b__ask"},"argument":{"name":"x","value":""}}`} {
		a := p.do(http.MethodPost, url, `{"jsonrpc":"2.0","id":3,"method":`+method+`}`, old...)
		if c := a.header.Get("Www-Authenticate"); a.status != http.StatusForbidden || !strings.Contains(c, `error="insufficient_scope"`) || !strings.Contains(c, `scope="mcp:write"`) || !strings.Contains(a.body, "Connect again") {
			t.Errorf("%s: %d %q %s", method, a.status, c, a.body)
		}
	}
	if a := p.do(http.MethodPost, url, `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"none__add","arguments":{}}}`, old...); a.status != http.StatusOK {
		t.Errorf("a server that is not there: %d %s", a.status, a.body)
	}
	session := append([]string{"Mcp-Session-Id", p.do(http.MethodPost, url, initialize, old...).header.Get("Mcp-Session-Id")}, old...)
	in := p.openEvents(http.MethodGet, url, "", session...)
	p.a.say <- "of a"
	until(t, in, "of a")
	if n := p.b.count(); n != 0 {
		t.Errorf("%d requests reached the new server; the last: %+v", n, p.b.last())
	}
	if list := p.list(p.agree("new")); !strings.Contains(list, "a__add") || !strings.Contains(list, "b__add") || strings.Contains(list, "_meta") {
		t.Errorf("after a new consent: %s", list)
	}
}

// TestGCO1_AServerThatBecameAnotherIsNotCovered: its address, its kind of account and
// its program are what a consent means by its name; how it is served is not.
func TestGCO1_AServerThatBecameAnotherIsNotCovered(t *testing.T) {
	p := newCoverRig(t)
	who := p.agree("g")
	other := at("a", p.b.URL)
	shared := at("a", p.a.URL)
	shared.Account = AccountShared
	p.serve(other)
	if list := p.list(who); strings.Contains(list, "a__") || !strings.Contains(list, "uncovered") {
		t.Errorf("another address: %s", list)
	}
	p.serve(shared)
	if list := p.list(who); strings.Contains(list, "a__") || !strings.Contains(list, "uncovered") {
		t.Errorf("another account: %s", list)
	}
	same := at("a", p.a.URL)
	same.Title, same.Processes, same.Failures = "The same", 3, 9
	p.serve(same)
	if list := p.list(who); !strings.Contains(list, "a__add") || strings.Contains(list, "uncovered") {
		t.Errorf("the same server: %s", list)
	}
	one, two := stdioServer(t, "a"), stdioServer(t, "a")
	two.Stdio.Args = []string{"another"}
	if one.mark() == two.mark() || one.mark() == same.mark() {
		t.Error("two programs have one mark")
	}
}

// TestGCO1_CoverageFailsClosed: nobody is let through while it is not known; a grant
// that is for everything needs no names.
func TestGCO1_CoverageFailsClosed(t *testing.T) {
	p := newCoverRig(t)
	p.said.away = true
	if a := p.do(http.MethodPost, p.url+"/mcp", listTools, p.agree("g")...); a.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", a.status, a.body)
	}
	p.said.mu.Lock()
	p.said.away = false
	p.said.mu.Unlock()
	if a := p.do(http.MethodPost, p.url+"/mcp", listTools, p.with("gone")...); a.status != http.StatusUnauthorized || !strings.Contains(a.header.Get("Www-Authenticate"), "invalid_token") {
		t.Errorf("a grant that is no more: %d %s", a.status, a.body)
	}
	p.said.put("machine", CoversAll)
	p.said.put("none", coverageForm)
	p.serve(at("a", p.a.URL), at("b", p.b.URL))
	if list := p.list(p.with("machine")); !strings.Contains(list, "b__add") {
		t.Errorf("everything: %s", list)
	}
	if list := p.list(p.with("none")); strings.Contains(list, "a__") {
		t.Errorf("nothing: %s", list)
	}
	if got := p.g.Coverage(p.resource("a")); got != CoversAll {
		t.Error(got)
	}
	if a := p.post("a", "bob", listTools); a.status != http.StatusOK {
		t.Errorf("one server's own endpoint: %d %s", a.status, a.body)
	}
}
