package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/term"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/report"
)

// auditCmd tests one server.
type auditCmd struct {
	URL string `arg:"" optional:"" help:"The MCP server, for example https://mcp.example.com/mcp. With recorded traffic: the one to judge."`

	recordings

	Active     bool     `help:"Also register clients and change what can be deleted again (T2). Off loopback this needs --authorized or a proof of ownership."`
	Tiers      []string `help:"Tiers to run, instead of T0,T1 (and T2 with --active)." placeholder:"T0,T1"`
	Authorized string   `help:"Who allowed the active tests; recorded in the report." placeholder:"WHO"`
	OwnServer  bool     `help:"The server is your own: rate tests and more registrations."`
	Only       []string `help:"Run these checks only (keys or slugs)." placeholder:"F5-a,…"`

	ClientID        []string `sep:"none" help:"A client that the server knows already; repeatable." placeholder:"ID"`
	ClientSecretEnv []string `sep:"none" help:"Environment variable with that client's secret." placeholder:"VAR"`
	RedirectURI     []string `sep:"none" help:"A redirect URI of that client." placeholder:"URI"`

	Lab         bool   `help:"Allow loopback targets over plain http, without politeness pauses."`
	CA          string `help:"File with certificates to trust besides the system's (PEM)." type:"existingfile" placeholder:"FILE"`
	Thorough    bool   `help:"Every check, with up to 300 requests; for your own servers (--own-server) and labs."`
	MaxRequests int    `help:"Requests of the whole run, clean-up included. By default 20; 40 with --client-id, 60 with --active, 110 with a key of yours, 300 with --thorough, 1200 with a login." placeholder:"N"`

	TokenEnv  string `help:"Environment variable with a token or key of yours for the server, sent as bearer token: what needs no more than that is tested, without a login (T3)." placeholder:"VAR"`
	HeaderEnv string `help:"The same for a key in another header." placeholder:"X-Api-Key=VAR"`

	testers

	collector
	CanaryWait time.Duration `help:"How long the server gets to fetch what it was told of; two minutes, in a lab none." placeholder:"2m"`

	outputs
	HAR      string `name:"write-har" help:"Write the exchanges, redacted, as HAR." placeholder:"FILE"`
	Baseline string `help:"An earlier run (directory, id or JSON); only findings that are new against it count." placeholder:"RUN"`
	Suppress string `name:"config" help:"File with suppressions; kidoban.yaml where there is one." placeholder:"FILE"`
	Quiet    bool   `short:"q" help:"No status line and no report on the terminal."`
	Verbose  bool   `short:"v" help:"Where nothing answers, also what the system said."`
}

// Run audits and reports. Exit codes: 0 clean, 1 findings, 2 usage, 3
// incomplete, 4 internal error.
func (c auditCmd) Run(e *env) error {
	if err := places(c.JSON, c.HTML, c.SARIF, c.JUnit, c.Markdown, c.Badge, c.HAR); err != nil {
		return err
	}
	if c.given() {
		return c.runRecorded(e)
	}
	if c.URL == "" {
		return kidoban.Errorf(kidoban.KindUsage, "give the URL of an MCP server, or recorded traffic with --har, --burp or --pcap")
	}
	o, done, err := c.options(e)
	if err != nil {
		return err
	}
	defer done()
	accepted, base, err := c.known(e)
	if err != nil {
		return err
	}
	line := newStatusLine(e.stderr, c.Quiet)
	o.Progress = line.event
	calm := onInterrupt(e)
	rep, err := audit.Run(e.ctx, o, c.URL)
	calm()
	line.clear()
	if rep == nil {
		return err
	}
	interrupted := err != nil
	for _, l := range audit.Suppress(&rep.Run, accepted, time.Now()).Lines() {
		fmt.Fprintln(e.stderr, "kidoban: "+l)
	}
	if err := c.deliver(e, rep); err != nil {
		return err
	}
	if c.Verbose {
		tellCause(e, rep.Run)
	}
	switch {
	case interrupted:
		return exitError(exitInterrupted)
	case len(report.Failing(rep.Run, kidoban.Severity(c.FailOn), base)) > 0:
		return exitError(exitFindings)
	case rep.Target.Headline == kidoban.HeadlineUnreachable, rep.Target.Headline == kidoban.HeadlineNotMCP, rep.Target.Headline == kidoban.HeadlineMoved:
		return exitError(exitIncomplete)
	}
	return nil
}

