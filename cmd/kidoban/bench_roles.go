package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/solo"
)

// benchRole is a started process.
type benchRole struct {
	cmd    *exec.Cmd
	in     io.Closer
	url    string
	secret string // of the client that may have tokens, at the gateway
}

// startRole starts this program in a role and reads its address.
func startRole(e *env, role, target string, more ...string) (*benchRole, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the program does not find itself")
	}
	r := &benchRole{cmd: exec.CommandContext(e.ctx, exe, append([]string{"bench", "gateway", "--role", role, "--target", target}, more...)...)}
	r.cmd.Stderr = e.stderr
	in, err := r.cmd.StdinPipe()
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "no pipe")
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "no pipe")
	}
	r.in = in
	if err := r.cmd.Start(); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the %s process cannot be started", role)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	f := strings.Fields(line)
	if err != nil || len(f) == 0 {
		r.stop()
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the %s process did not start", role)
	}
	r.url = f[0]
	if len(f) > 1 {
		r.secret = f[1]
	}
	return r, nil
}

func (r *benchRole) stop() {
	r.in.Close()
	_ = r.cmd.Wait()
}

// role serves until standard input closes.
func (c benchGatewayCmd) role(e *env) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "no port")
	}
	base := "http://" + l.Addr().String()
	if c.Role == "relay" {
		return c.relay(e, l, base)
	}
	say := base
	var h http.Handler
	var single *solo.Mode
	switch c.Role {
	case "upstream":
		h = benchUpstream()
	case "proxy":
		to, err := url.Parse(c.Target)
		if err != nil {
			return kidoban.Wrap(kidoban.KindUsage, err, "target")
		}
		h = &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) }, Transport: &http.Transport{MaxIdleConns: 512, MaxIdleConnsPerHost: 512}}
	case "gateway":
		s, secret, end, err := benchService(e.ctx, base, c.Target)
		if err != nil {
			return err
		}
		defer end()
		collectMore(e.ctx) // as the gateway does; the others keep Go's default
		h, say = s.front, base+"/s/up/mcp "+secret
		l = solo.Listener{Listener: narrow{l}, Mode: s.solo} // as the gateway does
		s.solo.Allow(true)
		single = s.solo
		if c.Profile != "" {
			f, err := os.Create(c.Profile)
			if err != nil {
				return kidoban.Wrap(kidoban.KindUsage, err, "the profile cannot be written")
			}
			defer f.Close()
			if err := pprof.StartCPUProfile(f); err != nil {
				return kidoban.Wrap(kidoban.KindInternal, err, "profile")
			}
			defer func() {
				pprof.StopCPUProfile()
				if heap, err := os.Create(c.Profile + ".heap"); err == nil {
					_ = pprof.Lookup("heap").WriteTo(heap, 0) // a help for developers, nothing else
					heap.Close()
				}
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				fmt.Fprintf(e.stderr, "heap in use %d MB, idle %d MB, released %d MB, stacks %d MB, from the system %d MB, collections %d\n", m.HeapInuse>>20, m.HeapIdle>>20, m.HeapReleased>>20, m.StackInuse>>20, m.Sys>>20, m.NumGC)
			}()
		}
	default:
		return kidoban.Errorf(kidoban.KindUsage, "role %q is unknown", c.Role)
	}
	lean, stop := context.WithCancel(e.ctx)
	var resting sync.WaitGroup
	resting.Go(func() { stayLean(lean) }) // as the gateway does, and for the others alike
	if single != nil {
		resting.Go(func() { single.Run(lean) })
	}
	defer resting.Wait()
	defer stop()
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _, _ = io.Copy(io.Discard, e.stdin); s.Close() }()
	fmt.Fprintln(e.stdout, say)
	if err := s.Serve(l); err != http.ErrServerClosed {
		return kidoban.Wrap(kidoban.KindInternal, err, "serve")
	}
	return nil
}

// relay passes bytes on and reads none of them, until standard input closes. With the
// client's connection ends the one to the server.
func (c benchGatewayCmd) relay(e *env, l net.Listener, base string) error {
	to, err := url.Parse(c.Target)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "target")
	}
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	go func() { _, _ = io.Copy(io.Discard, e.stdin); cancel() }()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	fmt.Fprintln(e.stdout, base)
	var pairs sync.WaitGroup
	defer pairs.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return kidoban.Wrap(kidoban.KindInternal, err, "accept")
		}
		pairs.Go(func() { pass(ctx, conn, to.Host) })
	}
}

