package gateway

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/toolscan"
)

// TestGPX3_ADeadServerIsCalledDead: nothing is known of what a server offers that was
// never reached. Its callers are told that, not that the operator has not approved the
// tool; while it is left alone nobody asks it, and when it is back the next call runs.
func TestGPX3_ADeadServerIsCalledDead(t *testing.T) {
	o := &offer{tools: addTool, prompts: `{"name":"ask"}`, instructions: `"Adds."`}
	var dead atomic.Bool
	dead.Store(true)
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if dead.Load() {
			panic(http.ErrAbortHandler)
		}
		o.serve(w, r, body)
	})
	for _, aggregate := range []bool{false, true} {
		dead.Store(true)
		s := at("s", up.URL)
		s.Failures, s.Rest, s.Era = 2, 2*time.Second, "legacy"
		var ck stoppable
		r := newRig(t, []Server{s}, func(_ *Config, d *Deps) {
			d.Now = ck.now
			d.Guards.Pins = NewPinGuard(&pinMemory{}, "", toolscan.New(), nil, nil, ck.now)
		})
		ck.stop()
		url, prefix := r.resource("s"), ""
		if aggregate {
			url, prefix = r.url+"/mcp", "s__"
		}
		token := r.as.token(t, url, "alice", nil)
		call := func(method, name string) answer {
			return r.do("POST", url, `{"jsonrpc":"2.0","id":"`+name+`","method":"`+method+`","params":{"name":"`+prefix+name+`"}}`, "Authorization", "Bearer "+token)
		}
		for range s.Failures {
			if a := call("tools/call", "add"); a.status != http.StatusBadGateway || strings.Contains(a.body, heldBack) || !strings.Contains(a.body, `"id":"add"`) {
				t.Errorf("aggregate %v, dead: %d %s", aggregate, a.status, a.body)
			}
		}
		before := up.count()
		for method, name := range map[string]string{"tools/call": "add", "prompts/get": "ask"} {
			a := call(method, name)
			if code, say := a.rpc(t); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || code == 0 || !strings.Contains(say, "does not answer") {
				t.Errorf("aggregate %v, left alone, %s: %d %v %s", aggregate, method, a.status, a.header, a.body)
			}
		}
		if n := up.count(); n != before {
			t.Errorf("aggregate %v: a server that is left alone was asked %d times", aggregate, n-before)
		}
		dead.Store(false)
		ck.mu.Lock()
		ck.skip += 2 * s.Rest
		ck.mu.Unlock()
		if a := call("tools/call", "add"); !strings.Contains(a.body, "ran") {
			t.Errorf("aggregate %v, back: %d %s", aggregate, a.status, a.body)
		}
		if a := call("tools/call", "other"); !strings.Contains(a.body, heldBack) {
			t.Errorf("aggregate %v, what it does not list: %d %s", aggregate, a.status, a.body)
		}
	}
}

// TestGVA1_ACallBeforeAnyListSaysHowToConnect: without an account a server cannot be
// asked what it lists; callers of either era are told how to connect it, each as its
// era wants it, however many come at once.
func TestGVA1_ACallBeforeAnyListSaysHowToConnect(t *testing.T) {
	up := newRaw(t, (&offer{tools: addTool, instructions: `"Adds."`}).serve)
	s := at("drive", up.URL)
	s.Account = AccountUser
	r := newRig(t, []Server{s}, func(_ *Config, d *Deps) {
		d.Accounts = newWallet(t, nil)
		d.Guards.Pins = NewPinGuard(&pinMemory{}, "", toolscan.New(), nil, nil, time.Now)
		d.Connect = func(_, server string) string { return "https://gate.example/connect?for=" + server }
	})
	body, header := modern("tools/call", `"name":"add","arguments":{}`, "add")
	got := make(chan string)
	for i := range 20 {
		go func() {
			if i%2 == 0 {
				got <- "modern " + r.post("drive", "alice", body, header...).body
			} else {
				got <- "legacy " + r.post("drive", "alice", callTool("add"), "MCP-Protocol-Version", "2025-11-25").body
			}
		}()
	}
	for range 20 {
		era, text, _ := strings.Cut(<-got, " ")
		want := map[string]string{"modern": `"input_required"`, "legacy": "-32042"}[era]
		if !strings.Contains(text, want) || !strings.Contains(text, "https://gate.example/connect?for=drive") {
			t.Errorf("%s: %s", era, text)
		}
	}
	if up.count() != 0 {
		t.Errorf("the server was asked without an account")
	}
}

// wornAccount is accepted nowhere any more, and cannot be renewed just now.
type wornAccount struct{}

func (wornAccount) Credential(_ context.Context, _, _ string, renew bool) ([]Header, error) {
	if renew {
		return nil, kidoban.Errorf(kidoban.KindUnreachable, "the issuer is away")
	}
	return []Header{{Name: "Authorization", Value: "Bearer worn-out"}}, nil
}

func (wornAccount) Challenged(context.Context, string, string, int, []string) error { return nil }

// TestGPX3_AnAccountThatIsNotTakenIsNoMissingTool: a server that takes the account no
// more says nothing of what it lists, and neither do we.
func TestGPX3_AnAccountThatIsNotTakenIsNoMissingTool(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(http.StatusUnauthorized) })
	s := at("drive", up.URL)
	s.Account, s.Era = AccountUser, "legacy"
	r := newRig(t, []Server{s}, func(_ *Config, d *Deps) {
		d.Accounts = wornAccount{}
		d.Guards.Pins = NewPinGuard(&pinMemory{}, "", toolscan.New(), nil, nil, time.Now)
	})
	if a := r.post("drive", "alice", callTool("add")); strings.Contains(a.body, heldBack) || !strings.Contains(a.body, "cannot be used just now") {
		t.Errorf("%d %s", a.status, a.body)
	}
}
