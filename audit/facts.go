package audit

import (
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// Facts are what a run knows about its target. Discovery fills the upper part,
// the session's shared requests the lower; judges only read.
type Facts struct {
	URL    string // canonical form of what was given
	Origin string
	Local  bool // the host is loopback
	Lab    bool
	TLS    bool

	// The MCP endpoint.
	Headline string
	Detail   string
	MovedTo  string
	Modern   bool // answered like the stateless era
	Legacy   bool // answered initialize
	SSE      bool // the two-endpoint transport of 2024-11-05
	Versions []string
	Session  string // Mcp-Session-Id of the discovery's own session
	Software string
	Discover *kidoban.Exchange // server/discover without credentials
	Init     *kidoban.Exchange // initialize without credentials
	List     *kidoban.Exchange // tools/list without credentials
	Tools    int
	Open     bool              // tools/list answered without credentials
	Greets   bool              // the handshake answered without credentials
	Refused  *kidoban.Exchange // the first 401 or 403, or in-band refusal
	Asks     []oauth.Challenge // its challenges
	Stream   *kidoban.Exchange // the stream of the two-endpoint transport, opened without credentials
	StreamID string            // the session in its message address

	login     bool // the run may log in
	keyed     bool // the run was handed a key for the target
	mute      bool // a genuine token does not open the endpoint: there is no control
	anyBearer bool // a made-up bearer token is accepted (E04-a)

	// Authorization metadata.
	PRMs     []Document // every place that was asked, in order
	PRM      *Document  // the one that counts
	Issuers  []string
	Servers  []*AS
	AS       *AS  // the first with usable metadata
	Fallback bool // found by the 2025-03-26 rule, without resource metadata
	Resource string
	Scopes   []string
	// SmallestScope is one scope to ask for: one that reads, else the first.
	SmallestScope string

	// Shared requests of the authorization-endpoint probes.
	C0          []Registration
	Client      *Client
	NoClient    kidoban.Reason // why Client is nil
	Foreign     *Client        // registered with a foreign https redirect URI (F1-a accepted it)
	ForeignReg  *Registration
	foreignBase *Trail  // the baseline of Foreign
	Base        *Trail  // B
	Other       *Client // another client of ours, with two redirect URIs; only where the run logs in
	N1, N2      *Trail
	alive       *Trail     // B once more, after a control that the server failed on
	L2          *Upstreams // nil when no upstream was reached
	anyRedirect bool       // F7-1 holds: there is no comparison that narrower forms could fool
	held        bool       // what follows is what the owner of a token sees
	registered  []*Client
	limited     *Registration // the latest registration that was answered with a limit
	script      *Registration // with a javascript: redirect URI (E13-a)
	greedy      *Registration // the one that asked for everything (E18)
	secretive   *Registration // the confidential client of E19 and E20
	baseJar     *outbound.Jar
	front       *Trail // B before the run began to log in on the way, where it does
	frontJar    *outbound.Jar
	n2State     string // states sent with N2 and with the provoked scope error
	scopeState  string
}

// Document is one metadata document and how it was found.
type Document struct {
	Kind string // prm, as, oidc
	URL  string
	From string // challenge, path, root, metadata order number
	X    *kidoban.Exchange
	PRM  oauth.PRM
	Meta oauth.Metadata
	Err  string // why it is not usable; "" when it is
}

// AS is one authorization server that the resource names.
type AS struct {
	Issuer string     // as named
	Tried  []Document // every place, in order
	URL    string     // of the document in use
	X      *kidoban.Exchange
	Meta   oauth.Metadata
	Err    string
	Known  *Known // where the run has a memory of servers (Options.Servers)
}

// Version is the revision to speak: the newest that the target answered to, and
// the newest of all while that is unknown.
func (f *Facts) Version() string {
	if !f.Modern && f.Legacy && len(f.Versions) > 0 {
		return f.Versions[0]
	}
	return wire.LatestModern
}

// owns tells whether host belongs to the server under test: its own site, or
// that of its authorization server.
func (f *Facts) owns(host string) bool {
	if host == "" {
		return false
	}
	if site(host) == site(hostOf(f.URL)) {
		return true
	}
	if f.AS != nil {
		return site(host) == site(hostOf(f.AS.Issuer)) || site(host) == site(hostOf(f.AS.Meta.AuthorizationEndpoint))
	}
	return false
}

// blind tells whether the endpoint opens whatever the token is, so that nothing can
// be learned about a token from it.
func (f *Facts) blind() bool { return f.Open || f.anyBearer || f.mute }

const cannotSee = "the endpoint does not tell a good token from a bad one, so it does not show whether a token is good"

// smallest picks one scope that a test may ask for: one that reads, else the
// first that is no wildcard and not offline_access.
func smallest(scopes []string) string {
	first := ""
	for _, s := range scopes {
		low := strings.ToLower(s)
		switch {
		case s == "offline_access" || s == "openid" || strings.ContainsAny(s, "*"):
			continue
		case strings.Contains(low, "read") || strings.Contains(low, "list"):
			return s
		case first == "" && !strings.Contains(low, "admin") && !strings.Contains(low, "write"):
			first = s
		}
	}
	if first == "" && len(scopes) > 0 {
		return scopes[0]
	}
	return first
}

// isLoopbackURL tells whether raw names this machine.
func isLoopbackURL(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	h := u.Hostname()
	return h == "localhost" || strings.HasSuffix(h, ".localhost") || h == "::1" || strings.HasPrefix(h, "127.")
}
