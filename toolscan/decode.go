package toolscan

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"html"
	"net/url"
	"strings"
)

// payload is a text that was wrapped in an encoding.
type payload struct {
	text       string
	how        string
	start, end int // span of the wrapping in the segment
}

// payloads unwraps encodings that a text of ordinary words has no need for:
// base64, hexadecimal, percent, HTML entities, \u escapes. Only what decodes to
// readable text counts. Work and output are bounded by budget, in bytes.
func payloads(t []byte, budget int) []payload {
	var out []payload
	add := func(s, how string, start, end int) {
		if s != "" && len(s) <= budget && readable(s) {
			budget -= len(s)
			out = append(out, payload{s, how, start, end})
		}
	}
	for i := 0; i < len(t) && budget > 0 && len(out) < 16; {
		if !base64Char(t[i]) {
			i++
			continue
		}
		j := i
		hexOnly := true
		for j < len(t) && base64Char(t[j]) {
			hexOnly = hexOnly && hexChar(t[j])
			j++
		}
		if n := j - i; n >= 20 && n <= budget*2 {
			tok := string(t[i:j])
			if hexOnly && n >= 24 {
				if b, err := hex.DecodeString(tok[:n&^1]); err == nil {
					add(printable(b), "hexadecimal", i, j)
				}
			} else {
				s := decode64(tok)
				for range 3 { // wrapped again and again
					inner := decode64(s)
					if len(s) < 20 || strings.ContainsAny(s, " \n") || inner == "" {
						break
					}
					s = inner
				}
				add(s, "base64", i, j)
			}
		}
		i = j
	}
	t = t[:min(len(t), budget)]
	many := func(sign string) int { return bytes.Count(t, []byte(sign)) }
	if many("&#") >= 6 {
		add(html.UnescapeString(string(t)), "html-entities", 0, len(t))
	}
	if many("%") >= 8 {
		s := string(t)
		if u, err := url.PathUnescape(s); err == nil && u != s {
			add(u, "percent", 0, len(t))
		}
	}
	if many(`\x`)+many(`\u00`) >= 6 {
		add(unescapeBackslash(string(t)), "backslash", 0, len(t))
	}
	return out
}

func base64Char(c byte) bool {
	return isLetter(c) || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '=' || c == '-' || c == '_'
}

func hexChar(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// decode64 tries the standard and the URL alphabet, padded or not.
func decode64(tok string) string {
	tok = strings.TrimRight(tok, "=")
	tok = strings.NewReplacer("-", "+", "_", "/").Replace(tok)
	if len(tok)%4 == 1 {
		tok = tok[:len(tok)-1]
	}
	b, err := base64.RawStdEncoding.DecodeString(tok)
	if err != nil {
		return ""
	}
	return printable(b)
}

// readable says whether s is words: letters and spaces, not an identifier that
// happens to decode.
func readable(s string) bool {
	if len(s) < 10 {
		return false
	}
	letters, spaces := 0, 0
	for i := 0; i < len(s); i++ {
		switch {
		case isLetter(s[i]) || s[i] >= 0x80:
			letters++
		case s[i] == ' ' || s[i] == '\n':
			spaces++
		}
	}
	return letters*10 >= len(s)*6 && spaces >= 1
}

func unescapeBackslash(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' && hexChar(s[i+2]) && hexChar(s[i+3]) {
			v, _ := hex.DecodeString(s[i+2 : i+4])
			b.WriteByte(v[0])
			i += 3
			continue
		}
		if s[i] == '\\' && i+5 < len(s) && s[i+1] == 'u' && s[i+2] == '0' && s[i+3] == '0' && hexChar(s[i+4]) && hexChar(s[i+5]) {
			v, _ := hex.DecodeString(s[i+4 : i+6])
			b.WriteByte(v[0])
			i += 5
			continue
		}
		b.WriteByte(s[i])
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// leet is text with digits for letters, by letter.
var leet = [256]byte{'0': 'o', '1': 'i', '3': 'e', '4': 'a', '5': 's', '7': 't'}

// disguised says whether a sentence writes words with digits inside ("pr3v10us")
// or takes them apart with hyphens ("pre-vious"): four such words in one sentence
// are no part numbers.
func disguised(l []byte) bool {
	mixed, hyphens := 0, 0
	for i := 1; i+1 < len(l); i++ {
		if !isLetter(l[i-1]) || !isLetter(l[i+1]) {
			continue
		}
		if leet[l[i]] != 0 {
			mixed++
		} else if l[i] == '-' {
			hyphens++
		}
	}
	return mixed >= 4 || hyphens >= 4
}

// undisguised writes the words again: digits as the letters they stand for where
// a word also has letters, hyphens inside words left out.
func undisguised(l []byte) string {
	out := make([]byte, 0, len(l))
	for i := 0; i < len(l); {
		if !wordByte(l[i]) {
			out = append(out, l[i])
			i++
			continue
		}
		j, letters := i, false
		for j < len(l) && wordByte(l[j]) {
			letters = letters || isLetter(l[j])
			j++
		}
		for ; i < j; i++ {
			switch c := l[i]; {
			case c == '-' && letters && i+1 < j:
			case letters && leet[c] != 0:
				out = append(out, leet[c])
			default:
				out = append(out, c)
			}
		}
	}
	return string(out)
}

func wordByte(c byte) bool { return isLetter(c) || c >= '0' && c <= '9' || c == '-' }

// rot13 turns letters by thirteen.
func rot13(b []byte) string {
	out := make([]byte, len(b))
	for i, c := range b {
		switch {
		case c >= 'a' && c <= 'z':
			c = 'a' + (c-'a'+13)%26
		case c >= 'A' && c <= 'Z':
			c = 'A' + (c-'A'+13)%26
		}
		out[i] = c
	}
	return string(out)
}

// backwards turns text round.
func backwards(b []byte) string {
	r := []rune(string(b))
	for i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {
		r[i], r[j] = r[j], r[i]
	}
	return string(r)
}
