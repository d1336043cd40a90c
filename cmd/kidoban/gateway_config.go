package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/sandbox"
)

// gatewayConfig is the gateway's YAML file. The doc tags are the descriptions in
// the published JSON Schema; nothing else is accepted in the file.
type gatewayConfig struct {
	PublicURL    string                  `yaml:"public_url" doc:"What clients see: https, or http on loopback. Default: http:// and the listen address."`
	Listen       string                  `yaml:"listen" doc:"Address and port to listen on. Default 127.0.0.1:8787."`
	Data         string                  `yaml:"data" doc:"Directory for the database and the key. Default: kidoban in the user's configuration directory."`
	Database     string                  `yaml:"database" doc:"postgres:// URL or path of an SQLite file. Default: kidoban.db in the data directory."`
	DatabaseFile string                  `yaml:"database_file" doc:"File that holds the database URL, since that holds a password."`
	Instance     string                  `yaml:"instance" doc:"Name of this process in the audit log, when several share a database. Default: the host name."`
	Name         string                  `yaml:"name" doc:"Shown on pages. Default Kidoban."`
	VaultKey     string                  `yaml:"vault_key" doc:"Where the key that seals secrets lives: file:PATH, keychain:ACCOUNT, or sealed in the database by a key management service: hcvault://HOST:PORT/transit/keys/NAME, gcp-kms://projects/…/cryptoKeys/NAME, aws-kms://arn:aws:kms:…. Default: vault.key in the data directory."`
	TLS          tlsConfig               `yaml:"tls" doc:"Certificate for listening with TLS."`
	Proxies      []string                `yaml:"trusted_proxies" doc:"Address ranges of reverse proxies whose X-Forwarded-For is believed."`
	Hosts        []string                `yaml:"hosts" doc:"Host names accepted beside that of the public URL."`
	Origins      []string                `yaml:"origins" doc:"Browser origins that may call MCP endpoints."`
	Aggregate    *bool                   `yaml:"aggregate" doc:"Whether <public_url>/mcp offers all servers at once. Default true."`
	Open         bool                    `yaml:"open" doc:"Switches authorization off. Only on a loopback listen address."`
	Servers      map[string]serverConfig `yaml:"servers" doc:"The MCP servers behind the gateway, by name."`
	Tools        toolsConfig             `yaml:"tools" doc:"How definitions of tools are trusted."`
	Policy       policyConfig            `yaml:"policy" doc:"Who may do what, and what a person must approve."`
	Registration registrationConfig      `yaml:"registration" doc:"Who may become a client."`
	Login        loginConfig             `yaml:"login" doc:"How people prove who they are."`
	Tokens       tokensConfig            `yaml:"tokens" doc:"Lifetimes."`
	Clients      []clientConfig          `yaml:"clients" doc:"Clients that the operator registered."`
	Limits       map[string]limitConfig  `yaml:"limits" doc:"Rates by name; the names and their defaults stand at the end of docs/config.md."`
	Telemetry    telemetryConfig         `yaml:"telemetry" doc:"What monitoring systems are told."`
	Alerts       alertsConfig            `yaml:"alerts" doc:"Who is told of alerts."`
	BusyPolling  *bool                   `yaml:"busy_polling" doc:"Whether, while one connection alone calls, call after call, the gateway looks for the next bytes for a moment before it sleeps, and uses one processor. Default true."`
	AuditKeep    span                    `yaml:"audit_keep" doc:"How long the audit log keeps records, such as 8760h for a year. What goes leaves a checkpoint from which the rest is verified. Default: for ever."`
	Notice       *span                   `yaml:"notice" doc:"At the end, how long /readyz says 503 while everything is served as before, so that a load balancer sends no more. Default 3s with PostgreSQL, else nothing."`
	Drain        span                    `yaml:"drain" doc:"How long calls under way may take at the end. Default 20s."`
}

