package gateway

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// TestGPX5_WishesMeet: what one session sets at two replicas at once is all kept; and a
// session that was ended at one of them stays ended, whatever is set at the other.
func TestGPX5_WishesMeet(t *testing.T) {
	notes := &notesHere{all: map[string]noteHere{}}
	o := &offer{tools: echoTool, prompts: `{"name":"ask"}`, instructions: `"hello"`}
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if strings.Contains(body, `"resources/subscribe"`) || strings.Contains(body, `"resources/unsubscribe"`) {
			result(w, body, `{}`)
			return
		}
		o.serve(w, r, body)
	})
	r := newRig(t, []Server{at("a", up.URL)}, func(_ *Config, d *Deps) { d.Notes = notes })
	twin, err := New(r.config, Deps{Keys: r.as, Liveness: r.as, StateKey: bytes.Repeat([]byte{7}, 32), Notes: notes})
	if err != nil {
		t.Fatal(err)
	}
	other := httptest.NewServer(twin)
	t.Cleanup(func() { other.CloseClientConnections(); other.Close(); twin.Close() })
	token := r.as.token(t, r.url+"/mcp", "alice", nil)
	send := func(base, method, session, body string) answer {
		return r.do(method, base+"/mcp", body, "Authorization", "Bearer "+token, "Host", strings.TrimPrefix(r.url, "http://"), "Mcp-Session-Id", session)
	}
	session := r.do("POST", r.url+"/mcp", initialize, "Authorization", "Bearer "+token).header.Get("Mcp-Session-Id")
	set := func(base, method, params string) {
		if a := send(base, "POST", session, `{"jsonrpc":"2.0","id":2,"method":"`+method+`","params":`+params+`}`); !strings.Contains(a.body, `"result"`) {
			t.Errorf("%s %s: %d %s", method, params, a.status, a.body)
		}
	}
	follow := func(base, uri string) { set(base, "resources/subscribe", `{"uri":"a+test://`+uri+`"}`) }
	noted := func() (out wishes) {
		notes.mu.Lock()
		defer notes.mu.Unlock()
		for key, n := range notes.all {
			if strings.HasPrefix(key, "session:") {
				out = readWishes(n.text)
			}
		}
		return out
	}

	set(other.URL, "ping", "{}") // the twin knows the session before anything is set
	follow(r.url, "one")
	follow(other.URL, "two")
	if w := noted(); len(w.subs["a"]) != 2 {
		t.Errorf("noted are %+v, not what both replicas were told", w)
	}

	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() { follow([]string{r.url, other.URL}[i%2], fmt.Sprint("many-", i)) })
	}
	wg.Wait()
	set(r.url, "resources/unsubscribe", `{"uri":"a+test://two"}`)
	if w := noted(); len(w.subs["a"]) != 13 || w.subs["a"]["test://two"] {
		t.Errorf("noted are %+v, not what both replicas were told at once", w)
	}

	if a := send(r.url, "DELETE", session, ""); a.status != http.StatusNoContent {
		t.Fatal(a.status, a.body)
	}
	send(other.URL, "POST", session, `{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"a+test://late"}}`) // it has not heard yet
	if a := send(r.url, "POST", session, `{"jsonrpc":"2.0","id":2,"method":"ping"}`); a.status != http.StatusNotFound {
		t.Errorf("a session that was ended is back: %d %s", a.status, a.body)
	}
}

// TestGPX3_ARefusalAtTheHomeIsAnAnswer: a replica that asks the home of a server that is
// left alone is told so.
func TestGPX3_ARefusalAtTheHomeIsAnAnswer(t *testing.T) {
	r := newRig(t, []Server{at("a", "http://127.0.0.1:1/mcp")})
	b := &r.g.state.Load().servers["a"].breaker
	for range 10 {
		b.done(r.g.deps.Now(), "alice", true, false)
	}
	l := (&mail{g: r.g}).led(t.Context(), letter{Kind: "open", Server: "a", User: "alice", Client: "c"}, &served{})
	if l.Kind != "fail" || l.Text == "" {
		t.Errorf("%+v", l)
	}
}
