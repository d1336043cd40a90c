package wire

import (
	"bytes"
	"io"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// Event is one server-sent event (HTML Living Standard, "Server-sent events").
type Event struct {
	Type  string        // "" means message
	ID    string        // the last id seen on the stream, this event's included
	Data  []byte        // data lines joined by LF; nil when the event had none
	Retry time.Duration // -1 when the event did not set it
	HasID bool          // this event set ID itself
}

// DefaultMaxEvent bounds one event when no other bound is given.
const DefaultMaxEvent = 4 << 20

// EventParser takes a stream apart as its bytes arrive. Not for concurrent
// use. Comments and events without data are passed over, but their id stays in
// force. What the stream's end cuts off is dropped, as the standard asks.
type EventParser struct {
	max    int
	lastID string
	ev     Event
	data   []byte // data lines of the event so far, joined by LF; nil when there was none
	line   []byte // the unfinished line
	seen   int    // bytes of the event so far
	bare   bool   // hand on events without data that set an id or a delay
	bom    int    // bytes of a byte order mark still possible at the start
	lastCR bool   // the last byte was a CR: a LF that follows belongs to it
}

// NewEventParser returns a parser whose events have at most max bytes of
// lines, comments included (0 means DefaultMaxEvent).
func NewEventParser(max int) *EventParser {
	if max <= 0 {
		max = DefaultMaxEvent
	}
	return &EventParser{max: max, ev: Event{Retry: -1}, bom: len(byteOrderMark)}
}

const byteOrderMark = "\xef\xbb\xbf"

// Feed takes the next bytes and calls emit for each event they complete, until
// emit returns false. Event.Data is the receiver's to keep. A lone CR ends a
// line at once: waiting for the LF that may follow would hold back an event.
// The error is a *kidoban.Error of KindLimit for an event over the bound; the
// parser is of no use after it.
func (p *EventParser) Feed(chunk []byte, emit func(Event) (more bool)) error {
	chunk = p.skipMark(chunk)
	lf, cr := ends{char: '\n'}, ends{char: '\r'}
	for len(chunk) > 0 {
		if p.lastCR && chunk[0] == '\n' {
			p.lastCR, chunk = false, chunk[1:]
			continue
		}
		p.lastCR = false
		end := min(lf.in(chunk), cr.in(chunk))
		part := chunk[:end]
		if p.seen += len(part); p.seen > p.max {
			return kidoban.Errorf(kidoban.KindLimit, "An event of the stream is longer than %d bytes.", p.max)
		}
		if need := len(p.line) + len(part); need > cap(p.line) {
			p.grow(need)
		}
		p.line = append(p.line, part...)
		if end == len(chunk) {
			return nil
		}
		p.lastCR = chunk[end] == '\r'
		chunk = chunk[end+1:]
		if ev, complete := p.endLine(); complete && !emit(ev) {
			return nil
		}
	}
	return nil
}

// grow makes room for a line of so many bytes: in memory that was recycled, or in
// twice as much, so that a long line is copied a few times only.
func (p *EventParser) grow(need int) {
	if need >= longLine {
		if room, _ := lineRooms.Get().(*[]byte); room != nil && cap(*room) >= need {
			p.line = append((*room)[:0], p.line...)
			return
		}
	}
	p.line = slices.Grow(p.line, max(need, min(2*need, p.max))-len(p.line))
}

// lineRooms holds memory of events that were recycled, *[]byte.
var lineRooms sync.Pool

// maxLineRoom is the most memory of one event that is kept for others, in bytes.
const maxLineRoom = 256 << 10

// Recycle gives the memory of an event back, for lines of any stream. Nobody may
// hold any of it, nor call Recycle for it again.
func Recycle(ev Event) {
	if c := cap(ev.Data); c >= longLine && c <= maxLineRoom {
		room := ev.Data[:0]
		lineRooms.Put(&room)
	}
}

// ends finds a character in a chunk that grows shorter from its front, looking at
// each byte once.
type ends struct {
	char byte
	left int // bytes of the chunk behind the next one; what was never looked for is 0
	know bool
}

// in returns where the next one is, or the chunk's length.
func (e *ends) in(chunk []byte) int {
	if e.know && e.left < len(chunk) {
		return len(chunk) - 1 - e.left
	}
	if e.know && e.left == math.MaxInt {
		return len(chunk)
	}
	at := bytes.IndexByte(chunk, e.char)
	if e.know = true; at < 0 {
		e.left = math.MaxInt
		return len(chunk)
	}
	e.left = len(chunk) - 1 - at
	return at
}

// skipMark drops a byte order mark at the very start, also when it comes in
// pieces.
func (p *EventParser) skipMark(chunk []byte) []byte {
	for p.bom > 0 && len(chunk) > 0 {
		at := len(byteOrderMark) - p.bom
		if chunk[0] != byteOrderMark[at] {
			p.line = append(p.line, byteOrderMark[:at]...) // it was text after all
			p.bom = 0
			break
		}
		chunk = chunk[1:]
		p.bom--
	}
	return chunk
}

// endLine applies the line that is complete; an empty one completes an event.
func (p *EventParser) endLine() (Event, bool) {
	if line := p.line; len(line) > 0 {
		p.seen++
		var kept bool
		if p.data, kept = p.ev.field(line, p.data); kept || cap(line) > maxLineRoom {
			p.line = nil // or too much to keep until the next line
		} else {
			p.line = p.line[:0]
		}
		return Event{}, false
	}
	if p.ev.HasID {
		p.lastID = p.ev.ID
	}
	ev, data := p.ev, p.data
	p.ev, p.data, p.seen = Event{Retry: -1}, nil, 0
	ev.ID = p.lastID
	if ev.Data = data; data == nil {
		return ev, p.bare && (ev.HasID || ev.Retry >= 0)
	}
	return ev, true
}

// longLine is from when on a line becomes the event's data as it is, uncopied.
const longLine = 1 << 10

// field takes one line into the event and returns the data so far, and whether
// that is now the line's own memory.
func (ev *Event) field(line, data []byte) (all []byte, kept bool) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "event":
		ev.Type = string(value)
	case "data":
		switch {
		case data != nil:
			data = append(append(data, '\n'), value...)
		case len(value) >= longLine:
			return value, true
		default:
			data = append([]byte{}, value...)
		}
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			ev.ID, ev.HasID = string(value), true
		}
	case "retry":
		if n, err := strconv.ParseUint(string(value), 10, 31); err == nil {
			ev.Retry = time.Duration(n) * time.Millisecond
		}
	}
	return data, false
}

