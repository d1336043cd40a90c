package lab

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"
)

// inputState is what a tool's requestState carries: for whom, for which call, until
// when, and an id that is good once.
type inputState struct {
	User   string `json:"user"`
	Tool   string `json:"tool"`
	Digest string `json:"digest"`
	Amount string `json:"amount,omitempty"`
	Expiry int64  `json:"exp"`
	ID     string `json:"jti"`
}

// sealState encrypts and authenticates a state (AES-256-GCM).
func (l *Lab) sealState(s inputState) string {
	plain, _ := json.Marshal(s)
	if out, ok := l.weakSeal(plain); ok {
		return out
	}
	g := l.stateCipher()
	nonce, _ := base64.RawURLEncoding.DecodeString(l.random(g.NonceSize()))
	return base64.RawURLEncoding.EncodeToString(g.Seal(nonce, nonce, plain, nil))
}

// openState decrypts a state. What does not authenticate is treated like garbage.
func (l *Lab) openState(raw string) (inputState, bool) {
	var s inputState
	b, err := base64.RawURLEncoding.DecodeString(raw)
	if err != nil || len(raw) > 4096 {
		return s, false
	}
	if plain, ok := l.weakOpen(b); ok {
		return s, json.Unmarshal(plain, &s) == nil
	}
	g := l.stateCipher()
	if len(b) < g.NonceSize() {
		return s, false
	}
	plain, err := g.Open(nil, b[:g.NonceSize()], b[g.NonceSize():], nil)
	return s, err == nil && json.Unmarshal(plain, &s) == nil
}

// stateCipher is AES-256-GCM under the lab's sealing key, which lives as long as the
// lab.
func (l *Lab) stateCipher() cipher.AEAD {
	key := sha256.Sum256(l.seal)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("lab: AES refuses a 32-byte key: " + err.Error())
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		panic("lab: GCM refuses AES: " + err.Error())
	}
	return g
}

// digest identifies a call: the tool and its arguments.
func digest(tool string, args map[string]any) string {
	b, _ := json.Marshal(args) // map keys come out sorted
	sum := sha256.Sum256(append([]byte(tool+"\x00"), b...))
	return hex.EncodeToString(sum[:])
}

// inputTTL is how long a question waits for its answer.
const inputTTL = 10 * time.Minute

// needsInput asks for a confirmation before it pays (multi round-trip requests of
// 2026-07-28). Legacy callers cannot be asked and are told so.
func (l *Lab) needsInput(c *call, caps map[string]any, user string, args map[string]any) (map[string]any, *rpcFault) {
	if !c.modern {
		return failed("This tool needs a client of revision 2026-07-28."), nil
	}
	if _, ok := caps["elicitation"]; !ok {
		return nil, &rpcFault{code: -32021, text: "This tool needs the client capability elicitation.", data: map[string]any{"requiredCapabilities": map[string]any{"elicitation": map[string]any{"form": map[string]any{}}}}}
	}
	amount, _ := args["amount"].(string)
	raw, _ := c.msg.Params["requestState"].(string)
	if raw == "" {
		s := inputState{User: user, Tool: "needs_input", Digest: digest("needs_input", args), Amount: amount, Expiry: l.now().Add(inputTTL).Unix(), ID: l.random(16)}
		return map[string]any{
			"resultType": "input_required", "requestState": l.sealState(s),
			"inputRequests": map[string]any{"confirm": map[string]any{"method": "elicitation/create", "params": map[string]any{
				"mode": "form", "message": "Pay " + amount + " euro?",
				"requestedSchema": map[string]any{"type": "object", "properties": map[string]any{"ok": map[string]any{"type": "boolean"}}, "required": []string{"ok"}},
			}}},
		}, nil
	}
	s, ok := l.openState(raw)
	if !ok || !l.stateFits(s, user, "needs_input", args) {
		return nil, &rpcFault{code: -32602, text: "The requestState does not belong to this call."}
	}
	answers, _ := c.msg.Params["inputResponses"].(map[string]any)
	confirm, _ := answers["confirm"].(map[string]any)
	content, _ := confirm["content"].(map[string]any)
	if confirm["action"] != "accept" || content["ok"] != true {
		return failed("Not paid: you did not confirm."), nil
	}
	return said("Paid " + s.Amount + " euro for " + s.User + "."), nil
}

