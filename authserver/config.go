package authserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
)

// Config is the operator's part of the server. The zero value of a field means
// its default, which is stated there; [Config.Validate] lists what is wrong.
type Config struct {
	// Issuer is the public URL, without trailing slash: the issuer identifier and
	// the base of every published URL. https, or http on loopback.
	Issuer       string
	Resources    []Resource
	Scopes       []Scope // default: DefaultScopes()
	Registration Registration
	Login        Login
	Tokens       Tokens
	// Clients are pre-registered by the operator.
	Clients []PreRegistered
	// Introspectors may call the introspection endpoint beside confidential
	// clients asking about their own tokens: client ids.
	Introspectors []string
	// TrustedIdPs may send ID-JAG assertions (G-AS9).
	TrustedIdPs []TrustedIdP
	// ConfidentialOnly refuses clients that cannot prove themselves: "none" is
	// neither advertised nor accepted.
	ConfidentialOnly bool
	// Name is shown on pages; default "Kidoban".
	Name string
	// Limits are the rates; the zero value means limit.Defaults().
	Limits limit.Limits
}

// Resource is a protected resource: one audience.
type Resource struct {
	URI         string            // canonical, without trailing slash
	Name        string            // short, for people
	Names       map[string]string // the same in other languages of the pages, where it is ours to translate
	Default     bool              // taken when a client sends no resource parameter
	RequireDPoP bool              // only sender-constrained tokens
}

// Class is how far a scope reaches.
type Class string

// Classes, from harmless to harmful.
const (
	ClassRead        Class = "read"
	ClassWrite       Class = "write"
	ClassDestructive Class = "destructive"
	ClassOther       Class = "other"
)

// Scope is one scope of the server's vocabulary.
type Scope struct {
	Name      string
	Class     Class
	Text      map[string]string // what it allows, by language; "en" must be there
	Implies   []string          // scopes it contains; a redundant one is dropped (AS-24)
	Sensitive bool              // never for anonymous clients (G-RG2)
	Default   bool              // granted when a client asks for no scope
}

// ScopeOffline is the scope that asks for a refresh token.
const ScopeOffline = "offline_access"

// DefaultScopes is the vocabulary of a gateway without scopes in its config.
func DefaultScopes() []Scope {
	return []Scope{
		{Name: "mcp:read", Class: ClassRead, Default: true, Text: map[string]string{
			"en": "See and search: use tools that only read", "ja": "閲覧と検索：読み取りだけのツールを使う", "zh": "查看和搜索：使用只读工具"}},
		{Name: "mcp:write", Class: ClassWrite, Default: true, Implies: []string{"mcp:read"}, Text: map[string]string{
			"en": "Create and change: use tools that write", "ja": "作成と変更：書き込みを行うツールを使う", "zh": "创建和修改：使用写入工具"}},
		{Name: "mcp:destroy", Class: ClassDestructive, Implies: []string{"mcp:write", "mcp:read"}, Text: map[string]string{
			"en": "Delete and overwrite: use tools that destroy data", "ja": "削除と上書き：データを消すツールを使う", "zh": "删除和覆盖：使用会破坏数据的工具"}},
		{Name: ScopeOffline, Class: ClassOther, Text: map[string]string{
			"en": "Stay connected while you are away", "ja": "不在の間も接続を保つ", "zh": "在您离开时保持连接"}},
	}
}

