package outbound

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
)

// serve starts a loopback server and a Lab client for it.
func serve(t testing.TB, o Options, h http.HandlerFunc) (*Client, string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	o.Lab = true
	c := New(o)
	t.Cleanup(c.Close)
	return c, s.URL
}

func wantKind(t *testing.T, err error, kind kidoban.Kind) {
	t.Helper()
	var ke *kidoban.Error
	if !errors.As(err, &ke) || ke.Kind != kind {
		t.Fatalf("error %v, want kind %s", err, kind)
	}
}

func TestDoIsOneExchange(t *testing.T) {
	rec := NewRecorder()
	c, base := serve(t, Options{Recorder: rec}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hop" {
			http.Redirect(w, r, "/other", http.StatusFound)
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Add("X-Two", "a")
		w.Header().Add("X-Two", "b")
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Header.Get("User-Agent"), r.Header.Get("X-One"), body)
	})
	x, err := c.Do(context.Background(), Req{Method: "POST", URL: base + "/", Header: kidoban.Fields{{Name: "X-One", Value: "1"}}, Body: []byte("hi"), Probe: "F5-a", Note: "control"})
	if err != nil || x.ID != 1 || x.Probe != "F5-a" || x.Status() != 200 {
		t.Fatalf("%v %+v", err, x)
	}
	if got := string(x.Response.Body); !strings.HasPrefix(got, "POST kidoban/") || !strings.HasSuffix(got, " 1 hi") {
		t.Fatalf("body %q", got)
	}
	if len(x.Response.Header.Values("x-two")) != 2 || x.Response.Addr == "" || x.Response.Proto != "HTTP/1.1" {
		t.Fatalf("response %+v", x.Response)
	}
	x, err = c.Do(context.Background(), Req{URL: base + "/hop"})
	if err != nil || x.Status() != 302 || x.ID != 2 {
		t.Fatalf("a redirect must be an answer: %v %+v", err, x)
	}
	if c.Requests() != 2 || len(c.Hosts()) != 1 || len(rec.Exchanges()) != 2 {
		t.Fatalf("requests %d hosts %v recorded %d", c.Requests(), c.Hosts(), len(rec.Exchanges()))
	}
}

// refusingClient fails the test as soon as anything is dialled.
func refusingClient(t *testing.T, o Options) *Client {
	c := New(o)
	c.dialer.connect = func(_ context.Context, _, address string) (net.Conn, error) {
		t.Errorf("dialled %s", address)
		return nil, errors.New("no")
	}
	c.secure, c.loop, c.open = c.transport(false), c.transport(true), c.transport(false)
	t.Cleanup(c.Close)
	return c
}

