package lab

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// upstreamSwitches are the flaws of the leg to the upstream (F3, F4, F8, E01, E02).
//
// A lab that asks for consent before it goes upstream shows that leg to nobody who
// has not clicked. The switches whose flaw is visible without a login therefore
// force E01-a, which moves the decision behind the upstream.
func upstreamSwitches() []Switch {
	open := Needs{Upstream: true, Flaws: []string{"E01-a"}}
	nested := []string{"E01-a", "F4-0"}
	up := Needs{Upstream: true}
	routed := []string{"F4+L2"}
	return []Switch{
		{Key: "F3-a", Title: "The request to the upstream has no code_challenge.", Needs: open},
		{Key: "F3-b", Title: "The request to the upstream has a plain code_challenge.", Needs: open},
		{Key: "F4-0", Title: "The upstream state is readable JSON with the client's redirect URI in it; it is compared with the server's copy, so changing it is useless.", Needs: open},
		{Key: "F4-1", Title: "The upstream state is JSON, and everything, an error included, is sent to the redirect URI in it.", Needs: open, Expect: append(nested[:2:2], "F4-1", "F4-2", "F4-3"), Chains: routed},
		{Key: "F4-2", Title: "The upstream state is JSON; the code is redeemed upstream before its redirect URI is compared with the server's copy. Errors stay on a local page.", Needs: open, Expect: append(nested[:2:2], "F4-2")},
		{Key: "F4-3", Title: "The upstream state is JSON; errors stay on a local page, a code is sent to the redirect URI in it.", Needs: open, Expect: append(nested[:2:2], "F4-2", "F4-3"), Chains: routed},
		{Key: "F4-4", Title: "The upstream state is a signed JWT whose signature nobody checks; everything is sent to the redirect URI in it.", Needs: open, Expect: []string{"E01-a", "F4-4"}, Chains: routed},
		{Key: "F4-5", Title: "The upstream state is opaque and good more than once.", Needs: open},
		{Key: "F8-a", Title: "The request to the upstream has no state; the callback is found by its cookie.", Needs: open},
		{Key: "F8-b", Title: "The upstream state is the same every time; the callback is found by its cookie.", Needs: open},
		{Key: "F8-c", Title: "The upstream state is random, but the callback does not look at it: the cookie alone decides.", Needs: open},
		{Key: "F8-d", Title: "The client's state comes back without its last character."},
		{Key: "F8-e", Title: "The upstream state has 32 bits.", Needs: open},
		{Key: "E01-a", Title: "The browser is sent to the upstream before anybody has asked about the client; the decision comes after.", Needs: up},
		{Key: "E01-b", Title: "Consent is remembered for the browser, not for the client: the second client gets its code without a page.", Needs: up},
		{Key: "E01-c", Title: "Consent is remembered for a client document, whatever redirect URI of it is asked for.", Needs: Needs{Documents: true}},
		{Key: "E02-a", Title: "The callback takes an answer from a browser without the cookie.", Needs: open},
		{Key: "E02-b", Title: "The decision is taken here and the cookie set, but the callback takes a code from any browser; an error still needs the cookie.", Needs: up},
		{Key: "E02-c", Title: "The transaction cookie has no __Host- prefix, no HttpOnly and no SameSite.", Needs: open},
	}
}

// nestedState is the routing data that F4 puts into the upstream state.
type nestedState struct {
	Tx       string `json:"tx"`
	ClientID string `json:"client_id"`
	Redirect string `json:"redirect_uri"`
	State    string `json:"state"`
}

// upstreamState makes the state towards the upstream. Lab.mu is held.
func (l *Lab) upstreamState(t *txn) string {
	nested := nestedState{t.id, t.client.id, t.redirect, t.state}
	switch {
	case l.any("F4-0", "F4-1", "F4-2", "F4-3"):
		b, _ := json.Marshal(nested)
		return base64.RawURLEncoding.EncodeToString(b)
	case l.on("F4-4"):
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte("lab-state-key-of-32-bytes-length")}, nil)
		if err != nil {
			panic("lab: HS256 refuses its key: " + err.Error())
		}
		raw, _ := jwt.Signed(s).Claims(nested).Serialize()
		return raw
	case l.on("F8-a"):
		return "-" // marks that the leg was begun; it is not sent
	case l.on("F8-b"):
		return "5a3c7e91d2f04b68a1c9e7350f2d4b86"
	case l.on("F8-e"):
		b, _ := base64.RawURLEncoding.DecodeString(l.random(4))
		return hex.EncodeToString(b)
	}
	return l.random(32)
}

// weakUpstreamRequest changes the request to the upstream.
func (l *Lab) weakUpstreamRequest(t *txn, q url.Values) {
	switch {
	case l.on("F3-a"):
		q.Del("code_challenge")
		q.Del("code_challenge_method")
	case l.on("F3-b"):
		q.Set("code_challenge", t.verifier)
		q.Set("code_challenge_method", "plain")
	}
	if l.on("F8-a") {
		q.Del("state")
	}
}

// callbackTxn finds the transaction that an answer of the upstream belongs to: by
// the state, in the browser that holds the cookie, once. forged is the redirect
// URI that a weak server takes from the state.
func (l *Lab) callbackTxn(r *http.Request, q url.Values) (t *txn, forged string) {
	state, cookie := q.Get("state"), l.cookie(r, cookieUp)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.any("F4-0", "F4-1", "F4-2", "F4-3", "F4-4"):
		n, ok := readNested(state)
		t = l.st.txns[n.Tx]
		if !ok || t == nil || l.on("F4-0") && state != t.upState {
			return nil, ""
		}
		if n.Redirect != t.redirect {
			forged = n.Redirect
		}
	case l.any("F8-a", "F8-b", "F8-c"):
		for _, x := range l.st.txns {
			if same(x.upCookie, cookie) {
				t = x
			}
		}
		if l.on("F8-a") && state != "" || l.on("F8-b") && t != nil && state != t.upState {
			return nil, ""
		}
	default:
		for _, x := range l.st.txns {
			if same(x.upState, state) {
				t = x
			}
		}
	}
	if t == nil || t.upState == "" || l.now().Sub(t.created) > txnTTL || t.stage != stageUpstream && !l.on("F4-5") {
		return nil, ""
	}
	bound := same(t.upCookie, cookie)
	if !bound && !l.on("E02-a") && !(l.on("E02-b") && q.Get("code") != "") {
		return nil, ""
	}
	if !l.on("F4-5") {
		t.stage = stageDone // an answer is taken once
	}
	return t, forged
}

// readNested decodes the state of F4, as JSON or as the payload of a JWT.
func readNested(state string) (n nestedState, ok bool) {
	part := state
	if p := strings.Split(state, "."); len(p) == 3 {
		part = p[1]
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
	return n, err == nil && len(state) < 8192 && json.Unmarshal(b, &n) == nil && n.Tx != ""
}

// routedTo is a copy of t whose answer goes to the redirect URI of the state.
func (t *txn) routedTo(forged string) *txn {
	c := *t
	c.redirect = forged
	return &c
}

// lateRouteOK is the check of F4-2, which comes after the upstream's code is spent.
func (l *Lab) lateRouteOK(t *txn) bool {
	if !l.on("F4-2") {
		return true
	}
	return l.matchRedirect(t.client.redirects, t.redirect)
}

// returnedState is the client's state as it comes back: unchanged.
func (l *Lab) returnedState(s string) string {
	if l.on("F8-d") && len(s) > 1 {
		return s[:len(s)-1]
	}
	return s
}
