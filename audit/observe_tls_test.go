package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/keylog"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/oauth"
)

// cable records what a client's connections carry, as a packet capture would.
type cable struct {
	t     *testing.T
	mu    sync.Mutex
	conns int
	seen  []segment
}

type segment struct {
	conn   int
	client bool
	at     time.Time
	data   []byte
}

// dial is for http.Transport.DialContext.
func (c *cable) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns++
	return &spliced{conn, c, c.conns}, nil
}

type spliced struct {
	net.Conn
	c *cable
	n int
}

func (s *spliced) keep(client bool, b []byte) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.seen = append(s.c.seen, segment{s.n, client, time.Now(), bytes.Clone(b)})
}

func (s *spliced) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.keep(false, b[:n])
	return n, err
}

func (s *spliced) Write(b []byte) (int, error) {
	s.keep(true, b)
	return s.Conn.Write(b)
}

// pcap writes the capture: each connection with its handshake, segments of at most
// 1200 bytes, and its end.
func (c *cable) pcap() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out bytes.Buffer
	w := pcapgo.NewWriter(&out)
	if err := w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		c.t.Fatal(err)
	}
	next := map[string]uint32{}
	send := func(conn int, client bool, at time.Time, set func(*layers.TCP), data []byte) {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{192, 0, 2, 1}, DstIP: net.IP{192, 0, 2, 2}}
		tcp := &layers.TCP{SrcPort: layers.TCPPort(20000 + conn), DstPort: 443, ACK: true, Window: 65535}
		if !client {
			ip.SrcIP, ip.DstIP, tcp.SrcPort, tcp.DstPort = ip.DstIP, ip.SrcIP, tcp.DstPort, tcp.SrcPort
		}
		set(tcp)
		key := fmt.Sprint(conn, client)
		tcp.Seq = next[key]
		next[key] += uint32(len(data))
		if tcp.SYN {
			next[key]++
		}
		_ = tcp.SetNetworkLayerForChecksum(ip)
		buf := gopacket.NewSerializeBuffer()
		eth := &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: layers.EthernetTypeIPv4}
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp, gopacket.Payload(data)); err != nil {
			c.t.Fatal(err)
		}
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(buf.Bytes()), Length: len(buf.Bytes())}, buf.Bytes()); err != nil {
			c.t.Fatal(err)
		}
	}
	begun := map[int]bool{}
	var last time.Time
	for _, s := range c.seen {
		if !begun[s.conn] {
			begun[s.conn] = true
			send(s.conn, true, s.at, func(t *layers.TCP) { t.SYN, t.ACK = true, false }, nil)
			send(s.conn, false, s.at, func(t *layers.TCP) { t.SYN = true }, nil)
		}
		for part := range slices.Chunk(s.data, 1200) {
			send(s.conn, s.client, s.at, func(*layers.TCP) {}, part)
		}
		last = s.at
	}
	for conn := range begun {
		for _, client := range []bool{true, false} {
			send(conn, client, last, func(t *layers.TCP) { t.FIN = true }, nil)
		}
	}
	return out.Bytes()
}

