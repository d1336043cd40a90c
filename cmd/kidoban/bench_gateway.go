package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// benchCmd is kidoban bench: whole-process numbers.
type benchCmd struct {
	Gateway benchGatewayCmd `cmd:"" help:"The same call direct, through a relay of bytes, through a bare reverse proxy and through the gateway."`
	Auth    benchAuthCmd    `cmd:"" help:"Start, idle memory, refreshes and code flows of the authorization server."`
}

// benchGatewayCmd measures the relay. Server, proxy and gateway are processes of
// their own, so that each pays for itself; all run in one go, in turns, so that what
// else the machine does meets each of them alike.
type benchGatewayCmd struct {
	JSON    bool          `help:"Print JSON."`
	Minutes float64       `help:"Afterwards, hold 64 connections under load so long and watch the gateway's memory." placeholder:"MINUTES"`
	Seconds float64       `default:"2" help:"Length of each measurement, in five turns."`
	Conns   []int         `default:"1,16,64,256" help:"Numbers of connections."`
	Halt    bool          `name:"halt-poll" help:"Where idle processors of this virtual machine are set to halt at once, measure with Linux's default, which lets them look for work for 200 µs first. Needs root; the setting is put back afterwards."`
	Profile string        `hidden:"" help:"File for a processor profile of the gateway's process."`
	Role    string        `hidden:"" help:"Be one of the processes."`
	Target  string        `hidden:""`
	Warm    time.Duration `hidden:"" default:"300ms"`
}

// benchPoint is one measurement.
type benchPoint struct {
	RPS   float64 `json:"rps"`
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
	CPU   float64 `json:"cpu_us"` // processor time of the process for each call; hardly depends on what else runs
	Calls int     `json:"calls"`
	Fails int     `json:"fails"`
}

// benchRow compares the ways at one number of connections.
type benchRow struct {
	Conns   int        `json:"conns"`
	Direct  benchPoint `json:"direct"`
	Relay   benchPoint `json:"tcp_relay"` // bytes passed on unread: what a process in between costs before it does anything
	Proxy   benchPoint `json:"reverse_proxy"`
	Gateway benchPoint `json:"gateway"`          // token check, policy, pins, rates, audit record, strict reading
	Guarded benchPoint `json:"guarded"`          // and arguments and results guarded: every default
	Ratio   float64    `json:"throughput_ratio"` // gateway to reverse proxy
}

// benchResult is the JSON contract of kidoban bench gateway.
type benchResult struct {
	Ratio    float64    `json:"throughput_ratio"`       // the worse of 16 and 64 connections
	AddedP50 float64    `json:"added_p50_us"`           // gateway minus direct, one connection, as the machine is
	HaltPoll *int64     `json:"halt_poll_ns,omitempty"` // how long idle processors looked for work before they halted; absent where Linux has no such setting
	RSS      float64    `json:"rss_mb"`                 // of the gateway's process, after 64 connections
	Own      float64    `json:"rss_own_mb"`             // of that what is not the program's file, which the system maps and takes back as it likes
	ProxyRSS float64    `json:"reverse_proxy_rss_mb"`
	List     float64    `json:"list_ms"` // tools/list of 1,000 tools over 100 servers from the cache, all pages, median
	Rows     []benchRow `json:"rows"`
	Long     *benchLong `json:"long,omitempty"`
}

// benchLong is the memory of the gateway's process over a long time.
type benchLong struct {
	Minutes float64   `json:"minutes"`
	Calls   int       `json:"calls"`
	Fails   int       `json:"fails"`
	RSS     []float64 `json:"rss_mb"`     // about every ten seconds
	Growth  float64   `json:"growth_mb"`  // mean of the last fifth less mean of the second fifth
	Highest float64   `json:"highest_mb"` // of all
}

