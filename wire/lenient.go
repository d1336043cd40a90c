package wire

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Lenient is what a tolerant peer would make of a body, with what a strict one
// would object to.
type Lenient struct {
	Messages   []Message // more than one only for a batch
	Batch      bool
	Objections []string // machine codes (Why…) of the strict reader, for the body as a whole
}

const maxBatch = 64

// ReadLenient reads a body as a tolerant peer would: the last of two members
// wins, the case of envelope members does not matter, batches are taken apart
// (at most 64 messages), invalid UTF-8 is replaced, text after the first value
// is ignored. ok is false when there is no JSON object or array to begin with.
// The messages need not be well-formed JSON-RPC; Kind is 0 when they are not.
func ReadLenient(body []byte, limits Limits) (l Lenient, ok bool) {
	r := NewReader(limits)
	if len(body) > r.limits.MaxBytes || depthOf(body, r.limits.MaxDepth) > r.limits.MaxDepth {
		return l, false
	}
	if _, err := r.Read(body); err != nil {
		l.Objections = append(l.Objections, WhyOf(err))
	}
	body = bytes.TrimPrefix(trimSpace(body), []byte("\xef\xbb\xbf"))
	dec := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	v, err := dec.ReadValue()
	if err != nil || len(v) == 0 {
		return l, false
	}
	raw := Raw(bytes.Clone(v))
	switch raw[0] {
	case '{':
		l.Messages = []Message{lenientMessage(raw)}
	case '[':
		l.Batch = true
		Elements(raw, func(e Raw) bool {
			if e[0] == '{' {
				l.Messages = append(l.Messages, lenientMessage(e))
			}
			return len(l.Messages) < maxBatch
		})
	default:
		return l, false
	}
	return l, true
}

func lenientMessage(raw Raw) Message {
	m := Message{Raw: raw}
	Each(raw, func(name, value Raw) bool {
		text := lenientText(name)
		switch strings.ToLower(text) {
		case "jsonrpc":
		case "id":
			m.ID.Raw = value
		case "method":
			m.Method = lenientText(value)
		case "params":
			m.Params = value
		case "result":
			m.Result = value
		case "error":
			m.Error = value
		default:
			m.Extra = true
		}
		return true
	})
	switch {
	case m.Method != "" && m.ID.Present():
		m.Kind = Request
	case m.Method != "":
		m.Kind = Notification
	case m.Error != nil && string(m.Error) != "null":
		m.Kind = ErrorReply
	case m.Result != nil:
		m.Kind = Result
	}
	return m
}

// lenientText reads a string as encoding/json would, replacing bad bytes.
func lenientText(raw Raw) string {
	var s string
	_ = json.Unmarshal(raw, &s)
	return s
}
