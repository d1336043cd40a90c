package authserver

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
)

// Server is an authorization server. It is safe for concurrent use and owns
// goroutines that follow revocations, the deny-list and the keys, sweep out what
// has ended, and watch how access is used; Close ends them. It does not own the
// Store.
type Server struct {
	deps      Deps
	keys      *KeySet
	live      *Liveness
	limits    *limit.Memory
	box       *box
	policy    atomic.Pointer[policy]
	deny      denylist
	admitted  admissions
	docs      documents
	alerts    alarm
	approvals alarm // a person's yes to a client, by both
	known     neighbours
	idps      providers
	resting   resting
	jwks      remoteKeys
	password  hasher
	uses      useQueue
	painters  chan struct{} // see paint
	stop      context.CancelFunc
	done      sync.WaitGroup
}

// policy is one state of the configuration; a request works with one throughout.
type policy struct {
	Config
	base      *url.URL
	origin    string // scheme://host[:port]
	path      string // path of the issuer, "" for none
	resources map[string]*Resource
	scopes    map[string]*Scope
	pre       map[string]*client // by id
	metadata  []byte
	routes    map[string]route
}

// New checks the configuration, makes or opens the server's keys and starts it.
// Errors of kind usage are the operator's to fix.
func New(ctx context.Context, c Config, d Deps) (*Server, error) {
	if d.Store == nil || d.Sealer == nil {
		return nil, kidoban.Errorf(kidoban.KindUsage, "the authorization server needs a store and a key source")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Rand == nil {
		d.Rand = rand.Reader
	}
	if d.Address == nil {
		d.Address = connectionAddress
	}
	if d.Observer == nil {
		d.Observer = silent{}
	}
	s := &Server{deps: d, limits: limit.NewMemory(0, d.Now)}
	s.uses.in = make(chan Use, 1024)
	s.painters = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	s.password.slots = make(chan struct{}, 2)
	s.alerts.quiet, s.approvals.quiet = alertQuiet, campaignSpan
	s.live = &Liveness{store: d.Store, now: d.Now, dead: map[string]time.Time{}}
	secret, err := serverSecret(ctx, d.Store, d.Sealer, d.Rand, "tickets")
	if err != nil {
		return nil, err
	}
	if s.box, err = newBox(secret, d.Rand, d.Now); err != nil {
		return nil, err
	}
	if err := s.Reload(ctx, c); err != nil {
		return nil, err
	}
	t := s.policy.Load().Tokens
	s.keys = &KeySet{store: d.Store, sealer: d.Sealer, rand: d.Rand, now: d.Now, alg: jose.SignatureAlgorithm(t.Alg), period: t.Rotation}
	if err := errors.Join(s.keys.refresh(ctx), s.live.follow(ctx)); err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() { s.followLoop(run) })
	s.done.Go(func() { s.sweepLoop(run) })
	s.done.Go(func() { s.watchUses(run) })
	return s, nil
}

// Reload puts a new configuration in force at once, whole or not at all, and ends
// the grants of clients that its deny-list matches. The
// issuer cannot change while the server runs; the token algorithm and the
// rotation period take effect at the next start.
func (s *Server) Reload(ctx context.Context, c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	c = c.withDefaults()
	old := s.policy.Load()
	if old != nil && old.Issuer != c.Issuer {
		return kidoban.Errorf(kidoban.KindUsage, "the public URL cannot change while the server runs: restart it")
	}
	base, err := url.Parse(c.Issuer)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the public URL is not a URL")
	}
	p := &policy{Config: c, base: base, origin: base.Scheme + "://" + base.Host, path: base.Path,
		resources: map[string]*Resource{}, scopes: map[string]*Scope{}}
	for i := range c.Resources {
		p.resources[c.Resources[i].URI] = &c.Resources[i]
	}
	for i := range c.Scopes {
		p.scopes[c.Scopes[i].Name] = &c.Scopes[i]
	}
	if p.metadata, err = s.buildMetadata(p); err != nil {
		return err
	}
	p.routes = s.buildRoutes(p)
	if err := s.putPreRegistered(ctx, p); err != nil {
		return err
	}
	if err := errors.Join(s.loadDeny(ctx, p), s.loadAdmitted(ctx)); err != nil {
		return err
	}
	s.policy.Store(p)
	if len(c.Registration.Deny) == 0 {
		return nil
	}
	_, err = s.EnforceDenyList(ctx)
	return err
}

// Close stops the background work and waits for it.
func (s *Server) Close() error {
	s.stop()
	s.done.Wait()
	return nil
}

// KeySet gives the keys to verify access tokens with, in memory.
func (s *Server) KeySet() *KeySet { return s.keys }

// Liveness gives the index of revoked grants and tokens, in memory.
func (s *Server) Liveness() *Liveness { return s.live }

// Issuer returns the issuer identifier.
func (s *Server) Issuer() string { return s.policy.Load().Issuer }

// Paths lists the paths that the server answers, for a router that has others
// too. A path that ends in a slash stands for everything below it.
func (s *Server) Paths() []string {
	p := s.policy.Load()
	out := []string{p.path + "/register/", p.path + "/login/"}
	for path := range p.routes {
		out = append(out, path)
	}
	return out
}

// keysInterval spaces the readings of keys; revocations and the deny-list are
// read every FollowInterval.
const keysInterval = 30 * time.Second

// followLoop keeps the in-memory views of shared state fresh. Errors are
// reported once when they begin: the liveness index refuses by itself when they
// last.
func (s *Server) followLoop(ctx context.Context) {
	tick := time.NewTicker(FollowInterval)
	defer tick.Stop()
	failing := false
	keysAt := s.deps.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := errors.Join(s.live.follow(ctx), s.loadDeny(ctx, s.policy.Load()), s.loadAdmitted(ctx))
		if now := s.deps.Now(); now.Sub(keysAt) >= keysInterval || now.Before(keysAt) {
			keysAt = now
			err = errors.Join(err, s.keys.refresh(ctx))
		}
		if err != nil && !failing && ctx.Err() == nil {
			s.deps.Observer.Event(Event{At: s.deps.Now(), Name: "follow", Outcome: "failed", Detail: err.Error()})
		}
		failing = err != nil
	}
}

// Rates are what this process has given of the limits, for replicas that tell each
// other.
func (s *Server) Rates() *limit.Memory { return s.limits }

// sweepInterval spaces housekeeping.
const sweepInterval = time.Minute

func (s *Server) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// 1,000 rows a time keep the writer free for requests; repeat while full.
		for ctx.Err() == nil {
			n, err := s.deps.Store.Purge(ctx, s.deps.Now(), 7*24*time.Hour, 1000)
			if err != nil && ctx.Err() == nil {
				s.deps.Observer.Event(Event{At: s.deps.Now(), Name: "sweep", Outcome: "failed", Detail: err.Error()})
			}
			if err != nil || n < 1000 {
				break
			}
		}
	}
}

type silent struct{}

func (silent) Event(Event) {}
func (silent) Alert(Alert) {}

// connectionAddress is the peer of the connection.
func connectionAddress(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// url returns an absolute URL of the server: always below the configured public
// URL, never from a Host header.
func (p *policy) url(path string) string { return p.Issuer + path }

// resource finds a resource by the identifier a client sent: a trailing slash
// and an upper-case scheme or host do not matter (RS-12).
func (p *policy) resource(canonical string) *Resource {
	return p.resources[strings.TrimSuffix(canonical, "/")]
}
