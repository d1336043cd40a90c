package lab

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// clientTTL is how long a dynamic registration lives.
const clientTTL = 30 * 24 * time.Hour

// register is the client registration endpoint (RFC 7591): open, but bounded by
// rate, size and an allow-list of members, scopes, grants and redirect URIs.
func (l *Lab) register(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		methodNotAllowed(w, "POST")
		return
	}
	noStoreUnless(w, l.on("E31-b"))
	if !l.mayRegister(r) {
		after := strconv.Itoa(int(l.opt.RegistrationWindow.Seconds()))
		w.Header().Set("Retry-After", after)
		oauthError(w, http.StatusTooManyRequests, "too_many_requests", "Too many registrations from this address. Try again in "+after+" seconds.")
		return
	}
	if !isJSON(r) {
		oauthError(w, http.StatusBadRequest, "invalid_client_metadata", "Send the metadata as application/json.")
		return
	}
	c, f := l.readRegistration(r)
	if f != nil {
		oauthError(w, http.StatusBadRequest, f.code, f.text)
		return
	}
	// Id and management token are fresh for every request: the same metadata twice
	// are two clients, each with its own owner.
	c.id, c.manageToken, c.issued, c.dynamic = l.newClientID(), l.random(32), l.now(), true
	if !l.on("E17-c") {
		c.expires = c.issued.Add(clientTTL)
	}
	if c.method != "none" {
		c.secret = l.random(32)
	}
	l.mu.Lock()
	if len(l.st.clients) >= maxEntries {
		l.mu.Unlock()
		oauthError(w, http.StatusServiceUnavailable, "temporarily_unavailable", "No more clients fit in here.")
		return
	}
	l.st.serial++
	c.serial = l.st.serial
	l.st.clients[c.id] = c
	l.mu.Unlock()
	l.fetchMetadata(r.Context(), c)
	noStoreUnless(w, l.on("E31-b"))
	writeJSON(w, http.StatusCreated, l.registration(c, true))
}

// mayRegister counts a registration attempt against its address.
func (l *Lab) mayRegister(r *http.Request) bool {
	if l.on("E17-a") {
		return true
	}
	addr, _, _ := net.SplitHostPort(r.RemoteAddr)
	if fwd := r.Header.Get("X-Forwarded-For"); fwd != "" && l.on("E17-d") {
		addr = fwd
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	recent := slices.DeleteFunc(l.st.tries[addr], func(t time.Time) bool { return l.now().Sub(t) > l.opt.RegistrationWindow })
	if len(recent) >= l.opt.Registrations || len(l.st.tries) >= maxEntries {
		return false
	}
	l.st.tries[addr] = append(recent, l.now())
	return true
}

// Bounds of a registration.
const (
	maxRegistration = 16 << 10
	maxRedirects    = 10
	maxName         = 100
)

// readRegistration reads and validates a registration request.
func (l *Lab) readRegistration(r *http.Request) (*client, *tokenFault) {
	bad := func(text string) (*client, *tokenFault) {
		return nil, &tokenFault{"invalid_client_metadata", text}
	}
	limit := maxRegistration
	if l.on("E17-b") {
		limit = maxBody
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, int64(limit)+1))
	if err != nil || len(body) > limit {
		return bad("The request is larger than 16 KiB.")
	}
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil || m == nil {
		return bad("The body is not a JSON object.")
	}
	return l.clientFrom(m)
}

