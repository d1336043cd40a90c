package gateway

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGCO2_DescribeNamesToolsByClass(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case idOf(body) == "":
			w.WriteHeader(http.StatusAccepted)
		case r.Header.Get("Mcp-Session-Id") == "":
			w.Header().Set("Mcp-Session-Id", "s")
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}`)
		default:
			result(w, body, `{"tools":[{"name":"z"},{"name":"a"},{"name":"look","annotations":{"readOnlyHint":true}},{"name":"burn","annotations":{"destructiveHint":true}}]}`)
		}
	})
	r := newRig(t, []Server{at("one", up.URL), at("dead", "http://127.0.0.1:1")})
	want := Offer{Server: "one", Title: "one", Tools: map[Class][]string{Reads: {"look"}, Writes: {"a", "z"}, Destructive: {"burn"}},
		Needs: map[Class]string{Reads: "mcp:read", Writes: "mcp:write", Destructive: "mcp:destroy"}}
	if diff := cmp.Diff([]Offer{want}, r.g.Describe(t.Context(), "alice", r.resource("one"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Offer{{Server: "dead", Title: "dead", Needs: want.Needs}, want}, r.g.Describe(t.Context(), "alice", r.url+"/mcp")); diff != "" {
		t.Error(diff)
	}
	own := at("own", up.URL)
	own.Scopes = []string{"own:all"}
	if got := newRig(t, []Server{own}); got.g.Describe(t.Context(), "alice", got.resource("own"))[0].Needs != nil {
		t.Error("a server with scopes of its own asks for one by class")
	}
	if got := r.g.Describe(t.Context(), "alice", "https://other.example"); got != nil {
		t.Errorf("%v", got)
	}
}

// TestReplicasShareSessionsAndStates: two gateways with one key behave as one
// for what passes: a session begun at one goes on at the other.
func TestReplicasShareSessionsAndStates(t *testing.T) {
	up := sdkServer(t, false)
	servers := []Server{at("one", up.URL)}
	a := newRig(t, servers)
	b := newRig(t, servers, func(c *Config, d *Deps) {
		c.Hosts = []string{a.http.Listener.Addr().String()}
		c.PublicURL = a.url // one address before both
		d.Keys, d.Liveness = a.as, a.as
	})
	atB := func(body string, header ...string) answer {
		return b.do("POST", b.url+"/s/one/mcp", body, append([]string{"Host", a.http.Listener.Addr().String(), "Authorization", "Bearer " + a.token("one", "alice")}, header...)...)
	}
	sid := a.post("one", "alice", initialize).header.Get("Mcp-Session-Id")
	if got := atB(listTools, "Mcp-Session-Id", sid, "MCP-Protocol-Version", "2025-11-25"); got.status != 200 {
		t.Errorf("the session at the other replica: %d %s", got.status, got.body)
	}
	a.as.revoke("g-alice")
	if got := atB(listTools, "Mcp-Session-Id", sid); got.status != 401 {
		t.Errorf("after revocation: %d", got.status)
	}
}
