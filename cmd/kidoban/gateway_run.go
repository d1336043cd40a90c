package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/account"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/console"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/sandbox"
	"github.com/kidoban/kidoban/solo"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/vault"
)

type gatewayRunCmd struct {
	gatewayFile
	LogJSON bool   `name:"log-json" help:"Write the log as JSON lines."`
	Verbose bool   `help:"Also log what stdio servers write to their standard error, which may hold what they were told, and connections that break."`
	Record  string `placeholder:"FILE" help:"Record what passes the gateway's door as HAR, secrets masked, for kidoban audit --har."`
}

// Run serves until the context ends.
func (c gatewayRunCmd) Run(e *env) error {
	read := onDisk(c.Config) // before it is read: a change meanwhile is one
	conf, err := c.load()
	if err != nil {
		return err
	}
	files := follows(c.Config, read, conf.files())
	for _, f := range conf.check() {
		if f.Fail {
			return kidoban.Errorf(kidoban.KindUsage, "%s (kidoban gateway check lists everything)", f.Text)
		}
		fmt.Fprintf(e.stderr, "kidoban: warning: %s\n", f.Text)
	}
	release, err := holdData(conf)
	if err != nil {
		return err
	}
	defer release()
	level := &slog.HandlerOptions{Level: slog.LevelInfo}
	if c.Verbose {
		level.Level = slog.LevelDebug
	}
	var handler slog.Handler = slog.NewTextHandler(e.stderr, level)
	if c.LogJSON {
		handler = slog.NewJSONHandler(e.stderr, level)
	}
	s, err := openService(e.ctx, conf, slog.New(handler), nil)
	if err != nil {
		return err
	}
	defer s.close()
	s.files = files
	if c.Record == "" {
		return s.serve(e, c.gatewayFile)
	}
	done, err := s.record(c.Record)
	if err != nil {
		return err
	}
	return errors.Join(s.serve(e, c.gatewayFile), done())
}

// service is a gateway with everything that belongs to it.
type service struct {
	conf     gatewayConfig                 // as at the start
	current  atomic.Pointer[gatewayConfig] // in force
	log      *slog.Logger
	db       *store.DB
	vault    *vault.Vault
	out      *outbound.Client
	as       *authserver.Server
	gate     *gateway.Gateway
	box      *sandbox.Host
	journal  *gateway.Journal
	wallet   *account.Wallet
	outlets  *outlets
	replicas *store.Replicas // nil for SQLite
	decide   decisionMaking
	meters   *console.Meters
	console  *console.Server
	front    http.Handler
	solo     *solo.Mode // nil: calls of a single caller are served like any
	proxies  atomic.Pointer[[]netip.Prefix]
	cert     atomic.Pointer[tls.Certificate] // what the listener shows; of serve
	ready    atomic.Bool
	files    followed           // the config and what it names; of serve
	again    time.Time          // when a changed config is tried once more; zero: it need not be; of serve
	rest     context.CancelFunc // ends the housekeeping
	raised   chan kidoban.Alert // on their way from watch to raise
	resting  sync.WaitGroup
}

