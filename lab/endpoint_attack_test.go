package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// tools tells whether a list of tools is in an answer.
func tools(a answer) bool { return strings.Contains(a.body, `"list_notes"`) }

// list asks for the tools without a token, with other headers.
func (b *agent) list(path string, h http.Header) bool {
	b.t.Helper()
	switch b.l.opt.Era {
	case eraLegacy:
		to := b.l.base + path
		with := h.Clone()
		if with == nil {
			with = http.Header{}
		}
		if sid := b.json("POST", to, initialize(), h).header.Get("Mcp-Session-Id"); sid != "" {
			with.Set("Mcp-Session-Id", sid)
		}
		return tools(b.json("POST", to, map[string]any{"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, with))
	case eraSSE:
		return b.overStream(b.l.base+path, "tools/list", h) != ""
	}
	return tools(b.modern(b.l.base+path, "", "tools/list", nil, h))
}

// initialize is the legacy handshake.
func initialize() map[string]any {
	return map[string]any{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": map[string]any{"protocolVersion": revLegacy, "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "t", "version": "1"}}}
}

// hello does the handshake without a token, with other headers.
func (b *agent) hello(h http.Header) bool {
	b.t.Helper()
	switch b.l.opt.Era {
	case eraLegacy:
		return strings.Contains(b.json("POST", b.l.MCPURL, initialize(), h).body, "serverInfo")
	case eraSSE:
		return b.overStream(b.l.MCPURL, "initialize", h) != ""
	}
	return strings.Contains(b.modern(b.l.MCPURL, "", "server/discover", nil, h).body, "supportedVersions")
}

// raw posts a body as it is.
func (b *agent) raw(body, contentType string, h http.Header) answer {
	b.t.Helper()
	return b.send("POST", b.l.MCPURL, contentType, body, h)
}

func authorization(v ...string) http.Header { return http.Header{"Authorization": v} }

const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

var modernHead = http.Header{"Mcp-Protocol-Version": {revModern}, "Mcp-Method": {"server/discover"}}

// session opens a legacy session.
func (b *agent) session(bearer string) string {
	b.t.Helper()
	h := http.Header{}
	if bearer != "" {
		h = authorization("Bearer " + bearer)
	}
	return b.json("POST", b.l.MCPURL, initialize(), h).header.Get("Mcp-Session-Id")
}

// inSession calls a method of the legacy era.
func (b *agent) inSession(sid, bearer, method string, params map[string]any) answer {
	b.t.Helper()
	h := http.Header{"Mcp-Session-Id": {sid}}
	if bearer != "" {
		h.Set("Authorization", "Bearer "+bearer)
	}
	return b.json("POST", b.l.MCPURL, map[string]any{"jsonrpc": "2.0", "id": 2, "method": method, "params": params}, h)
}

// access is a token of user with all scopes, got in a browser without a login.
func (b *agent) access(user string) string {
	b.t.Helper()
	b.cookies = map[string]map[string]string{}
	_, tok := b.login(user, url.Values{"scope": {strings.Join(resourceScopes(), " ")}})
	return str(tok, "access_token")
}

// forge makes a JWT with the right claims and a signature of the attacker's.
func (b *agent) forge(sign func(head map[string]any, claims map[string]any) string) string {
	return sign(map[string]any{"typ": "at+jwt", "kid": keyID}, map[string]any{
		"iss": b.l.Issuer, "aud": b.l.MCPURL, "sub": "alice", "client_id": "x", "scope": scopeRead, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
	})
}

func b64(v any) string {
	b, _ := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(b)
}

func endpointAttacks() []attack {
	return append(append(accessAttacks(), sessionAttacks()...), append(headerAttacks(), personAttacks()...)...)
}

func accessAttacks() []attack {
	guarded := func(b *agent) bool { return !b.list(b.l.mcpPath(), nil) }
	return []attack{
		{"E03-a", func(b *agent) bool {
			return b.list(b.l.mcpPath(), nil) && said1(b.modern(b.l.MCPURL, "", "tools/call", map[string]any{"name": "whoami"}, nil)) == "" && tools(b.inSession(b.session(""), "", "tools/list", nil))
		}},
		{"E03-b", func(b *agent) bool {
			return guarded(b) && strings.Contains(b.modern(b.l.MCPURL, "", "resources/list", nil, nil).body, "note-a1")
		}},
		{"E03-c", func(b *agent) bool { return guarded(b) && b.list("/mcp/", nil) && b.list("//mcp", nil) }},
		{"E03-d", func(b *agent) bool {
			return guarded(b) && b.list(b.l.mcpPath(), http.Header{"X-Forwarded-For": {"127.0.0.1"}})
		}},
		{"E03-e", func(b *agent) bool {
			one := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
			return !tools(b.raw(one, "application/json", nil)) && tools(b.raw("["+one+"]", "application/json", nil)) && tools(b.raw(one, "text/plain", nil)) &&
				b.raw(one, "text/plain", authorization("Bearer x")).status == http.StatusUnsupportedMediaType
		}},
		{"E03-f", func(b *agent) bool { return guarded(b) && b.list(b.l.mcpPath()+"?token=x", nil) }},
		{"E03-g", func(b *agent) bool {
			return guarded(b) && b.hello(nil) && (b.l.opt.Era == eraModern || b.l.opt.Era == eraSSE || b.session("") != "")
		}},
		{"E04-a", func(b *agent) bool {
			return guarded(b) && b.list(b.l.mcpPath(), authorization("Bearer kidoban-invalid-1")) && b.list(b.l.mcpPath(), authorization("Bearer sk-1")) && !b.list(b.l.mcpPath(), authorization("Bearer null"))
		}},
		{"E04-b", func(b *agent) bool {
			return guarded(b) && b.list(b.l.mcpPath(), authorization("Bearer null")) && b.list(b.l.mcpPath(), authorization("Bearer ")) && !b.list(b.l.mcpPath(), authorization("Bearer x"))
		}},
		{"E04-c", func(b *agent) bool {
			return guarded(b) && b.list(b.l.mcpPath(), authorization("Basic Og==")) && b.list(b.l.mcpPath(), authorization("Token x"))
		}},
		{"E04-d", func(b *agent) bool {
			return guarded(b) && !b.list(b.l.mcpPath(), authorization("Bearer x")) && b.list(b.l.mcpPath(), authorization("Bearer x", "Bearer y"))
		}},
		{"E04-e", func(b *agent) bool {
			return guarded(b) && b.list(b.l.mcpPath(), authorization("Bearer "+b.forge(func(h, c map[string]any) string {
				h["alg"] = "none"
				return b64(h) + "." + b64(c) + "."
			})))
		}},
		{"E04-f", func(b *agent) bool {
			return guarded(b) && b.list(b.l.mcpPath(), authorization("Bearer "+b.forge(func(_, c map[string]any) string {
				key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithType("at+jwt"))
				if err != nil {
					b.t.Fatal(err)
				}
				raw, _ := jwt.Signed(s).Claims(c).Serialize()
				return raw
			})))
		}},
		{"E04-g", func(b *agent) bool {
			var set jose.JSONWebKeySet
			if err := json.Unmarshal([]byte(b.get(b.l.Issuer+"/jwks").body), &set); err != nil {
				b.t.Fatal(err)
			}
			der, _ := x509.MarshalPKIXPublicKey(set.Keys[0].Key)
			return guarded(b) && b.list(b.l.mcpPath(), authorization("Bearer "+b.forge(func(h, c map[string]any) string {
				h["alg"] = "HS256"
				signed := b64(h) + "." + b64(c)
				return signed + "." + hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), signed)
			})))
		}},
		{"E04-h", func(b *agent) bool {
			_, tok := b.login("alice", nil)
			b.skew.Store(int64(time.Hour))
			return b.toolsOpen(str(tok, "access_token"))
		}},
		{"E04-i", func(b *agent) bool {
			id, tok := b.login("alice", nil)
			b.form(b.l.Issuer+"/revoke", url.Values{"token": {str(tok, "access_token")}, "client_id": {id}})
			return b.toolsOpen(str(tok, "access_token"))
		}},
		{"E04-j", func(b *agent) bool {
			p := strings.Split(b.access("alice"), ".")
			body, _ := base64.RawURLEncoding.DecodeString(p[1])
			p[1] = base64.RawURLEncoding.EncodeToString(bytes.Replace(body, []byte(`"alice"`), []byte(`"bob"`), 1))
			return b.call(strings.Join(p, "."), "whoami", nil) == "bob"
		}},
		{"E06-a", func(b *agent) bool {
			return has(b.prm().json(b.t)["authorization_servers"], "https://accounts.google.com")
		}},
		{"E06-b", func(b *agent) bool {
			at := b.access("alice")
			return b.toolsOpen(at) && b.send("GET", b.l.UpstreamURL+"/userinfo", "", "", authorization("Bearer "+at)).status == http.StatusOK
		}},
		{"E23-a", func(b *agent) bool {
			return guarded(b) && b.list(b.l.mcpPath()+"?access_token="+b.access("alice"), nil)
		}},
		{"E23-b", func(b *agent) bool {
			return strings.Contains(b.challengeOf(b.l.MCPURL+"?access_token=x"), "invalid_token") && !b.list(b.l.mcpPath()+"?access_token="+b.access("alice"), nil)
		}},
		{"E23-c", func(b *agent) bool {
			loc := b.authorize(b.request(b.client(nil))).location(b.t)
			// Whoever sees the address goes on in the victim's place.
			a := b.fresh().get(b.l.base + loc.String())
			return loc.Query().Get("session_id") != "" && a.status == http.StatusOK && strings.Contains(a.body, "password")
		}},
		{"E34-a", func(b *agent) bool {
			return guarded(b) && b.list(b.l.mcpPath(), authorization("Bearer lab-demo-key")) && !b.list(b.l.mcpPath(), authorization("Bearer sk-other"))
		}},
		{"E34-b", func(b *agent) bool {
			return strings.Contains(b.modern(b.l.MCPURL, "", "tools/list", nil, nil).body, "api_key=") && b.list(b.l.mcpPath()+"?api_key=alice-lab-key", nil)
		}},
		{"E34-c", func(b *agent) bool {
			a := b.authorize(b.request(b.client(nil)))
			page := b.get(b.l.base + a.header.Get("Location"))
			f := fields(page.body)
			f.Set("username", "alice")
			f.Set("password", "wrong")
			for range 10 {
				a = b.form(b.l.Issuer+"/login", f)
			}
			return a.status == http.StatusUnauthorized
		}},
	}
}

