package gateway

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/kidoban/kidoban/wire"
)

// numbered is a server whose streams can be resumed: its events have ids.
func numbered(t *testing.T, ids ...string) *raw {
	return newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		m, _ := wire.NewReader(wire.Limits{}).Read([]byte(body))
		event := func(id, data string) { io.WriteString(w, "id: "+id+"\ndata: "+data+"\n\n") }
		note := `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`
		switch {
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "text/event-stream")
			for _, id := range ids {
				event(id, note)
			}
		case m.Method == wire.MethodInitialize:
			w.Header().Set("Mcp-Session-Id", "up-"+idOf(body))
			w.Header().Set("Content-Type", "text/event-stream")
			event("begin", `{"jsonrpc":"2.0","id":`+idOf(body)+`,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}`)
		case m.Method == wire.MethodDiscover:
			result(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
		case m.Kind == wire.Request:
			w.Header().Set("Content-Type", "text/event-stream")
			event("call", note)
			event("answer", `{"jsonrpc":"2.0","id":`+idOf(body)+`,"result":{"content":[],"resultType":"complete"}}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
}

// eventsOf reads a stream that was read whole.
func eventsOf(t *testing.T, a answer) (out []wire.Event) {
	t.Helper()
	in := wire.NewEventReader(strings.NewReader(a.body), 1<<20)
	for {
		ev, err := in.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, ev)
	}
}

// TestRS14_EventIDsAreSealed: a client never sees a server's own event ids, and none
// that was not given to this user, client, grant, session and server reaches it.
func TestRS14_EventIDsAreSealed(t *testing.T) {
	up, other := numbered(t, "cursor-7"), numbered(t, "cursor-7")
	r := newRig(t, []Server{at("one", up.URL), at("two", other.URL)})
	auth := func(server, user string, change func(map[string]any)) []string {
		return []string{"Authorization", "Bearer " + r.as.token(t, r.resource(server), user, change), "Accept", "application/json, text/event-stream"}
	}
	open := func(id string, who []string) (session string, first []wire.Event) {
		a := r.do(http.MethodPost, r.resource("one"), strings.Replace(initialize, `"id":1`, `"id":`+id, 1), append([]string{"Content-Type", "application/json"}, who...)...)
		return a.header.Get("Mcp-Session-Id"), eventsOf(t, a)
	}
	alice := auth("one", "alice", nil)
	session, hello := open("1", alice)
	listen := func(who []string, header ...string) answer {
		return r.do(http.MethodGet, r.resource("one"), "", append(append([]string{}, who...), header...)...)
	}
	first := eventsOf(t, listen(alice, "Mcp-Session-Id", session))
	call := eventsOf(t, r.do(http.MethodPost, r.resource("one"), `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x","arguments":{}}}`,
		append([]string{"Content-Type", "application/json", "Mcp-Session-Id", session}, alice...)...))
	for plain, ev := range map[string]wire.Event{"cursor-7": first[0], "begin": hello[0], "call": call[0], "answer": call[1]} {
		if ev.ID == "" || strings.Contains(ev.ID, plain) {
			t.Errorf("%s came as %q", plain, ev.ID)
		}
		if a := listen(alice, "Mcp-Session-Id", session, "Last-Event-ID", ev.ID); a.status != http.StatusOK {
			t.Errorf("resuming after %s: %d %s", plain, a.status, a.body)
		}
		if got := up.last().header.Get("Last-Event-Id"); got != plain {
			t.Errorf("the server was told %q, not %q", got, plain)
		}
	}

	mine := first[0].ID
	second, _ := open("2", alice)
	bob := auth("one", "bob", nil)
	bobs, _ := open("3", bob)
	grant := auth("one", "alice", func(m map[string]any) { m["kidoban_grant"] = "g-2" })
	client := auth("one", "alice", func(m map[string]any) { m["client_id"] = "client-2" })
	clients, _ := open("4", client)
	before, beforeTwo := up.count(), other.count()
	for name, a := range map[string]answer{
		"made up":              listen(alice, "Mcp-Session-Id", session, "Last-Event-ID", "cursor-7"),
		"changed":              listen(alice, "Mcp-Session-Id", session, "Last-Event-ID", "A"+mine[1:]+"A"),
		"twice":                listen(alice, "Mcp-Session-Id", session, "Last-Event-ID", mine, "Last-Event-ID", mine),
		"endless":              listen(alice, "Mcp-Session-Id", session, "Last-Event-ID", strings.Repeat("A", 4000)),
		"another session's":    listen(alice, "Mcp-Session-Id", second, "Last-Event-ID", mine),
		"without the session":  listen(alice, "Last-Event-ID", mine),
		"another user's":       listen(bob, "Mcp-Session-Id", bobs, "Last-Event-ID", mine),
		"another client's":     listen(client, "Mcp-Session-Id", clients, "Last-Event-ID", mine),
		"another grant's":      listen(grant, "Mcp-Session-Id", session, "Last-Event-ID", mine),
		"another server's":     r.do(http.MethodGet, r.resource("two"), "", append(auth("two", "alice", nil), "Last-Event-ID", mine)...),
		"the session's own id": listen(alice, "Mcp-Session-Id", session, "Last-Event-ID", session),
	} {
		if a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if up.count() != before || other.count() != beforeTwo {
		t.Errorf("a server was asked: %+v %+v", up.last(), other.last())
	}

	// Another replica opens it.
	g, err := New(r.config, Deps{Keys: r.as, Liveness: r.as, StateKey: bytes.Repeat([]byte{7}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	replica := httptest.NewServer(g)
	defer g.Close()
	defer replica.Close()
	a := r.do(http.MethodGet, replica.URL+"/s/one/mcp", "", append([]string{"Host", strings.TrimPrefix(r.url, "http://"), "Mcp-Session-Id", session, "Last-Event-ID", mine}, alice...)...)
	if got := up.last().header.Get("Last-Event-Id"); a.status != http.StatusOK || got != "cursor-7" {
		t.Errorf("at a replica: %d %s, %q", a.status, a.body, got)
	}
}

// TestRS14_EventIDsAreBounded: the message of an event with an endless id comes
// without it, one that takes the last id back does, and a modern client has none.
func TestRS14_EventIDsAreBounded(t *testing.T) {
	up := numbered(t, "a", strings.Repeat("b", maxEventID), strings.Repeat("c", maxEventID+1), "")
	r := newRig(t, []Server{at("one", up.URL)})
	alice := []string{"Authorization", "Bearer " + r.token("one", "alice"), "Accept", "text/event-stream"}
	got := eventsOf(t, r.do(http.MethodGet, r.resource("one"), "", alice...))
	if len(got) != 4 || got[0].ID == "" || len(got[1].ID) > maxSealedID || got[1].ID == got[0].ID || got[2].HasID || !got[3].HasID || got[3].ID != "" {
		t.Errorf("%+v", got)
	}
	if a := r.do(http.MethodGet, r.resource("one"), "", append([]string{"Last-Event-ID", got[1].ID}, alice...)...); a.status != http.StatusOK || len(up.last().header.Get("Last-Event-Id")) != maxEventID {
		t.Errorf("the longest id: %d %s", a.status, a.body)
	}
	body, header := modern("tools/call", `"name":"x","arguments":{}`, "x")
	events := eventsOf(t, r.post("one", "alice", body, header...))
	if len(events) != 2 {
		t.Errorf("%d events", len(events))
	}
	for _, ev := range events {
		if ev.HasID {
			t.Errorf("a modern stream has the id %q", ev.ID)
		}
	}
}

// TestRS14_EventIDsWithoutASession: a server may keep no sessions, or give everybody the
// same one. Its event ids still open for who got them alone.
func TestRS14_EventIDsWithoutASession(t *testing.T) {
	up := numbered(t, "cursor-7")
	r := newRig(t, []Server{at("one", up.URL), at("two", up.URL)})
	auth := func(server, user string, change func(map[string]any)) []string {
		return []string{"Authorization", "Bearer " + r.as.token(t, r.resource(server), user, change), "Accept", "text/event-stream"}
	}
	listen := func(server string, who []string, header ...string) answer {
		return r.do(http.MethodGet, r.resource(server), "", append(slices.Clone(who), header...)...)
	}
	alice := auth("one", "alice", nil)
	mine := eventsOf(t, listen("one", alice))[0].ID
	before := up.count()
	for name, a := range map[string]answer{
		"another user":   listen("one", auth("one", "bob", func(m map[string]any) { m["kidoban_grant"] = "g-alice" }), "Last-Event-ID", mine),
		"another client": listen("one", auth("one", "alice", func(m map[string]any) { m["client_id"] = "client-2" }), "Last-Event-ID", mine),
		"another grant":  listen("one", auth("one", "alice", func(m map[string]any) { m["kidoban_grant"] = "g-2" }), "Last-Event-ID", mine),
		"another server": listen("two", auth("two", "alice", nil), "Last-Event-ID", mine),
	} {
		if a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if up.count() != before {
		t.Errorf("the server was asked: %+v", up.last())
	}
	if a := listen("one", alice, "Last-Event-ID", mine); a.status != http.StatusOK || up.last().header.Get("Last-Event-Id") != "cursor-7" {
		t.Errorf("%d %s", a.status, a.body)
	}
}