// Registration is the policy on who may become a client (G-RG1…8).
type Registration struct {
	DisableDCR  bool
	DisableCIMD bool
	// AnonymousScopes is the allow-list for self-registered clients; empty means
	// every scope that is not Sensitive and not destructive.
	AnonymousScopes []string
	// AppSchemes are private redirect schemes of known apps. nil means cursor,
	// vscode, vscode-insiders and windsurf; empty means none.
	AppSchemes []string
	// RemoteHosts are the only non-loopback hosts that anonymous clients may return
	// to (F1-a). An entry "example.com" means exactly that host, ".example.com" also
	// every host below it, "*" any. nil means the callbacks of widely used hosted
	// clients; empty means none.
	RemoteHosts []string
	// NoRemote empties RemoteHosts.
	NoRemote bool
	// CIMDMode is "open" (default), "allowlist" or "open-with-review".
	CIMDMode string
	// CIMDAllow are the domains of the allow-list, in the form of RemoteHosts.
	CIMDAllow []string
	// CIMDScopes is a scope ceiling by domain, in the form of RemoteHosts.
	CIMDScopes map[string][]string
	// Impersonation is "refuse" (default) or "flag": what happens to an anonymous
	// client whose name looks like a well-known one's but returns elsewhere.
	Impersonation string
	// WellKnown adds to the built-in list of well-known clients.
	WellKnown []WellKnown
	// Deny are entries of the deny-list that stand in the config.
	Deny []DenyRule
	// FirstConsent is how long a registration lives without any consent; default 1 h.
	FirstConsent time.Duration
	// Idle is how long a consented client lives without use; default 90 d.
	Idle time.Duration
	// MaxPending bounds unconsented registrations; default 10,000.
	MaxPending int
}

// DenyRule is a deny-list entry in the config.
type DenyRule struct{ Kind, Pattern, Reason string }

// WellKnown is a client that others like to pass for.
type WellKnown struct {
	Name  string   // "Claude"
	Hosts []string // redirect or client-document hosts that are its own
}

// Login says how people prove who they are.
type Login struct {
	DisablePasswords bool
	Providers        []Provider
	SessionIdle      time.Duration // default 12 h
	SessionMax       time.Duration // default 7 d
}

// Provider is an OpenID Connect provider.
type Provider struct {
	ID           string // in URLs: [a-z0-9-]
	Name         string // on the button
	Issuer       string
	ClientID     string
	ClientSecret string
	Scopes       []string // beside openid; default profile, email
	AllowDomains []string // verified e-mail domains that may log in; empty: everybody the provider knows
	AdminEmails  []string // verified addresses that become administrators at first login
	// NameClaim is the claim that names a user in rules, one of NameClaims. "" is a
	// verified e-mail address, or what is known to be stable there: "oid" at Entra.
	NameClaim string
	// GroupsClaim is the claim of the ID token that names the user's groups; "": none
	// does. Rules call them by GroupName.
	GroupsClaim string
	// Recheck is how old the provider's word on a user may be when a client of the user
	// gets tokens; zero: as old as it likes.
	Recheck time.Duration
}

// Tokens are the lifetimes.
type Tokens struct {
	Access   time.Duration // default and maximum 10 min
	Code     time.Duration // default 60 s, maximum 10 min
	Refresh  time.Duration // of an unused refresh token; default 30 d
	Grant    time.Duration // longest life of a grant; default 90 d
	Grace    time.Duration // rotation grace window; default 60 s, maximum 60 s
	Rotation time.Duration // signing-key period; default 30 d
	Alg      string        // "EdDSA" (default) or "ES256"
}

// PreRegistered is a client of the operator's configuration.
type PreRegistered struct {
	ID           string
	Name         string
	RedirectURIs []string
	AuthMethod   string   // "none" (default), "client_secret_basic", "client_secret_post" or "private_key_jwt"
	Secret       string   // for the secret methods, at least 32 characters
	JWKS         []byte   // for private_key_jwt
	Grants       []string // default authorization_code and refresh_token
	Scopes       []string // ceiling; empty: all
	RequireDPoP  bool
	Trusted      bool // the operator vouches for it: errors may be sent to its redirect URI unseen
}

// TrustedIdP is an identity provider whose ID-JAG assertions are accepted.
type TrustedIdP struct {
	Issuer  string
	JWKSURI string // fetched through the guarded client
	JWKS    []byte // instead of JWKSURI
}

