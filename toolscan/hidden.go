package toolscan

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// concealment classes runes that a person does not see and a model reads.
type concealment uint8

const (
	notHidden concealment = iota
	zeroWidth
	tagCharacter
	bidiControl
	bidiMark // left-to-right and right-to-left mark: honest in Arabic and Hebrew
	variation
	controlCharacter
	blankLetter
)

// hiddenRune returns r's class. ASCII control characters other than tab, line
// feed and carriage return count as control characters.
func hiddenRune(r rune) concealment {
	switch {
	case r < 0x20:
		if r == '\t' || r == '\n' || r == '\r' {
			return notHidden
		}
		return controlCharacter
	case r < 0x7f:
		return notHidden
	case r < 0xA0:
		return controlCharacter
	case r == 0x200B || r == 0x200C || r == 0x200D || r == 0x2060 || r == 0xFEFF || r == 0x00AD ||
		r == 0x180E || r >= 0x2061 && r <= 0x2064 || r == 0x034F || r >= 0x206A && r <= 0x206F || r >= 0xFFF9 && r <= 0xFFFB ||
		r >= 0x1D173 && r <= 0x1D17A:
		return zeroWidth
	case r >= 0xE0000 && r <= 0xE007F:
		return tagCharacter
	case r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069:
		return bidiControl
	case r == 0x200E || r == 0x200F || r == 0x061C:
		return bidiMark
	case r >= 0xFE00 && r <= 0xFE0F || r >= 0xE0100 && r <= 0xE01EF:
		return variation
	}
	return notHidden
}

// concealed is one place where text is hidden.
type concealed struct {
	rule       string
	tier       Tier
	weight     float64
	start, end int
	decoded    string // what it says, when it says something
	how        string
}

// concealedIn looks for hidden characters in one text. It is linear and, for
// plain ASCII without control characters, a single pass over bytes.
func concealedIn(t []byte) []concealed {
	if plain(t) {
		return nil
	}
	h := hideAndSeek{text: t, firstCtl: -1, firstZW: -1, firstBidi: -1}
	h.run()
	return h.out
}

// plain tells that a text can hide nothing: visible ASCII and line breaks alone.
func plain[T []byte | string](t T) bool {
	for i := range len(t) {
		if c := t[i]; c >= utf8.RuneSelf || c < 0x20 && c != '\n' && c != '\t' && c != '\r' || c == 0x7f {
			return false
		}
	}
	return true
}

type hideAndSeek struct {
	text []byte
	out  []concealed

	tags                         []byte
	tagStart, tagEnd             int
	vs                           []byte
	vsStart, vsEnd, vsRun        int
	bits                         []byte
	firstZW, lastZW, zw          int
	firstBidi, lastBidi, bidi    int
	override                     bool
	firstCtl, lastCtl, ctl, ansi int
	rtl                          bool
}

func (h *hideAndSeek) run() {
	var prev rune
	for i := 0; i < len(h.text); {
		r, size := utf8.DecodeRune(h.text[i:])
		switch hiddenRune(r) {
		case tagCharacter:
			i = h.tag(prev, i)
			prev = r
			continue
		case zeroWidth:
			h.zeroWidth(prev, r, i, size)
		case bidiControl:
			if h.firstBidi < 0 {
				h.firstBidi = i
			}
			h.bidi++
			h.lastBidi = i + size
			h.override = h.override || r == 0x202D || r == 0x202E
		case variation:
			h.variation(prev, r, i, size)
		case controlCharacter:
			if h.firstCtl < 0 {
				h.firstCtl = i
			}
			h.ctl++
			h.lastCtl = i + size
			if r == 0x1b {
				h.ansi++
			}
		default:
			if unicode.Is(unicode.Arabic, r) || unicode.Is(unicode.Hebrew, r) {
				h.rtl = true
			}
		}
		if hiddenRune(r) != variation {
			h.vsRun = 0
		}
		prev = r
		i += size
	}
	h.finish()
}

// tag reads a run of tag characters. Only the three subdivision flags that
// Unicode recommends (England, Scotland, Wales) are honest.
func (h *hideAndSeek) tag(prev rune, i int) int {
	start := i
	var run []byte
	for i < len(h.text) {
		r, size := utf8.DecodeRune(h.text[i:])
		if hiddenRune(r) != tagCharacter {
			break
		}
		if r >= 0xE0020 && r < 0xE007F {
			run = append(run, byte(r-0xE0000))
		}
		i += size
	}
	if flag := string(run); (prev == 0x1F3F4 || prev == 0xFE0F) && (flag == "gbeng" || flag == "gbsct" || flag == "gbwls") {
		return i
	}
	if h.tagEnd == 0 {
		h.tagStart = start
	}
	h.tagEnd = i
	if len(h.tags)+len(run) < maxDecoded {
		h.tags = append(h.tags, run...)
	}
	return i
}