func sessionAttacks() []attack {
	return []attack{
		{"E07-2", func(b *agent) bool {
			sid := b.session(b.access("alice"))
			return strings.Contains(b.inSession(sid, "", "tools/call", map[string]any{"name": "whoami"}).body, "alice")
		}},
		{"E07-3", func(b *agent) bool {
			sid := b.session(b.access("alice"))
			return strings.Contains(b.inSession(sid, b.access("bob"), "tools/call", map[string]any{"name": "list_notes"}).body, "Alice")
		}},
		{"E07-4", func(b *agent) bool {
			sid := b.session(b.access("alice"))
			return tools(b.inSession("made-up", "", "tools/list", nil)) && !tools(b.inSession(sid, "", "tools/list", nil))
		}},
		{"E07-5", func(b *agent) bool {
			last := func(s string) int {
				n, _ := strconv.Atoi(s[strings.LastIndexByte(s, '-')+1:])
				return n
			}
			one, two := b.session(""), b.session("")
			return last(one) > 0 && last(two) == last(one)+1
		}},
		{"E07-6", func(b *agent) bool {
			_, id, _ := strings.Cut(b.call(b.access("alice"), "start_report", nil), "report_id: ")
			return id != "" && strings.Contains(b.call(b.access("bob"), "get_report", map[string]any{"report_id": id}), "alice")
		}},
		{"E07-7", func(b *agent) bool { return b.list("/sse", nil) }},
		{"E08-a", func(b *agent) bool {
			return b.pays(func(state string) string {
				raw, err := base64.RawURLEncoding.DecodeString(state)
				if err != nil || !bytes.Contains(raw, []byte(`"amount":"1"`)) {
					return state + "x"
				}
				return base64.RawURLEncoding.EncodeToString(bytes.Replace(raw, []byte(`"amount":"1"`), []byte(`"amount":"9999"`), 1))
			}) == "Paid 9999 euro for alice."
		}},
		{"E08-b", func(b *agent) bool {
			at := b.access("alice")
			state := b.ask(at, "1")
			once := b.confirm(at, state, "1") != ""
			return once && b.confirm(at, state, "1") != ""
		}},
		{"E08-c", func(b *agent) bool {
			at := b.access("alice")
			return b.confirm(at, b.ask(at, "1"), "7") != ""
		}},
		{"E08-d", func(b *agent) bool {
			at := b.access("alice")
			state := b.ask(at, "1")
			raw, err := base64.RawURLEncoding.DecodeString(state)
			forged := base64.RawURLEncoding.EncodeToString(bytes.Replace(raw, []byte(`"amount":"1"`), []byte(`"amount":"9"`), 1))
			return err == nil && bytes.Contains(raw, []byte(`"user":"alice"`)) && b.confirm(at, forged, "1") == "" && b.confirm(at, state, "1") != ""
		}},
		{"E08-e", func(b *agent) bool {
			state := b.ask(b.access("alice"), "1")
			return strings.Contains(b.confirm(b.access("bob"), state, "1"), "for alice")
		}},
	}
}

