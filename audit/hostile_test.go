package audit_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
)

// hostileRun audits a target that wants to hurt the auditor. No name is ever
// resolved; asked collects those that the run wanted to resolve.
func hostileRun(t *testing.T, target string) (*audit.Report, []string) {
	t.Helper()
	var asked []string
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // the test's own end, not a measurement
	defer cancel()
	r, err := audit.Run(ctx, audit.Options{Lab: true, Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
		asked = append(asked, host)
		return nil, kidoban.Errorf(kidoban.KindUnreachable, "the name is not resolved in a test")
	}}, target)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 200<<20 {
		t.Errorf("%d MiB are still held", grown>>20)
	}
	if r.Requests > audit.DefaultRequestsT1 {
		t.Errorf("%d requests", r.Requests)
	}
	if len(r.Results) != len(kidoban.Checks()) {
		t.Errorf("%d results for %d checks", len(r.Results), len(kidoban.Checks()))
	}
	for _, h := range r.Meta.Hosts {
		if h != "127.0.0.1" && h != "localhost" {
			t.Errorf("%s was contacted", h)
		}
	}
	texts := []string{r.Target.Detail, r.Target.Software, r.Target.MovedTo}
	for _, x := range r.Results {
		texts = append(texts, x.Summary)
	}
	for _, s := range texts {
		if !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return unicode.Is(unicode.Cc, c) || unicode.Is(unicode.Bidi_Control, c) }) {
			t.Errorf("a text holds control characters: %q", s)
		}
	}
	return r, asked
}

func hostile(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL + "/mcp"
}

// TestHostileBodies: bodies without end, slow ones, bombs and huge headers end
// with a bound, and say nothing about the server that they did not prove.
func TestHostileBodies(t *testing.T) {
	junk := bytes.Repeat([]byte("A"), 64<<10)
	bomb := func() []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		for range 1 << 10 {
			z.Write(junk)
		}
		z.Close()
		return b.Bytes()
	}()
	for name, h := range map[string]http.HandlerFunc{
		"endless": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := w.Write(junk); err != nil {
					return
				}
			}
		},
		"endless stream": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n"); err != nil {
					return
				}
			}
		},
		"gzip bomb": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Type", "application/json")
			w.Write(bomb)
		},
		"header of a megabyte": func(w http.ResponseWriter, r *http.Request) {
			for i := range 16 {
				w.Header().Set(fmt.Sprint("X-Junk-", i), string(junk))
			}
			w.WriteHeader(http.StatusUnauthorized)
		},
		"deep JSON": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":`+strings.Repeat("[", 200_000))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := hostileRun(t, hostile(t, h))
			for _, k := range findings(r) {
				t.Errorf("%s is no finding here: %s", k, result(t, r, k).Summary)
			}
		})
	}
}

// TestHostileSlowBody: a server that drips ends with the exchange's time bound.
func TestHostileSlowBody(t *testing.T) {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	target := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		for {
			select {
			case <-r.Context().Done():
				return
			case <-done:
				return
			case <-time.After(200 * time.Millisecond):
				io.WriteString(w, " ")
				w.(http.Flusher).Flush()
			}
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	r, err := audit.Run(ctx, audit.Options{Lab: true}, target)
	if r == nil || err == nil {
		t.Fatalf("report %v, error %v: a run that is cut off says so", r != nil, err)
	}
	if f := findings(r); len(f) > 0 {
		t.Errorf("found %v", f)
	}
}

// TestHostileRedirects: redirects without end are not followed, wherever they lead.
func TestHostileRedirects(t *testing.T) {
	var n atomic.Int64
	r, _ := hostileRun(t, hostile(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, fmt.Sprintf("/hop/%d", n.Add(1)), http.StatusTemporaryRedirect)
	}))
	if r.Target.Headline != kidoban.HeadlineMoved || n.Load() > 3 {
		t.Errorf("headline %s after %d requests", r.Target.Headline, n.Load())
	}
	// The same behind metadata: ten thousand hops, at whatever place.
	n.Store(0)
	r, _ = hostileRun(t, hostile(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/mcp" {
			w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="/meta"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if n.Add(1) > 10_000 {
			return
		}
		http.Redirect(w, r, fmt.Sprintf("/hop/%d", n.Load()), http.StatusFound)
	}))
	if n.Load() > audit.DefaultRequestsT1 {
		t.Errorf("%d redirects were asked for", n.Load())
	}
	if x := result(t, r, "E10-a"); x.Outcome != kidoban.Fail {
		t.Errorf("E10-a: %s %s", x.Outcome, x.Summary)
	}
}

