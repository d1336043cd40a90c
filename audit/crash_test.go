package audit_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
)

// TestMain lets the test binary run an audit as a process of its own, which can
// be killed.
func TestMain(m *testing.M) {
	if target := os.Getenv("KIDOBAN_TEST_AUDIT"); target != "" {
		o := audit.Options{Lab: true, Tiers: activeTiers, StateDir: os.Getenv("KIDOBAN_TEST_STATE"), Spacing: 50 * time.Millisecond}
		if _, err := audit.Run(context.Background(), o, target); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// killInTheMiddle starts an active audit of a lab as a process and kills it with -9
// when its ledger has a registration. After that one the lab keeps every request until
// then: what is under way at the kill is nothing that the lab and the ledger could be
// of two minds about.
func killInTheMiddle(t *testing.T, lo lab.Options, state string) *lab.Lab {
	t.Helper()
	var mu sync.Mutex
	kept, killed := false, make(chan struct{})
	lo.Front = func(_ string, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-killed:
				next.ServeHTTP(w, r)
				return
			default:
			}
			mu.Lock()
			keep := kept
			kept = kept || r.Method == http.MethodPost && r.URL.Path == "/register"
			mu.Unlock()
			if keep {
				<-killed // and with it who asked
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	l, err := lab.Start(context.Background(), lo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KIDOBAN_TEST_AUDIT="+l.MCPURL, "KIDOBAN_TEST_STATE="+state)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for end := time.Now().Add(2 * time.Minute); !strings.Contains(ledgers(t, state), `"event":"registered"`); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Error("no registration came")
			break
		}
	}
	_ = cmd.Process.Kill()
	<-ended
	close(killed)
	return l
}

func ledgers(t *testing.T, state string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(state, "ledger", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil {
			all.Write(b)
		}
	}
	return all.String()
}

// TestKillInTheMiddle: what a killed run left on the server, the next start
// deletes (catalogue 5.5, 10.4).
func TestKillInTheMiddle(t *testing.T) {
	state := t.TempDir()
	l := killInTheMiddle(t, lab.Options{}, state)
	left := l.Clients()
	if len(left) == 0 {
		t.Fatal("the killed run left nothing; the test shows nothing")
	}
	r, err := audit.Run(context.Background(), audit.Options{Lab: true, StateDir: state}, l.MCPURL)
	if err != nil {
		t.Fatal(err)
	}
	if now := l.Clients(); len(now) > 0 {
		t.Errorf("still there: %v", now)
	}
	if r.Residue.Registered != len(left) || r.Residue.Deleted != len(left) || len(r.Residue.LeftBehind) > 0 {
		t.Errorf("residue %+v", r.Residue)
	}
	if rest := ledgers(t, state); rest != "" {
		t.Errorf("the ledger is not settled: %s", rest)
	}
	again, err := audit.Run(context.Background(), audit.Options{Lab: true, StateDir: state}, l.MCPURL)
	if err != nil || again.Residue.Registered != 0 {
		t.Errorf("a third start finds %+v, %v", again, err)
	}
}

// TestKillWithoutManagement: where RFC 7592 is missing the next start names what
// is left, once.
func TestKillWithoutManagement(t *testing.T) {
	state := t.TempDir()
	l := killInTheMiddle(t, lab.Options{Flaws: []string{"E20-f"}}, state)
	left := l.Clients()
	r, err := audit.Run(context.Background(), audit.Options{Lab: true, StateDir: state}, l.MCPURL)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Residue.LeftBehind) != len(left) || len(left) == 0 {
		t.Fatalf("left behind %+v, on the server %v", r.Residue.LeftBehind, left)
	}
	if got := r.Residue.LeftBehind[0]; got.ClientID != left[0] || got.Issuer != l.Issuer || got.Reason == "" || got.Expires == "" {
		t.Errorf("named as %+v", got)
	}
}

// TestLedgerHidesTokens: the management token of a client is not readable in the
// ledger that a crash leaves.
func TestLedgerHidesTokens(t *testing.T) {
	state := t.TempDir()
	l := killInTheMiddle(t, lab.Options{}, state)
	text := ledgers(t, state)
	if !strings.Contains(text, l.Clients()[0]) || !strings.Contains(text, "sealed_token") || strings.Contains(text, "registration_access_token") {
		t.Errorf("ledger: %s", text)
	}
	fi, err := os.Stat(filepath.Join(state, "ledger.key"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v %v", fi, err)
	}
}
