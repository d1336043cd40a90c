package packets

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/tcpassembly"
	"pgregory.net/rapid"
)

var (
	clientAt = netip.MustParseAddrPort("192.0.2.1:2000")
	serverAt = netip.MustParseAddrPort("192.0.2.2:80")
	there    = Flow{clientAt, serverAt}
	back     = there.Reverse()
)

// heard writes down what becomes of streams: bytes, ~ for a gap, $ for the end.
type heard struct{ all []*strings.Builder }

func (h *heard) open(f Flow) Stream {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%d:", f.From.Port())
	h.all = append(h.all, b)
	return &heardStream{b}
}

type heardStream struct{ b *strings.Builder }

func (s *heardStream) Bytes(b []byte, _ time.Time, lost bool) {
	if lost {
		s.b.WriteByte('~')
	}
	s.b.Write(b)
}

func (s *heardStream) End() { s.b.WriteByte('$') }

func (h *heard) String() string {
	var out []string
	for _, b := range h.all {
		out = append(out, b.String())
	}
	return strings.Join(out, " ")
}

func play(segments ...Segment) string {
	h := &heard{}
	a := NewAssembler(h.open)
	for _, s := range segments {
		data := bytes.Clone(s.Data)
		s.Data = data
		a.Add(s)
		for i := range data {
			data[i] = '!' // whoever keeps it, keeps this
		}
	}
	a.End()
	if a.held != 0 || len(a.flows) != 0 {
		return fmt.Sprintf("%d bytes and %d flows are left", a.held, len(a.flows))
	}
	return h.String()
}

func syn(f Flow, seq uint32) Segment { return Segment{Flow: f, Seq: seq, SYN: true, ACK: f == back} }
func fin(f Flow, seq uint32) Segment { return Segment{Flow: f, Seq: seq, FIN: true, ACK: true} }
func say(f Flow, seq uint32, data string) Segment {
	return Segment{Flow: f, Seq: seq, ACK: true, Data: []byte(data)}
}

