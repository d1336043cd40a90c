package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// speaker is a server of one era whose answer to a call, and to what nobody knows, is
// its request again.
func speaker(t *testing.T, era string) (Server, *raw) {
	const said = `"capabilities":{"tools":{},"logging":{},"experimental":{"x/old":{"n":9007199254740993}},"extensions":{"x/new":{"a":[1.0]}},"x/more":{"b":1}},"instructions":"read me first","ttlMs":7`
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case strings.Contains(body, `"initialize"`):
			result(w, body, `{"protocolVersion":"2025-11-25",`+said+`,"serverInfo":{"name":"speaker","version":"7","x":1}}`)
		case strings.Contains(body, `"server/discover"`):
			result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],`+said+`,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"speaker","version":"7","x":1}}}`)
		case strings.Contains(body, `"x/missing"`):
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method","data":{"x":9007199254740993}}}`, idOf(body))
		case strings.Contains(body, `"id"`):
			result(w, body, `{"resultType":"complete","content":[],"ttlMs":7,"cacheScope":"private","_meta":{"x/y":1}}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	s := at(era, up.URL)
	s.Era = era
	return s, up
}

// TestGPX2_WhatAServerSaysOfItselfCrossesEras: capabilities that the gateway does not know,
// the instructions and the server's name reach a client of the other era.
func TestGPX2_WhatAServerSaysOfItselfCrossesEras(t *testing.T) {
	young, _ := speaker(t, "modern")
	old, _ := speaker(t, "legacy")
	r := newRig(t, []Server{young, old})
	body, header := modern("server/discover", "", "")
	for name, a := range map[string]answer{"modern": r.post("modern", "alice", initialize), "legacy": r.post("legacy", "alice", body, header...)} {
		for _, want := range []string{`"experimental":{"x/old":{"n":9007199254740993}}`, `"x/new":{"a":[1.0]}`, `"x/more":{"b":1}`, `"instructions":"read me first"`, `erverInfo":{"name":"speaker","version":"7","x":1}`} {
			if !strings.Contains(a.body, want) {
				t.Errorf("of the %s server %s is lost: %d %s", name, want, a.status, a.body)
			}
		}
		if name == "modern" && (strings.Contains(a.body, "resultType") || strings.Contains(a.body, "cacheScope")) {
			t.Errorf("a legacy client got %s", a.body)
		}
	}
}

// TestGPX2_RequestsCrossErasWithTheirMeta: members of _meta that only one era knows stay in
// it, all others cross, and so does a method that nobody knows; what one era alone has is
// refused in the other before the server hears of it.
func TestGPX2_RequestsCrossErasWithTheirMeta(t *testing.T) {
	young, upYoung := speaker(t, "modern")
	old, upOld := speaker(t, "legacy")
	r := newRig(t, []Server{young, old})
	const own = `"x/y":{"n":9007199254740993},"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"`
	ask := func(method, name string) answer {
		body, header := modern(method, `"name":"x"`, name)
		return r.post("legacy", "alice", strings.Replace(body, `"_meta":{`, `"_meta":{"io.modelcontextprotocol/logLevel":"debug",`+own+`,`, 1), header...)
	}
	session := []string{"MCP-Protocol-Version", "2025-11-25", "Mcp-Session-Id", r.post("modern", "alice", initialize).header.Get("Mcp-Session-Id")}
	say := func(method, params string) answer {
		return r.post("modern", "alice", `{"jsonrpc":"2.0","id":5,"method":"`+method+`","params":`+params+`}`, session...)
	}

	for _, method := range []string{"tools/call", "x/unheard"} {
		name := ""
		if method == "tools/call" {
			name = "x"
		}
		a := ask(method, name)
		if got := upOld.last().body; !strings.Contains(got, `"method":"`+method+`"`) || !strings.Contains(got, own) || strings.Contains(got, "io.modelcontextprotocol") {
			t.Errorf("the legacy server got %s", got)
		}
		if !strings.Contains(a.body, `"_meta":{"x/y":1}`) || !strings.Contains(a.body, `"resultType":"complete"`) || !strings.Contains(a.body, `"ttlMs":7`) {
			t.Errorf("the modern client got %s", a.body)
		}
		a = say(method, `{"name":"x","_meta":{`+own+`}}`)
		if got := upYoung.last().body; !strings.Contains(got, `"method":"`+method+`"`) || !strings.Contains(got, own) || !strings.Contains(got, `"io.modelcontextprotocol/protocolVersion":"2026-07-28"`) || strings.Contains(got, "logLevel") {
			t.Errorf("the modern server got %s", got)
		}
		if !strings.Contains(a.body, `"_meta":{"x/y":1}`) || strings.Contains(a.body, "resultType") || strings.Contains(a.body, "ttlMs") || strings.Contains(a.body, "cacheScope") {
			t.Errorf("the legacy client got %s", a.body)
		}
	}
	if a := say("logging/setLevel", `{"level":"notice"}`); !strings.Contains(a.body, `"result":{}`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if say("tools/call", `{"name":"x","_meta":{`+own+`}}`); !strings.Contains(upYoung.last().body, `"io.modelcontextprotocol/logLevel":"notice"`) || !strings.Contains(upYoung.last().body, own) {
		t.Errorf("after a level was set the modern server got %s", upYoung.last().body)
	}
	if say("x/unheard", `{}`); !strings.Contains(upYoung.last().body, `"io.modelcontextprotocol/logLevel":"notice"`) {
		t.Errorf("after a level was set the modern server got %s", upYoung.last().body)
	}

	a := ask("x/missing", "")
	if code, say := a.rpc(t); code != -32601 || a.status != http.StatusNotFound || say != "no such method" || !strings.Contains(a.body, `"data":{"x":9007199254740993}`) {
		t.Errorf("a modern client: %d %s", a.status, a.body)
	}
	if a := say("x/missing", `{}`); a.status != http.StatusOK || !strings.Contains(a.body, `"data":{"x":9007199254740993}`) {
		t.Errorf("a legacy client: %d %s", a.status, a.body)
	}
	for _, method := range []string{"ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "initialize"} {
		a := ask(method, "")
		if code, _ := a.rpc(t); code != -32601 && code != -32602 || upOld.asked(`"method":"`+method+`"`) > 1 || method != "initialize" && upOld.asked(`"method":"`+method+`"`) != 0 {
			t.Errorf("%s of a modern client: %d %s", method, a.status, a.body)
		}
	}
	for _, method := range []string{"server/discover", "subscriptions/listen"} {
		n := upYoung.asked(`"` + method + `"`)
		a := say(method, `{"notifications":{}}`)
		if code, _ := a.rpc(t); code != -32601 || upYoung.asked(`"`+method+`"`) != n {
			t.Errorf("%s of a legacy client: %d %s", method, a.status, a.body)
		}
	}
}
