package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/store"
)

// benchCmd is kidoban bench: whole-process numbers.
type benchCmd struct {
	Gateway benchGatewayCmd `cmd:"" help:"The same call direct, through a bare reverse proxy and through the gateway."`
	Auth    benchAuthCmd    `cmd:"" help:"Start, idle memory, refreshes and code flows of the authorization server."`
}

// benchGatewayCmd measures the relay. Server, proxy and gateway are processes of
// their own, so that each pays for itself; all run in one go, one after the other,
// on the same machine under the same load.
type benchGatewayCmd struct {
	JSON    bool          `help:"Print JSON."`
	Seconds float64       `default:"2" help:"Length of each measurement."`
	Conns   []int         `default:"1,16,64,256" help:"Numbers of connections."`
	Role    string        `hidden:"" help:"Be one of the processes."`
	Target  string        `hidden:""`
	Warm    time.Duration `hidden:"" default:"300ms"`
}

// benchPoint is one measurement.
type benchPoint struct {
	RPS   float64 `json:"rps"`
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
	Calls int     `json:"calls"`
	Fails int     `json:"fails"`
}

// benchRow compares the three ways at one number of connections.
type benchRow struct {
	Conns   int        `json:"conns"`
	Direct  benchPoint `json:"direct"`
	Proxy   benchPoint `json:"reverse_proxy"`
	Gateway benchPoint `json:"gateway"`
	Ratio   float64    `json:"throughput_ratio"` // gateway to reverse proxy
}

// benchResult is the JSON contract of kidoban bench gateway.
type benchResult struct {
	Ratio    float64    `json:"throughput_ratio"` // the worse of 16 and 64 connections
	AddedP50 float64    `json:"added_p50_us"`     // gateway minus direct, one connection
	RSS      float64    `json:"rss_mb"`           // of the gateway's process, after 64 connections
	ProxyRSS float64    `json:"reverse_proxy_rss_mb"`
	Rows     []benchRow `json:"rows"`
}

// benchBody is a tools/call of two kilobytes.
var benchBody = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"` + strings.Repeat("kidoban ", 240) + `"}}}`

// Run measures, or is one of the processes.
func (c benchGatewayCmd) Run(e *env) error {
	if c.Role != "" {
		return c.role(e)
	}
	up, err := startRole(e, "upstream", "")
	if err != nil {
		return err
	}
	defer up.stop()
	proxy, err := startRole(e, "proxy", up.url)
	if err != nil {
		return err
	}
	defer proxy.stop()
	gate, err := startRole(e, "gateway", up.url)
	if err != nil {
		return err
	}
	defer gate.stop()
	var res benchResult
	for _, n := range c.Conns {
		row := benchRow{Conns: n}
		for _, m := range []struct {
			to *benchRole
			at *benchPoint
		}{{up, &row.Direct}, {proxy, &row.Proxy}, {gate, &row.Gateway}} {
			if _, err := load(e.ctx, m.to, n, c.Warm); err != nil {
				return err
			}
			if *m.at, err = load(e.ctx, m.to, n, time.Duration(c.Seconds*float64(time.Second))); err != nil {
				return err
			}
			if m.at.Fails > 0 {
				return kidoban.Errorf(kidoban.KindInternal, "%d of %d calls failed at %s", m.at.Fails, m.at.Calls, m.to.url)
			}
		}
		row.Ratio = row.Gateway.RPS / row.Proxy.RPS
		switch n {
		case 1:
			res.AddedP50 = row.Gateway.P50 - row.Direct.P50
		case 16, 64:
			if res.Ratio == 0 || row.Ratio < res.Ratio {
				res.Ratio = row.Ratio
			}
			res.RSS, res.ProxyRSS = rss(gate.cmd.Process.Pid), rss(proxy.cmd.Process.Pid)
		}
		res.Rows = append(res.Rows, row)
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(res)
	}
	fmt.Fprintf(e.stdout, "%6s %26s %26s %26s %6s\n", "conns", "direct (rps, p50 µs)", "reverse proxy", "gateway", "ratio")
	for _, r := range res.Rows {
		fmt.Fprintf(e.stdout, "%6d %15.0f %10.0f %15.0f %10.0f %15.0f %10.0f %6.2f\n", r.Conns, r.Direct.RPS, r.Direct.P50, r.Proxy.RPS, r.Proxy.P50, r.Gateway.RPS, r.Gateway.P50, r.Ratio)
	}
	fmt.Fprintf(e.stdout, "throughput ratio %.2f, added p50 %.0f µs, resident memory %.1f MB (reverse proxy %.1f MB)\n", res.Ratio, res.AddedP50, res.RSS, res.ProxyRSS)
	return nil
}

// benchRole is a started process.
type benchRole struct {
	cmd   *exec.Cmd
	in    io.Closer
	url   string
	token string
}

// startRole starts this program in a role and reads its address.
func startRole(e *env, role, target string) (*benchRole, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the program does not find itself")
	}
	r := &benchRole{cmd: exec.CommandContext(e.ctx, exe, "bench", "gateway", "--role", role, "--target", target)}
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
		r.token = f[1]
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
	say := base
	var h http.Handler
	switch c.Role {
	case "upstream":
		answer := []byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + strings.Repeat("kidoban ", 240) + `"}]}}`)
		h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(answer)
		})
	case "proxy":
		to, err := url.Parse(c.Target)
		if err != nil {
			return kidoban.Wrap(kidoban.KindUsage, err, "target")
		}
		h = &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) }, Transport: &http.Transport{MaxIdleConns: 512, MaxIdleConnsPerHost: 512}}
	case "gateway":
		g, token, end, err := benchGateway(e.ctx, base, c.Target)
		if err != nil {
			return err
		}
		defer end()
		h, say = g, base+"/s/up/mcp "+token
	default:
		return kidoban.Errorf(kidoban.KindUsage, "role %q is unknown", c.Role)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _, _ = io.Copy(io.Discard, e.stdin); s.Close() }()
	fmt.Fprintln(e.stdout, say)
	if err := s.Serve(l); err != http.ErrServerClosed {
		return kidoban.Wrap(kidoban.KindInternal, err, "serve")
	}
	return nil
}

