package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban/account"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/sandbox/npmtest"
)

// scenario is what the official suite tells the client it starts.
type scenario struct {
	name, url, era string
	context        struct {
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
		PrivateKey   string `json:"private_key_pem"`
		IDPClient    string `json:"idp_client_id"`
		IDToken      string `json:"idp_id_token"`
		IDPIssuer    string `json:"idp_issuer"`
		IDPToken     string `json:"idp_token_endpoint"`
		ToolCalls    []struct {
			Name      string         `json:"name"`
			Arguments map[string]any `json:"arguments"`
		} `json:"toolCalls"`
	}
}

// Subject proves alice by the ID token that the suite gives out.
func (s *scenario) Subject(context.Context, string, string) (string, string, error) {
	return s.context.IDToken, account.TypeIDToken, nil
}

// TestConformanceDriver is the client that the official suite starts: an SDK
// client in front of a gateway whose one server is the suite's. It does nothing
// without the suite's environment.
func TestConformanceDriver(t *testing.T) {
	s := scenario{name: os.Getenv("MCP_CONFORMANCE_SCENARIO"), url: flag.Arg(0), era: "legacy"}
	if s.name == "" || s.url == "" {
		return
	}
	if os.Getenv("MCP_CONFORMANCE_PROTOCOL_VERSION") >= "2026" {
		s.era = "modern"
	}
	if raw := os.Getenv("MCP_CONFORMANCE_CONTEXT"); raw != "" {
		if err := json.Unmarshal([]byte(raw), &s.context); err != nil {
			t.Fatal(err)
		}
	}
	s.play(t)
}

// app is how an operator would configure the gateway for the scenario.
func (s *scenario) app(t *testing.T) *account.App {
	a := &account.App{URL: s.url, ClientID: s.context.ClientID, ClientSecret: s.context.ClientSecret, ClientName: "Kidoban", Loopback: true,
		Document: "https://conformance-test.local/client-metadata.json", Legacy: strings.Contains(s.name, "2025-03-26")}
	if s.context.PrivateKey != "" {
		key, err := account.ParseKey([]byte(s.context.PrivateKey), "")
		if err != nil {
			t.Fatal(err)
		}
		a.Key = key
	}
	switch {
	case strings.Contains(s.name, "client-credentials"):
		a.Grant = account.GrantClient
	case s.context.IDPIssuer != "":
		a.Grant = account.GrantAssert
		a.Provider = &account.Provider{Issuer: s.context.IDPIssuer, Token: s.context.IDPToken, ClientID: s.context.IDPClient}
	}
	return a
}

func (s *scenario) play(t *testing.T) {
	up := at("up", s.url)
	w := newWallet(t, nil)
	if strings.HasPrefix(s.name, "auth/") {
		a := s.app(t)
		w.Subjects = s
		w.SetApps(map[string]*account.App{"up": a})
		up.Account = AccountUser
		if a.Grant == account.GrantClient {
			up.Account = AccountShared
		}
	}
	r := newRig(t, []Server{up}, func(_ *Config, d *Deps) {
		d.Accounts = w
		d.Connect = func(_, server string) string { return connectMark + server }
	})
	answer := map[string]any{}
	if s.name == "sep-2322-client-request-state" {
		answer["confirmed"] = true
	}
	options := &mcp.ClientOptions{ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		return &mcp.ElicitResult{Action: "accept", Content: answer}, nil
	}}
	var tr http.RoundTripper = bearer{r.token("up", "alice")}
	if s.era == "legacy" {
		tr = legacyRoundTripper{tr}
	}
	tr = &person{next: tr, connect: func(ctx context.Context) error { return connectAs(ctx, w, "alice", "up") }}
	c, err := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, options).Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: r.resource("up"), HTTPClient: &http.Client{Transport: tr}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.use(t, c)
}

