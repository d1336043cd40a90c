package lab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"
)

// endpointSwitches are the flaws of the MCP endpoint: authentication (E03, E04),
// tokens (E06, E23), sessions (E07), Origin and Host (E09), scopes (E30), caches
// (E31), errors (E32), headers (E33), keys (E34) and people (E37).
//
// A server that asks for a token before it looks at anything else shows nobody how
// it treats an Origin or a doubled member. Where the flaw lies behind the token and
// is to be seen without one, the switch forces E03-g, which opens the handshake.
func endpointSwitches() []Switch {
	open := Needs{Flaws: []string{"E03-g"}}
	post := []string{eraDual, eraModern, eraLegacy}
	session := []string{eraDual, eraLegacy}
	signed := Needs{JWT: true}
	return []Switch{
		{Key: "E03-a", Title: "The handshake and tools/list answer to anyone; calls need a token.", Eras: post},
		{Key: "E03-b", Title: "resources/list and prompts/list answer to anyone, with Alice's data.", Eras: post},
		{Key: "E03-c", Title: "The endpoint is guarded at its exact path only: /mcp/ and //mcp are open.", Eras: post},
		{Key: "E03-d", Title: "A request that says X-Forwarded-For: 127.0.0.1 needs no token.", Eras: post},
		{Key: "E03-e", Title: "A body declared as text/plain, or a batch of one request, needs no token; with a token only JSON is read.", Eras: post},
		{Key: "E03-f", Title: "A request with any ?token= needs no token.", Eras: post},
		{Key: "E03-g", Title: "The handshake (server/discover, initialize) answers to anyone."},
		{Key: "E04-a", Title: "Any bearer token that is neither a JWT nor one of this server's own is accepted."},
		{Key: "E04-b", Title: "An empty bearer token, or null, is accepted."},
		{Key: "E04-c", Title: "Credentials of another scheme (Basic, Token) are accepted."},
		{Key: "E04-d", Title: "With two Authorization headers nothing is checked."},
		{Key: "E04-e", Title: "A JWT with alg none and the right iss and aud is accepted.", Needs: signed},
		{Key: "E04-f", Title: "A JWT signed by the key in its own jwk header is accepted.", Needs: signed},
		{Key: "E04-g", Title: "A JWT signed by HS256 with the public key as secret is accepted (PEM, DER or JWK).", Needs: signed},
		{Key: "E04-h", Title: "Expired tokens are accepted; tokens live for five seconds, so that this can be seen."},
		{Key: "E04-i", Title: "Revoked tokens are accepted."},
		{Key: "E04-j", Title: "A token counts as checked when its signature part is one that was issued: the payload can be changed.", Needs: signed},
		{Key: "E06-a", Title: "The resource metadata name a public identity provider (accounts.google.com) beside the server's own; nothing is ever sent there."},
		{Key: "E06-b", Title: "The tokens given to clients are the upstream's.", Needs: Needs{Upstream: true}},
		{Key: "E07-2", Title: "A session id works without the token.", Eras: session},
		{Key: "E07-3", Title: "A session id shows its owner's data to whoever sends it with a token of his own.", Eras: session},
		{Key: "E07-4", Title: "A made-up session id opens a guest session without a token; real ids need theirs.", Eras: session},
		{Key: "E07-5", Title: "Session ids are counted.", Needs: open, Eras: session},
		{Key: "E07-6", Title: "A report_id from a tool's result works for other people.", Eras: []string{eraDual, eraModern}},
		{Key: "E07-7", Title: "The event stream opens for anyone and its session id is all that /messages asks for.", Eras: []string{eraSSE}, Expect: []string{"E03-a", "E07-7"}},
		{Key: "E09-a", Title: "Any Origin but null may call.", Needs: open},
		{Key: "E09-b", Title: "The Origin null may call.", Needs: open},
		{Key: "E09-c", Title: "A preflight from any Origin is answered with that Origin and with credentials; the call itself is refused."},
		{Key: "E09-d", Title: "Any Host may be asked for.", Needs: open},
		{Key: "E09-e", Title: "Bodies declared as text/plain or as a form are read.", Needs: open, Eras: post},
		{Key: "E23-a", Title: "The access token may come in the query."},
		{Key: "E23-b", Title: "A token in the query is looked at and refused with invalid_token."},
		{Key: "E23-c", Title: "The pages of a login carry the browser's binding as session_id in their addresses, and take it from there."},
		{Key: "E30-a", Title: "The metadata offer the scopes * and admin."},
		{Key: "E30-b", Title: "The challenge names no scope."},
		{Key: "E30-c", Title: "Tokens carry every scope, whatever was asked for."},
		{Key: "E30-d", Title: "Tools do not look at the scope."},
		{Key: "E31-a", Title: "Answers that depend on the person are marked as public.", Eras: []string{eraDual, eraModern}},
		{Key: "E31-b", Title: "Token, registration and introspection answers lack no-store."},
		{Key: "E31-c", Title: "Answers of the endpoint come with Age and X-Cache: HIT.", Eras: post},
		{Key: "E31-d", Title: "resources/list is cached for all people together."},
		{Key: "E32-a", Title: "Errors show a stack trace."},
		{Key: "E32-b", Title: "Errors show the server's configuration with the upstream secret."},
		{Key: "E32-c", Title: "Introspection asks nobody who he is."},
		{Key: "E33-a", Title: "Whether a request needs a token is decided by the Mcp-Method header, what it does by its body.", Needs: open, Eras: []string{eraDual, eraModern}},
		{Key: "E33-b", Title: "A member may stand twice; the last one counts.", Needs: open},
		{Key: "E33-c", Title: "Members count whatever their case.", Needs: open},
		{Key: "E33-d", Title: "X-Forwarded-User, X-Authenticated-User and router-key are believed from anyone."},
		{Key: "E33-e", Title: "Mcp-Name is not compared with the body.", Eras: []string{eraDual, eraModern}},
		{Key: "E34-a", Title: "Sample keys of the documentation (YOUR_API_KEY, changeme, test, lab-demo-key …) are accepted; the 401 names lab-demo-key."},
		{Key: "E34-b", Title: "A key may come in the query; the 401 shows the address to write it into."},
		{Key: "E34-c", Title: "The login form takes wrong passwords without end."},
		{Key: "E37-a", Title: "Notes are found by their id alone, whoever they belong to."},
		{Key: "E37-b", Title: "The caller is kept in one place for all calls: those at the same time get each other's person."},
	}
}

