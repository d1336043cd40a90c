package authserver

import (
	"context"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/oauth"
)

// authRequest is an authorization request after every check.
type authRequest struct {
	client    *client
	redirect  string // byte-exact, one of the client's
	host      string
	loopback  bool
	state     string
	scopes    []string
	resource  *Resource
	challenge string
	dpopKey   string
	prompt    []string
	asked     time.Time // when the request first arrived
	values    url.Values
}

// ticketLife is how long a person may take to log in and decide. The request
// itself is sealed in the page: nothing is stored for it meanwhile.
const ticketLife = 30 * time.Minute

// ticket is an authorization request on its way through login.
type ticket struct {
	Values string    `json:"v"` // the parameters, form-encoded
	Asked  time.Time `json:"a"`
}

const (
	purposeTicket  = "authorization request"
	purposeConsent = "consent form"
	purposePAR     = "pushed request"
)

// serveAuthorize is the authorization endpoint (RFC 6749 §3.1), GET and POST.
// The order matters: the client is found first (F2), then the redirect URI is
// compared, and only then may anything be sent to that URI at all.
func (s *Server) serveAuthorize(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "authorize"
	req, err := s.readAuthorize(w, r, c)
	if err != nil {
		s.refuseAuthorize(w, r, c, req, err)
		return
	}
	v, err := s.visitor(r, c)
	if err != nil {
		s.refuseAuthorize(w, r, c, req, err)
		return
	}
	silentOnly := slices.Contains(req.prompt, "none")
	again := slices.Contains(req.prompt, "login") && v != nil && v.Created.Before(req.asked)
	switch {
	case (v == nil || again) && silentOnly:
		s.refuseAuthorize(w, r, c, req, oauthErr(http.StatusBadRequest, "login_required", "Nobody is logged in."))
	case v == nil || again:
		s.showLogin(w, r, c, loginPage{Next: s.resume(c, req), Why: "login_for_client"}, http.StatusOK)
	case req.client.Review:
		s.refuseAuthorize(w, r, c, req, &OAuthError{http.StatusForbidden, "review_pending", "", nil})
	default:
		s.decide(w, r, c, req, v, silentOnly)
	}
}

// decide uses a remembered answer or asks for one.
func (s *Server) decide(w http.ResponseWriter, r *http.Request, c *call, req *authRequest, v *visitor, silentOnly bool) {
	covers := s.covers(req.resource.URI) // once: a server that comes meanwhile was in no answer
	remembered, err := s.remembered(r.Context(), c, req, v, covers)
	switch {
	case err != nil:
		s.refuseAuthorize(w, r, c, req, err)
	case remembered:
		s.proceed(w, r, c, req, v, approval{Scopes: req.scopes, Days: rememberedDays, Covers: base64Hash(covers)})
	case silentOnly:
		s.refuseAuthorize(w, r, c, req, oauthErr(http.StatusBadRequest, "consent_required", "The person has not agreed to this yet."))
	default:
		s.showConsent(w, r, c, req, v, "")
	}
}

// resume is the local path that brings a person back to the request after login.
func (s *Server) resume(c *call, req *authRequest) string {
	t, err := s.box.seal(purposeTicket, ticket{req.values.Encode(), req.asked}, ticketLife)
	if err != nil {
		panic(err) // strings always marshal
	}
	return c.policy.path + "/authorize?t=" + t
}

// readAuthorize reads and checks a request. When it returns an error with a
// request whose redirect is set, the client and the URI were found good.
func (s *Server) readAuthorize(w http.ResponseWriter, r *http.Request, c *call) (*authRequest, error) {
	if err := s.take(w, limit.Ask{Limit: c.policy.Limits.AuthorizePerIP, Key: limit.IPKey(c.addr), Cost: 1}); err != nil {
		return nil, err
	}
	v, err := form(r)
	if err != nil {
		return nil, err
	}
	asked := c.now
	if sealed := v.Get("t"); sealed != "" {
		var t ticket
		if err := s.box.open(purposeTicket, sealed, &t); err != nil {
			return nil, oauthErr(http.StatusBadRequest, "expired_request", "The request is too old.")
		}
		if v, err = url.ParseQuery(t.Values); err != nil {
			return nil, err
		}
		asked = t.Asked
	} else if v, err = s.unpackPushed(v); err != nil {
		return nil, err
	}
	req, err := s.checkAuthorize(r.Context(), c, v)
	if req != nil {
		req.asked = asked
	}
	return req, err
}

