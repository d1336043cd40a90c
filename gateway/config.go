package gateway

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/sandbox"
)

// Config is the operator's part of the gateway. Zero values mean the defaults
// given behind the members.
type Config struct {
	// PublicURL is what clients see, without trailing slash. Every URL that the
	// gateway publishes begins with it; a Host header never becomes one.
	PublicURL string
	// Issuer of the tokens that are accepted; the authorization server named in
	// the metadata. Default: PublicURL.
	Issuer  string
	Servers []Server
	// Hosts are Host header values accepted beside that of PublicURL.
	Hosts []string
	// Origins are browser origins that may call; none by default but PublicURL's own.
	Origins []string
	// Implies is the scope hierarchy: each scope with all it contains (RS-10).
	Implies map[string][]string
	Limits  limit.Limits // the zero value means limit.Defaults()
	// Open switches authorization off: everybody is one nameless user. For tests
	// and for a gateway that another one protects.
	Open bool
	// NoAggregate switches the endpoint <PublicURL>/mcp off.
	NoAggregate bool

	MaxRequest  int           // bytes of a client's message; 4 MiB
	MaxResponse int           // bytes of a server's message; 16 MiB
	HeaderWait  time.Duration // until a server begins to answer; 60 s
	IdleWait    time.Duration // between two pieces of an answer; 5 min
	KeepAlive   time.Duration // between comments on a quiet stream; 15 s
	WriteWait   time.Duration // until a client takes a piece of a stream; 30 s
	StateLife   time.Duration // of a sealed session or requestState; 24 h
	MaxCalls    int           // calls and streams at once; 10,000
	MaxPerUser  int           // the same for one user; 256
}

// Server is one MCP server behind the gateway.
type Server struct {
	Name   string   // in URLs and prefixes: [a-z0-9-], at most 32
	Title  string   // for people
	URL    string   // of a remote server: streamable HTTP, or HTTP+SSE
	Scopes []string // a token needs one of them, or one that implies it; default mcp:read, mcp:write
	// Loopback and Private open address ranges that are closed by default.
	Loopback, Private bool
	RootCAs           *x509.CertPool
	// Transport is "http" (streamable HTTP, the default with a URL), "sse" (the
	// two endpoints of 2024-11-05) or "stdio" (the default with a command).
	Transport string
	// Era fixes what the server speaks; "" finds out.
	Era string
	// Stdio is what runs for a stdio server; Shared lets all users share its
	// processes, otherwise each user has own ones.
	Stdio     *sandbox.Spec
	Shared    bool
	Processes int           // at most so many processes of it; 16
	Idle      time.Duration // a process without calls ends after; 5 min
	// Failures in a row after which it is left alone, 5; Rest is for how long at
	// most, 1 min; Wait is until it begins to answer, Config.HeaderWait.
	Failures   int
	Rest, Wait time.Duration
	// Rate is how fast long answers of it are relayed, in bytes a second, 4 MiB;
	// one user gets half of it. What an answer has up to 16 KiB is not counted.
	Rate int64
	// Header are fixed headers without secrets. Secrets come from the accounts.
	Header kidoban.Fields
	// Account names how the gateway shows itself to the server: "" is nothing,
	// "shared" one secret for all users, "user" each user's own account.
	Account string
	// DirectPages passes on the addresses that the server would have a person open, and
	// has them lead through no page of ours.
	DirectPages bool
	// Arguments are the rules for what tools of this server are sent.
	Arguments ArgumentRules
	// Results are the rules for what comes back.
	Results ResultRules
	// Labels name tools and resources by label, as patterns with *; a label that
	// stands here holds for exactly those, any other is found out (see labeler).
	Labels map[string][]string
}

// Transports and account modes.
const (
	TransportHTTP  = "http"
	TransportSSE   = "sse"
	TransportStdio = "stdio"

	AccountShared = "shared"
	AccountUser   = "user"
)

// turns tells characters that make a line of a page read otherwise than it is
// written: controls, and those of bidirectional text that embed or override. Marks
// such as U+200F are part of ordinary Hebrew and Arabic.
func turns(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}

// MinScopes are the scopes of a server whose config names none.
var MinScopes = []string{"mcp:read", "mcp:write"}

