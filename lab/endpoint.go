package lab

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Protocol revisions.
const (
	revModern = "2026-07-28"
	revLegacy = "2025-11-25"
)

// legacyRevisions are the revisions that the session era answers to, newest first.
func legacyRevisions() []string { return []string{revLegacy, "2025-06-18", "2025-03-26"} }

// mcpPath is the path of the MCP endpoint, which the stream era puts elsewhere.
func (l *Lab) mcpPath() string {
	if l.opt.Era == eraSSE {
		return "/sse"
	}
	return "/mcp"
}

// call is one authenticated MCP request.
type call struct {
	r        *http.Request
	tok      *token // nil where a switch let the request in without one
	resource string
	batch    bool // came as a batch of one; only E03-e reads those
	msg      message
	modern   bool
}

// user is whom the call acts for.
func (c *call) user() string {
	if c.tok == nil {
		return anonymous
	}
	return c.tok.user
}

// has tells whether the token of a call carries a scope.
func (c *call) has(scope string) bool {
	if c.tok == nil {
		return false
	}
	have := strings.Fields(c.tok.scope)
	// * and admin are scopes that only E18-a gives out.
	return slices.Contains(have, scope) || slices.Contains(have, "*") || slices.Contains(have, "admin")
}

// anonymous is whom a call without a token acts for.
const anonymous = "anonymous"

// message is a JSON-RPC request as far as the server looks at it.
type message struct {
	ID     json.RawMessage
	Method string
	Params map[string]any
}

// endpoint is the MCP endpoint: Host and Origin first, then the token, then the
// message. Nothing of a body is read for somebody who has not shown a token.
func (l *Lab) endpoint(w http.ResponseWriter, r *http.Request, resource string) {
	if !l.hostKnown(r) && !l.on("E09-d") {
		rpcError(w, http.StatusMisdirectedRequest, nil, -32600, "This server does not answer to that Host.", nil)
		return
	}
	if l.preflight(w, r) {
		return
	}
	l.marks(w)
	if !l.originKnown(w, r) {
		rpcError(w, http.StatusForbidden, nil, -32600, "This Origin may not call the server.", nil)
		return
	}
	tok, refused := l.admit(r, resource)
	if refused != nil && !l.openWithout(r) {
		l.challenge(w, resource, refused)
		return
	}
	switch r.Method {
	case http.MethodPost:
	case http.MethodDelete:
		l.endSession(w, r, tok)
		return
	default:
		methodNotAllowed(w, "POST")
		return
	}
	if !isJSON(r) && !l.weakContentType(r) {
		rpcError(w, http.StatusUnsupportedMediaType, nil, -32600, "Send application/json.", nil)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		rpcError(w, http.StatusRequestEntityTooLarge, nil, -32600, "The body is too large.", nil)
		return
	}
	c := &call{r: r, tok: tok, resource: resource}
	if !l.readMessage(w, c, body) {
		return
	}
	if refused != nil && !l.openMethod(c) {
		l.challenge(w, resource, refused)
		return
	}
	l.dispatch(w, c)
}

// dispatch sends a call to its era.
func (l *Lab) dispatch(w http.ResponseWriter, c *call) {
	meta, _ := c.msg.Params["_meta"].(map[string]any)
	_, inBody := meta["io.modelcontextprotocol/protocolVersion"]
	c.modern = inBody || c.r.Header.Get("MCP-Protocol-Version") >= revModern
	switch l.opt.Era {
	case eraModern:
		l.modern(w, c, meta)
	case eraLegacy:
		l.legacy(w, c)
	default:
		if c.modern {
			l.modern(w, c, meta)
			return
		}
		l.legacy(w, c)
	}
}

// tokenRefusal is why a request was not let in; its zero value means that no
// credentials came, which gets a challenge without an error code (RFC 6750
// section 3.1).
type tokenRefusal struct{ invalid bool }

// admit checks the bearer token of a request: one Authorization header, the Bearer
// scheme, a live token of ours, made for this resource (RFC 9068 section 4).
func (l *Lab) admit(r *http.Request, resource string) (*token, *tokenRefusal) {
	if t, ok := l.weakAdmit(r, resource); ok {
		return t, nil
	}
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return nil, l.refusal(r)
	}
	raw := bearer(r)
	if len(headers) > 1 || raw == "" {
		return nil, &tokenRefusal{invalid: true}
	}
	t := l.lookup(raw)
	if t == nil || t.refresh || !(t.resource == resource || l.on("E05-d")) {
		return nil, &tokenRefusal{invalid: true}
	}
	return t, nil
}

