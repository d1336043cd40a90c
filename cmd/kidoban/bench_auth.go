package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound/freeport"
)

// benchAuthCmd measures the authorization server as a process of its own, over
// HTTP, on SQLite: start, idle memory, refreshes and whole code flows a second,
// beside what the disk can do.
type benchAuthCmd struct {
	JSON    bool          `help:"Print JSON."`
	Seconds float64       `default:"5" help:"Length of each measurement."`
	Clients int           `default:"64" help:"Clients at once."`
	Starts  int           `default:"5" help:"How often the gateway is started; the median counts."`
	Idle    time.Duration `default:"5s" help:"How long an idle gateway is left alone before its memory is read."`
}

// benchAuth is the JSON contract of kidoban bench auth.
type benchAuth struct {
	StartMS    float64 `json:"start_ms"`     // process to /readyz, median
	IdleRSS    float64 `json:"idle_rss_mb"`  // after --idle; 0 where there is no /proc
	Syncs      float64 `json:"disk_syncs_s"` // 4 KB appended and synced, one after the other
	Refreshes  float64 `json:"refreshes_s"`  // with rotation, each durable
	RefreshP99 float64 `json:"refresh_p99_ms"`
	Flows      float64 `json:"code_flows_s"` // page, consent, code, tokens; each durable
	FlowP99    float64 `json:"code_flow_p99_ms"`
}

// Run measures one after the other.
func (c benchAuthCmd) Run(e *env) error {
	dir, err := os.MkdirTemp("", "kidoban-bench-")
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "no temporary directory")
	}
	defer os.RemoveAll(dir)
	var res benchAuth
	var starts []float64
	for i := range max(c.Starts, 1) {
		g, err := startBenched(e, filepath.Join(dir, fmt.Sprint("idle", i)), "")
		if err != nil {
			return err
		}
		starts = append(starts, g.start.Seconds()*1000)
		if i == 0 {
			time.Sleep(c.Idle)
			res.IdleRSS = rss(g.cmd.Process.Pid)
		}
		g.stop()
	}
	slices.Sort(starts)
	res.StartMS = starts[len(starts)/2]
	if res.Syncs, err = diskSyncs(dir, time.Duration(c.Seconds*float64(time.Second)/4)); err != nil {
		return err
	}
	g, err := startBenched(e, filepath.Join(dir, "load"), benchLimits())
	if err != nil {
		return err
	}
	defer g.stop()
	if err := g.enrol(e.ctx); err != nil {
		return err
	}
	span := time.Duration(c.Seconds * float64(time.Second))
	if res.Refreshes, res.RefreshP99, err = c.repeat(e.ctx, g, span, func(ctx context.Context, last string) (string, error) {
		if last == "" {
			return g.flow(ctx)
		}
		return g.token(ctx, url.Values{"grant_type": {"refresh_token"}, "client_id": {g.client}, "refresh_token": {last}})
	}); err != nil {
		return err
	}
	if res.Flows, res.FlowP99, err = c.repeat(e.ctx, g, span, func(ctx context.Context, _ string) (string, error) { return g.flow(ctx) }); err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(res)
	}
	_, err = fmt.Fprintf(e.stdout, `start            %6.0f ms   (process to /readyz, median of %d)
idle memory      %6.0f MB   (resident, %s after the start)
disk             %6.0f/s    (4 KB appended and synced, one after the other)
refreshes        %6.0f/s    (p99 %.0f ms, %d clients, each rotation durable)
code flows       %6.0f/s    (p99 %.0f ms, %d clients; page, consent, code, tokens)
`, res.StartMS, len(starts), res.IdleRSS, c.Idle, res.Syncs, res.Refreshes, res.RefreshP99, c.Clients, res.Flows, res.FlowP99, c.Clients)
	return err
}

