package outbound

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
)

func TestHTTPClientIsGuardedAndBounded(t *testing.T) {
	c, base := serve(t, Options{MaxBody: 1000}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			w.Write(make([]byte, 2000))
			return
		}
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Encoding", "gzip")
		g := gzip.NewWriter(w)
		fmt.Fprintf(g, "got %s", b)
		g.Close()
	})
	hc := c.HTTPClient()
	resp, err := hc.Post(base, "text/plain", strings.NewReader("this"))
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); string(b) != "got this" {
		t.Fatalf("%q", b)
	}
	if _, err := hc.Get(base + "/big"); err == nil {
		t.Fatal("half a document passed for a whole one")
	}
	if _, err := hc.Get("https://10.0.0.1/"); kidoban.KindOf(err) != kidoban.KindRefused {
		t.Fatal(err)
	}
}

func TestJar(t *testing.T) {
	now := time.Unix(1000, 0)
	j := NewJar()
	learn := func(from string, lines ...string) {
		u, err := parseURL(from)
		if err != nil {
			t.Fatal(err)
		}
		var h kidoban.Fields
		for _, l := range lines {
			h = append(h, kidoban.Field{Name: "Set-Cookie", Value: l})
		}
		j.learn(u, h, now)
	}
	header := func(at string) string {
		u, err := parseURL(at)
		if err != nil {
			t.Fatal(err)
		}
		return j.header(u, now)
	}
	learn("https://a.example/x/y", "plain=1", "deep=2; Path=/x/z", "sec=3; Secure; Path=/", "__Host-h=4; Secure; Path=/", "__Host-bad=5; Path=/",
		"__Host-dom=6; Secure; Path=/; Domain=a.example", "__Secure-no=7", "short=8; Max-Age=10; Path=/", "dead=9; Max-Age=0", "wide=0; Domain=example; Path=/")
	if got := header("https://a.example/x/y"); got != "plain=1; sec=3; __Host-h=4; short=8; wide=0" {
		t.Fatal(got)
	}
	if got := header("https://a.example/x/z/q"); !strings.HasPrefix(got, "deep=2; plain=1") {
		t.Fatal(got)
	}
	if got := header("https://a.example/xx"); strings.Contains(got, "plain") {
		t.Fatal(got)
	}
	for _, at := range []string{"https://b.example/x/y", "https://a.example:8443/x/y", "https://sub.a.example/x/y"} {
		if got := header(at); got != "" {
			t.Fatalf("%s: %s", at, got)
		}
	}
	now = now.Add(11 * time.Second)
	learn("https://a.example/", "sec=; Max-Age=-1; Path=/")
	if got := header("https://a.example/"); got != "__Host-h=4; wide=0" {
		t.Fatal(got)
	}
	learn("http://c.example/", "s=1; Secure")
	learn("http://127.0.0.1:9/", "s=2; Secure")
	if header("http://c.example/") != "" || header("http://127.0.0.1:9/") != "s=2" {
		t.Fatal("Secure: loopback counts as secure, other http does not")
	}
	twin := j.Clone("other")
	learn("https://a.example/", "wide=changed; Path=/")
	if u, _ := parseURL("https://a.example/"); !strings.Contains(twin.header(u, now), "wide=0") {
		t.Fatal("the clone moved along")
	}
	for i := range 500 {
		learn("https://many.example/", fmt.Sprintf("c%d=1", i))
	}
	if n := len(j.Cookies("https://many.example/", now)); n != maxCookies {
		t.Fatalf("%d cookies", n)
	}
}

