package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
)

// replay runs an attack as a person would and checks both ends: it succeeds
// against the weak lab, and ends at the gateway's page with an alert.
func replay(t *testing.T, name, page string, alert kidoban.AlertKind) {
	t.Helper()
	t.Parallel()
	shots := t.TempDir()
	var out, errs bytes.Buffer
	e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs}
	if code := run(e, []string{"lab", "attack", name, "--json", "--screenshots", shots}); code != exitClean {
		t.Fatalf("exit %d: %s%s", code, errs.String(), out.String())
	}
	var lines []attackLine
	if err := json.Unmarshal(out.Bytes(), &lines); err != nil || len(lines) != 2 {
		t.Fatalf("%v: %s", err, out.String())
	}
	weak, gate := lines[0], lines[1]
	if weak.On != "weak" || !weak.Succeeded || weak.Loot == "" {
		t.Errorf("the weak lab withstood: %+v", weak)
	}
	if gate.On != "gateway" || gate.Succeeded || gate.Loot != "" || !strings.Contains(gate.Page, page) || !slices.Contains(gate.Alerts, alert) {
		t.Errorf("the gateway: %+v", gate)
	}
	for _, s := range append(weak.Screenshots, gate.Screenshots...) {
		if i, err := os.Stat(s); err != nil || i.Size() < 1000 {
			t.Errorf("no screenshot: %v", err)
		}
	}
	if len(gate.Screenshots) == 0 {
		t.Error("no screenshot of the gateway")
	}
	if slices.Contains(gate.Saw, "third party") {
		t.Errorf("the victim was led to the third party: %v", gate.Saw)
	}
}

func TestGCO2_AttackPhishing(t *testing.T) {
	replay(t, "phishing", "Allow access?", kidoban.AlertFirstSeenHost)
}

func TestGCO1_AttackConfusedDeputy(t *testing.T) {
	replay(t, "confused-deputy", "Allow access?", kidoban.AlertFirstSeenHost)
}

func TestGCO4_AttackOtherBrowser(t *testing.T) {
	replay(t, "other-browser", "This did not work", kidoban.AlertCallbackElsewhere)
}

func TestGRG4_AttackBannedHost(t *testing.T) {
	replay(t, "banned-host", "This did not work", kidoban.AlertDeniedRegistration)
}

// TestLabAttackAgainst: a script can be turned on a server that runs already, on
// loopback only.
func TestLabAttackAgainst(t *testing.T) {
	p, err := admit(t.Context(), t.TempDir(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	call := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(string) string { return p.secret }}
		return run(e, append([]string{"lab", "attack"}, args...)), out.String() + errs.String()
	}
	// With its defaults the gateway does not even register such a client.
	if code, text := call("phishing", "--against", p.url, "--user", p.users[0], "--password-env", "P"); code != exitClean || !strings.Contains(text, "registration was refused") {
		t.Errorf("%d: %s", code, text)
	}
	if code, text := call("phishing", "--against", "https://mcp.example.com/mcp", "--user", "a", "--password-env", "P"); code != exitIncomplete || !strings.Contains(text, "loopback") {
		t.Errorf("%d: %s", code, text)
	}
	if code, _ := call("nothing"); code != exitUsage {
		t.Error(code)
	}
}