func TestAssembles(t *testing.T) {
	const late = 1<<32 - 3
	for what, c := range map[string]struct {
		segments []Segment
		want     string
	}{
		"in order":               {[]Segment{syn(there, 9), say(there, 10, "ab"), say(there, 12, "cd"), fin(there, 14)}, "2000:abcd$"},
		"two ways":               {[]Segment{syn(there, 9), syn(back, 99), say(there, 10, "ab"), say(back, 100, "xy"), fin(back, 102), fin(there, 12)}, "2000:ab$ 80:xy$"},
		"out of order":           {[]Segment{syn(there, 9), say(there, 12, "cd"), fin(there, 14), say(there, 10, "ab")}, "2000:abcd$"},
		"data before SYN":        {[]Segment{say(there, 12, "cd"), syn(there, 9), say(there, 10, "ab"), say(there, 14, "e")}, "2000:abcde$"},
		"sent again":             {[]Segment{syn(there, 9), syn(there, 9), say(there, 10, "ab"), say(there, 10, "ab"), say(there, 11, "bc"), say(there, 10, "abcd"), say(there, 10, "a"), fin(there, 14)}, "2000:abcd$"},
		"overlap while held":     {[]Segment{syn(there, 9), say(there, 12, "c"), say(there, 12, "cd"), say(there, 11, "bcde"), say(there, 12, "c"), say(there, 10, "a")}, "2000:abcde$"},
		"probe":                  {[]Segment{syn(there, 9), say(there, 10, "ab"), say(there, 11, "?"), say(there, 12, "c")}, "2000:abc$"},
		"lost":                   {[]Segment{syn(there, 9), say(there, 10, "ab"), say(there, 15, "cd"), say(there, 20, "e")}, "2000:ab~cd~e$"},
		"lost at once":           {[]Segment{syn(there, 9), say(there, 15, "cd")}, "2000:~cd$"},
		"from the middle":        {[]Segment{say(there, 500, "ab"), say(there, 502, "cd"), say(back, 7, "x")}, "2000:abcd$ 80:x$"},
		"over the end":           {[]Segment{syn(there, late-1), say(there, 0, "de"), say(there, late, "abc"), fin(there, 2)}, "2000:abcde$"},
		"fast open":              {[]Segment{{Flow: there, Seq: 9, SYN: true, Data: []byte("ab")}, say(there, 12, "c")}, "2000:abc$"},
		"reset":                  {[]Segment{syn(there, 9), say(there, 10, "ab"), {Flow: there, Seq: 12, RST: true}, say(there, 12, "no")}, "2000:ab$"},
		"nothing of nobody":      {[]Segment{fin(there, 9), {Flow: back, RST: true}, {Flow: there, Seq: 1, ACK: true}}, ""},
		"again after the end":    {[]Segment{syn(there, 9), say(there, 10, "ab"), fin(there, 12), say(there, 10, "ab"), fin(there, 12)}, "2000:ab$"},
		"same ports, after FIN":  {[]Segment{syn(there, 9), say(there, 10, "ab"), fin(there, 12), syn(there, 1000), say(there, 1001, "cd")}, "2000:ab$ 2000:cd$"},
		"same ports, no FIN":     {[]Segment{syn(there, 9), syn(back, 99), say(there, 10, "ab"), say(back, 102, "z"), syn(there, 1000), syn(back, 2000), say(there, 1001, "cd"), say(back, 2001, "w")}, "2000:ab$ 80:~z$ 2000:cd$ 80:w$"},
		"same ports, held begin": {[]Segment{say(there, 10, "ab"), syn(there, 1000), say(there, 1001, "cd")}, "2000:ab$ 2000:cd$"},
	} {
		if got := play(c.segments...); got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
}

// TestAssemblerGivesUpGaps: what waits for a missing segment is bounded, for one
// direction and for all, and what comes after the gap is not lost with it.
func TestAssemblerGivesUpGaps(t *testing.T) {
	h := &heard{}
	a := NewAssembler(h.open)
	a.Add(syn(there, 9))
	const size = 10_000
	for i := range 3 * heldFlow / size {
		a.Add(say(there, uint32(20+i*size), strings.Repeat("x", size)))
		if a.held > heldFlow+size+heldExtra {
			t.Fatalf("%d bytes are held", a.held)
		}
	}
	for n := range 1000 {
		f := Flow{netip.AddrPortFrom(clientAt.Addr(), uint16(10_000+n)), serverAt}
		a.Add(syn(f, 0))
		for i := range 10 {
			a.Add(say(f, uint32(100+i*size), strings.Repeat("y", size)))
		}
		if a.held > heldAll+size+heldExtra {
			t.Fatalf("%d bytes are held of all", a.held)
		}
	}
	a.End()
	if a.held != 0 || len(a.flows) != 0 || len(a.ended) > endedFlows {
		t.Errorf("%d bytes and %d flows are left", a.held, len(a.flows))
	}
	if first := h.all[0].String(); !strings.HasPrefix(first, "2000:~xxx") || len(first) != len("2000:~$")+3*heldFlow/size*size {
		t.Errorf("%.20s, %d bytes", first, len(first))
	}
	for _, b := range h.all[1:] {
		if s := b.String(); len(s) != len("10000:~$")+10*size || !strings.HasSuffix(s, "y$") {
			t.Fatalf("%.20s, %d bytes", s, len(s))
		}
	}
	for n := range 2 * endedFlows { // who ended is remembered for a while
		f := Flow{netip.AddrPortFrom(clientAt.Addr(), uint16(n)), serverAt}
		a.Add(syn(f, 0))
		a.Add(fin(f, 1))
	}
	if len(a.ended) > endedFlows || len(a.ring) > endedFlows {
		t.Errorf("%d directions are remembered", len(a.ended))
	}
}

// peer is the library's reassembly, written down in the same way.
type peer struct{ all []*strings.Builder }

func (p *peer) New(_, transport gopacket.Flow) tcpassembly.Stream {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s:", transport.Src())
	p.all = append(p.all, b)
	return &peerStream{b: b, first: true}
}

type peerStream struct {
	b     *strings.Builder
	first bool
}

func (s *peerStream) Reassembled(rs []tcpassembly.Reassembly) {
	for _, r := range rs {
		if r.Skip > 0 || r.Skip < 0 && !s.first {
			s.b.WriteByte('~')
		}
		s.first = s.first && len(r.Bytes) == 0
		s.b.Write(r.Bytes)
	}
}

func (s *peerStream) ReassemblyComplete() { s.b.WriteByte('$') }

// Segments of a connection, in another order, sent again in other pieces, some lost:
// the library makes the same of them.
func TestAssemblesAsTheLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []Segment
		for _, f := range []Flow{there, back}[:rapid.IntRange(1, 2).Draw(t, "directions")] {
			first := rapid.Uint32().Draw(t, "sequence")
			text := rapid.StringMatching(`[a-z]{0,60}`).Draw(t, "text")
			if rapid.IntRange(0, 4).Draw(t, "begins before") > 0 {
				list = append(list, syn(f, first-1))
			}
			for at := 0; at < len(text); {
				n := rapid.IntRange(1, 9).Draw(t, "length")
				piece := say(f, first+uint32(at), text[at:min(len(text), at+n)])
				if rapid.IntRange(0, 9).Draw(t, "lost") > 0 {
					list = append(list, piece)
				}
				if rapid.IntRange(0, 9).Draw(t, "again") == 0 {
					list = append(list, piece)
				}
				at += n
			}
			if rapid.Bool().Draw(t, "ends") {
				list = append(list, fin(f, first+uint32(len(text))))
			}
		}
		// SYNs stay in front, others change places.
		for range rapid.IntRange(0, 10).Draw(t, "swaps") {
			i, j := rapid.IntRange(0, max(0, len(list)-1)).Draw(t, "i"), rapid.IntRange(0, max(0, len(list)-1)).Draw(t, "j")
			if len(list) > 0 && !list[i].SYN && !list[j].SYN {
				list[i], list[j] = list[j], list[i]
			}
		}
		p := &peer{}
		asm := tcpassembly.NewAssembler(tcpassembly.NewStreamPool(p))
		for _, s := range list {
			ip := &layers.IPv4{SrcIP: net.IP(s.Flow.From.Addr().AsSlice()), DstIP: net.IP(s.Flow.To.Addr().AsSlice())}
			tcp := &layers.TCP{SrcPort: layers.TCPPort(s.Flow.From.Port()), DstPort: layers.TCPPort(s.Flow.To.Port()), Seq: s.Seq, SYN: s.SYN, FIN: s.FIN, ACK: s.ACK}
			tcp.Payload = s.Data
			asm.AssembleWithTimestamp(ip.NetworkFlow(), decoded(t, tcp), s.At)
		}
		asm.FlushAll()
		want := map[string]bool{}
		for _, b := range p.all {
			want[b.String()] = true
		}
		h := &heard{}
		a := NewAssembler(h.open)
		for _, s := range list {
			a.Add(s)
		}
		a.End()
		for _, b := range h.all {
			if strings.HasSuffix(strings.TrimRight(b.String(), "~$"), ":") {
				continue // its beginning and its end, and nothing between
			}
			if !want[b.String()] {
				t.Fatalf("%q is not among the library's: %v", b, want)
			}
			delete(want, b.String())
		}
		ends := slices.ContainsFunc(list, func(s Segment) bool { return s.FIN })
		for s := range want { // of an ended direction the library takes what comes late for another one
			if strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz") && !ends {
				t.Fatalf("the library has %q, too: %s", s, h)
			}
		}
	})
}

