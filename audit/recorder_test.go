package audit_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/sandbox/npmtest"
)

const (
	mcpRemote = "0.15.1"
	inspector = "2.12.0"
)

// startExample runs the TypeScript SDK's example server and returns its address.
func startExample(t *testing.T) string {
	t.Helper()
	node, dir := npmPackage(t, "@modelcontextprotocol/sdk@"+tsSDK)
	mcpPort, authPort := freePort(t), freePort(t)
	cmd := exec.CommandContext(t.Context(), node, filepath.Join(dir, "node_modules/@modelcontextprotocol/sdk/dist/esm/examples/server/simpleStreamableHttp.js"), "--oauth")
	cmd.Env = append(os.Environ(), "MCP_PORT="+mcpPort, "MCP_AUTH_PORT="+authPort)
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	waitPort(t, "localhost:"+mcpPort, out)
	waitPort(t, "localhost:"+authPort, out)
	return "http://localhost:" + mcpPort + "/mcp"
}

// fakeBrowser is a program that opens an address and follows redirects, as a
// browser would for a server that asks nobody.
func fakeBrowser(t *testing.T, node string) string {
	t.Helper()
	dir := t.TempDir()
	js, sh := filepath.Join(dir, "open.mjs"), filepath.Join(dir, "open.sh")
	if err := os.WriteFile(js, []byte("await fetch(process.argv[2], {redirect: 'follow'});\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sh, []byte("#!/bin/sh\nexec '"+node+"' '"+js+"' \"$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return sh
}

// recordClient runs a client against a recorder before server and checks that the
// file gives the verdicts of the live run.
func recordClient(t *testing.T, server string, client func(url string) *exec.Cmd, wantOutput string) *audit.Report {
	t.Helper()
	file := filepath.Join(t.TempDir(), "f.har")
	har, err := outbound.CreateRecorder(file)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := audit.StartRecorder(t.Context(), audit.RecorderOptions{Recorder: har}, server)
	if err != nil {
		t.Fatal(err)
	}
	cmd := client(rec.URL())
	stdin, hold, err := os.Pipe() // mcp-remote leaves when its input ends
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	defer stdin.Close()
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), wantOutput) {
		t.Errorf("the client: %v\n%s", err, out)
	}
	rec.Close()
	live, err := rec.Observation().Report(audit.ObservedOptions{Target: rec.Target()})
	if err != nil {
		t.Fatal(err)
	}
	if err := har.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o := audit.Observe()
	if err := o.ReadHAR(t.Context(), "f.har", bytes.NewReader(raw)); err != nil || len(o.Notes()) > 0 {
		t.Fatal(err, o.Notes())
	}
	again, err := o.Report(audit.ObservedOptions{Target: rec.Target()})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range live.Results {
		if a := again.Results[i]; a.Outcome != r.Outcome || a.Summary != r.Summary {
			t.Errorf("%s: %s live, %s from the file: %s / %s", r.Key(), r.Outcome, a.Outcome, r.Summary, a.Summary)
		}
	}
	var seen []string
	listed := false
	for _, x := range har.Exchanges() {
		listed = listed || strings.Contains(string(x.Request.Body), `"tools/list"`) && x.Status() == 200 && x.Request.Header.Get("Authorization") != "" && strings.Contains(string(x.Response.Body), `"greet"`)
		seen = append(seen, x.Request.Method+" "+strings.SplitN(x.Request.URL, "?", 2)[0])
	}
	if !listed {
		t.Errorf("the client did not list the tools:\n%s", out)
	}
	for _, want := range []string{"/register", "/authorize", "/token", "/.well-known/oauth-protected-resource"} {
		if !strings.Contains(strings.Join(seen, "\n"), want) {
			t.Errorf("%s did not pass through the recorder:\n%s", want, strings.Join(seen, "\n"))
		}
	}
	return live
}

// exampleFindings are what the example server's traffic shows; the same ones, as
// far as they are passive, as TestOthersTypeScriptSDK finds by asking.
var exampleFindings = []string{"F6-A", "E11-g", "E12-a", "E25-a", "E30-b"}

func wantExample(t *testing.T, r *audit.Report) {
	t.Helper()
	got := findings(r)
	for _, k := range got {
		t.Logf("%s %s", k, result(t, r, k).Summary)
	}
	for _, k := range exampleFindings {
		if out := result(t, r, k).Outcome; out != kidoban.Fail && out != kidoban.Weak {
			t.Errorf("%s: %+v", k, result(t, r, k))
		}
	}
	for _, k := range got {
		if !strings.Contains(" "+strings.Join(exampleFindings, " ")+" E17-c ", " "+k+" ") {
			t.Errorf("%s was not found by asking", k)
		}
	}
}