// known is what must not fail the run: findings that were accepted, and the run that
// this one is compared with (nil: none).
func (c auditCmd) known(e *env) (accepted []report.Suppression, base *kidoban.Run, err error) {
	if accepted, err = suppressions(c.Suppress); err != nil || c.Baseline == "" {
		return accepted, nil, err
	}
	in, err := report.Load(report.RunsDir(e.env), c.Baseline)
	if err != nil {
		return nil, nil, err
	}
	return accepted, &in.Run, nil
}

// tellCause prints what the system said where nothing answered.
func tellCause(e *env, run kidoban.Run) {
	if run.Target.Cause != "" {
		fmt.Fprintln(e.stderr, "kidoban: what the system said: "+report.Clean(run.Target.Cause, 300))
	}
}

// onInterrupt says what happens after the first interruption, and lets a second one
// end the program at once. The returned function ends the watch.
func onInterrupt(e *env) (end func()) {
	said := make(chan struct{})
	stop := context.AfterFunc(e.ctx, func() {
		defer close(said)
		signal.Reset(os.Interrupt, syscall.SIGTERM)
		fmt.Fprintln(e.stderr, "\nkidoban: stopping: what was made on the server is being removed, for half a minute at most. Stop it again to leave at once; the next audit removes the rest.")
	})
	return func() {
		if !stop() {
			<-said
		}
	}
}

// suppressions reads the named file, or kidoban.yaml where there is one.
func suppressions(name string) ([]report.Suppression, error) {
	file := name
	if file == "" {
		file = "kidoban.yaml"
	}
	raw, err := os.ReadFile(file)
	if name == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "cannot read %s", file)
	}
	if name == "" && isGatewayConfig(raw) {
		return nil, nil
	}
	return report.ParseSuppressions(file, raw)
}

// isGatewayConfig says whether a kidoban.yaml that nobody named is a gateway's and
// no file of suppressions: both are called that, and an audit may be run beside it.
func isGatewayConfig(raw []byte) bool {
	var members map[string]any
	if err := yaml.Unmarshal(raw, &members); err != nil {
		return false
	}
	if _, ok := members["suppressions"]; ok {
		return false
	}
	t := reflect.TypeFor[gatewayConfig]()
	for i := range t.NumField() {
		if tag, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ","); tag != "" {
			if _, ok := members[tag]; ok {
				return true
			}
		}
	}
	return false
}

// options turns flags into the run's options. done releases the collector.
func (c auditCmd) options(e *env) (o audit.Options, done func(), err error) {
	done = func() {}
	if c.Thorough && !c.Lab && !c.OwnServer {
		return o, done, kidoban.Errorf(kidoban.KindUsage, "--thorough is for your own servers and labs: add --own-server or --lab")
	}
	o = audit.Options{Lab: c.Lab, Thorough: c.Thorough, CanaryWait: c.CanaryWait, Authorized: c.Authorized, OwnServer: c.OwnServer, MaxRequests: c.MaxRequests}
	if o.Tiers, err = parseTiers(c.Tiers, c.Active); err != nil {
		return o, done, err
	}
	for _, k := range c.Only {
		if _, ok := kidoban.CheckByKey(k); !ok {
			return o, done, kidoban.Errorf(kidoban.KindUsage, "there is no check %q: kidoban checks lists them", k)
		}
	}
	o.Only = c.Only
	if o.Clients, err = c.clients(e); err != nil {
		return o, done, err
	}
	if err = c.key(e, &o); err != nil {
		return o, done, err
	}
	if c.CA != "" {
		if o.RootCAs, err = trust(c.CA); err != nil {
			return o, done, err
		}
	}
	o.StateDir = filepath.Dir(report.RunsDir(e.env))
	closeCanary, err := c.collector.listen(e, &o)
	if err != nil {
		return o, done, err
	}
	done = closeCanary
	closeBrowser, err := c.testers.apply(e.ctx, e, &o)
	return o, func() { closeBrowser(); closeCanary() }, err
}

func parseTiers(names []string, active bool) ([]kidoban.Tier, error) {
	out := []kidoban.Tier{kidoban.T0, kidoban.T1}
	if len(names) > 0 {
		out = nil
	}
	for _, n := range names {
		t := kidoban.Tier(strings.ToUpper(strings.TrimSpace(n)))
		switch t {
		case kidoban.T0, kidoban.T1, kidoban.T2, kidoban.T3, kidoban.T4:
			out = append(out, t)
		default:
			return nil, kidoban.Errorf(kidoban.KindUsage, "%q is no tier; choose from T0, T1, T2, T3, T4", n)
		}
	}
	if active && len(names) == 0 {
		out = append(out, kidoban.T2)
	}
	return out, nil
}

