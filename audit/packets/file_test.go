package packets

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"pgregory.net/rapid"
)

// all reads a file to its end.
func all(file []byte) (out []Packet, err error) {
	r, err := Open(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		p.Data = bytes.Clone(p.Data)
		out = append(out, p)
	}
}

// saved is what a test puts into a file.
type saved struct {
	data  []byte
	at    time.Time
	whole int
	on    int // interface
}

func drawSaved(t *rapid.T, unit time.Duration) (list []saved) {
	for range rapid.IntRange(0, 8).Draw(t, "packets") {
		data := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "data")
		at := time.Unix(rapid.Int64Range(0, 1<<31).Draw(t, "second"), rapid.Int64Range(0, 999_999_999).Draw(t, "nano")).Truncate(unit)
		list = append(list, saved{data, at, len(data) + rapid.SampledFrom([]int{0, 0, 5}).Draw(t, "more"), rapid.IntRange(0, 1).Draw(t, "interface")})
	}
	return list
}

func compare(t *rapid.T, what string, file []byte, want []saved, links [2]Link) {
	got, err := all(file)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%s: %d packets of %d, %v", what, len(got), len(want), err)
	}
	for i, w := range want {
		if g := got[i]; !bytes.Equal(g.Data, w.data) || !g.At.Equal(w.at) || g.Cut != (w.whole > len(w.data)) || g.Link != links[w.on] {
			t.Fatalf("%s, packet %d: %v, want %v", what, i, g, w)
		}
	}
}

// Files of both kinds, in both byte orders and resolutions, say what was put into
// them; cut off anywhere, they say what came before, and that it was not all.
func TestReadsWhatWasSaved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		link := rapid.SampledFrom([]Link{LinkNull, LinkEthernet, LinkRaw, LinkLinux, LinkLinux2}).Draw(t, "link")
		big, nano := rapid.Bool().Draw(t, "big"), rapid.Bool().Draw(t, "nano")
		unit := map[bool]time.Duration{true: time.Nanosecond, false: time.Microsecond}[nano]
		list := drawSaved(t, unit)
		order := binary.AppendByteOrder(binary.LittleEndian)
		if big {
			order = binary.BigEndian
		}
		magic := map[bool]uint32{false: 0xa1b2c3d4, true: 0xa1b23c4d}[nano]
		file := order.AppendUint32(nil, magic)
		file = order.AppendUint16(order.AppendUint16(file, 2), 4)
		for _, v := range []uint32{0, 0, 262144, uint32(link) | 0x1000_0000} {
			file = order.AppendUint32(file, v)
		}
		for i := range list {
			s := &list[i]
			s.on = 0
			for _, v := range []uint32{uint32(s.at.Unix()), uint32(int64(s.at.Nanosecond()) / int64(unit)), uint32(len(s.data)), uint32(s.whole)} {
				file = order.AppendUint32(file, v)
			}
			file = append(file, s.data...)
		}
		compare(t, "pcap", file, list, [2]Link{link})
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = w.Write(file)
		w.Close()
		compare(t, "packed", z.Bytes(), list, [2]Link{link})
		cut := rapid.IntRange(0, len(file)).Draw(t, "cut")
		got, err := all(file[:cut])
		if len(got) > len(list) || err == nil && cut < 24 {
			t.Fatalf("cut at %d of %d: %d packets, %v", cut, len(file), len(got), err)
		}
		at := 24 // where the file ends with a packet
		for i := 0; at < cut && i < len(list); i++ {
			at += 16 + len(list[i].data)
		}
		if cut >= 24 && (err == nil) != (at == cut) {
			t.Fatalf("cut at %d of %d: %v", cut, len(file), err)
		}
	})
}