// pass joins a connection with one to host until one side ends.
func pass(ctx context.Context, conn net.Conn, host string) {
	defer conn.Close()
	up, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		return
	}
	defer up.Close()
	defer context.AfterFunc(ctx, func() { conn.Close(); up.Close() })()
	done := make(chan struct{})
	go func() { // ends with up
		defer close(done)
		copyBytes(conn, up)
		conn.Close()
	}()
	copyBytes(up, conn)
	up.Close()
	<-done
}

// copyBytes reads and writes, as whatever looks at messages must: io.Copy would have the
// system join the connections.
func copyBytes(to io.Writer, from io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// benchUpstream is an MCP server that only answers: one tool that is called, or
// under /many ten tools that are listed.
func benchUpstream() http.Handler {
	answer := []byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + strings.Repeat("kidoban ", 240) + `"}]}}`)
	tool := `{"name":"%s","description":"%s","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}}`
	one := fmt.Sprintf(tool, "echo", "Says it again.")
	var many []string
	for i := range benchTools / benchServers {
		many = append(many, fmt.Sprintf(tool, fmt.Sprint("tool-", i), strings.Repeat("What it does. ", 20)))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if bytes.Contains(body, []byte(`"tools/call"`)) {
			_, _ = w.Write(answer) // a client that has gone is no fault
			return
		}
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
		}
		if json.Unmarshal(body, &m) != nil || m.ID == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		result := `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}`
		if m.Method == "tools/list" {
			result = `{"tools":[` + one + `]}`
			if strings.HasPrefix(r.URL.Path, "/many") {
				result = `{"tools":[` + strings.Join(many, ",") + `]}`
			}
		}
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
	})
}

// What tools/list is measured with.
const benchServers, benchTools = 100, 1000

// benchClient is the client that gets tokens by client_credentials.
const benchClient = "bench"

// benchService is the whole gateway as it runs in production, with SQLite: token
// check, policy, pins, rates and an audit record for each call. Only the rates are
// never reached. Of two servers one also has its arguments and results guarded, as
// is the default.
func benchService(ctx context.Context, base, target string) (*service, string, func(), error) {
	dir, err := os.MkdirTemp("", "kidoban-bench-")
	if err != nil {
		return nil, "", nil, kidoban.Wrap(kidoban.KindInternal, err, "directory")
	}
	secret := rand.Text() + rand.Text()
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		return nil, "", nil, kidoban.Wrap(kidoban.KindInternal, err, "directory")
	}
	conf := gatewayConfig{PublicURL: base, Listen: strings.TrimPrefix(base, "http://"), Data: filepath.Join(dir, "data"), Limits: map[string]limitConfig{},
		Servers: map[string]serverConfig{
			"guarded": {URL: target + "/one", Address: "loopback"},
			"up": {URL: target + "/one", Address: "loopback", Results: resultsConfig{Injection: "off", Secrets: "pass"},
				Arguments: argumentsConfig{Path: "off", URL: "off", Command: "off", SQL: "off", Undeclared: "pass"}}},
		Clients: []clientConfig{{ID: benchClient, Name: "bench", AuthMethod: "client_secret_basic", SecretFile: file, Grants: []string{"client_credentials"}, Scopes: []string{"mcp:read", "mcp:write"}}}}
	for i := range benchServers {
		conf.Servers[fmt.Sprintf("many-%d", i)] = serverConfig{URL: target + "/many", Address: "loopback"}
	}
	l := limit.Defaults()
	for _, p := range l.All() {
		conf.Limits[p.Name] = limitConfig{Count: 1_000_000, Per: span(time.Second), Burst: 1_000_000} // charged, but never spent
	}
	if conf, err = conf.withDefaults(); err != nil {
		return nil, "", nil, err
	}
	s, err := openService(ctx, conf, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return nil, "", nil, err
	}
	s.ready.Store(true)
	return s, secret, func() {
		s.close()
		os.RemoveAll(dir)
	}, nil
}

// token gets an access token for a path of the gateway.
func (r *benchRole) token(ctx context.Context, path string) (string, error) {
	if r.secret == "" {
		return "", nil
	}
	u, err := url.Parse(r.url)
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindInternal, err, "address")
	}
	base := u.Scheme + "://" + u.Host
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"mcp:read mcp:write"}, "resource": {base + path}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindInternal, err, "request")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(benchClient, r.secret)
	t := &http.Transport{DisableKeepAlives: true}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindUnreachable, err, "the gateway gives no token")
	}
	defer resp.Body.Close()
	var got struct {
		Access string `json:"access_token"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&got); err != nil || got.Access == "" {
		return "", kidoban.Errorf(kidoban.KindInternal, "the gateway gives no token: status %d", resp.StatusCode)
	}
	return got.Access, nil
}