// unpackPushed replaces a request_uri of our own PAR endpoint by what was pushed
// (RFC 9126 §4). Other request objects are not supported.
func (s *Server) unpackPushed(v url.Values) (url.Values, error) {
	if v.Has("request") {
		return nil, oauthErr(http.StatusBadRequest, "request_not_supported", "Request objects are not supported.")
	}
	if !v.Has("request_uri") {
		return v, nil
	}
	sealed, ok := strings.CutPrefix(v.Get("request_uri"), pushedPrefix)
	if !ok {
		return nil, oauthErr(http.StatusBadRequest, "request_uri_not_supported", "Only a request_uri from this server's own endpoint is accepted.")
	}
	var t ticket
	if err := s.box.open(purposePAR, sealed, &t); err != nil {
		return nil, oauthErr(http.StatusBadRequest, "invalid_request_uri", "The pushed request is too old or was not made here.")
	}
	pushed, err := url.ParseQuery(t.Values)
	if err != nil {
		return nil, err
	}
	if pushed.Get("client_id") != v.Get("client_id") {
		return nil, oauthErr(http.StatusBadRequest, "invalid_request", "The client_id is not the one that pushed the request.")
	}
	return pushed, nil
}

// checkAuthorize checks the parameters, wherever they came from: the URL, a form,
// a pushed request, a ticket. It is run again at every step.
func (s *Server) checkAuthorize(ctx context.Context, c *call, v url.Values) (*authRequest, error) {
	cl, err := s.client(ctx, c, v.Get("client_id"))
	if err != nil {
		return nil, err
	}
	c.event.ClientID = cl.ID
	redirect := v.Get("redirect_uri")
	if redirect == "" {
		return nil, oauthErr(http.StatusBadRequest, "invalid_redirect_uri", "The redirect_uri is missing.")
	}
	host, loopback := redirectHost(redirect)
	c.event.Host = host
	if !cl.matchRedirect(redirect) {
		return nil, oauthErr(http.StatusBadRequest, "invalid_redirect_uri", "The redirect_uri is not one that the client registered.")
	}
	req := &authRequest{client: cl, redirect: redirect, host: host, loopback: loopback, state: v.Get("state"), values: v, asked: c.now}
	if len(req.state) > 4096 {
		req.state = ""
		return req, oauthErr(http.StatusBadRequest, "invalid_request", "The state is longer than 4096 bytes.")
	}
	return req, s.checkParameters(c, req, v)
}

func (s *Server) checkParameters(c *call, req *authRequest, v url.Values) error {
	bad := func(code, text string) error { return oauthErr(http.StatusBadRequest, code, text) }
	switch {
	case v.Get("response_type") == "":
		return bad("invalid_request", "The response_type is missing.")
	case v.Get("response_type") != "code":
		return bad("unsupported_response_type", "The only response_type is code.")
	case v.Has("response_mode") && v.Get("response_mode") != "query":
		return bad("invalid_request", "The only response_mode is query.")
	case !v.Has("code_challenge"):
		return bad("invalid_request", "PKCE is required: the code_challenge is missing.")
	case v.Get("code_challenge_method") != "S256":
		return bad("invalid_request", "The code_challenge_method must be S256: transform algorithm not supported.")
	case oauth.CheckChallenge(v.Get("code_challenge")) != nil:
		return bad("invalid_request", "The code_challenge is not an S256 challenge.")
	case v.Has("authorization_details"):
		return bad("invalid_authorization_details", "Authorization details are not supported: use scopes.")
	case !req.client.mayUse(grantCode):
		return bad("unauthorized_client", "The client is not registered for authorization codes.")
	case v.Has("dpop_jkt") && len(v.Get("dpop_jkt")) != 43:
		return bad("invalid_request", "The dpop_jkt is not a SHA-256 thumbprint.")
	}
	req.challenge, req.dpopKey, req.prompt = v.Get("code_challenge"), v.Get("dpop_jkt"), strings.Fields(v.Get("prompt"))
	if slices.Contains(req.prompt, "none") && len(req.prompt) > 1 {
		return bad("invalid_request", "The prompt none stands alone.")
	}
	var err error
	if req.resource, err = c.policy.pickResource(v["resource"]); err != nil {
		return err
	}
	c.event.Resource = req.resource.URI
	req.scopes, err = c.policy.pickScopes(v.Get("scope"), req.client)
	return err
}