// zeroWidth counts what joins nothing: a joiner between emoji or inside a
// script that needs it is honest, and so is a byte order mark at the start.
func (h *hideAndSeek) zeroWidth(prev, r rune, i, size int) {
	next, _ := utf8.DecodeRune(h.text[min(i+size, len(h.text)):])
	switch {
	case i == 0 && r == 0xFEFF:
		return
	case r == 0x00AD && prev > 0x20: // soft hyphen: typesetting
		return
	case (r == 0x200D || r == 0x200C) && (joins(prev) || joins(next)):
		return
	case r == 0x200B && (isSEAsian(prev) || isSEAsian(next)):
		return
	}
	if h.firstZW < 0 {
		h.firstZW = i
	}
	h.zw++
	h.lastZW = i + size
	if len(h.bits) < maxDecoded {
		switch r {
		case 0x200B:
			h.bits = append(h.bits, 0)
		case 0x200C, 0x200D, 0x2060:
			h.bits = append(h.bits, 1)
		}
	}
}

// joins says whether a zero-width joiner is at home next to r.
func joins(r rune) bool {
	return r > 0x2100 && !unicode.IsLetter(r) && !isSEAsian(r) || // emoji and symbols
		unicode.In(r, unicode.Arabic, unicode.Devanagari, unicode.Bengali, unicode.Tamil, unicode.Telugu,
			unicode.Kannada, unicode.Malayalam, unicode.Sinhala, unicode.Gujarati, unicode.Gurmukhi, unicode.Oriya, unicode.Khmer, unicode.Myanmar)
}

func isSEAsian(r rune) bool {
	return unicode.In(r, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.Han, unicode.Hiragana, unicode.Katakana)
}

// variation collects selectors that select nothing: more than one after the
// same character, or a supplement selector outside Han. Sixteen plus 240 of
// them carry one byte each.
func (h *hideAndSeek) variation(prev, r rune, i, size int) {
	h.vsRun++
	honest := h.vsRun == 1 && (r == 0xFE0F || r == 0xFE0E || unicode.Is(unicode.Han, prev) || prev > 0x1F000 || r < 0xFE10 && prev > 0x200)
	if honest {
		return
	}
	if h.vsEnd == 0 {
		h.vsStart = i
	}
	h.vsEnd = i + size
	if len(h.vs) < maxDecoded {
		if r >= 0xE0100 {
			h.vs = append(h.vs, byte(r-0xE0100+16))
		} else {
			h.vs = append(h.vs, byte(r-0xFE00))
		}
	}
}

func (h *hideAndSeek) finish() {
	if h.tagEnd > 0 {
		h.out = append(h.out, concealed{"hidden-tags", Hard, 3, h.tagStart, h.tagEnd, string(h.tags), "unicode-tags"})
	}
	if len(h.vs) > 0 {
		c := concealed{"hidden-variation", Soft, 0.6, h.vsStart, h.vsEnd, "", "variation-selectors"}
		if len(h.vs) >= 4 {
			c.tier, c.weight, c.decoded = Hard, 2.5, printable(h.vs)
		}
		h.out = append(h.out, c)
	}
	if h.zw > 0 {
		c := concealed{"hidden-zero-width", Hard, 1.2, h.firstZW, h.lastZW, "", "zero-width"}
		if len(h.bits) >= 16 {
			c.weight, c.decoded = 2.5, decodeBits(h.bits)
		}
		h.out = append(h.out, c)
	}
	if h.bidi > 0 && (h.override || !h.rtl) {
		h.out = append(h.out, concealed{"hidden-bidi", Hard, 1.5, h.firstBidi, h.lastBidi, "", "bidi"})
	}
	if h.ansi > 0 {
		h.out = append(h.out, concealed{"hidden-ansi", Hard, 1.5, h.firstCtl, h.lastCtl, "", "ansi"})
	} else if h.ctl > 0 {
		h.out = append(h.out, concealed{"hidden-control", Soft, 0.6, h.firstCtl, h.lastCtl, "", "control"})
	}
}

