package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kidoban/kidoban"
)

// Kind is what a JSON-RPC message is.
type Kind uint8

// The kinds of messages.
const (
	Request      Kind = iota + 1 // has method and id
	Notification                 // has method, no id
	Result                       // has result and id
	ErrorReply                   // has error; the id may be null or absent when the request could not be read
)

// Message is one JSON-RPC message. The slices point into the bytes it was read
// from.
type Message struct {
	Kind   Kind
	ID     ID     // none for notifications
	Method string // requests and notifications
	Params Raw    // an object, or nil when absent
	Result Raw    // any JSON value
	Error  Raw    // an object
	Extra  bool   // the envelope held members JSON-RPC does not know; a new envelope drops them
	Raw    Raw    // the whole message
}

// ID is the raw text of a request id: a JSON string or integer, null, or
// nothing. Keeping the text keeps big integers and escapes as the client wrote
// them.
type ID struct{ Raw Raw }

// Present tells whether there is an id other than null.
func (id ID) Present() bool { return len(id.Raw) > 0 && id.Raw[0] != 'n' }

// Equal tells whether two ids are the same text. A peer must return the id
// unchanged; one that returns 1 as "1" or 1.0 does not.
func (id ID) Equal(other ID) bool { return bytes.Equal(id.Raw, other.Raw) }

// Limits bounds a message. Zero values mean the defaults.
type Limits struct {
	MaxBytes int // default 4 MiB
	MaxDepth int // nested objects and arrays; default 128
}

const (
	defaultMaxBytes = 4 << 20
	defaultMaxDepth = 128
	maxIDBytes      = 512
	maxMethodBytes  = 256
)

// Reader reads messages strictly. It is safe for use by many goroutines; the
// pool inside saves the decoder's allocations.
type Reader struct {
	limits Limits
	pool   sync.Pool
}

// NewReader returns a Reader with the given bounds.
func NewReader(limits Limits) *Reader {
	if limits.MaxBytes <= 0 {
		limits.MaxBytes = defaultMaxBytes
	}
	if limits.MaxDepth <= 0 {
		limits.MaxDepth = defaultMaxDepth
	}
	r := &Reader{limits: limits}
	r.pool.New = func() any { return &decoder{json: jsontext.NewDecoder(bytes.NewReader(nil))} }
	return r
}

// decoder parses straight from the message: jsontext reads a bytes.Buffer in
// place.
type decoder struct {
	buf  bytes.Buffer
	json *jsontext.Decoder
}

// Read reads exactly one JSON-RPC message. It refuses duplicate members at
// every depth, envelope members in another case, invalid UTF-8 and lone
// surrogates, batches, data after the message, anything over the limits, and
// any jsonrpc version but "2.0". The error is a *Refusal.
func (r *Reader) Read(msg []byte) (Message, error) {
	if len(msg) > r.limits.MaxBytes {
		return Message{}, refuse(WhyTooLarge, CodeInvalidRequest, kidoban.KindLimit, "The message is longer than %d bytes.", r.limits.MaxBytes)
	}
	msg = trimSpace(msg)
	if len(msg) > 0 && msg[0] == '[' {
		return Message{}, malformed(WhyBatch, "Batches are not accepted; send one message per request.")
	}
	if depthOf(msg, r.limits.MaxDepth) > r.limits.MaxDepth {
		return Message{}, refuse(WhyTooDeep, CodeInvalidRequest, kidoban.KindLimit, "The message is nested deeper than %d levels.", r.limits.MaxDepth)
	}
	d := r.pool.Get().(*decoder)
	d.buf = *bytes.NewBuffer(msg)
	d.json.Reset(&d.buf)
	m, err := d.message(msg)
	d.buf = bytes.Buffer{} // the pool must not keep a client's message alive
	d.json.Reset(&d.buf)
	r.pool.Put(d)
	if err != nil {
		return Message{}, err
	}
	return m, m.check()
}

// message walks the envelope; ReadValue validates what it skips.
func (d *decoder) message(msg []byte) (Message, error) {
	if d.json.PeekKind() != '{' {
		if _, err := d.json.ReadValue(); err != nil {
			return Message{}, syntaxError(err)
		}
		return Message{}, malformed(WhyNotObject, "The message is not a JSON object.")
	}
	if _, err := d.json.ReadToken(); err != nil {
		return Message{}, syntaxError(err)
	}
	m := Message{Raw: msg}
	version := Raw(nil)
	for d.json.PeekKind() != '}' {
		name, err := d.value(msg)
		if err != nil {
			return m, err
		}
		value, err := d.value(msg)
		if err != nil {
			return m, err
		}
		if err := m.set(name, value, &version); err != nil {
			return m, err
		}
	}
	if _, err := d.json.ReadToken(); err != nil {
		return m, syntaxError(err)
	}
	if d.json.InputOffset() != int64(len(msg)) {
		return m, refuse(WhyTrailing, CodeParse, kidoban.KindInput, "There is data after the message.")
	}
	if string(version) != `"2.0"` {
		return m, malformed(WhyVersion, `The member jsonrpc is not "2.0".`)
	}
	return m, nil
}