func TestE15SpecialAddressesAreNeverDialled(t *testing.T) {
	urls := []string{
		"http://169.254.169.254/latest/meta-data/", "https://169.254.169.254/", "https://[64:ff9b::7f00:1]/", "http://[64:ff9b::7f00:1]/",
		"https://[64:ff9b:1::a00:1]/", "https://[2002:7f00:1::]/", "https://[2001:0:1::1]/", "https://[2606:4700::5efe:7f00:1]/",
		"https://[2606:4700::200:5efe:a00:1]/", "https://[::ffff:10.0.0.1]/", "https://[::ffff:8.8.8.8]/", "https://[::127.0.0.1]/", "https://[::]/",
		"https://[fe80::1%25eth0]/", "https://[fec0::1]/", "https://[fd00::1]/", "https://[ff02::1]/", "https://100.64.1.1/", "https://224.0.0.1/",
		"https://255.255.255.255/", "https://0/", "https://10.1/", "https://167772161/", "https://0x0a000001/", "https://012.0.0.1/",
		"https://１0.0.0.1/", "https://10。0。0。1/", "https://10.0.0.1./", "https://metadata.google.internal/", "https://printer.local/",
		"https://0xa.1/", "https://999999999999/", "https://1.2.3.4.5/", "https://user@8.8.8.8/", "ftp://8.8.8.8/", "file:///etc/passwd",
		"https:///x", "https://8.8.8.8:0/", "https://8.8.8.8:99999/", "https://a..b/", "https://%31%30.0.0.1/",
	}
	for _, lab := range []bool{false, true} {
		c := refusingClient(t, Options{Lab: lab, Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return nil, errors.New("nothing here should be resolved")
		}})
		for _, u := range urls {
			x, err := c.Do(context.Background(), Req{URL: u})
			if err == nil || x == nil || x.Response != nil || x.ErrKind != kidoban.KindRefused {
				t.Errorf("lab=%v %s: %v", lab, u, err)
			}
			for _, raw := range []bool{false, true} {
				x, err := c.Do(context.Background(), Req{URL: u, Raw: raw, AllowPlain: true})
				if err == nil || x.Response != nil {
					t.Errorf("lab=%v raw=%v plain %s: %v", lab, raw, u, err)
				}
			}
			if err := CheckURL(u); err == nil {
				t.Errorf("CheckURL(%s) passed", u)
			}
		}
		if _, err := c.Do(context.Background(), Req{URL: "http://8.8.8.8/"}); kidoban.KindOf(err) != kidoban.KindRefused {
			t.Error(err)
		}
		if c.Requests() != 0 {
			t.Errorf("refused requests were charged: %d", c.Requests())
		}
	}
	c := refusingClient(t, Options{})
	for _, u := range []string{"https://127.0.0.1/", "http://127.0.0.1/", "https://localhost/", "https://a.localhost/", "https://[::1]/"} {
		_, err := c.Do(context.Background(), Req{URL: u})
		wantKind(t, err, kidoban.KindRefused)
	}
	for _, u := range []string{"https://example.com", "https://example.com:8443/a?b", "https://bücher.example/", "https://8.8.8.8/", "https://[2606:4700::1]/", "https://x.invalid/cb"} {
		if err := CheckURL(u); err != nil {
			t.Errorf("CheckURL(%s): %v", u, err)
		}
	}
}

func TestE15RebindingUsesTheCheckedAddress(t *testing.T) {
	var calls atomic.Int32
	var mu sync.Mutex
	var dialled []string
	c := New(Options{Resolve: func(context.Context, string) ([]netip.Addr, error) {
		if calls.Add(1) == 1 {
			return []netip.Addr{netip.MustParseAddr("::ffff:93.184.216.34")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}})
	defer c.Close()
	c.dialer.connect = func(_ context.Context, _, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		dialled = append(dialled, address)
		return nil, errors.New("far away")
	}
	c.secure = c.transport(false)
	_, err := c.Do(context.Background(), Req{URL: "https://rebind.example/"})
	wantKind(t, err, kidoban.KindUnreachable)
	_, err = c.Do(context.Background(), Req{URL: "https://rebind.example/"})
	wantKind(t, err, kidoban.KindRefused)
	mu.Lock()
	defer mu.Unlock()
	if len(dialled) != 1 || dialled[0] != "93.184.216.34:443" {
		t.Fatalf("dialled %v", dialled)
	}
}

func TestE15OneClosedAddressRefusesTheHost(t *testing.T) {
	c := refusingClient(t, Options{Resolve: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("10.0.0.1")}, nil
	}})
	_, err := c.Do(context.Background(), Req{URL: "https://half.example/"})
	wantKind(t, err, kidoban.KindRefused)
	if strings.Contains(err.(*kidoban.Error).Sentence, "10.0.0.1") {
		t.Fatal("the sentence tells a stranger what the resolver said")
	}
	// Lab opens loopback alone, and http by a name only if it leads there.
	c = refusingClient(t, Options{Lab: true, Resolve: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
	}})
	_, err = c.Do(context.Background(), Req{URL: "http://public.example/"})
	wantKind(t, err, kidoban.KindRefused)
}