// TestHostileTLS: garbage in place of TLS, and a certificate for somebody else.
func TestHostileTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			bufio.NewReader(c).ReadByte()
			c.Write([]byte("220 this is no TLS\r\n"))
			c.Close()
		}
	}()
	r, _ := hostileRun(t, "https://"+l.Addr().String()+"/mcp")
	if x := result(t, r, "E29-c"); r.Target.Headline != kidoban.HeadlineUnreachable || x.Outcome != kidoban.Inconclusive || x.Reason != kidoban.ReasonNetwork {
		t.Errorf("headline %s, E29-c %s %s", r.Target.Headline, x.Outcome, x.Reason)
	}
	s := httptest.NewTLSServer(http.NotFoundHandler()) // its authority is nobody's
	t.Cleanup(s.Close)
	r, _ = hostileRun(t, s.URL+"/mcp")
	if x := result(t, r, "E29-c"); x.Outcome != kidoban.Fail || x.Evidence != kidoban.Confirmed {
		t.Errorf("E29-c with an untrusted certificate: %s %s", x.Outcome, x.Summary)
	}
}

// TestHostileTexts: invalid UTF-8, terminal sequences and bidirectional controls
// in every string that a server can send.
func TestHostileTexts(t *testing.T) {
	const evil = "\xff\xfe\\u001b[31mred\\u001b]0;title\\u0007 \u202egnp.exe \\u2066x\\u2069 \\u200b<script>alert(1)</script>"
	base := ""
	target := hostile(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		switch {
		case strings.Contains(r.URL.Path, "protected-resource"):
			fmt.Fprintf(w, `{"resource":"https://%s/","authorization_servers":[%q],"scopes_supported":["*%s"],"resource_name":"%s"}`, evil, base, evil, evil)
		case strings.Contains(r.URL.Path, "well-known"):
			fmt.Fprintf(w, `{"issuer":"%s","authorization_endpoint":"%s/authorize","token_endpoint":"javascript:%s","grant_types_supported":["password","%s"],"response_types_supported":["token %s"]}`, evil, base, evil, evil, evil)
		case r.URL.Path == "/mcp":
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"delete%s","description":"%s"}],"supportedVersions":["2026-07-28","%s"],"serverInfo":{"name":"%s","version":"%s"}}}`, evil, evil, evil, evil, evil)
		default:
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, evil)
		}
	})
	base = strings.TrimSuffix(target, "/mcp")
	r, _ := hostileRun(t, target)
	for _, k := range []string{"E03-a", "E10-c", "E11-a", "E11-b", "E11-d", "E11-e"} {
		if x := result(t, r, k); x.Outcome != kidoban.Fail && x.Outcome != kidoban.Weak {
			t.Errorf("%s: %s %s", k, x.Outcome, x.Summary)
		}
	}
}

// TestHostileMetadata: metadata that point inside are a finding, and nothing is
// sent there.
func TestHostileMetadata(t *testing.T) {
	for _, inside := range []string{"http://169.254.169.254/latest", "https://169.254.169.254/latest", "https://[64:ff9b::7f00:1]/", "https://[::ffff:10.0.0.1]/as", "https://2852039166/", "file:///etc/passwd", "gopher://127.0.0.1:6379/_"} {
		t.Run(inside, func(t *testing.T) {
			// As the issuer.
			base := ""
			target := hostile(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/.well-known/oauth-protected-resource/mcp" {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, `{"resource":%q,"authorization_servers":[%q]}`, base+"/mcp", inside)
			})
			base = strings.TrimSuffix(target, "/mcp")
			r, asked := hostileRun(t, target)
			if x := result(t, r, "E10-e"); x.Outcome != kidoban.Fail {
				t.Errorf("E10-e: %s %s", x.Outcome, x.Summary)
			}
			// As the metadata address of the challenge.
			r, more := hostileRun(t, hostile(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+inside+`"`)
				w.WriteHeader(http.StatusUnauthorized)
			}))
			if x := result(t, r, "E10-d"); x.Outcome != kidoban.Fail {
				t.Errorf("E10-d: %s %s", x.Outcome, x.Summary)
			}
			// As endpoints.
			target = hostile(t, func(w http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.URL.Path, "well-known") {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, `{"resource":%q,"authorization_servers":[%q],"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q,"introspection_endpoint":%q,"jwks_uri":%q,"registration_endpoint":%q}`,
					base+"/mcp", base, base, inside, inside, inside, inside, inside)
			})
			base = strings.TrimSuffix(target, "/mcp")
			r, last := hostileRun(t, target)
			if x := result(t, r, "E11-b"); x.Outcome != kidoban.Fail {
				t.Errorf("E11-b: %s %s", x.Outcome, x.Summary)
			}
			if all := append(append(asked, more...), last...); len(all) > 0 {
				t.Errorf("names were resolved: %v", all)
			}
		})
	}
}
