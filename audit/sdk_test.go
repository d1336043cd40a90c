package audit_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/outbound/freeport"
	"github.com/kidoban/kidoban/sandbox/npmtest"
)

// The servers below are made by others. What the audit says of them was checked
// by hand; docs/others.md shows the exchange behind each finding. A change in
// these lists is a change in the audit or in their software, and must be looked at.

// tsSDK is the version of @modelcontextprotocol/sdk whose example is audited.
const tsSDK = "1.32.2"

type echoIn struct {
	Text string `json:"text"`
}

func goSDKServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "echo", Version: "1.0.0"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "echo", Description: "Says it again."}, func(_ context.Context, _ *mcp.CallToolRequest, in echoIn) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text}}}, nil, nil
	})
	return s
}

func auditOther(t *testing.T, target string) *audit.Report {
	t.Helper()
	r, err := audit.Run(t.Context(), audit.Options{Lab: true, OwnServer: true, Tiers: activeTiers, StateDir: t.TempDir(), MaxRequests: 400}, target)
	if err != nil {
		t.Fatal(err)
	}
	evidence(t, r)
	return r
}

// evidence prints the findings, and writes every exchange where whoever writes
// docs/others.md asks for it.
func evidence(t *testing.T, r *audit.Report) {
	t.Helper()
	for _, x := range r.Results {
		if x.Outcome == "fail" || x.Outcome == "weak" {
			t.Logf("%-5s %-4s %-8s %s %v", x.Key(), x.Outcome, x.Severity, x.Summary, x.Exchanges)
		}
	}
	if dir := os.Getenv("KIDOBAN_EVIDENCE"); dir != "" { // for whoever writes docs/others.md
		for _, x := range r.Exchanges {
			f, err := os.OpenFile(filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "_")), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(f, "#%d [%s %s] %s %s\n%v\n%.600s\n", x.ID, x.Probe, x.Note, x.Request.Method, x.Request.URL, x.Request.Header, x.Request.Body)
			if x.Response != nil {
				fmt.Fprintf(f, "-> %d %v\n%.600s\n\n", x.Response.Status, x.Response.Header, x.Response.Body)
			}
			f.Close()
		}
		for i, p := range r.Shots {
			name := filepath.Join(dir, fmt.Sprintf("%s-%02d", strings.ReplaceAll(t.Name(), "/", "_"), i))
			if err := os.WriteFile(name+".txt", []byte(p.Check+" "+p.Note+"\n"+p.URL+"\n"+p.Text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if len(p.PNG) > 0 {
				if err := os.WriteFile(name+".png", p.PNG, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestOthersGoSDKOpen audits a server of the Go SDK without authorization.
func TestOthersGoSDKOpen(t *testing.T) {
	s := goSDKServer()
	ts := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil))
	defer ts.Close()
	r := auditOther(t, ts.URL+"/mcp")
	if r.Target.Headline != "open" {
		t.Errorf("headline %q, want open", r.Target.Headline)
	}
	want := []string{"E03-a", "E09-a", "E09-b", "E33-b"}
	if d := cmp.Diff(want, findings(r)); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
}

// TestOthersGoSDKBearer audits a server of the Go SDK behind the SDK's own bearer
// middleware and metadata handler; its authorization server does not exist.
func TestOthersGoSDKBearer(t *testing.T) {
	s := goSDKServer()
	mux := http.NewServeMux()
	ts := httptest.NewServer(mux)
	defer ts.Close()
	verify := func(context.Context, string, *http.Request) (*auth.TokenInfo, error) {
		return nil, errors.Join(auth.ErrInvalidToken)
	}
	guard := auth.RequireBearerToken(verify, &auth.RequireBearerTokenOptions{
		ResourceMetadataURL: ts.URL + "/.well-known/oauth-protected-resource/mcp", Scopes: []string{"mcp:read"}})
	mux.Handle("/mcp", guard(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)))
	mux.Handle("/.well-known/oauth-protected-resource/mcp", auth.ProtectedResourceMetadataHandler(&oauthex.ProtectedResourceMetadata{
		Resource: ts.URL + "/mcp", AuthorizationServers: []string{"https://as.example"}, ScopesSupported: []string{"mcp:read"}}))
	r := auditOther(t, ts.URL+"/mcp")
	if r.Target.Class != "oauth" {
		t.Errorf("class %q, want oauth", r.Target.Class)
	}
	if d := cmp.Diff([]string(nil), findings(r)); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
}

// TestOthersTypeScriptSDK audits the example OAuth server of the TypeScript SDK:
// open registration, no consent page, codes without any interaction.
func TestOthersTypeScriptSDK(t *testing.T) {
	if testing.Short() {
		t.Skip("the race run audits our own servers only")
	}
	node, dir := npmPackage(t, "@modelcontextprotocol/sdk@"+tsSDK)
	mcpPort, authPort := freePort(t), freePort(t)
	cmd := exec.CommandContext(t.Context(), node, filepath.Join(dir, "node_modules/@modelcontextprotocol/sdk/dist/esm/examples/server/simpleStreamableHttp.js"), "--oauth")
	cmd.Env = append(os.Environ(), "MCP_PORT="+mcpPort, "MCP_AUTH_PORT="+authPort)
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	waitPort(t, "localhost:"+mcpPort, out)
	waitPort(t, "localhost:"+authPort, out)
	r := auditOther(t, "http://localhost:"+mcpPort+"/mcp")
	want := []string{"F1-a", "F1-b", "F1-e", "F6-A", "F7-5", "E05-a", "E11-g", "E12-a", "E13-c", "E14-b", "E14-c", "E17-b", "E18-a", "E18-b", "E25-a", "E27-a", "E30-b"}
	if d := cmp.Diff(want, findings(r)); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
	if len(r.Chains) == 0 || r.Grade.Letter != "F" {
		t.Errorf("grade %q with %d chains; a stranger's client gets a code here", r.Grade.Letter, len(r.Chains))
	}
}

// npmPackage installs packages once into the cache and returns node and the
// folder that holds node_modules.
func npmPackage(t *testing.T, spec string, more ...string) (node, dir string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("this test runs a server on Node: install it (scripts/setup.sh node22): %v", err)
	}
	return node, filepath.Dir(npmtest.Install(t, append([]string{spec}, more...)...))
}

// pythonWith returns a Python that has the packages.
func pythonWith(t *testing.T, specs ...string) string {
	t.Helper()
	py, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("this test runs a server on Python: install it (scripts/setup.sh python): %v", err)
	}
	dir := npmtest.Cached(t, "python", specs, func(dir string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "sh", append([]string{"-c", `"$0" -m venv "$1" && d=$1 && shift && "$d/bin/pip" install -q --disable-pip-version-check "$@"`, py, dir}, specs...)...)
	})
	return filepath.Join(dir, "bin", "python")
}

