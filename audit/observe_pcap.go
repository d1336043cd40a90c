package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"sort"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/gopacket/gopacket/tcpassembly"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/keylog"
)

// Bounds of a packet capture.
const (
	pcapStream  = 4 << 20  // bytes kept of one direction of one connection
	pcapBuffers = 64 << 20 // bytes in flight over all connections
	pcapPages   = 16 << 10 // out-of-order pages (about 2 KB each) over all connections
)

// Keys gives the secrets with which encrypted connections of captures are read
// (SSLKEYLOGFILE). Without them those are counted, and the observation says so.
func (o *Observation) Keys(l *keylog.Log) { o.keys = l }

// ReadPCAP adds the exchanges of a packet capture (pcap or pcapng): HTTP/1.1 and
// HTTP/2 over TCP, reassembled in whatever order the packets stand, and over TLS
// where Keys has the secrets.
func (o *Observation) ReadPCAP(ctx context.Context, name string, r io.Reader) error {
	src, link, err := openPCAP(r)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInput, err, "%s is no packet capture: save it as pcap or pcapng", name)
	}
	c := &capture{keys: o.keys, conns: map[connKey]*conn{}}
	pool := tcpassembly.NewStreamPool(c)
	asm := tcpassembly.NewAssembler(pool)
	asm.MaxBufferedPagesTotal, asm.MaxBufferedPagesPerConnection = pcapPages, pcapPages/16
	packets := 0
	for ; ; packets++ {
		if packets%4096 == 0 && ctx.Err() != nil {
			o.partial("reading %s was interrupted after %d packets", name, packets)
			return ctx.Err()
		}
		data, info, err := src.ZeroCopyReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			o.partial("%s is cut off or broken after packet %d; what came before was judged", name, packets)
			break
		}
		if info.CaptureLength < info.Length {
			c.short++
		}
		p := gopacket.NewPacket(data, link, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		if tcp, ok := p.TransportLayer().(*layers.TCP); ok && p.NetworkLayer() != nil {
			asm.AssembleWithTimestamp(p.NetworkLayer().NetworkFlow(), tcp, info.Timestamp)
		}
	}
	asm.FlushAll()
	c.finish()
	c.notes(o, name, packets)
	sort.SliceStable(c.out, func(i, j int) bool { return c.out[i].Started.Before(c.out[j].Started) })
	for _, x := range c.out {
		o.Add(x)
	}
	return nil
}

type packetSource interface {
	ZeroCopyReadPacketData() ([]byte, gopacket.CaptureInfo, error)
}

func openPCAP(r io.Reader) (packetSource, gopacket.Decoder, error) {
	br := bufio.NewReaderSize(r, 1<<20)
	magic, err := br.Peek(4)
	if err != nil {
		return nil, nil, err
	}
	if bytes.Equal(magic, []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
		ng, err := pcapgo.NewNgReader(br, pcapgo.DefaultNgReaderOptions)
		if err != nil {
			return nil, nil, err
		}
		return ng, ng.LinkType(), nil
	}
	p, err := pcapgo.NewReader(br)
	if err != nil {
		return nil, nil, err
	}
	return p, p.LinkType(), nil
}

// capture puts connections together out of their two directions.
type capture struct {
	keys    *keylog.Log // nil: none were given
	conns   map[connKey]*conn
	size    int
	out     []*kidoban.Exchange
	kept    int // bytes of out
	tls     int // encrypted connections, and no keys were given
	foreign int // encrypted connections that the key log does not know
	closed  int // encrypted connections that cannot be read all the same
	why     string
	cut     int // connections longer than the bound, or with bytes missing
	short   int // packets saved without their end
	dropped int
}

type connKey struct{ net, transport gopacket.Flow }

// conn is one connection. half[0] is the direction that was seen first.
type conn struct {
	half [2]*half
	done int
	tls  bool
}

// half is one direction while it is put together.
type half struct {
	side
	c     *capture
	key   connKey
	conn  *conn
	first bool
	skip  bool // cannot be read, or beyond the bound
	lost  bool
}

// New is called by the assembler for each direction.
func (c *capture) New(n, t gopacket.Flow) tcpassembly.Stream {
	h := &half{c: c, key: connKey{n, t}, first: true}
	back := connKey{n.Reverse(), t.Reverse()}
	if other := c.conns[back]; other != nil && other.half[1] == nil {
		h.conn, other.half[1] = other, h
		return h
	}
	h.conn = &conn{half: [2]*half{h, nil}}
	c.conns[h.key] = h.conn
	return h
}

// Reassembled is called with bytes in order.
func (h *half) Reassembled(rs []tcpassembly.Reassembly) {
	for _, r := range rs {
		if r.Skip != 0 && !h.first || r.Skip > 0 {
			h.lost = true
		}
		if len(r.Bytes) == 0 || h.skip {
			continue
		}
		if h.first {
			h.first = false
			h.skip = r.Bytes[0] == 0x16 && len(r.Bytes) > 1 && r.Bytes[1] == 3 && h.unreadable(r.Bytes)
		}
		if h.skip || len(h.data)+len(r.Bytes) > pcapStream || h.c.size+len(r.Bytes) > pcapBuffers {
			h.lost = h.lost || !h.skip
			h.skip = true
			continue
		}
		h.marks = append(h.marks, mark{len(h.data), r.Seen})
		h.data = append(h.data, r.Bytes...)
		h.c.size += len(r.Bytes)
	}
}

// unreadable decides at the first bytes of a TLS direction whether the connection
// is worth keeping, and counts those that are not, once.
func (h *half) unreadable(head []byte) bool {
	c, cn := h.c, h.conn
	if seen := cn.tls; seen && cn.half[0].skip {
		return true
	}
	seen := cn.tls
	cn.tls = true
	switch {
	case c.keys == nil:
		if !seen {
			c.tls++
		}
		return true
	case len(head) >= 43 && head[5] == 1 && !c.keys.Knows(head): // a client's hello
		c.foreign++
		return true
	}
	return false
}

// ReassemblyComplete is called when a direction has ended.
func (h *half) ReassemblyComplete() {
	if h.conn.done++; h.conn.done == 2 {
		h.c.close(h.conn)
	}
}

// finish reads the connections that had not ended with the capture.
func (c *capture) finish() {
	for _, cn := range c.conns {
		c.close(cn)
	}
}

func (c *capture) notes(o *Observation, name string, packets int) {
	if c.tls > 0 {
		o.partial("%s: %d of its connections are encrypted (TLS) and cannot be read from packets alone; capture again with SSLKEYLOGFILE set for the client and give that file with --keylog, or record the client with kidoban record, or save a HAR in the browser or proxy", name, c.tls)
	}
	if c.foreign > 0 {
		o.partial("%s: %d of its connections are encrypted (TLS) and not in the key log; it must be written by the same client during the capture", name, c.foreign)
	}
	if c.closed > 0 {
		o.partial("%s: %d of its connections are encrypted (TLS) and cannot be read with the key log: %s", name, c.closed, c.why)
	}
	if c.cut > 0 {
		o.partial("%s: %d connections are longer than %d MiB or lack packets; they are judged as far as they go", name, c.cut, pcapStream>>20)
	}
	if c.short > 0 {
		o.partial("%s: %d of %d packets were saved without their end; capture with a larger snapshot length", name, c.short, packets)
	}
	if c.dropped > 0 {
		o.partial("%s: %d exchanges beyond the bound were left out", name, c.dropped)
	}
	if len(c.out) == 0 && c.tls+c.foreign+c.closed == 0 {
		o.partial("%s: %d packets, and no HTTP among them", name, packets)
	}
}
