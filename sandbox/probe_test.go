package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestMain lets the test binary be the helper stage and, with "attack", the
// hostile server of the escape tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "__sandbox":
			os.Exit(Stage(os.Args[2:]))
		case "attack":
			attack(os.Args[2:])
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// self is the test binary, which the hostile server is part of.
func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func newHost(t *testing.T, opt Options) *Host {
	t.Helper()
	if opt.Helper == nil {
		opt.Helper = []string{self(t), "__sandbox"}
	}
	h := NewHost(opt)
	t.Cleanup(func() { h.Close() })
	return h
}

// run starts a server, closes its input and returns what it said until its end.
func run(t *testing.T, h *Host, s Spec) (out string, p *Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	p, err := h.Start(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	p.Stdin.Close()
	if _, err := buf.ReadFrom(p.Stdout); err != nil {
		t.Fatalf("%v (%s)", err, p.Tail())
	}
	<-p.Done()
	return buf.String(), p
}

// attacker is a box around the hostile server, which gets nothing.
func attacker(t *testing.T, args ...string) Spec {
	return Spec{Name: "hostile", Command: self(t), Args: append([]string{"attack"}, args...)}
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }
