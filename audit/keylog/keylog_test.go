package keylog_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/keylog"
)

// tap passes connections on and keeps what each end sends.
type tap struct {
	mu    sync.Mutex
	conns [][2]*bytes.Buffer
	addr  string
}

func newTap(t *testing.T, to string) *tap {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{addr: l.Addr().String()}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				return
			}
			pair := [2]*bytes.Buffer{{}, {}}
			p.mu.Lock()
			p.conns = append(p.conns, pair)
			p.mu.Unlock()
			pass := func(dst, src net.Conn, keep *bytes.Buffer) {
				defer dst.Close()
				buf := make([]byte, 4096)
				for {
					n, err := src.Read(buf)
					p.mu.Lock()
					keep.Write(buf[:n])
					p.mu.Unlock()
					if _, werr := dst.Write(buf[:n]); err != nil || werr != nil {
						return
					}
				}
			}
			wg.Go(func() { pass(s, c, pair[0]) })
			wg.Go(func() { pass(c, s, pair[1]) })
		}
	})
	return p
}

// streams are the bytes of the n-th connection.
func (p *tap) streams(n int) (client, server []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.conns[n][0].Bytes()), bytes.Clone(p.conns[n][1].Bytes())
}

// echo is a TLS server that answers with what it got, long enough for many
// records.
func echo(t *testing.T, cfg *tls.Config) *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "%s %s\n%s", r.Proto, r.URL, bytes.Repeat(b, 3))
	}))
	s.TLS = cfg
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func join(chunks []keylog.Chunk) []byte {
	var b []byte
	for _, c := range chunks {
		b = append(b, c.Data...)
	}
	return b
}

// TestTLS12 reads what Go's own client and server say in every TLS 1.2 suite.
func TestTLS12(t *testing.T) {
	for _, id := range []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256} {
		t.Run(tls.CipherSuiteName(id), func(t *testing.T) {
			s := echo(t, &tls.Config{})
			p := newTap(t, s.Listener.Addr().String())
			var keys bytes.Buffer
			c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{id}, KeyLogWriter: &keys, ServerName: "mcp.example.com"}}}
			talk(t, c, p, &keys)
		})
	}
}

// TestTLS13 reads Go's client and server on TLS 1.3, the hello retry included.
func TestTLS13(t *testing.T) {
	for name, cfg := range map[string]*tls.Config{"plain": {}, "retry": {CurvePreferences: []tls.CurveID{tls.CurveP384}}} {
		t.Run(name, func(t *testing.T) {
			s := echo(t, cfg)
			p := newTap(t, s.Listener.Addr().String())
			var keys bytes.Buffer
			c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, KeyLogWriter: &keys, ServerName: "mcp.example.com"}}}
			talk(t, c, p, &keys)
		})
	}
}

func talk(t *testing.T, c *http.Client, p *tap, keys *bytes.Buffer) {
	t.Helper()
	body := bytes.Repeat([]byte("mcp "), 10_000)
	for n := range 3 {
		res, err := c.Post(fmt.Sprintf("https://%s/step/%d", p.addr, n), "text/plain", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	c.CloseIdleConnections()
	var l keylog.Log
	if err := l.Read("keys", keys); err != nil {
		t.Fatal(err)
	}
	client, server := p.streams(0)
	if !l.Knows(client[:43]) || l.Knows(server) {
		t.Error("the log does not know its own connection by its first bytes")
	}
	plain, err := l.Open(client, server)
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(bytes.NewReader(join(plain.Client)))
	for n := range 3 {
		req, err := http.ReadRequest(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(req.Body)
		if err != nil || !bytes.Equal(got, body) || req.URL.Path != fmt.Sprintf("/step/%d", n) {
			t.Errorf("request %d: %s, %d bytes, %v", n, req.URL, len(got), err)
		}
	}
	if got := bytes.Count(join(plain.Server), []byte("mcp ")); got != 3*3*10_000 || plain.Host != "mcp.example.com" {
		t.Errorf("%d words in the answers, host %q", got, plain.Host)
	}
	if last := plain.Server[len(plain.Server)-1].End; last > len(server) || last < len(server)/2 {
		t.Errorf("the last chunk ends at %d of %d", last, len(server))
	}
}

// TestTLS13Suites reads what Node's OpenSSL says in each suite of TLS 1.3; Go's
// client cannot choose among them.
func TestTLS13Suites(t *testing.T) {
	for _, suite := range []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"} {
		t.Run(suite, func(t *testing.T) {
			s := echo(t, &tls.Config{MinVersion: tls.VersionTLS13})
			p := newTap(t, s.Listener.Addr().String())
			host, port, _ := net.SplitHostPort(p.addr)
			out := filepath.Join(t.TempDir(), "keys")
			script := `const tls=require("tls"),fs=require("fs"),[,suite,host,port,out]=process.argv;
const c=tls.connect({host,port:+port,ciphers:suite,rejectUnauthorized:false,servername:"mcp.example.com"},()=>c.write("GET /"+suite+" HTTP/1.1\r\nHost: mcp.example.com\r\nConnection: close\r\n\r\n"));
c.on("keylog",l=>fs.appendFileSync(out,l));c.on("data",()=>{});c.on("end",()=>c.end());c.on("error",e=>{console.error(e);process.exit(1)});`
			if b, err := exec.Command("node", "-e", script, suite, host, port, out).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			keys, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			var l keylog.Log
			if err := l.Read("keys", bytes.NewReader(keys)); err != nil {
				t.Fatal(err)
			}
			client, server := p.streams(0)
			plain, err := l.Open(client, server)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(join(plain.Client), []byte("GET /"+suite)) || !bytes.Contains(join(plain.Server), []byte("HTTP/1.1 /"+suite)) {
				t.Errorf("%q %q", join(plain.Client), join(plain.Server))
			}
			// A log of the traffic secrets alone, as some programs write it, is enough.
			var few bytes.Buffer
			for line := range strings.Lines(string(keys)) {
				if strings.Contains(line, "_TRAFFIC_SECRET_0") {
					few.WriteString(line)
				}
			}
			var short keylog.Log
			if err := short.Read("keys", &few); err != nil {
				t.Fatal(err)
			}
			if plain, err = short.Open(client, server); err != nil || !bytes.Contains(join(plain.Server), []byte("HTTP/1.1 /"+suite)) {
				t.Errorf("from traffic secrets alone: %v", err)
			}
		})
	}
}

// recorded reads a file of testdata: a key log, then the two streams in hex.
func recorded(t testing.TB, name string) (keys string, client, server []byte) {
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		side, data, _ := strings.Cut(strings.TrimSpace(line), ": ")
		raw, _ := hex.DecodeString(data)
		switch side {
		case "client":
			client = append(client, raw...)
		case "server":
			server = append(server, raw...)
		default:
			keys += line
		}
	}
	return keys, client, server
}

// TestKeyUpdate reads a connection of openssl s_client in which the client
// changed its keys twice and asked the server to do so once (RFC 8446 §4.6.3).
func TestKeyUpdate(t *testing.T) {
	keys, client, server := recorded(t, "key-update.txt")
	var l keylog.Log
	if err := l.Read("keys", strings.NewReader(keys)); err != nil {
		t.Fatal(err)
	}
	p, err := l.Open(client, server)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		if want := fmt.Sprintf("GET /%d", n); !bytes.Contains(join(p.Client), []byte(want)) || !bytes.Contains(join(p.Server), []byte(fmt.Sprintf("HTTP/1.1 /%d", n))) {
			t.Errorf("%q and its answer are missing", want)
		}
	}
	if !p.Whole {
		t.Error("not whole")
	}
}