// clientFrom turns client metadata into a client, or says which member is wrong.
func (l *Lab) clientFrom(m map[string]any) (*client, *tokenFault) {
	bad := func(text string) (*client, *tokenFault) {
		return nil, &tokenFault{"invalid_client_metadata", text}
	}
	// Members that are not named below are dropped, as RFC 7591 section 2 allows;
	// nothing a stranger invents is stored.
	c := &client{}
	var ok bool
	if c.redirects, ok = stringList(m["redirect_uris"]); !ok || len(c.redirects) == 0 || len(c.redirects) > maxRedirects && !l.on("E17-b") {
		return nil, &tokenFault{"invalid_redirect_uri", "redirect_uris must be a list of one to ten URIs."}
	}
	for _, u := range c.redirects {
		if err := l.checkRedirect(u); err != nil {
			return nil, &tokenFault{"invalid_redirect_uri", "A redirect_uri " + err.Error() + "."}
		}
	}
	if c.name, ok = text(m["client_name"], l.maxName()); !ok {
		return bad("client_name must be a string of at most 100 characters.")
	}
	if strings.ContainsFunc(c.name, func(r rune) bool { return r < ' ' || invisible(r) }) && !l.on("E14-c") {
		return bad("client_name holds characters that cannot be seen.")
	}
	for member, to := range map[string]*string{"client_uri": &c.uri, "logo_uri": &c.logo, "tos_uri": &c.tos, "policy_uri": &c.policy} {
		if *to, ok = text(m[member], 2048); !ok || !l.webAddress(member, *to) {
			return bad(member + " must be an https address.")
		}
	}
	if c.software, ok = text(m["software_id"], 200); !ok {
		return bad("software_id must be a short string.")
	}
	if c.softwareVersion, ok = text(m["software_version"], 200); !ok {
		return bad("software_version must be a short string.")
	}
	if c.contacts, ok = stringList(m["contacts"]); !ok && m["contacts"] != nil || len(c.contacts) > 5 {
		return bad("contacts must be a list of at most five strings.")
	}
	if f := l.clientKind(c, m); f != nil {
		return nil, f
	}
	l.weakMetadataOfClient(c, m)
	return c, nil
}

// clientKind reads the members that decide what a client may do.
func (l *Lab) clientKind(c *client, m map[string]any) *tokenFault {
	bad := func(text string) *tokenFault { return &tokenFault{"invalid_client_metadata", text} }
	var ok bool
	c.method, _ = m["token_endpoint_auth_method"].(string)
	if m["token_endpoint_auth_method"] == nil {
		c.method = "client_secret_basic" // RFC 7591 section 2
	}
	if !slices.Contains([]string{"none", "client_secret_basic", "client_secret_post"}, c.method) {
		return bad("token_endpoint_auth_method is none of none, client_secret_basic, client_secret_post.")
	}
	if c.grants, ok = stringList(m["grant_types"]); m["grant_types"] == nil {
		c.grants = []string{"authorization_code"}
	} else if !ok {
		return bad("grant_types must be a list of strings.")
	}
	if !l.any("E18-b", "E18-d") {
		// A server may replace what a client asks for (RFC 7591 section 3.2.1): grants
		// that are not offered are left out.
		c.grants = slices.DeleteFunc(c.grants, func(g string) bool { return g != "authorization_code" && g != "refresh_token" })
	}
	if !slices.Contains(c.grants, "authorization_code") && !l.any("E18-b", "E18-d") {
		return bad("grant_types must hold authorization_code.")
	}
	if c.responses, ok = stringList(m["response_types"]); m["response_types"] == nil {
		c.responses = []string{"code"}
	} else if !ok || !slices.Equal(c.responses, []string{"code"}) {
		return bad(`response_types must be ["code"].`)
	}
	c.appType, _ = m["application_type"].(string)
	if m["application_type"] != nil && c.appType != "native" && c.appType != "web" {
		return bad("application_type is native or web.")
	}
	scope, ok := text(m["scope"], 2000)
	if !ok {
		return bad("scope must be a string.")
	}
	// The ceiling is this server's list, not the client's wish: clients register with
	// the scope of their first challenge and step up later under the same id.
	c.scope = strings.Join(append(resourceScopes(), scopeOffline), " ")
	if l.on("E18-a") && scope != "" {
		c.scope = scope
	}
	return nil
}

// maxName is how many characters a client_name may have.
func (l *Lab) maxName() int {
	if l.on("E14-b") {
		return maxBody
	}
	return maxName
}

// webAddress tells whether a member that pages may show is an https address.
func (l *Lab) webAddress(member, raw string) bool {
	if raw == "" || member == "client_uri" && l.on("E14-a") {
		return true
	}
	u, err := url.Parse(raw)
	return err == nil && plainURI(raw) == nil && u.User == nil && u.Host != "" &&
		(u.Scheme == "https" || u.Scheme == "http" && l.opt.LoopbackDocuments && isLoopbackHost(u.Hostname()))
}