// decodeBits reads bits as 8-bit characters, most significant first, both ways
// round; it returns what prints.
func decodeBits(bits []byte) string {
	read := func(invert byte) string {
		var out []byte
		for i := 0; i+8 <= len(bits); i += 8 {
			var b byte
			for _, bit := range bits[i : i+8] {
				b = b<<1 | bit ^ invert
			}
			out = append(out, b)
		}
		return printable(out)
	}
	if s := read(0); s != "" {
		return s
	}
	return read(1)
}

// printable returns b as text when it is text, and "" otherwise.
func printable(b []byte) string {
	if len(b) < 2 || !utf8.Valid(b) {
		return ""
	}
	good := 0
	for _, c := range b {
		if c >= 0x20 && c < 0x7f || c == '\n' || c == '\t' || c >= 0x80 {
			good++
		}
	}
	if good*10 < len(b)*9 {
		return ""
	}
	return string(b)
}

// Visible returns text safe to print on a terminal or in a page's text: hidden,
// control and bidirectional characters are spelled out as ⟨U+202E⟩ (tag
// characters as the letters they carry), line breaks become ⏎. At most limit
// bytes are kept, with an ellipsis.
func Visible(text string, limit int) string {
	var b strings.Builder
	for i, r := range text {
		if b.Len() >= limit {
			_ = i
			b.WriteString("…")
			break
		}
		switch {
		case r == '\n':
			b.WriteString("⏎")
		case r == '\t':
			b.WriteByte(' ')
		case r == '\r':
		case r >= 0xE0020 && r < 0xE007F:
			b.WriteString("⟨" + string(r-0xE0000) + "⟩")
		case r == utf8.RuneError:
			b.WriteRune('\uFFFD')
		case hiddenRune(r) == variation && r == 0xFE0F:
			b.WriteRune(r)
		case hiddenRune(r) != notHidden || r == 0x2028 || r == 0x2029:
			b.WriteString("⟨U+" + strings.ToUpper(strconv.FormatInt(int64(r), 16)) + "⟩")
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Bare tells that Strip would leave a text as it is. It copies nothing of plain ASCII.
func Bare(text []byte) bool { return plain(text) || Strip(string(text)) == string(text) }

// Strip removes what a person cannot see from text that goes to a model: tag
// characters, zero-width characters, bidirectional controls, variation
// selectors that carry bytes, control characters and ANSI sequences. Emoji
// joiners, flags and scripts that need joiners survive. It returns text
// unchanged when there is nothing to remove.
func Strip(text string) string {
	if plain(text) || concealedIn([]byte(text)) == nil {
		return text
	}
	var b strings.Builder
	b.Grow(len(text))
	prev, run := rune(-1), 0
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		next, _ := utf8.DecodeRuneInString(text[i+size:])
		switch hiddenRune(r) {
		case notHidden, bidiMark:
			b.WriteString(text[i : i+size])
			prev, run = r, 0
		case variation:
			if run++; run == 1 && (r == 0xFE0F || r == 0xFE0E || unicode.Is(unicode.Han, prev)) {
				b.WriteString(text[i : i+size])
			}
		case zeroWidth:
			if (r == 0x200D || r == 0x200C) && (joins(prev) || joins(next)) {
				b.WriteString(text[i : i+size])
			}
		case tagCharacter:
			if n := flagLen(prev, text[i:]); n > 0 {
				b.WriteString(text[i : i+n])
				i += n
				continue
			}
		case controlCharacter:
			if r == 0x1b {
				i += ansiLen(text[i:])
				continue
			}
		}
		i += size
	}
	return b.String()
}

// flagLen returns the length of the tag sequence at s when it completes one of
// the three recommended subdivision flags after a black flag, else 0.
func flagLen(prev rune, s string) int {
	if prev != 0x1F3F4 {
		return 0
	}
	for _, f := range [...]string{"gbeng", "gbsct", "gbwls"} {
		var want strings.Builder
		for _, c := range f {
			want.WriteRune(0xE0000 + c)
		}
		want.WriteRune(0xE007F)
		if strings.HasPrefix(s, want.String()) {
			return want.Len()
		}
	}
	return 0
}

// ansiLen returns the length of the escape sequence at s (ECMA-48: CSI, OSC and
// two-byte forms), at least 1.
func ansiLen(s string) int {
	if len(s) < 2 {
		return 1
	}
	switch s[1] {
	case '[':
		for i := 2; i < len(s) && i < 64; i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
		return 2
	case ']':
		for i := 2; i < len(s) && i < 4096; i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
		}
		return 2
	}
	return 2
}
