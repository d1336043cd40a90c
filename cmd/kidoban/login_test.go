package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/browser"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/vault/keychaintest"
)

// withSecrets runs kidoban with variables beside a state directory of its own.
func withSecrets(t *testing.T, secrets map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	state := t.TempDir()
	e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &err, getenv: func(name string) string {
		if name == "XDG_STATE_HOME" || name == "HOME" {
			return state
		}
		return secrets[name]
	}}
	code = run(e, args)
	return code, out.String(), err.String()
}

// TestT3LoginScripts: a login with password, second factor and consent, and one with
// a passkey, are played headless; tokens come, everything is revoked, and no secret
// is in what is written.
func TestT3LoginScripts(t *testing.T) {
	for name, tc := range map[string]struct {
		o      lab.Options
		script string
		kept   bool // the secrets are in a real keychain, put there by login keep
		secret func(l *lab.Lab) map[string]string
	}{
		"the system's keychain": {kept: true, script: "steps:\n  - fill: {field: User, value: carol}\n  - fill: {field: Password, value: \"keychain:PW\"}\n  - totp: {field: name=totp, secret: \"keychain:TOTP\"}\n  - click: Log in\n",
			secret: func(l *lab.Lab) map[string]string {
				return map[string]string{"PW": l.Accounts[2].Password, "TOTP": l.Accounts[2].TOTP}
			}},
		"password and second factor": {script: "steps:\n  - fill: {field: User, value: carol}\n  - fill: {field: Password, value: \"${env:PW}\"}\n  - totp: {field: name=totp, secret: \"${env:TOTP}\"}\n  - click: Log in\n",
			secret: func(l *lab.Lab) map[string]string {
				return map[string]string{"PW": l.Accounts[2].Password, "TOTP": l.Accounts[2].TOTP}
			}},
		"passkey": {o: lab.Options{Passkeys: true}, script: "steps:\n  - passkey: {credential: \"${env:KEY}\"}\n  - click: Log in with a passkey\n  - click: Use the passkey\n",
			secret: func(l *lab.Lab) map[string]string {
				return map[string]string{"KEY": l.Accounts[len(l.Accounts)-1].Passkey}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := lab.Start(t.Context(), tc.o)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			dir := t.TempDir()
			script, out, page := filepath.Join(dir, "login.yaml"), filepath.Join(dir, "run.json"), filepath.Join(dir, "run.html")
			if err := os.WriteFile(script, []byte(tc.script), 0o600); err != nil {
				t.Fatal(err)
			}
			secrets := tc.secret(l)
			given := secrets
			if tc.kept {
				given = nil
				keep(t, script, secrets)
			}
			code, stdout, stderr := withSecrets(t, given, "audit", l.MCPURL, "--lab", "--login-script", script, "--only", "F6-A,F6-H,F9-2,E22-1", "--json", out, "--html", page)
			if code != exitClean {
				t.Fatalf("exit %d\n%s\n%s", code, stdout, stderr)
			}
			raw, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			var run kidoban.Run
			if err := json.Unmarshal(raw, &run); err != nil {
				t.Fatal(err)
			}
			for _, r := range run.Results {
				if k := r.Key(); (k == "F6-A" || k == "F6-H" || k == "F9-2" || k == "E22-1") && r.Outcome != kidoban.Pass {
					t.Errorf("%s is %s(%s): %s", k, r.Outcome, r.Reason, r.Summary)
				}
			}
			if len(run.Residue.LeftBehind) > 0 || len(l.Clients()) > 0 {
				t.Errorf("left behind %+v, clients %v", run.Residue.LeftBehind, l.Clients())
			}
			html, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range secrets {
				if strings.Contains(string(raw)+string(html)+stdout+stderr, s) {
					t.Error("a secret was written")
				}
			}
		})
	}
}

// keep puts secrets into a fresh keychain with kidoban login keep, which prints none
// of them. Before, the script names what is missing.
func keep(t *testing.T, script string, secrets map[string]string) {
	t.Helper()
	keychaintest.Start(t)
	if code, _, stderr := withSecrets(t, nil, "audit", "https://mcp.example/mcp", "--login-script", script); code != exitUsage || !strings.Contains(stderr, "kidoban login keep PW") {
		t.Errorf("exit %d, %s", code, stderr)
	}
	for name, secret := range secrets {
		for _, s := range []string{"an earlier one", secret} {
			var out bytes.Buffer
			e := &env{ctx: t.Context(), stdin: strings.NewReader(s + "\n"), stdout: &out, stderr: &out}
			if code := run(e, []string{"login", "keep", name}); code != exitClean || strings.Contains(out.String(), s) {
				t.Fatalf("exit %d, %s", code, &out)
			}
		}
	}
}