// visit is what a client does before a person logs in. It returns the exchanges as
// the client saw them.
func visit(t *testing.T, c *http.Client, mcp string) (out []*kidoban.Exchange) {
	do := func(method, u, media, body string) *kidoban.Exchange {
		req, err := http.NewRequest(method, u, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "application/json, text/event-stream")
		req.Header.Set("Accept-Encoding", "br, gzip")
		if media != "" {
			req.Header.Set("Content-Type", media)
		}
		x := &kidoban.Exchange{Started: time.Now(), Request: kidoban.Request{Method: method, URL: u, Body: []byte(body), Header: fieldsOf(req.Header)}}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		x.Response = &kidoban.Response{Status: res.StatusCode, Proto: res.Proto, Header: fieldsOf(res.Header)}
		x.Response.Body, _ = decoded(b, res.Header.Get("Content-Encoding"))
		out = append(out, x)
		return x
	}
	do("POST", mcp, "application/json", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`)
	places, _ := oauth.PRMURLs(mcp)
	prm, _ := oauth.ParsePRM(do("GET", places[0], "", "").Response.Body)
	forms, _ := oauth.MetadataURLs(prm.AuthorizationServers[0])
	meta, _ := oauth.ParseMetadata(do("GET", forms[0], "", "").Response.Body)
	client, _ := oauth.ParseClientMetadata(do("POST", meta.RegistrationEndpoint, "application/json", `{"client_name":"Editor","redirect_uris":["http://127.0.0.1:4711/cb"],"token_endpoint_auth_method":"none"}`).Response.Body)
	for range 3 {
		do("GET", meta.AuthorizationEndpoint+"?"+url.Values{"response_type": {"code"}, "client_id": {client.ClientID}, "redirect_uri": {"http://127.0.0.1:4711/cb"},
			"state": {oauth.NewVerifier(rand.Reader)}, "code_challenge": {oauth.S256(oauth.NewVerifier(rand.Reader))}, "code_challenge_method": {"S256"}}.Encode(), "", "")
	}
	return out
}

// squeezed packs answers as content networks do.
func squeezed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		var b bytes.Buffer
		var z io.WriteCloser
		coding := "br"
		if strings.Contains(r.URL.Path, "authorize") {
			coding, z = "gzip", gzip.NewWriter(&b)
		} else {
			z = brotli.NewWriter(&b)
		}
		_, _ = z.Write(rec.Body.Bytes())
		_ = z.Close()
		for k, v := range rec.Header() {
			if k != "Content-Length" {
				w.Header()[k] = v
			}
		}
		w.Header().Set("Content-Encoding", coding)
		w.WriteHeader(rec.Code)
		_, _ = w.Write(b.Bytes())
	})
}

// TestT0EncryptedPackets: real TLS traffic of Go's client and a server in front of a lab
// gives, from packets and key log, the exchanges that the client saw, over HTTP/1.1
// and HTTP/2, TLS 1.2 and 1.3; and the same verdicts.
func TestT0EncryptedPackets(t *testing.T) {
	l, err := lab.Start(t.Context(), lab.Options{Flaws: []string{"E11-d", "E01-a", "F3-a"}, Upstream: true, TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(l.CACert)
	back, _ := url.Parse(l.Issuer)
	relay := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(back); r.Out.URL.Path = r.In.URL.Path },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	front := httptest.NewUnstartedServer(squeezed(relay))
	front.EnableHTTP2 = true
	front.StartTLS()
	defer front.Close()
	for _, c := range []struct {
		name    string
		version uint16
		two     bool
	}{{"1.3 HTTP/2", tls.VersionTLS13, true}, {"1.3 HTTP/1.1", tls.VersionTLS13, false}, {"1.2 HTTP/2", tls.VersionTLS12, true}, {"1.2 HTTP/1.1", tls.VersionTLS12, false}} {
		t.Run(c.name, func(t *testing.T) {
			wire := &cable{t: t}
			var keys bytes.Buffer
			tr := &http.Transport{ForceAttemptHTTP2: c.two, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MaxVersion: c.version, KeyLogWriter: &keys},
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return wire.dial(ctx, network, front.Listener.Addr().String())
				}}
			client := &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			truth := visit(t, client, l.MCPURL)
			if two := truth[0].Response.Proto == "HTTP/2.0"; two != c.two {
				t.Fatal(truth[0].Response.Proto)
			}
			tr.CloseIdleConnections()
			capture := wire.pcap()

			var log keylog.Log
			if err := log.Read("keys", &keys); err != nil {
				t.Fatal(err)
			}
			o, live := Observe(), Observe()
			o.Keys(&log)
			if err := o.ReadPCAP(t.Context(), "f.pcap", bytes.NewReader(capture)); err != nil || len(o.Notes()) > 0 {
				t.Fatal(err, o.Notes())
			}
			for _, x := range truth {
				live.Add(x)
			}
			if len(o.kept) != len(live.kept) || len(o.kept) < 6 {
				t.Fatalf("%d exchanges of %d", len(o.kept), len(live.kept))
			}
			for i, x := range live.kept {
				y := o.kept[i]
				if x.Request.URL != y.Request.URL || x.Request.Method != y.Request.Method || !bytes.Equal(x.Request.Body, y.Request.Body) ||
					x.Status() != y.Status() || !bytes.Equal(x.Response.Body, y.Response.Body) || x.Header("Location") != y.Header("Location") {
					t.Errorf("exchange %d: %s %s %d, from packets %s %s %d", i, x.Request.Method, x.Request.URL, x.Status(), y.Request.Method, y.Request.URL, y.Status())
				}
				if d := y.Started.Sub(x.Started); d < -time.Second || d > time.Second {
					t.Errorf("exchange %d is %s late", i, d)
				}
			}
			a, err := live.Report(ObservedOptions{Target: l.MCPURL})
			if err != nil {
				t.Fatal(err)
			}
			b, err := o.Report(ObservedOptions{Target: l.MCPURL})
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range a.Results {
				if r.Outcome != b.Results[i].Outcome {
					t.Errorf("%s is %s from packets and %s live: %s", r.Key(), b.Results[i].Outcome, r.Outcome, b.Results[i].Summary)
				}
			}
			if i := slices.IndexFunc(b.Results, func(r kidoban.Result) bool { return r.Key() == "F3-a" }); b.Results[i].Outcome != kidoban.Weak && b.Results[i].Outcome != kidoban.Fail {
				t.Errorf("F3-a is %s", b.Results[i].Outcome)
			}

			// The keys of somebody else, and no keys: a sentence each.
			var other keylog.Log
			if err := other.Read("k", strings.NewReader("CLIENT_RANDOM "+strings.Repeat("00", 32)+" "+strings.Repeat("11", 48))); err != nil {
				t.Fatal(err)
			}
			for want, k := range map[string]*keylog.Log{"give that file with --keylog": nil, "not in the key log": &other} {
				o := Observe()
				o.Keys(k)
				if err := o.ReadPCAP(t.Context(), "f.pcap", bytes.NewReader(capture)); err != nil || len(o.Notes()) != 1 || !strings.Contains(o.Notes()[0], want) {
					t.Errorf("%v %q, want %q", err, o.Notes(), want)
				}
			}
			// A capture cut off is judged as far as it goes, and marked.
			o = Observe()
			o.Keys(&log)
			if err := o.ReadPCAP(t.Context(), "f.pcap", bytes.NewReader(capture[:len(capture)*3/4])); err != nil || len(o.Notes()) == 0 || len(o.kept) == 0 {
				t.Errorf("%v %q, %d exchanges", err, o.Notes(), len(o.kept))
			}
		})
	}
}

// TestDecoded: every content coding in use, in both orders, cut off and unknown.
func TestDecoded(t *testing.T) {
	text := bytes.Repeat([]byte(`{"issuer":"https://as.example"}`), 100)
	pack := func(w func(io.Writer) io.WriteCloser, b []byte) []byte {
		var out bytes.Buffer
		z := w(&out)
		_, _ = z.Write(b)
		_ = z.Close()
		return out.Bytes()
	}
	gz := func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }
	br := func(w io.Writer) io.WriteCloser { return brotli.NewWriter(w) }
	zs := func(w io.Writer) io.WriteCloser { z, _ := zstd.NewWriter(w); return z }
	for coding, body := range map[string][]byte{"": text, "identity": text, "GZIP": pack(gz, text), "br": pack(br, text), "zstd": pack(zs, text), "br, gzip": pack(gz, pack(br, text))} {
		if got, cut := decoded(body, coding); cut || !bytes.Equal(got, text) {
			t.Errorf("%q: %d bytes, cut %v", coding, len(got), cut)
		}
	}
	if got, cut := decoded(pack(gz, text)[:60], "gzip"); !cut || len(got) == 0 || !bytes.HasPrefix(text, got) {
		t.Errorf("cut off: %d bytes, cut %v", len(got), cut)
	}
	for _, coding := range []string{"aes128gcm", "gzip", "gzip,gzip,gzip,gzip"} {
		if got, cut := decoded([]byte("no such thing"), coding); !cut || len(got) > 0 {
			t.Errorf("%q: %q", coding, got)
		}
	}
	bomb := pack(zs, make([]byte, 64<<20))
	if got, cut := decoded(bomb, "zstd"); !cut || len(got) != observeBody {
		t.Errorf("a bomb of %d bytes gave %d", len(bomb), len(got))
	}
}

// FuzzHTTP2: whatever the bytes are, reading them ends, and keeps no more than its
// bounds.
func FuzzHTTP2(f *testing.F) {
	f.Add([]byte(http2Preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x05\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x8a"), []byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88"))
	f.Fuzz(func(t *testing.T, ask, answer []byte) {
		c := &capture{}
		if bytes.HasPrefix(ask, []byte(http2Preface)) {
			c.http2(side{data: ask}, side{data: answer}, "https", "as.example")
		}
		if len(c.out) > maxMessages {
			t.Error(len(c.out))
		}
	})
}