type tlsConfig struct {
	Cert string `yaml:"cert" doc:"PEM file with the certificate chain."`
	Key  string `yaml:"key" doc:"PEM file with the private key."`
}

// load reads the certificate and its key. KindUsage when they cannot be used.
func (t tlsConfig) load() (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	return pair, kidoban.Wrap(kidoban.KindUsage, err, "the TLS certificate %s with the key %s cannot be used", t.Cert, t.Key)
}

type toolsConfig struct {
	Trust string `yaml:"trust" enum:"first-use,review" doc:"Whether the first list of a server is approved, but for what the scanner flags, or waits for a person. Default first-use. What changes later always waits."`
}

type serverConfig struct {
	Title     string            `yaml:"title" doc:"For people. Default: the name."`
	URL       string            `yaml:"url" doc:"Address of a remote server."`
	Transport string            `yaml:"transport" enum:"http,sse,stdio" doc:"Default http with a url, stdio with a command."`
	Era       string            `yaml:"era" enum:"legacy,modern" doc:"Fixes the protocol era; found out by default."`
	Scopes    []string          `yaml:"scopes" doc:"A token needs one of them. Default mcp:read and mcp:write."`
	Address   string            `yaml:"address" enum:"public,loopback,private" doc:"Which addresses the url may lead to. Default public."`
	Headers   map[string]string `yaml:"headers" doc:"Fixed headers without secrets."`
	Account   string            `yaml:"account" enum:"none,shared,user" doc:"How the gateway shows itself to the server. Default none."`
	Pages     string            `yaml:"pages" enum:"through,direct" doc:"How a person gets to a page that the server wants opened (URL elicitation): through a page of the gateway, which tells who asks and where it leads and serves only the user who was asked, or direct. Default through."`
	OAuth     oauthConfig       `yaml:"oauth" doc:"Where accounts come from; without it they are fixed secrets in the vault."`
	Command   []string          `yaml:"command" doc:"Command line of a stdio server."`
	Env       map[string]string `yaml:"env" doc:"Its environment, besides PATH, HOME, TMPDIR and LANG. No secrets."`
	Dir       string            `yaml:"dir" doc:"Its working directory."`
	Read      []string          `yaml:"read" doc:"Directories and files it may read and run."`
	Write     []string          `yaml:"write" doc:"Directories and files it may read and write."`
	Network   string            `yaml:"network" enum:"none,out" doc:"Default none."`
	Ports     []uint16          `yaml:"ports" doc:"With network out: the only TCP ports it may reach."`
	Runner    string            `yaml:"runner" enum:"box,docker,podman,none" doc:"Default box. none is no box at all."`
	Image     string            `yaml:"image" doc:"Container image for docker and podman."`
	Shared    bool              `yaml:"shared" doc:"All users share its processes."`
	Processes int               `yaml:"processes" doc:"At most so many processes. Default 16."`
	Idle      span              `yaml:"idle" doc:"After so long without calls a process ends. Default 5m."`
	Wait      span              `yaml:"wait" doc:"How long it may take to begin an answer. Default 60s."`
	Rate      int64             `yaml:"mib_per_second" doc:"How fast its long answers are relayed, all together; one user gets half of it. The first 16 KiB of an answer are not counted. Default 4."`
	Breaker   breakerConfig     `yaml:"breaker" doc:"When a server that fails is left alone."`
	MemoryMiB int64             `yaml:"memory_mib" doc:"Memory of one process with all it starts. Default 1024."`
	UID       int               `yaml:"uid" doc:"User to run as when the gateway runs as root. Default: one that nobody else is."`
	Tasks     int               `yaml:"tasks" doc:"Processes and threads of it. Default 128."`
	Arguments argumentsConfig   `yaml:"arguments" doc:"How arguments of its tools are guarded."`
	Results   resultsConfig     `yaml:"results" doc:"How what comes back is guarded."`

	Labels  map[string][]string `yaml:"labels" doc:"Tools and resources by label, as patterns with *: untrusted, private, sends, reaches, unclear, or labels of your own. A label that stands here holds for exactly those."`
	Sources sourcesConfig       `yaml:"sources" doc:"What may be read through this server. Default: everything."`
}