// repeat lets the clients do one thing over and over. Each hands its last result
// to the next round; the first rounds, until every client has one, do not count.
func (c benchAuthCmd) repeat(ctx context.Context, g *benched, span time.Duration, do func(context.Context, string) (string, error)) (perSecond, p99 float64, err error) {
	last := make([]string, c.Clients)
	var warm, run sync.WaitGroup
	var failed atomic.Pointer[error]
	fail := func(err error) { failed.CompareAndSwap(nil, &err) }
	for i := range last {
		warm.Go(func() {
			var err error
			if last[i], err = do(ctx, ""); err != nil {
				fail(err)
			}
		})
	}
	warm.Wait()
	times := make([][]time.Duration, c.Clients)
	begin := time.Now()
	for i := range last {
		run.Go(func() {
			for once := false; (!once || time.Since(begin) < span) && failed.Load() == nil; once = true {
				at := time.Now()
				next, err := do(ctx, last[i])
				if err != nil {
					fail(err)
					return
				}
				last[i] = next
				times[i] = append(times[i], time.Since(at))
			}
		})
	}
	run.Wait()
	took := time.Since(begin).Seconds()
	if p := failed.Load(); p != nil {
		return 0, 0, *p
	}
	all := slices.Concat(times...)
	slices.Sort(all)
	if len(all) == 0 {
		return 0, 0, kidoban.Errorf(kidoban.KindInternal, "nothing could be measured in %s: give it more --seconds", span)
	}
	return float64(len(all)) / took, all[len(all)*99/100].Seconds() * 1000, nil
}

// diskSyncs appends and syncs, as a database that commits one by one.
func diskSyncs(dir string, span time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "syncs"))
	if err != nil {
		return 0, kidoban.Wrap(kidoban.KindInternal, err, "the disk cannot be measured")
	}
	defer f.Close()
	page := make([]byte, 4096)
	n := 0
	begin := time.Now()
	for ; time.Since(begin) < span; n++ {
		if _, err := f.Write(page); err != nil {
			return 0, kidoban.Wrap(kidoban.KindInternal, err, "the disk cannot be measured")
		}
		if err := f.Sync(); err != nil {
			return 0, kidoban.Wrap(kidoban.KindInternal, err, "the disk cannot be measured")
		}
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// benchLimits lifts every rate: what is measured is the server.
func benchLimits() string {
	var b strings.Builder
	b.WriteString("limits:\n")
	l := limit.Defaults()
	for _, x := range l.All() {
		fmt.Fprintf(&b, "  %s: {count: 1000000, per: 1m, burst: 1000000}\n", x.Name)
	}
	return b.String()
}

// benched is a gateway as a child process.
type benched struct {
	cmd    *exec.Cmd
	url    string
	link   string // set-up
	start  time.Duration
	http   *http.Client
	cookie string
	client string
}

// startBenched starts a gateway with its defaults, or with more config, and waits
// until it is ready.
func startBenched(e *env, data, config string) (*benched, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the program does not find itself")
	}
	at, err := freeport.Loopback()
	if err != nil {
		return nil, err
	}
	addr := at.String()
	args := []string{"gateway", "--data", data, "--listen", addr}
	if config != "" {
		file := data + ".yaml"
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return nil, kidoban.Wrap(kidoban.KindInternal, err, "the config cannot be written")
		}
		args = append(args, "--config", file)
	}
	g := &benched{url: "http://" + addr, cmd: exec.CommandContext(e.ctx, self, args...), http: &http.Client{Timeout: 30 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 256}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the gateway cannot be started")
	}
	begin := time.Now()
	if err := g.cmd.Start(); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the gateway cannot be started")
	}
	for time.Since(begin) < 30*time.Second {
		resp, err := g.http.Get(g.url + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				g.start = time.Since(begin)
				break
			}
		}
		time.Sleep(time.Millisecond)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, g.url+"/setup") {
			g.link = line
		}
		if strings.HasPrefix(line, `{"mcpServers"`) {
			break
		}
	}
	if g.start == 0 {
		g.stop()
		return nil, kidoban.Errorf(kidoban.KindInternal, "the gateway was not ready within 30 seconds")
	}
	return g, nil
}

func (g *benched) stop() {
	if err := g.cmd.Process.Signal(os.Interrupt); err != nil { // it has ended, or there is no such signal here
		_ = g.cmd.Process.Kill()
	}
	late := time.AfterFunc(30*time.Second, func() { _ = g.cmd.Process.Kill() })
	defer late.Stop()
	_ = g.cmd.Wait()
}

