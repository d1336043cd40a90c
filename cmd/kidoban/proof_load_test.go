package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban/oauth"
)

// The hostile load is small by default. KIDOBAN_LOAD=full runs all of it, at
// KIDOBAN_LOAD_RATE requests a second, and prints the table of docs/gateway-limits.md.
const (
	loadEnv     = "KIDOBAN_LOAD"
	loadRateEnv = "KIDOBAN_LOAD_RATE"
)

// straight sends requests past the witness: what is measured is the gateway.
type straight struct {
	to   string
	base http.RoundTripper
}

func (d straight) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Host, r.URL.Host = r.URL.Host, d.to
	return d.base.RoundTrip(r)
}

// siege is a gateway with a normal client, and attackers.
type siege struct {
	t    *testing.T
	p    *program
	app  *proofApp
	last tokens
	rate int
}

// attacker makes the i-th hostile request.
type attacker func(i int) *http.Request

func forwarded(r *http.Request, err error, from string) *http.Request {
	if err != nil {
		panic(err) // the URL is ours
	}
	r.Header.Set("X-Forwarded-For", from)
	return r
}

func (s *siege) register(from func(i int) string) attacker {
	return func(i int) *http.Request {
		body := fmt.Sprintf(`{"client_name":"flood %d","redirect_uris":["http://127.0.0.1:%d/cb"],"token_endpoint_auth_method":"none"}`, i, 1024+i%60000)
		r, err := http.NewRequest("POST", s.p.url+"/register", strings.NewReader(body))
		r = forwarded(r, err, from(i))
		r.Header.Set("Content-Type", "application/json")
		return r
	}
}

func (s *siege) authorize(i int) *http.Request {
	q := url.Values{"response_type": {"code"}, "client_id": {s.app.id}, "redirect_uri": {proofCallback}, "state": {fmt.Sprint(i)}, "scope": {"mcp:read"},
		"code_challenge": {oauth.S256(strings.Repeat("x", 43))}, "code_challenge_method": {"S256"}, "resource": {s.app.resource}}
	r, err := http.NewRequest("GET", s.p.url+"/authorize?"+q.Encode(), nil)
	return forwarded(r, err, manyAddresses(i))
}

func oneAddress(int) string { return "198.51.100.7" }

// call has no token.
func (s *siege) call(i int) *http.Request {
	r, err := http.NewRequest("POST", s.app.resource, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
	r = forwarded(r, err, manyAddresses(i))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// manyAddresses are 10,000, in 40 networks of 250.
func manyAddresses(i int) string { return fmt.Sprintf("10.%d.%d.%d", 7, i/250%40, 1+i%250) }

// attack sends the requests from first to last at the siege's rate and counts the
// answers.
func (s *siege) attack(first, last int, make attacker) map[int]int {
	var mu sync.Mutex
	got := map[int]int{}
	client := &http.Client{Timeout: 30 * time.Second, Transport: straight{s.p.listen, &http.Transport{MaxIdleConnsPerHost: 32}}}
	var next atomic.Int64
	next.Store(int64(first))
	begin := time.Now()
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= last {
					return
				}
				time.Sleep(time.Until(begin.Add(time.Duration(i-first) * time.Second / time.Duration(s.rate))))
				status := 0
				if resp, err := client.Do(make(i)); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					status = resp.StatusCode
				}
				mu.Lock()
				got[status]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return got
}

// percentile in milliseconds; d is sorted by it.
func percentile(d []time.Duration, p int) float64 {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)*p/100].Seconds() * 1000
}

// loadRow is one line of the table.
type loadRow struct {
	Attack   string      `json:"attack"`
	Requests int         `json:"requests"`
	Answers  map[int]int `json:"answers"`
	RSS      int64       `json:"rss_mb"`
	Disk     int64       `json:"disk_growth_kb"`
	QuietP50 float64     `json:"quiet_p50_ms"`
	QuietP99 float64     `json:"quiet_p99_ms"`
	CallP50  float64     `json:"call_p50_ms"`
	CallP99  float64     `json:"call_p99_ms"`
	Ratio    float64     `json:"p99_to_quiet"`
	CPU      float64     `json:"cpu_us_per_request"` // of the gateway, beyond what it takes when quiet
}

// loadTurns is how often quiet and attack take turns, so that what else the machine
// does falls on both.
const loadTurns = 8