// Deps are what the server needs from the rest of the house.
type Deps struct {
	Store    Store
	Sealer   Sealer
	Outbound *outbound.Client // nil: no CIMD, no jwks_uri, no identity providers
	Observer Observer         // nil: events and alerts go nowhere
	Upstream Upstream         // nil: no accounts at third parties
	// Describe says what stands behind a resource, for the consent page; may be nil.
	Describe func(ctx context.Context, user User, resource string) []Behind
	// Covers names the servers behind a resource with a mark of what each is, for
	// consents to be held to; nil: a resource says it all. See coverage.go.
	Covers func(resource string) string
	// Proof keeps what a login at a provider gave, for exchanges in the user's name
	// (RFC 8693); may be nil. It is called for verified tokens only.
	Proof func(ctx context.Context, userID string, l ProviderLogin) error
	// Renew asks a user's provider anew with the login that Proof kept, by way of
	// RenewLogin; nil: no login can be asked about. needless tells, for who had to wait,
	// that it was done. KindNotFound: there is nothing to ask with, or the login has
	// ended. Other errors may pass. ctx bounds the waiting, not the asking.
	Renew func(ctx context.Context, userID, issuer string, needless func(context.Context) (bool, error)) error
	// Console is the path of pages with more about a person's access, for a link on
	// the account page; empty: there are none.
	Console string
	// Address is the client's address; nil means the connection's. A gateway behind
	// proxies gives the one its trusted proxies name.
	Address func(*http.Request) netip.Addr
	Now     func() time.Time // nil: time.Now
	Rand    io.Reader        // nil: crypto/rand
}

// Behind is one server behind a resource and its tools by class.
type Behind struct {
	Name           string
	Tools          map[Class][]string
	Needs          map[Class]string // the scope without which tools of a class are refused; none: any scope opens them
	UpstreamName   string           // the third party whose account is used, if any
	UpstreamScopes []string         // what that account's token may do
}

// Sealer wraps the few secrets that the server itself must read again, under the
// operator's key source. ad is bound to the ciphertext.
type Sealer interface {
	Seal(ctx context.Context, plaintext, ad []byte) ([]byte, error)
	Open(ctx context.Context, sealed, ad []byte) ([]byte, error)
}

// Observer receives what happened. Its methods must return at once: they are
// called on the path of requests.
type Observer interface {
	Event(Event)
	Alert(Alert)
}

// Event is one thing that happened, for the audit log. It holds no secret.
type Event struct {
	At        time.Time
	Name      string // "authorize", "consent", "token", "register", "login", …
	Outcome   string // "ok", "refused" or "failed"
	Code      string // OAuth error code or a stable word
	RequestID string
	Address   string
	UserID    string
	ClientID  string
	GrantID   string
	Resource  string
	Host      string // redirect host
	Scopes    []string
	Detail    string // for the operator; may hold an error's cause
}