func (c auditCmd) clients(e *env) ([]audit.PreRegistered, error) {
	if len(c.RedirectURI) != len(c.ClientID) || len(c.ClientSecretEnv) > len(c.ClientID) {
		return nil, kidoban.Errorf(kidoban.KindUsage, "give one --redirect-uri for each --client-id, and at most one --client-secret-env")
	}
	var out []audit.PreRegistered
	for i, id := range c.ClientID {
		p := audit.PreRegistered{ID: id, RedirectURI: c.RedirectURI[i]}
		if i < len(c.ClientSecretEnv) && c.ClientSecretEnv[i] != "" {
			if p.Secret = e.env(c.ClientSecretEnv[i]); p.Secret == "" {
				return nil, kidoban.Errorf(kidoban.KindUsage, "the environment variable %s is empty", c.ClientSecretEnv[i])
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// key reads the key that is handed over, and turns on what it is for.
func (c auditCmd) key(e *env, o *audit.Options) (err error) {
	if c.TokenEnv == "" && c.HeaderEnv == "" {
		return nil
	}
	header, variable, ok := strings.Cut(c.HeaderEnv, "=")
	scheme := ""
	if c.TokenEnv != "" {
		header, variable, scheme, ok = "Authorization", c.TokenEnv, "Bearer ", c.HeaderEnv == ""
	}
	switch {
	case !ok && c.TokenEnv != "":
		return kidoban.Errorf(kidoban.KindUsage, "one key opens the server: give --token-env or --header-env")
	case !ok:
		return kidoban.Errorf(kidoban.KindUsage, "write --header-env as NAME=VAR, for example X-Api-Key=MY_KEY")
	case c.testers.wanted():
		return kidoban.Errorf(kidoban.KindUsage, "either a key is handed over (--token-env, --header-env) or somebody logs in, not both")
	}
	value := e.env(variable)
	if value == "" {
		return kidoban.Errorf(kidoban.KindUsage, "the environment variable %s is empty", variable)
	}
	if o.Key, err = audit.NewKey(header, scheme+value); err != nil {
		return err
	}
	o.Tools = c.Tool
	if !slices.Contains(o.Tiers, kidoban.T3) {
		o.Tiers = append(o.Tiers, kidoban.T3)
	}
	return nil
}

func trust(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "cannot read %s", file)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, kidoban.Errorf(kidoban.KindUsage, "%s holds no certificate in PEM form", file)
	}
	return pool, nil
}

// deliver keeps the run, writes the files asked for and prints the report.
func (c auditCmd) deliver(e *env, rep *audit.Report) error {
	kept, err := audit.Save(report.RunsDir(e.env), rep)
	if err != nil {
		return err
	}
	in := report.Input{Run: rep.Run, Exchanges: rep.Exchanges, Shots: rep.Shots, Pages: flawPage, Regrade: audit.Grade}
	if err := c.outputs.write(e, in); err != nil {
		return err
	}
	if c.HAR != "" {
		if err := writeFile(e, c.HAR, 0o600, rep.WriteHAR); err != nil {
			return err
		}
	}
	for _, f := range []string{c.JSON, c.HTML, c.SARIF, c.JUnit, c.Markdown, c.Badge, c.HAR} {
		if f == "-" {
			return nil
		}
	}
	if c.Quiet {
		return nil
	}
	if err := terminal(e).Write(e.stdout, in); err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stderr, "kept: kidoban report %s shows it again, --html FILE writes it as a page\n", filepath.Base(kept))
	return err
}

func isTerminal(w io.Writer) bool {
	f, ok := file(w)
	return ok && term.IsTerminal(int(f.Fd()))
}

// statusLine is one line that changes in place on a terminal; elsewhere there is
// none.
type statusLine struct {
	w   io.Writer
	on  bool
	out bytes.Buffer
}

func newStatusLine(w io.Writer, quiet bool) *statusLine {
	return &statusLine{w: w, on: !quiet && isTerminal(w)}
}

func (l *statusLine) event(ev audit.Event) {
	if !l.on {
		return
	}
	text := ev.Stage
	switch ev.Stage {
	case "discover":
		text = "looking at what is there"
	case "probe":
		text = fmt.Sprintf("[%d/%d] %s", ev.Done+1, ev.Of, ev.Probe)
	case "clean-up":
		text = "cleaning up"
	}
	l.out.Reset()
	fmt.Fprintf(&l.out, "\r\x1b[K%s · %d of at most %d requests", text, ev.Requests, ev.Budget)
	l.w.Write(l.out.Bytes())
}

func (l *statusLine) clear() {
	if l.on {
		io.WriteString(l.w, "\r\x1b[K")
	}
}
