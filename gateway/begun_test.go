package gateway

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// newHanging is a server of either era whose calls and streams never end by themselves.
// asked hears of each call and stream that has begun there.
func newHanging(t *testing.T, asked chan<- string) *raw {
	return newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		m, _ := wire.NewReader(wire.Limits{}).Read([]byte(body))
		begin := func(first string) {
			if first != "" {
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, "data: "+first+"\n\n")
				w.(http.Flusher).Flush()
			}
			asked <- m.Method
			<-r.Context().Done()
		}
		switch {
		case r.Method == http.MethodGet:
			begin(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"first"}}`)
		case m.Method == wire.MethodInitialize:
			w.Header().Set("Mcp-Session-Id", "s")
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"logging":{}},"serverInfo":{"name":"s","version":"1"}}`)
		case m.Method == wire.MethodDiscover:
			result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"1"},"ttlMs":0,"cacheScope":"private"}`)
		case m.Method == wire.MethodToolsList:
			result(w, body, `{"resultType":"complete","tools":[`+addTool+`],"ttlMs":0,"cacheScope":"private"}`)
		case m.Method == wire.MethodListen:
			begin(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":` + string(m.ID.Raw) + `},"notifications":{"toolsListChanged":true}}}`)
		case m.Method == wire.MethodToolsCall && strings.Contains(body, "told"):
			begin(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"first"}}`)
		case m.Method == wire.MethodToolsCall:
			begin("")
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
}

// TestGAS6_WhatIsUnderWayEndsWithItsAccess: a revocation ends streams and calls that
// began before it, whatever way they take; those of others go on.
func TestGAS6_WhatIsUnderWayEndsWithItsAccess(t *testing.T) {
	asked := make(chan string, 64)
	old, young := newHanging(t, asked), newHanging(t, asked)
	o, y := at("old", old.URL), at("young", young.URL)
	o.Era, y.Era = "legacy", "modern"
	r := newRig(t, []Server{o, y})
	who := func(path, user string) []string {
		return []string{"Authorization", "Bearer " + r.as.token(t, r.url+path, user, nil)}
	}
	session := func(path, user string) []string {
		own := who(path, user)
		return append(own, "Mcp-Session-Id", r.do(http.MethodPost, r.url+path, initialize, own...).header.Get("Mcp-Session-Id"))
	}
	listen := func(path, user string) *wire.EventReader {
		body, header := modern("subscriptions/listen", `"notifications":{"toolsListChanged":true}`, "")
		return r.openEvents(http.MethodPost, r.url+path, body, append(header, who(path, user)...)...)
	}
	get := func(path, user string) *wire.EventReader {
		return r.openEvents(http.MethodGet, r.url+path, "", session(path, user)...)
	}
	told := func(path, user, tool string) *wire.EventReader {
		return r.openEvents(http.MethodPost, r.url+path, `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"`+tool+`","arguments":{"a":"told"}}}`, session(path, user)...)
	}
	streams := func(user string) map[string]*wire.EventReader {
		return map[string]*wire.EventReader{
			"a stream that passes":     get("/s/old/mcp", user),
			"a stream of all":          get("/mcp", user),
			"listening that passes":    listen("/s/young/mcp", user),
			"listening at all":         listen("/mcp", user),
			"a call that passes":       told("/s/old/mcp", user, "add"),
			"a call through a bridge":  told("/s/young/mcp", user, "add"),
			"a call through the other": told("/mcp", user, "old__add"),
		}
	}
	alices, bobs := streams("alice"), streams("bob")
	ends := map[string]chan answer{}
	for name, at := range map[string][2]string{"passes": {"/s/old/mcp", "add"}, "is bridged": {"/mcp", "young__add"}} {
		header := session(at[0], "alice")
		done := make(chan answer, 1)
		ends[name] = done
		for len(asked) > 0 {
			<-asked
		}
		go func() {
			done <- r.do(http.MethodPost, r.url+at[0], `{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"`+at[1]+`","arguments":{"a":"silent"}}}`, header...)
		}()
		for m := range asked {
			if m == wire.MethodToolsCall {
				break
			}
		}
	}

	r.g.begun.endRevoked(doubtful{})
	if under := r.underWay(); under["alice"] != len(alices)+len(ends) || under["bob"] != len(bobs) {
		t.Errorf("in doubt %v are under way", under)
	}
	r.as.revoke("g-alice")
	for name, in := range alices {
		for {
			if ev, err := in.Next(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			} else if strings.Contains(string(ev.Data), `"id":3`) {
				t.Errorf("%s was answered: %s", name, ev.Data)
			}
		}
	}
	for name, done := range ends {
		if a := <-done; a.status != http.StatusUnauthorized || !strings.Contains(a.header.Get("WWW-Authenticate"), "invalid_token") {
			t.Errorf("a silent call that %s: %d %s", name, a.status, a.body)
		}
	}
	if under := r.underWay(); under["alice"] != 0 || under["bob"] != len(bobs) {
		t.Errorf("afterwards %v are under way", under)
	}
}

// TestGAS6_StreamsEndWithTheirGrant: a stream that would stay open for ever ends when
// the time is over for which a person gave access; a call is finished.
func TestGAS6_StreamsEndWithTheirGrant(t *testing.T) {
	asked := make(chan string, 64)
	old, young := newHanging(t, asked), newHanging(t, asked)
	o, y := at("old", old.URL), at("young", young.URL)
	o.Era, y.Era = "legacy", "modern"
	clock := &stoppable{}
	r := newRig(t, []Server{o, y}, func(c *Config, d *Deps) { c.KeepAlive, d.Now = 20*time.Millisecond, clock.now })
	clock.stop()
	own := func(path, user string, ends time.Duration) []string {
		return []string{"Authorization", "Bearer " + r.as.token(t, r.url+path, user, func(m map[string]any) { m["kidoban_until"] = time.Now().Add(ends).Unix() })}
	}
	streams := func(user string, ends time.Duration) map[string]*wire.EventReader {
		all := map[string]*wire.EventReader{}
		for _, path := range []string{"/s/old/mcp", "/mcp"} {
			header := own(path, user, ends)
			header = append(header, "Mcp-Session-Id", r.do(http.MethodPost, r.url+path, initialize, header...).header.Get("Mcp-Session-Id"))
			all["GET "+path] = r.openEvents(http.MethodGet, r.url+path, "", header...)
		}
		for _, path := range []string{"/s/young/mcp", "/mcp"} {
			body, header := modern("subscriptions/listen", `"notifications":{"toolsListChanged":true}`, "")
			all["listen "+path] = r.openEvents(http.MethodPost, r.url+path, body, append(header, own(path, user, ends)...)...)
		}
		return all
	}
	short, long := streams("alice", 10*time.Minute), streams("bob", time.Hour)
	call := own("/s/old/mcp", "carol", 10*time.Minute)
	call = append(call, "Mcp-Session-Id", r.do(http.MethodPost, r.resource("old"), initialize, call...).header.Get("Mcp-Session-Id"))
	r.openEvents(http.MethodPost, r.resource("old"), `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"add","arguments":{"a":"told"}}}`, call...)
	clock.advance(11 * time.Minute)
	for name, in := range short {
		for {
			if _, err := in.Next(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	if under := r.underWay(); under["alice"] != 0 || under["bob"] != len(long) || under["carol"] != 1 {
		t.Errorf("afterwards %v are under way", under)
	}
}

// underWay counts what users have under way.
func (r *rig) underWay() map[string]int {
	r.g.begun.mu.Lock()
	defer r.g.begun.mu.Unlock()
	n := map[string]int{}
	for c := range r.g.begun.calls {
		n[c.Caller.User]++
	}
	return n
}

// doubtful does not know what was revoked.
type doubtful struct{}

func (doubtful) Live(string, string) (bool, error) {
	return false, kidoban.Errorf(kidoban.KindUnreachable, "the database is away")
}

// TestGPX2_OldClientsHearNoAcknowledgement: that the gateway listens at a server of the
// later era is its own affair.
func TestGPX2_OldClientsHearNoAcknowledgement(t *testing.T) {
	acknowledged := make(chan bool)
	young := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch m, _ := wire.NewReader(wire.Limits{}).Read([]byte(body)); m.Method {
		case wire.MethodDiscover:
			result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"1"},"ttlMs":0,"cacheScope":"private"}`)
		case wire.MethodListen:
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			<-acknowledged
			meta := `"_meta":{"io.modelcontextprotocol/subscriptionId":` + string(m.ID.Raw) + `}`
			io.WriteString(w, `data: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{`+meta+`,"notifications":{"toolsListChanged":true}}}`+"\n\n"+
				`data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{`+meta+`}}`+"\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			result(w, body, `{"resultType":"complete","tools":[`+addTool+`],"ttlMs":0,"cacheScope":"private"}`)
		}
	})
	s := at("young", young.URL)
	s.Era = "modern"
	r := newRig(t, []Server{s})
	own := []string{"Authorization", "Bearer " + r.token("young", "alice")}
	own = append(own, "Mcp-Session-Id", r.do(http.MethodPost, r.resource("young"), initialize, own...).header.Get("Mcp-Session-Id"))
	in := r.openEvents(http.MethodGet, r.resource("young"), "", own...)
	acknowledged <- true
	if got := until(t, in, "list_changed"); strings.Contains(got, "acknowledged") {
		t.Error(got)
	}
}