// alternate measures the normal client in turns, without and with the attack.
func (s *siege) alternate(name string, n int, a attacker, quiet time.Duration) loadRow {
	disk := s.p.disk()
	row := loadRow{Attack: name, Requests: n, Answers: map[int]int{}}
	var still, under []time.Duration
	var stillCPU, stillTime, underCPU, underTime time.Duration
	turn := func(do func()) ([]time.Duration, time.Duration, time.Duration) {
		begin, cpu := time.Now(), s.p.cpu()
		seen := s.normal(do)
		return seen.Calls, s.p.cpu() - cpu, time.Since(begin)
	}
	for i := range loadTurns {
		l, cpu, took := turn(func() { time.Sleep(quiet / loadTurns) })
		still, stillCPU, stillTime = append(still, l...), stillCPU+cpu, stillTime+took
		l, cpu, took = turn(func() {
			for status, k := range s.attack(n*i/loadTurns, n*(i+1)/loadTurns, a) {
				row.Answers[status] += k
			}
		})
		under, underCPU, underTime = append(under, l...), underCPU+cpu, underTime+took
	}
	row.RSS, row.Disk = s.p.rss()>>20, (s.p.disk()-disk)>>10
	row.QuietP50, row.QuietP99 = percentile(still, 50), percentile(still, 99)
	row.CallP50, row.CallP99 = percentile(under, 50), percentile(under, 99)
	row.Ratio = row.CallP99 / row.QuietP99
	row.CPU = (underCPU - stillCPU*underTime/max(stillTime, 1)).Seconds() * 1e6 / float64(n)
	return row
}

// cpu is the processor time that the process has used.
func (p *program) cpu() time.Duration {
	p.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	var user, system int64
	fmt.Sscan(f[11]+" "+f[12], &user, &system)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// health asks for the page that costs least.
func (s *siege) health(int) *http.Request {
	r, err := http.NewRequest("GET", s.p.url+"/healthz", nil)
	return forwarded(r, err, "198.51.100.8")
}

// TestGRG5_HostileLoad: floods of registrations and of authorizations that nobody
// completes leave memory and disk as they are and a normal client unharmed.
func TestGRG5_HostileLoad(t *testing.T) {
	full := os.Getenv(loadEnv) == "full"
	registrations, halfOpen, quiet := 2000, 500, 2*time.Second
	s := &siege{t: t, rate: 1000}
	if full {
		registrations, halfOpen, quiet = 100_000, 10_000, 20*time.Second
		if v := os.Getenv(loadRateEnv); v != "" {
			if _, err := fmt.Sscan(v, &s.rate); err != nil || s.rate < 1 {
				t.Fatalf("%s=%q", loadRateEnv, v)
			}
		}
	}
	// The normal client's own allowance is not what is measured.
	s.p = startProgram(t, "trusted_proxies: [127.0.0.1/32]\nlimits:\n  call_per_user: {count: 1000000, per: 1m, burst: 1000000}\n  call_per_client: {count: 1000000, per: 1m, burst: 1000000}\n")
	s.app = newProofApp(s.p)
	s.app.http.Transport = straight{s.p.listen, s.app.http.Transport}
	code, verifier, err := s.app.code()
	if err != nil {
		t.Fatal(err)
	}
	var status int
	if status, s.last = s.app.redeem(code, verifier); status != http.StatusOK {
		t.Fatal(status)
	}
	rss := s.p.rss() >> 20
	run := func(name string, n int, a attacker) {
		row := s.alternate(name, n, a, quiet)
		text, _ := json.Marshal(row)
		t.Logf("%s", text)
		if made := row.Answers[http.StatusCreated]; made > 300 {
			t.Errorf("%s: %d clients were registered", name, made)
		}
		for status := range row.Answers {
			if status == 0 || status == 400 || status >= 500 {
				t.Errorf("%s: requests failed: %v", name, row.Answers)
			}
		}
		if row.RSS > rss+64 {
			t.Errorf("%s: %d MB resident, %d before all attacks", name, row.RSS, rss)
		}
		if row.Disk > 24<<10 {
			t.Errorf("%s: %d kB of disk", name, row.Disk)
		}
	}
	run("requests of /healthz, the cheapest there is", registrations/4, s.health)
	run("registrations from one address", registrations, s.register(oneAddress))
	run("registrations from 10,000 addresses", registrations, s.register(manyAddresses))
	run("half-open authorizations from 10,000 addresses", halfOpen, s.authorize)
	run("calls without a token from 10,000 addresses", registrations, s.call)
}