// decoded is a segment as the library reads it, with its flow.
func decoded(t *rapid.T, tcp *layers.TCP) *layers.TCP {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, tcp, gopacket.Payload(tcp.Payload)); err != nil {
		t.Fatal(err)
	}
	out := &layers.TCP{}
	if err := out.DecodeFromBytes(bytes.Clone(buf.Bytes()), gopacket.NilDecodeFeedback); err != nil {
		t.Fatal(err)
	}
	return out
}

// FuzzCapture: whatever a file holds, reading ends, and no more comes out than went in.
func FuzzCapture(f *testing.F) {
	f.Add([]byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x65\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, file []byte) {
		packets, _ := all(file)
		if len(file) > 1 && file[0] == 0x1f && file[1] == 0x8b {
			return // unpacked it may be longer
		}
		out := 0
		a := NewAssembler(func(Flow) Stream { return &countStream{&out} })
		for _, p := range packets {
			if s, ok := Decode(p); ok {
				a.Add(s)
			}
		}
		a.End()
		if out > len(file) || a.held != 0 || len(a.flows) != 0 {
			t.Fatalf("%d bytes of a file of %d; %d held, %d flows", out, len(file), a.held, len(a.flows))
		}
	})
}

type countStream struct{ n *int }

func (s *countStream) Bytes(b []byte, _ time.Time, _ bool) { *s.n += len(b) }
func (s *countStream) End()                                {}
