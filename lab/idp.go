package lab

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"time"
)

// idpState is what the upstream identity provider remembers. It lives under
// Lab.mu.
type idpState struct {
	requests map[string]*idpRequest
	codes    map[string]*idpCode
	sessions map[string]string // cookie → user
	tokens   map[string]string // access token → user
	consents map[string]bool   // user and client
	kept     map[string]string // the lab's vault: user → upstream access token
}

// idpRequest is a request that waits for the person to log in upstream.
type idpRequest struct {
	q    url.Values
	csrf string
	at   time.Time
}

// idpCode is a code of the upstream. A challenge that was sent as plain is kept with
// that word before it.
type idpCode struct {
	user, challenge, redirect, nonce string
	used                             bool
	at                               time.Time
}

// newIDPState is an upstream that has seen nobody.
func newIDPState() idpState {
	return idpState{map[string]*idpRequest{}, map[string]*idpCode{}, map[string]string{}, map[string]string{}, map[string]bool{}, map[string]string{}}
}

// idpHandler is the upstream: a plain, careful identity provider. It remembers
// logins and consent, as the big ones do; that is what makes confused deputies.
func (l *Lab) idpHandler() http.Handler {
	routes := map[string]http.HandlerFunc{
		"/authorize":                        l.idpAuthorize,
		"/login":                            l.idpLogin,
		"/token":                            l.idpToken,
		"/userinfo":                         l.idpUserinfo,
		"/.well-known/openid-configuration": l.idpMetadata,
		"/.well-known/oauth-authorization-server": l.idpMetadata,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if h, ok := routes[r.URL.Path]; ok {
			h(w, r)
			return
		}
		http.Error(w, "There is nothing here.", http.StatusNotFound)
	})
}

// idpMetadata is the upstream's own document. It offers plain beside S256, as many
// do; which of them is used is the choice of its client, the lab.
func (l *Lab) idpMetadata(w http.ResponseWriter, r *http.Request) {
	at := l.UpstreamURL
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer": at, "authorization_endpoint": at + "/authorize", "token_endpoint": at + "/token", "userinfo_endpoint": at + "/userinfo",
		"jwks_uri": at + "/jwks", "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"}, "scopes_supported": []string{"openid", "profile"},
		"code_challenge_methods_supported": []string{"S256", "plain"}, "authorization_response_iss_parameter_supported": true,
		"grant_types_supported": []string{"authorization_code"},
	})
}

// UpstreamClient is the one client that the upstream knows.
func (l *Lab) UpstreamClient() (id, secret string) { return upstreamClient, upstreamSecret }

func (l *Lab) ownCallback(uri string) bool {
	return uri == l.Issuer+"/callback" || uri != "" && uri == l.opt.UpstreamCallback
}

// idpAuthorize knows one client and its redirect URI. A person who is logged in and
// has agreed before is sent straight back: the convenience that a confused deputy
// lives on.
func (l *Lab) idpAuthorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if r.Method != http.MethodGet || q.Get("client_id") != upstreamClient || !l.ownCallback(q.Get("redirect_uri")) || q.Get("response_type") != "code" {
		l.idpPage(w, http.StatusBadRequest, "error", map[string]string{"Code": "invalid_request", "Text": "The upstream does not know this client or this redirect_uri."})
		return
	}
	if c, err := r.Cookie("__Host-idp"); err == nil {
		l.mu.Lock()
		user := l.idp.sessions[c.Value]
		known := l.idp.consents[user+" "+upstreamClient]
		l.mu.Unlock()
		if user != "" && known { // consent is remembered: the browser comes straight back
			l.idpFinish(w, r, q, user)
			return
		}
	}
	// The rest is kept on the server; the browser carries a random id only.
	id, req := l.random(16), &idpRequest{q, l.random(16), l.now()}
	l.mu.Lock()
	for k, old := range l.idp.requests {
		if l.now().Sub(old.at) > txnTTL {
			delete(l.idp.requests, k)
		}
	}
	if len(l.idp.requests) < maxEntries {
		l.idp.requests[id] = req
	}
	l.mu.Unlock()
	w.Header().Set("Location", "/login?"+url.Values{"tx": {id}}.Encode())
	w.WriteHeader(http.StatusFound)
}

