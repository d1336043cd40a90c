package lab

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// StartPopulation starts a population on loopback. It ends with the context or
// with Close.
func StartPopulation(ctx context.Context, o PopulationOptions) (*Population, error) {
	if o.N <= 0 || o.N > 1_000_000 {
		return nil, fmt.Errorf("a population has 1 to 1,000,000 servers, not %d", o.N)
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, err
	}
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		l.Close()
		return nil, fmt.Errorf("the population listens on loopback only, not on %s", o.Addr)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	p := &Population{opts: o, l: l, port: port, hits: map[int]int{}, streams: map[string]chan []byte{}, done: make(chan struct{})}
	if o.Log != nil {
		p.log = bufio.NewWriterSize(o.Log, 64<<10)
	}
	srv := &http.Server{Handler: p, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 30 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	if o.TLS {
		l = p.secure(l)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(l) }() // ends with Close
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	p.close = func() {
		stop()
		close(p.done)
		srv.Close()
		<-served
		if p.log != nil {
			p.mu.Lock()
			p.log.Flush()
			p.mu.Unlock()
		}
	}
	return p, nil
}

// Close ends the population and writes the rest of its log.
func (p *Population) Close() { p.close() }

// Addr is the address that all servers of the population listen on.
func (p *Population) Addr() string { return p.l.Addr().String() }

// PopulationHit is one line of the access log.
type PopulationHit struct {
	Micros int64  `json:"us"` // since the Unix epoch
	Host   string `json:"host"`
	Method string `json:"method"`
	Path   string `json:"path"`
	Agent  string `json:"agent,omitempty"`
	Call   string `json:"call,omitempty"` // the JSON-RPC method
}

type popCall struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Cursor string `json:"cursor"`
	} `json:"params"`
}

// ServeHTTP plays the server that the Host header names.
func (p *Population) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	label, _, _ := strings.Cut(strings.ToLower(r.Host), ".")
	var c popCall
	if r.Method == http.MethodPost {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10)) // a torn body is no call
		_ = json.Unmarshal(body, &c)
	}
	p.note(r, c.Method)
	if num, ok := strings.CutPrefix(label, "as"); ok {
		if k, err := strconv.Atoi(num); err == nil && k >= 0 && k < p.issuers() {
			p.serveIssuer(w, r, p.origin(fmt.Sprintf("as%05d", k)), p.issuer(k))
			return
		}
	}
	n, err := strconv.Atoi(strings.TrimPrefix(label, "s"))
	if err != nil || n < 0 || n >= p.opts.N {
		http.Error(w, "no such virtual host", http.StatusMisdirectedRequest)
		return
	}
	s := p.server(n)
	if r.URL.Path == "/robots.txt" && s.kind != "dead" && s.kind != "stuck" && s.kind != "liar" {
		if s.kind == "robots" {
			io.WriteString(w, "User-agent: kidoban\nDisallow: /\n")
			return
		}
		http.NotFound(w, r)
		return
	}
	if p.limited(w, s) {
		return
	}
	if s.slow {
		p.sleep(r, 150*time.Millisecond)
	}
	p.play(w, r, s, c)
}

func (p *Population) note(r *http.Request, call string) {
	if p.log == nil {
		return
	}
	host, _, _ := strings.Cut(strings.ToLower(r.Host), ":")
	line, _ := json.Marshal(PopulationHit{time.Now().UnixMicro(), host, r.Method, r.URL.Path, r.UserAgent(), call}) // plain strings
	p.mu.Lock()
	p.log.Write(append(line, '\n'))
	p.mu.Unlock()
}

func (p *Population) sleep(r *http.Request, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	case <-p.done:
	}
}

// limited answers 429: always, or to the first requests.
func (p *Population) limited(w http.ResponseWriter, s popServer) bool {
	if s.kind == "limited" {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return true
	}
	if s.limit == 0 {
		return false
	}
	p.mu.Lock()
	p.hits[s.n]++
	over := p.hits[s.n] <= s.limit
	p.mu.Unlock()
	if over {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "slow down", http.StatusTooManyRequests)
	}
	return over
}

