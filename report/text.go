package report

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/lipgloss"
)

// Segment is a piece of hostile text: as it is, or, when Hidden, the written-out
// form of something a reader would not have seen.
type Segment struct {
	Text   string
	Hidden bool
}

// maxMarks is how many combining marks may stand on one character before they
// are written out; natural text stays below it.
const maxMarks = 2

// Reveal splits hostile text into what may be shown and what must be written
// out: controls and ANSI sequences (\x1b), line ends (\n), direction marks,
// zero-width and other format characters (\u{202e}), unusual spaces, variation
// selectors, private-use characters, bytes that are no UTF-8 (\xff). At most
// max runes are read; a longer text ends in a note of how many bytes were left
// out. The result is valid UTF-8 on one line.
func Reveal(s string, max int) []Segment {
	var out []Segment
	add := func(text string, hidden bool) {
		if n := len(out); n > 0 && out[n-1].Hidden == hidden {
			out[n-1].Text += text
			return
		}
		out = append(out, Segment{text, hidden})
	}
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			add(plain.String(), false)
			plain.Reset()
		}
	}
	marks := 0
	for i, n := 0, 0; i < len(s); n++ {
		if n == max {
			flush()
			add(fmt.Sprintf("… (%d bytes more)", len(s)-i), true)
			break
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) {
			marks++
		} else {
			marks = 0
		}
		switch {
		case r == utf8.RuneError && size == 1:
			flush()
			add(fmt.Sprintf(`\x%02x`, s[i]), true)
		case hidden(r) || marks > maxMarks:
			flush()
			add(escape(r), true)
		default:
			plain.WriteRune(r)
		}
		i += size
	}
	flush()
	return out
}

// Clean is Reveal as one string, for formats without marks.
func Clean(s string, max int) string {
	var b strings.Builder
	for _, seg := range Reveal(s, max) {
		b.WriteString(seg.Text)
	}
	return b.String()
}

// hidden reports whether r is not visible as itself, or changes what is around it.
func hidden(r rune) bool {
	switch {
	case r == ' ':
		return false
	case r < 0x20 || r >= 0x7f && r < 0xa0:
		return true
	case unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Zs, unicode.Co, unicode.Cs):
		return true
	case r >= 0xfe00 && r <= 0xfe0f, r >= 0xe0100 && r <= 0xe01ef: // variation selectors
		return true
	case r == 0x034f, r == 0x115f, r == 0x1160, r == 0x17b4, r == 0x17b5, r == 0x2800, r == 0x3164, r == 0xffa0: // blank letters
		return true
	case r > unicode.MaxASCII && !unicode.IsPrint(r):
		return true
	}
	return false
}

func escape(r rune) string {
	switch r {
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	if r < 0x80 {
		return fmt.Sprintf(`\x%02x`, r)
	}
	return fmt.Sprintf(`\u{%04x}`, r)
}

// fit cuts clean text to at most width terminal cells, ending in … when cut.
func fit(s string, width int) string {
	if width <= 0 {
		return ""
	}
	if lipgloss.Width(s) <= width {
		return s
	}
	used := 0
	var b strings.Builder
	for _, r := range s {
		w := lipgloss.Width(string(r))
		if used+w > width-1 {
			break
		}
		b.WriteRune(r)
		used += w
	}
	return b.String() + "…"
}

// wrap breaks clean text at its spaces into at most n lines of at most width cells;
// the last is cut where there is more.
func wrap(s string, width, n int) []string {
	var lines []string
	line := ""
	words := strings.Fields(s)
	for i, w := range words {
		switch {
		case len(lines) == n-1:
			return append(lines, fit(strings.TrimPrefix(line+" "+strings.Join(words[i:], " "), " "), width))
		case line == "":
			line = w
		case lipgloss.Width(line)+1+lipgloss.Width(w) <= width:
			line += " " + w
		default:
			lines, line = append(lines, fit(line, width)), w
		}
	}
	return append(lines, fit(line, width))
}

// pad fills clean text with spaces to width cells.
func pad(s string, width int) string {
	if n := width - lipgloss.Width(s); n > 0 {
		return s + strings.Repeat(" ", n)
	}
	return s
}