// ask calls needs_input and returns its requestState.
func (b *agent) ask(bearer, amount string) string {
	b.t.Helper()
	a := b.modern(b.l.MCPURL, bearer, "tools/call", map[string]any{"name": "needs_input", "arguments": map[string]any{"amount": amount}}, nil)
	result, _ := a.json(b.t)["result"].(map[string]any)
	if str(result, "resultType") != "input_required" {
		b.t.Fatalf("needs_input: %s", a.body)
	}
	return str(result, "requestState")
}

// confirm answers the question of needs_input and returns what the tool says.
func (b *agent) confirm(bearer, state, amount string) string {
	b.t.Helper()
	return said1(b.modern(b.l.MCPURL, bearer, "tools/call", map[string]any{
		"name": "needs_input", "arguments": map[string]any{"amount": amount}, "requestState": state,
		"inputResponses": map[string]any{"confirm": map[string]any{"action": "accept", "content": map[string]any{"ok": true}}},
	}, nil))
}

// pays confirms with a changed state.
func (b *agent) pays(change func(string) string) string {
	b.t.Helper()
	at := b.access("alice")
	return b.confirm(at, change(b.ask(at, "1")), "1")
}

// overStream sends one request over the two-endpoint transport and returns the
// answer's event; "" when stream or message are refused.
func (b *agent) overStream(to, method string, h http.Header) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", to, nil)
	req.Header = h.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if host := h.Get("Host"); host != "" {
		req.Host = host
	}
	req.Header.Set("Accept", "text/event-stream")
	res, err := b.rt.RoundTrip(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return ""
	}
	m := initialize()
	m["method"] = method
	for sc := bufio.NewScanner(res.Body); sc.Scan(); {
		data, ok := strings.CutPrefix(sc.Text(), "data: ")
		if !ok {
			continue
		}
		if !strings.HasPrefix(data, "/messages") {
			return data
		}
		if b.json("POST", b.l.base+data, m, h).status != http.StatusAccepted {
			return ""
		}
	}
	return ""
}