// openService puts the rooms together. On an error nothing stays open.
//
// roots, when not nil, are the certificate authorities that fetched documents may
// be signed by, in place of the system's.
func openService(ctx context.Context, conf gatewayConfig, log *slog.Logger, roots *x509.CertPool) (s *service, err error) {
	s = &service{conf: conf, log: log, solo: solo.New(time.Now), raised: make(chan kidoban.Alert, 64)}
	s.current.Store(&conf)
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.db, err = openStore(ctx, conf); err != nil {
		return s, err
	}
	if s.vault, err = openVault(ctx, conf, s.db); err != nil {
		return s, err
	}
	clock := &clockWatch{db: s.db, now: time.Now, log: s.log}
	if s.db.Postgres() {
		clock.look(ctx) // before an account is renewed
	}
	s.wallet = account.New(account.Options{Store: s.db, Vault: s.vault, Renew: s.renewLogin, Shared: clock.shared})
	s.out = outbound.New(outbound.Options{Lab: strings.HasPrefix(conf.PublicURL, "http://"), RootCAs: roots})
	chain := "gateway"
	if s.db.Postgres() {
		chain = conf.Instance
	}
	s.meters = console.NewMeters(s.db, s.log, time.Now)
	if s.outlets, err = openOutlets(ctx, conf, log); err != nil {
		return s, err
	}
	if s.journal, err = gateway.OpenJournal(ctx, s.db, chain, append(s.outlets.watchers(), s.watch, s.meters.Count)...); err != nil {
		return s, err
	}
	s.outlets.waiting.Store(s.journal)
	s.setProxies(conf)
	apps, err := conf.apps()
	if err != nil {
		return s, err
	}
	s.wallet.SetApps(apps)
	gc, err := conf.gateway()
	if err != nil {
		return s, err
	}
	ac, err := conf.authserver(gc)
	if err != nil {
		return s, err
	}
	if s.as, err = authserver.New(ctx, ac, authserver.Deps{Console: conf.consolePath(), Store: s.db, Sealer: sealer{s.vault}, Outbound: s.out, Observer: observer{s}, Upstream: upstreams{s}, Proof: s.keepLogin, Renew: s.askProvider, Describe: s.describe, Covers: s.covers, Address: s.address}); err != nil {
		return s, err
	}
	key, err := s.stateKey(ctx)
	if err != nil {
		return s, err
	}
	if err := s.openDecisions(conf, key); err != nil {
		return s, err
	}
	s.box = sandbox.NewHost(sandbox.Options{Stderr: func(server string, piece []byte) {
		log.Debug("stdio server", "server", server, "says", string(piece))
	}})
	deps := gateway.Deps{Guards: s.guards(conf), Coverage: grantCoverage{s},
		Keys: s.as.KeySet(), Liveness: s.as.Liveness(), Accounts: s.wallet, Journal: s.journal, Sandbox: s.box,
		StateKey: key, Once: s.db, Connect: s.connect, Pages: true, Alert: s.as.Raise, Address: s.address, Log: log, Notes: s.db, Dialed: s.solo.Upstream,
	}
	if s.replicas = s.db.Replicas(); s.replicas != nil {
		deps.Replicas, deps.Rates = s.replicas, s.as.Rates()
	}
	s.gate, err = gateway.New(gc, deps)
	if err != nil {
		return s, err
	}
	if err := s.fixCoverage(ctx, conf); err != nil {
		return s, err
	}
	s.openConsole(time.Now())
	s.front = s.solo.Handler(s.routes())
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.rest = stop
	s.resting.Go(func() { s.trim(run) })
	s.resting.Go(func() { s.raise(run) })
	s.outlets.clock.Store(clock)
	s.resting.Go(func() { clock.run(run) })
	return s, nil
}

// watch shows the authorization server how access is used (G-RG8), whose own
// records come before it is there and are not meant, and turns the refusals of a
// server that is down into an alert. It runs on the path of calls and never
// waits: what finds no room is recorded all the same, and told the next time.
func (s *service) watch(r gateway.Record) {
	if r.Grant != "" && !strings.HasPrefix(r.Method, "auth:") {
		s.as.Used(authserver.Use{Grant: r.Grant, User: r.User, Address: r.Address, At: r.At})
	}
	if r.Rule != "breaker" {
		return
	}
	select {
	case s.raised <- kidoban.NewAlert(kidoban.AlertServerDown, r.Server, kidoban.AlertWords{"server": r.Server}):
	default:
	}
}

// raise hands the alerts of watch on, until ctx ends.
func (s *service) raise(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-s.raised:
			s.as.Raise(ctx, a)
		}
	}
}

// close ends everything in the reverse order of its making.
func (s *service) close() {
	if s.rest != nil {
		s.rest()
		s.resting.Wait()
	}
	if s.gate != nil {
		s.gate.Close()
	}
	if s.box != nil {
		s.box.Close()
	}
	if s.wallet != nil {
		s.wallet.Close() // before the way out that renewals of logins take
	}
	if s.as != nil {
		s.as.Close()
	}
	if s.out != nil {
		s.out.Close()
	}
	if s.meters != nil {
		s.meters.Close()
	}
	if s.journal != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.journal.Close(ctx); err != nil {
			s.log.Error("audit log", "error", err)
		}
	}
	if s.replicas != nil {
		s.replicas.Close()
	}
	if s.outlets != nil {
		s.outlets.close()
	}
	if s.db != nil {
		s.db.Close()
	}
}

// config is the config in force.
func (s *service) config() gatewayConfig { return *s.current.Load() }

// sealer lends the vault to the authorization server.
type sealer struct{ v *vault.Vault }

