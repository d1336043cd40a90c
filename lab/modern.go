package lab

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// modern answers one request of the stateless era (2026-07-28): the envelope in
// _meta and the mirrored headers must agree before anything is done.
func (l *Lab) modern(w http.ResponseWriter, c *call, meta map[string]any) {
	version, _ := meta["io.modelcontextprotocol/protocolVersion"].(string)
	header := c.r.Header.Get("MCP-Protocol-Version")
	supported := map[string]any{"supported": []string{revModern}, "requested": version}
	switch {
	case meta == nil || version == "" && header == "":
		rpcError(w, http.StatusBadRequest, c.msg.ID, -32602, "params._meta must hold io.modelcontextprotocol/protocolVersion and clientCapabilities.", nil)
		return
	case header != version:
		rpcError(w, http.StatusBadRequest, c.msg.ID, -32020, "MCP-Protocol-Version and the body differ.", nil)
		return
	case version != revModern:
		rpcError(w, http.StatusBadRequest, c.msg.ID, -32022, "This revision is not spoken here.", supported)
		return
	}
	caps, ok := meta["io.modelcontextprotocol/clientCapabilities"].(map[string]any)
	if !ok {
		rpcError(w, http.StatusBadRequest, c.msg.ID, -32602, "params._meta must hold io.modelcontextprotocol/clientCapabilities.", nil)
		return
	}
	if !l.headersMirror(c) {
		rpcError(w, http.StatusBadRequest, c.msg.ID, -32020, "Mcp-Method or Mcp-Name and the body differ.", nil)
		return
	}
	if c.msg.ID == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if c.msg.Method == "server/discover" {
		rpcResult(w, c.msg.ID, map[string]any{
			"resultType": "complete", "supportedVersions": l.versions(), "capabilities": serverCapabilities(),
			"_meta":        map[string]any{"io.modelcontextprotocol/serverInfo": l.serverInfo()},
			"instructions": "Notes for tests.", "ttlMs": 60000, "cacheScope": "private",
		})
		return
	}
	result, fail := l.method(c, caps)
	if fail != nil {
		l.fail(w, c, fail)
		return
	}
	if _, has := result["resultType"]; !has {
		result["resultType"] = "complete"
	}
	rpcResult(w, c.msg.ID, result)
}

// versions are the revisions that this lab speaks.
func (l *Lab) versions() []string {
	switch l.opt.Era {
	case eraModern:
		return []string{revModern}
	case eraLegacy, eraSSE:
		return legacyRevisions()
	}
	return append([]string{revModern}, legacyRevisions()...)
}

// headersMirror compares Mcp-Method and Mcp-Name with the body.
func (l *Lab) headersMirror(c *call) bool {
	method := c.r.Header.Values("Mcp-Method")
	if (len(method) != 1 || method[0] != c.msg.Method) && !l.on("E33-a") {
		return false
	}
	var name any
	switch c.msg.Method {
	case "tools/call", "prompts/get":
		name = c.msg.Params["name"]
	case "resources/read":
		name = c.msg.Params["uri"]
	default:
		return true
	}
	given := c.r.Header.Values("Mcp-Name")
	return len(given) == 1 && decodeMirrored(given[0]) == name || l.on("E33-e")
}

// decodeMirrored undoes the base64 sentinel of mirrored header values.
func decodeMirrored(v string) string {
	if inner, ok := strings.CutPrefix(v, "=?base64?"); ok {
		if inner, ok = strings.CutSuffix(inner, "?="); ok {
			if b, err := base64.StdEncoding.DecodeString(inner); err == nil {
				return string(b)
			}
		}
	}
	return v
}

// fail answers a failed method.
func (l *Lab) fail(w http.ResponseWriter, c *call, f *rpcFault) {
	if f.scope != "" {
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+f.scope+`", resource_metadata="`+l.base+"/.well-known/oauth-protected-resource"+strings.TrimPrefix(c.resource, l.base)+`"`)
		rpcError(w, http.StatusForbidden, c.msg.ID, f.code, f.text, nil)
		return
	}
	status := http.StatusOK
	if c.modern {
		status = http.StatusBadRequest
		if f.code == -32601 {
			status = http.StatusNotFound
		}
	}
	rpcError(w, status, c.msg.ID, f.code, f.text, f.data)
}

// serverInfo names the software; clients must not decide anything by it.
func (l *Lab) serverInfo() map[string]any {
	return map[string]any{"name": "kidoban-lab", "version": "1.0.0"}
}

// serverCapabilities are the capabilities of both eras.
func serverCapabilities() map[string]any {
	return map[string]any{"tools": map[string]any{}, "resources": map[string]any{}, "prompts": map[string]any{}, "completions": map[string]any{}}
}
