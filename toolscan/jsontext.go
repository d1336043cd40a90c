package toolscan

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// str reads a JSON string at the cursor and appends its value to dst. Lone
// surrogates and bad UTF-8 become U+FFFD, as encoding/json does.
func (w *walker) str(dst []byte) []byte {
	w.i++
	for w.i < len(w.in) {
		c := w.in[w.i]
		switch {
		case c == '"':
			w.i++
			return dst
		case c != '\\':
			j := w.i
			for j < len(w.in) && w.in[j] != '"' && w.in[j] != '\\' {
				j++
			}
			if part := w.in[w.i:j]; utf8.Valid(part) {
				dst = append(dst, part...)
			} else {
				dst = append(dst, strings.ToValidUTF8(string(part), "\uFFFD")...)
			}
			w.i = j
		default:
			dst = w.escape(dst)
		}
	}
	w.bad = true
	return dst
}

func (w *walker) escape(dst []byte) []byte {
	if w.i+1 >= len(w.in) {
		w.i = len(w.in)
		return dst
	}
	c := w.in[w.i+1]
	w.i += 2
	switch c {
	case 'n':
		return append(dst, '\n')
	case 't':
		return append(dst, '\t')
	case 'r':
		return append(dst, '\r')
	case 'b':
		return append(dst, '\b')
	case 'f':
		return append(dst, '\f')
	case 'u':
		r := w.hex4()
		if utf16.IsSurrogate(r) {
			if w.i+1 < len(w.in) && w.in[w.i] == '\\' && w.in[w.i+1] == 'u' {
				w.i += 2
				r = utf16.DecodeRune(r, w.hex4())
			} else {
				r = utf8.RuneError
			}
		}
		return utf8.AppendRune(dst, r)
	}
	return append(dst, c)
}

func (w *walker) hex4() rune {
	if w.i+4 > len(w.in) {
		w.i = len(w.in)
		return utf8.RuneError
	}
	n, err := strconv.ParseUint(string(w.in[w.i:w.i+4]), 16, 32)
	w.i += 4
	if err != nil {
		return utf8.RuneError
	}
	return rune(n)
}

// pointer builds the JSON pointer (RFC 6901) of a node.
func (s *scratch) pointer(node int32) string {
	var parts []string
	for node >= 0 && len(parts) <= maxDepth+1 {
		n := s.nodes[node]
		if n.end < 0 {
			parts = append(parts, strconv.Itoa(int(n.start)))
		} else {
			parts = append(parts, pointerEscape.Replace(string(s.keys[n.start:n.end])))
		}
		node = n.parent
	}
	var b strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(parts[i])
	}
	return b.String()
}

var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")