// Validate lists everything that is wrong with the config, at once.
func (c *Config) Validate() error {
	var bad []error
	say := func(format string, args ...any) {
		bad = append(bad, kidoban.Errorf(kidoban.KindUsage, format, args...))
	}
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Host == "":
		say("the public URL %q is not a URL with a host", c.Issuer)
	case u.Scheme != "https" && !(u.Scheme == "http" && isLoopbackName(u.Hostname())):
		say("the public URL must begin with https://; http is allowed on 127.0.0.1, [::1] and localhost only")
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.HasSuffix(c.Issuer, "/"):
		say("the public URL must have no query, fragment, user or trailing slash")
	}
	names := map[string]bool{}
	scopes := c.Scopes
	if len(scopes) == 0 {
		scopes = DefaultScopes()
	}
	for _, s := range scopes {
		if oauth.CheckScope(s.Name) != nil || strings.Contains(s.Name, " ") || s.Text["en"] == "" {
			say("scope %q needs a plain name and an English text", s.Name)
		}
		names[s.Name] = true
	}
	for _, s := range c.Registration.AnonymousScopes {
		if !names[s] {
			say("the anonymous scope %q is not among the scopes", s)
		}
	}
	for _, r := range c.Resources {
		if canon, err := oauth.CanonicalResource(r.URI); err != nil || strings.TrimSuffix(canon, "/") != r.URI {
			say("resource %q must be written in its canonical form without trailing slash", r.URI)
		}
	}
	for _, p := range c.Clients {
		if err := p.validate(); err != nil {
			bad = append(bad, err)
		}
	}
	for _, p := range c.Login.Providers {
		if p.ID == "" || strings.Trim(p.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || p.Issuer == "" || p.ClientID == "" {
			say("login provider %q needs an id of a-z, 0-9 and -, an issuer and a client id", p.ID)
		}
	}
	for _, p := range c.Login.Providers {
		if p.NameClaim != "" && !slices.Contains(NameClaims, p.NameClaim) {
			say("login provider %q: name_claim must be one of %s", p.ID, strings.Join(NameClaims, ", "))
		}
	}
	for i, p := range c.Login.Providers {
		if slices.ContainsFunc(c.Login.Providers[:i], func(o Provider) bool { return o.ID == p.ID }) {
			say("two login providers have the id %q", p.ID)
		}
		if len(p.GroupsClaim) > maxClaimBytes {
			say("login provider %q: groups_claim is the name of a claim, at most %d bytes", p.ID, maxClaimBytes)
		}
		if p.Recheck < 0 || p.Recheck > 0 && p.Recheck < minRecheck {
			say("login provider %q: recheck must be at least %s, or 0 to switch it off", p.ID, minRecheck)
		}
		if p.Recheck > 0 && slices.ContainsFunc(c.Login.Providers, func(o Provider) bool { return o.ID != p.ID && o.Issuer == p.Issuer }) {
			say("login provider %q: recheck needs an issuer that no other login provider has", p.ID)
		}
	}
	for i, p := range c.TrustedIdPs {
		if err := p.validate(); err != nil {
			bad = append(bad, err)
		} else if slices.ContainsFunc(c.TrustedIdPs[:i], func(o TrustedIdP) bool { return o.Issuer == p.Issuer }) {
			say("assertions of %q are configured twice", p.Issuer)
		}
	}
	for _, id := range c.Introspectors {
		if i := slices.IndexFunc(c.Clients, func(p PreRegistered) bool { return p.ID == id }); i < 0 || c.Clients[i].AuthMethod == "" || c.Clients[i].AuthMethod == methodNone {
			say("client %q may introspect only when it authenticates: give it an auth_method other than none", id)
		}
	}
	if c.ConfidentialOnly {
		for _, p := range c.Clients {
			if p.AuthMethod == "" || p.AuthMethod == methodNone {
				say("client %q does not authenticate, and only clients that do are accepted", p.ID)
			}
		}
	}
	for _, d := range c.Registration.Deny {
		if _, err := canonicalDeny(d.Kind, d.Pattern); err != nil {
			bad = append(bad, err)
		}
	}
	if t := c.Tokens; t.Access > 10*time.Minute || t.Code > 10*time.Minute || t.Grace > time.Minute {
		say("token lifetimes: access and code at most 10 minutes, grace at most 60 seconds")
	}
	if a := c.Tokens.Alg; a != "" && a != "EdDSA" && a != "ES256" {
		say("the token algorithm must be EdDSA or ES256, not %q", a)
	}
	if m := c.Registration.CIMDMode; m != "" && !slices.Contains([]string{"open", "allowlist", "open-with-review"}, m) {
		say("the client-document mode must be open, allowlist or open-with-review, not %q", m)
	}
	return errors.Join(bad...)
}