// The kernel-level check stands even if everything before it were wrong.
func TestE15ControlIsTheLastLine(t *testing.T) {
	g := Guard{}
	for _, a := range []string{"127.0.0.1:1", "10.0.0.1:1", "[::1]:1", "[64:ff9b::7f00:1]:1"} {
		if err := g.control()("tcp4", a, nil); kidoban.KindOf(err) != kidoban.KindRefused {
			t.Errorf("%s: %v", a, err)
		}
	}
	if err := g.control()("udp4", "8.8.8.8:53", nil); err == nil {
		t.Error("udp passed")
	}
	if err := g.control()("tcp4", "8.8.8.8:443", nil); err != nil {
		t.Error(err)
	}
	if err := (Guard{Lab: true}).control()("tcp4", "127.0.0.1:443", nil); err != nil {
		t.Error(err)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	c, base := serve(t, Options{MaxBody: 64 << 10, Timeout: time.Minute}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			for {
				if _, err := w.Write(bytes.Repeat([]byte("a"), 8192)); err != nil {
					return
				}
			}
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			g := gzip.NewWriter(w)
			for i := 0; i < 2000; i++ {
				if _, err := g.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
			g.Close()
		case "/empties": // gzip members that decode to nothing, for ever
			w.Header().Set("Content-Encoding", "gzip")
			var b bytes.Buffer
			gzip.NewWriter(&b).Close()
			for {
				if _, err := w.Write(bytes.Repeat(b.Bytes(), 100)); err != nil {
					return
				}
			}
		case "/fakegzip":
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "this is not gzip at all")
		case "/header":
			w.Header().Set("X-Big", strings.Repeat("h", 1<<20))
		case "/short":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "only this")
		case "/slow":
			io.WriteString(w, "first")
			w.(http.Flusher).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
		case "/silent":
			select {
			case <-release:
			case <-r.Context().Done():
			}
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			g := gzip.NewWriter(w)
			io.WriteString(g, "plain words")
			g.Close()
		}
	})
	var late sync.WaitGroup // these four take all of their time, which is long enough for a connection on a busy machine
	defer late.Wait()
	for _, raw := range []bool{false, true} {
		do := func(path string, timeout time.Duration) (*kidoban.Exchange, error) {
			h := kidoban.Fields{}
			if raw {
				h = append(h, kidoban.Field{Name: "Host", Value: "x"})
			}
			return c.Do(context.Background(), Req{URL: base + path, Raw: raw, Header: h, Timeout: timeout})
		}
		for _, path := range []string{"/endless", "/bomb"} {
			x, err := do(path, 0)
			if err != nil || !x.Response.Truncated || len(x.Response.Body) != 64<<10 || x.Err != "" {
				t.Fatalf("raw=%v %s: %v %v", raw, path, err, x.Err)
			}
		}
		if x, err := do("/empties", 0); err != nil || !x.Response.Truncated || len(x.Response.Body) != 0 {
			t.Fatalf("raw=%v empties: %v %+v", raw, err, x.Response)
		}
		if x, err := do("/gzip", 0); err != nil || string(x.Response.Body) != "plain words" {
			t.Fatalf("raw=%v gzip: %v", raw, err)
		}
		if x, err := do("/fakegzip", 0); err != nil || x.ErrKind != kidoban.KindInput || x.Response == nil {
			t.Fatalf("raw=%v fakegzip: %v %+v", raw, err, x)
		}
		if x, err := do("/short", 0); err != nil || x.Err == "" || string(x.Response.Body) != "only this" {
			t.Fatalf("raw=%v short: %v %+v", raw, err, x)
		}
		_, err := do("/header", 0)
		wantKind(t, err, kidoban.KindLimit)
		late.Go(func() {
			if x, err := do("/slow", 4*time.Second); err != nil || x.ErrKind != kidoban.KindLimit || string(x.Response.Body) != "first" {
				t.Errorf("raw=%v slow: %v %+v", raw, err, x)
			}
		})
		late.Go(func() {
			if _, err := do("/silent", 4*time.Second); kidoban.KindOf(err) != kidoban.KindLimit {
				t.Errorf("raw=%v silent: %v", raw, err)
			}
		})
	}
}

func TestStreamEndsWhenToldTo(t *testing.T) {
	done := make(chan struct{})
	c, base := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(w, "data: %d\n\n", i); err != nil || r.Context().Err() != nil {
				close(done)
				return
			}
			w.(http.Flusher).Flush()
		}
	})
	var got strings.Builder
	x, err := c.Do(context.Background(), Req{URL: base, Stream: func(b []byte) bool {
		got.Write(b)
		return !strings.Contains(got.String(), "data: 3\n")
	}})
	if err != nil || x.Err != "" || !strings.HasPrefix(string(x.Response.Body), "data: 0\n\n") {
		t.Fatalf("%v %+v", err, x)
	}
	<-done // the server noticed
}