// EventReader reads events from an io.Reader. Not for concurrent use.
type EventReader struct {
	in     io.Reader
	parser *EventParser
	ready  []Event
	buf    []byte
	err    error
}

// NewEventReader returns a reader with the bound of NewEventParser.
func NewEventReader(r io.Reader, max int) *EventReader {
	return &EventReader{in: r, parser: NewEventParser(max), buf: make([]byte, 8<<10)}
}

// Bare makes the reader hand on events without data too, when they set an id or
// the delay of reconnection: a relay passes them on, a client has no use for them.
func (r *EventReader) Bare() *EventReader {
	r.parser.bare = true
	return r
}

// Next returns the next event that has data. The error is io.EOF at the end,
// that of EventParser.Feed, or the reader's own.
func (r *EventReader) Next() (Event, error) {
	for len(r.ready) == 0 {
		if r.err != nil {
			return Event{}, r.err
		}
		n, err := r.in.Read(r.buf)
		r.err = err
		if ferr := r.parser.Feed(r.buf[:n], func(ev Event) bool { r.ready = append(r.ready, ev); return true }); ferr != nil {
			r.err = ferr
		}
	}
	ev := r.ready[0]
	r.ready = r.ready[1:]
	return ev, nil
}

// AppendEvent writes an event: type and id when set, each line of data in a
// data field of its own, and the empty line. CR in data is written as a line
// end, since a stream cannot carry it. Line ends in type and id are dropped.
func AppendEvent(dst []byte, ev Event) []byte {
	if ev.Type != "" {
		dst = appendField(dst, "event: ", ev.Type)
	}
	if ev.HasID {
		dst = appendField(dst, "id: ", ev.ID)
	}
	if ev.Retry > 0 {
		dst = appendField(dst, "retry: ", strconv.FormatInt(ev.Retry.Milliseconds(), 10))
	}
	if ev.Data == nil { // sets an id or a delay, and says nothing
		return append(dst, '\n')
	}
	return appendData(dst, ev.Data)
}

// AppendMessageEvent writes an event whose data is a message. It is AppendEvent
// with AppendMessage, without a copy between them.
func AppendMessageEvent(dst []byte, ev Event, m Message) []byte {
	ev.Data = nil
	dst = AppendEvent(dst, ev)
	dst = append(dst[:len(dst)-1], "data: "...) // in place of the empty line
	from := len(dst)
	dst = slices.Grow(dst, len(m.Params)+len(m.Result)+len(m.Error)+128)
	dst = AppendMessage(dst, m)
	if data := dst[from:]; bytes.IndexByte(data, '\n') >= 0 || bytes.IndexByte(data, '\r') >= 0 { // white space between its tokens
		return appendData(dst[:from-len("data: ")], slices.Clone(data))
	}
	return append(dst, "\n\n"...)
}

// appendData writes data in as many fields as it has lines, and the empty line.
func appendData(dst, data []byte) []byte {
	if bytes.IndexByte(data, '\r') >= 0 {
		data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
		data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))
	}
	dst = slices.Grow(dst, len(data)+len("data: \n\n"))
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		dst = append(append(append(dst, "data: "...), line...), '\n')
	}
	return append(dst, '\n')
}

// AppendComment writes a comment, which keeps the connection alive (TR-19).
func AppendComment(dst []byte, text string) []byte {
	return append(appendField(dst, ": ", text), '\n')
}

func appendField(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	for i := 0; i < len(value); i++ {
		if c := value[i]; c != '\r' && c != '\n' && c != 0 {
			dst = append(dst, c)
		}
	}
	return append(dst, '\n')
}
