package authserver

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
)

// maxForm bounds the body of every form and JSON request. The largest honest
// one is a registration with a key set, about 8 kB.
const maxForm = 64 << 10

// call is one request as the handlers see it: one policy, one time, one identity
// in the log.
type call struct {
	policy *policy
	id     string
	addr   netip.Addr
	now    time.Time
	langs  []string // what the person reads, best first
	self   string   // see frame.Self
	event  Event    // filled on the way, recorded at the end if it has a name
}

// route is what a path answers to.
type route struct {
	methods map[string]handler
	cors    bool // clients in browsers may call it: no cookie, no ambient authority
	page    bool // answers a person: errors are pages
}

type handler func(*Server, http.ResponseWriter, *http.Request, *call)

func (s *Server) buildRoutes(p *policy) map[string]route {
	type m = map[string]handler
	page := func(get, post handler) route {
		r := route{methods: m{}, page: true}
		if get != nil {
			r.methods[http.MethodGet] = get
		}
		if post != nil {
			r.methods[http.MethodPost] = post
		}
		return r
	}
	api := func(post handler) route { return route{methods: m{http.MethodPost: post}, cors: true} }
	routes := map[string]route{
		"/jwks":              {methods: m{http.MethodGet: (*Server).serveJWKS}, cors: true},
		"/authorize":         page((*Server).serveAuthorize, (*Server).serveAuthorize),
		"/authorize/consent": page(nil, (*Server).serveConsent),
		"/authorize/finish":  page(nil, (*Server).serveFinish),
		"/token":             api((*Server).serveToken),
		"/par":               api((*Server).servePAR),
		"/revoke":            api((*Server).serveRevoke),
		"/introspect":        {methods: m{http.MethodPost: (*Server).serveIntrospect}},
		"/login":             page((*Server).serveLoginPage, (*Server).serveLogin),
		"/login/passkey":     page((*Server).servePasskeyPage, (*Server).servePasskeyLogin),
		"/logout":            page(nil, (*Server).serveLogout),
		"/setup":             page((*Server).serveSetupPage, (*Server).serveSetup),
		"/account":           page((*Server).serveAccount, (*Server).serveAccountChange),
		"/account/passkey":   page((*Server).serveAddPasskeyPage, (*Server).serveAddPasskey),
		"/connect":           page((*Server).serveConnect, (*Server).serveConnectStart),
		"/connect/callback":  page((*Server).serveConnectCallback, nil),
		"/auth/style.css":    {methods: m{http.MethodGet: (*Server).serveStyle}},
		"/auth/passkey.js":   {methods: m{http.MethodGet: (*Server).servePasskeyScript}},
	}
	for _, idp := range p.Login.Providers {
		routes["/login/"+idp.ID] = page(nil, startProvider(idp.ID))
		routes["/login/"+idp.ID+"/callback"] = page(finishProvider(idp.ID), nil)
	}
	if !p.Registration.DisableDCR {
		routes["/register"] = api((*Server).serveRegister)
	}
	out := make(map[string]route, len(routes)+4)
	for path, r := range routes {
		out[p.path+path] = r
	}
	for _, path := range p.wellKnown() {
		out[path] = route{methods: m{http.MethodGet: (*Server).serveMetadata}, cors: true}
	}
	return out
}

// registrationRoute answers RFC 7592 below /register/.
var registrationRoute = route{methods: map[string]handler{
	http.MethodGet: (*Server).serveReadClient, http.MethodDelete: (*Server).serveDeleteClient}, cors: true}

// ServeHTTP answers the paths of Paths; others get 404.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := s.policy.Load()
	c := &call{policy: p, id: requestID(r), addr: s.deps.Address(r), now: s.deps.Now()}
	if c.id == "" {
		c.id = newID(s.deps.Rand, "")
	}
	h := w.Header()
	h.Set("X-Request-Id", c.id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	// Not no-referrer: browsers would then send "Origin: null" with our own forms.
	h.Set("Referrer-Policy", "same-origin")
	if p.base.Scheme == "https" {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	ro, ok := p.routes[r.URL.Path]
	if !ok && strings.HasPrefix(r.URL.Path, p.path+"/register/") && !p.Registration.DisableDCR {
		ro, ok = registrationRoute, true
	}
	if !ok {
		s.nothingHere(w, r, c)
		return
	}
	if ro.cors {
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "DPoP-Nonce, WWW-Authenticate, Retry-After")
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", allowed(ro)+", OPTIONS")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, DPoP, MCP-Protocol-Version")
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	handle, ok := ro.methods[method]
	if !ok {
		h.Set("Allow", allowed(ro))
		http.Error(w, "Method not allowed.", http.StatusMethodNotAllowed)
		return
	}
	if ro.page {
		c.langs = preferred(r)
		s.pageHeaders(h)
		s.language(w, r, c)
		if method == http.MethodPost && !sameSite(r, p.origin) && r.URL.Path != p.path+"/authorize" {
			s.refusePage(w, c, http.StatusForbidden, "cross_site", "cross_site")
			s.record(c)
			return
		}
	}
	handle(s, w, r, c)
	s.record(c)
}

// record hands the request's event to the observer.
func (s *Server) record(c *call) {
	if c.event.Name == "" {
		return
	}
	c.event.At, c.event.RequestID, c.event.Address = c.now, c.id, c.addr.String()
	if c.event.Outcome == "" {
		c.event.Outcome = "ok"
	}
	s.deps.Observer.Event(c.event)
}

// nothingHere answers for addresses that are none: a person gets a page in their
// language, a program one line.
func (s *Server) nothingHere(w http.ResponseWriter, r *http.Request, c *call) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Error(w, "There is nothing here.", http.StatusNotFound)
		return
	}
	c.langs = preferred(r) // no links to other languages: they would repeat an address that anybody may have made
	s.pageHeaders(w.Header())
	s.errorPage(w, c, http.StatusNotFound, errorPage{Code: "no_page", Home: true})
}

