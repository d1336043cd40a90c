package outbound

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// level is one open object or array while json walks a text.
type level struct {
	object bool
	key    string // name of the member now read; an array inherits its own
	value  bool   // in an object: after the colon
	secret bool   // every leaf in here is a secret
}

// json redacts JSON without decoding it: strings and numbers are replaced where
// they stand and every other byte is kept. So it also works on JSON that is cut
// off, has duplicates, or is followed by something else.
func (r *redactor) json(s string, depth int) string {
	var b strings.Builder
	b.Grow(len(s))
	stack := []level{{value: true}}
	for i := 0; i < len(s); {
		top := &stack[len(stack)-1]
		switch c := s[i]; {
		case c == '"':
			end, whole := stringEnd(s, i)
			lit := s[i:end]
			i = end
			if top.object && !top.value {
				top.key = unquote(lit, whole)
				b.WriteString(lit)
				continue
			}
			b.WriteString(r.leaf(top, lit, whole, depth))
			continue
		case c == '{' || c == '[':
			// A member called password may be a JSON Schema that describes one:
			// its keywords stay readable, everything else in it is a secret.
			next := level{object: c == '{', key: top.key, value: c == '[', secret: top.secret || secretName(top.key)}
			if len(stack) < 512 {
				stack = append(stack, next)
			}
		case c == '}' || c == ']':
			if len(stack) > 1 {
				stack = stack[:len(stack)-1]
			}
		case c == ':':
			top.value = top.object
		case c == ',':
			if top.object {
				top.value, top.key = false, ""
			}
		case c == '-' || c >= '0' && c <= '9':
			end := i
			for end < len(s) && strings.IndexByte("+-.eE0123456789", s[end]) >= 0 {
				end++
			}
			b.WriteString(r.number(top, s[i:end]))
			i = end
			continue
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}

// leaf redacts one string value.
func (r *redactor) leaf(in *level, lit string, whole bool, depth int) string {
	v := unquote(lit, whole)
	out := v
	switch {
	case secretName(in.key) || in.secret && !schemaWord(in.key):
		out = r.maskNamed(in.key, v)
	default:
		out = r.nested(v, depth+1)
	}
	if out == v {
		return lit
	}
	q := quote(out)
	if !whole { // a cut string stays cut
		q = strings.TrimSuffix(q, `"`)
	}
	return q
}

// number masks a number under a secret name. Short codes are those of JSON-RPC
// and HTTP, and lengths.
func (r *redactor) number(in *level, n string) string {
	if !secretName(in.key) && !in.secret || schemaWord(in.key) || len(strings.TrimLeft(n, "-")) < 6 && !lowEntropy(in.key) {
		return n
	}
	return quote(r.maskNamed(in.key, n))
}

// schemaWord lists the JSON Schema keywords whose text never is a secret.
func schemaWord(key string) bool {
	switch key {
	case "type", "title", "description", "format", "$ref", "$schema", "$id", "pattern", "minLength", "maxLength",
		"minimum", "maximum", "required", "$comment", "contentEncoding", "contentMediaType":
		return true
	}
	return false
}

// stringEnd returns the index after the string literal that begins at i, and
// whether it was closed.
func stringEnd(s string, i int) (end int, whole bool) {
	for j := i + 1; j < len(s); j++ {
		switch s[j] {
		case '\\':
			j++
		case '"':
			return j + 1, true
		}
	}
	return len(s), false
}

// unquote decodes a literal, or what of it can be.
func unquote(lit string, whole bool) string {
	if whole && strings.IndexByte(lit, '\\') < 0 && utf8.ValidString(lit) {
		return lit[1 : len(lit)-1]
	}
	closed := lit
	if !whole {
		closed = strings.TrimRight(lit, `\`) + `"`
	}
	var v string
	if json.Unmarshal([]byte(closed), &v) == nil {
		return v
	}
	return strings.Trim(lit, `"`)
}

// quote encodes a string as JSON without HTML escapes.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil {
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// jsonInner is s as it stands between the quotes of a JSON string.
func jsonInner(s string) string {
	q := quote(s)
	return q[1 : len(q)-1]
}
