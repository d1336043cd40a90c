package lab

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// authorize starts an authorization (OAuth 2.1 section 4.1.1). The profile decides
// what stands before validation; validation itself looks at the client first, then
// at the redirect URI, and only then at the rest.
func (l *Lab) authorize(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		methodNotAllowed(w, "GET, POST")
		return
	}
	raw := r.URL.RawQuery
	if r.Method == http.MethodPost {
		if !isForm(r) {
			l.errorPage(w, http.StatusUnsupportedMediaType, "invalid_request", "Send the request as a form.")
			return
		}
		if err := r.ParseForm(); err != nil {
			l.errorPage(w, http.StatusBadRequest, "invalid_request", "The form cannot be read.")
			return
		}
		raw = r.PostForm.Encode()
	}
	switch l.opt.Profile {
	case profileChallenge:
		l.challengePage(w)
	case profileSPA:
		if l.opt.ScriptPosts && r.Method == http.MethodPost {
			l.begin(w, r, raw)
			return
		}
		l.scriptPage(w)
	case profileLogin:
		l.start(w, r, &txn{raw: raw, stage: stageLogin})
	case profileDeep:
		l.redirect(w, r, l.asPath+"/step?"+url.Values{"s": {l.sealStep(1, raw)}}.Encode())
	case profileNoise:
		if back, ok := l.viaNoise(r, raw); ok {
			l.redirect(w, r, back)
			return
		}
		l.begin(w, r, raw)
	default:
		l.begin(w, r, raw)
	}
}

// begin validates the request raw and starts its transaction.
func (l *Lab) begin(w http.ResponseWriter, r *http.Request, raw string) {
	t, fault := l.validate(raw)
	if fault != nil {
		l.refuse(w, r, t, fault)
		return
	}
	if t.client != nil && l.on("F6-A") {
		t.user = "alice" // nobody is asked who they are or what they want
		l.finish(w, r, t)
		return
	}
	t.stage = stageLogin
	if l.opt.Upstream {
		t.stage = stageConsent
	}
	l.start(w, r, t)
}

// fault is a refusal of an authorization request.
type fault struct {
	code, text string
	local      bool // never redirect: client or redirect URI are not known good
}

// refuse answers an invalid request: on a page of its own while client or redirect
// URI are in doubt (RFC 6749 section 4.1.2.1) or the redirect URI belongs to
// somebody nobody has approved, else at the redirect URI.
func (l *Lab) refuse(w http.ResponseWriter, r *http.Request, t *txn, f *fault) {
	if f.local || !(trusted(t.redirect) || l.on("E27-a")) && !l.weakMatchAny(t) {
		l.errorPage(w, http.StatusBadRequest, f.code, f.text)
		return
	}
	l.respond(w, r, t, url.Values{"error": {f.code}, "error_description": {f.text}})
}

// weakMatchAny tells whether the redirect URI of t was let through by a switched
// matcher: a server with such a hole does not know that the URI is foreign, so it
// redirects errors there as to any registered one.
func (l *Lab) weakMatchAny(t *txn) bool {
	if t == nil || t.client == nil {
		return false
	}
	for _, reg := range t.client.redirects {
		if trusted(reg) && !slices.Contains(t.client.redirects, t.redirect) {
			return true
		}
	}
	return false
}

// single reads a parameter that may be given once.
func single(v url.Values, name string) string {
	if len(v[name]) == 0 {
		return ""
	}
	return v[name][0]
}

// validate reads an authorization request. It returns the transaction as far as it
// got, and the fault that ended it.
func (l *Lab) validate(raw string) (*txn, *fault) {
	t := &txn{}
	v, err := url.ParseQuery(raw)
	if err != nil || len(raw) > 16<<10 {
		return t, &fault{"invalid_request", "The query cannot be read.", true}
	}
	for name, values := range v {
		if len(values) > 1 && name != "resource" && !(name == "redirect_uri" && l.on("F7-12")) {
			return t, &fault{"invalid_request", "The parameter " + name + " is given twice.", true}
		}
	}
	if f := l.validateClient(t, v); f != nil {
		return t, f
	}
	if f := l.validateRedirect(t, v); f != nil {
		return t, f
	}
	t.state = single(v, "state")
	if f := l.validateResponse(t, v); f != nil {
		return t, f
	}
	if f := l.validatePKCE(t, v); f != nil {
		return t, f
	}
	if f := l.validateScope(t, v); f != nil {
		return t, f
	}
	if f := l.validateResource(t, v); f != nil {
		return t, f
	}
	if single(v, "prompt") == "none" {
		return t, &fault{"interaction_required", "This server always asks the person.", false}
	}
	return t, nil
}

// validateClient looks the client up before anything else is read: whatever an
// unknown client says about itself stays unsaid (RFC 6749 section 4.1.2.1).
func (l *Lab) validateClient(t *txn, v url.Values) *fault {
	t.clientID = single(v, "client_id")
	if t.clientID == "" && !l.on("F2-d") {
		return &fault{"invalid_request", "The client_id is missing.", true}
	}
	t.client = l.findClient(t.clientID)
	if t.client == nil {
		t.client = l.blindClient(t.clientID, single(v, "redirect_uri"))
	}
	if t.client == nil {
		return &fault{"invalid_client", "No client with this client_id is registered here.", true}
	}
	if !slices.Contains(t.client.grants, "authorization_code") {
		return &fault{"unauthorized_client", "This client may not ask for codes.", true}
	}
	return nil
}

