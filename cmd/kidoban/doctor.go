package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/audit/browser"
	"github.com/kidoban/kidoban/outbound/freeport"
	"github.com/kidoban/kidoban/report"
)

// doctorCmd turns the audit on the gateway: on a running one, or on a fresh one
// with its defaults.
type doctorCmd struct {
	URL       string `arg:"" optional:"" help:"A running gateway's MCP address. Two users of yours (--login-as, --second-login-as) let every tier run."`
	Self      bool   `help:"Start a fresh gateway with its defaults on loopback and audit that."`
	Database  string `help:"With --self: postgres:// URL of an empty database, instead of SQLite." placeholder:"URL"`
	JSON      bool   `name:"json" help:"Print the JSON contract (kidoban.audit/1) instead of the report."`
	NoBrowser bool   `help:"Pass the pages by their forms alone, without Chromium: consent is then judged by its HTML."`
	HTML      string `name:"html" placeholder:"FILE" help:"Also write the report as one HTML file."`
	Verbose   bool   `short:"v" help:"Where nothing answers, also what the system said."`
	collector
	testers
}

// doctorRequests lets every probe run: the server is ours.
const doctorRequests = 2000

// Run audits and exits with 1 on any finding, weak ones included, and with 3 when no
// server that asks for authorization was found.
func (c doctorCmd) Run(e *env) error {
	switch {
	case c.Self && c.URL != "":
		return kidoban.Errorf(kidoban.KindUsage, "doctor audits either a running gateway (a URL) or a fresh one (--self), not both")
	case !c.Self && c.URL == "":
		return kidoban.Errorf(kidoban.KindUsage, "doctor needs the MCP address of a running gateway, or --self for a fresh one")
	}
	if c.Self && (c.wanted() || c.collector != collector{}) {
		return kidoban.Errorf(kidoban.KindUsage, "--self makes its own accounts and collector: leave the options for them out")
	}
	if err := places(c.HTML); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kidoban-doctor-")
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "no temporary directory")
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	o := audit.Options{Tiers: []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T2}, Lab: c.Self || loopbackURL(c.URL), OwnServer: true,
		Authorized: "kidoban doctor: the operator's own gateway", StateDir: filepath.Join(dir, "ledger"), MaxRequests: doctorRequests}
	target := c.URL
	var done func()
	if c.Self {
		target, done, err = c.self(ctx, dir, &o)
	} else {
		done, err = c.running(ctx, e, &o)
	}
	if err != nil {
		return err
	}
	defer done()
	rep, err := audit.Run(ctx, o, target)
	if err != nil {
		return err
	}
	if err := c.tell(e, report.Input{Run: rep.Run, Exchanges: rep.Exchanges, Pages: flawPage, Regrade: audit.Grade}); err != nil {
		return err
	}
	if c.Verbose {
		tellCause(e, rep.Run)
	}
	for _, r := range rep.Results {
		if r.Suppressed == "" && (r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak) {
			return exitError(exitFindings)
		}
	}
	if rep.Target.Headline != kidoban.HeadlineGraded { // nothing was found because nothing was there
		return exitError(exitIncomplete)
	}
	return nil
}

// running lets the people and the collector of the operator's take part.
func (c doctorCmd) running(ctx context.Context, e *env, o *audit.Options) (done func(), err error) {
	closeCollector, err := c.collector.listen(e, o)
	if err != nil {
		return nil, err
	}
	closeBrowser, err := c.testers.apply(ctx, e, o)
	if err != nil {
		closeCollector()
		return nil, err
	}
	return func() { closeBrowser(); closeCollector() }, nil
}

// self starts a fresh gateway and gives the audit two people, a browser and a
// collector for it. done ends all of them.
func (c doctorCmd) self(ctx context.Context, dir string, o *audit.Options) (target string, done func(), err error) {
	var ends []func()
	done = func() {
		for _, end := range slices.Backward(ends) {
			end()
		}
	}
	defer func() {
		if err != nil {
			done()
		}
	}()
	cert, roots, err := loopbackCertificate(rand.Reader, time.Now())
	if err != nil {
		return "", nil, err
	}
	var driver browser.Driver
	if !c.NoBrowser {
		b, err := browser.StartChromium(ctx, browser.ChromiumOptions{Lab: true})
		if err != nil {
			return "", nil, kidoban.Wrap(kidoban.KindUsage, err, "the consent page is judged in Chromium, which cannot be started; install it, or use --no-browser")
		}
		ends = append(ends, b.Close)
		driver = b
	}
	p, err := admit(ctx, filepath.Join(dir, "gateway"), c.Database, roots)
	if err != nil {
		return "", nil, err
	}
	ends = append(ends, p.release)
	person := func(i int) *audit.Tester {
		return &audit.Tester{Account: browser.Account{User: p.users[i], Password: p.secret}, Browser: driver}
	}
	o.Tiers = append(o.Tiers, kidoban.T3, kidoban.T4)
	o.Login, o.Second, o.SecondURL = person(0), person(1), p.second
	o.Tools = []string{"list_notes", "add_note", "whoami"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, kidoban.Wrap(kidoban.KindInternal, err, "the collector cannot listen on loopback")
	}
	o.Canary = audit.ServeCanary(ctx, tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}), "https://"+l.Addr().String())
	ends = append(ends, func() { o.Canary.Close() })
	return p.url, done, nil
}