// TestT3LoginCommands: what cannot be done is said with what to do instead.
func TestT3LoginCommands(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent") // no keychain here
	dir := t.TempDir()
	there, script := filepath.Join(dir, "there.yaml"), filepath.Join(dir, "s.yaml")
	for _, f := range []struct{ name, text string }{{there, "steps: []\n"}, {script, "steps:\n  - fill: {field: Password, value: \"keychain:x-password\"}\n"}} {
		if err := os.WriteFile(f.name, []byte(f.text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"exists already", []string{"login", "record", "https://as.example/login", "--out", there}},
		{"needs --lab", []string{"login", "record", "http://127.0.0.1:1/", "--out", filepath.Join(dir, "new.yaml")}},
		{"nothing was kept", []string{"login", "keep", "x"}},
		{"the keychain of this system does not answer", []string{"audit", "https://mcp.example/mcp", "--login-script", script}},
		{"0 steps", []string{"audit", "https://mcp.example/mcp", "--login-script", there}},
	} {
		if code, _, stderr := withSecrets(t, nil, tc.args...); code != exitUsage || !strings.Contains(stderr, tc.want) {
			t.Errorf("%v: exit %d, %q lacks %q", tc.args, code, stderr, tc.want)
		}
	}
}

// TestT3ChainsWithPictures: the confused deputy, and the consent in one browser that
// another one finishes (the shape of CVE-2026-27124), are each a chain in the HTML
// report, with the pages that a person saw.
func TestT3ChainsWithPictures(t *testing.T) {
	for flaw, tc := range map[string]struct {
		chain    string
		captions []string
	}{
		"E01-b": {"F1+E01", []string{"consent for the first client: approve"}},
		"E02-b": {"F1+E02", []string{"consent in one browser, up to the upstream: approve", "another browser, where nobody has consented: login"}},
	} {
		t.Run(flaw, func(t *testing.T) {
			l, err := lab.Start(t.Context(), lab.Options{Flaws: []string{"F1-a", flaw}})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			page := filepath.Join(t.TempDir(), "run.html")
			code, stdout, stderr := withSecrets(t, map[string]string{"PW": l.Accounts[0].Password}, "audit", l.MCPURL, "--lab", "--login-as", l.Accounts[0].User, "--password-env", "PW",
				"--only", "F1-a,F6-A,F6-G,"+flaw, "--html", page)
			if code != exitFindings || !strings.Contains(stdout, tc.chain) {
				t.Fatalf("exit %d\n%s\n%s", code, stdout, stderr)
			}
			raw, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			chains, _, _ := strings.Cut(string(raw), `id="grade"`)
			if n := strings.Count(chains, "data:image/png;base64,"); n < len(tc.captions) || !strings.Contains(chains, tc.chain) {
				t.Errorf("%d pictures", n)
			}
			for _, c := range tc.captions {
				if !strings.Contains(chains, c) {
					t.Errorf("no page %q", c)
				}
			}
		})
	}
}

// TestT3OwnBrowserAudit: --login opens the program that the environment names, and a
// person who logs in there gives the run its few codes.
func TestT3OwnBrowserAudit(t *testing.T) {
	l, err := lab.Start(t.Context(), lab.Options{Flaws: []string{"F9-2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	asked, program, out := filepath.Join(dir, "asked"), filepath.Join(dir, "browser.sh"), filepath.Join(dir, "run.json")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nprintf '%s\\n' \"$1\" >> "+asked+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // the person: every address that the browser was given, once
		defer close(done)
		client := outbound.New(outbound.Options{Lab: true})
		defer client.Close()
		jar := outbound.NewJar()
		for seen := 0; ; time.Sleep(20 * time.Millisecond) {
			raw, _ := os.ReadFile(asked)
			lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
			if _, err := os.Stat(out); err == nil {
				return
			}
			if len(raw) == 0 || len(lines) <= seen {
				continue
			}
			seen++
			u, err := url.Parse(lines[seen-1])
			if err != nil {
				t.Error(err)
				return
			}
			tab := browser.NewForms(func(ctx context.Context, method, to string, h kidoban.Fields, body []byte) *kidoban.Exchange {
				x, _ := client.Do(ctx, outbound.Req{Method: method, URL: to, Header: h, Body: body, Jar: jar})
				return x
			}, func(to string) bool { return strings.HasPrefix(to, u.Query().Get("redirect_uri")) })
			j, err := browser.Walk(context.Background(), tab, lines[seen-1], browser.Errand{Account: browser.Account{User: l.Accounts[0].User, Password: l.Accounts[0].Password}, Quick: true})
			if err != nil || j.Captured == "" {
				t.Errorf("the person got nowhere: %v", err)
				return
			}
			res, err := http.Get(j.Captured)
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
		}
	}()
	code, stdout, stderr := withSecrets(t, map[string]string{"BROWSER": program}, "audit", l.MCPURL, "--lab", "--login", "--fail-on", "medium", "--json", out)
	<-done
	raw, err := os.ReadFile(out)
	if err != nil || code != exitFindings {
		t.Fatalf("exit %d, %v\n%s\n%s", code, err, stdout, stderr)
	}
	var run kidoban.Run
	if err := json.Unmarshal(raw, &run); err != nil {
		t.Fatal(err)
	}
	want := map[string]kidoban.Outcome{"F9-2": kidoban.Fail, "E24-a": kidoban.Pass, "E22-1": kidoban.Pass, "E25-b": kidoban.Pass, "F6-B": kidoban.NotTested, "F9-4": kidoban.NotTested}
	for _, r := range run.Results {
		if w, ok := want[r.Key()]; ok && r.Outcome != w {
			t.Errorf("%s is %s(%s): %s", r.Key(), r.Outcome, r.Reason, r.Summary)
		}
		if r.Outcome == kidoban.NotTested && r.Key() == "F9-4" && !strings.Contains(r.Detail, "--login-window") {
			t.Errorf("F9-4 is decided by %q", r.Detail)
		}
	}
	given, _ := os.ReadFile(asked)
	if n := strings.Count(string(given), "\n"); n < 3 || n > 4 {
		t.Errorf("the browser was opened %d times", n)
	}
	if len(run.Residue.LeftBehind) > 0 || len(l.Clients()) > 0 {
		t.Errorf("left behind %+v, clients %v", run.Residue.LeftBehind, l.Clients())
	}
}