// pickResource finds the one resource a request names (RFC 8707). Without a
// resource parameter it is the default one, or the only one.
func (p *policy) pickResource(named []string) (*Resource, error) {
	bad := func(text string) error { return oauthErr(http.StatusBadRequest, "invalid_target", text) }
	if len(named) == 0 || len(named) == 1 && named[0] == "" {
		for i := range p.Resources {
			if p.Resources[i].Default || len(p.Resources) == 1 {
				return &p.Resources[i], nil
			}
		}
		return nil, bad("The resource parameter is missing, and there is more than one resource.")
	}
	var found *Resource
	for _, raw := range named {
		canonical, err := oauth.CanonicalResource(raw)
		if err != nil {
			return nil, bad("The resource is not an absolute URL.")
		}
		r := p.resource(canonical)
		if r == nil {
			return nil, bad("There is no such resource here.")
		}
		if found != nil && found != r {
			return nil, bad("A token is for one resource: ask for each in a request of its own.")
		}
		found = r
	}
	return found, nil
}

// ceiling lists the scopes a client may get at most (G-RG2). The scope it
// registered with is not among the reasons: clients register with what the first
// challenge named and ask for more later.
func (p *policy) ceiling(cl *client) []string {
	allowListed := cl.Kind == ClientCIMD && hostMatches(documentHost(cl.ID), p.Registration.CIMDAllow)
	var out []string
	for _, sc := range p.Config.Scopes {
		ok := true
		switch {
		case cl.pre != nil:
			ok = len(cl.pre.Scopes) == 0 || slices.Contains(cl.pre.Scopes, sc.Name)
		case cl.Kind == ClientDCR && len(p.Registration.AnonymousScopes) > 0:
			ok = slices.Contains(p.Registration.AnonymousScopes, sc.Name)
		case cl.Kind == ClientDCR:
			ok = !sc.Sensitive && sc.Class != ClassDestructive
		case !allowListed:
			ok = !sc.Sensitive
		}
		if ok {
			out = append(out, sc.Name)
		}
	}
	if cl.Kind == ClientCIMD {
		for domain, limit := range p.Registration.CIMDScopes {
			if hostMatches(documentHost(cl.ID), []string{domain}) {
				out = oauth.IntersectScopes(out, limit)
			}
		}
	}
	return out
}

// pickScopes drops what the client may not have and refuses only when nothing is
// left (G-RG2). Without a scope parameter the default scopes are meant.
func (p *policy) pickScopes(scope string, cl *client) ([]string, error) {
	allowed := p.ceiling(cl)
	if scope == "" {
		var out []string
		for _, sc := range p.Config.Scopes {
			if sc.Default && slices.Contains(allowed, sc.Name) {
				out = append(out, sc.Name)
			}
		}
		if len(out) > 0 {
			return out, nil
		}
		return nil, oauthErr(http.StatusBadRequest, "invalid_scope", "The client must say which scopes it wants.")
	}
	if err := oauth.CheckScope(scope); err != nil {
		return nil, oauthErr(http.StatusBadRequest, "invalid_scope", "The scope is not a list of scope names.")
	}
	out := oauth.IntersectScopes(oauth.SplitScope(scope), allowed)
	if len(out) == 0 || len(out) == 1 && out[0] == ScopeOffline {
		return nil, oauthErr(http.StatusBadRequest, "invalid_scope", "None of these scopes can be granted to this client.")
	}
	return out, nil
}

