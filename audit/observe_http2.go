package audit

import (
	"bytes"
	"slices"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kidoban/kidoban"
)

// http2Preface begins every HTTP/2 connection of a client (RFC 9113 §3.4).
const http2Preface = http2.ClientPreface

// Bounds of one HTTP/2 connection; what lies beyond is left out and the
// connection counted as cut.
const (
	http2Fields = 64 << 10 // bytes of one list of fields
	http2Table  = 1 << 20  // bytes of the compression table; browsers use 64 KiB
	http2Kept   = 64 << 20 // bytes of fields and bodies
)

// http2 reads the streams of a connection: a asks, b answers.
func (c *capture) http2(a, b side, scheme, host string) {
	r := &http2Reader{streams: map[uint32]*http2Stream{}}
	whole := r.read(side{a.data[len(http2Preface):], shifted(a.marks, len(http2Preface))}, true)
	whole = r.read(b, false) && whole
	if !whole {
		c.cut++
	}
	for _, id := range r.order {
		s := r.streams[id]
		x := &kidoban.Exchange{Started: s.x.Started, Request: s.x.Request, Response: s.x.Response, Err: s.x.Err, ErrKind: s.x.ErrKind}
		if s.authority == "" {
			s.authority = host
		}
		x.Request.URL = scheme + "://" + s.authority + s.path
		x.Request.Body = s.body[0]
		if x.Response == nil {
			x.Err, x.ErrKind = "the capture holds no answer", kidoban.KindInput
		} else {
			x.Response.Body, x.Response.Truncated = decoded(s.body[1], x.Header("Content-Encoding"))
		}
		c.keep(x)
	}
}

// shifted moves marks by n bytes towards the beginning.
func shifted(in []mark, n int) []mark {
	out := slices.Clone(in)
	for i := range out {
		out[i].at = max(0, out[i].at-n)
	}
	return out
}

// http2Reader puts the frames of both directions together.
type http2Reader struct {
	streams map[uint32]*http2Stream
	order   []uint32
	size    int
}

type http2Stream struct {
	x               kidoban.Exchange
	authority, path string
	body            [2][]byte // asked, answered
}

// read reads the frames of one direction, as far as they go. whole is false when
// they end within a frame or cannot be read further.
func (r *http2Reader) read(d side, asking bool) (whole bool) {
	src := bytes.NewReader(d.data)
	f := http2.NewFramer(nil, src)
	f.SetMaxReadFrameSize(1 << 20)
	f.MaxHeaderListSize = http2Fields
	dec := hpack.NewDecoder(4096, func(hpack.HeaderField) {}) // for promises; the framer has its own
	dec.SetAllowedMaxDynamicTableSize(http2Table)
	f.ReadMetaHeaders = dec
	for r.size < http2Kept && len(r.order) < maxMessages {
		at := d.when(len(d.data) - src.Len())
		frame, err := f.ReadFrame()
		if _, one := err.(http2.StreamError); one {
			continue // fields that break the rules concern their stream only
		}
		if err != nil {
			return src.Len() == 0 && len(d.data) > 0
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if asking {
				s := r.request(frame)
				s.x.Started = at
			} else {
				r.answer(frame)
			}
		case *http2.DataFrame:
			r.data(frame, asking)
		case *http2.PushPromiseFrame: // its fields belong to the table of the connection
			_, _ = dec.Write(frame.HeaderBlockFragment()) // what cannot be read shows at the next fields
			if frame.HeadersEnded() {
				_ = dec.Close()
			}
		}
	}
	return false
}

// request takes the fields of a request; trailers find the stream known.
func (r *http2Reader) request(f *http2.MetaHeadersFrame) *http2Stream {
	if s := r.streams[f.StreamID]; s != nil {
		return s
	}
	s := &http2Stream{authority: f.PseudoValue("authority"), path: f.PseudoValue("path")}
	s.x.Request.Method, s.x.Request.Header = f.PseudoValue("method"), r.fields(f)
	r.streams[f.StreamID] = s
	r.order = append(r.order, f.StreamID)
	return s
}

// answer takes the fields of an answer: the first that is no interim one.
func (r *http2Reader) answer(f *http2.MetaHeadersFrame) {
	s := r.streams[f.StreamID]
	status, err := strconv.Atoi(f.PseudoValue("status"))
	if s == nil || s.x.Response != nil || err != nil || status < 200 || status > 999 {
		return
	}
	s.x.Response = &kidoban.Response{Status: status, Proto: "HTTP/2.0", Header: r.fields(f)}
}

func (r *http2Reader) fields(f *http2.MetaHeadersFrame) (out kidoban.Fields) {
	for _, h := range f.RegularFields() {
		r.size += len(h.Name) + len(h.Value) + 64
		out = append(out, kidoban.Field{Name: h.Name, Value: h.Value})
	}
	return out
}

func (r *http2Reader) data(f *http2.DataFrame, asking bool) {
	s, side := r.streams[f.StreamID], 1
	if asking {
		side = 0
	}
	if s == nil {
		return
	}
	b := f.Data()
	b = b[:min(len(b), max(0, observeBody+1-len(s.body[side])))]
	s.body[side] = append(s.body[side], b...)
	r.size += len(b)
}