// play is everything but the well-mannered answers.
func (p *Population) play(w http.ResponseWriter, r *http.Request, s popServer, c popCall) {
	switch s.kind {
	case "dead":
		if h, ok := w.(http.Hijacker); ok {
			if conn, _, err := h.Hijack(); err == nil {
				conn.Close()
			}
		}
	case "stuck":
		select {
		case <-r.Context().Done():
		case <-p.done:
		}
	case "page":
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<!doctype html><title>Welcome</title><h1>It works</h1>")
	case "firewall":
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, "<title>Just a moment...</title>")
	case "endless":
		p.endless(w, r)
	case "drip":
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, ": still there\n\n"); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush() // the next write tells
			p.sleep(r, 100*time.Millisecond)
			select {
			case <-p.done:
				return
			default:
			}
		}
	case "liar":
		reply(w, popCall{ID: json.RawMessage("1")}, map[string]any{"tools": []any{map[string]any{"name": "ok"}}, "protocolVersion": "2025-06-18", "supportedVersions": []string{"2026-07-28"}})
	case "absent", "optout", "robots":
		http.NotFound(w, r)
	case "payment":
		http.Error(w, "payment required", http.StatusPaymentRequired)
	case "moved":
		if to := strings.TrimSuffix(s.path, "/") + "/v1"; r.URL.Path != to {
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
			return
		}
		s.path, s.era, s.kind = strings.TrimSuffix(s.path, "/")+"/v1", "plain", "open"
		p.endpoint(w, r, s, c)
	default:
		if r.URL.Path == s.path || r.URL.Path == "/messages" {
			p.endpoint(w, r, s, c)
			return
		}
		if s.kind == "oauth" && p.metadata(w, r, s) {
			return
		}
		http.NotFound(w, r)
	}
}

func (p *Population) endless(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	chunk := []byte(strings.Repeat("[", 32<<10))
	for r.Context().Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// endpoint is the MCP endpoint.
func (p *Population) endpoint(w http.ResponseWriter, r *http.Request, s popServer, c popCall) {
	switch s.kind {
	case "oauth":
		v := `Bearer error="invalid_token"`
		if s.link {
			v = `Bearer resource_metadata="` + p.origin(fmt.Sprintf("s%06d", s.n)) + prmPath(s.path) + `"`
		}
		w.Header().Set("WWW-Authenticate", v)
		http.Error(w, `{"error":"unauthorized"}`, http.StatusUnauthorized)
		return
	case "static":
		refuse(w, s, c)
		return
	case "basic":
		w.Header().Set("WWW-Authenticate", `Basic realm="tools"`)
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	case "handshake":
		if c.Method == "tools/list" {
			http.Error(w, "no key", http.StatusUnauthorized)
			return
		}
		if s.era == "modern" {
			s.era = "session"
		}
	}
	if s.era == "sse" {
		p.oldEndpoint(w, r, s, c)
		return
	}
	switch {
	case r.Method == http.MethodDelete && s.era == "session":
		w.WriteHeader(http.StatusNoContent)
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case strings.HasPrefix(c.Method, "notifications/"):
		w.WriteHeader(http.StatusAccepted)
	case s.era == "session" && c.Method != "initialize" && r.Header.Get("Mcp-Session-Id") != s.session():
		http.Error(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: no valid session id"}}`, http.StatusBadRequest)
	default:
		if s.era == "session" && c.Method == "initialize" {
			w.Header().Set("Mcp-Session-Id", s.session())
		}
		answer := s.answer(c)
		if s.era == "stream" {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "event: message\ndata: %s\n\n", answer)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer)
	}
}

func (s *popServer) session() string { return fmt.Sprintf("sess-%06d-5f2c", s.n) }

// refuse says in one of several ways that a key is missing.
func refuse(w http.ResponseWriter, s popServer, c popCall) {
	switch s.refuse {
	case "bearer":
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "missing token", http.StatusUnauthorized)
	case "header":
		http.Error(w, `{"error":"send your key in X-API-Key"}`, http.StatusUnauthorized)
	case "forbidden":
		http.Error(w, `{"error":"forbidden"}`, http.StatusForbidden)
	default:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"Unauthorized: an API key is required"}}`, idOf(c))
	}
}

func idOf(c popCall) string {
	if len(c.ID) == 0 {
		return "null"
	}
	return string(c.ID)
}

func reply(w http.ResponseWriter, c popCall, result any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": json.RawMessage(idOf(c)), "result": result}) // the client may be gone
}

// answer is the JSON-RPC answer to a call.
func (s *popServer) answer(c popCall) []byte {
	name, version, _ := strings.Cut(s.soft, "/")
	info := map[string]any{"name": name, "version": version}
	var result any
	switch {
	case c.Method == "server/discover" && s.era == "modern":
		result = map[string]any{"supportedVersions": []string{"2026-07-28"}, "capabilities": map[string]any{"tools": map[string]any{}}, "serverInfo": info}
	case c.Method == "initialize" && s.era != "modern":
		result = map[string]any{"protocolVersion": "2025-11-25", "capabilities": map[string]any{"tools": map[string]any{}}, "serverInfo": info}
	case c.Method == "tools/list":
		result = s.page(c.Params.Cursor)
	default:
		return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"Method not found"}}`, idOf(c))
	}
	b, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": json.RawMessage(idOf(c)), "result": result}) // our own values
	return b
}

