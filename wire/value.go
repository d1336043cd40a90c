package wire

import (
	"bytes"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// The functions of this file look into values that a Reader has accepted. They
// scan, they do not validate: on other bytes they end in order and without
// panic, with an answer that means nothing.

// Each calls f for each member of an object, in order, until f returns false.
// name is the member's raw JSON string. It reports whether raw is an object
// and was walked to the end or to f's stop.
func Each(raw Raw, f func(name, value Raw) bool) bool {
	return spans(raw, func(n, v span) bool { return f(raw[n.from:n.to:n.to], raw[v.from:v.to:v.to]) })
}

// span is a part of a value by its positions.
type span struct{ from, to int }

// spans is Each with positions instead of slices.
func spans(raw Raw, f func(name, value span) bool) bool {
	i := skipSpace(raw, 0)
	if i >= len(raw) || raw[i] != '{' {
		return false
	}
	for i = skipSpace(raw, i+1); i < len(raw) && raw[i] != '}'; {
		if raw[i] != '"' {
			return false
		}
		name := span{i, skipValue(raw, i)}
		i = skipSpace(raw, name.to)
		if i >= len(raw) || raw[i] != ':' {
			return false
		}
		i = skipSpace(raw, i+1)
		value := span{i, skipValue(raw, i)}
		if value.from == value.to {
			return false
		}
		if !f(name, value) {
			return true
		}
		if i = skipSpace(raw, value.to); i < len(raw) && raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	return i < len(raw)
}

// Elements calls f for each element of an array until f returns false. It
// reports whether raw is an array and was walked to the end or to f's stop.
func Elements(raw Raw, f func(value Raw) bool) bool {
	i := skipSpace(raw, 0)
	if i >= len(raw) || raw[i] != '[' {
		return false
	}
	for i = skipSpace(raw, i+1); i < len(raw) && raw[i] != ']'; {
		start := i
		if i = skipValue(raw, i); i == start {
			return false
		}
		if !f(raw[start:i:i]) {
			return true
		}
		if i = skipSpace(raw, i); i < len(raw) && raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	return i < len(raw)
}

// Lookup follows names from object to object and returns the value at the end.
func Lookup(raw Raw, names ...string) (Raw, bool) {
	for _, want := range names {
		var found Raw
		Each(raw, func(name, value Raw) bool {
			if nameIs(name, want) {
				found = value
				return false
			}
			return true
		})
		if found == nil {
			return nil, false
		}
		raw = found
	}
	return raw, true
}

// String returns the text of a JSON string.
func String(raw Raw) (string, bool) {
	text, ok := stringText(raw)
	return string(text), ok
}

// LookupString is Lookup and String in one; "" when absent or not a string.
func LookupString(raw Raw, names ...string) string {
	v, ok := Lookup(raw, names...)
	if !ok {
		return ""
	}
	s, _ := String(v)
	return s
}

// Int returns a JSON number that is an integer within 64 bits. 42.0 and 4.2e1
// count as 42 when float64 holds them exactly.
func Int(raw Raw) (int64, bool) {
	if len(raw) == 0 || len(raw) > 32 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, false
	}
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// Quote returns s as a JSON string. Invalid UTF-8 is replaced.
func Quote(s string) Raw { return AppendQuote(nil, s) }

// AppendQuote appends s as a JSON string.
func AppendQuote(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s) // the error only reports replaced bytes
	return dst
}

// SetMember returns obj with the named member's value replaced, all other
// bytes kept; the member is added at the end when obj has none. obj must be an
// object that a Reader accepted.
func SetMember(obj Raw, name string, value Raw) Raw {
	out := make(Raw, 0, len(obj)+len(name)+len(value)+4)
	done, members := false, 0
	spans(obj, func(n, v span) bool {
		members++
		if done = nameIs(obj[n.from:n.to], name); done {
			out = append(append(append(out, obj[:v.from]...), value...), obj[v.to:]...)
		}
		return !done
	})
	if done {
		return out
	}
	body := bytes.TrimRight(obj, " \t\r\n")
	if len(body) == 0 {
		body = Raw("{}")
	}
	out = append(out, body[:len(body)-1]...)
	if members > 0 {
		out = append(out, ',')
	}
	out = append(AppendQuote(out, name), ':')
	return append(append(out, value...), '}')
}

// DropMember returns obj without the named member, all other members' bytes
// kept.
func DropMember(obj Raw, name string) Raw {
	out := Raw{'{'}
	Each(obj, func(n, v Raw) bool {
		if nameIs(n, name) {
			return true
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, n...), ':'), v...)
		return true
	})
	return append(out, '}')
}

// skipSpace returns the first position from i on that is not white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the position after the value that begins at i.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return i
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		for depth := 0; i < len(b); {
			switch b[i] {
			case '"':
				i = skipString(b, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			if i++; depth == 0 {
				return i
			}
		}
		return i
	}
	for i < len(b) && bytes.IndexByte([]byte(",:]} \t\r\n"), b[i]) < 0 {
		i++
	}
	return i
}

// skipString returns the position after the string that begins at i. It goes from
// quote to quote, which the processor finds many bytes at a time.
func skipString(b []byte, i int) int {
	for from := i + 1; from < len(b); {
		n := bytes.IndexByte(b[from:], '"')
		if n < 0 {
			break
		}
		quote := from + n
		slashes := 0 // an odd number before it makes the quote a part of the string
		for quote-slashes > from && b[quote-slashes-1] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return quote + 1
		}
		from = quote + 1
	}
	return len(b)
}

// stringText returns what a JSON string says. Without escapes that is a slice
// of raw.
func stringText(raw Raw) ([]byte, bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return nil, false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], true
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	return text, err == nil
}

// nameIs tells whether a raw member name says want.
func nameIs(raw Raw, want string) bool {
	text, ok := stringText(raw)
	return ok && string(text) == want
}