type breakerConfig struct {
	Failures int  `yaml:"failures" doc:"Failures in a row. Default 5."`
	Longest  span `yaml:"longest" doc:"It is asked again after a second, then after twice as long each time, and after this at the latest. Default 1m."`
}

type limitConfig struct {
	Count int  `yaml:"count" doc:"Events per period."`
	Per   span `yaml:"per" doc:"The period."`
	Burst int  `yaml:"burst" doc:"Events at once."`
}

// span is a duration in the file: "90s", "5m", "2h30m". The error of a bad one has a place.
type span time.Duration

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (d *span) UnmarshalYAML(node ast.Node) error {
	text := strings.Trim(node.String(), `"'`)
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		return &yaml.SyntaxError{Message: fmt.Sprintf("%.40q is not a time span like 90s, 5m or 2h30m", text), Token: node.GetToken()}
	}
	*d = span(v)
	return nil
}

// MarshalYAML implements yaml.InterfaceMarshaler: what the console shows can be written
// into a file as it is.
func (d span) MarshalYAML() (any, error) {
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text, nil
}

// maxConfig bounds the file, in bytes.
const maxConfig = 4 << 20

// readGatewayConfig reads the file strictly. Without a path it is the default
// config. The error of a bad file begins with file:line:column.
func readGatewayConfig(path string) (gatewayConfig, error) {
	var c gatewayConfig
	if path == "" {
		return c, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return c, kidoban.Wrap(kidoban.KindUsage, err, "the config %s cannot be read", path)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return c, kidoban.Wrap(kidoban.KindUsage, err, "the config %s cannot be read", path)
	}
	if len(raw) > maxConfig {
		return c, kidoban.Errorf(kidoban.KindUsage, "the config %s is larger than %d bytes", path, maxConfig)
	}
	return parseGatewayConfig(path, raw)
}

func parseGatewayConfig(path string, raw []byte) (c gatewayConfig, err error) {
	if !isText(raw) {
		return c, kidoban.Errorf(kidoban.KindInput, "%s is no text: a config is YAML in UTF-8, as docs/config.md shows", path)
	}
	err = decodeYAML(raw, &c)
	if err == nil || errors.Is(err, io.EOF) {
		return c, nil
	}
	where := path
	var ye yaml.Error
	text := err.Error()
	if errors.As(err, &ye) {
		if t := ye.GetToken(); t != nil && t.Position != nil {
			where = fmt.Sprintf("%s:%d:%d", path, t.Position.Line, t.Position.Column)
		}
		_, lines, _ := strings.Cut(strings.TrimRight(ye.FormatError(false, true), "\n"), "\n") // the first says again what is said here
		text = yamlFault(ye) + "\n" + clipLines(lines, 160)
	}
	return gatewayConfig{}, kidoban.Errorf(kidoban.KindInput, "%s: %s", where, text)
}

// defaultListen is where a gateway without a config listens.
const defaultListen = "127.0.0.1:8787"

// ownURL is the public URL that follows from the address listened on.
func (c gatewayConfig) ownURL() string {
	if c.TLS.Cert != "" {
		return "https://" + strings.TrimSuffix(c.Listen, ":443")
	}
	return "http://" + strings.TrimSuffix(c.Listen, ":80")
}