// What the library writes as pcapng, with two interfaces and comments between, reads
// the same here.
func TestReadsPcapng(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := drawSaved(t, time.Nanosecond)
		var b bytes.Buffer
		w, err := pcapgo.NewNgWriterInterface(&b, pcapgo.NgInterface{Name: "a", LinkType: layers.LinkTypeEthernet, TimestampResolution: 9}, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Comment: "three of"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.AddInterface(pcapgo.NgInterface{Name: "b", LinkType: layers.LinkTypeLinuxSLL, TimestampResolution: 9}); err != nil {
			t.Fatal(err)
		}
		for i, s := range list {
			if i == 1 {
				if err := w.WriteDecryptionSecretsBlock(0x544c534b, []byte("CLIENT_RANDOM a b\n")); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: s.at, CaptureLength: len(s.data), Length: s.whole, InterfaceIndex: s.on}, s.data); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		compare(t, "pcapng", b.Bytes(), list, [2]Link{LinkEthernet, LinkLinux})
		two := append(bytes.Clone(b.Bytes()), b.Bytes()...) // sections one behind the other
		compare(t, "two sections", two, append(list, list...), [2]Link{LinkEthernet, LinkLinux})
	})
}

// The kinds of blocks that the library does not write, and times of any resolution.
func TestReadsOldAndSimpleBlocks(t *testing.T) {
	order := binary.BigEndian
	block := func(typ uint32, body ...byte) []byte {
		for len(body)%4 != 0 {
			body = append(body, 0)
		}
		b := order.AppendUint32(order.AppendUint32(nil, typ), uint32(len(body)+12))
		return order.AppendUint32(append(b, body...), uint32(len(body)+12))
	}
	words := func(list ...uint32) (b []byte) {
		for _, v := range list {
			b = order.AppendUint32(b, v)
		}
		return b
	}
	head := block(blockSection, words(0x1a2b3c4d, 0x0001_0000, 0xffff_ffff, 0xffff_ffff)...)
	iface := func(options ...byte) []byte {
		return block(blockInterface, append(words(uint32(LinkRaw)<<16, 6), options...)...)
	}
	half := block(blockPacket, append(words(0, 0, 3, 4, 4), "half"...)...)
	for _, c := range []struct {
		what    string
		file    []byte
		at      time.Time
		data    string
		cut     bool
		refused bool
	}{
		{what: "simple", file: append(iface(), block(blockSimple, append(words(4), "abcd"...)...)...), data: "abcd", at: time.Time{}},
		{what: "simple, cut", file: append(iface(), block(blockSimple, append(words(9), "abcdefgh"...)...)...), data: "abcdef", cut: true},
		{what: "old", file: append(iface(), block(blockOld, append(words(7, 0, 1_500_000, 3, 3), "abc"...)...)...), data: "abc", at: time.Unix(1, 500_000_000)},
		{what: "halves of a second", file: append(iface(0, 9, 0, 1, 0x81, 0, 0, 0), half...), data: "half", at: time.Unix(1, 500_000_000)},
		{what: "10^-19, and an offset", file: append(iface(0, 9, 0, 1, 19, 0, 0, 0, 0, 14, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5), half...), data: "half", at: time.Unix(5, 0)},
		{what: "too fine to count", file: append(iface(0, 9, 0, 1, 20, 0, 0, 0), half...), refused: true},
		{what: "no such interface", file: half, refused: true},
		{what: "more than there is", file: append(iface(), block(blockPacket, append(words(0, 0, 0, 5, 5), "abcd"...)...)...), refused: true},
		{what: "short", file: append(iface(), block(blockPacket, words(0, 0)...)...), refused: true},
		{what: "no length", file: words(6, 4, 4), refused: true},
		{what: "two lengths", file: append(iface(), 0, 0, 0, 6, 0, 0, 0, 12, 0, 0, 0, 16), refused: true},
		{what: "endless", file: append(iface(), words(6, 0xffff_fffc, 0, 0)...), refused: true},
	} {
		got, err := all(append(bytes.Clone(head), c.file...))
		if c.refused {
			if err == nil {
				t.Errorf("%s: %v", c.what, got)
			}
			continue
		}
		if err != nil || len(got) != 1 || string(got[0].Data) != c.data || !got[0].At.Equal(c.at) || got[0].Cut != c.cut || got[0].Link != LinkRaw {
			t.Errorf("%s: %v %v", c.what, got, err)
		}
	}
	for _, bad := range []string{"", "abc", "\x1f\x8b", "\x1f\x8babc", "\x0a\x0d\x0d\x0a", "GET / HTTP/1.1\r\n\r\n", "\xd4\xc3\xb2\xa1\x03\x00\x00\x00aaaaaaaaaaaaaaaa"} {
		if _, err := Open(bytes.NewReader([]byte(bad))); err == nil {
			t.Errorf("%q is a capture", bad)
		}
	}
}