// idpLogin shows the login and takes it. Agreeing is part of logging in.
func (l *Lab) idpLogin(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("tx")
	l.mu.Lock()
	req := l.idp.requests[id]
	l.mu.Unlock()
	if req == nil {
		l.idpPage(w, http.StatusBadRequest, "error", map[string]string{"Code": "invalid_request", "Text": "This login has expired."})
		return
	}
	form := map[string]string{"Action": "/login", "Tx": id, "CSRF": req.csrf, "Fault": ""}
	if r.Method != http.MethodPost {
		l.idpPage(w, http.StatusOK, "login", form)
		return
	}
	user := l.checkPassword(r.PostFormValue("username"), r.PostFormValue("password"), r.PostFormValue("totp"))
	if user == "" || !same(req.csrf, r.PostFormValue("csrf")) {
		form["Fault"] = "User, password or code is wrong."
		l.idpPage(w, http.StatusUnauthorized, "login", form)
		return
	}
	cookie := l.random(32)
	l.mu.Lock()
	delete(l.idp.requests, id)
	put(l.idp.sessions, cookie, user)
	l.idp.consents[user+" "+upstreamClient] = true
	l.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: "__Host-idp", Value: cookie, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	l.idpFinish(w, r, req.q, user)
}

// idpFinish sends the browser back with a code, iss and the state as it came.
func (l *Lab) idpFinish(w http.ResponseWriter, r *http.Request, q url.Values, user string) {
	value := l.random(32)
	challenge := q.Get("code_challenge")
	if challenge != "" && q.Get("code_challenge_method") != "S256" {
		challenge = "plain " + challenge
	}
	l.mu.Lock()
	put(l.idp.codes, value, &idpCode{user: user, challenge: challenge, redirect: q.Get("redirect_uri"), nonce: q.Get("nonce"), at: l.now()})
	l.mu.Unlock()
	out := url.Values{"code": {value}, "iss": {l.UpstreamURL}}
	if s := q.Get("state"); s != "" {
		out.Set("state", s)
	}
	noStore(w)
	w.Header().Set("Location", withQuery(q.Get("redirect_uri"), out, false))
	w.WriteHeader(http.StatusSeeOther)
}

// idpToken redeems a code once, for the confidential client, with the verifier where
// there was a challenge.
func (l *Lab) idpToken(w http.ResponseWriter, r *http.Request) {
	noStore(w)
	id, secret, _ := r.BasicAuth()
	if r.Method != http.MethodPost || id != upstreamClient || !same(secret, upstreamSecret) {
		oauthError(w, http.StatusUnauthorized, "invalid_client", "The upstream does not know this client.")
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.idp.codes[r.PostFormValue("code")]
	verifier := r.PostFormValue("code_verifier")
	bad := k == nil || k.used || l.now().Sub(k.at) > time.Minute || k.redirect != r.PostFormValue("redirect_uri")
	if !bad && k.challenge != "" {
		bad = k.challenge != challengeOf(verifier) && k.challenge != "plain "+verifier
	}
	if bad {
		oauthError(w, http.StatusBadRequest, "invalid_grant", "The code is unknown, used or expired.")
		return
	}
	k.used = true
	token := "idp-" + l.random(32)
	put(l.idp.tokens, token, k.user)
	writeJSON(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600, "sub": k.user, "nonce": k.nonce})
}

// idpUserinfo tells whose token it is; the one place where an upstream token works.
func (l *Lab) idpUserinfo(w http.ResponseWriter, r *http.Request) {
	noStore(w)
	l.mu.Lock()
	user := l.idp.tokens[bearer(r)]
	l.mu.Unlock()
	if user == "" {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		oauthError(w, http.StatusUnauthorized, "invalid_token", "The upstream did not issue this token.")
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"sub": user, "name": user})
}

// idpPage writes a page with the protections the upstream owes its people, whatever
// the switches of the main server are.
func (l *Lab) idpPage(w http.ResponseWriter, status int, name string, data any) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	l.pages.render(w, status, name, data)
}

// upstreamHTTP reaches the lab's own upstream and nothing else: its address is the
// lab's, not a stranger's.
func (l *Lab) upstreamHTTP() *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(l.CACert)
	return &http.Client{
		Timeout:       5 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
