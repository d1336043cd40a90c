package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/google/gopacket/tcpassembly"

	"github.com/kidoban/kidoban"
)

// Bounds of a packet capture.
const (
	pcapStream  = 4 << 20  // bytes kept of one direction of one connection
	pcapBuffers = 64 << 20 // bytes in flight over all connections
	pcapPages   = 16 << 10 // out-of-order pages (about 2 KB each) over all connections
)

// ReadPCAP adds the exchanges of a packet capture (pcap or pcapng): HTTP/1.1 over
// TCP, reassembled in whatever order the packets stand. Encrypted connections
// cannot be read: they are counted, and the observation says so.
func (o *Observation) ReadPCAP(ctx context.Context, name string, r io.Reader) error {
	src, link, err := openPCAP(r)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInput, err, "%s is no packet capture: save it as pcap or pcapng", name)
	}
	c := &capture{conns: map[connKey]*conn{}}
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
	conns   map[connKey]*conn
	size    int
	out     []*kidoban.Exchange
	kept    int // bytes of out
	tls     int // encrypted connections
	h2      int // HTTP/2 without TLS
	cut     int // connections longer than the bound, or with bytes missing
	short   int // packets saved without their end
	dropped int
}

type connKey struct{ net, transport gopacket.Flow }

// conn is one connection. half[0] is the direction that was seen first.
type conn struct {
	half [2]*half
	done int
}

// half is one direction: an io.Reader's worth of bytes with times.
type half struct {
	c     *capture
	key   connKey
	conn  *conn
	data  []byte
	marks []mark
	first bool
	skip  bool // no HTTP, or beyond the bound
	lost  bool
}

type mark struct {
	at   int
	when time.Time
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
			switch {
			case r.Bytes[0] == 0x16 && len(r.Bytes) > 1 && r.Bytes[1] == 3:
				h.skip = true
				if h.conn.half[0] == h {
					h.c.tls++
				}
			case bytes.HasPrefix(r.Bytes, []byte("PRI * HTTP/2")):
				h.skip = true
				h.c.h2++
			}
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

// close reads a connection and forgets it.
func (c *capture) close(cn *conn) {
	delete(c.conns, cn.half[0].key)
	for _, h := range cn.half {
		if h != nil {
			c.size -= len(h.data)
		}
	}
	a, b := cn.half[0], cn.half[1]
	if b != nil && bytes.HasPrefix(a.data, []byte("HTTP/1.")) {
		a, b = b, a
	}
	if a == nil || len(a.data) == 0 {
		return
	}
	if a.lost || b != nil && b.lost {
		c.cut++
	}
	reqs := bufio.NewReader(bytes.NewReader(a.data))
	src := bytes.NewReader(nil)
	if b != nil {
		src = bytes.NewReader(b.data)
	}
	answers := bufio.NewReader(src)
	left := len(a.data)
	for range 100_000 {
		at := a.when(len(a.data) - left)
		req, err := http.ReadRequest(reqs)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(io.LimitReader(req.Body, observeBody)) // a body cut off is judged as far as it goes
		_, _ = io.Copy(io.Discard, req.Body)
		left = reqs.Buffered()
		host := req.Host
		if host == "" {
			host = a.key.net.Dst().String() + ":" + a.key.transport.Dst().String()
		}
		x := &kidoban.Exchange{Started: at, Request: kidoban.Request{Method: req.Method, URL: "http://" + host + req.URL.RequestURI(), Body: body, Header: fieldsOf(req.Header)}}
		readAnswer(x, req, answers)
		c.keep(x)
	}
}

// when is the time at which the byte at offset was seen.
func (h *half) when(offset int) time.Time {
	var t time.Time
	for _, m := range h.marks {
		if m.at > offset {
			break
		}
		t = m.when
	}
	return t
}

func readAnswer(x *kidoban.Exchange, req *http.Request, from *bufio.Reader) {
	for {
		resp, err := http.ReadResponse(from, req)
		if err != nil {
			x.Err, x.ErrKind = "the capture holds no answer", kidoban.KindInput
			return
		}
		b, _ := io.ReadAll(io.LimitReader(resp.Body, observeBody+1)) // a body cut off is judged as far as it goes
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode >= 100 && resp.StatusCode < 200 && resp.StatusCode != 101 {
			continue
		}
		r := &kidoban.Response{Status: resp.StatusCode, Proto: resp.Proto, Header: fieldsOf(resp.Header)}
		r.Body, r.Truncated = decoded(b, resp.Header.Get("Content-Encoding"))
		x.Response = r
		return
	}
}

func fieldsOf(h http.Header) (out kidoban.Fields) {
	names := make([]string, 0, len(h))
	for n := range h {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		for _, v := range h[n] {
			out = append(out, kidoban.Field{Name: n, Value: v})
		}
	}
	return out
}

// keep holds exchanges until they can be put in order; what can be of no
// interest loses its body at once.
func (c *capture) keep(x *kidoban.Exchange) {
	dull := kindOfMessage(x) == notOAuth && !isMCP(x) && !strings.Contains(x.Request.URL, "/.well-known/")
	if dull && x.Response != nil && !strings.Contains(mediaType(x), "html") {
		x.Response.Body = nil
	}
	n := 500 + len(x.Request.Body)
	if x.Response != nil {
		n += len(x.Response.Body)
	}
	if c.kept += n; c.kept > 2*keepBytes {
		c.dropped++
		return
	}
	c.out = append(c.out, x)
}

func (c *capture) notes(o *Observation, name string, packets int) {
	if c.tls > 0 {
		o.partial("%s: %d of its connections are encrypted (TLS) and cannot be read from packets; record the client with kidoban record, or save a HAR in the browser or proxy", name, c.tls)
	}
	if c.h2 > 0 {
		o.partial("%s: %d connections speak HTTP/2, which is not read from packets", name, c.h2)
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
	if len(c.out) == 0 && c.tls+c.h2 == 0 {
		o.partial("%s: %d packets, and no HTTP among them", name, packets)
	}
}
