package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// doors is one gateway with every way in and every way out: each era's face, over
// streamable HTTP, HTTP+SSE, stdio and the aggregate. up counts what reached a
// remote server.
func doors(t *testing.T) (r *rig, paths []string, up *raw) {
	t.Helper()
	up = listServer(t)
	modernUp, sse := at("modern", up.URL), at("sse", up.URL)
	modernUp.Era, sse.Transport = "modern", TransportSSE
	r = newRig(t, []Server{at("one", up.URL), modernUp, sse, stdioServer(t, "proc")}, withSandbox(t))
	return r, []string{"/s/one/mcp", "/s/modern/mcp", "/s/sse/mcp", "/s/proc/mcp", "/mcp"}, up
}

// TestGPX1_E33_OneReadingAtEveryDoor: what two parsers may read differently is
// refused before any server sees it, whatever stands behind and whichever era the
// client speaks.
func TestGPX1_E33_OneReadingAtEveryDoor(t *testing.T) {
	r, paths, up := doors(t)
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}}`
	bodies := map[string]string{
		"duplicate member":   `{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"tools/list","params":{%s"name":"a","arguments":{}}}`,
		"duplicate name":     `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{%s"name":"a","name":"b","arguments":{}}}`,
		"duplicate argument": `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{%s"name":"a","arguments":{"p":1,"p":2}}}`,
		"escaped duplicate":  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{%s"name":"a","\u006eame":"b","arguments":{}}}`,
		"other case":         `{"jsonrpc":"2.0","id":1,"method":"tools/call","Method":"tools/list","params":{%s"name":"a","arguments":{}}}`,
		"params other case":  `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{%s"name":"a","NAME":"b","arguments":{}}}`,
		"task other case":    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{%s"name":"a","taskid":"b","arguments":{}}}`,
		"batch":              `[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{%s"name":"a","arguments":{}}}]`,
		"invalid UTF-8":      "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{%s\"name\":\"a\xff\",\"arguments\":{}}}",
		"lone surrogate":     `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{%s"name":"a\ud800","arguments":{}}}`,
		"two messages":       `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{%s"name":"a","arguments":{}}}{"jsonrpc":"2.0","id":2,"method":"ping"}`,
		"null byte":          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{%s\"name\":\"a\",\"arguments\":{}}}\x00",
	}
	for _, path := range paths {
		token := r.as.token(t, r.url+path, "alice", nil)
		for name, body := range bodies {
			for _, era := range []string{"legacy", "modern"} {
				header, text := []string{"Authorization", "Bearer " + token}, strings.Replace(body, "%s", "", 1)
				if era == "modern" {
					header = append(header, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "a")
					text = strings.Replace(body, "%s", meta+",", 1)
				}
				if a := r.do(http.MethodPost, r.url+path, text, header...); a.status != http.StatusBadRequest {
					t.Errorf("%s, %s, %s: %d %s", path, era, name, a.status, a.body)
				}
			}
		}
	}
	if up.count() != 0 {
		t.Errorf("a server saw %d requests, the last %q", up.count(), up.last().body)
	}
}

// TestGPX1_FidelityOnEveryWay: what nobody here knows arrives as it was sent:
// passing in a stream, in the modern era, and bridged from either era to the other.
func TestGPX1_FidelityOnEveryWay(t *testing.T) {
	const content = `"content":[{"type":"hologram","data":9007199254740993,"x":1.0e+2,"name\u0041":"\u00e9\/"}],"unknown":{"deep":{"n":123456789012345678901234567890}}`
	const arguments = `"arguments":{"big":9007199254740993,"f":1.50,"s":"\u00e9\/","unknown":[{}]},"extra":{"a":1}`
	serve := func(stream bool) *raw {
		return newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
			switch {
			case strings.Contains(body, `"server/discover"`):
				if r.Header.Get("X-Era") == "legacy" {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}`)
			case strings.Contains(body, `"initialize"`):
				result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`)
			case !strings.Contains(body, "tools/call"):
				w.WriteHeader(http.StatusAccepted)
			case stream:
				w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"resultType\":\"complete\",%s}}\n\n", idOf(body), content)
			default:
				result(w, body, `{"resultType":"complete",`+content+`}`)
			}
		})
	}
	for _, stream := range []bool{false, true} {
		for _, era := range []string{"legacy", "modern"} { // the server's
			up := serve(stream)
			s := at("one", up.URL)
			s.Era = era
			r := newRig(t, []Server{s})
			for _, client := range []string{"legacy", "modern"} {
				for _, id := range []string{`1`, `"a\u0062c"`, `12345678901234567890`, `"𝔘"`} {
					body, header := modern("tools/call", `"name":"x",`+arguments, "x")
					if client == "legacy" {
						body, header = `{"jsonrpc":"2.0","id":"m1","method":"tools/call","params":{"name":"x",`+arguments+`}}`, []string{"MCP-Protocol-Version", "2025-11-25"}
						if era == "modern" {
							header = append(header, "Mcp-Session-Id", r.post("one", "alice", initialize).header.Get("Mcp-Session-Id"))
						}
					}
					a := r.post("one", "alice", strings.Replace(body, `"m1"`, id, 1), header...)
					if !strings.Contains(a.body, content) || !strings.Contains(a.body, `"id":`+id) {
						t.Errorf("stream %v, %s client, %s server, id %s, down: %d %s", stream, client, era, id, a.status, a.body)
					}
					if !strings.Contains(up.last().body, arguments) {
						t.Errorf("stream %v, %s client, %s server, up: %s", stream, client, era, up.last().body)
					}
				}
			}
		}
	}
}
