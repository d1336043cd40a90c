package lab

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
)

// PopulationOptions describe a population of synthetic MCP servers.
type PopulationOptions struct {
	N    int    // servers, at most 1,000,000
	Seed uint64 // the same seed gives the same population
	Addr string // loopback address to listen on; "" = 127.0.0.1:0
	TLS  bool   // https, with certificates of the population's own authority
	Log  io.Writer
}

// Population is a crowd of synthetic MCP servers in one process: virtual hosts
// s00042.pop.localhost on one loopback port, and the issuers as007.pop.localhost
// that some of them share. Every name below localhost is loopback by definition
// (RFC 6761 §6.3), so no resolver is needed.
//
// What a server is follows from the seed and its number alone; nothing is kept
// per server but the counters of those that limit their callers. So a million
// servers cost no more memory than ten.
type Population struct {
	opts  PopulationOptions
	l     net.Listener
	port  string
	close func()

	mu      sync.Mutex
	hits    map[int]int // requests so far, of rate-limiting servers only
	streams map[string]chan []byte
	next    int
	log     *bufio.Writer
	done    chan struct{} // closed when the population ends; ends the stuck ones
}

// Truth is what a census must find out about one server.
type Truth struct {
	URL    string   `json:"url"`
	Kind   string   `json:"kind"`  // what the simulator plays
	Class  string   `json:"class"` // as in the catalogue 5.8; "skipped" for opt-outs
	Flags  []string `json:"flags"`
	Issuer string   `json:"issuer,omitempty"`
	Flaws  []string `json:"flaws"` // keys among PopulationChecks
	Tools  int      `json:"tools,omitempty"`
	// CertKey is the SHA-256 of the key in its certificate, with TLS and where an
	// answer can be seen.
	CertKey string `json:"cert_key,omitempty"`
}

// PopulationChecks are the checks that the truth is complete for: what reading
// alone can decide without registering or logging in.
func PopulationChecks() []string {
	return []string{
		"E10-a", "E10-b", "E10-c", "E10-g", "E10-h", "E10-j", "E11-a", "E11-b", "E11-c", "E11-d", "E11-e", "E11-f", "E11-g", "E11-i",
		"F3-a", "F3-b", "F4-0", "F5-e", "F8-a", "F8-b", "F8-e",
	}
}

// popServer is one synthetic server.
type popServer struct {
	n      int
	kind   string // open, oauth, static, or one of the ill-behaved
	era    string // modern, session, plain, stream, sse
	path   string
	tools  int
	soft   string
	refuse string // static: how it says no
	slow   bool
	limit  int // requests that get a 429 first
	twin   int // number of the server whose software and tools it has
	// oauth
	issuer  int  // of a shared issuer, -1: the server's own origin
	prm     bool // publishes resource metadata
	link    bool // the challenge names it
	badRes  bool
	query   bool
	offline bool
	textPRM bool
	as      popIssuer // its own, or the shared one's
}

// popIssuer is one authorization server.
type popIssuer struct {
	dcr, cimd, noNone                          bool
	pkce                                       string // s256, absent, plain
	mismatch, implicit, token, http, far, text bool
	oidc                                       bool
	upstream                                   bool
	challenge                                  string // on the upstream request: s256, none, plain
	state                                      string // opaque, missing, fixed, counting, short, readable, signed
}

// tail are the ill-behaved kinds with their share of all servers, in per mille.
var tail = []struct {
	kind  string
	mille int
}{
	{"dead", 20}, {"page", 20}, {"absent", 12}, {"moved", 6}, {"endless", 3}, {"drip", 1}, {"liar", 7}, {"stuck", 2},
	{"limited", 4}, {"basic", 7}, {"payment", 3}, {"firewall", 3}, {"handshake", 7}, {"optout", 3}, {"robots", 2},
}

// server computes server n from the seed.
func (p *Population) server(n int) popServer {
	r := rand.New(rand.NewPCG(p.opts.Seed, uint64(n)))
	s := popServer{n: n, twin: n, issuer: -1}
	kind := r.IntN(1000)
	for _, t := range tail {
		if kind < t.mille {
			s.kind = t.kind
			break
		}
		kind -= t.mille
	}
	if s.kind == "" {
		switch share := r.IntN(10000); { // the study's table: 40.55, 30.45 and 29.00 %
		case share < 4055:
			s.kind = "open"
		case share < 7100:
			s.kind = "oauth"
		default:
			s.kind = "static"
		}
		s.slow = r.IntN(200) == 0
		if r.IntN(100) == 0 {
			s.limit = 1 + r.IntN(2)
		}
	}
	s.era = pick(r, "modern", 20, "session", 45, "plain", 18, "stream", 12, "sse", 5)
	s.path = pick(r, "/mcp", 80, "/api/mcp", 10, "/", 10)
	if s.era == "sse" && s.kind == "open" {
		s.path = "/sse"
	} else if s.era == "sse" {
		s.era = "session"
	}
	if n > 0 && r.IntN(12) == 0 {
		s.twin = r.IntN(n) // a second instance of another one
	}
	t := rand.New(rand.NewPCG(p.opts.Seed^0x7001, uint64(s.twin)))
	s.tools = 1 + t.IntN(12)
	s.soft = pick(t, "fastmcp", 40, "mcp-typescript", 30, "mcp-go", 10, "spring-ai-mcp", 10, "acme-mcp", 10) + fmt.Sprintf("/%d.%d", 1+t.IntN(3), t.IntN(10))
	s.refuse = pick(r, "bearer", 40, "header", 30, "forbidden", 15, "inband", 15)
	s.oauth(p, r)
	return s
}

func (s *popServer) oauth(p *Population, r *rand.Rand) {
	if r.IntN(100) < 55 {
		s.issuer = r.IntN(p.issuers())
		s.as = p.issuer(s.issuer)
	} else {
		s.as = newIssuer(r)
	}
	s.prm = s.issuer >= 0 || r.IntN(100) < 75
	s.link = s.prm && r.IntN(100) < 70
	s.badRes, s.query, s.offline, s.textPRM = r.IntN(100) < 8, r.IntN(100) < 3, r.IntN(100) < 6, r.IntN(100) < 3
}

// issuers is how many shared authorization servers the population has.
func (p *Population) issuers() int { return max(1, p.opts.N/150) }

func (p *Population) issuer(k int) popIssuer {
	return newIssuer(rand.New(rand.NewPCG(p.opts.Seed^0xa5, uint64(k))))
}

func newIssuer(r *rand.Rand) popIssuer {
	a := popIssuer{dcr: r.IntN(100) < 46, cimd: r.IntN(100) < 20, pkce: pick(r, "s256", 65, "absent", 15, "plain", 20)}
	a.noNone = a.dcr && r.IntN(100) < 6
	a.mismatch, a.implicit, a.token = r.IntN(100) < 4, r.IntN(100) < 8, r.IntN(100) < 5
	a.http, a.far, a.text, a.oidc = r.IntN(100) < 2, r.IntN(100) < 4, r.IntN(100) < 2, r.IntN(100) < 20
	a.upstream = r.IntN(100) < 25
	a.challenge = pick(r, "s256", 74, "none", 22, "plain", 4)
	a.state = pick(r, "opaque", 50, "missing", 6, "fixed", 6, "counting", 4, "short", 8, "readable", 18, "signed", 8)
	return a
}

// pick returns one of the words, weighted by the number after each.
func pick(r *rand.Rand, pairs ...any) string {
	sum := 0
	for i := 1; i < len(pairs); i += 2 {
		sum += pairs[i].(int)
	}
	at := r.IntN(sum)
	for i := 0; ; i += 2 {
		if at -= pairs[i+1].(int); at < 0 {
			return pairs[i].(string)
		}
	}
}

// host, origin and url are the addresses of a server.
func (p *Population) host(n int) string { return fmt.Sprintf("s%06d.pop.localhost:%s", n, p.port) }
func (p *Population) origin(label string) string {
	scheme := "http://"
	if p.opts.TLS {
		scheme = "https://"
	}
	return scheme + label + ".pop.localhost:" + p.port
}
func (p *Population) url(s popServer) string {
	return p.origin(fmt.Sprintf("s%06d", s.n)) + s.path
}