// validateRedirect compares the redirect URI with the registered ones. It has to be
// named in every request, even by a client that has only one (RFC 9700 section 2.1).
func (l *Lab) validateRedirect(t *txn, v url.Values) *fault {
	t.redirect = single(v, "redirect_uri")
	if f, done := l.weakRedirectParameter(t, v); done {
		return f
	}
	if t.redirect == "" {
		return &fault{"invalid_request", "The redirect_uri is missing.", true}
	}
	if l.on("E16-g") && t.client.document && strings.Contains(t.redirect, "://") {
		return nil
	}
	if !l.matchRedirect(t.client.redirects, t.redirect) {
		return &fault{"invalid_request", "The redirect_uri is not one that this client registered.", true}
	}
	return nil
}

// validateResponse accepts response_type=code and response_mode=query, the two that
// put nothing but a code into an address (OAuth 2.1 section 4.1.1).
func (l *Lab) validateResponse(t *txn, v url.Values) *fault {
	t.response = single(v, "response_type")
	t.mode = single(v, "response_mode")
	if t.response == "" {
		return &fault{"invalid_request", "The response_type is missing.", false}
	}
	if t.response != "code" && !l.weakResponseType(t.response) {
		return &fault{"unsupported_response_type", "The only response_type here is code.", false}
	}
	if t.mode != "" && t.mode != "query" {
		if l.on("F7-15") && slices.Contains([]string{"fragment", "form_post", "web_message"}, t.mode) {
			return nil
		}
		t.mode = ""
		return &fault{"invalid_request", "The only response_mode here is query.", false}
	}
	return nil
}

// validateScope takes known scopes only; without any, the smallest one is meant. The
// order of the answer is fixed, so that equal grants look equal.
func (l *Lab) validateScope(t *txn, v url.Values) *fault {
	asked := strings.Fields(single(v, "scope"))
	if len(asked) == 0 {
		asked = []string{scopeRead}
	}
	known := append(resourceScopes(), scopeOffline)
	if l.on("E18-a") {
		known = append(known, strings.Fields(t.client.scope)...)
	}
	for _, s := range asked {
		if !slices.Contains(known, s) {
			return &fault{"invalid_scope", "A scope is unknown here; known are " + strings.Join(known, " ") + ".", false}
		}
	}
	slices.Sort(asked)
	t.scope = strings.Join(slices.Compact(asked), " ")
	return nil
}

// validateResource accepts the resources this server issues tokens for
// (RFC 8707 section 2); without the parameter the main one is meant.
func (l *Lab) validateResource(t *txn, v url.Values) *fault {
	t.resource = l.MCPURL
	for i, asked := range v["resource"] {
		res, ok := l.knownResource(asked)
		if !ok && l.any("E05-a", "E05-b") {
			res, ok = l.MCPURL, true
			if l.on("E05-b") {
				res = asked
			}
		}
		if !ok || i > 0 && res != t.resource {
			return &fault{"invalid_target", "This server issues no tokens for that resource.", false}
		}
		t.resource = res
	}
	return nil
}

// knownResource maps the accepted spellings of a resource to its canonical URI:
// upper-case scheme and host, and a trailing slash, are let through.
func (l *Lab) knownResource(asked string) (string, bool) {
	u, err := url.Parse(asked)
	if err != nil || u.RawQuery != "" || strings.Contains(asked, "#") || u.User != nil {
		return "", false
	}
	plain := strings.ToLower(u.Scheme) + "://" + strings.ToLower(u.Host) + strings.TrimSuffix(u.EscapedPath(), "/")
	for _, res := range []string{l.MCPURL, l.SecondURL} {
		if plain == res {
			return res, true
		}
	}
	return "", false
}

// respond sends the browser back to the client with params, and with iss in every
// answer (RFC 9207).
func (l *Lab) respond(w http.ResponseWriter, r *http.Request, t *txn, params url.Values) {
	if t.state != "" {
		params.Set("state", l.returnedState(t.state))
	}
	l.addIssuer(params)
	noStore(w)
	w.Header().Set("Referrer-Policy", "no-referrer")
	switch t.mode {
	case "form_post", "web_message":
		l.pages.post(w, t.redirect, params)
		return
	}
	w.Header().Set("Location", withQuery(t.redirect, params, t.mode == "fragment"))
	w.WriteHeader(l.afterForm(r))
}

// redirect sends the browser to another page of this server.
func (l *Lab) redirect(w http.ResponseWriter, r *http.Request, to string) {
	noStore(w)
	if l.on("F7-17") && strings.HasPrefix(to, "/") {
		to = l.hostFromHeader(r) + to
	}
	w.Header().Set("Location", l.overPlain(to))
	w.WriteHeader(l.afterForm(r))
}

// afterForm is the status of a redirect: 303 makes the browser drop the form, a
// 307 would carry a password on (OAuth 2.1 section 7.5.3).
func (l *Lab) afterForm(r *http.Request) int {
	if r.Method == http.MethodPost && l.on("E28-f") && r.URL.Path != l.asPath+"/authorize" {
		return http.StatusTemporaryRedirect
	}
	if r.Method == http.MethodPost {
		return http.StatusSeeOther
	}
	return http.StatusFound
}
