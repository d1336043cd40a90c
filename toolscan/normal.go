package toolscan

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// line is one sentence of normalised text: rules see nothing across lines.
type line struct {
	start, end int32
	seg        int32
}

// maxLine bounds a sentence; a longer one is cut at a space. It keeps every
// regular expression inside Go's bounded backtracker.
const maxLine = 600

// normalise writes seg's text into s.norm the way rules want to see it: lower
// case, compatibility forms and look-alike letters folded to Latin, hidden
// characters dropped, emphasis marks dropped, white space collapsed, one
// sentence a line. s.off maps every byte back.
func (s *scratch) normalise(seg int32, text []byte, base int32) {
	n := normaliser{s: s, seg: seg, start: int32(len(s.norm))}
	if spacedOut(text) {
		text, n.despaced = despace(text), true
	}
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			i += n.ascii(text, i, base)
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		n.rune(r, text, i, size, base)
		i += size
	}
	n.cut()
}

type normaliser struct {
	s        *scratch
	seg      int32
	start    int32 // of the open line
	space    bool
	despaced bool
}

func (n *normaliser) put(b byte, at int32) {
	if n.space && int32(len(n.s.norm)) > n.start {
		n.s.norm = append(n.s.norm, ' ')
		n.s.off = append(n.s.off, at)
	}
	n.space = false
	n.s.norm = append(n.s.norm, b)
	n.s.off = append(n.s.off, at)
}

// cut closes the open line.
func (n *normaliser) cut() {
	n.space = false
	end := int32(len(n.s.norm))
	if end > n.start {
		n.s.lines = append(n.s.lines, line{n.start, end, n.seg})
		n.s.norm = append(n.s.norm, '\n')
		n.s.off = append(n.s.off, n.s.off[end-1])
	}
	n.start = int32(len(n.s.norm))
}

func (n *normaliser) ascii(t []byte, i int, base int32) int {
	c := t[i]
	at := base + int32(i)
	switch {
	case c >= 'A' && c <= 'Z':
		n.put(c+'a'-'A', at)
	case c == '\n':
		if n.s.hardLines || newlineEnds(t, i) {
			n.cut()
		}
		n.space = true
	case c == ' ' || c == '\t' || c == '\r':
		if int32(len(n.s.norm))-n.start > maxLine {
			n.cut()
		}
		n.space = true
	case c == '*':
		// emphasis: **NEVER** reads as NEVER
	case c < 0x20 || c == 0x7f:
		// control characters are hidden.go's; they do not split words
	case (c == '.' || c == '!' || c == '?' || c == ';') && (i+1 == len(t) || t[i+1] == ' ' || t[i+1] == '\n' || t[i+1] == '\t' || t[i+1] == '<'):
		n.put(c, at)
		if !abbreviation(n.s.norm[n.start:]) {
			n.cut()
		}
	default:
		if int32(len(n.s.norm))-n.start > 2*maxLine {
			n.cut()
		}
		n.put(c, at)
	}
	return 1
}

// abbreviation says whether a line that ends in a full stop goes on.
func abbreviation(l []byte) bool {
	for _, a := range [...]string{"e.g.", "i.e.", "etc.", "vs.", "no.", "incl.", "approx."} {
		if len(l) >= len(a) && string(l[len(l)-len(a):]) == a {
			return true
		}
	}
	return false
}

// newlineEnds tells a paragraph's wrap from the end of a thought.
func newlineEnds(t []byte, i int) bool {
	for j := i - 1; j >= 0; j-- {
		if t[j] == ' ' || t[j] == '\r' || t[j] == '\t' {
			continue
		}
		if t[j] == ':' || t[j] == ';' || t[j] == '|' || t[j] == '>' || t[j] == '}' {
			return true
		}
		break
	}
	for j := i + 1; j < len(t); j++ {
		switch c := t[j]; {
		case c == ' ' || c == '\t' || c == '\r':
			continue
		case c == '\n' || c == '-' || c == '*' || c == '#' || c == '|' || c == '>' || c == '{' || c == '<' || c == '[' || c == '`':
			return true
		case c >= '0' && c <= '9':
			return true
		case c >= 0x80:
			return t[j] == 0xe2 // bullets and arrows
		default:
			return argumentLine(t[j:])
		}
	}
	return true
}

// argumentLine recognises "name: text" and "name (type): text".
func argumentLine(t []byte) bool {
	for i := 0; i < len(t) && i < 40; i++ {
		c := t[i]
		switch {
		case c == ':':
			return i > 0
		case c == '_' || c == '(' || c == ')' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		case c == ' ':
			if i+1 < len(t) && t[i+1] != '(' && t[i+1] != ':' {
				return false
			}
		default:
			return false
		}
	}
	return false
}

