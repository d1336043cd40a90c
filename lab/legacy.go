package lab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// mcpSession is a session of the legacy eras. It is no credential: every request
// carries its token as well, and a session serves the person and client that
// opened it.
type mcpSession struct {
	id       string
	user     string
	clientID string
	revision string
	opened   time.Time
	out      chan []byte // SSE era: answers on their way to the stream
}

// maxSessions bounds the open sessions of all people together.
const maxSessions = 1000

// legacy answers one request of the session era.
func (l *Lab) legacy(w http.ResponseWriter, c *call) {
	if v := c.r.Header.Get("MCP-Protocol-Version"); v != "" && !slices.Contains(legacyRevisions(), v) {
		rpcError(w, http.StatusBadRequest, c.msg.ID, -32600, "This revision is not spoken here; spoken are "+fmt.Sprint(l.versions())+".", nil)
		return
	}
	if c.msg.Method == "initialize" {
		s := l.openSession(c)
		if s == nil {
			rpcError(w, http.StatusServiceUnavailable, c.msg.ID, -32603, "Too many sessions are open.", nil)
			return
		}
		w.Header().Set("Mcp-Session-Id", s.id)
		rpcResult(w, c.msg.ID, l.initialized(s))
		return
	}
	if status := l.sessionStatus(c); status != 0 {
		rpcError(w, status, c.msg.ID, -32600, "The session is missing or unknown. Send initialize first.", nil)
		return
	}
	result, fail, answer := l.legacyMethod(c)
	switch {
	case !answer:
		w.WriteHeader(http.StatusAccepted)
	case fail != nil:
		l.fail(w, c, fail)
	default:
		rpcResult(w, c.msg.ID, result)
	}
}

// legacyMethod runs a method other than initialize; answer is false for
// notifications.
func (l *Lab) legacyMethod(c *call) (result map[string]any, fail *rpcFault, answer bool) {
	if c.msg.ID == nil {
		return nil, nil, false
	}
	if c.msg.Method == "ping" {
		return map[string]any{}, nil, true
	}
	result, fail = l.method(c, map[string]any{"elicitation": map[string]any{}})
	if fail == nil {
		delete(result, "ttlMs")
		delete(result, "cacheScope")
	}
	return result, fail, true
}

// initialized is the result of initialize (revision 2025-11-25, lifecycle).
func (l *Lab) initialized(s *mcpSession) map[string]any {
	return map[string]any{"protocolVersion": s.revision, "capabilities": serverCapabilities(), "serverInfo": l.serverInfo(), "instructions": "Notes for tests."}
}