// originKnown tells whether the request's Origin may call the server: none, or the
// server's own. A preflight gets no CORS headers.
func (l *Lab) originKnown(w http.ResponseWriter, r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 1 && l.on("E09-c") {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origins[0])
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Allow-Headers", "authorization, content-type, mcp-session-id, mcp-protocol-version, mcp-method")
		h.Set("Access-Control-Allow-Methods", "POST, GET, DELETE")
	}
	switch {
	case len(origins) == 0:
		return true
	case len(origins) > 1:
		return false
	case origins[0] == l.base:
		return true
	case origins[0] == "null":
		return l.on("E09-b")
	}
	return l.on("E09-a")
}

// preflight answers OPTIONS under E09-c; true means that it has.
func (l *Lab) preflight(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodOptions || !l.on("E09-c") {
		return false
	}
	l.originKnown(w, r)
	w.WriteHeader(http.StatusNoContent)
	return true
}

// marks are the headers that E31-c puts on answers.
func (l *Lab) marks(w http.ResponseWriter) {
	if l.on("E31-c") {
		w.Header().Set("Age", "120")
		w.Header().Set("X-Cache", "HIT")
	}
}

// openWithout tells whether a request without a good token is read all the same.
func (l *Lab) openWithout(r *http.Request) bool {
	return l.any("E03-a", "E03-b", "E03-e", "E03-g", "E07-4", "E07-7") || l.openRequest(r)
}

// openRequest tells whether a request needs no token because of how it was sent.
func (l *Lab) openRequest(r *http.Request) bool {
	switch {
	case l.on("E03-c") && r.URL.Path != l.mcpPath() && r.URL.Path != "/second/mcp":
		return true
	case l.on("E03-d"):
		for _, v := range strings.Split(r.Header.Get("X-Forwarded-For"), ",") {
			if ip, err := netip.ParseAddr(strings.TrimSpace(v)); err == nil && ip.IsLoopback() {
				return true
			}
		}
	case l.on("E03-f"):
		return r.URL.Query().Get("token") != ""
	}
	return false
}

