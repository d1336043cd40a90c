package audit_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/report"
)

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/mcp"
}

func passive(t *testing.T, target string) *audit.Report {
	t.Helper()
	r, err := audit.Run(context.Background(), audit.Options{Lab: true, StateDir: t.TempDir()}, target)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Results) != len(kidoban.Checks()) {
		t.Errorf("%d results for %d checks", len(r.Results), len(kidoban.Checks()))
	}
	return r
}

// TestHeadlines: what is no gradable server is called by its name.
func TestHeadlines(t *testing.T) {
	list := `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"},{"name":"b"}]}}`
	for _, c := range []struct {
		name     string
		h        http.HandlerFunc
		headline string
		class    audit.Class
		tools    int
	}{
		{"open, no session id", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if strings.Contains(string(body), `"tools/list"`) {
				w.Header().Set("Content-Type", "application/json")
				io.WriteString(w, list)
				return
			}
			http.Error(w, "no", http.StatusBadRequest)
		}, kidoban.HeadlineOpen, audit.NoAuthList, 2},
		{"open, event stream, cursor loop", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if strings.Contains(string(body), `"tools/list"`) {
				w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprintf(w, "event: message\ndata: %s\n\n", strings.Replace(list, `"tools"`, `"nextCursor":"x","tools"`, 1))
				return
			}
			http.NotFound(w, r)
		}, kidoban.HeadlineOpen, audit.NoAuthList, 4},
		{"a web page", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<h1>hello</h1>")
		}, kidoban.HeadlineNotMCP, audit.NotMCP, 0},
		{"moved", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://new.example/mcp", http.StatusMovedPermanently)
		}, kidoban.HeadlineMoved, audit.NotMCP, 0},
		{"static key", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/mcp" {
				http.NotFound(w, r)
				return
			}
			http.Error(w, "missing X-API-Key", http.StatusUnauthorized)
		}, kidoban.HeadlineGraded, audit.Static, 0},
		{"basic", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/mcp" {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}, kidoban.HeadlineGraded, audit.OtherAuth, 0},
	} {
		r := passive(t, serve(t, c.h))
		if r.Target.Headline != c.headline || r.Target.Class != string(c.class) || r.Target.Tools != c.tools {
			t.Errorf("%s: headline %s class %s tools %d (%s)", c.name, r.Target.Headline, r.Target.Class, r.Target.Tools, r.Target.Detail)
		}
		if want := fmt.Sprintf("%d tools answer to anyone", c.tools); c.headline == kidoban.HeadlineOpen && r.Target.Detail != want { // the report says the rest
			t.Errorf("%s: detail %q, want %q", c.name, r.Target.Detail, want)
		}
		if r.Target.Headline != kidoban.HeadlineGraded && r.Grade.Letter != "" {
			t.Errorf("%s: graded %s", c.name, r.Grade.Letter)
		}
	}
	if r := passive(t, "http://127.0.0.1:1/mcp"); r.Target.Headline != kidoban.HeadlineUnreachable || r.Target.Class != string(audit.Dead) {
		t.Errorf("closed port: %+v", r.Target)
	}
}