func (p TrustedIdP) validate() error {
	if !secureURL(p.Issuer) {
		return kidoban.Errorf(kidoban.KindUsage, "assertions: the issuer %q must be an https URL; http is allowed on 127.0.0.1, [::1] and localhost only", p.Issuer)
	}
	if (p.JWKSURI == "") == (p.JWKS == nil) {
		return kidoban.Errorf(kidoban.KindUsage, "assertions of %q: give its public keys by jwks_uri or jwks_file, one of them", p.Issuer)
	}
	if p.JWKSURI != "" && !secureURL(p.JWKSURI) {
		return kidoban.Errorf(kidoban.KindUsage, "assertions of %q: jwks_uri %q must be an https URL; http is allowed on 127.0.0.1, [::1] and localhost only", p.Issuer, p.JWKSURI)
	}
	if p.JWKS == nil {
		return nil
	}
	if _, err := parseJWKS(p.JWKS); err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "assertions of %q: jwks_file must hold its public keys as a JWK set", p.Issuer)
	}
	return nil
}

// secureURL tells whether a URL cannot be listened to: https, or http on loopback.
func secureURL(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Host != "" && u.User == nil && u.Fragment == "" && (u.Scheme == "https" || u.Scheme == "http" && isLoopbackName(u.Hostname()))
}

func (p PreRegistered) validate() error {
	switch p.AuthMethod {
	case "", methodNone:
	case methodBasic, methodPost:
		if len(p.Secret) < 32 {
			return kidoban.Errorf(kidoban.KindUsage, "client %q needs a secret of at least 32 characters: make one with a password generator", p.ID)
		}
	case methodKey:
		if _, err := parseJWKS(p.JWKS); err != nil {
			return kidoban.Wrap(kidoban.KindUsage, err, "client %q needs its public keys as a JWK set", p.ID)
		}
	default:
		return kidoban.Errorf(kidoban.KindUsage, "client %q has an unknown authentication method %q", p.ID, p.AuthMethod)
	}
	if p.ID == "" || len(p.ID) > 512 {
		return kidoban.Errorf(kidoban.KindUsage, "a pre-registered client has no id, or one longer than 512 characters")
	}
	for _, r := range p.RedirectURIs {
		if err := oauth.CheckRedirect(r, oauth.RedirectPolicy{AppSchemes: defaultAppSchemes, PrivateUse: true}); err != nil {
			return fmt.Errorf("client %q: %w", p.ID, err)
		}
	}
	return nil
}

// defaultRemoteHosts are where hosted clients that still register themselves take
// their answers. Others publish a client document or are added by the operator.
var defaultRemoteHosts = []string{"claude.ai", "claude.com", "chatgpt.com", "vscode.dev", "insiders.vscode.dev"}

var defaultAppSchemes = []string{"cursor", "vscode", "vscode-insiders", "windsurf"}

// withDefaults returns the config with every zero replaced by its default.
func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if c.Name == "" {
		c.Name = "Kidoban"
	}
	if c.Limits == (limit.Limits{}) {
		c.Limits = limit.Defaults()
	}
	if c.Scopes == nil {
		c.Scopes = DefaultScopes()
	}
	if c.Tokens.Alg == "" {
		c.Tokens.Alg = "EdDSA"
	}
	set(&c.Tokens.Access, 10*time.Minute)
	set(&c.Tokens.Code, time.Minute)
	set(&c.Tokens.Refresh, 30*24*time.Hour)
	set(&c.Tokens.Grant, 90*24*time.Hour)
	set(&c.Tokens.Grace, time.Minute)
	set(&c.Tokens.Rotation, 30*24*time.Hour)
	set(&c.Login.SessionIdle, 12*time.Hour)
	set(&c.Login.SessionMax, 7*24*time.Hour)
	r := &c.Registration
	set(&r.FirstConsent, time.Hour)
	set(&r.Idle, 90*24*time.Hour)
	if r.MaxPending == 0 {
		r.MaxPending = 10_000
	}
	if r.AppSchemes == nil {
		r.AppSchemes = defaultAppSchemes
	}
	switch {
	case r.NoRemote:
		r.RemoteHosts = []string{}
	case r.RemoteHosts == nil:
		r.RemoteHosts = defaultRemoteHosts
	}
	if r.CIMDMode == "" {
		r.CIMDMode = "open"
	}
	if r.Impersonation == "" {
		r.Impersonation = "refuse"
	}
	return c
}

func isLoopbackName(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