func headerAttacks() []attack {
	evil := "https://n1.kidoban-probe.invalid"
	good := func(a answer) bool {
		return strings.Contains(a.body, "supportedVersions") || strings.Contains(a.body, "serverInfo")
	}
	// hello is a handshake written by hand: member holds the method, before stands
	// before it.
	hello := func(b *agent, before, member, contentType string) bool {
		body, head := `{"jsonrpc":"2.0","id":1,`+before+`"`+member+`":"server/discover","params":{`+modernMeta+`}}`, modernHead
		if b.l.opt.Era == eraLegacy {
			body, head = `{"jsonrpc":"2.0","id":1,`+before+`"`+member+`":"initialize","params":{"protocolVersion":"2025-11-25"}}`, nil
		}
		return good(b.raw(body, contentType, head))
	}
	return []attack{
		{"E09-a", func(b *agent) bool {
			return b.hello(http.Header{"Origin": {evil}}) && !b.hello(http.Header{"Origin": {"null"}})
		}},
		{"E09-b", func(b *agent) bool {
			return b.hello(http.Header{"Origin": {"null"}}) && !b.hello(http.Header{"Origin": {evil}})
		}},
		{"E09-c", func(b *agent) bool {
			h := b.send("OPTIONS", b.l.MCPURL, "", "", http.Header{"Origin": {evil}, "Access-Control-Request-Method": {"POST"}}).header
			return h.Get("Access-Control-Allow-Origin") == evil && h.Get("Access-Control-Allow-Credentials") == "true" &&
				b.modern(b.l.MCPURL, "", "tools/list", nil, http.Header{"Origin": {evil}}).status == http.StatusForbidden
		}},
		{"E09-d", func(b *agent) bool { return b.hello(http.Header{"Host": {"n1.kidoban-probe.invalid"}}) }},
		{"E09-e", func(b *agent) bool {
			return hello(b, "", "method", "text/plain") && hello(b, "", "method", "application/x-www-form-urlencoded")
		}},
		{"E33-a", func(b *agent) bool {
			return tools(b.raw(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{`+modernMeta+`}}`, "application/json", modernHead))
		}},
		{"E33-b", func(b *agent) bool {
			return hello(b, `"method":"tools/list",`, "method", "application/json")
		}},
		{"E33-c", func(b *agent) bool {
			return hello(b, "", "METHOD", "application/json")
		}},
		{"E33-d", func(b *agent) bool {
			a := b.modern(b.l.MCPURL, "", "tools/call", map[string]any{"name": "list_notes"}, http.Header{"X-Forwarded-User": {"alice"}})
			return strings.Contains(said1(a), "Alice")
		}},
		{"E33-e", func(b *agent) bool {
			a := b.modern(b.l.MCPURL, b.access("alice"), "tools/call", map[string]any{"name": "send_mail", "arguments": map[string]any{"to": "x", "text": "y"}}, http.Header{"Mcp-Name": {"whoami"}})
			return said1(a) == "Sent."
		}},
		{"E30-a", func(b *agent) bool {
			return has(b.prm().json(b.t)["scopes_supported"], "*") && has(b.meta()["scopes_supported"], "admin")
		}},
		{"E30-b", func(b *agent) bool { return !strings.Contains(b.challengeOf(b.l.MCPURL), "scope=") }},
		{"E30-c", func(b *agent) bool {
			_, tok := b.login("alice", nil)
			return strings.Contains(str(tok, "scope"), scopeMail) && b.call(str(tok, "access_token"), "send_mail", map[string]any{"to": "x", "text": "y"}) == "Sent."
		}},
		{"E30-d", func(b *agent) bool {
			_, tok := b.login("alice", nil)
			return str(tok, "scope") == scopeRead && b.call(str(tok, "access_token"), "send_mail", map[string]any{"to": "x", "text": "y"}) == "Sent."
		}},
		{"E31-a", func(b *agent) bool {
			return strings.Contains(b.modern(b.l.MCPURL, b.access("alice"), "resources/list", nil, nil).body, `"cacheScope":"public"`)
		}},
		{"E31-b", func(b *agent) bool {
			id := b.client(nil)
			return b.register(nil).header.Get("Cache-Control") == "" && b.redeem(id, b.code(b.request(id), "alice"), nil).header.Get("Cache-Control") == ""
		}},
		{"E31-c", func(b *agent) bool {
			return b.modern(b.l.MCPURL, "", "tools/list", nil, nil).header.Get("X-Cache") == "HIT"
		}},
		{"E31-d", func(b *agent) bool {
			b.modern(b.l.MCPURL, b.access("alice"), "resources/list", nil, nil)
			return strings.Contains(b.modern(b.l.MCPURL, b.access("bob"), "resources/list", nil, nil).body, "note-a1")
		}},
		{"E32-a", func(b *agent) bool {
			return strings.Contains(b.modern(b.l.MCPURL, "", "tools/list", nil, nil).body, "goroutine") && strings.Contains(b.authorize(url.Values{}).body, "goroutine")
		}},
		{"E32-b", func(b *agent) bool { return strings.Contains(b.authorize(url.Values{}).body, upstreamSecret) }},
		{"E32-c", func(b *agent) bool {
			a := b.form(b.l.Issuer+"/introspect", url.Values{"token": {b.access("alice")}})
			return a.status == http.StatusOK && a.json(b.t)["sub"] == "alice"
		}},
	}
}

// connection asks connect_account for its address.
func (b *agent) connection(bearer string) string {
	b.t.Helper()
	a := b.modern(b.l.MCPURL, bearer, "tools/call", map[string]any{"name": "connect_account"}, nil)
	var m struct {
		Result struct {
			InputRequests struct {
				Connect struct{ Params struct{ URL string } }
			}
		}
	}
	json.Unmarshal([]byte(a.body), &m)
	return m.Result.InputRequests.Connect.Params.URL
}

// connects opens an address and presses the button.
func (b *agent) connects(to string) bool {
	b.t.Helper()
	a := b.get(to)
	if a.status != http.StatusOK {
		return false
	}
	u, _ := url.Parse(to)
	f := fields(a.body)
	if tok := u.Query().Get("token"); tok != "" {
		f.Set("token", tok)
	}
	return strings.Contains(b.form(b.l.base+"/connect", f).body, "Connected.")
}

func personAttacks() []attack {
	return []attack{
		{"E35-a", func(b *agent) bool { return !strings.HasPrefix(b.connection(b.access("alice")), b.l.base) }},
		{"E35-b", func(b *agent) bool { return b.fresh().connects(b.connection(b.access("alice"))) }},
		{"E35-c", func(b *agent) bool {
			at := b.access("alice")
			link := b.connection(at)
			bob := b.fresh()
			bob.access("bob")
			return bob.connects(link) && b.call(at, "connect_account", nil) == "Connected as bob."
		}},
		{"E37-a", func(b *agent) bool {
			return b.call(b.access("bob"), "read_note", map[string]any{"id": "note-a1"}) == "alice-secret: buy bread"
		}},
		{"E37-b", func(b *agent) bool {
			alice, bob := b.access("alice"), b.access("bob")
			var mu sync.Mutex
			mixed := false
			var wg sync.WaitGroup
			for i := range 20 {
				who, at := "alice", alice
				if i%2 == 1 {
					who, at = "bob", bob
				}
				wg.Go(func() {
					got := (&agent{t: b.t, l: b.l, rt: b.rt, cookies: map[string]map[string]string{}}).call(at, "whoami", nil)
					mu.Lock()
					defer mu.Unlock()
					mixed = mixed || got != who
				})
			}
			wg.Wait()
			return mixed
		}},
	}
}