// openSession makes a session for the caller. A revision that is not spoken is
// answered with the newest one, as the legacy handshake asks.
func (l *Lab) openSession(c *call) *mcpSession {
	s := &mcpSession{user: c.user(), revision: revLegacy, opened: l.now(), out: make(chan []byte, 16)}
	if c.tok != nil {
		s.clientID = c.tok.clientID
	}
	if v, _ := c.msg.Params["protocolVersion"].(string); slices.Contains(legacyRevisions(), v) {
		s.revision = v
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Sessions end after an hour, used or not: they hold nothing worth more.
	for id, old := range l.st.sessions {
		if l.now().Sub(old.opened) > time.Hour {
			delete(l.st.sessions, id)
		}
	}
	if len(l.st.sessions) >= maxSessions {
		return nil
	}
	s.id = l.newSessionID(s)
	l.st.sessions[s.id] = s
	return s
}

// sessionStatus is 0 when the call's session serves its caller, else the HTTP
// status: 400 without an id, 404 for one that is unknown or somebody else's.
func (l *Lab) sessionStatus(c *call) int {
	id := c.r.Header.Get("Mcp-Session-Id")
	if c.tok == nil && l.openMethod(c) || c.batch {
		return 0 // what is open to anyone asks for no session either
	}
	if id == "" {
		if c.msg.Method == "notifications/initialized" {
			return 0
		}
		return http.StatusBadRequest
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.st.sessions[id]
	if s == nil {
		return http.StatusNotFound
	}
	if c.tok == nil || s.user == c.tok.user && s.clientID == c.tok.clientID {
		return 0
	}
	if l.on("E07-3") && s.user != anonymous { // the session decides whose data are shown
		t := *c.tok
		t.user = s.user
		c.tok = &t
		return 0
	}
	return http.StatusNotFound
}

// endSession is DELETE on the endpoint.
func (l *Lab) endSession(w http.ResponseWriter, r *http.Request, tok *token) {
	if l.opt.Era == eraModern {
		methodNotAllowed(w, "POST")
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.st.sessions[r.Header.Get("Mcp-Session-Id")]
	if s == nil || tok != nil && s.user != tok.user || tok == nil && s.user != "anonymous" {
		http.Error(w, "There is no such session.", http.StatusNotFound)
		return
	}
	delete(l.st.sessions, s.id)
	w.WriteHeader(http.StatusNoContent)
}

// sseStream is GET on the two-endpoint transport of 2024-11-05: it names the
// address for messages and then carries their answers.
func (l *Lab) sseStream(w http.ResponseWriter, r *http.Request) {
	if !l.hostKnown(r) && !l.on("E09-d") || !l.originKnown(w, r) {
		rpcError(w, http.StatusForbidden, nil, -32600, "This Host or Origin may not call the server.", nil)
		return
	}
	tok, refused := l.admit(r, l.MCPURL)
	if refused != nil && !l.openWithout(r) {
		l.challenge(w, l.MCPURL, refused)
		return
	}
	if r.Method != http.MethodGet {
		methodNotAllowed(w, "GET")
		return
	}
	s := l.openSession(&call{r: r, tok: tok})
	if s == nil {
		http.Error(w, "Too many sessions are open.", http.StatusServiceUnavailable)
		return
	}
	defer func() { l.mu.Lock(); delete(l.st.sessions, s.id); l.mu.Unlock() }()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Time{}) // the request is whole; the answer may take as long as it likes
	fmt.Fprintf(w, "event: endpoint\ndata: /messages?%s\n\n", url.Values{"session_id": {s.id}}.Encode())
	if rc.Flush() != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case b := <-s.out:
			fmt.Fprintf(w, "event: message\ndata: %s\n\n", b)
			if rc.Flush() != nil {
				return
			}
		}
	}
}

// sseMessage is POST on the message address; the answer goes to the stream.
func (l *Lab) sseMessage(w http.ResponseWriter, r *http.Request) {
	if !l.hostKnown(r) && !l.on("E09-d") || !l.originKnown(w, r) {
		rpcError(w, http.StatusForbidden, nil, -32600, "This Host or Origin may not call the server.", nil)
		return
	}
	l.mu.Lock()
	s := l.st.sessions[r.URL.Query().Get("session_id")]
	l.mu.Unlock()
	tok, refused := l.admit(r, l.MCPURL)
	if refused != nil && !l.openWithout(r) {
		l.challenge(w, l.MCPURL, refused)
		return
	}
	if r.Method != http.MethodPost {
		methodNotAllowed(w, "POST")
		return
	}
	if tok == nil && s != nil && l.on("E07-7") {
		tok = &token{user: s.user, clientID: s.clientID, scope: scopeRead}
	}
	if s == nil || tok != nil && (s.user != tok.user || s.clientID != tok.clientID) {
		http.Error(w, "There is no such session.", http.StatusNotFound)
		return
	}
	if !isJSON(r) && !l.weakContentType(r) {
		http.Error(w, "Send application/json.", http.StatusUnsupportedMediaType)
		return
	}
	body := make([]byte, 0, 512)
	buf := make([]byte, 4096)
	for {
		n, err := r.Body.Read(buf)
		body = append(body, buf[:n]...)
		if err != nil {
			break
		}
	}
	c := &call{r: r, tok: tok, resource: l.MCPURL}
	if !l.readMessage(w, c, body) {
		return
	}
	if refused != nil && tok == nil && !l.openMethod(c) {
		l.challenge(w, l.MCPURL, refused)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	var result map[string]any
	var fail *rpcFault
	answer := true
	if c.msg.Method == "initialize" {
		result = l.initialized(s)
	} else {
		result, fail, answer = l.legacyMethod(c)
	}
	if !answer {
		return
	}
	m := map[string]any{"jsonrpc": "2.0", "id": c.msg.ID, "result": result}
	if fail != nil {
		m = map[string]any{"jsonrpc": "2.0", "id": c.msg.ID, "error": map[string]any{"code": fail.code, "message": fail.text}}
	}
	b, _ := json.Marshal(m)
	select {
	case s.out <- b:
	case <-r.Context().Done():
	default: // a reader that does not read loses answers, not the server its memory
	}
}