// benchBody is a tools/call of two kilobytes.
var benchBody = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"` + strings.Repeat("kidoban ", 240) + `"}}}`

// Run measures, or is one of the processes.
func (c benchGatewayCmd) Run(e *env) (err error) {
	if c.Role != "" {
		return c.role(e)
	}
	if err := c.check(); err != nil {
		return err
	}
	halt := readHaltPoll("/sys")
	if c.Halt {
		halt.switchOn()
		defer func() { err = errors.Join(err, halt.back()) }()
	}
	up, err := startRole(e, "upstream", "")
	if err != nil {
		return err
	}
	defer up.stop()
	relay, err := startRole(e, "relay", up.url)
	if err != nil {
		return err
	}
	defer relay.stop()
	proxy, err := startRole(e, "proxy", up.url)
	if err != nil {
		return err
	}
	defer proxy.stop()
	gate, err := startRole(e, "gateway", up.url, "--profile", c.Profile)
	if err != nil {
		return err
	}
	defer gate.stop()
	guarded := &benchRole{cmd: gate.cmd, url: strings.Replace(gate.url, "/s/up/", "/s/guarded/", 1), secret: gate.secret}
	ways := []*benchRole{up, relay, proxy, gate, guarded}
	res := benchResult{HaltPoll: halt.nanoseconds()}
	for _, n := range c.Conns {
		row, err := c.row(e.ctx, ways, n)
		if err != nil {
			return err
		}
		switch n {
		case 1:
			res.AddedP50 = row.added(row.Gateway)
		case 16, 64:
			if res.Ratio == 0 || row.Ratio < res.Ratio {
				res.Ratio = row.Ratio
			}
			res.RSS, res.ProxyRSS = rss(gate.cmd.Process.Pid), rss(proxy.cmd.Process.Pid)
			res.Own = statusOf(gate.cmd.Process.Pid, "RssAnon:")
		}
		res.Rows = append(res.Rows, *row)
	}
	if c.Profile == "" {
		if res.List, err = listTime(e.ctx, gate, time.Duration(c.Seconds*float64(time.Second))); err != nil {
			return err
		}
	}
	if c.Minutes > 0 {
		if res.Long, err = hold(e.ctx, gate, time.Duration(c.Minutes*float64(time.Minute))); err != nil {
			return err
		}
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(res)
	}
	halt.say(e.stdout)
	fmt.Fprintf(e.stdout, "calls a second, median in µs, processor time of a call in µs\n%6s %22s %22s %22s %22s %22s %6s\n", "conns", "direct", "bytes passed on", "reverse proxy", "gateway", "all guards", "ratio")
	for _, r := range res.Rows {
		fmt.Fprintf(e.stdout, "%6d", r.Conns)
		for _, p := range []benchPoint{r.Direct, r.Relay, r.Proxy, r.Gateway, r.Guarded} {
			fmt.Fprintf(e.stdout, " %8.0f %7.0f %5.0f", p.RPS, p.P50, p.CPU)
		}
		fmt.Fprintf(e.stdout, " %6.2f\n", r.Ratio)
	}
	if i := slices.Index(c.Conns, 1); i >= 0 {
		r := res.Rows[i]
		fmt.Fprintf(e.stdout, "added to the median of one connection: %.0f µs (reverse proxy %.0f, bytes passed on %.0f)\n", res.AddedP50, r.added(r.Proxy), r.added(r.Relay))
	}
	if res.RSS > 0 { // 16 or 64 connections were asked for
		fmt.Fprintf(e.stdout, "throughput ratio %.2f, resident memory %.1f MB, %.1f MB without the program's file (reverse proxy %.1f MB)\n", res.Ratio, res.RSS, res.Own, res.ProxyRSS)
	}
	fmt.Fprintf(e.stdout, "tools/list of %d tools over %d servers from the cache, all pages: %.2f ms\n", benchTools, benchServers, res.List)
	if l := res.Long; l != nil {
		fmt.Fprintf(e.stdout, "%.0f minutes at 64 connections, %d calls: memory grew by %.1f MB, highest %.1f MB\n", l.Minutes, l.Calls, l.Growth, l.Highest)
	}
	return nil
}

// row measures all ways at n connections.
func (c benchGatewayCmd) row(ctx context.Context, ways []*benchRole, n int) (*benchRow, error) {
	p, err := c.turns(ctx, ways, n, func(to *benchRole) bool { return c.Profile != "" && to != ways[3] })
	if err != nil {
		return nil, err
	}
	return &benchRow{Conns: n, Direct: p[0], Relay: p[1], Proxy: p[2], Gateway: p[3], Guarded: p[4], Ratio: p[3].RPS / p[2].RPS}, nil
}

// added is what a way adds to a call's median, in microseconds.
func (r *benchRow) added(way benchPoint) float64 { return way.P50 - r.Direct.P50 }

// maxBenchConns bounds the connections, each of which costs open files in three processes.
const maxBenchConns = 4096

// check refuses what could not be measured.
func (c benchGatewayCmd) check() error {
	for _, n := range c.Conns {
		if n < 1 || n > maxBenchConns {
			return kidoban.Errorf(kidoban.KindUsage, "--conns %d: give numbers from 1 to %d", n, maxBenchConns)
		}
	}
	if !(c.Seconds > 0 && c.Seconds <= 3600) {
		return kidoban.Errorf(kidoban.KindUsage, "--seconds %v: give more than 0 and at most 3600", c.Seconds)
	}
	if !(c.Minutes >= 0 && c.Minutes <= 7*24*60) {
		return kidoban.Errorf(kidoban.KindUsage, "--minutes %v: give 0 or more, at most a week", c.Minutes)
	}
	return nil
}

// benchTurns is into how many turns a measurement is cut.
const benchTurns = 5

// turns measures the ways in turns. A profile shows calls without the guards of
// content, so the others are left out then.
func (c benchGatewayCmd) turns(ctx context.Context, ways []*benchRole, n int, leave func(*benchRole) bool) ([]benchPoint, error) {
	all := make([]benchSample, len(ways))
	turn := time.Duration(c.Seconds * float64(time.Second) / benchTurns)
	for range benchTurns {
		for i, to := range ways {
			if leave(to) {
				continue
			}
			if _, err := load(ctx, to, n, c.Warm/benchTurns); err != nil {
				return nil, err
			}
			s, err := load(ctx, to, n, turn)
			if err != nil {
				return nil, err
			}
			all[i].add(s)
		}
	}
	points := make([]benchPoint, len(ways))
	for i, s := range all {
		if points[i] = s.point(); s.fails > 0 {
			return nil, kidoban.Errorf(kidoban.KindInternal, "%d of %d calls failed at %s", s.fails, len(s.times), ways[i].url)
		}
	}
	return points, nil
}

// benchSample is what calls took.
type benchSample struct {
	times []time.Duration // of each call
	fails int
	took  time.Duration
	spent time.Duration // processor time of the process that was called
}

func (s *benchSample) add(o benchSample) {
	s.times = append(s.times, o.times...)
	s.fails, s.took, s.spent = s.fails+o.fails, s.took+o.took, s.spent+o.spent
}

func (s *benchSample) point() benchPoint {
	p := benchPoint{Calls: len(s.times), Fails: s.fails}
	if p.Calls > 0 {
		slices.Sort(s.times)
		p.RPS = float64(p.Calls) / s.took.Seconds()
		p.CPU = float64(s.spent.Microseconds()) / float64(p.Calls)
		p.P50 = float64(s.times[p.Calls/2].Nanoseconds()) / 1e3
		p.P99 = float64(s.times[p.Calls*99/100].Nanoseconds()) / 1e3
	}
	return p
}

// load makes calls over n connections for a time.
func load(ctx context.Context, to *benchRole, n int, d time.Duration) (benchSample, error) {
	u, err := url.Parse(to.url)
	if err != nil {
		return benchSample{}, kidoban.Wrap(kidoban.KindInternal, err, "address")
	}
	path := u.Path
	if path == "" {
		path = "/"
	}
	token, err := to.token(ctx, path)
	if err != nil {
		return benchSample{}, err
	}
	head := "POST " + path + " HTTP/1.1\r\nHost: " + u.Host + "\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	request := []byte(head + "Content-Length: " + strconv.Itoa(len(benchBody)) + "\r\n\r\n" + benchBody)
	conns := make([]net.Conn, n)
	for i := range conns {
		if conns[i], err = (&net.Dialer{}).DialContext(ctx, "tcp", u.Host); err != nil {
			return benchSample{}, kidoban.Wrap(kidoban.KindInternal, err, "connection %d", i)
		}
		defer conns[i].Close()
	}
	times := make([][]time.Duration, n)
	fails := make([]int, n)
	began, spent := time.Now(), cpuTime(to.cmd.Process.Pid)
	var wg sync.WaitGroup
	for i, conn := range conns {
		wg.Go(func() { times[i], fails[i] = callUntil(conn, request, began.Add(d)) })
	}
	wg.Wait()
	s := benchSample{times: slices.Concat(times...), took: time.Since(began), spent: cpuTime(to.cmd.Process.Pid) - spent}
	for _, f := range fails {
		s.fails += f
	}
	return s, nil
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

// cpuTime is the processor time that a process has taken; 0 where /proc is missing.
func cpuTime(pid int) time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // Linux counts in hundredths
}

// rss reads the resident memory of a process in MB; 0 where /proc is missing.
func rss(pid int) float64 { return statusOf(pid, "VmRSS:") }

// statusOf reads a line of what Linux says of a process, in MB; 0 where /proc is missing.
func statusOf(pid int, name string) float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if v, ok := strings.CutPrefix(line, name); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

// hold keeps 64 connections calling for a time and watches the memory.
func hold(ctx context.Context, to *benchRole, d time.Duration) (*benchLong, error) {
	l := &benchLong{Minutes: d.Minutes()}
	for end := time.Now().Add(d); time.Now().Before(end); {
		p, err := load(ctx, to, 64, min(10*time.Second, time.Until(end)))
		if err != nil {
			return nil, err
		}
		l.Calls += len(p.times)
		l.Fails += p.fails
		l.RSS = append(l.RSS, rss(to.cmd.Process.Pid))
	}
	l.Highest = slices.Max(l.RSS)
	if n := len(l.RSS) / 5; n > 0 {
		l.Growth = mean(l.RSS[4*n:]) - mean(l.RSS[n:2*n])
	}
	return l, nil
}

func mean(v []float64) (m float64) {
	for _, x := range v {
		m += x / float64(len(v))
	}
	return m
}

// listTime is the median time of tools/list at the aggregate, all pages over one
// connection, in milliseconds. The first lists fill the cache.
func listTime(ctx context.Context, to *benchRole, d time.Duration) (float64, error) {
	token, err := to.token(ctx, "/mcp")
	if err != nil {
		return 0, err
	}
	u, err := url.Parse(to.url)
	if err != nil {
		return 0, kidoban.Wrap(kidoban.KindInternal, err, "address")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return 0, kidoban.Wrap(kidoban.KindUnreachable, err, "the gateway")
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 64<<10)
	var body bytes.Buffer
	cursors := []string{""} // of all pages, learned with the first list
	list := func(tell func(body []byte)) error {
		for i := 0; i < len(cursors); i++ {
			cursor := ""
			if i > 0 {
				cursor = fmt.Sprintf(`"cursor":%q`, cursors[i])
			}
			m := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + cursor + `}}`
			if _, err := fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: %d\r\n\r\n%s", u.Host, token, len(m), m); err != nil {
				return kidoban.Wrap(kidoban.KindUnreachable, err, "the gateway")
			}
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				return kidoban.Wrap(kidoban.KindUnreachable, err, "the gateway")
			}
			body.Reset()
			_, err = body.ReadFrom(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				return kidoban.Errorf(kidoban.KindInternal, "tools/list ends with status %d: %.200s", resp.StatusCode, body.Bytes())
			}
			tell(body.Bytes())
		}
		return nil
	}
	found := 0
	if err := list(func(b []byte) {
		found += bytes.Count(b, []byte(`"inputSchema"`))
		if _, next, more := bytes.Cut(b, []byte(`"nextCursor":"`)); more {
			next, _, _ = bytes.Cut(next, []byte{'"'})
			cursors = append(cursors, string(next))
		}
	}); err != nil {
		return 0, err
	}
	if found < benchTools {
		return 0, kidoban.Errorf(kidoban.KindInternal, "only %d of %d tools are listed", found, benchTools)
	}
	var times []time.Duration
	for end := time.Now().Add(d); time.Now().Before(end); {
		from := time.Now()
		if err := list(func([]byte) {}); err != nil {
			return 0, err
		}
		times = append(times, time.Since(from))
	}
	slices.Sort(times)
	return float64(times[len(times)/2].Nanoseconds()) / 1e6, nil
}
