package audit_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
)

// packetWriter writes exchanges as packets, each on a connection of its own, in pieces
// of size bytes; shuffled pieces must be put in order by the reader.
type packetWriter struct {
	t    testing.TB
	w    *pcapgo.Writer
	port uint16
	at   time.Time
	n    int
}

func newPacketWriter(t testing.TB, b *bytes.Buffer) *packetWriter {
	w := pcapgo.NewWriter(b)
	if err := w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	return &packetWriter{t: t, w: w, port: 20000, at: time.Unix(1_800_000_000, 0)}
}

func (p *packetWriter) packet(client bool, seq uint32, flags string, data []byte) {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{192, 0, 2, 1}, DstIP: net.IP{192, 0, 2, 2}}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(p.port), DstPort: 80, Seq: seq, SYN: strings.Contains(flags, "S"), ACK: strings.Contains(flags, "A"), FIN: strings.Contains(flags, "F"), Window: 65535}
	if !client {
		ip.SrcIP, ip.DstIP = ip.DstIP, ip.SrcIP
		tcp.SrcPort, tcp.DstPort = tcp.DstPort, tcp.SrcPort
	}
	_ = tcp.SetNetworkLayerForChecksum(ip)
	buf := gopacket.NewSerializeBuffer()
	eth := &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: layers.EthernetTypeIPv4}
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp, gopacket.Payload(data)); err != nil {
		p.t.Fatal(err)
	}
	p.at = p.at.Add(time.Millisecond)
	if err := p.w.WritePacket(gopacket.CaptureInfo{Timestamp: p.at, CaptureLength: len(buf.Bytes()), Length: len(buf.Bytes())}, buf.Bytes()); err != nil {
		p.t.Fatal(err)
	}
	p.n++
}

func (p *packetWriter) connection(request, response []byte, size int, shuffle bool) {
	p.port++
	p.packet(true, 99, "S", nil)
	p.packet(false, 199, "SA", nil)
	send := func(client bool, first uint32, b []byte) {
		type piece struct {
			at  int
			end int
		}
		var pieces []piece
		for i := 0; i < len(b); i += size {
			pieces = append(pieces, piece{i, min(len(b), i+size)})
		}
		if shuffle {
			rand.New(rand.NewPCG(1, uint64(p.port))).Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		}
		for _, q := range pieces {
			p.packet(client, first+uint32(q.at), "A", b[q.at:q.end])
		}
		p.packet(client, first+uint32(len(b)), "FA", nil)
	}
	send(true, 100, request)
	send(false, 200, response)
}

func raw1(x *kidoban.Exchange) (request, response []byte) {
	u, _ := url.Parse(x.Request.URL)
	var a, b strings.Builder
	fmt.Fprintf(&a, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", x.Request.Method, u.RequestURI(), u.Host, len(x.Request.Body))
	for _, h := range x.Request.Header {
		fmt.Fprintf(&a, "%s: %s\r\n", h.Name, h.Value)
	}
	fmt.Fprintf(&b, "HTTP/1.1 %d OK\r\nContent-Length: %d\r\n", x.Response.Status, len(x.Response.Body))
	for _, h := range x.Response.Header {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	return []byte(a.String() + "\r\n" + string(x.Request.Body)), []byte(b.String() + "\r\n" + string(x.Response.Body))
}

func TestObservedFromPackets(t *testing.T) {
	for _, shuffle := range []bool{false, true} {
		var s story
		s.discovery()
		s.login(authorizeURL(map[string]string{"code_challenge": ""}), back1, "grant_type=authorization_code&code=code-1&client_id=c1", 200)
		var b bytes.Buffer
		p := newPacketWriter(t, &b)
		for _, x := range s.list {
			req, resp := raw1(x)
			p.connection(bytes.ReplaceAll(req, []byte("https://"), []byte("http://")), bytes.ReplaceAll(resp, []byte("https://"), []byte("http://")), 37, shuffle)
		}
		plain := b.Len()
		p.connection([]byte{0x16, 3, 1, 0, 5, 1, 2, 3}, []byte{0x16, 3, 3, 0, 1, 2}, 100, false)
		o := audit.Observe()
		if err := o.ReadPCAP(t.Context(), "f.pcap", bytes.NewReader(b.Bytes())); err != nil {
			t.Fatal(err)
		}
		if n := o.Notes(); len(n) != 1 || !strings.Contains(n[0], "1 of its connections is encrypted") || !strings.Contains(n[0], "kidoban record") {
			t.Errorf("notes: %q", n)
		}
		if all, _ := o.Seen(); all != len(s.list) {
			t.Errorf("%d exchanges of %d", all, len(s.list))
		}
		r, err := o.Report(audit.ObservedOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if result(t, r, "F5-a").Outcome != kidoban.Fail || result(t, r, "E29-a").Outcome != kidoban.Fail {
			t.Errorf("shuffle %v: %v", shuffle, findings(r))
		}
		o = audit.Observe()
		if err := o.ReadPCAP(t.Context(), "f.pcap", bytes.NewReader(b.Bytes()[:plain-10])); err != nil || len(o.Notes()) == 0 || !strings.Contains(o.Notes()[len(o.Notes())-1]+o.Notes()[0], "cut off") {
			t.Errorf("cut: %v %q", err, o.Notes())
		}
	}
	for _, bad := range []string{"", "abc", "GET / HTTP/1.1\r\n\r\n", "\x0a\x0d\x0d\x0a"} {
		if err := audit.Observe().ReadPCAP(t.Context(), "f.pcap", strings.NewReader(bad)); kidoban.KindOf(err) != kidoban.KindInput {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// BenchmarkReadPCAP reads a million packets and loses none.
func BenchmarkReadPCAP(b *testing.B) {
	var file bytes.Buffer
	p := newPacketWriter(b, &file)
	x := &kidoban.Exchange{Request: kidoban.Request{Method: "POST", URL: "http://h.example/mcp", Body: []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)}, Response: &kidoban.Response{Status: 200, Body: bytes.Repeat([]byte("x"), 4000)}}
	req, resp := raw1(x)
	conns := 0
	for p.n < 1_000_000 {
		p.connection(req, resp, 100, false)
		conns++
	}
	b.ResetTimer()
	for b.Loop() {
		o := audit.Observe()
		if err := o.ReadPCAP(b.Context(), "f", bytes.NewReader(file.Bytes())); err != nil {
			b.Fatal(err)
		}
		if all, _ := o.Seen(); all != conns || len(o.Notes()) > 0 {
			b.Fatal(all, conns, o.Notes())
		}
	}
	b.ReportMetric(float64(p.n), "packets")
}