var nameRule = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$`)

func (c Config) withDefaults() Config {
	c.PublicURL = strings.TrimSuffix(c.PublicURL, "/")
	if c.Issuer == "" {
		c.Issuer = c.PublicURL
	}
	if c.Limits == (limit.Limits{}) {
		c.Limits = limit.Defaults()
	}
	number := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	period := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	number(&c.MaxRequest, 4<<20)
	number(&c.MaxResponse, 16<<20)
	number(&c.MaxCalls, 10_000)
	number(&c.MaxPerUser, 256)
	period(&c.HeaderWait, time.Minute)
	period(&c.IdleWait, 5*time.Minute)
	period(&c.KeepAlive, 15*time.Second)
	period(&c.WriteWait, 30*time.Second)
	period(&c.StateLife, 24*time.Hour)
	servers := make([]Server, len(c.Servers))
	for i, s := range c.Servers {
		if s.Transport == "" {
			s.Transport = TransportHTTP
			if s.Stdio != nil {
				s.Transport = TransportStdio
			}
		}
		if len(s.Scopes) == 0 {
			s.Scopes = MinScopes
		}
		if s.Title == "" {
			s.Title = s.Name
		}
		number(&s.Processes, 16)
		period(&s.Idle, 5*time.Minute)
		number(&s.Failures, 5)
		period(&s.Rest, time.Minute)
		if s.Rate <= 0 {
			s.Rate = flowRate
		}
		period(&s.Wait, c.HeaderWait)
		servers[i] = s
	}
	c.Servers = servers
	return c
}

// Validate lists everything that is wrong with the config, at once.
func (c Config) Validate() error {
	c = c.withDefaults()
	var bad []error
	say := func(format string, args ...any) {
		bad = append(bad, kidoban.Errorf(kidoban.KindUsage, format, args...))
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && loopbackName(u.Hostname())) {
		say("the public URL %.200q must begin with https://; http is allowed on loopback only", c.PublicURL)
	} else if u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.EscapedPath() != u.Path || strings.Contains(u.Path, "//") {
		say("the public URL must have no query, fragment, user or encoded path")
	}
	for _, o := range c.Origins {
		if _, err := oauth.Origin(o); err != nil || strings.Count(o, "/") != 2 {
			say("origin %.200q must be scheme://host[:port]", o)
		}
	}
	seen := map[string]bool{}
	for _, s := range c.Servers {
		if !nameRule.MatchString(s.Name) {
			say("server name %.80q: use lower-case letters, digits and '-' inside, at most 32", s.Name)
		}
		if i := strings.IndexFunc(s.Title, turns); i >= 0 {
			r, _ := utf8.DecodeRuneInString(s.Title[i:])
			say("the title of server %s holds %U, which people do not see or which changes the order of what they read: leave it out", s.Name, r)
		}
		if seen[s.Name] {
			say("two servers are called %s", s.Name)
		}
		seen[s.Name] = true
		if err := s.validate(); err != nil {
			bad = append(bad, err)
		}
	}
	return errors.Join(bad...)
}

func (s Server) validate() error {
	bad := func(format string, args ...any) error {
		return kidoban.Errorf(kidoban.KindUsage, "server "+s.Name+": "+format, args...)
	}
	switch s.Era {
	case "", "legacy", "modern":
	default:
		return bad("era must be legacy or modern, not %.40q", s.Era)
	}
	switch s.Account {
	case "", AccountShared, AccountUser:
	default:
		return bad("account must be shared or user, not %.40q", s.Account)
	}
	switch s.Transport {
	case TransportStdio:
		if s.Stdio == nil || s.URL != "" {
			return bad("a stdio server needs a command and no URL")
		}
		if s.Shared && s.Account == AccountUser {
			return bad("its processes are shared, but each user has an account: choose one")
		}
		return s.Stdio.Check()
	case TransportHTTP, TransportSSE:
	default:
		return bad("transport must be http, sse or stdio, not %.40q", s.Transport)
	}
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return bad("url %.200q is not an http or https URL", s.URL)
	case u.User != nil || u.Fragment != "":
		return bad("its url must have no user and no fragment: secrets belong into the vault")
	case u.Scheme == "http" && !s.Loopback && !s.Private:
		return bad("plain http is allowed to this machine or a private network only: write address: loopback (or private) under it, or use https")
	}
	for _, f := range s.Header {
		switch strings.ToLower(f.Name) {
		case "host", "content-length", "transfer-encoding", "connection", "cookie", "content-type", "accept", "mcp-session-id", "mcp-method", "mcp-name", "mcp-protocol-version":
			return bad("header %.80q belongs to the gateway", f.Name)
		case "authorization", "x-api-key", "api-key":
			return bad("header %s holds a secret: run kidoban vault set %s and remove it", f.Name, s.Name)
		}
	}
	return nil
}

func loopbackName(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