// value reads the next value and returns it as a slice of msg.
func (d *decoder) value(msg []byte) (Raw, error) {
	v, err := d.json.ReadValue()
	if err != nil {
		return nil, syntaxError(err)
	}
	end := int(d.json.InputOffset())
	return Raw(msg[end-len(v) : end : end]), nil
}

// set puts one envelope member in its place.
func (m *Message) set(name, value Raw, version *Raw) error {
	switch string(name) {
	case `"jsonrpc"`:
		*version = value
	case `"id"`:
		m.ID.Raw = value
	case `"method"`:
		text, ok := stringText(value)
		if !ok || len(text) == 0 || len(text) > maxMethodBytes {
			return malformed(WhyMethod, "The member method is not a string of 1 to %d bytes.", maxMethodBytes)
		}
		m.Method = methodName(text)
	case `"params"`:
		m.Params = value
	case `"result"`:
		m.Result = value
	case `"error"`:
		m.Error = value
	default:
		return m.other(name)
	}
	return nil
}

// other judges a member that JSON-RPC does not know. A known one in another
// case or with escapes would be read by some peers and not by others.
func (m *Message) other(name Raw) error {
	text, _ := stringText(name)
	for _, known := range [...]string{"jsonrpc", "id", "method", "params", "result", "error"} {
		if strings.EqualFold(string(text), known) {
			return malformed(WhyCase, "The member %s is written in another case or with escapes.", known)
		}
	}
	m.Extra = true
	return nil
}

// check applies JSON-RPC 2.0 §4 and §5 and MCP's narrowing of them.
func (m *Message) check() error {
	if err := m.ID.check(); err != nil {
		return err
	}
	switch {
	case m.Method != "":
		if m.Result != nil || m.Error != nil {
			return malformed(WhyShape, "The message is a request and a reply at once.")
		}
		if m.Params != nil && m.Params[0] != '{' {
			return malformed(WhyParams, "The member params is not an object.")
		}
		m.Kind = Request
		if m.ID.Raw == nil {
			m.Kind = Notification
		} else if !m.ID.Present() {
			return malformed(WhyID, "The id of a request must not be null.")
		}
	case m.Params != nil || (m.Result == nil) == (m.Error == nil):
		return malformed(WhyShape, "The message has neither a method nor exactly one of result and error.")
	case m.Result != nil:
		m.Kind = Result
		if !m.ID.Present() {
			return malformed(WhyID, "The result has no id.")
		}
	default:
		m.Kind = ErrorReply
		if _, err := ParseError(m.Error); err != nil {
			return err
		}
	}
	return nil
}

// check accepts a string, an integer without fraction or exponent, null, or
// nothing.
func (id ID) check() error {
	if len(id.Raw) == 0 || string(id.Raw) == "null" || id.Raw[0] == '"' && len(id.Raw) <= maxIDBytes {
		return nil
	}
	digits := bytes.TrimPrefix(id.Raw, []byte("-"))
	if len(digits) == 0 || len(id.Raw) > maxIDBytes || len(bytes.Trim(digits, "0123456789")) > 0 {
		return malformed(WhyID, "The id is not a string or an integer of at most %d bytes.", maxIDBytes)
	}
	return nil
}

// syntaxError classes what the JSON reader refused. The reader's own text goes
// to the operator as cause: it may quote the message.
func syntaxError(err error) error {
	code, sentence := WhyNotJSON, "The message is not valid JSON"
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		code, sentence = WhyDuplicate, "An object in the message has the same member twice"
	case strings.Contains(err.Error(), "UTF-8") || strings.Contains(err.Error(), "surrogate"):
		code, sentence = WhyUTF8, "The message is not valid UTF-8"
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return &Refusal{code, CodeParse, &kidoban.Error{Kind: kidoban.KindInput, Sentence: sentence + ".", Cause: err}}
}

// depthOf returns how deep msg nests, stopping once past max. It runs before
// the parser, so that a message cannot spend the parser's stack.
func depthOf(msg []byte, max int) int {
	depth, deepest := 0, 0
	for i := 0; i < len(msg); i++ {
		switch msg[i] {
		case '"':
			i = skipString(msg, i) - 1
		case '{', '[':
			if depth++; depth > deepest {
				if deepest = depth; deepest > max {
					return deepest
				}
			}
		case '}', ']':
			depth--
		}
	}
	return deepest
}

func trimSpace(b []byte) []byte { return bytes.Trim(b, " \t\r\n") }

// RPCError is a JSON-RPC error object.
type RPCError struct {
	Code    int64
	Message string // from the peer; hostile text
	Data    Raw    // nil when absent
}

// ParseError reads an error object: code an integer, message a string.
func ParseError(raw Raw) (RPCError, error) {
	var e RPCError
	code, hasCode := Lookup(raw, "code")
	n, isInt := Int(code)
	text, hasText := Lookup(raw, "message")
	s, isString := String(text)
	if !hasCode || !isInt || !hasText || !isString {
		return e, malformed(WhyErrorObject, "The member error is not an object with an integer code and a string message.")
	}
	e = RPCError{Code: n, Message: s}
	e.Data, _ = Lookup(raw, "data")
	return e, nil
}