// openMethod tells whether a method answers without a good token.
func (l *Lab) openMethod(c *call) bool {
	method := c.msg.Method
	if l.on("E33-a") && len(c.r.Header.Values("Mcp-Method")) == 1 {
		method = c.r.Header.Get("Mcp-Method")
	}
	handshake := method == "initialize" || method == "server/discover" || method == "notifications/initialized"
	switch {
	case l.openRequest(c.r), l.on("E03-e") && (c.batch || plainText(c.r)), l.on("E07-7"):
		return true
	case l.on("E03-a"):
		return handshake || method == "tools/list"
	case l.on("E03-b"):
		return method == "resources/list" || method == "prompts/list"
	case l.on("E03-g"):
		return handshake
	case l.on("E07-4"):
		id := c.r.Header.Get("Mcp-Session-Id")
		l.mu.Lock()
		defer l.mu.Unlock()
		return id != "" && l.st.sessions[id] == nil
	}
	return false
}

// guest is the token of a request that a switch let in for a person.
func guest(user string) *token {
	return &token{user: user, clientID: "guest", scope: strings.Join(resourceScopes(), " ")}
}

// weakAdmit lets a request in by something that is no good token of ours.
func (l *Lab) weakAdmit(r *http.Request, resource string) (*token, bool) {
	headers := r.Header.Values("Authorization")
	raw := bearer(r)
	q := r.URL.Query()
	switch {
	case l.on("E04-a") && len(headers) == 1 && raw != "" && !emptyBearer(headers[0]) && strings.Count(raw, ".") != 2 && !l.resemblesOurs(raw),
		l.on("E04-b") && len(headers) == 1 && emptyBearer(headers[0]),
		l.on("E04-c") && len(headers) == 1 && otherScheme(headers[0]),
		l.on("E04-d") && len(headers) > 1,
		l.on("E34-a") && sampleKey(raw):
		return guest("alice"), true
	case l.on("E23-a") && len(headers) == 0 && q.Get("access_token") != "":
		t := l.lookup(q.Get("access_token"))
		return t, t != nil && !t.refresh && t.resource == resource
	case l.on("E34-b") && len(headers) == 0 && q.Get("api_key") == "alice-lab-key":
		return guest("alice"), true
	case l.on("E33-d"):
		for _, name := range []string{"X-Forwarded-User", "X-Authenticated-User", "X-Authenticated-Userid", "X-Remote-User", "router-key", "mcp-init-host"} {
			if v := r.Header.Get(name); v != "" {
				return guest(v), true
			}
		}
	case l.on("E07-2") && len(headers) == 0:
		l.mu.Lock()
		s := l.st.sessions[r.Header.Get("Mcp-Session-Id")]
		l.mu.Unlock()
		if s != nil {
			t := guest(s.user)
			t.clientID = s.clientID
			return t, true
		}
	}
	return l.weakJWT(raw, resource)
}

// resemblesOurs tells whether raw is a token that was issued here, or one with a byte
// or two changed: E04-a knows its own tokens and asks nothing of others.
func (l *Lab) resemblesOurs(raw string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for known := range l.st.tokens {
		if len(known) != len(raw) {
			continue
		}
		diff := 0
		for i := range len(raw) {
			if raw[i] != known[i] {
				diff++
			}
		}
		if diff <= 2 {
			return true
		}
	}
	return false
}

func emptyBearer(header string) bool {
	scheme, value, _ := strings.Cut(header, " ")
	value = strings.TrimSpace(value)
	return strings.EqualFold(scheme, "Bearer") && (value == "" || value == "null" || value == "undefined")
}

func otherScheme(header string) bool {
	scheme, _, ok := strings.Cut(header, " ")
	return ok && !strings.EqualFold(scheme, "Bearer")
}

// sampleKey knows the keys that documentation is full of.
func sampleKey(raw string) bool {
	switch strings.ToLower(raw) {
	case "your_api_key", "your-api-key", "your_token", "your-token", "<your_api_key>", "changeme", "test", "demo", "secret", "api_key", "sample", "example", "password",
		"sk-test", "sk-1234", "sk-1234567890", "test-token", "test-key", "demo-key", "lab-demo-key":
		return true
	}
	return false
}

// refusal is what the admission says about a request without a good token.
func (l *Lab) refusal(r *http.Request) *tokenRefusal {
	return &tokenRefusal{invalid: l.on("E23-b") && (r.URL.Query().Get("access_token") != "" || r.URL.Query().Get("token") != "")}
}

// unauthorized is the body of a 401.
func (l *Lab) unauthorized() map[string]string {
	m := map[string]string{"error": "unauthorized", "error_description": "Send an access token of " + l.Issuer + "."}
	if l.on("E34-a") {
		m["example"] = "Authorization: Bearer lab-demo-key"
	}
	if l.on("E34-b") {
		m["example"] = l.MCPURL + "?api_key=YOUR_KEY"
	}
	if s := l.indiscretion(); s != "" {
		m["debug"] = s
	}
	return m
}