// withDefaults fills what the file left out.
func (c gatewayConfig) withDefaults() (gatewayConfig, error) {
	if c.Listen == "" {
		c.Listen = defaultListen
	}
	if c.PublicURL == "" {
		c.PublicURL = c.ownURL()
	}
	c.PublicURL = strings.TrimSuffix(c.PublicURL, "/")
	if c.Data == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return c, kidoban.Wrap(kidoban.KindUsage, err, "there is no place for the data: name a directory with data")
		}
		c.Data = filepath.Join(dir, "kidoban")
	}
	if c.DatabaseFile != "" {
		if c.Database != "" {
			return c, kidoban.Errorf(kidoban.KindUsage, "give database or database_file, not both")
		}
		var err error
		if c.Database, err = readSecret(c.DatabaseFile); err != nil {
			return c, err
		}
	}
	if c.Database == "" {
		c.Database = filepath.Join(c.Data, "kidoban.db")
	}
	if c.VaultKey == "" {
		c.VaultKey = "file:" + filepath.Join(c.Data, "vault.key")
	}
	if c.Instance == "" {
		c.Instance, _ = os.Hostname()
	}
	if c.Notice == nil {
		var notice span
		if strings.HasPrefix(c.Database, "postgres://") || strings.HasPrefix(c.Database, "postgresql://") {
			notice = span(3 * time.Second) // others may serve meanwhile
		}
		c.Notice = &notice
	}
	if c.Drain <= 0 {
		c.Drain = span(20 * time.Second)
	}
	return c, nil
}

func on(b *bool) bool { return b == nil || *b }

// limits are the defaults with what the file changes.
func (c gatewayConfig) limits() (limit.Limits, error) {
	l := limit.Defaults()
	known := map[string]*limit.Limit{}
	for _, p := range l.All() {
		known[p.Name] = p
	}
	var bad []error
	for name, v := range c.Limits {
		p := known[name]
		if p == nil {
			names := []string{}
			for n := range known {
				names = append(names, n)
			}
			sort.Strings(names)
			bad = append(bad, kidoban.Errorf(kidoban.KindUsage, "limit %q is unknown; there are: %s", name, strings.Join(names, ", ")))
			continue
		}
		p.Count, p.Per, p.Burst = v.Count, time.Duration(v.Per), v.Burst
		if err := p.Validate(); err != nil {
			bad = append(bad, err)
		}
	}
	return l, errors.Join(bad...)
}

// gateway builds the config of the relay.
func (c gatewayConfig) gateway() (gateway.Config, error) {
	l, err := c.limits()
	g := gateway.Config{PublicURL: c.PublicURL, Hosts: c.Hosts, Origins: c.Origins, Open: c.Open, NoAggregate: !on(c.Aggregate), Limits: l, Implies: map[string][]string{}}
	for _, s := range authserver.DefaultScopes() {
		if len(s.Implies) > 0 {
			g.Implies[s.Name] = s.Implies
		}
	}
	bad := []error{err}
	switch gateway.Trust(c.Tools.Trust) {
	case "", gateway.TrustFirstUse, gateway.TrustReview:
	default:
		bad = append(bad, kidoban.Errorf(kidoban.KindUsage, "tools: trust must be first-use or review, not %.40q", c.Tools.Trust))
	}
	names := make([]string, 0, len(c.Servers))
	for name := range c.Servers {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		s, err := c.Servers[name].server(name, c.keep())
		g.Servers = append(g.Servers, s)
		bad = append(bad, err)
	}
	return g, errors.Join(bad...)
}

// keep is what no stdio server may reach.
func (c gatewayConfig) keep() []string {
	out := []string{c.Data}
	if !strings.Contains(c.Database, "://") {
		out = append(out, c.Database)
	}
	if p, ok := strings.CutPrefix(c.VaultKey, "file:"); ok {
		out = append(out, p)
	}
	return append(out, c.TLS.Key)
}

