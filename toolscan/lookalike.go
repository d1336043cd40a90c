package toolscan

import (
	"fmt"
	"strings"
	"unicode"
)

// LookAlikes finds words of a text that can pass for Latin ones: those that mix Latin
// letters with look-alikes of other scripts, and names inside an address that are made
// of look-alikes alone. Each is spelled out, with ⟨U+0440⟩ after a letter that is not
// what it looks like; none comes twice, and at most limit come. Words of a language
// that has letters of its own beside the look-alikes are left alone.
func LookAlikes(text string, limit int) []string {
	var out []string
	seen := map[string]bool{}
	inWord := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) }
	runes := []rune(text)
	for i := 0; i < len(runes) && len(out) < limit; {
		if !inWord(runes[i]) {
			i++
			continue
		}
		begin := i
		for i < len(runes) && inWord(runes[i]) {
			i++
		}
		word := runes[begin:i]
		if !passesForLatin(word, inAddress(runes, begin, i)) || seen[string(word)] {
			continue
		}
		seen[string(word)] = true
		out = append(out, spelled(word))
	}
	return out
}

// passesForLatin tells whether a word can be taken for a Latin one.
func passesForLatin(word []rune, address bool) bool {
	latin, fake := false, false
	for _, r := range word {
		switch _, like := lookalike[r]; {
		case unicode.Is(unicode.Latin, r):
			latin = true
		case like:
			fake = true
		case unicode.IsLetter(r):
			return false // a real word of another script
		}
	}
	return fake && (latin || address)
}

// inAddress tells whether the word from begin to end is a part of an address: a dot, an at
// sign or a hyphen, and an ASCII letter behind that, stand beside it.
func inAddress(text []rune, begin, end int) bool {
	beside := func(sign, letter int) bool {
		return sign >= 0 && letter >= 0 && sign < len(text) && letter < len(text) &&
			strings.ContainsRune(".@-", text[sign]) && text[letter] < 0x80 && isLetter(byte(text[letter]))
	}
	return beside(begin-1, begin-2) || beside(end, end+1)
}

func spelled(word []rune) string {
	var b strings.Builder
	for i, r := range word {
		if i == 80 {
			b.WriteString("…")
			break
		}
		b.WriteRune(r)
		if _, like := lookalike[r]; like && !unicode.Is(unicode.Latin, r) {
			fmt.Fprintf(&b, "⟨U+%04X⟩", r)
		}
	}
	return b.String()
}