// loopbackURL tells whether an address is on this machine.
func loopbackURL(raw string) bool {
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && a.IsLoopback()
}

// tell prints the findings in the form asked for.
func (c doctorCmd) tell(e *env, in report.Input) error {
	if err := (outputs{HTML: c.HTML}).write(e, in); err != nil {
		return err
	}
	if c.JSON {
		return report.JSON(e.stdout, in.Run)
	}
	if err := terminal(e).Write(e.stdout, in); err != nil {
		return err
	}
	if in.Run.Target.Headline == kidoban.HeadlineGraded {
		c.tellReach(e.stdout, in.Run.Results)
	}
	return nil
}

// patient is a gateway that the doctor started, with a server behind it.
type patient struct {
	url     string
	second  string   // another resource of the same gateway
	users   []string // alice, bob
	secret  string   // the password of both
	release func()
}

// patientSecret is the password of the doctor's accounts: they live as long as
// the examination, on loopback, in a database that is thrown away.
const patientSecret = "only for this examination 4711"

// admit starts a gateway with its defaults before a small MCP server, and makes
// two accounts as people would: through the set-up link's page.
func admit(ctx context.Context, dir, database string, roots *x509.CertPool) (*patient, error) {
	behind, stop, err := smallServer()
	if err != nil {
		return nil, err
	}
	at, err := freeport.Loopback()
	if err != nil {
		stop()
		return nil, err
	}
	addr := at.String()
	// Everything is default but the limits that hold a person back: the examination
	// does in seconds what two people do in days. The limits on registrations and on
	// wrong passwords stay, they are part of what is examined.
	fast := limitConfig{Count: 6000, Per: span(time.Minute), Burst: 2000}
	limits := map[string]limitConfig{}
	for _, name := range []string{"authorize_per_ip", "token_per_ip", "token_per_client", "revoke_per_ip",
		"login_per_ip", "login_per_prefix", "consent_per_user", "document_per_source", "document_per_host", "document_global"} {
		limits[name] = fast
	}
	conf := gatewayConfig{Listen: addr, Data: dir, Database: database,
		Limits:  limits,
		Servers: map[string]serverConfig{"demo": {URL: behind, Address: "loopback"}, "other": {URL: behind, Address: "loopback"}}}
	p, _, err := admitWith(ctx, conf, roots)
	if err != nil {
		stop()
		return nil, err
	}
	release := p.release
	p.url, p.second = "http://"+addr+"/s/demo/mcp", "http://"+addr+"/s/other/mcp"
	p.release = func() { release(); stop() }
	return p, nil
}

// admitWith starts a gateway with a config and makes the two accounts.
func admitWith(ctx context.Context, conf gatewayConfig, roots *x509.CertPool) (*patient, *service, error) {
	conf, err := conf.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	s, err := openService(ctx, conf, quietLog(), roots)
	if err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("tcp", conf.Listen)
	if err != nil {
		s.close()
		return nil, nil, kidoban.Wrap(kidoban.KindInternal, err, "the fresh gateway cannot listen on %s", conf.Listen)
	}
	srv := &http.Server{Handler: s.front, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	s.ready.Store(true)
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(l) }()
	p := &patient{users: []string{"alice", "bob"}, secret: patientSecret}
	p.release = func() {
		_ = srv.Close()
		<-served
		s.close()
	}
	if err := p.accounts(ctx, s); err != nil {
		p.release()
		return nil, nil, err
	}
	return p, s, nil
}

// quietLog is a log that says nothing.
func quietLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// accounts makes alice the first administrator and bob an ordinary user.
func (p *patient) accounts(ctx context.Context, s *service) error {
	link, err := s.as.SetupLink(ctx)
	if err != nil {
		return err
	}
	if link == "" {
		return kidoban.Errorf(kidoban.KindUsage, "the database has users already; doctor --self wants an empty one")
	}
	if err := setPassword(ctx, link, p.users[0], p.secret); err != nil {
		return err
	}
	if link, err = s.as.AddUser(ctx, p.users[1], false); err != nil {
		return err
	}
	return setPassword(ctx, link, p.users[1], p.secret)
}

// loopbackCertificate makes a certificate for 127.0.0.1 that lives for an hour,
// and the pool that trusts it and nothing else. Client documents are https only,
// so the collector needs one.
func loopbackCertificate(random io.Reader, now time.Time) (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "kidoban doctor"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(random, t, t, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots, nil
}

type noteIn struct {
	Text string `json:"text" jsonschema:"the text of the note"`
}

// smallServer is the MCP server behind the examined gateway: it reads and writes
// notes of nobody in particular, and listens on loopback without authorization.
func smallServer() (string, func(), error) {
	s := mcp.NewServer(&mcp.Implementation{Name: "notes", Version: "1.0.0"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "list_notes", Description: "Lists the notes.", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "no notes"}}}, nil, nil
		})
	mcp.AddTool(s, &mcp.Tool{Name: "add_note", Description: "Adds a note."},
		func(_ context.Context, _ *mcp.CallToolRequest, in noteIn) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf("kept %d characters", len(in.Text))}}}, nil, nil
		})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{Handler: mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(l) }()
	stop := func() {
		_ = srv.Close()
		<-served
	}
	return "http://" + l.Addr().String() + "/mcp", stop, nil
}
