package audit

import (
	"context"
	"errors"
	"io"
	"sort"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/keylog"
	"github.com/kidoban/kidoban/audit/packets"
)

// Bounds of a packet capture.
const (
	pcapStream  = 4 << 20  // bytes kept of one direction of one connection
	pcapBuffers = 64 << 20 // bytes in flight over all connections
)

// Keys gives the secrets with which encrypted connections of captures are read
// (SSLKEYLOGFILE). Without them those are counted, and the observation says so.
func (o *Observation) Keys(l *keylog.Log) { o.keys = l }

// ReadPCAP adds the exchanges of a packet capture (pcap or pcapng): HTTP/1.1 and
// HTTP/2 over TCP, reassembled in whatever order the packets stand, and over TLS
// where Keys has the secrets.
func (o *Observation) ReadPCAP(ctx context.Context, name string, r io.Reader) error {
	src, err := packets.Open(r)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInput, err, "%s is no packet capture: save it as pcap or pcapng", name)
	}
	c := &capture{keys: o.keys, conns: map[packets.Flow]*conn{}}
	asm := packets.NewAssembler(c.open)
	n := 0
	for ; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			o.partial("reading %s was interrupted after %s", name, kidoban.Count(n, "packet", "packets"))
			return ctx.Err()
		}
		p, err := src.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			o.partial("%s is cut off or broken after packet %d; what came before was judged", name, n)
			break
		}
		if p.Cut {
			c.short++
		}
		if !p.Link.Known() {
			c.strange++
			c.link = p.Link
		}
		if s, ok := packets.Decode(p); ok {
			asm.Add(s)
		}
	}
	asm.End()
	c.finish()
	c.notes(o, name, n)
	sort.SliceStable(c.out, func(i, j int) bool { return c.out[i].Started.Before(c.out[j].Started) })
	for _, x := range c.out {
		o.Add(x)
	}
	return nil
}

// capture puts connections together out of their two directions.
type capture struct {
	keys    *keylog.Log // nil: none were given
	conns   map[packets.Flow]*conn
	size    int
	out     []*kidoban.Exchange
	kept    int // bytes of out
	tls     int // encrypted connections, and no keys were given
	foreign int // encrypted connections that the key log does not know
	closed  int // encrypted connections that cannot be read all the same
	why     string
	cut     int // connections longer than the bound, or with bytes missing
	short   int // packets saved without their end
	strange int // packets of links that cannot be read, such as link
	link    packets.Link
	dropped int
}

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
	flow  packets.Flow
	conn  *conn
	first bool
	skip  bool // cannot be read, or beyond the bound
	lost  bool
}

// open is called by the assembler for each direction.
func (c *capture) open(f packets.Flow) packets.Stream {
	h := &half{c: c, flow: f, first: true}
	if other := c.conns[f.Reverse()]; other != nil && other.half[1] == nil {
		h.conn, other.half[1] = other, h
		return h
	}
	h.conn = &conn{half: [2]*half{h, nil}}
	c.conns[f] = h.conn
	return h
}

// Bytes implements packets.Stream.
func (h *half) Bytes(b []byte, at time.Time, lost bool) {
	h.lost = h.lost || lost
	if h.skip || len(b) == 0 {
		return
	}
	if h.first {
		h.first = false
		h.skip = b[0] == 0x16 && len(b) > 1 && b[1] == 3 && h.unreadable(b)
	}
	if h.skip || len(h.data)+len(b) > pcapStream || h.c.size+len(b) > pcapBuffers {
		h.lost = h.lost || !h.skip
		h.skip = true
		return
	}
	h.marks = append(h.marks, mark{len(h.data), at})
	h.data = append(h.data, b...)
	h.c.size += len(b)
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

// End implements packets.Stream.
func (h *half) End() {
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

// connections says how many of a capture's are something.
func connections(n int) string {
	return kidoban.Count(n, "of its connections is", "of its connections are")
}

func (c *capture) notes(o *Observation, name string, packets int) {
	if c.strange > 0 {
		o.partial("%s: %d of %s in a way that cannot be read (%s); capture on the client's or the server's machine: on Ethernet, loopback, Linux's \"any\", or Wi-Fi outside of monitor mode", name, c.strange, kidoban.Count(packets, "packet begins", "packets begin"), c.link)
	}
	if c.tls > 0 {
		o.partial("%s: %s encrypted (TLS) and cannot be read from packets alone; capture again with SSLKEYLOGFILE set for the client and give that file with --keylog, or record the client with kidoban record, or save a HAR in the browser or proxy", name, connections(c.tls))
	}
	if c.foreign > 0 {
		o.partial("%s: %s encrypted (TLS) and not in the key log; it must be written by the same client during the capture", name, connections(c.foreign))
	}
	if c.closed > 0 {
		o.partial("%s: %s encrypted (TLS) and cannot be read with the key log: %s", name, connections(c.closed), c.why)
	}
	if c.cut > 0 {
		o.partial("%s: judged as far as it goes: %s longer than %d MiB or with packets missing", name, kidoban.Count(c.cut, "connection", "connections"), pcapStream>>20)
	}
	if c.short > 0 {
		o.partial("%s: %d of %s saved without the end; capture with a larger snapshot length", name, c.short, kidoban.Count(packets, "packet was", "packets were"))
	}
	if c.dropped > 0 {
		o.partial("%s: %s beyond the bound left out", name, kidoban.Count(c.dropped, "exchange", "exchanges"))
	}
	if len(c.out) == 0 && c.tls+c.foreign+c.closed+c.strange == 0 {
		o.partial("%s: no HTTP in its packets (%d)", name, packets)
	}
}