func TestBudgetsAndPoliteness(t *testing.T) {
	var waited []time.Duration
	now := time.Unix(1000, 0)
	c, base := serve(t, Options{MaxRequests: 4, PerHostMax: 3, PerHostInterval: time.Second, Now: func() time.Time { return now },
		Wait: func(_ context.Context, d time.Duration) error { waited = append(waited, d); return nil }},
		func(http.ResponseWriter, *http.Request) {})
	for range 3 {
		if _, err := c.Do(context.Background(), Req{URL: base}); err != nil {
			t.Fatal(err)
		}
	}
	x, err := c.Do(context.Background(), Req{URL: base})
	wantKind(t, err, kidoban.KindLimit)
	if x.ID != 4 || len(waited) != 2 || waited[0] != time.Second || waited[1] != 2*time.Second {
		t.Fatalf("id %d waited %v", x.ID, waited)
	}
	other := strings.Replace(base, "127.0.0.1", "localhost", 1)
	if _, err := c.Do(context.Background(), Req{URL: other}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Do(context.Background(), Req{URL: other})
	wantKind(t, err, kidoban.KindLimit)
	if c.Requests() != 4 {
		t.Fatalf("%d requests", c.Requests())
	}
}

func TestCloseEndsEverything(t *testing.T) {
	started := make(chan struct{}, 2)
	c, base := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		<-r.Context().Done()
	})
	errs := make(chan error, 2)
	for _, raw := range []bool{false, true} {
		go func() {
			_, err := c.Do(context.Background(), Req{URL: base, Raw: raw, Header: kidoban.Fields{{Name: "Host", Value: "x"}}})
			errs <- err
		}()
	}
	<-started
	<-started
	c.Close()
	for range 2 {
		if err := <-errs; kidoban.KindOf(err) != kidoban.KindUnreachable {
			t.Fatal(err)
		}
	}
	x, err := c.Do(context.Background(), Req{URL: base})
	wantKind(t, err, kidoban.KindUsage)
	if x.ID != 3 {
		t.Fatalf("id %d", x.ID)
	}
	c.Close() // twice is fine
}