// registration is the answer to a registration (RFC 7591 section 3.2.1 and
// RFC 7592 section 3).
func (l *Lab) registration(c *client, secrets bool) map[string]any {
	m := map[string]any{
		"client_id": c.id, "client_id_issued_at": c.issued.Unix(), "redirect_uris": c.redirects,
		"grant_types": c.grants, "response_types": c.responses, "token_endpoint_auth_method": c.method, "scope": c.scope,
		"registration_client_uri": l.manageURI(c),
	}
	for k, v := range map[string]string{
		"client_name": c.name, "client_uri": c.uri, "logo_uri": c.logo, "tos_uri": c.tos, "policy_uri": c.policy,
		"application_type": c.appType, "software_id": c.software, "software_version": c.softwareVersion,
	} {
		if v != "" {
			m[k] = v
		}
	}
	if len(c.contacts) > 0 {
		m["contacts"] = c.contacts
	}
	if c.secret != "" {
		var until int64
		if !c.expires.IsZero() {
			until = c.expires.Unix()
		}
		m["client_secret"], m["client_secret_expires_at"] = c.secret, until
	}
	if !c.expires.IsZero() {
		m["client_id_expires_at"] = c.expires.Unix() // tells how long a public client lives
	}
	if secrets {
		m["registration_access_token"] = c.manageToken
	}
	for k, v := range c.extra {
		m[k] = v
	}
	return m
}

// manage is the client configuration endpoint (RFC 7592).
func (l *Lab) manage(w http.ResponseWriter, r *http.Request, id string) {
	noStore(w)
	if l.on("E20-f") {
		http.Error(w, "There is nothing here.", http.StatusNotFound)
		return
	}
	l.mu.Lock()
	c := l.st.clients[id]
	l.mu.Unlock()
	if c != nil && !c.dynamic {
		c = nil
	}
	if !l.mayManage(r, c) {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		oauthError(w, http.StatusUnauthorized, "invalid_token", "The registration access token is not the one of this client.")
		return
	}
	switch r.Method {
	case http.MethodGet:
		writeJSON(w, http.StatusOK, l.registration(c, true))
	case http.MethodPut:
		l.update(w, r, c)
	case http.MethodDelete:
		l.removeClient(c)
		w.WriteHeader(http.StatusNoContent)
	default:
		methodNotAllowed(w, "GET, PUT, DELETE")
	}
}

// mayManage tells whether a request holds the registration access token of c. An
// unknown client and a wrong token get the same answer, so that ids cannot be tried
// out.
func (l *Lab) mayManage(r *http.Request, c *client) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if c == nil {
		return false
	}
	if ok && same(c.manageToken, given) {
		return true
	}
	return l.weakManage(r, c, given)
}

// update replaces a registration. It passes through the same checks as the
// registration itself; id, secret and expiry stay.
func (l *Lab) update(w http.ResponseWriter, r *http.Request, old *client) {
	if !isJSON(r) {
		oauthError(w, http.StatusBadRequest, "invalid_client_metadata", "Send the metadata as application/json.")
		return
	}
	c, f := l.readUpdate(r, old)
	if f != nil {
		oauthError(w, http.StatusBadRequest, f.code, f.text)
		return
	}
	c.id, c.secret, c.serial, c.dynamic, c.manageToken = old.id, old.secret, old.serial, true, old.manageToken
	c.issued, c.expires = old.issued, old.expires
	if c.method != "none" && c.secret == "" {
		c.secret = l.random(32)
	}
	l.mu.Lock()
	_, there := l.st.clients[c.id]
	if there {
		l.st.clients[c.id] = c
	}
	l.mu.Unlock()
	if !there {
		oauthError(w, http.StatusUnauthorized, "invalid_token", "This client is gone.")
		return
	}
	writeJSON(w, http.StatusOK, l.registration(c, true))
}

// removeClient deletes a registration, its codes and its grants.
func (l *Lab) removeClient(c *client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.on("E20-e") {
		gone := *c
		gone.dynamic = false // out of the books, still at work
		l.st.clients[c.id] = &gone
		return
	}
	delete(l.st.clients, c.id)
	for _, t := range l.st.tokens {
		if t.clientID == c.id {
			l.killGrant(t.grant)
		}
	}
	for v, k := range l.st.codes {
		if k.clientID == c.id {
			delete(l.st.codes, v)
		}
	}
}

// stringList reads a JSON list of non-empty strings.
func stringList(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]string, 0, len(list))
	for _, x := range list {
		s, ok := x.(string)
		if !ok || s == "" {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// text reads an optional JSON string of at most limit characters.
func text(v any, limit int) (string, bool) {
	if v == nil {
		return "", true
	}
	s, ok := v.(string)
	return s, ok && len([]rune(s)) <= limit
}
