package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
)

func TestLabList(t *testing.T) {
	out, stderr, code := kidobanCmd(t, nil, "lab", "list", "--json")
	if code != exitClean {
		t.Fatal(stderr)
	}
	var doc struct {
		Switches []labSwitch
		Profiles []string
		Eras     []string
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, s := range doc.Switches {
		have[s.Key] = true
	}
	for _, c := range kidoban.Checks() {
		if !have[c.Key()] {
			t.Errorf("no switch for %s", c.Key())
		}
	}
	if len(doc.Profiles) != 6 || len(doc.Eras) != 4 {
		t.Errorf("%v %v", doc.Profiles, doc.Eras)
	}
	if out, _, _ := kidobanCmd(t, nil, "lab", "list"); !strings.Contains(out, "F5-a") {
		t.Error("the list for people lacks F5-a")
	}
}

func TestLabServe(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, w := io.Pipe()
	var stderr bytes.Buffer
	done := make(chan int, 1)
	go func() {
		done <- run(&env{ctx: ctx, stdin: strings.NewReader(""), stdout: w, stderr: &stderr}, []string{"lab", "serve", "--flaws", "F1-a,dcr-plain-http-redirect", "--profile", "login-first", "--json"})
	}()
	var line labLine
	if err := json.NewDecoder(r).Decode(&line); err != nil {
		t.Fatal(err)
	}
	if strings.Join(line.Flaws, ",") != "F1-a,F1-b" || line.Profile != "login-first" || len(line.Accounts) < 2 {
		t.Errorf("%+v", line)
	}
	req, _ := http.NewRequest("POST", line.MCPURL, strings.NewReader("{}"))
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d", res.StatusCode)
	}
	cancel()
	if code := <-done; code != exitClean {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}

func TestLabServeRefuses(t *testing.T) {
	for _, c := range []struct{ flag, value, want string }{
		{"--flaws", "F5-z", "F5-"}, {"--profile", "cdn", "cdn-challenge"}, {"--era", "modrn", "modern"}, {"--addr", "0.0.0.0:0", "loopback"}, {"--addr", "nonsense", "127.0.0.1:0"},
	} {
		_, stderr, code := kidobanCmd(t, nil, "lab", "serve", c.flag, c.value)
		if code != exitUsage || !strings.Contains(stderr, c.want) || strings.Count(strings.TrimSpace(stderr), "\n") > 0 {
			t.Errorf("%s %s: exit %d, %q", c.flag, c.value, code, stderr)
		}
	}
}
