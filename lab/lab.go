package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// Options choose the lab. The zero value is a safe dual-era lab on a free port.
type Options struct {
	Flaws      []string // keys or slugs of the switches to throw
	Profile    string   // one of Profiles; "" is plain
	Era        string   // one of Eras; "" is dual
	IssuerPath bool     // the issuer has a path, so that metadata lives at the inserted forms
	JWT        bool     // at+jwt access tokens with a key set, instead of opaque ones
	Upstream   bool     // log people in at the upstream identity provider
	Passkeys   bool     // one more account, which has a passkey; the server is then reached as localhost
	TLS        bool     // serve https under a certificate authority of the lab's own (Lab.CACert)
	Addr       string   // loopback address of the main server; "" is 127.0.0.1:0

	// LoopbackDocuments lets the authorization server fetch client documents and
	// registered URLs from loopback over http, so that a canary there can watch.
	LoopbackDocuments bool
	// Registrations bounds registration requests per address within
	// RegistrationWindow; 0 is 20, in an hour.
	Registrations      int
	RegistrationWindow time.Duration
	// Depth is how often the deep-chain profile redirects before it validates: 1 to
	// 18, 0 is 8. One redirect more leads to the page, so that 20 hops are enough.
	Depth int
	// Noise chooses the unrelated OAuth traffic of the noise profile: 1 to 11, 0 is
	// the detour over an analytics host.
	Noise int
	// ScriptPosts lets the script of the spa-consent profile post the request instead
	// of leading on with its query: nobody gets on without running it.
	ScriptPosts bool
	// AnySpelling takes OAuth parameters under the names that some servers invented
	// (clientId, codeChallenge) as well as under those of the RFCs.
	AnySpelling bool

	// UpstreamCallback is a second redirect URI that the upstream takes for its one
	// client, so that it can be the third party of another server too.
	UpstreamCallback string
	// Banned are hosts that registration refuses, by comparing the beginning of the
	// raw redirect URI: the deny-list of somebody in a hurry.
	Banned []string

	// Front, where it is set, stands before every listener like a content network: it
	// may answer in the server's place. server is main, upstream, cloud or noise.
	Front func(server string, next http.Handler) http.Handler

	Now  func() time.Time // nil is time.Now
	Rand io.Reader        // nil is crypto/rand
}

// Account is a person that can log in, at the lab or at its upstream.
type Account struct {
	User     string `json:"user"`
	Password string `json:"password"`
	TOTP     string `json:"totp,omitempty"`    // base32 secret; empty when the account has no second factor
	Passkey  string `json:"passkey,omitempty"` // credential for a virtual authenticator, as JSON; the account then has no password
}

// Access is one request that a listener of the lab saw.
type Access struct {
	Time      time.Time
	Server    string // main, upstream, cloud, noise
	Host      string // Host header as sent
	Method    string
	Path      string
	UserAgent string
}

// Lab is a running lab. Its exported fields do not change after Start.
type Lab struct {
	MCPURL      string    // the MCP server
	SecondURL   string    // another MCP server under the same authorization server
	Issuer      string    // the authorization server
	UpstreamURL string    // issuer of the upstream identity provider; "" without one
	CloudURL    string    // callback of the cloud client, as a client would register it
	Accounts    []Account // who can log in
	CACert      []byte    // PEM; nil without TLS
	Flaws       []string  // switches that are on, those that others forced included

	opt     Options
	flaws   map[string]bool
	base    string // origin of the main server
	asPath  string // path of the issuer, "" or "/tenant"
	noise   string // origin of the analytics stub
	plain   string // origin that E29-b leads through
	key     *ecdsa.PrivateKey
	pass    *passkey // nil without passkeys
	seal    []byte   // key of requestState and deep-chain counters
	pages   *pages
	servers []*http.Server
	wg      sync.WaitGroup
	done    context.CancelFunc
	fetch   *http.Client

	randMu sync.Mutex
	flowMu sync.Mutex // one step of one login at a time: transactions are changed under it

	mu  sync.Mutex // guards everything below
	st  state
	idp idpState
	log []Access
}

// maxLog bounds the access log; older entries fall out.
const maxLog = 100_000