// pythonSource unpacks the source of a package, with the examples that come along.
func pythonSource(t *testing.T, spec string) string {
	t.Helper()
	py := pythonWith(t, othersPython...)
	dir := npmtest.Cached(t, "source", []string{spec}, func(dir string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "sh", "-c", `"$0" -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: -d "$1" "$2" && tar xzf "$1"/*.tar.gz -C "$1" --strip-components 1`, py, dir, spec)
	})
	return dir
}

// goProgram builds a program of a module in a module of its own.
func goProgram(t *testing.T, spec, pkg string) string {
	t.Helper()
	module, version, _ := strings.Cut(spec, "@")
	dir := npmtest.Cached(t, "go", []string{spec}, func(dir string) *exec.Cmd {
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module others\n\ngo 1.26\n\nrequire "+module+" "+version+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-o", "program", module+"/"+pkg)
		cmd.Dir = dir
		return cmd
	})
	return filepath.Join(dir, "program")
}

// goSource is the folder of a package of such a program.
func goSource(t *testing.T, spec, pkg string) string {
	t.Helper()
	module, _, _ := strings.Cut(spec, "@")
	cmd := exec.CommandContext(t.Context(), "go", "list", "-mod=mod", "-f", "{{.Dir}}", module+"/"+pkg)
	cmd.Dir = filepath.Dir(goProgram(t, spec, pkg))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func freePort(t *testing.T) string {
	t.Helper()
	at, err := freeport.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(int(at.Port()))
}

func waitPort(t *testing.T, addr string, log fmt.Stringer) {
	t.Helper()
	for range 1200 { // a busy machine takes its time
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			c.Close()
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s does not answer:\n%s", addr, log)
}
