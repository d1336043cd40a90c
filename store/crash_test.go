package store_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/store/storetest"
)

// crashURL names the database of the child process of TestKill9.
const crashURL = "KIDOBAN_CRASH_URL"

// TestCrashChild is no test of its own: as a child process it redeems codes and
// rotates refresh tokens and says each success aloud, until it is killed.
func TestCrashChild(t *testing.T) {
	url := os.Getenv(crashURL)
	if url == "" {
		return
	}
	s, err := store.Open(context.Background(), store.Options{URL: url})
	must(t, err)
	var mu sync.Mutex
	say := func(word, name string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(word, name)
	}
	for range 8 {
		go func() {
			for {
				id := rand.Text()
				if err := s.CreateCode(context.Background(), code(id, "g"+id)); err != nil {
					return
				}
				say("code", id)
				r, err := s.RedeemCode(context.Background(), authserver.Redemption{Hash: hash(id), Now: epoch, Grant: grant("g"+id, "u1", "c1"),
					Refresh: authserver.Refresh{Hash: hash("r" + id), GrantID: "g" + id, Created: epoch, Expires: epoch.Add(time.Hour)}})
				if err != nil || r != authserver.SpendDone {
					return
				}
				say("spent", id)
				sp, _, err := s.RotateRefresh(context.Background(), authserver.Rotation{Hash: hash("r" + id), Now: epoch, Grace: time.Minute, Sealed: []byte("s" + id),
					Successor: authserver.Refresh{Hash: hash("s" + id), GrantID: "g" + id, Created: epoch, Expires: epoch.Add(time.Hour)}})
				if err != nil || sp != authserver.SpendDone {
					return
				}
				say("rotated", id)
			}
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the kill, or the end of the test
}

// TestGAS4_Kill9: what was answered before a kill -9 under load holds afterwards.
// No code or refresh token is good twice, no grant is lost.
func TestGAS4_Kill9(t *testing.T) {
	for name, url := range map[string]string{"sqlite": storetest.SQLite(t), "postgres": cluster.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			said := map[string]map[string]bool{"code": {}, "spent": {}, "rotated": {}}
			for range 2 {
				crash(t, url, said)
			}
			s, err := store.Open(t.Context(), store.Options{URL: url})
			must(t, err)
			defer s.Close()
			if len(said["rotated"]) < 50 {
				t.Fatalf("the child did %d rotations only", len(said["rotated"]))
			}
			for id := range said["code"] {
				if _, err := s.Code(t.Context(), hash(id)); err != nil {
					t.Fatalf("a code is lost: %v", err)
				}
			}
			for id := range said["rotated"] {
				sp, sealed, err := s.RotateRefresh(t.Context(), authserver.Rotation{Hash: hash("r" + id), Now: epoch, Grace: time.Minute, Sealed: []byte("x"),
					Successor: authserver.Refresh{Hash: hash("x" + id), GrantID: "g" + id, Created: epoch, Expires: epoch.Add(time.Hour)}})
				must(t, err)
				if sp != authserver.SpendGrace || string(sealed) != "s"+id {
					t.Fatalf("a refresh token was good twice: %v", sp)
				}
			}
			for id := range said["spent"] {
				g, err := s.Grant(t.Context(), "g"+id)
				if err != nil || !g.Revoked.IsZero() {
					t.Fatalf("a grant is lost: %v", err)
				}
				sp, err := s.RedeemCode(t.Context(), authserver.Redemption{Hash: hash(id), Now: epoch, Burn: true})
				must(t, err)
				if sp != authserver.SpendAgain {
					t.Fatalf("a code was good twice: %v", sp)
				}
			}
		})
	}
}

// crash runs the child for a moment, kills it and collects what it said.
func crash(t *testing.T, url string, said map[string]map[string]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestCrashChild$", "-test.v")
	cmd.Env = append(os.Environ(), crashURL+"="+url)
	out, err := cmd.StdoutPipe()
	must(t, err)
	_, err = cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	n := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		word, id, ok := strings.Cut(lines.Text(), " ")
		if said[word] == nil || !ok || len(id) != 26 {
			continue // the last line may be torn
		}
		said[word][id] = true
		if n++; n == 1500 {
			must(t, cmd.Process.Signal(syscall.SIGKILL))
		}
	}
	_ = cmd.Wait() // killed
	if n < 1500 {
		t.Fatalf("the child ended by itself after %d lines", n)
	}
}

// TestPostgresRestart: the store survives a restart of the database server.
func TestPostgresRestart(t *testing.T) {
	srv, err := storetest.StartServer()
	must(t, err)
	t.Cleanup(srv.Remove)
	url, err := srv.Create()
	must(t, err)
	s, err := store.Open(t.Context(), store.Options{URL: url})
	must(t, err)
	defer s.Close()
	must(t, s.CreateGrant(t.Context(), grant("g1", "u1", "c1")))
	must(t, srv.Stop())
	if _, err := s.Grant(t.Context(), "g1"); err == nil {
		t.Fatal("a stopped database answered")
	}
	must(t, srv.Start())
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err = s.Grant(t.Context(), "g1"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	must(t, s.CreateGrant(t.Context(), grant("g2", "u1", "c1")))
}
