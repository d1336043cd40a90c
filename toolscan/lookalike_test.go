package toolscan

import (
	"slices"
	"testing"
)

func TestLookAlikes(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                nil,
		"plain words, größe, ılık, naïve": nil, // letters of Latin alphabets
		"Привет, как дела? пример.com":      nil, // a language of its own, also in an address
		"AIエージェント 中文 α = 2":                 nil,
		"support@раypal.com":                {"р⟨U+0440⟩а⟨U+0430⟩ypal"},
		"раypal and раypal and gооgle":      {"р⟨U+0440⟩а⟨U+0430⟩ypal", "gо⟨U+043E⟩о⟨U+043E⟩gle"},
		"https://аррӏе.com/":                {"а⟨U+0430⟩р⟨U+0440⟩р⟨U+0440⟩ӏ⟨U+04CF⟩е⟨U+0435⟩"},
		"ann@сор":                           {"с⟨U+0441⟩о⟨U+043E⟩р⟨U+0440⟩"},
		"оne twо thrее fоur fivе sіx sеven": {"о⟨U+043E⟩ne", "twо⟨U+043E⟩", "thrе⟨U+0435⟩е⟨U+0435⟩"},
		"сор а он":                          nil, // Russian words of such letters, in a sentence
	} {
		if got := LookAlikes(text, 3); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
