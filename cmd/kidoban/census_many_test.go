package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/kidoban/kidoban/census"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/store/storetest"
)

// crowd is a population with its lists in a directory.
type crowd struct {
	t   *testing.T
	dir string
	n   int
	p   *lab.Population
	log *os.File
}

// newCrowd starts a population of n servers, or of KIDOBAN_CENSUS_N.
func newCrowd(t *testing.T, n int) *crowd {
	t.Helper()
	c := &crowd{t: t, dir: t.TempDir()}
	if v, err := strconv.Atoi(os.Getenv("KIDOBAN_CENSUS_N")); err == nil {
		n = v
	}
	c.n = n
	var err error
	if c.log, err = os.Create(filepath.Join(c.dir, "access.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.log.Close() })
	if c.p, err = lab.StartPopulation(t.Context(), lab.PopulationOptions{N: n, Seed: 11, Log: c.log}); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(string) error{
		"targets": func(f string) error { return wholeFile(f, 0o666, c.p.WriteTargets) }, "opt-out": func(f string) error { return wholeFile(f, 0o666, c.p.WriteOptOut) },
	} {
		if err := write(filepath.Join(c.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// command is a process of the census. Its own answers go to a file beside it.
func (c *crowd) command(log string, args ...string) *exec.Cmd {
	c.t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCensusProcess$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), "KIDOBAN_CENSUS_ARGS="+strings.Join(append([]string{"census"}, args...), "\n"))
	f, err := os.OpenFile(filepath.Join(c.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { cmd.Process.Kill() }) // when the test failed; else it has ended
	return cmd
}

// run is the first process of a census, which also writes its results.
func (c *crowd) run(name string, more ...string) *exec.Cmd {
	return c.command(name+".log", append([]string{"run", filepath.Join(c.dir, "targets"), "--lab", "--timeout", "3s", "--opt-out", filepath.Join(c.dir, "opt-out"),
		"--contact", name, "--dir", filepath.Join(c.dir, name)}, more...)...)
}

func (c *crowd) work(name, db string, more ...string) *exec.Cmd {
	return c.command(name+".log", append([]string{"work", "--db", db, "--drain"}, more...)...)
}

// wait ends the test when a process did not end well.
func (c *crowd) wait(t *testing.T, name string, cmds ...*exec.Cmd) {
	t.Helper()
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			out, _ := os.ReadFile(filepath.Join(c.dir, name+".log"))
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// same compares the results of two censuses, byte for byte.
func (c *crowd) same(t *testing.T, a, b string) {
	t.Helper()
	x, err1 := os.ReadFile(filepath.Join(c.dir, a, "results.jsonl"))
	y, err2 := os.ReadFile(filepath.Join(c.dir, b, "results.jsonl"))
	if err1 != nil || err2 != nil || len(x) == 0 {
		t.Fatalf("%d and %d bytes: %v, %v", len(x), len(y), err1, err2)
	}
	if bytes.Equal(x, y) {
		return
	}
	xs, ys := strings.Split(string(x), "\n"), strings.Split(string(y), "\n")
	for i := range min(len(xs), len(ys)) {
		if xs[i] != ys[i] {
			t.Fatalf("%s and %s differ, first in line %d:\n%s\n%s", a, b, i+1, xs[i], ys[i])
		}
	}
	t.Fatalf("%s has %d lines, %s has %d", a, len(xs), b, len(ys))
}

// TestCensusOfFourProcesses: four processes on PostgreSQL give the bytes of one
// on SQLite, once politely (one request a second to each host, as the hosts' own
// log shows), and once while one after the other is killed, ten times.
// KIDOBAN_CENSUS_N makes it larger.
func TestCensusOfFourProcesses(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, 120)
	cluster := &storetest.Cluster{}
	t.Cleanup(cluster.Close)
	intervals := map[string]time.Duration{"alone": 0, "polite": time.Second, "killed": 50 * time.Millisecond}
	began := time.Now()
	c.wait(t, "alone", c.run("alone", "--interval", "0s"))
	t.Logf("one process: %d servers in %.1f s", c.n, time.Since(began).Seconds())
	if c.n > 1000 { // for the figures
		intervals["fast"] = 0
		c.fast(t, cluster.Postgres(t))
	}
	t.Run("both", func(t *testing.T) {
		t.Run("polite", func(t *testing.T) {
			t.Parallel()
			db := cluster.Postgres(t)
			procs := []*exec.Cmd{c.run("polite", "--db", db)}
			for range 3 {
				procs = append(procs, c.work("polite", db))
			}
			c.wait(t, "polite", procs...)
			c.same(t, "alone", "polite")
		})
		t.Run("killed", func(t *testing.T) {
			t.Parallel()
			c.killed(t, cluster.Postgres(t))
			c.same(t, "alone", "killed")
		})
	})
	c.p.Close()
	c.politeness(t, intervals)
}

// fast runs four processes without pauses.
func (c *crowd) fast(t *testing.T, db string) {
	began := time.Now()
	procs := []*exec.Cmd{c.run("fast", "--db", db, "--interval", "0s")}
	for range 3 {
		procs = append(procs, c.work("fast", db))
	}
	c.wait(t, "fast", procs...)
	t.Logf("four processes: %d servers in %.1f s", c.n, time.Since(began).Seconds())
	c.same(t, "alone", "fast")
}

// killed runs a census of four processes and kills ten, each while others work.
func (c *crowd) killed(t *testing.T, url string) {
	db, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	start := func(i int) *exec.Cmd {
		if i == 0 { // what was asked before a kill counts too, so the bound of a host is higher here
			return c.run("killed", "--db", url, "--interval", "50ms", "--per-host", "200", "--workers", "2")
		}
		return c.work("killed", url, "--workers", "2")
	}
	procs := make([]*exec.Cmd, 4)
	for i := range procs {
		procs[i] = start(i)
	}
	for kill := range 10 {
		for range 25 + c.n/20 { // spread over the census, but no kill waits for long
			time.Sleep(100 * time.Millisecond)
			if _, done, err := db.CensusCount(t.Context(), "census"); err == nil && done >= c.n*(kill+1)/16 { // the last third is room for a test that is late
				break
			}
		}
		if all, done, err := db.CensusCount(t.Context(), "census"); err != nil || all > 0 && done == all {
			t.Fatalf("complete after %d kills (%v)", kill, err)
		}
		victim := procs[kill%4]
		if err := victim.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		victim.Wait() //nolint:errcheck // it was killed
		procs[kill%4] = start(kill % 4)
	}
	c.wait(t, "killed", procs...)
	pg, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Close()
	var again, left int
	err = pg.QueryRowContext(t.Context(), `SELECT COUNT(*) FILTER (WHERE attempt > 1), COUNT(*) FILTER (WHERE state = 'running') FROM river_job`).Scan(&again, &left)
	if err != nil || again == 0 || left != 0 {
		t.Errorf("%d slices were taken up again, %d are left behind, %v", again, left, err)
	}
}

// politeness reads the servers' own log: the distance of requests to a host over
// all processes of a census, the bound for a host, opt-outs, and that nothing was
// sent that leaves state behind.
func (c *crowd) politeness(t *testing.T, intervals map[string]time.Duration) {
	list, err := os.Open(filepath.Join(c.dir, "opt-out"))
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	out, err := census.ReadOptOut(list)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.log.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	type visit struct {
		last int64
		n    int
	}
	visits, seen := map[string]visit{}, map[string]int{}
	for dec := json.NewDecoder(c.log); dec.More(); {
		var h lab.PopulationHit
		if err := dec.Decode(&h); err != nil {
			t.Fatal(err)
		}
		_, who, _ := strings.Cut(strings.TrimSuffix(h.Agent, ")"), "; ")
		interval, known := intervals[who]
		if !known {
			t.Fatalf("the User-Agent %q names no census", h.Agent)
		}
		seen[who]++
		key := who + " " + h.Host
		v := visits[key]
		if gap := time.Duration(h.Micros-v.last) * time.Microsecond; v.n > 0 && gap < interval {
			t.Errorf("%s: %s after the request before", key, gap)
		}
		v.last, v.n = h.Micros, v.n+1
		visits[key] = v
		if v.n > census.DefaultPerHost && who == "polite" {
			t.Errorf("%s: %d requests", key, v.n)
		}
		if out.Has(h.Host) {
			t.Errorf("%s opted out and was asked for %s", h.Host, h.Path)
		}
		switch h.Call {
		case "", "server/discover", "initialize", "notifications/initialized", "tools/list", "kidoban/no-such-method":
		default:
			t.Errorf("call %s was sent to %s", h.Call, h.Host)
		}
		if h.Path == "/register" || h.Path == "/token" {
			t.Errorf("%s %s at %s: no state may be made", h.Method, h.Path, h.Host)
		}
	}
	for who := range intervals {
		if seen[who] == 0 {
			t.Errorf("nothing of %q is in the log", who)
		}
	}
}