// Start opens the listeners and serves until Close or the end of ctx. An unknown
// switch, profile or era is a KindUsage error that names the nearest ones.
func Start(ctx context.Context, o Options) (*Lab, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	l := &Lab{opt: o, flaws: map[string]bool{}, Accounts: accounts()}
	if err := l.throw(o.Flaws); err != nil {
		return nil, err
	}
	var err error
	if l.key, err = newSigningKey(); err != nil {
		return nil, err
	}
	l.seal = []byte(l.random(32))
	if l.pages, err = newPages(); err != nil {
		return nil, err
	}
	if l.opt.Passkeys {
		if err := l.addPasskey(); err != nil {
			return nil, err
		}
	}
	l.st = newState()
	l.idp = newIDPState()
	ctx, l.done = context.WithCancel(ctx)
	if err := l.open(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// complete fills in defaults and refuses what cannot be.
func (o *Options) complete() error {
	if o.Profile == "" {
		o.Profile = profilePlain
	}
	if !slices.Contains(Profiles(), o.Profile) {
		return kidoban.Errorf(kidoban.KindUsage, "there is no profile %q; the nearest are %s", o.Profile, strings.Join(nearest(o.Profile, Profiles()), ", "))
	}
	if o.Era == "" {
		o.Era = eraDual
	}
	if !slices.Contains(Eras(), o.Era) {
		return kidoban.Errorf(kidoban.KindUsage, "there is no era %q; the nearest are %s", o.Era, strings.Join(nearest(o.Era, Eras()), ", "))
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "%q is no address; write host:port, for example 127.0.0.1:0", o.Addr)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return kidoban.Errorf(kidoban.KindUsage, "%q is not a loopback address: a lab is weak on purpose and listens on loopback only, for example 127.0.0.1:0", host)
	}
	if o.Depth < 0 || o.Depth > maxDepthHops {
		return kidoban.Errorf(kidoban.KindUsage, "a deep chain of %d redirects is not possible; choose 1 to %d", o.Depth, maxDepthHops)
	}
	if o.Noise < 0 || o.Noise > len(noises()) {
		return kidoban.Errorf(kidoban.KindUsage, "there is no noise %d; choose 1 to %d", o.Noise, len(noises()))
	}
	if o.Depth == 0 {
		o.Depth = deepHops
	}
	if o.Registrations == 0 {
		o.Registrations = 20
	}
	if o.RegistrationWindow == 0 {
		o.RegistrationWindow = time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	return nil
}

// throw turns switches on, with the flaws and options they need.
func (l *Lab) throw(keys []string) error {
	for _, k := range keys {
		s, ok := switchByKey(strings.TrimSpace(k))
		if !ok {
			var names []string
			for _, s := range Switches() {
				names = append(names, s.Key)
			}
			return kidoban.Errorf(kidoban.KindUsage, "there is no switch %q; the nearest are %s (kidoban lab list shows all)", k, strings.Join(nearest(k, names), ", "))
		}
		if l.flaws[s.Key] {
			continue
		}
		l.flaws[s.Key] = true
		l.Flaws = append(l.Flaws, s.Key)
		s.Needs.apply(&l.opt)
		if err := l.throw(s.Needs.Flaws); err != nil {
			return err
		}
	}
	return nil
}

// on tells whether a switch is thrown.
func (l *Lab) on(key string) bool { return l.flaws[key] }

// any tells whether one of several switches is thrown.
func (l *Lab) any(keys ...string) bool { return slices.ContainsFunc(keys, l.on) }

// Close stops the listeners and waits until nothing of the lab runs any more.
func (l *Lab) Close() error {
	l.done()
	for _, s := range l.servers {
		s.Close() // open streams end with it; there is nobody to say goodbye to
	}
	l.wg.Wait()
	return nil
}

// Clients returns the ids of the live dynamic registrations in the order of their
// creation: what a tester left behind.
func (l *Lab) Clients() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var live []*client
	for _, c := range l.st.clients {
		if c.dynamic {
			live = append(live, c)
		}
	}
	slices.SortFunc(live, func(a, b *client) int { return a.serial - b.serial })
	ids := make([]string, 0, len(live))
	for _, c := range live {
		ids = append(ids, c.id)
	}
	return ids
}

// Log returns a copy of the requests seen so far, oldest first.
func (l *Lab) Log() []Access {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.log)
}

// random returns n random bytes as base64url.
func (l *Lab) random(n int) string {
	b := make([]byte, n)
	l.randMu.Lock()
	defer l.randMu.Unlock()
	if _, err := io.ReadFull(l.opt.Rand, b); err != nil {
		panic("lab: the source of randomness is broken: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func (l *Lab) now() time.Time { return l.opt.Now() }

// accounts are the people of the lab. Their passwords are public on purpose: a lab
// holds nothing worth protecting and listens on loopback only.
func accounts() []Account {
	return []Account{
		{User: "alice", Password: "alice-lab-password"},
		{User: "bob", Password: "bob-lab-password"},
		{User: "carol", Password: "carol-lab-password", TOTP: "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"},
	}
}
