package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// isolation is a gateway before four good servers and four bad ones, with clients
// that the operator registered: each counts as a user of its own. The good servers
// and the good client are a process each, what is bad is another one.
type isolation struct {
	t      *testing.T
	p      *program
	good   *isolationEnd // the good servers
	client *isolationEnd // the good client
	bad    *isolationEnd // the bad servers and all attackers
	secret string
	tokens map[string]isolationToken // by client and path
}

type isolationToken struct {
	text string
	at   time.Time
}

const (
	isolationGood   = 4  // good servers
	isolationCalm   = 40 // good clients; the others are attackers
	isolationHordes = 50
)

// isolationTask is what a process is told, a line of JSON.
type isolationTask struct {
	Do     string            // what to do until the next line; "" is to stop
	Server string            // whom to attack
	Listen string            // of the gateway
	Public string            // its host name
	Tokens map[string]string // by client and path
	Past   map[string]string // attack these URLs instead, past the gateway
	N      int
	Span   time.Duration // in which all is to be opened
	Ahead  time.Duration // how long before the good client the attackers begin
}

// isolationSeen is what it answers when it has stopped.
type isolationSeen struct {
	Times  []time.Duration
	Lists  int
	Faults []string
	Counts map[string]int
}

// isolationEnd is such a process.
type isolationEnd struct {
	t    *testing.T
	urls map[string]string // of the servers in it
	in   *json.Encoder
	out  *json.Decoder
}

// isolationPlace is what a process is started through: on one processor, when
// there is one for each side, and behind everything else, when it is bad.
func isolationPlace(apart bool, processor, nice string) (wrap []string) {
	if apart {
		wrap = append(wrap, "taskset", "-c", processor)
	}
	if nice != "" {
		wrap = append(wrap, "nice", "-n", nice)
	}
	return wrap
}

// isolationApart tells whether the two sides can have a processor each.
func isolationApart() bool {
	_, err := exec.LookPath("taskset")
	return err == nil && runtime.NumCPU() >= 2
}

func startIsolationEnd(t *testing.T, role string, wrap []string) *isolationEnd {
	t.Helper()
	args := append(wrap, os.Args[0], "isolation-end", role)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	e := &isolationEnd{t: t, in: json.NewEncoder(in), out: json.NewDecoder(bufio.NewReader(out))}
	if err := e.out.Decode(&e.urls); err != nil {
		t.Fatalf("the process of the %s did not start: %v", role, err)
	}
	return e
}

func (e *isolationEnd) tell(task isolationTask) {
	e.t.Helper()
	if err := e.in.Encode(task); err != nil {
		e.t.Fatal(err)
	}
}

func (e *isolationEnd) stop() (seen isolationSeen) {
	e.t.Helper()
	e.tell(isolationTask{})
	if err := e.out.Decode(&seen); err != nil {
		e.t.Fatal(err)
	}
	return seen
}

func newIsolation(t *testing.T, apart bool) *isolation {
	t.Helper()
	s := &isolation{t: t, secret: strings.Repeat("s3cret-of-a-test-", 3), tokens: map[string]isolationToken{}}
	s.good = startIsolationEnd(t, "good", isolationPlace(apart, "0", ""))
	s.client = startIsolationEnd(t, "client", isolationPlace(apart, "0", ""))
	s.bad = startIsolationEnd(t, "bad", isolationPlace(apart, "1", "19"))
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(s.secret), 0o600); err != nil {
		t.Fatal(err)
	}
	var c strings.Builder
	// All limits are the defaults, but for getting so many tokens from one address,
	// and for calls of a server, which all its users share.
	c.WriteString("limits:\n  token_per_ip: {count: 100000, per: 1m, burst: 100000}\n  call_per_server: {count: 100000, per: 1m, burst: 100000}\nclients:\n")
	for i := range isolationCalm + isolationHordes {
		fmt.Fprintf(&c, "  - {id: load-%d, name: load, auth_method: client_secret_basic, secret_file: %s, grants: [client_credentials], scopes: ['mcp:read', 'mcp:write']}\n", i, file)
	}
	c.WriteString("servers:\n")
	for i := range isolationGood {
		fmt.Fprintf(&c, "  good-%d: {url: %q, address: loopback}\n", i, s.good.urls["good"])
	}
	pace := ""
	if os.Getenv(loadUnpacedEnv) != "" {
		pace = ", mib_per_second: 4000"
	}
	for name, url := range s.bad.urls {
		fmt.Fprintf(&c, "  %s: {url: %q, address: loopback, wait: 2s%s}\n", name, url, pace)
	}
	s.p = newProgram(t, c.String())
	s.p.wrap = isolationPlace(apart, "0", "")
	s.p.start()
	s.p.url = "http://" + s.p.listen // straight, without the witness
	return s
}