// lookup finds a live access token; a JWT must carry a good signature as well.
func (l *Lab) lookup(raw string) *token {
	if l.opt.JWT && !l.signatureGood(raw) && !l.weakSignature(raw) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.st.tokens[raw]
	if t == nil || !l.alive(t) {
		return nil
	}
	return t
}

// signatureGood tells whether the lab's key signed an access token. The algorithm is
// fixed, keys from the header are not looked at, and the type keeps ID tokens out
// (RFC 8725 sections 3.1 and 3.11, RFC 9068 section 4).
func (l *Lab) signatureGood(raw string) bool {
	tok, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(tok.Headers) != 1 || tok.Headers[0].ExtraHeaders["typ"] != l.tokenType() {
		return false
	}
	var claims map[string]any
	return tok.Claims(&l.key.PublicKey, &claims) == nil
}

// bearer is the token of the Authorization header, or "".
func bearer(r *http.Request) string {
	scheme, value, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(value)
}

// challenge answers 401 as RFC 9728 section 5.1 and RFC 6750 section 3 ask.
func (l *Lab) challenge(w http.ResponseWriter, resource string, why *tokenRefusal) {
	u, _ := url.Parse(resource)
	value := `Bearer resource_metadata="` + l.base + "/.well-known/oauth-protected-resource" + u.Path + `", scope="` + scopeRead + `"`
	if why.invalid {
		value = `Bearer error="invalid_token", error_description="The token is not valid here.", ` + strings.TrimPrefix(value, "Bearer ")
	}
	w.Header().Set("WWW-Authenticate", l.weakChallenge(value))
	noStore(w)
	writeJSON(w, http.StatusUnauthorized, l.unauthorized())
}

// readMessage reads one JSON-RPC request strictly: UTF-8, one object, no member
// twice, no member that differs from a known one in case only.
func (l *Lab) readMessage(w http.ResponseWriter, c *call, body []byte) bool {
	bad := func(code int, text string) bool {
		rpcError(w, http.StatusBadRequest, nil, code, text, nil)
		return false
	}
	body = bytes.TrimSpace(body)
	if len(body) > 0 && body[0] == '[' {
		if one, ok := l.weakBatch(body); ok {
			body, c.batch = one, true
		} else {
			return bad(-32600, "Batches are not accepted.")
		}
	}
	if !utf8.Valid(body) {
		return bad(-32700, "The body is not UTF-8.")
	}
	if err := strictJSON(body, l.on("E33-b")); err != nil {
		return bad(-32700, err.Error())
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(body, &m) != nil || m == nil {
		return bad(-32600, "The body is not a JSON-RPC request.")
	}
	for name := range m {
		switch name {
		case "jsonrpc", "id", "method", "params", "result", "error":
			continue
		}
		folded := strings.ToLower(name)
		if _, known := map[string]bool{"jsonrpc": true, "id": true, "method": true, "params": true}[folded]; !known {
			continue
		}
		if !l.on("E33-c") {
			return bad(-32600, "A member is written in the wrong case.")
		}
		m[folded] = m[name] // as a reader that ignores case would take it
	}
	var version string
	json.Unmarshal(m["jsonrpc"], &version)
	if version != "2.0" || json.Unmarshal(m["method"], &c.msg.Method) != nil || c.msg.Method == "" {
		return bad(-32600, "The body is not a JSON-RPC 2.0 request.")
	}
	if id := m["id"]; id != nil {
		if id[0] != '"' && id[0] != '-' && (id[0] < '0' || id[0] > '9') {
			return bad(-32600, "The id is neither a string nor a number.")
		}
		c.msg.ID = id
	}
	if p := m["params"]; p != nil && json.Unmarshal(p, &c.msg.Params) != nil {
		return bad(-32600, "params is not an object.")
	}
	return true
}

// rpcError answers with a JSON-RPC error.
func rpcError(w http.ResponseWriter, status int, id json.RawMessage, code int, text string, data any) {
	e := map[string]any{"code": code, "message": text}
	if data != nil {
		e["data"] = data
	}
	m := map[string]any{"jsonrpc": "2.0", "error": e}
	if id != nil {
		m["id"] = id
	}
	writeJSON(w, status, m)
}

// rpcResult answers with a JSON-RPC result. It is a person's own, so no cache keeps
// it.
func rpcResult(w http.ResponseWriter, id json.RawMessage, result any) {
	noStore(w)
	writeJSON(w, http.StatusOK, map[string]any{"jsonrpc": "2.0", "id": id, "result": result})
}