func TestRecordMCPRemote(t *testing.T) {
	if testing.Short() {
		t.Skip("the race run audits our own servers only")
	}
	server := startExample(t)
	node, dir := npmPackage(t, "mcp-remote@"+mcpRemote)
	browser := fakeBrowser(t, node)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r := recordClient(t, server, func(url string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, node, filepath.Join(dir, "node_modules/mcp-remote/dist/client.js"), url, "--host", "127.0.0.1")
		cmd.Env = append(os.Environ(), "MCP_REMOTE_CONFIG_DIR="+t.TempDir(), "BROWSER="+browser)
		return cmd
	}, "Connected successfully")
	wantExample(t, r)
}

func TestRecordInspector(t *testing.T) {
	if testing.Short() {
		t.Skip("the race run audits our own servers only")
	}
	server := startExample(t)
	_, dir := npmPackage(t, "@modelcontextprotocol/inspector@"+inspector)
	node := npmtest.Node(t)
	browser := fakeBrowser(t, node)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r := recordClient(t, server, func(url string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, node, filepath.Join(dir, "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"), "--cli", url, "--transport", "http", "--method", "tools/list", "--format", "json",
			"--callback-url", "http://127.0.0.1:"+freePort(t)+"/oauth/callback") // its own port is one for all
		cmd.Env = append(os.Environ(), "MCP_STORAGE_DIR="+t.TempDir(), "MCP_AUTO_OPEN_ENABLED=true", "MCP_INSPECTOR_SECRET_STORE=file", "BROWSER="+browser)
		return cmd
	}, "greet")
	wantExample(t, r)
}

// TestRecorderStreams: what the server sends bit by bit arrives bit by bit, and
// addresses are rewritten both ways.
func TestRecorderStreams(t *testing.T) {
	step := make(chan struct{})
	var base string
	mux := http.NewServeMux()
	mux.HandleFunc("/sse", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "event: endpoint\ndata: "+base+"/messages\n\n")
		w.(http.Flusher).Flush()
		<-step
		io.WriteString(w, "data: two\n\n")
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Location", base+"/next?u="+base+"1")
		w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+base+`/.well-known/oauth-protected-resource"`)
		w.Header().Set("Set-Cookie", "a=b; Domain=x.example; Path=/")
		w.WriteHeader(401)
		io.WriteString(w, r.URL.Query().Get("resource")+" "+string(b)+" "+r.Header.Get("Origin"))
	})
	ts := httptest.NewServer(mux)
	defer ts.Close()
	base = ts.URL
	har := outbound.NewRecorder()
	rec, err := audit.StartRecorder(t.Context(), audit.RecorderOptions{Recorder: har}, ts.URL+"/sse")
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	local := strings.TrimSuffix(rec.URL(), "/sse")
	resp, err := http.Get(rec.URL())
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200)
	n, _ := resp.Body.Read(buf)
	if got := string(buf[:n]); got != "event: endpoint\ndata: "+local+"/messages\n\n" {
		t.Errorf("the first event came as %q", got)
	}
	close(step)
	rest, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(rest) != "data: two\n\n" {
		t.Errorf("%q", rest)
	}
	req, _ := http.NewRequest("POST", local+"/echo?resource="+local, strings.NewReader(`{"r":"`+local+`/x"}`))
	req.Header.Set("Origin", local)
	resp, err = http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(b) != ts.URL+` {"r":"`+ts.URL+`/x"} `+ts.URL {
		t.Errorf("the server saw %s", b)
	}
	if loc := resp.Header.Get("Location"); loc != local+"/next?u="+ts.URL+"1" {
		t.Errorf("Location %s: a longer port is another origin", loc)
	}
	if h := resp.Header.Get("WWW-Authenticate") + resp.Header.Get("Set-Cookie"); !strings.Contains(h, local) || strings.Contains(h, "Domain") {
		t.Errorf("%s", h)
	}
}

func TestRecorderRefuses(t *testing.T) {
	for _, c := range [][2]string{{"0.0.0.0:0", "https://mcp.example.com/mcp"}, {"127.0.0.1:0", "http://mcp.example.com/mcp"}, {"127.0.0.1:0", "https://u@mcp.example.com/"}, {"nonsense", "https://mcp.example.com/"}} {
		if _, err := audit.StartRecorder(t.Context(), audit.RecorderOptions{Addr: c[0], Recorder: outbound.NewRecorder()}, c[1]); kidoban.KindOf(err) != kidoban.KindUsage {
			t.Errorf("%v: %v", c, err)
		}
	}
}