// token is one of a client for a path.
func (s *isolation) token(client int, path string) string {
	s.t.Helper()
	key := fmt.Sprint(client, path)
	if have := s.tokens[key]; time.Since(have.at) < 7*time.Minute {
		return have.text
	}
	public := s.p.saw.url
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"mcp:read mcp:write"}, "resource": {public + path}}
	req, err := http.NewRequest("POST", s.p.url+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Host = strings.TrimPrefix(public, "http://")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(fmt.Sprint("load-", client), s.secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		Access string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Access == "" {
		s.t.Fatalf("no token: %d %v", resp.StatusCode, err)
	}
	s.tokens[key] = isolationToken{got.Access, time.Now()}
	return got.Access
}

// tell gives a process its task, with fresh tokens.
func (s *isolation) tell(e *isolationEnd, task isolationTask) {
	s.t.Helper()
	task.Listen, task.Public, task.Tokens = s.p.listen, strings.TrimPrefix(s.p.saw.url, "http://"), map[string]string{}
	if e == s.client {
		for i := range isolationCalm {
			for _, path := range append(isolationGoodPaths(), "/mcp") {
				task.Tokens[fmt.Sprint(i, path)] = s.token(i, path)
			}
		}
	} else if task.Past == nil {
		paths := []string{"/s/" + task.Server + "/mcp"}
		if task.Server == "" {
			paths = isolationAbandoned
		}
		for i := range isolationHordes {
			for _, path := range paths {
				task.Tokens[fmt.Sprint(isolationCalm+i, path)] = s.token(isolationCalm+i, path)
			}
		}
	}
	e.tell(task)
}

func isolationGoodPaths() (paths []string) {
	for i := range isolationGood {
		paths = append(paths, fmt.Sprintf("/s/good-%d/mcp", i))
	}
	return paths
}

// spell is what some time showed.
type spell struct {
	isolationSeen
	attack isolationSeen
	rss    int64         // the most there was, bytes
	cpu    time.Duration // of the gateway
}

// live lets the good client work for a time, and the attackers with a task.
func (s *isolation) live(span time.Duration, attack *isolationTask) (got spell) {
	s.t.Helper()
	watch := isolationTask{Do: "watch"}
	if attack != nil {
		attack.Span = span
		if attack.Ahead == 0 {
			s.tell(s.client, watch)
		}
		s.tell(s.bad, *attack)
		time.Sleep(attack.Ahead)
	}
	if attack == nil || attack.Ahead > 0 {
		s.tell(s.client, watch)
	}
	cpu := s.p.cpu()
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		got.rss = max(got.rss, s.p.rss())
	}
	got.cpu = s.p.cpu() - cpu
	got.isolationSeen = s.client.stop()
	if attack != nil {
		got.attack = s.bad.stop()
	}
	return got
}

// with adds what another spell showed.
func (a spell) with(b spell) spell {
	a.Times, a.Faults = append(a.Times, b.Times...), append(a.Faults, b.Faults...)
	a.attack.Faults = append(a.attack.Faults, b.attack.Faults...)
	a.Lists, a.rss, a.cpu = a.Lists+b.Lists, max(a.rss, b.rss), a.cpu+b.cpu
	if a.attack.Counts == nil {
		a.attack.Counts = map[string]int{}
	}
	for k, n := range b.attack.Counts {
		a.attack.Counts[k] += n
	}
	return a
}

// isolationRow is what one attack showed, for the documentation.
type isolationRow struct {
	What  string         `json:"what"`
	Calls [3]int         `json:"calls_of_the_others"` // quiet, attack past the gateway, attack
	P50   [3]float64     `json:"p50_ms"`
	P99   [3]float64     `json:"p99_ms"`
	Turns [][3]float64   `json:"p99_by_turn_ms"` // tells how much of it is the machine's
	Quiet float64        `json:"p99_to_quiet"`
	Past  float64        `json:"p99_to_past"` // to the same attack past the gateway
	CPU   [3]float64     `json:"gateway_cpu_percent"`
	RSS   [3]int64       `json:"rss_mb"` // the most there was
	Did   map[string]int `json:"attackers"`
}