var benchHidden = regexp.MustCompile(`<input type="hidden" name="([a-z_]+)" value="([^"]*)"`)

// send makes a request and returns its answer with the body read.
func (g *benched) send(ctx context.Context, target string, form url.Values, kind string) (*http.Response, string, error) {
	method, body := http.MethodGet, io.Reader(nil)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	} else if kind == "application/json" {
		method, body = http.MethodPost, strings.NewReader(`{"client_name":"bench","redirect_uris":["http://127.0.0.1:33418/callback"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none"}`)
	}
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, "", kidoban.Wrap(kidoban.KindInternal, err, "the request cannot be made")
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", kind)
	}
	if g.cookie != "" {
		r.Header.Set("Cookie", g.cookie)
	}
	resp, err := g.http.Do(r)
	if err != nil {
		return nil, "", kidoban.Wrap(kidoban.KindUnreachable, err, "the gateway does not answer")
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp, string(raw), kidoban.Wrap(kidoban.KindUnreachable, err, "the gateway's answer breaks off")
}

const benchForm = "application/x-www-form-urlencoded"

// enrol makes the first account, whose login is kept, and registers a client.
func (g *benched) enrol(ctx context.Context) error {
	at, err := url.Parse(g.link)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the set-up link is no URL")
	}
	form := url.Values{"token": {at.Query().Get("token")}, "name": {"bench"}, "password": {patientSecret}, "again": {patientSecret}}
	resp, _, err := g.send(ctx, g.url+"/setup", form, benchForm)
	if err != nil {
		return err
	}
	for _, c := range resp.Cookies() {
		if c.MaxAge >= 0 && c.Value != "" {
			g.cookie = strings.TrimPrefix(g.cookie+"; "+c.Name+"="+c.Value, "; ")
		}
	}
	if _, text, err := g.send(ctx, g.url+"/register", nil, "application/json"); err != nil {
		return err
	} else if g.client = jsonMember(text, "client_id"); g.client == "" {
		return kidoban.Errorf(kidoban.KindInternal, "the client was not registered: %.200s", text)
	}
	return nil
}

func jsonMember(text, name string) string {
	var m map[string]any
	if json.Unmarshal([]byte(text), &m) != nil {
		return ""
	}
	s, _ := m[name].(string)
	return s
}

// flow is a whole code flow of a person who is logged in; it returns the refresh
// token.
func (g *benched) flow(ctx context.Context) (string, error) {
	const callback = "http://127.0.0.1:33418/callback"
	verifier := strings.Repeat("benchmark-", 5)
	q := url.Values{"response_type": {"code"}, "client_id": {g.client}, "redirect_uri": {callback}, "state": {"s"}, "scope": {"mcp:read"},
		"code_challenge": {oauth.S256(verifier)}, "code_challenge_method": {"S256"}, "resource": {g.url + "/mcp"}}
	_, page, err := g.send(ctx, g.url+"/authorize?"+q.Encode(), nil, "")
	if err != nil {
		return "", err
	}
	v := url.Values{"decision": {"approve"}, "scope_choice": {"mcp:read"}}
	for _, m := range benchHidden.FindAllStringSubmatch(page, -1) {
		v.Set(m[1], html.UnescapeString(m[2]))
	}
	resp, text, err := g.send(ctx, g.url+"/authorize/consent", v, benchForm)
	if err != nil {
		return "", err
	}
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || back.Query().Get("code") == "" {
		return "", kidoban.Errorf(kidoban.KindInternal, "no code came: %d %.300s", resp.StatusCode, text)
	}
	return g.token(ctx, url.Values{"grant_type": {"authorization_code"}, "client_id": {g.client}, "code": {back.Query().Get("code")}, "redirect_uri": {callback}, "code_verifier": {verifier}})
}

func (g *benched) token(ctx context.Context, form url.Values) (string, error) {
	resp, text, err := g.send(ctx, g.url+"/token", form, benchForm)
	if err != nil {
		return "", err
	}
	if t := jsonMember(text, "refresh_token"); t != "" {
		return t, nil
	}
	return "", kidoban.Errorf(kidoban.KindInternal, "no token came: %d %.300s", resp.StatusCode, text)
}