// Covers tells whether granted scopes contain wanted, directly or by what one of
// them implies (RS-10).
func (s *Server) Covers(granted []string, wanted string) bool {
	p := s.policy.Load()
	return slices.ContainsFunc(granted, func(g string) bool {
		return g == wanted || p.scopes[g] != nil && slices.Contains(p.scopes[g].Implies, wanted)
	})
}

// remembered tells whether the person has answered this very question before, about
// the servers that covers names, and asked that it be remembered (G-CO5).
func (s *Server) remembered(ctx context.Context, c *call, req *authRequest, v *visitor, covers string) (bool, error) {
	if slices.Contains(req.prompt, "consent") || !rememberable(req) {
		return false, nil
	}
	k, err := s.deps.Store.Consent(ctx, v.User.ID, req.client.ID, req.redirect, req.resource.URI)
	if err != nil {
		if kidoban.KindOf(err) == kidoban.KindNotFound {
			err = nil
		}
		return false, err
	}
	return k.Expires.After(c.now) && k.Fingerprint == req.client.Fingerprint && oauth.IsSubset(req.scopes, k.Scopes) &&
		withinCoverage(covers, k.Covers), nil
}

// rememberable tells whether an answer may be remembered: only for a client whose
// identity is proven by where the code goes. Anyone can present a client that
// returns to loopback or to an app's scheme (RFC 8252 §8.6).
func rememberable(req *authRequest) bool {
	return !req.client.anonymous() && !req.loopback && strings.HasPrefix(req.redirect, "https://")
}

// trusted tells whether an error may be sent to the redirect URI before a person
// has seen anything. To others the way back is a link on our page: the server is
// no open redirector for whoever registered a URI (AS-10, AS-11, E27).
func (req *authRequest) trusted() bool {
	return req.loopback || req.client.pre != nil && req.client.pre.Trusted
}

// refuseAuthorize answers a request that cannot go on.
func (s *Server) refuseAuthorize(w http.ResponseWriter, r *http.Request, c *call, req *authRequest, err error) {
	e := asOAuth(err)
	c.event.Outcome, c.event.Code, c.event.Detail = "refused", e.Code, err.Error()
	if e.Cause != nil {
		c.event.Detail += ": " + e.Cause.Error()
	}
	if errors.Is(err, errDenied) {
		s.alert(r.Context(), kidoban.AlertDeniedClient, c.event.ClientID+c.event.Host, nil)
	}
	back := ""
	if req != nil && e.Status < 500 && e.Code != "review_pending" {
		back = s.redirectURL(c, req.redirect, url.Values{"error": {e.Code}, "error_description": {e.Text}}, req.state)
		if req.trusted() {
			http.Redirect(w, r, back, http.StatusSeeOther)
			return
		}
	}
	status := e.Status
	if status == http.StatusUnauthorized {
		status = http.StatusBadRequest // a page has no authentication scheme
	}
	s.errorPage(w, c, status, errorPage{Code: e.Code, Detail: e.Text, Back: template.URL(back), Host: hostOf(req)})
}

func hostOf(req *authRequest) string {
	if req == nil {
		return ""
	}
	return req.host
}

// redirectURL appends a response to a redirect URI without touching its bytes:
// the parameters, then state and iss, on success and on error (AS-06, RFC 9207).
func (s *Server) redirectURL(c *call, redirect string, v url.Values, state string) string {
	if state != "" {
		v.Set("state", state)
	}
	v.Set("iss", c.policy.Issuer)
	sep := "?"
	if strings.Contains(redirect, "?") {
		sep = "&"
	}
	return redirect + sep + v.Encode()
}
