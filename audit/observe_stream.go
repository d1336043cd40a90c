package audit

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/keylog"
)

// side is one direction of a connection as HTTP sees it: bytes in clear, and when
// they were seen.
type side struct {
	data  []byte
	marks []mark
}

type mark struct {
	at   int
	when time.Time
}

// close reads a connection and forgets it.
func (c *capture) close(cn *conn) {
	delete(c.conns, cn.half[0].flow)
	for _, h := range cn.half {
		if h != nil {
			c.size -= len(h.data)
		}
	}
	a, b := cn.half[0], cn.half[1]
	if b == nil {
		b = &half{}
	}
	if bytes.HasPrefix(a.data, []byte("HTTP/1.")) || cn.tls && len(b.data) > 5 && b.data[5] == 1 { // the answers were seen first
		a, b = b, a
	}
	if a.c == nil || len(a.data) == 0 || cn.tls && (a.skip && !a.lost || b.skip && !b.lost) {
		return
	}
	if a.lost || b.lost {
		c.cut++
	}
	scheme, host := "http", a.flow.To.String()
	if cn.tls {
		p, ok := c.decrypt(a, b)
		if !ok {
			return
		}
		scheme = "https"
		if p.Host != "" {
			host = p.Host
		}
		a.side, b.side = a.inClear(p.Client), b.inClear(p.Server)
	}
	if bytes.HasPrefix(a.data, []byte(http2Preface)) {
		c.http2(a.side, b.side, scheme, host)
		return
	}
	c.http1(a.side, b.side, scheme, host)
}

// decrypt opens a TLS connection; ok is false when nothing can be read of it.
func (c *capture) decrypt(a, b *half) (p *keylog.Plain, ok bool) {
	p, err := c.keys.Open(a.data, b.data)
	switch {
	case err == nil:
		if !p.Whole && !a.lost && !b.lost {
			c.cut++
		}
		return p, true
	case kidoban.KindOf(err) == kidoban.KindNotFound:
		c.foreign++
	default:
		c.closed++
		c.why = sentence(err)
	}
	return nil, false
}

// inClear puts a direction's records together; a record counts from the moment at
// which it was complete.
func (h *half) inClear(chunks []keylog.Chunk) side {
	var out side
	for _, k := range chunks {
		out.marks = append(out.marks, mark{len(out.data), h.when(k.End - 1)})
		out.data = append(out.data, k.Data...)
	}
	return out
}

// maxMessages bounds the requests of one connection.
const maxMessages = 100_000

// http1 reads the requests of a and the answers of b.
func (c *capture) http1(a, b side, scheme, host string) {
	src := bytes.NewReader(a.data)
	reqs, answers := bufio.NewReader(src), bufio.NewReader(bytes.NewReader(b.data))
	for range maxMessages {
		at := a.when(len(a.data) - src.Len() - reqs.Buffered())
		req, err := http.ReadRequest(reqs)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(io.LimitReader(req.Body, observeBody)) // a body cut off is judged as far as it goes
		_, _ = io.Copy(io.Discard, req.Body)
		if req.Host != "" {
			host = req.Host
		}
		x := &kidoban.Exchange{Started: at, Request: kidoban.Request{Method: req.Method, URL: scheme + "://" + host + req.URL.RequestURI(), Body: body, Header: fieldsOf(req.Header)}}
		readAnswer(x, req, answers)
		c.keep(x)
	}
}

// when is the time at which the byte at offset was seen.
func (h side) when(offset int) time.Time {
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