// loadUnpacedEnv lets servers talk as fast as they can: without the gateway's pace
// the others' latencies must show it, or they would show nothing.
const loadUnpacedEnv = "KIDOBAN_LOAD_UNPACED"

// loadOnlyEnv names one attack of the full test, as its row does, that is to be made
// alone and three times as often.
const loadOnlyEnv = "KIDOBAN_LOAD_ONLY"

// isolationTurns is how often quiet and attack take turns in the full test, so
// that what else the machine does falls on both.
const isolationTurns = 3

// TestGPX3_OneBadServerOrClientHurtsNobodyElse: one of five servers dead, slow,
// endless or lying under load; slow readers; sessions opened and abandoned. The
// calls of the others all succeed, and memory is bounded. With KIDOBAN_LOAD=full
// it is 1,000 readers and 10,000 sessions, both sides have a processor each, and
// the latencies are worth reading.
func TestGPX3_OneBadServerOrClientHurtsNobodyElse(t *testing.T) {
	full := os.Getenv(loadEnv) == "full"
	only, made := os.Getenv(loadOnlyEnv), 0
	readers, sessions, span, turns := 60, 400, time.Second, 1
	if full {
		readers, sessions, span, turns = 1000, 10_000/isolationTurns+1, 10*time.Second, isolationTurns
		if only != "" { // time for more, and a p99 needs many calls
			turns *= 3
		}
	}
	s := newIsolation(t, full && isolationApart())
	// The first list asks the dead server; it must have failed before lists count.
	for i := 0; ; i++ {
		if got := s.live(500*time.Millisecond, nil); len(got.Faults) == 0 && got.Lists > 0 {
			break
		} else if i == 40 {
			t.Fatalf("the good client is not served: %v", got.Faults)
		}
	}
	quiet := s.live(span, nil).rss >> 20
	attacks := []isolationTask{
		{Do: "hammer", Server: "dead"}, {Do: "hammer", Server: "slow"}, {Do: "hammer", Server: "endless"}, {Do: "hammer", Server: "lying"},
		{Do: "ignore", Server: "endless", N: readers}, {Do: "abandon", N: sessions},
	}
	if full { // the same when all are there already
		attacks = append(attacks, isolationTask{Do: "ignore", Server: "endless", N: readers, Ahead: 7 * time.Second})
	}
	for _, task := range attacks {
		what := strings.TrimSpace(task.Do + " " + task.Server)
		if task.Ahead > 0 {
			what += ", there already"
		}
		if only != "" && only != what {
			continue
		}
		made++
		past := task
		past.Past = s.bad.urls
		var got [3]spell
		row := isolationRow{What: what}
		for range turns {
			var tail [3]float64
			for i, attack := range []*isolationTask{nil, &past, &task} {
				if i < 2 && !full {
					continue
				}
				one := s.live(span, attack)
				tail[i], got[i] = percentile(one.Times, 99), got[i].with(one)
			}
			row.Turns = append(row.Turns, tail)
		}
		row.Did = got[2].attack.Counts
		for i, g := range got {
			row.Calls[i], row.P50[i], row.P99[i] = len(g.Times), percentile(g.Times, 50), percentile(g.Times, 99)
			row.RSS[i], row.CPU[i] = g.rss>>20, 100*g.cpu.Seconds()/(span*time.Duration(turns)).Seconds()
		}
		if full {
			row.Quiet, row.Past = row.P99[2]/row.P99[0], row.P99[2]/row.P99[1]
		}
		text, _ := json.Marshal(row)
		t.Logf("%s", text)
		for _, g := range got {
			if len(g.Faults) > 0 {
				t.Errorf("%s: %d failures of the others, the first: %s", what, len(g.Faults), g.Faults[0])
			}
			if len(g.attack.Faults) > 0 {
				t.Errorf("%s: %d faults of the attackers, the first: %s", what, len(g.attack.Faults), g.attack.Faults[0])
			}
		}
		if row.Calls[2] == 0 || got[2].Lists == 0 {
			t.Errorf("%s: %d calls and %d lists of the others", what, row.Calls[2], got[2].Lists)
		}
		if row.RSS[2] > quiet+isolationMemory {
			t.Errorf("%s: %d MB resident, %d MB when quiet", what, row.RSS[2], quiet)
		}
	}
	if made == 0 {
		t.Errorf("%s=%q names no attack", loadOnlyEnv, only)
	}
}

// isolationMemory is how much more the process may hold under any attack, in MB.
const isolationMemory = 160
