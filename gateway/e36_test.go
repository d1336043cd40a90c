package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/kidoban/kidoban/account"
	"github.com/kidoban/kidoban/lab"
)

// hostileRig is a gateway before a hostile server whose accounts it finds by
// discovery.
func hostileRig(t *testing.T, users ...string) (*rig, *lab.Hostile, *account.Wallet) {
	t.Helper()
	h, err := lab.OpenHostile("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	w := newWallet(t, map[string]*account.App{"evil": {URL: h.URL, ClientName: "Kidoban", Loopback: true}})
	s := at("evil", h.URL)
	s.Account = AccountUser
	r := newRig(t, []Server{s}, func(_ *Config, d *Deps) {
		d.Accounts = w
		d.Connect = func(_, server string) string { return connectMark + server }
	})
	for _, u := range users {
		if err := connectAs(t.Context(), w, u, "evil"); err != nil {
			t.Fatal(err)
		}
	}
	return r, h, w
}

const tell = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"tell","arguments":{}}}`

// TestE36_07_RedirectedCallsAreNotFollowed: neither the message nor the account
// goes where the server redirects to.
func TestE36_07_RedirectedCallsAreNotFollowed(t *testing.T) {
	r, h, _ := hostileRig(t, "alice")
	h.Begin("7-mcp")
	if a := r.post("evil", "alice", tell); a.status != http.StatusBadGateway || strings.Contains(a.body, h.Thief) || a.header.Get("Location") != "" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	if got := h.Stolen(); len(got) > 0 {
		t.Errorf("the thief got %q", got)
	}
}

// TestE36_11_TokensStayWithTheirUserUnderLoad: a hundred users at once, in both
// eras; each call goes up with the account of its own user.
func TestE36_11_TokensStayWithTheirUserUnderLoad(t *testing.T) {
	const users, calls = 20, 20
	p := newThirdParty(t)
	w := newWallet(t, map[string]*account.App{"who": p.app()})
	up := newRaw(t, func(wr http.ResponseWriter, r *http.Request, body string) {
		_, user, _ := strings.Cut(r.Header.Get("Authorization"), "-of-")
		result(wr, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"content":[{"type":"text","text":"you are `+user+`."}]}`)
	})
	s := at("who", up.URL)
	s.Account = AccountUser
	r := newRig(t, []Server{s}, func(c *Config, d *Deps) { d.Accounts = w })
	for i := range users {
		p.connect(t, w, fmt.Sprint("u", i), "who")
	}
	var wg sync.WaitGroup
	for i := range users {
		user := fmt.Sprint("u", i)
		wg.Go(func() {
			for n := range calls {
				body, header := tell, []string(nil)
				if n%2 == 1 {
					body, header = modern("tools/call", `"name":"tell","arguments":{}`, "tell")
				}
				if a := r.post("who", user, body, header...); a.status != http.StatusOK || !strings.Contains(a.body, "you are "+user+".") {
					t.Errorf("%s: %d %s", user, a.status, a.body)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestE36_12_StepUpsEndAtTheClient: a server that is never content leads to a
// refusal, not to another page, in both eras.
func TestE36_12_StepUpsEndAtTheClient(t *testing.T) {
	for _, attack := range []string{"12-same", "12-steps"} {
		r, h, w := hostileRig(t, "alice")
		h.Begin(attack)
		pages := 0
		for range 20 {
			a := r.post("evil", "alice", tell)
			if !strings.Contains(a.body, connectMark) {
				if code, text := a.rpc(t); code == 0 || !strings.Contains(text, "does not let this account") || a.header.Get("WWW-Authenticate") != "" {
					t.Errorf("%s: %d %s", attack, a.status, a.body)
				}
				break
			}
			pages++
			if err := connectAs(t.Context(), w, "alice", "evil"); err != nil {
				t.Fatal(err)
			}
		}
		if want := map[string]int{"12-same": 0, "12-steps": account.MaxStepUps}[attack]; pages != want {
			t.Errorf("%s: %d pages", attack, pages)
		}
	}
}

// TestE36_15_ElicitationURLsAreNeverOpened: what a server wants opened is handed
// to the client as it is; the gateway does not go there, in either era.
func TestE36_15_ElicitationURLsAreNeverOpened(t *testing.T) {
	r, h, _ := hostileRig(t, "alice")
	h.Begin("15-elicit")
	body, header := modern("tools/call", `"name":"tell","arguments":{}`, "tell")
	a := r.post("evil", "alice", body, header...)
	var m struct{ Result struct{ ResultType string } }
	if err := json.Unmarshal([]byte(a.body), &m); err != nil || m.Result.ResultType != "input_required" || !strings.Contains(a.body, "open-me") {
		t.Errorf("%d %s", a.status, a.body)
	}
	_ = r.post("evil", "alice", tell)
	if got := h.Stolen(); len(got) > 0 {
		t.Errorf("it was opened: %q", got)
	}
}

// TestGVA1_ServersThatRepeatTheirTokenAreCleaned: a server that says again what it
// heard does not give the account to the client: in a document, a stream, an error,
// through a bridge, and in the id of an event.
func TestGVA1_ServersThatRepeatTheirTokenAreCleaned(t *testing.T) {
	for name, secret := range map[string]string{"letters": "sekrit-token-value", "digits": "12345678901234"} {
		for _, how := range []string{"document", "stream", "error"} {
			up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
				heard := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
				if strings.Contains(body, "server/discover") || strings.Contains(body, "initialize") {
					result(w, body, `{"resultType":"complete","protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"`+heard+`","version":"1"},"supportedVersions":["2025-11-25"]}`)
					return
				}
				text, _ := json.Marshal("I heard " + heard)
				switch how {
				case "document": // digits may stand as a number, which must stay one
					result(w, body, `{"content":[{"type":"text","text":`+string(text)+`}],"n":`+strings.ReplaceAll(heard, "sekrit-token-value", "1")+`}`)
				case "stream":
					w.Header().Set("Content-Type", "text/event-stream")
					fmt.Fprintf(w, "id: %s\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"data\":%s}}\n\nid: 2\ndata: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[{\"type\":\"text\",\"text\":%s}]}}\n\n", heard, text, idOf(body), text)
				case "error":
					w.Header().Set("Content-Type", "application/json")
					fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":%s,"data":{"x":%s}}}`, idOf(body), text, text)
				}
			})
			w := newWallet(t, nil)
			if err := w.Set(context.Background(), "", "s", Header{Name: "Authorization", Value: "Bearer " + secret}); err != nil {
				t.Fatal(err)
			}
			s := at("s", up.URL)
			s.Account = AccountShared
			r := newRig(t, []Server{s}, func(_ *Config, d *Deps) { d.Accounts = w })
			modernBody, header := modern("tools/call", `"name":"tell","arguments":{}`, "tell") // to a legacy server: bridged
			for _, a := range []answer{r.post("s", "alice", tell), r.post("s", "alice", modernBody, header...), r.post("s", "alice", initialize)} {
				if strings.Contains(a.body, secret) || strings.Contains(fmt.Sprint(a.header), secret) || !strings.Contains(a.body, "jsonrpc") {
					t.Errorf("%s, %s: %d %s", name, how, a.status, a.body)
				}
				if strings.Contains(a.body, "not a valid message") {
					t.Errorf("%s, %s: nothing of it is left: %s", name, how, a.body)
				}
			}
		}
	}
}