// TestSentences: what cannot be read is said, what came before is kept.
func TestSentences(t *testing.T) {
	keys, client, server := recorded(t, "key-update.txt")
	var l, other keylog.Log
	if err := l.Read("keys", strings.NewReader(keys)); err != nil {
		t.Fatal(err)
	}
	if err := other.Read("keys", strings.NewReader("CLIENT_RANDOM "+strings.Repeat("00", 32)+" "+strings.Repeat("11", 48)+"\n")); err != nil {
		t.Fatal(err)
	}
	var none keylog.Log
	for name, c := range map[string]struct {
		err  error
		kind kidoban.Kind
		want string
	}{
		"no secrets in the file": {none.Read("notes.txt", strings.NewReader("dear diary\n"+strings.Repeat("x", 10000)+"\n")), kidoban.KindInput, "notes.txt holds no TLS secrets"},
		"another connection":     {errOf(other.Open(client, server)), kidoban.KindNotFound, "does not hold this connection"},
		"no beginning":           {errOf(l.Open(client[7:], server)), kidoban.KindInput, "beginning is missing"},
		"one direction":          {errOf(l.Open(client, nil)), kidoban.KindInput, "server's hello is missing"},
		"another suite":          {errOf(l.Open(client, cbc(server))), kidoban.KindInput, "cipher suite 0x003c is not read"},
	} {
		if kidoban.KindOf(c.err) != c.kind || !strings.Contains(fmt.Sprint(c.err), c.want) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	whole, err := l.Open(client, server)
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.Clone(server)
	broken[len(broken)-200] ^= 1
	part, err := l.Open(client, broken)
	if err != nil || part.Whole || len(part.Server) == 0 || len(part.Server) >= len(whole.Server) {
		t.Errorf("a flipped bit: %v, %d of %d chunks", err, len(part.Server), len(whole.Server))
	}
	if cut, err := l.Open(client, server[:len(server)-10]); err != nil || cut.Whole || len(cut.Server) == 0 {
		t.Errorf("a cut stream: %v", err)
	}
}

func errOf(_ *keylog.Plain, err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// cbc puts a suite with CBC into a server hello.
func cbc(server []byte) []byte {
	b := bytes.Clone(server)
	at := 5 + 4 + 2 + 32 + 1 + int(b[43])
	b[at], b[at+1] = 0x00, 0x3c
	return b
}

// FuzzOpen: whatever stands in a capture and a key log, the reader ends, and
// claims no more than it was given.
func FuzzOpen(f *testing.F) {
	keys, client, server := recorded(f, "key-update.txt")
	f.Add(keys, client, server)
	keys, client, server = recorded(f, "tls12.txt")
	f.Add(keys, client, server)
	f.Fuzz(func(t *testing.T, keys string, client, server []byte) {
		var l keylog.Log
		if l.Read("keys", strings.NewReader(keys)) != nil {
			return
		}
		p, err := l.Open(client, server)
		if err != nil {
			return
		}
		if len(join(p.Client)) > len(client) || len(join(p.Server)) > len(server) {
			t.Error("more in clear than was recorded")
		}
	})
}