// Seal implements authserver.Sealer.
func (s sealer) Seal(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	return s.v.Seal(ctx, vault.Owner{Server: "authorization server", Issuer: string(ad)}, plaintext)
}

// Open implements authserver.Sealer.
func (s sealer) Open(ctx context.Context, sealed, ad []byte) ([]byte, error) {
	return s.v.Unseal(ctx, vault.Owner{Server: "authorization server", Issuer: string(ad)}, sealed)
}

// stateKey is the key for sessions, the same on every replica.
func (s *service) stateKey(ctx context.Context) ([]byte, error) {
	owner := vault.Owner{Server: "gateway", Issuer: "state key"}
	fresh := make([]byte, 32)
	if _, err := rand.Read(fresh); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "no randomness")
	}
	sealed, err := s.vault.Seal(ctx, owner, fresh)
	if err != nil {
		return nil, err
	}
	if sealed, err = s.db.Secret(ctx, "gateway state key", sealed); err != nil {
		return nil, err
	}
	return s.vault.Unseal(ctx, owner, sealed)
}

// connect is the page on which a user connects the accounts of a server.
func (s *service) connect(user, server string) string {
	resource := s.conf.PublicURL + "/mcp"
	if server != "" {
		resource = s.conf.PublicURL + "/s/" + server + "/mcp"
	}
	u, err := s.as.ConnectURL(user, resource)
	if err != nil {
		s.log.Error("connect page", "error", err)
		return s.conf.PublicURL + "/account"
	}
	return u
}

// observer writes what the authorization server sees into the audit log and the log.
type observer struct{ s *service }

// Event implements authserver.Observer.
func (o observer) Event(e authserver.Event) {
	addr, _ := netip.ParseAddr(e.Address)
	detail := strings.Join(strings.Fields(strings.Join([]string{e.Code, e.Host, strings.Join(e.Scopes, " "), e.Detail}, " ")), " ")
	o.s.journal.Append(context.Background(), gateway.Record{ID: e.RequestID, At: e.At, Address: addr, User: e.UserID, Client: e.ClientID, Grant: e.GrantID,
		Server: e.Resource, Method: "auth:" + e.Name, Decision: e.Outcome, Detail: detail})
}

// Alert implements authserver.Observer.
func (o observer) Alert(a authserver.Alert) {
	o.s.outlets.alert(a)
	o.s.log.Warn("alert", "kind", a.Kind, "severity", a.Kind.Severity(), "subject", a.Subject, "what", a.Text, "do", a.Do)
	o.s.journal.Append(context.Background(), gateway.Record{ID: a.ID, At: a.At, Method: "alert", Name: string(a.Kind), Decision: "alert", Detail: a.Subject + ": " + a.Text})
}

func (s *service) setProxies(conf gatewayConfig) {
	var out []netip.Prefix
	for _, p := range conf.Proxies {
		if pre, err := netip.ParsePrefix(p); err == nil { // check has refused others
			out = append(out, pre)
		}
	}
	s.proxies.Store(&out)
}

// address is the client's: the connection's peer, or, when that is a trusted
// proxy, the last address in X-Forwarded-For that is not one.
func (s *service) address(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := ap.Addr().Unmap()
	proxies := *s.proxies.Load()
	trusted := func(a netip.Addr) bool {
		for _, p := range proxies {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	if !trusted(addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		a, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			return addr
		}
		if addr = a.Unmap(); !trusted(addr) {
			return addr
		}
	}
	return addr
}

// routes sends MCP to the gateway and everything else to the authorization server.
func (s *service) routes() http.Handler {
	pages, decisions, console := s.gate.Protect(s.as), s.gate.Protect(s.decide.pages), s.gate.Protect(s.console)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/healthz":
			fmt.Fprintln(w, "ok")
		case r.URL.Path == "/readyz":
			s.readyz(w, r)
		case s.gate.Serves(r.URL.EscapedPath()):
			s.gate.ServeHTTP(w, r)
		case s.conf.Open:
			http.NotFound(w, r)
		case r.URL.Path == documentPath:
			s.clientDocument(w, r)
		case s.decide.pages.Serves(r.URL.Path):
			decisions.ServeHTTP(w, r)
		case s.console.Serves(r.URL.Path):
			console.ServeHTTP(w, r)
		default:
			pages.ServeHTTP(w, r)
		}
	})
}