func TestE29PlainHTTPCarriesNoCredential(t *testing.T) {
	c, base := serve(t, Options{}, func(http.ResponseWriter, *http.Request) {})
	jar := NewJar()
	if err := jar.Put(base, "sid", "1"); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]Req{
		"authorization": {Header: kidoban.Fields{{Name: "authorization", Value: "Bearer x"}}},
		"key":           {Header: kidoban.Fields{{Name: "X-Api-Key", Value: "x"}}},
		"cookie":        {Header: kidoban.Fields{{Name: "Cookie", Value: "a=b"}}},
		"jar":           {Jar: jar},
		"marked":        {Credential: true},
	} {
		r.URL, r.AllowPlain = base, true
		_, err := c.Do(context.Background(), r)
		if kidoban.KindOf(err) != kidoban.KindRefused {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Do(context.Background(), Req{URL: base, AllowPlain: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(context.Background(), Req{URL: base, Header: kidoban.Fields{{Name: "Authorization", Value: "Bearer x"}}, CredentialOrigin: base + "/mcp"}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Do(context.Background(), Req{URL: base, Header: kidoban.Fields{{Name: "Authorization", Value: "Bearer x"}}, CredentialOrigin: "https://as.example"})
	wantKind(t, err, kidoban.KindRefused)
}

func TestE29TLSIsVerifiedAndRecorded(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	strict := New(Options{Lab: true})
	defer strict.Close()
	for _, raw := range []bool{false, true} {
		_, err := strict.Do(context.Background(), Req{URL: s.URL, Raw: raw})
		wantKind(t, err, kidoban.KindUnreachable)
		if !strings.Contains(err.Error(), "certificate") {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	trusting := New(Options{Lab: true, RootCAs: pool})
	defer trusting.Close()
	for _, raw := range []bool{false, true} {
		proto := map[bool]string{false: "HTTP/2.0", true: "HTTP/1.1"}[raw]
		x, err := trusting.Do(context.Background(), Req{URL: s.URL, Raw: raw, Header: kidoban.Fields{{Name: "Host", Value: "example.com"}}})
		if err != nil || x.Response.Proto != proto || string(x.Response.Body) != proto {
			t.Fatalf("raw=%v %v %+v", raw, err, x.Response)
		}
		if i := x.Response.TLS; i == nil || !i.Verified || len(i.SPKI) != 64 || i.Version < 0x0303 {
			t.Fatalf("%+v", i)
		}
	}
	probe := New(Options{Lab: true, InsecureTLSProbe: true, ProbeTLSMax: 0x0303})
	defer probe.Close()
	x, err := probe.Do(context.Background(), Req{URL: s.URL})
	if err != nil || x.Response.TLS.Verified || x.Response.TLS.Version != 0x0303 {
		t.Fatalf("%v %+v", err, x)
	}
	for _, r := range []Req{{Method: "POST"}, {Body: []byte("x")}, {Header: kidoban.Fields{{Name: "Authorization", Value: "Bearer x"}}}} {
		r.URL = s.URL
		_, err := probe.Do(context.Background(), r)
		wantKind(t, err, kidoban.KindRefused)
	}
}

func TestRawKeepsTheWire(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf := make([]byte, 4096)
		n, _ := conn.Read(buf)
		got <- string(buf[:n])
		io.WriteString(conn, "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nx-b: 1\r\nX-A: 2\r\nX-a: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c := New(Options{Lab: true})
	defer c.Close()
	x, err := c.Do(context.Background(), Req{Method: "POST", URL: "http://2130706433:" + port + "/mcp", Raw: true, Target: "/a/../mcp?x",
		Header: kidoban.Fields{{Name: "Host", Value: "2130706433"}, {Name: "host", Value: "evil"}, {Name: "Content-Length", Value: "2"}}, Body: []byte("ok")})
	if err != nil || string(x.Response.Body) != "hello" {
		t.Fatalf("%v %+v", err, x)
	}
	if g := <-got; g != "POST /a/../mcp?x HTTP/1.1\r\nHost: 2130706433\r\nhost: evil\r\nContent-Length: 2\r\n\r\nok" {
		t.Fatalf("%q", g)
	}
	if h := x.Response.Header; len(h) != 4 || h[0].Name != "x-b" || h[2].Name != "X-a" {
		t.Fatalf("%v", h)
	}
	for _, r := range []Req{{Target: "/ HTTP/1.1\r\nX: y"}, {Header: kidoban.Fields{{Name: "A", Value: "b\nc"}}}, {Method: "G\x00"}} {
		r.Raw, r.URL = true, "http://127.0.0.1:"+port
		_, err := c.Do(context.Background(), r)
		wantKind(t, err, kidoban.KindUsage)
	}
}

// TestPatienceWithOneHost: exchanges that time ended add up; then the host is asked
// for nothing more, while others are, and conversations with a bound of their own
// count as one exchange.
func TestPatienceWithOneHost(t *testing.T) {
	var good atomic.Int32
	play := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/good" {
			good.Add(1)
			return
		}
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	// Whether the head of the answer comes in time is the machine's affair.
	const bound = 2 * time.Second
	c, slow := serve(t, Options{Timeout: bound, Patience: bound + bound/2}, play)
	other := httptest.NewServer(http.HandlerFunc(play))
	defer other.Close()
	do := func(url string, timeout time.Duration) (*kidoban.Exchange, error) {
		return c.Do(t.Context(), Req{URL: url, Timeout: timeout})
	}
	if x, err := do(slow+"/", 2*bound); x.ErrKind != kidoban.KindLimit || c.Waited(slow) != bound {
		t.Fatalf("%v %s, waited for %s", err, x.Err, c.Waited(slow))
	}
	// The next one is cut short; so short that it may not even get a connection.
	if x, err := do(slow+"/", 0); x.Err == "" || c.Waited(slow) != bound+bound/2 {
		t.Fatalf("%v %s, waited for %s", err, x.Err, c.Waited(slow))
	}
	for _, timeout := range []time.Duration{0, 2 * bound} {
		_, err := do(slow+"/good", timeout)
		wantKind(t, err, kidoban.KindLimit)
	}
	if n := good.Load(); n != 0 {
		t.Errorf("%d requests reached the host that was waited for long enough", n)
	}
	if x, err := do(other.URL+"/good", time.Minute); err != nil || x.Err != "" || c.Waited(other.URL) != 0 {
		t.Errorf("another host: %v %s", err, x.Err)
	}
}