func (n *normaliser) rune(r rune, t []byte, i, size int, base int32) {
	at := base + int32(i)
	switch {
	case hiddenRune(r) != notHidden:
		return
	case unicode.IsSpace(r) || r == 0x3164 || r == 0x2800 || r == 0xFFA0 || r == 0x115F:
		n.space = true
		return
	case r == '‘' || r == '’' || r == '‛' || r == 'ʼ':
		n.put('\'', at)
		return
	case r == '“' || r == '”' || r == '«' || r == '»' || r == '„':
		n.put('"', at)
		return
	case r == '–' || r == '—' || r == '‐' || r == '‑' || r == '−':
		n.put('-', at)
		return
	case r == '。' || r == '！' || r == '？' || r == '•' || r == '…' || r == '；':
		n.put('.', at)
		n.cut()
		return
	}
	if l, ok := lookalike[r]; ok && n.latinWord(t, i, size) {
		n.put(l, at)
		return
	}
	if compatible(r) {
		var buf [32]byte
		for _, b := range string(norm.NFKD.Append(buf[:0], t[i:i+size]...)) {
			if b < utf8.RuneSelf && b >= 0x20 {
				n.put(lower(byte(b)), at)
			} else if !unicode.Is(unicode.Mn, b) && b >= utf8.RuneSelf {
				n.putRune(unicode.ToLower(b), at)
			}
		}
		return
	}
	n.putRune(unicode.ToLower(r), at)
}

func (n *normaliser) putRune(r rune, at int32) {
	var buf [4]byte
	for _, b := range buf[:utf8.EncodeRune(buf[:], r)] {
		n.put(b, at)
	}
}

func lower(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

// compatible runes are written differently and read the same: accents, full
// width, mathematical and enclosed letters. Kana and Hangul are left alone.
func compatible(r rune) bool {
	return r < 0x370 || r >= 0x1E00 && r < 0x2000 || r >= 0x2070 && r < 0x2190 || r >= 0x2460 && r < 0x2500 ||
		r >= 0xFF01 && r <= 0xFF5E || r >= 0x1D400 && r <= 0x1D7FF || r >= 0x1F100 && r <= 0x1F1AC
}

// latinWord says whether the rune at i stands next to an ASCII letter: a
// look-alike inside a Latin word, not a letter of its own script.
func (n *normaliser) latinWord(t []byte, i, size int) bool {
	letter := func(b byte) bool { return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' }
	return i > 0 && letter(t[i-1]) || i+size < len(t) && letter(t[i+size])
}

// lookalike holds the letters most used to write Latin words without Latin
// letters (Unicode TR39 confusables, the single-letter Cyrillic, Greek and
// Armenian part).
var lookalike = map[rune]byte{
	'а': 'a', 'А': 'a', 'е': 'e', 'Е': 'e', 'о': 'o', 'О': 'o', 'р': 'p', 'Р': 'p', 'с': 'c', 'С': 'c',
	'у': 'y', 'У': 'y', 'х': 'x', 'Х': 'x', 'і': 'i', 'І': 'i', 'ј': 'j', 'ѕ': 's', 'Ѕ': 's', 'һ': 'h', 'ԁ': 'd',
	'ԛ': 'q', 'ԝ': 'w', 'В': 'b', 'в': 'b', 'К': 'k', 'к': 'k', 'М': 'm', 'м': 'm', 'Н': 'h', 'н': 'h', 'Т': 't', 'т': 't',
	'ӏ': 'l', 'ғ': 'f', 'ո': 'n', 'ս': 'u', 'օ': 'o', 'ց': 'g', 'զ': 'q',
	'ο': 'o', 'Ο': 'o', 'α': 'a', 'Α': 'a', 'ε': 'e', 'Ε': 'e', 'ι': 'i', 'Ι': 'i', 'κ': 'k', 'Κ': 'k', 'ν': 'v', 'Ν': 'n',
	'ρ': 'p', 'Ρ': 'p', 'τ': 't', 'Τ': 't', 'υ': 'u', 'χ': 'x', 'Χ': 'x', 'Β': 'b', 'Η': 'h', 'Μ': 'm', 'Ζ': 'z', 'γ': 'y', 'Υ': 'y',
	'ı': 'i', 'ɡ': 'g', 'ɑ': 'a', 'ⅼ': 'l',
}

// spacedOut recognises "I G N O R E  A L L": letters set apart so that no word
// is a word. Six in a row is no abbreviation.
func spacedOut(t []byte) bool {
	run := 0
	for i := 0; i+1 < len(t); i++ {
		if isLetter(t[i]) && t[i+1] == ' ' && (i == 0 || t[i-1] == ' ') {
			if run++; run >= 6 {
				return true
			}
			i++
		} else if t[i] != ' ' {
			run = 0
		}
	}
	return false
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// despace joins set-apart letters; a wider gap stays a space. The result has
// the same length, with the removed spaces as NUL, so that offsets hold.
func despace(t []byte) []byte {
	out := append([]byte(nil), t...)
	for i := 1; i+1 < len(out); i++ {
		if t[i] == ' ' && isLetter(t[i-1]) && isLetter(t[i+1]) &&
			(i < 2 || t[i-2] == ' ') && (i+2 >= len(t) || !isLetter(t[i+2])) {
			out[i] = 0
		}
	}
	return out
}