// indiscretion is what E32 says too much.
func (l *Lab) indiscretion() string {
	switch {
	case l.on("E32-a"):
		return "panic: runtime error: invalid memory address or nil pointer dereference\ngoroutine 42 [running]:\nmain.(*Server).authorize(0xc0000b6000)\n\t/srv/app/internal/oauth/server.go:217 +0x1d4\nnet/http.HandlerFunc.ServeHTTP(0xc000112000)\n\t/usr/local/go/src/net/http/server.go:2294 +0x29"
	case l.on("E32-b"):
		return "config: upstream_client_id=" + upstreamClient + " client_secret=" + upstreamSecret
	}
	return ""
}

// weakContentType accepts bodies that are not declared as JSON.
func (l *Lab) weakContentType(r *http.Request) bool {
	ct := strings.ToLower(r.Header.Get("Content-Type"))
	if l.on("E03-e") && plainText(r) && r.Header.Get("Authorization") == "" {
		return true
	}
	return l.on("E09-e") && (ct == "" || strings.HasPrefix(ct, "text/plain") || strings.HasPrefix(ct, "application/x-www-form-urlencoded") || strings.HasPrefix(ct, "multipart/form-data"))
}

func plainText(r *http.Request) bool {
	ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(ct), "text/plain")
}

// weakBatch takes the one request out of a batch.
func (l *Lab) weakBatch(body []byte) ([]byte, bool) {
	var list []json.RawMessage
	if !l.on("E03-e") || json.Unmarshal(body, &list) != nil || len(list) != 1 {
		return nil, false
	}
	return list[0], true
}

// endpointRoute finds the handler of an MCP path: the exact one, and the others
// that E03-c leaves open.
func (l *Lab) endpointRoute(r *http.Request) (http.HandlerFunc, bool) {
	p := r.URL.Path
	if l.on("E03-c") && p != "/" && l.opt.Era != eraSSE && path.Clean("/"+strings.ReplaceAll(p, "..;", ".")) == l.mcpPath() {
		p = l.mcpPath()
	}
	switch {
	case p == "/second/mcp":
		return func(w http.ResponseWriter, r *http.Request) { l.endpoint(w, r, l.SecondURL) }, true
	case p == "/mcp" && l.opt.Era != eraSSE:
		return func(w http.ResponseWriter, r *http.Request) { l.endpoint(w, r, l.MCPURL) }, true
	case p == "/sse" && l.opt.Era == eraSSE:
		return l.sseStream, true
	case p == "/messages" && l.opt.Era == eraSSE:
		return l.sseMessage, true
	}
	return nil, false
}

// newSessionID makes the id of a legacy session. Lab.mu is held.
func (l *Lab) newSessionID(*mcpSession) string {
	if l.on("E07-5") {
		l.st.counter++
		return fmt.Sprintf("session-%06d", 1000+l.st.counter)
	}
	return l.random(24)
}

// caller is whom a tool works for: the person of this very call's token.
func (l *Lab) caller(c *call) string {
	if !l.on("E37-b") {
		return c.user()
	}
	l.mu.Lock()
	l.st.lastUser = c.user()
	l.mu.Unlock()
	time.Sleep(30 * time.Millisecond) // the work during which another call comes in
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.lastUser
}

// cacheScope is the cache hint of answers that depend on the person.
func (l *Lab) cacheScope() string {
	if l.on("E31-a") {
		return "public"
	}
	return "private"
}

// sharedList is the person whose resources are listed.
func (l *Lab) sharedList(user string) string {
	if l.on("E03-b") && user == anonymous {
		return "alice"
	}
	if !l.on("E31-d") {
		return user
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.st.cachedFor == "" {
		l.st.cachedFor = user
	}
	return l.st.cachedFor
}

// tooManyTries counts wrong passwords; five in a minute lock the account for the
// rest of it.
func (l *Lab) tooManyTries(user string, wrong bool) bool {
	if l.on("E34-c") {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var recent []time.Time
	for _, t := range l.st.wrong[user] {
		if l.now().Sub(t) < time.Minute {
			recent = append(recent, t)
		}
	}
	if wrong {
		recent = append(recent, l.now())
	}
	if len(user) <= 200 && len(recent) > 0 {
		put(l.st.wrong, user, recent)
	}
	return len(recent) >= 5
}