// TestNormalizeTarget: what is no target is refused with a sentence that helps.
func TestNormalizeTarget(t *testing.T) {
	for in, want := range map[string]string{
		"mcp.example.com/mcp": "https://mcp.example.com/mcp", "HTTPS://MCP.Example.com/Path": "https://mcp.example.com/Path", "https://a.example/mcp#x": "https://a.example/mcp",
	} {
		if got, err := audit.NormalizeTarget(in, false); err != nil || got != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{"127.0.0.1:8787/s/notes/mcp": "http://127.0.0.1:8787/s/notes/mcp", "localhost:80": "http://localhost:80", "mcp.example.com/mcp": "https://mcp.example.com/mcp"} {
		if got, err := audit.NormalizeTarget(in, true); err != nil || got != want {
			t.Errorf("in a lab, %s: %s, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "http://mcp.example.com/mcp", "https://user:pw@host/", "ftp://host/", "https://", "https://ho st/", "https://host\\x/", "http://127.0.0.1:80/", "https://localhost/", "javascript:alert(1)"} {
		if got, err := audit.NormalizeTarget(bad, false); kidoban.KindOf(err) != kidoban.KindUsage || got != "" {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
}

// TestPermission: off loopback the active tiers need a name or a published
// proof (audit principle 5).
func TestPermission(t *testing.T) {
	o := audit.Options{Tiers: slices.Clone(activeTiers), StateDir: t.TempDir(), TXT: func(context.Context, string) ([]string, error) { return nil, nil }}
	_, err := audit.Run(context.Background(), o, "https://mcp.invalid/mcp")
	if kidoban.KindOf(err) != kidoban.KindUsage || !strings.Contains(err.Error(), "kidoban-audit=") || !strings.Contains(err.Error(), "--authorized") {
		t.Errorf("without permission: %v", err)
	}
	proof, err := audit.OwnershipProof(o.StateDir, "mcp.invalid")
	if err != nil {
		t.Fatal(err)
	}
	o.TXT = func(_ context.Context, host string) ([]string, error) {
		if host != "_kidoban-audit.mcp.invalid" {
			t.Errorf("asked for %s", host)
		}
		return []string{"other", proof}, nil
	}
	r, err := audit.Run(context.Background(), o, "https://mcp.invalid/mcp")
	if err != nil || !strings.Contains(r.Meta.Authorized, "mcp.invalid") {
		t.Errorf("with a record: %v", err)
	}
	if other, _ := audit.OwnershipProof(t.TempDir(), "mcp.invalid"); other == proof {
		t.Error("another state directory has the same proof")
	}
	o.Tiers = append(o.Tiers, kidoban.T4) // a proof of ownership is no written statement
	if _, err := audit.Run(context.Background(), o, "https://mcp.invalid/mcp"); kidoban.KindOf(err) != kidoban.KindUsage || !strings.Contains(err.Error(), "written statement") {
		t.Errorf("T4 without a statement: %v", err)
	}
	o.TXT, o.Authorized = nil, "ticket 4711"
	if r, err := audit.Run(context.Background(), o, "https://mcp.invalid/mcp"); err != nil || r.Meta.Authorized != "ticket 4711" {
		t.Errorf("with a name: %v", err)
	}
}

// TestPreRegistered: with a client of the operator's the authorization endpoint
// is tested without a registration.
func TestPreRegistered(t *testing.T) {
	r, l := runLab(t, lab.Options{Flaws: []string{"F5-a"}}, nil)
	if len(findings(r)) != 1 {
		t.Fatalf("found %v", findings(r))
	}
	r, err := audit.Run(context.Background(), audit.Options{Lab: true, StateDir: t.TempDir(), MaxRequests: 300,
		Clients: []audit.PreRegistered{{ID: "cloud-stub", RedirectURI: l.CloudURL}}}, l.MCPURL)
	if err != nil {
		t.Fatal(err)
	}
	if f := findings(r); len(f) != 1 || f[0] != "F5-a" || r.Residue.Registered != 0 {
		t.Errorf("found %v, residue %+v", f, r.Residue)
	}
	if x := result(t, r, "F1-a"); x.Outcome != kidoban.NotTested || x.Reason != kidoban.ReasonTier {
		t.Errorf("F1-a: %+v", x)
	}
}

// TestClosedWithoutClient: T1 alone names what a client would open.
func TestClosedWithoutClient(t *testing.T) {
	r, _ := runLab(t, lab.Options{Flaws: []string{"F5-a", "F7-1"}}, func(o *audit.Options) { o.Tiers = nil })
	for _, k := range []string{"F2-a", "F5-a", "F7-1", "E26-a", "F6-A"} {
		if x := result(t, r, k); x.Outcome != kidoban.NotTested || x.Reason != kidoban.ReasonClient || !strings.Contains(x.Detail, "--client-id") {
			t.Errorf("%s: %s %s %s", k, x.Outcome, x.Reason, x.Detail)
		}
	}
	for k, want := range map[string]kidoban.Reason{"F9-2": kidoban.ReasonLogin, "E37-a": kidoban.ReasonSecondLogin, "F1-a": kidoban.ReasonTier} {
		if x := result(t, r, k); x.Outcome != kidoban.NotTested || x.Reason != want {
			t.Errorf("%s: %s %s", k, x.Outcome, x.Reason)
		}
	}
}

// TestRateLimitIsNoRefusal: a registration limit is inconclusive, never a pass.
func TestRateLimitIsNoRefusal(t *testing.T) {
	r, l := runLab(t, lab.Options{Registrations: 1, Flaws: []string{"F1-a"}}, nil)
	if x := result(t, r, "F1-a"); x.Outcome != kidoban.Inconclusive || x.Reason != kidoban.ReasonRateLimit {
		t.Errorf("F1-a: %s %s %s", x.Outcome, x.Reason, x.Summary)
	}
	again, err := audit.Run(context.Background(), audit.Options{Lab: true, Tiers: activeTiers, StateDir: t.TempDir()}, l.MCPURL)
	if err != nil {
		t.Fatal(err)
	}
	if x := result(t, again, "F5-a"); x.Outcome != kidoban.Inconclusive || x.Reason != kidoban.ReasonRateLimit {
		t.Errorf("F5-a without a client: %s %s %s", x.Outcome, x.Reason, x.Summary)
	}
}

// TestSameInputSameBytes: two runs over the same server differ in times and ids
// only.
func TestSameInputSameBytes(t *testing.T) {
	l, err := lab.Start(context.Background(), lab.Options{Flaws: []string{"F1-a", "F4-1", "F5-b", "F7-2"}, Registrations: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var texts []string
	for range 2 {
		r, err := audit.Run(context.Background(), audit.Options{Lab: true, OwnServer: true, Tiers: activeTiers, StateDir: t.TempDir(), MaxRequests: 500}, l.MCPURL)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := report.JSON(&b, report.Stable(r.Run)); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, b.String())
	}
	if d := cmp.Diff(texts[0], texts[1]); d != "" {
		t.Errorf("two runs differ:\n%s", d)
	}
}

// TestHostileTargets: a bounded end, and a result for each check.
func TestHostileTargets(t *testing.T) {
	unauthorized := func(w http.ResponseWriter, r *http.Request, issuer string) bool {
		if r.URL.Path == "/mcp" {
			w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="/.well-known/oauth-protected-resource/mcp"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource") {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"resource":"http://%s/mcp","authorization_servers":[%q]}`, r.Host, issuer)
			return true
		}
		return false
	}
	metadata := func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/.well-known/oauth-authorization-server") {
			w.Header().Set("Content-Type", "application/json")
			b := "http://" + r.Host
			fmt.Fprintf(w, `{"issuer":%q,"authorization_endpoint":"%s/authorize","token_endpoint":"%s/token","registration_endpoint":"%s/register","code_challenge_methods_supported":["S256"]}`, b, b, b, b)
			return true
		}
		if r.URL.Path == "/register" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(201)
			io.WriteString(w, `{"client_id":"c1\u001b[31m\u202e"}`)
			return true
		}
		return false
	}
	for name, h := range map[string]http.HandlerFunc{
		"metadata inside the network": func(w http.ResponseWriter, r *http.Request) {
			if !unauthorized(w, r, "http://169.254.169.254/latest") {
				http.NotFound(w, r)
			}
		},
		"metadata through NAT64": func(w http.ResponseWriter, r *http.Request) {
			if !unauthorized(w, r, "https://[64:ff9b::7f00:1]/x") {
				http.NotFound(w, r)
			}
		},
		"redirects without end": func(w http.ResponseWriter, r *http.Request) {
			if !unauthorized(w, r, "http://"+r.Host) && !metadata(w, r) {
				n := 0
				fmt.Sscan(strings.TrimPrefix(r.URL.Path, "/hop/"), &n)
				http.Redirect(w, r, fmt.Sprintf("/hop/%d", n+1), http.StatusFound)
			}
		},
		"a redirect loop": func(w http.ResponseWriter, r *http.Request) {
			if !unauthorized(w, r, "http://"+r.Host) && !metadata(w, r) {
				http.Redirect(w, r, "/authorize", http.StatusFound)
			}
		},
		"endless bodies": func(w http.ResponseWriter, r *http.Request) {
			if !unauthorized(w, r, "http://"+r.Host) && !metadata(w, r) {
				chunk := []byte(strings.Repeat("<div>\x1b[2J\u202e\xff", 4096))
				for r.Context().Err() == nil {
					if _, err := w.Write(chunk); err != nil {
						return
					}
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := serve(t, h)
			ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
			defer cancel()
			r, err := audit.Run(ctx, audit.Options{Lab: true, Tiers: activeTiers, StateDir: t.TempDir()}, target)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Results) != len(kidoban.Checks()) {
				t.Errorf("%d results", len(r.Results))
			}
			for _, x := range r.Results {
				if strings.ContainsAny(x.Summary, "\x1b\u202e") {
					t.Errorf("%s: raw control characters in %q", x.Key(), x.Summary)
				}
			}
			for _, x := range r.Exchanges {
				if x.Response != nil && !strings.HasPrefix(x.Response.Addr, "127.0.0.1:") {
					t.Errorf("reached %s", x.Response.Addr)
				}
			}
		})
	}
}