// use does what the scenario wants to see.
func (s *scenario) use(t *testing.T, c *mcp.ClientSession) {
	ctx := t.Context()
	call := func(name string, args map[string]any) {
		if _, err := c.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: args}); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err) // some scenarios want to be refused
		}
	}
	tools, err := c.ListTools(ctx, nil)
	if err != nil && s.name != "request-metadata" && s.name != "sep-2322-client-request-state" {
		t.Fatal(err)
	}
	switch s.name {
	case "tools_call":
		call("add_numbers", map[string]any{"a": 5, "b": 3})
	case "elicitation-sep1034-client-defaults":
		call("test_client_elicitation_defaults", map[string]any{})
	case "sse-retry":
		call("test_reconnection", map[string]any{})
	case "json-schema-2020-12-preservation":
		i := slices.IndexFunc(tools.Tools, func(x *mcp.Tool) bool { return x.Name == "json_schema_2020_12_tool" })
		call("json_schema_echo", map[string]any{"schema": tools.Tools[i].InputSchema})
	case "sep-2322-client-request-state":
		for _, name := range []string{"test_mrtr_echo_state", "test_mrtr_no_state", "test_mrtr_unrelated", "test_mrtr_no_result_type"} {
			call(name, map[string]any{})
		}
	case "http-custom-headers":
		for _, k := range s.context.ToolCalls {
			call(k.Name, k.Arguments)
		}
	case "http-invalid-tool-headers":
		for _, x := range tools.Tools {
			call(x.Name, map[string]any{"region": "us-west1"})
		}
	case "http-standard-headers":
		call(tools.Tools[0].Name, map[string]any{})
		if l, err := c.ListResources(ctx, nil); err == nil && len(l.Resources) > 0 {
			_, _ = c.ReadResource(ctx, &mcp.ReadResourceParams{URI: l.Resources[0].URI})
		}
		if l, err := c.ListPrompts(ctx, nil); err == nil && len(l.Prompts) > 0 {
			_, _ = c.GetPrompt(ctx, &mcp.GetPromptParams{Name: l.Prompts[0].Name})
		}
	}
	if strings.HasPrefix(s.name, "auth/") {
		if _, err := c.CallTool(ctx, &mcp.CallToolParams{Name: "test-tool", Arguments: map[string]any{}}); err != nil {
			t.Fatal(err)
		}
	}
}

const connectMark = "https://gate.example/connect?for="

// person goes to the connect page whenever the gateway names it, then lets the
// client try again.
type person struct {
	next    http.RoundTripper
	connect func(context.Context) error
}

func (p *person) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	for try := 0; ; try++ {
		again := r.Clone(r.Context())
		again.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := p.next.RoundTrip(again)
		if err != nil || r.Method != http.MethodPost || resp.Header.Get("Content-Type") != "application/json" {
			return resp, err
		}
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(raw))
		if err != nil || try == 5 || !bytes.Contains(raw, []byte(connectMark)) {
			return resp, err
		}
		if err := p.connect(r.Context()); err != nil {
			fmt.Fprintln(os.Stderr, "connect:", err)
			return resp, nil
		}
	}
}

// connectAs is a person at the connect page whose authorization server says yes
// at once.
func connectAs(ctx context.Context, w *account.Wallet, user, server string) error {
	const callback, state, verifier = "http://localhost:3000/callback", "the-state-of-this-step", "verifier-verifier-verifier-verifier-verifier"
	to, memo, err := w.Begin(ctx, user, server, state, oauth.S256(verifier), callback)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || back.Query().Get("state") != state {
		return fmt.Errorf("status %d, to %s", resp.StatusCode, back)
	}
	return w.Finish(ctx, user, server, memo, back.Query(), verifier, callback)
}

// refusedOnPurpose are scenarios that no set of requirements scores and that the
// gateway does not pass, with the reason.
var refusedOnPurpose = map[string]string{
	"0.1.16 auth/2025-03-26-oauth-metadata-backcompat": "its metadata names another issuer than the one it is read for (corrected in later suites); E36 2 wants that refused",
	"auth/dpop":           "draft: sender-constrained tokens towards servers",
	"auth/dpop-nonce":     "draft: the same",
	"auth/wif-jwt-bearer": "draft: workload identity",
}