func (s serverConfig) server(name string, keep []string) (gateway.Server, error) {
	bad := func(format string, args ...any) error {
		return kidoban.Errorf(kidoban.KindUsage, "server "+name+": "+format, args...)
	}
	out := gateway.Server{Name: name, Title: s.Title, URL: s.URL, Transport: s.Transport, Era: s.Era, Scopes: s.Scopes, Shared: s.Shared, Processes: s.Processes, Idle: time.Duration(s.Idle),
		Wait: time.Duration(s.Wait), Failures: s.Breaker.Failures, Rest: time.Duration(s.Breaker.Longest), Rate: s.Rate << 20}
	var errs []error
	if s.Wait < 0 || s.Breaker.Failures < 0 || s.Breaker.Longest < 0 || s.Breaker.Failures > 1000 {
		errs = append(errs, bad("wait and breaker must be positive, failures at most 1000"))
	}
	if s.Rate < 0 || s.Rate > 1<<20 {
		errs = append(errs, bad("mib_per_second must be from 1 to 1048576"))
	}
	switch s.Address {
	case "", "public":
	case "loopback":
		out.Loopback = true
	case "private":
		out.Private = true
	default:
		errs = append(errs, bad("address must be public, loopback or private, not %.40q", s.Address))
	}
	switch s.Pages {
	case "", "through":
	case "direct":
		out.DirectPages = true
	default:
		errs = append(errs, bad("pages must be through or direct, not %.40q", s.Pages))
	}
	var wrong []error
	out.Arguments, wrong = s.Arguments.rules(bad)
	errs = append(errs, wrong...)
	out.Results, wrong = s.Results.rules(bad)
	errs = append(errs, wrong...)
	out.Labels, out.Arguments.OnlyResources, out.Arguments.OnlyHosts = s.Labels, s.Sources.Resources, s.Sources.Hosts
	if s.Account != "none" {
		out.Account = s.Account
	}
	for k, v := range s.Headers {
		if secretLooking(v) {
			errs = append(errs, bad("header %s looks like a secret: run kidoban vault set %s and remove it here", k, name))
		}
		out.Header = append(out.Header, kidoban.Field{Name: k, Value: v})
	}
	slices.SortFunc(out.Header, func(a, b kidoban.Field) int { return strings.Compare(a.Name, b.Name) })
	if len(s.Command) == 0 && s.Image == "" {
		return out, errors.Join(errs...)
	}
	spec := &sandbox.Spec{Name: name, Runner: sandbox.Runner(s.Runner), Dir: s.Dir, Read: s.Read, Write: s.Write, Keep: keep, Network: sandbox.Network(s.Network), Ports: s.Ports, Image: s.Image, UID: s.UID,
		Limits: sandbox.Limits{Memory: s.MemoryMiB << 20, Tasks: s.Tasks}}
	if len(s.Command) > 0 {
		spec.Command, spec.Args = s.Command[0], s.Command[1:]
	}
	for k, v := range s.Env {
		if secretLooking(v) {
			errs = append(errs, bad("environment variable %s looks like a secret: run kidoban vault set %s --env %s and remove it here", k, name, k))
		}
		spec.Env = append(spec.Env, k+"="+v)
	}
	sort.Strings(spec.Env)
	out.Stdio = spec
	return out, errors.Join(errs...)
}

// secretLooking knows the shapes of common credentials (G-VA5).
func secretLooking(v string) bool {
	for _, p := range []string{"Bearer ", "Basic ", "ghp_", "gho_", "github_pat_", "glpat-", "sk-", "xoxb-", "xoxp-", "AKIA", "ya29.", "eyJ", "-----BEGIN"} {
		if strings.HasPrefix(v, p) && len(v) > len(p)+8 {
			return true
		}
	}
	return false
}

// gatewayFinding is one line of kidoban gateway check.
type gatewayFinding struct {
	Code string // stable; the anchor in docs/gateway.md
	Text string
	Fail bool // refuses to start; otherwise it is a warning
}

