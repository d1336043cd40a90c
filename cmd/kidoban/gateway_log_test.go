package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/store"
)

// TestGatewayLog: the audit log can be read and filtered, and a changed record is
// found.
func TestGatewayLog(t *testing.T) {
	g := startGateway(t, "audit_keep: 24h\nservers: {notes: {url: 'http://127.0.0.1:9/mcp', address: loopback}}\n")
	g.setUp()
	g.token(g.url+"/mcp", "mcp:read")
	g.page(g.url+"/authorize?client_id=nobody", nil)
	g.stop()
	call := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs}
		code := run(e, append([]string{"gateway", "log", "--config", g.config, "--data", g.data}, args...))
		return code, out.String() + errs.String()
	}
	methods := map[string]int{}
	code, text := call()
	for line := range strings.Lines(text) {
		var r gateway.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		methods[r.Method]++
	}
	if code != exitClean || methods["auth:token"] != 1 || methods["auth:register"] != 1 || methods["auth:consent"] != 1 {
		t.Errorf("%d %v", code, methods)
	}
	if code, text := call("--refused", "--since", "1h"); code != exitClean || strings.Count(text, "\n") != 1 || !strings.Contains(text, "auth:authorize") {
		t.Errorf("%d %s", code, text)
	}
	if code, text := call("--user", "Alice"); code != exitClean || !strings.Contains(text, "auth:consent") {
		t.Errorf("%d %s", code, text)
	}
	if code, text := call("--user", "nobody"); code != exitClean || text != "" {
		t.Errorf("%d %s", code, text)
	}
	if code, text := call("--verify"); code != exitClean || !strings.Contains(text, "every chain is whole") {
		t.Errorf("%d %s", code, text)
	}
	db, err := sql.Open("sqlite", filepath.Join(g.data, "kidoban.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE journal SET body = REPLACE(body, 'auth:token', 'auth:other')`); err != nil {
		t.Fatal(err)
	}
	if code, text := call("--verify"); code != exitFindings || !strings.Contains(text, "was changed at entry") {
		t.Errorf("%d %s", code, text)
	}
}

// TestGRG8_ServerDownRaisesAnAlert: calls refused because a server does not answer
// are one alert, in the same store as all others.
func TestGRG8_ServerDownRaisesAnAlert(t *testing.T) {
	conf, err := (gatewayConfig{Listen: "127.0.0.1:" + proofPort(t), Data: t.TempDir()}).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	s, err := openService(t.Context(), conf, quietLog(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for range 500 {
		s.journal.Append(t.Context(), gateway.Record{At: time.Now(), Server: "files", Method: "tools/call", User: "u", Decision: "refused", Rule: "breaker"})
	}
	var alerts []kidoban.Alert
	waitFor(t, func() bool {
		if alerts, err = s.db.Alerts(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
		return len(alerts) > 0
	})
	if len(alerts) != 1 || alerts[0].Kind != kidoban.AlertServerDown || alerts[0].Subject != "files" || alerts[0].Do == "" {
		t.Errorf("%+v", alerts)
	}
}

// TestGatewayLogInOrder: several processes write a chain each; the log is read in
// the order in which things happened.
func TestGatewayLogInOrder(t *testing.T) {
	data := t.TempDir()
	begin := time.Now().UTC().Add(-time.Hour).Truncate(time.Second)
	db, err := store.Open(t.Context(), store.Options{URL: filepath.Join(data, "kidoban.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for n, instance := range []string{"one", "two", "three"} {
		j, err := gateway.OpenJournal(t.Context(), db, instance)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1100 { // more than is read at once
			j.Append(t.Context(), gateway.Record{At: begin.Add(time.Duration(3*i+2-n) * time.Second), Method: "tools/call", Decision: "allowed"})
		}
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &out}
	if code := run(e, []string{"gateway", "log", "--data", data}); code != exitClean {
		t.Fatalf("exit %d, %s", code, out.String())
	}
	calls := 0
	for line := range strings.Lines(out.String()) {
		var r gateway.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if r.Method != "tools/call" {
			continue
		}
		if want := begin.Add(time.Duration(calls) * time.Second); !r.At.Equal(want) {
			t.Fatalf("line %d is of %s, want %s", calls, r.At, want)
		}
		calls++
	}
	if calls != 3300 {
		t.Errorf("%d records", calls)
	}
}