// readyz tells a load balancer whether to send requests here.
func (s *service) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if !s.ready.Load() {
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	}
	if _, err := s.db.Users(ctx, "", 1); err != nil {
		http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
		return
	}
	if _, err := s.as.Liveness().Live("", ""); err != nil {
		http.Error(w, "revocations cannot be read", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// serve listens, tells how to connect, follows the config, and drains at the end.
func (s *service) serve(e *env, file gatewayFile) error {
	l, err := net.Listen("tcp", s.conf.Listen)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the gateway cannot listen on %s; choose another address with listen or --listen", s.conf.Listen)
	}
	l = solo.Listener{Listener: narrow{l}, Mode: s.solo}
	server := &http.Server{Handler: s.front, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	if s.conf.TLS.Cert != "" {
		if err := s.readCertificate(s.conf.TLS); err != nil {
			l.Close()
			return err
		}
		shown := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.Load(), nil }
		l = tls.NewListener(l, &tls.Config{GetCertificate: shown, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}})
	}
	if err := s.greet(e); err != nil {
		l.Close()
		return err
	}
	if runtime.GOMAXPROCS(0) < 2 { // on one processor, too, a small call goes before what takes long
		runtime.GOMAXPROCS(2)
	}
	s.ready.Store(true)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	lean, stop := context.WithCancel(e.ctx)
	defer stop()
	collectMore(lean)
	s.resting.Go(func() { stayLean(lean) })
	s.solo.Allow(on(s.conf.BusyPolling))
	s.resting.Go(func() { s.solo.Run(lean) })
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	tick := time.NewTicker(fileEvery)
	defer tick.Stop()
	keys := time.NewTicker(vaultReload)
	defer keys.Stop()
	for {
		select {
		case err := <-failed:
			return kidoban.Wrap(kidoban.KindInternal, err, "the gateway stopped listening")
		case <-hup:
			s.reload(e, file)
		case <-keys.C:
			if err := s.vault.Reload(e.ctx); err != nil {
				s.log.Warn("the vault's keys cannot be read again; those in memory stay in use", "error", err)
			}
		case <-tick.C:
			if s.files.changed(onDisk(s.files.names...)) {
				s.reload(e, file)
			} else {
				s.tryAgain(e, file)
			}
		case <-e.ctx.Done():
			return s.drain(server)
		}
	}
}

// vaultReload is how soon a running gateway seals with a key that was made by
// kidoban vault rotate.
const vaultReload = 30 * time.Second

// drain ends the service without breaking what is under way. First it says for a
// while that it will: a balancer asks now and then, and until it has heard it sends
// connections here, which nobody would take once the port is closed.
func (s *service) drain(server *http.Server) error {
	s.ready.Store(false)
	conf := s.config()
	time.Sleep(time.Duration(*conf.Notice))
	s.gate.Drain()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(conf.Drain))
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		server.Close()
	}
	s.gate.Rest(ctx)
	return nil
}

// greet tells what a person needs next: the set-up link and the line to paste.
func (s *service) greet(e *env) error {
	w := io.Writer(e.stdout)
	fmt.Fprintf(w, "kidoban gateway %s on %s (%s)\n", kidoban.Version, s.conf.PublicURL, kidoban.Count(len(s.conf.Servers), "server", "servers"))
	if s.conf.Open {
		fmt.Fprintln(w, "Authorization is OFF.")
	} else {
		link, err := s.as.SetupLink(e.ctx)
		if err != nil {
			return err
		}
		if link != "" {
			fmt.Fprintf(w, "\nFirst make your account (this link works once, for a day):\n  %s\n", link)
		}
	}
	if !s.conf.Open {
		fmt.Fprintf(w, "\nThe console, for you and your users:\n  %s\n", s.conf.PublicURL+"/console")
	}
	ends := s.conf.endpoints()
	if len(ends) == 0 {
		return nil // no address to connect to: the warning says so
	}
	fmt.Fprintf(w, "\nThen paste this into a terminal (Claude Code):\n  claude mcp add --transport http %s %s\nor into another client's configuration:\n  {\"mcpServers\":{\"%s\":{\"url\":\"%s\"}}}\n", ends[0].Name, ends[0].URL, ends[0].Name, ends[0].URL)
	if !s.conf.Open {
		fmt.Fprintf(w, "Codex, Gemini CLI, Cursor, VS Code: %s/console/start\n", s.conf.PublicURL)
	}
	return nil
}