// stateFits checks who, what, when and how often; a state is spent by its use.
func (l *Lab) stateFits(s inputState, user, tool string, args map[string]any) bool {
	if l.now().Unix() > s.Expiry {
		return false
	}
	if !l.on("E08-c") && (s.Tool != tool || s.Digest != digest(tool, args)) || !l.on("E08-e") && s.User != user {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.st.used[s.ID] && !l.on("E08-b") || len(l.st.used) >= maxEntries {
		return false
	}
	l.st.used[s.ID] = true
	return true
}

// link is a connection of an account of another service, on its way.
type link struct {
	user      string
	csrf      string
	connected string // the person who connected; "" while nobody has
	at        time.Time
}

// connectAccount hands out the address of the connect page. The address names a
// transaction and nobody; whoever opens it has to be logged in as the same person.
func (l *Lab) connectAccount(c *call, caps map[string]any, user string) (map[string]any, *rpcFault) {
	l.mu.Lock()
	for _, k := range l.st.links {
		if k.user == user && k.connected != "" {
			l.mu.Unlock()
			return said("Connected as " + k.connected + "."), nil
		}
	}
	if len(l.st.links) >= maxEntries {
		l.mu.Unlock()
		return failed("Too many connections are under way."), nil
	}
	handle := l.random(16)
	l.st.links[handle] = &link{user: user, csrf: l.random(16), at: l.now()}
	l.mu.Unlock()
	request := map[string]any{"mode": "url", "message": "Connect your account in the browser.", "url": l.connectURL(handle, user)}
	if !c.modern {
		request["elicitationId"] = handle
		return nil, &rpcFault{code: -32042, text: "Open the address first.", data: map[string]any{"elicitations": []any{request}}}
	}
	if e, ok := caps["elicitation"].(map[string]any); !ok || e["url"] == nil {
		return nil, &rpcFault{code: -32021, text: "This tool needs the client capability elicitation.url.", data: map[string]any{"requiredCapabilities": map[string]any{"elicitation": map[string]any{"url": map[string]any{}}}}}
	}
	s := inputState{User: user, Tool: "connect_account", Digest: digest("connect_account", nil), Expiry: l.now().Add(inputTTL).Unix(), ID: handle}
	return map[string]any{"resultType": "input_required", "requestState": l.sealState(s),
		"inputRequests": map[string]any{"connect": map[string]any{"method": "elicitation/create", "params": request}}}, nil
}

// connectPage is the page behind the address: the person must be the one the
// elicitation was made for.
func (l *Lab) connectPage(w http.ResponseWriter, r *http.Request) {
	handle := r.FormValue("h")
	l.mu.Lock()
	k := l.st.links[handle]
	l.mu.Unlock()
	if k == nil || l.now().Sub(k.at) > inputTTL {
		l.errorPage(w, http.StatusNotFound, "not_found", "This connection has expired.")
		return
	}
	user := l.connector(r)
	if !l.mayConnect(w, k, user) {
		return
	}
	l.pageHeaders(w)
	if r.Method != http.MethodPost {
		l.pages.render(w, http.StatusOK, "connect", map[string]string{"Text": "Connect an account for " + k.user + "?", "Handle": handle, "CSRF": k.csrf})
		return
	}
	if !l.sameOrigin(r) || !same(k.csrf, r.PostFormValue("csrf")) {
		l.errorPage(w, http.StatusForbidden, "access_denied", "This form was sent from another page.")
		return
	}
	l.mu.Lock()
	k.connected = user
	if user == "" {
		k.connected = "a stranger"
	}
	l.mu.Unlock()
	l.pages.render(w, http.StatusOK, "connect", map[string]string{"Text": "Connected. You can close this page.", "Handle": ""})
}
