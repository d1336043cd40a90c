package wire

import (
	"bytes"
	"io"
	"math"
	"slices"
	"strconv"
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
	data   text // data lines of the event so far, joined by LF
	some   bool // there was one
	line   text // the unfinished line
	seen   int  // bytes of the event so far
	bare   bool // hand on events without data that set an id or a delay
	bom    int  // bytes of a byte order mark still possible at the start
	lastCR bool // the last byte was a CR: a LF that follows belongs to it
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
			p.drop()
			return kidoban.Errorf(kidoban.KindLimit, "An event of the stream is longer than %d bytes.", p.max)
		}
		p.line.add(part)
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

// Recycle gives the memory of an event back, for lines of any stream. Nobody may
// hold any of it, nor call Recycle for it again.
func Recycle(ev Event) { lineRooms.Give(ev.Data) }

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
			p.line.add([]byte(byteOrderMark[:at])) // it was text after all
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
	if p.line.n > 0 {
		p.seen++
		switch line := p.line.whole(); {
		case p.field(line):
			p.line = text{}
		case cap(line) > roomLeast: // too much to keep until the next line
			p.line.drop()
		default:
			p.line = text{last: line[:0]}
		}
		return Event{}, false
	}
	if p.ev.HasID {
		p.lastID = p.ev.ID
	}
	ev, some := p.ev, p.some
	ev.ID = p.lastID
	if some {
		ev.Data = p.data.whole()
	}
	p.ev, p.data, p.some, p.seen = Event{Retry: -1}, text{}, false, 0
	return ev, some || p.bare && (ev.HasID || ev.Retry >= 0)
}

// drop forgets what has come of an event.
func (p *EventParser) drop() {
	p.line.drop()
	p.data.drop()
}

// field takes one line into the event and tells whether the line's memory is now
// that of its data, as that of a long one is.
func (p *EventParser) field(line []byte) (kept bool) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "event":
		p.ev.Type = string(value)
	case "data":
		switch {
		case p.some:
			p.data.add([]byte{'\n'})
			p.data.add(value)
		case len(value) >= ownText: // not copied but to the room's beginning, so that all of it is recycled
			p.some, p.data = true, text{last: line[:copy(line, value)], n: len(value)}
			return true
		default:
			p.some = true
			p.data = text{last: append([]byte{}, value...), n: len(value)}
		}
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			p.ev.ID, p.ev.HasID = string(value), true
		}
	case "retry":
		if n, err := strconv.ParseUint(string(value), 10, 31); err == nil {
			p.ev.Retry = time.Duration(n) * time.Millisecond
		}
	}
	return false
}

// EventReader reads events from an io.Reader. Not for concurrent use.
type EventReader struct {
	in     io.Reader
	parser *EventParser
	ready  []Event
	err    error
}

// eventPiece is how much of a stream is read at once, in bytes.
const eventPiece = 10 << 10

// NewEventReader returns a reader with the bound of NewEventParser.
func NewEventReader(r io.Reader, max int) *EventReader {
	return &EventReader{in: r, parser: NewEventParser(max)}
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
		// What is read goes on at once: whoever reads no more for a while holds no buffer.
		buf := lineRooms.Take(eventPiece)
		n, err := r.in.Read(buf[:eventPiece])
		r.err = err
		if ferr := r.parser.Feed(buf[:n], func(ev Event) bool { r.ready = append(r.ready, ev); return true }); ferr != nil {
			r.err = ferr
		}
		lineRooms.Give(buf)
		if r.err != nil {
			r.parser.drop()
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

// SplitMessageEvent writes an event whose data is a message, as AppendEvent and
// AppendMessage do, but for the message's value: head, written to dst, value and tail
// follow each other, and value is the message's own memory.
func SplitMessageEvent(dst []byte, ev Event, m Message) (head []byte, value Raw, tail string) {
	ev.Data = nil
	dst = AppendEvent(dst, ev)
	dst = append(dst[:len(dst)-1], "data: "...) // in place of the empty line
	from := len(dst)
	head, value, tail = SplitMessage(dst, m)
	for _, part := range [...][]byte{head[from:], value} {
		if bytes.IndexByte(part, '\n') >= 0 || bytes.IndexByte(part, '\r') >= 0 { // white space between tokens
			data := append(append(bytes.Clone(head[from:]), value...), tail...)
			return appendData(head[:from-len("data: ")], data), nil, ""
		}
	}
	return head, value, messageTail + "\n\n"
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
