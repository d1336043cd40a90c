package main

import (
	"net/http"
	"syscall"
	"testing"
	"time"
)

// TestBalancersHearOfAnEnd: a gateway that is told to end says so at /readyz while it
// still takes connections; before, the port was closed with the word, and what a
// balancer sent until its next look was lost.
func TestBalancersHearOfAnEnd(t *testing.T) {
	p := startProgram(t, "notice: 10m\n") // the test ends it
	status := func(path string) int {
		resp, err := http.Get(p.url + path)
		if err != nil {
			t.Fatal(path, err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := status("/readyz"); got != http.StatusOK {
		t.Fatal(got)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		got := status("/readyz")
		if got != http.StatusOK && got != http.StatusServiceUnavailable {
			t.Fatalf("the balancer asks in vain: %d", got)
		}
		return got == http.StatusServiceUnavailable
	})
	if got := status("/login"); got != http.StatusOK {
		t.Errorf("a request that the balancer sent meanwhile: %d", got)
	}
}

// TestNoticeIsForReplicas: one gateway alone ends at once.
func TestNoticeIsForReplicas(t *testing.T) {
	for database, want := range map[string]time.Duration{"": 0, "postgres://db/kidoban": 3 * time.Second} {
		c, err := gatewayConfig{Data: t.TempDir(), Database: database}.withDefaults()
		if err != nil || time.Duration(*c.Notice) != want {
			t.Errorf("%q: %v %v", database, c.Notice, err)
		}
	}
}