func TestRecorderHARSurvivesAKill(t *testing.T) {
	if path := os.Getenv("KIDOBAN_TEST_HAR"); path != "" { // the child: records until it is killed
		r, err := CreateRecorder(path)
		if err != nil {
			t.Fatal(err)
		}
		go func() { // or until the test is gone, which kills nobody then
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		for i := 1; ; i++ {
			r.Add(kidoban.Exchange{ID: i, Request: kidoban.Request{Method: "GET", URL: "https://a.example/?code=" + secretA},
				Response: &kidoban.Response{Status: 200, Body: bytes.Repeat([]byte("x"), 5000)}})
			if i == 20 {
				fmt.Println("running")
			}
		}
	}
	path := filepath.Join(t.TempDir(), "run.har")
	cmd := exec.Command(os.Args[0], "-test.run", "^TestRecorderHARSurvivesAKill$")
	cmd.Env = append(os.Environ(), "KIDOBAN_TEST_HAR="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if err := RepairHAR(path); err != nil {
		t.Fatal(err)
	}
	if n := harEntries(t, path); n < 20 {
		t.Fatalf("%d entries", n)
	}
	// A torn last line is cut.
	b, _ := os.ReadFile(path)
	n := harEntries(t, path)
	if err := os.WriteFile(path, b[:len(b)-200], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RepairHAR(path); err != nil {
		t.Fatal(err)
	}
	if m := harEntries(t, path); m != n-1 {
		t.Fatalf("%d entries of %d", m, n)
	}
}

func harEntries(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Log struct {
			Version string
			Entries []harLine
		}
	}
	if err := json.Unmarshal(b, &doc); err != nil || doc.Log.Version != "1.2" {
		t.Fatalf("not a HAR: %v", err)
	}
	if bytes.Contains(b, []byte(secretA)) {
		t.Fatal("a secret is in the file")
	}
	return len(doc.Log.Entries)
}

func TestRecorderKeepsNoSecretAcrossExchanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.har")
	rec, err := CreateRecorder(path)
	if err != nil {
		t.Fatal(err)
	}
	c, base := serve(t, Options{Recorder: rec}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/token":
			fmt.Fprintf(w, `{"access_token":%q}`, secretA)
		case "/bin":
			w.Write([]byte{0xff, 0xfe, 0})
		}
	})
	for _, u := range []string{base + "/token", base + "/register/" + secretA, base + "/bin", "https://10.0.0.1/"} {
		c.Do(context.Background(), Req{URL: u, Header: kidoban.Fields{{Name: "Authorization", Value: "Bearer " + secretB}}})
	}
	var buf bytes.Buffer
	if err := rec.WriteHAR(&buf); err != nil {
		t.Fatal(err)
	}
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	onDisk, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(onDisk, buf.Bytes()) {
		t.Fatalf("file and WriteHAR differ: %v", err)
	}
	if s := buf.String(); strings.Contains(s, secretA) || strings.Contains(s, secretB) || !strings.Contains(s, `"encoding":"base64"`) {
		t.Fatal(s)
	}
	if n := harEntries(t, path); n != 4 {
		t.Fatalf("%d entries", n)
	}
	if got := len(rec.Exchanges()); got != 4 {
		t.Fatalf("%d exchanges", got)
	}
}

// Whatever the text, a URL that passes leads to no closed address, and what
// net/http would make of it agrees.
func FuzzCheckURL(f *testing.F) {
	for _, s := range []string{"https://example.com/", "https://0x7f.0.0.1/", "https://[::ffff:127.0.0.1]/", "https://１２７。0。0。1/", "https://017700000001/",
		"https://127.1:443/a?b#c", "https://a@b/", "https://[fe80::1%25x]/", "https://4294967297/", "https://08.8.8.8/", "http://localhost./", "https://0x/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if CheckURL(raw) != nil {
			return
		}
		u, err := parseURL(raw)
		if err != nil || u.Scheme != "https" || u.User != nil {
			t.Fatalf("%q passed", raw)
		}
		host, err := asciiHost(u.Hostname())
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if a, dotted, ok := literal(host); ok && (!dotted || Class(a) != "") {
			t.Fatalf("%q leads to %v", raw, a)
		}
		if last := host[strings.LastIndexByte(host, '.')+1:]; strings.Trim(last, "0123456789") == "" {
			if _, dotted, ok := literal(host); !ok || !dotted {
				t.Fatalf("%q ends in a number and passes for a name", raw)
			}
		}
	})
}

func BenchmarkCheckURL(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckURL("https://mcp.example.com:8443/servers/a/mcp?x=1"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDo(b *testing.B) {
	for _, name := range []string{"plain", "recorded"} {
		b.Run(name, func(b *testing.B) {
			o := Options{}
			if name == "recorded" {
				o.Recorder = NewRecorder()
			}
			c, base := serve(b, o, func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
			})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Do(context.Background(), Req{URL: base}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
