package lab

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// The lab's client at the upstream: one static id, as intermediaries have it.
const (
	upstreamClient = "lab-as"
	upstreamSecret = "lab-as-upstream-secret"
)

// goUpstream sends the browser to the upstream: after the person's decision, with a
// fresh opaque state, S256, a nonce, and a cookie that binds the callback to this
// browser. What the answer is for stays on the server.
func (l *Lab) goUpstream(w http.ResponseWriter, r *http.Request, t *txn) {
	// State and cookie do not exist before this moment, so that nobody can be brought
	// behind the decision by a link.
	l.mu.Lock()
	t.stage = stageUpstream
	t.upCookie, t.verifier, t.nonce = l.random(32), l.random(32), l.random(16)
	t.upState = l.upstreamState(t)
	l.mu.Unlock()
	l.setCookie(w, cookieUp, t.upCookie)
	q := url.Values{
		"response_type": {"code"}, "client_id": {upstreamClient}, "redirect_uri": {l.Issuer + "/callback"},
		"scope": {"openid profile"}, "state": {t.upState}, "nonce": {t.nonce},
		"code_challenge": {challengeOf(t.verifier)}, "code_challenge_method": {"S256"},
	}
	l.weakUpstreamRequest(t, q)
	l.redirect(w, r, l.UpstreamURL+"/authorize?"+q.Encode())
}

// upstreamCallback takes the upstream's answer.
func (l *Lab) upstreamCallback(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || !l.opt.Upstream {
		methodNotAllowed(w, "GET")
		return
	}
	q := r.URL.Query()
	t, forged := l.callbackTxn(r, q)
	if t == nil {
		l.errorPage(w, http.StatusBadRequest, "invalid_request", "This answer belongs to no login that waits here in this browser.")
		return
	}
	if forged != "" { // switches of F4: the address comes from the state
		t = t.routedTo(forged)
	}
	// The upstream is the only one this server talks to; an answer that says it is
	// another's is a mix-up (RFC 9207 section 2.4).
	if iss := q.Get("iss"); iss != "" && iss != l.UpstreamURL {
		l.errorPage(w, http.StatusBadRequest, "invalid_request", "The answer came from another server.")
		return
	}
	if q.Get("error") != "" || q.Get("code") == "" {
		l.upstreamSaidNo(w, r, t, forged)
		return
	}
	user, ok := l.redeemUpstream(r, t, q.Get("code"))
	if !ok {
		l.errorPage(w, http.StatusBadGateway, "server_error", "The upstream did not take the code.")
		return
	}
	if !l.lateRouteOK(t) {
		l.errorPage(w, http.StatusBadRequest, "invalid_request", "This answer belongs to no login that waits here.")
		return
	}
	t.user = user
	if l.on("E01-a") { // the decision comes after the upstream, where it is late
		l.mu.Lock()
		t.stage = stageConsent
		l.st.txns[t.id] = t
		l.mu.Unlock()
		if t.browser != l.cookie(r, cookieFlow) {
			// A browser that did not start the flow gets the page all the same.
			t.browser = l.random(16)
			l.setCookie(w, cookieFlow, t.browser)
		}
		l.advance(w, r, t)
		return
	}
	l.finish(w, r, t)
}

// upstreamSaidNo ends a transaction whose upstream refused. A person has decided
// already, but nobody has logged in: only trusted redirect URIs hear of it.
func (l *Lab) upstreamSaidNo(w http.ResponseWriter, r *http.Request, t *txn, forged string) {
	l.mu.Lock()
	if !l.on("F4-5") {
		delete(l.st.txns, t.id)
		t.stage = stageDone
	}
	l.mu.Unlock()
	if l.any("F4-2", "F4-3") || forged == "" && !trusted(t.redirect) {
		l.errorPage(w, http.StatusOK, "access_denied", "The upstream did not log you in. Nothing was given to the application.")
		return
	}
	l.respond(w, r, t, url.Values{"error": {"access_denied"}, "error_description": {"The upstream did not log the person in."}})
}

// redeemUpstream exchanges the upstream's code and returns the person.
func (l *Lab) redeemUpstream(r *http.Request, t *txn, upCode string) (string, bool) {
	f := url.Values{
		"grant_type": {"authorization_code"}, "code": {upCode}, "redirect_uri": {l.Issuer + "/callback"},
		"code_verifier": {t.verifier},
	}
	if l.on("F3-a") {
		f.Del("code_verifier")
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, l.UpstreamURL+"/token", strings.NewReader(f.Encode()))
	if err != nil {
		return "", false
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(upstreamClient, upstreamSecret)
	res, err := l.upstreamHTTP().Do(req)
	if err != nil {
		return "", false
	}
	defer res.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
		Sub         string `json:"sub"`
		Nonce       string `json:"nonce"`
	}
	if json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(&answer) != nil || res.StatusCode != http.StatusOK {
		return "", false
	}
	l.mu.Lock()
	l.idp.kept[answer.Sub] = answer.AccessToken // kept here, never shown to a client
	l.mu.Unlock()
	return answer.Sub, answer.Sub != "" && same(answer.Nonce, t.nonce)
}