func (p *Population) issuerURL(s popServer) string {
	if s.issuer < 0 {
		return p.origin(fmt.Sprintf("s%06d", s.n))
	}
	return p.origin(fmt.Sprintf("as%05d", s.issuer))
}

// truth says what a census must find.
func (p *Population) truth(s popServer) Truth {
	t := Truth{URL: p.url(s), Kind: s.kind, Flags: []string{}, Flaws: []string{}}
	switch s.kind {
	case "open", "moved":
		t.Class, t.Tools = "noauth_list", s.tools
	case "static":
		t.Class = "static"
	case "handshake":
		t.Class = "handshake_only"
	case "basic", "payment", "firewall":
		t.Class = "other_auth"
	case "dead", "stuck":
		t.Class = "dead"
	case "limited":
		t.Class = "unstable"
	case "optout", "robots":
		t.Class = "skipped"
	case "oauth":
		t.Class, t.Issuer = "oauth", p.issuerURL(s)
		t.Flags, t.Flaws = s.flags(), append(s.metadataFlaws(), s.as.flaws()...)
		slices.Sort(t.Flaws)
	default:
		t.Class = "not_mcp"
	}
	if t.Class != "dead" && t.Class != "skipped" {
		t.CertKey = p.certKey(s)
	}
	return t
}

func (s *popServer) flags() (out []string) {
	if s.issuer < 0 {
		out = append(out, "as_same_origin")
	}
	if s.as.cimd {
		out = append(out, "cimd")
	}
	if s.as.dcr {
		out = append(out, "dcr")
	}
	if !s.as.cimd && !s.as.dcr {
		out = append(out, "prereg_only")
	}
	if s.prm {
		out = append(out, "prm")
	}
	slices.Sort(out)
	return out
}

func (s *popServer) metadataFlaws() (out []string) {
	if !s.prm {
		return []string{"E10-a", "E10-b"}
	}
	for key, on := range map[string]bool{"E10-c": s.badRes, "E10-g": s.query, "E10-h": s.offline, "E10-j": s.textPRM} {
		if on {
			out = append(out, key)
		}
	}
	return out
}

func (a *popIssuer) flaws() (out []string) {
	for key, on := range map[string]bool{
		"E11-a": a.mismatch, "E11-b": a.http, "E11-c": a.http || a.far, "E11-d": a.token, "E11-e": a.implicit, "E11-f": a.noNone, "E11-g": !a.cimd, "E11-i": a.text,
		"F5-e": a.pkce != "s256", "F3-a": a.upstream && a.challenge == "none", "F3-b": a.upstream && a.challenge == "plain",
		"F4-0": a.upstream && a.state == "readable", "F8-a": a.upstream && a.state == "missing",
		"F8-b": a.upstream && (a.state == "fixed" || a.state == "counting"), "F8-e": a.upstream && a.state == "short",
	} {
		if on {
			out = append(out, key)
		}
	}
	return out
}

// WriteTruth writes one JSON line per server, in the order of their numbers.
func (p *Population) WriteTruth(w io.Writer) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	for n := range p.opts.N {
		if err := enc.Encode(p.truth(p.server(n))); err != nil {
			return err
		}
	}
	return b.Flush()
}

// WriteTargets writes the candidates: every server, and some of them again in
// another spelling.
func (p *Population) WriteTargets(w io.Writer) error {
	b := bufio.NewWriter(w)
	for n := range p.opts.N {
		s := p.server(n)
		u := p.url(s)
		fmt.Fprintln(b, u)
		if n%37 == 5 {
			scheme, rest, _ := strings.Cut(u, "://")
			fmt.Fprintln(b, scheme+"://"+strings.ToUpper(rest[:8])+rest[8:]+"#again")
		}
	}
	return b.Flush()
}

// WriteOptOut writes the hosts whose operators asked not to be measured.
func (p *Population) WriteOptOut(w io.Writer) error {
	b := bufio.NewWriter(w)
	for n := range p.opts.N {
		if s := p.server(n); s.kind == "optout" {
			host, _, _ := strings.Cut(p.host(n), ":")
			fmt.Fprintln(b, host)
		}
	}
	return b.Flush()
}