// page lists the tools, eight on a page.
func (s *popServer) page(cursor string) map[string]any {
	from, _ := strconv.Atoi(cursor)
	tools := []any{}
	size := 8
	if s.era == "sse" { // the old transport knew no pages in practice
		size = s.tools
	}
	for i := max(0, from); i < s.tools && i < from+size; i++ {
		tools = append(tools, map[string]any{"name": fmt.Sprintf("tool_%d_%d", s.twin, i), "description": "Does one thing.", "inputSchema": map[string]any{"type": "object"}})
	}
	out := map[string]any{"tools": tools}
	if from+size < s.tools {
		out["nextCursor"] = strconv.Itoa(from + size)
	}
	return out
}

// oldEndpoint is the transport of 2024-11-05: a stream that names the address
// for messages and carries the answers.
func (p *Population) oldEndpoint(w http.ResponseWriter, r *http.Request, s popServer, c popCall) {
	switch {
	case r.URL.Path == "/messages" && r.Method == http.MethodPost:
		p.mu.Lock()
		ch := p.streams[r.URL.Query().Get("sid")]
		p.mu.Unlock()
		if ch == nil {
			http.NotFound(w, r)
			return
		}
		if len(c.ID) > 0 {
			select {
			case ch <- s.answer(c):
			case <-r.Context().Done():
			}
		}
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodGet:
		ch := make(chan []byte, 4)
		p.mu.Lock()
		p.next++
		sid := fmt.Sprintf("old-%d", p.next)
		p.streams[sid] = ch
		p.mu.Unlock()
		defer func() { p.mu.Lock(); delete(p.streams, sid); p.mu.Unlock() }()
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "event: endpoint\ndata: /messages?sid=%s\n\n", sid)
		rc := http.NewResponseController(w)
		for rc.Flush() == nil {
			select {
			case m := <-ch:
				fmt.Fprintf(w, "event: message\ndata: %s\n\n", m)
			case <-r.Context().Done():
				return
			case <-p.done:
				return
			}
		}
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func prmPath(path string) string {
	return "/.well-known/oauth-protected-resource" + strings.TrimSuffix(path, "/")
}

// metadata serves the documents of an OAuth server; false means another path.
func (p *Population) metadata(w http.ResponseWriter, r *http.Request, s popServer) bool {
	if s.issuer < 0 && p.serveIssuerPath(w, r, p.issuerURL(s), s.as) {
		return true
	}
	if !s.prm || r.URL.Path != prmPath(s.path) {
		return false
	}
	doc := map[string]any{"resource": p.url(s), "authorization_servers": []string{p.issuerURL(s)}, "scopes_supported": []string{"tools.read"}}
	if s.badRes {
		doc["resource"] = p.url(s) + "/other"
	}
	if s.query {
		doc["bearer_methods_supported"] = []string{"header", "query"}
	}
	if s.offline {
		doc["scopes_supported"] = []string{"tools.read", "offline_access"}
	}
	writeDocument(w, doc, s.textPRM)
	return true
}

func writeDocument(w http.ResponseWriter, doc map[string]any, text bool) {
	w.Header().Set("Content-Type", "application/json")
	if text {
		w.Header().Set("Content-Type", "text/plain")
	}
	_ = json.NewEncoder(w).Encode(doc) // the client may be gone
}

func (p *Population) serveIssuer(w http.ResponseWriter, r *http.Request, issuer string, a popIssuer) {
	if !p.serveIssuerPath(w, r, issuer, a) {
		http.NotFound(w, r)
	}
}

// serveIssuerPath plays an authorization server; false means another path.
func (p *Population) serveIssuerPath(w http.ResponseWriter, r *http.Request, issuer string, a popIssuer) bool {
	place := "/.well-known/oauth-authorization-server"
	if a.oidc {
		place = "/.well-known/openid-configuration"
	}
	switch r.URL.Path {
	case place:
		writeDocument(w, a.document(issuer), a.text)
	case "/authorize":
		p.authorize(w, r, issuer, a)
	default:
		return false
	}
	return true
}

func (a *popIssuer) document(issuer string) map[string]any {
	d := map[string]any{
		"issuer": issuer, "authorization_endpoint": issuer + "/authorize", "token_endpoint": issuer + "/token",
		"response_types_supported": []string{"code"}, "grant_types_supported": []string{"authorization_code", "refresh_token"},
		"token_endpoint_auth_methods_supported": []string{"none", "client_secret_post"},
	}
	set := func(on bool, key string, v any) {
		if on {
			d[key] = v
		}
	}
	set(a.dcr, "registration_endpoint", issuer+"/register")
	set(a.cimd, "client_id_metadata_document_supported", true)
	set(a.pkce == "s256", "code_challenge_methods_supported", []string{"S256"})
	set(a.pkce == "plain", "code_challenge_methods_supported", []string{"plain", "S256"})
	set(a.mismatch, "issuer", "https://login.elsewhere.example")
	set(a.implicit, "grant_types_supported", []string{"authorization_code", "implicit"})
	set(a.token, "response_types_supported", []string{"code", "token"})
	set(a.noNone, "token_endpoint_auth_methods_supported", []string{"client_secret_post"})
	set(a.far, "token_endpoint", "https://tokens.elsewhere.example/token")
	set(a.http, "token_endpoint", "http://tokens.elsewhere.example/token")
	return d
}

// authorize refuses strangers, or sends them to the upstream unseen.
func (p *Population) authorize(w http.ResponseWriter, r *http.Request, issuer string, a popIssuer) {
	if !a.upstream {
		http.Error(w, "unknown client", http.StatusBadRequest)
		return
	}
	in := r.URL.Query()
	q := url.Values{"response_type": {"code"}, "client_id": {"pop-upstream-client"}, "redirect_uri": {issuer + "/upstream/callback"}, "scope": {"openid files.read"}}
	switch a.challenge {
	case "s256":
		q.Set("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
		q.Set("code_challenge_method", "S256")
	case "plain":
		q.Set("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
		q.Set("code_challenge_method", "plain")
	}
	if st := p.state(a, in); st != "" {
		q.Set("state", st)
	}
	http.Redirect(w, r, "https://idp.elsewhere.example/authorize?"+q.Encode(), http.StatusFound)
}

func (p *Population) state(a popIssuer, in url.Values) string {
	random := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	readable := func() string {
		b, _ := json.Marshal(map[string]string{"redirect_uri": in.Get("redirect_uri"), "client_id": in.Get("client_id"), "state": in.Get("state")}) // strings
		return base64.RawURLEncoding.EncodeToString(b)
	}
	switch a.state {
	case "missing":
		return ""
	case "fixed":
		return "mcp-login-state-of-ours"
	case "counting":
		p.mu.Lock()
		defer p.mu.Unlock()
		p.next++
		return strconv.Itoa(1_700_000_000 + p.next)
	case "short":
		return fmt.Sprintf("%08x", rand.Uint32())
	case "readable":
		return readable()
	case "signed":
		return readable() + "." + random(32)
	}
	return random(32)
}