func allowed(ro route) string {
	var out []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		if _, ok := ro.methods[m]; ok {
			out = append(out, m)
		}
	}
	return strings.Join(out, ", ")
}

// sameSite tells whether a form came from our own pages. The tokens in the forms
// decide; this refuses early what a browser itself calls foreign. "null" comes
// from sandboxed web views and says nothing.
func sameSite(r *http.Request, origin string) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		return false
	}
	o := r.Header.Get("Origin")
	return o == "" || o == "null" || o == origin
}

type requestIDKey struct{}

func requestID(r *http.Request) string {
	id, _ := r.Context().Value(requestIDKey{}).(string)
	return id
}

// form reads a request's parameters strictly: one encoding, a bound, and no
// parameter twice (RFC 6749 §3.1). Several resource parameters are a client's
// right (RFC 8707 §2); whether we serve them is judged later.
func form(r *http.Request) (url.Values, error) {
	var raw string
	if r.Method == http.MethodPost {
		mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || mt != "application/x-www-form-urlencoded" {
			return nil, oauthErr(http.StatusBadRequest, "invalid_request", "The body must be application/x-www-form-urlencoded.")
		}
		body, err := readBody(r)
		if err != nil {
			return nil, err
		}
		raw = string(body)
		if r.URL.RawQuery != "" && r.URL.Query().Has("client_secret") {
			return nil, oauthErr(http.StatusBadRequest, "invalid_request", "Credentials do not belong in the URL.")
		}
	} else if raw = r.URL.RawQuery; len(raw) > 16<<10 {
		return nil, oauthErr(http.StatusRequestURITooLong, "invalid_request", "The request is longer than 16 kB.")
	}
	v, err := url.ParseQuery(raw)
	if err != nil {
		return nil, oauthErr(http.StatusBadRequest, "invalid_request", "The parameters are not correctly encoded.")
	}
	for name, values := range v {
		if len(values) > 1 && name != "resource" && name != "scope_choice" {
			return nil, oauthErr(http.StatusBadRequest, "invalid_request", "A parameter stands there twice: "+printable(name, 40)+".")
		}
		for _, x := range values {
			if strings.ContainsRune(x, 0) || !utf8.ValidString(x) { // which PostgreSQL refuses
				return nil, oauthErr(http.StatusBadRequest, "invalid_request", "A parameter holds a null character, or is not UTF-8.")
			}
		}
	}
	return v, nil
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxForm+1))
	if err != nil {
		return nil, oauthErr(http.StatusBadRequest, "invalid_request", "The body could not be read.")
	}
	if len(body) > maxForm {
		return nil, oauthErr(http.StatusRequestEntityTooLarge, "invalid_request", "The body is longer than 64 kB.")
	}
	return body, nil
}

// printable clips attacker text to printable ASCII of at most n characters.
func printable(s string, n int) string {
	b := make([]byte, 0, n)
	for i := 0; i < len(s) && len(b) < n; i++ {
		if s[i] >= 0x20 && s[i] < 0x7f && s[i] != '"' && s[i] != '\\' {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// OAuthError is a refusal in OAuth's terms. Text is for the developer of the
// client; it quotes nothing that was sent.
type OAuthError struct {
	Status int
	Code   string
	Text   string
	Cause  error // for the operator's log
}

// Error returns the code and the text.
func (e *OAuthError) Error() string { return e.Code + ": " + e.Text }

// Unwrap returns the cause.
func (e *OAuthError) Unwrap() error { return e.Cause }

func oauthErr(status int, code, text string) *OAuthError {
	return &OAuthError{Status: status, Code: code, Text: text}
}

// asOAuth turns any error into one that may be shown. A failing database is 503
// with temporarily_unavailable: the client keeps its tokens and tries again.
func asOAuth(err error) *OAuthError {
	var o *OAuthError
	if errors.As(err, &o) {
		return o
	}
	switch kidoban.KindOf(err) {
	case kidoban.KindUnreachable, kidoban.KindLimit:
		return &OAuthError{http.StatusServiceUnavailable, "temporarily_unavailable", "The server cannot answer just now: try again in a moment.", err}
	}
	return &OAuthError{http.StatusInternalServerError, "server_error", "Something went wrong on the server. The request id helps its operator to find out what.", err}
}

// refuseJSON answers an API request with an OAuth error.
func (s *Server) refuseJSON(w http.ResponseWriter, c *call, err error) {
	e := asOAuth(err)
	c.event.Outcome, c.event.Code = "refused", e.Code
	if e.Status >= 500 {
		c.event.Outcome = "failed"
	}
	c.event.Detail = err.Error()
	if e.Cause != nil {
		c.event.Detail = e.Error() + ": " + e.Cause.Error()
	}
	if e.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, e.Status, map[string]string{"error": e.Code, "error_description": e.Text, "request_id": c.id})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types always marshal
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have gone
}

// take charges limits and answers with 429 when one is spent.
func (s *Server) take(w http.ResponseWriter, asks ...limit.Ask) error {
	return refused(w, s.limits.Allow(asks...))
}

// refused is the answer to a decision: nil, or 429 with the time to wait.
func refused(w http.ResponseWriter, d limit.Decision) error {
	if d.Allowed {
		return nil
	}
	if !d.Never {
		w.Header().Set("Retry-After", strconv.Itoa(d.RetrySeconds()))
	}
	return &OAuthError{http.StatusTooManyRequests, "temporarily_unavailable", "Too many requests: wait for the time that Retry-After names.", d.Err()}
}