// TestGVA2_OfficialClientConformanceSuite: the official suite's client scenarios
// with the gateway as the client that discovers, registers, authorizes and calls:
// every scored scenario of both revisions, and every other one but those above.
func TestGVA2_OfficialClientConformanceSuite(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	old := npmtest.Install(t, "@modelcontextprotocol/conformance@0.1.16")
	now := npmtest.Install(t, "@modelcontextprotocol/conformance@0.2.0-alpha.12")
	for _, c := range []struct {
		name, modules string
		args          []string
		least         int // scenarios
	}{
		{"0.1.16", old, []string{"--suite", "all"}, 26},
		{"2025-11-25", now, []string{"--requirements", "2025-11-25"}, 18},
		{"2026-07-28", now, []string{"--requirements", "2026-07-28"}, 32},
	} {
		if testing.Short() && c.modules == now {
			continue // the race detector sees the same paths with the first
		}
		t.Run(c.name, func(t *testing.T) {
			driver := []string{"--command", self + " -test.run=^TestConformanceDriver$"}
			bad := runClientSuite(t, c.modules, c.name, c.least, append(driver, c.args...))
			// One check is about time: how soon a stream is opened again. The suite plays all
			// scenarios at once, and a busy machine comes too late then; alone it does not.
			alone := append(driver, "--scenario", timed)
			if c.modules == now {
				alone = append(alone, "--spec-version", c.name)
			}
			for try := 0; try < 5 && len(bad) == 1 && strings.HasPrefix(bad[0], timed+": "); try++ {
				bad = runClientSuite(t, c.modules, c.name, 1, alone)
			}
			if len(bad) > 0 {
				t.Error(strings.Join(bad, "\n"))
			}
		})
	}
}

// timed is the scenario with a check of milliseconds.
const timed = "sse-retry"

// runClientSuite runs the suite once and returns what failed that should not.
func runClientSuite(t *testing.T, modules, name string, least int, args []string) (bad []string) {
	t.Helper()
	out := t.TempDir()
	cmd := exec.Command(npmtest.Node(t), append([]string{filepath.Join(modules, "@modelcontextprotocol", "conformance", "dist", "index.js"), "client", "-o", out}, args...)...)
	text, _ := cmd.CombinedOutput() // a failing scenario is in the results
	results, passed := checks(t, out), 0
	if len(results) < least {
		bad = append(bad, fmt.Sprintf("%d scenarios ran:\n%s", len(results), text))
	}
	for _, scenario := range slices.Sorted(maps.Keys(results)) {
		r := results[scenario]
		passed += r.passed
		if no := append(r.failed, r.warned...); len(no) > 0 && refusedOnPurpose[scenario] == "" && refusedOnPurpose[name+" "+scenario] == "" {
			bad = append(bad, scenario+": "+strings.Join(no, ", "))
		}
	}
	t.Logf("%d scenarios, %d checks passed, %d scenarios failed", len(results), passed, len(bad))
	return bad
}

type scenarioResult struct {
	passed         int
	failed, warned []string
}

func checks(t *testing.T, dir string) map[string]scenarioResult {
	t.Helper()
	results := map[string]scenarioResult{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Name() != "checks.json" {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var list []struct{ ID, Status string }
		if err := json.Unmarshal(raw, &list); err != nil {
			return err
		}
		name, err := filepath.Rel(dir, filepath.Dir(path))
		r := scenarioResult{}
		for _, k := range list {
			switch k.Status {
			case "SUCCESS":
				r.passed++
			case "FAILURE":
				r.failed = append(r.failed, k.ID)
			case "WARNING":
				r.warned = append(r.warned, k.ID)
			}
		}
		results[stamp.ReplaceAllString(name, "")] = r
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return results
}