// local tells whether only this machine reaches the gateway. It is an error to
// listen on no address, and to listen to others without a name to be called by.
func (c gatewayConfig) local() (bool, error) {
	host, port, err := net.SplitHostPort(c.Listen)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 && c.PublicURL == c.ownURL() {
		return false, kidoban.Errorf(kidoban.KindUsage, "listen must be address:port with a port up to 65535, such as %s, not %.80q", defaultListen, c.Listen)
	}
	addr, _ := netip.ParseAddr(host)
	local := host == "localhost" || addr.IsLoopback()
	if !local && (host == "" || addr.IsUnspecified()) && c.PublicURL == c.ownURL() {
		return false, kidoban.Errorf(kidoban.KindUsage, "listen %s lets others in: say under public_url by which https:// address they reach the gateway, with tls, or with trusted_proxies for the TLS proxy before it", c.Listen)
	}
	return local, nil
}

// check lists what is unsafe or impossible, all at once.
func (c gatewayConfig) check() (out []gatewayFinding) {
	fail := func(code string, err error) {
		if err == nil {
			return
		}
		if j, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range j.Unwrap() {
				out = append(out, gatewayFinding{code, said(e), true})
			}
			return
		}
		out = append(out, gatewayFinding{code, said(err), true})
	}
	warn := func(code, format string, args ...any) {
		out = append(out, gatewayFinding{code, fmt.Sprintf(format, args...), false})
	}
	local, err := c.local()
	if fail("listen", err); err != nil && c.PublicURL == c.ownURL() {
		c.PublicURL = "http://" + defaultListen // what follows from a wrong address says nothing more
	}
	g, err := c.gateway()
	fail("servers", err)
	fail("gateway", g.Validate())
	_, err = c.apps()
	fail("accounts", err)
	a, err := c.authserver(g)
	fail("files", err)
	fail("authorization", a.Validate())
	_, problems, err := c.Policy.compile(c.serverNames(), c.Login.Providers)
	fail("policy", err)
	for _, p := range problems {
		warn("policy", "policy: %s", p)
	}
	for _, text := range c.Policy.nameFaults(a.Login.Providers) {
		warn("login", "%s", text)
	}
	_, _, err = c.Telemetry.export(c.Instance)
	fail("telemetry", err)
	_, err = c.Alerts.hooks()
	fail("alerts", err)
	if c.VaultKey != "" { // the data directory's own file
		fail("vault", checkVaultKey(c.VaultKey))
	}
	if c.Open && !local {
		out = append(out, gatewayFinding{"open", "open switches authorization off for everybody who reaches " + c.Listen + ": listen on loopback, or remove open", true})
	}
	if c.Open && local {
		warn("open", "authorization is off: every program on this machine may use the servers")
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		out = append(out, gatewayFinding{"tls", "tls needs both cert and key", true})
	} else if c.TLS.Cert != "" {
		_, err := c.TLS.load()
		fail("tls", err)
	}
	if u, err := url.Parse(c.PublicURL); err == nil && !local && c.TLS.Cert == "" && len(c.Proxies) == 0 && u.Scheme == "https" {
		warn("tls", "the public URL is https, but %s listens without TLS: put a TLS proxy before it and name its address under trusted_proxies", c.Listen)
	}
	for _, p := range c.Proxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			out = append(out, gatewayFinding{"proxies", fmt.Sprintf("trusted_proxies: %q is no address range like 10.0.0.0/8", p), true})
		}
	}
	if len(c.Servers) == 0 {
		warn("servers", "no server is configured yet: add one under servers")
	}
	for _, s := range g.Servers {
		if s.Stdio != nil && s.Stdio.Runner == sandbox.RunnerNone {
			warn("runner", "server %s runs without a box, with all rights of this user", s.Name)
		}
		if s.Stdio != nil && (s.Stdio.Runner == "" || s.Stdio.Runner == sandbox.RunnerBox) {
			fail("box", sandbox.Available())
			if _, err := exec.LookPath(s.Stdio.Command); err != nil {
				warn("servers", "server %s: the command %.100q is not found here; give an absolute path", s.Name, s.Stdio.Command)
			}
		}
	}
	return out
}