// benchKeys is an authorization server reduced to one key.
type benchKeys struct{ jwk jose.JSONWebKey }

func (k benchKeys) Lookup(kid string) (jose.JSONWebKey, bool) { return k.jwk, kid == k.jwk.KeyID }
func (benchKeys) Live(string, string) (bool, error)           { return true, nil }

// benchGateway is the gateway as it runs in production: token check, scopes,
// rates, strict reading, and an audit record in SQLite for each call.
func benchGateway(ctx context.Context, base, target string) (*gateway.Gateway, string, func(), error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", nil, kidoban.Wrap(kidoban.KindInternal, err, "key")
	}
	keys := benchKeys{jose.JSONWebKey{Key: pub, KeyID: "k", Algorithm: "EdDSA", Use: "sig"}}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: priv}, (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", "k"))
	if err != nil {
		return nil, "", nil, kidoban.Wrap(kidoban.KindInternal, err, "signer")
	}
	now := time.Now()
	token, err := jwt.Signed(signer).Claims(map[string]any{"iss": base, "aud": base + "/s/up/mcp", "sub": "u", "client_id": "c", "jti": "j", "kidoban_grant": "g",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "scope": "mcp:write"}).Serialize()
	if err != nil {
		return nil, "", nil, kidoban.Wrap(kidoban.KindInternal, err, "token")
	}
	dir, err := os.MkdirTemp("", "kidoban-bench-")
	if err != nil {
		return nil, "", nil, kidoban.Wrap(kidoban.KindInternal, err, "directory")
	}
	db, err := store.Open(ctx, store.Options{URL: filepath.Join(dir, "bench.db")})
	if err != nil {
		return nil, "", nil, err
	}
	j, err := gateway.OpenJournal(ctx, db, "bench")
	if err != nil {
		return nil, "", nil, err
	}
	l := limit.Defaults()
	for _, p := range []*limit.Limit{&l.CallPerUser, &l.CallPerClient, &l.CallPerServer, &l.CallPerTool} {
		p.Count, p.Per, p.Burst = 1_000_000, time.Second, 1_000_000 // charged, but never spent
	}
	key := make([]byte, 32)
	g, err := gateway.New(gateway.Config{PublicURL: base, Limits: l, MaxPerUser: 1024, Servers: []gateway.Server{{Name: "up", URL: target, Loopback: true}}},
		gateway.Deps{Keys: keys, Liveness: keys, StateKey: key, Journal: j})
	if err != nil {
		return nil, "", nil, err
	}
	return g, token, func() {
		g.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = j.Close(ctx) // the directory goes anyway
		db.Close()
		os.RemoveAll(dir)
	}, nil
}

// load makes calls over n connections for a time.
func load(ctx context.Context, to *benchRole, n int, d time.Duration) (benchPoint, error) {
	u, err := url.Parse(to.url)
	if err != nil {
		return benchPoint{}, kidoban.Wrap(kidoban.KindInternal, err, "address")
	}
	path := u.Path
	if path == "" {
		path = "/"
	}
	head := "POST " + path + " HTTP/1.1\r\nHost: " + u.Host + "\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
	if to.token != "" {
		head += "Authorization: Bearer " + to.token + "\r\n"
	}
	request := []byte(head + "Content-Length: " + strconv.Itoa(len(benchBody)) + "\r\n\r\n" + benchBody)
	conns := make([]net.Conn, n)
	for i := range conns {
		if conns[i], err = (&net.Dialer{}).DialContext(ctx, "tcp", u.Host); err != nil {
			return benchPoint{}, kidoban.Wrap(kidoban.KindInternal, err, "connection %d", i)
		}
		defer conns[i].Close()
	}
	times := make([][]time.Duration, n)
	fails := make([]int, n)
	began := time.Now()
	var wg sync.WaitGroup
	for i, conn := range conns {
		wg.Go(func() { times[i], fails[i] = callUntil(conn, request, began.Add(d)) })
	}
	wg.Wait()
	took := time.Since(began)
	all := slices.Concat(times...)
	slices.Sort(all)
	p := benchPoint{Calls: len(all), RPS: float64(len(all)) / took.Seconds()}
	for _, f := range fails {
		p.Fails += f
	}
	if len(all) > 0 {
		p.P50 = float64(all[len(all)/2].Nanoseconds()) / 1e3
		p.P99 = float64(all[len(all)*99/100].Nanoseconds()) / 1e3
	}
	return p, nil
}

// callUntil calls over one connection until the time is over.
func callUntil(conn net.Conn, request []byte, end time.Time) (times []time.Duration, fails int) {
	in := bufio.NewReaderSize(conn, 16<<10)
	var body bytes.Buffer
	for {
		from := time.Now()
		if from.After(end) {
			return times, fails
		}
		if _, err := conn.Write(request); err != nil {
			return times, fails + 1
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return times, fails + 1
		}
		body.Reset()
		_, err = body.ReadFrom(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(body.Bytes(), []byte(`"result"`)) {
			return times, fails + 1
		}
		times = append(times, time.Since(from))
	}
}

// rss reads the resident memory of a process in MB; 0 where /proc is missing.
func rss(pid int) float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb / 1024
		}
	}
	return 0
}
