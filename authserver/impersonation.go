package authserver

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// wellKnownClients are names that phishers borrow, with the hosts that are
// really theirs.
var wellKnownClients = []WellKnown{
	{"Claude", []string{".claude.ai", ".claude.com", ".anthropic.com"}},
	{"Anthropic", []string{".claude.ai", ".claude.com", ".anthropic.com"}},
	{"ChatGPT", []string{".chatgpt.com", ".openai.com"}},
	{"OpenAI", []string{".chatgpt.com", ".openai.com"}},
	{"Codex", []string{".chatgpt.com", ".openai.com"}},
	{"Cursor", []string{".cursor.com", ".cursor.sh"}},
	{"Visual Studio Code", []string{".vscode.dev", ".visualstudio.com", ".microsoft.com"}},
	{"VS Code", []string{".vscode.dev", ".visualstudio.com", ".microsoft.com"}},
	{"GitHub Copilot", []string{".github.com", ".vscode.dev", ".microsoft.com"}},
	{"Microsoft Copilot", []string{".microsoft.com", ".powerplatform.com"}},
	{"Windsurf", []string{".windsurf.com", ".codeium.com"}},
	{"Gemini", []string{".google.com"}},
	{"Le Chat", []string{".mistral.ai"}},
	{"Perplexity", []string{".perplexity.ai"}},
	{"Goose", []string{".block.xyz"}},
	{"Zed", []string{".zed.dev"}},
	{"MCP Inspector", []string{".modelcontextprotocol.io"}},
	{"mcp-remote", nil},
}

// checkImpersonation refuses or flags a client whose name reads like a
// well-known one's although its callback, or its document, is at somebody
// else's. A loopback callback is nobody's: there only a name in disguise, spelled
// with look-alike letters, is refused (G-RG7, E14).
func (s *Server) checkImpersonation(p *policy, m *oauth.ClientMetadata, kind, docHost string) error {
	who, disguised := p.borrowedName(m)
	if who == nil {
		return nil
	}
	foreign := false
	for _, raw := range m.RedirectURIs {
		host, loopback := redirectHost(raw)
		if !loopback && !strings.HasPrefix(host, "scheme:") && !hostMatches(host, who.Hosts) {
			foreign = true
		}
	}
	if kind == ClientCIMD && !hostMatches(docHost, who.Hosts) {
		foreign = true
	}
	if !foreign && !disguised {
		return nil
	}
	if p.Registration.Impersonation == "refuse" || disguised {
		return badMetadata("The client_name reads like that of a well-known client, and its redirect URI is not that client's: choose another name.", errBorrowed)
	}
	return nil
}

// errBorrowed marks a refusal for a name that is somebody else's.
var errBorrowed = kidoban.Errorf(kidoban.KindRefused, "the name reads like that of a well-known client")

// borrowedName finds the well-known client that one of m's names reads like.
// disguised tells that it does so only through look-alike characters.
func (p *policy) borrowedName(m *oauth.ClientMetadata) (who *WellKnown, disguised bool) {
	names := []string{m.ClientName}
	for _, n := range m.Localized["client_name"] {
		names = append(names, n)
	}
	shapes := make([]nameShape, len(names))
	for i, n := range names {
		shapes[i] = shapeOf(n)
	}
	for _, list := range [][]WellKnown{p.Registration.WellKnown, wellKnownClients} {
		for i, w := range list {
			known := skeleton(w.Name)
			for k, n := range names {
				if !shapes[k].looksLike(known) {
					continue
				}
				plain := containsWords(strings.ToLower(n), strings.ToLower(w.Name))
				return &list[i], !plain
			}
		}
	}
	return nil, false
}

// looksBorrowed is what the consent page warns of under the policy "flag".
func (p *policy) looksBorrowed(cl *client) bool {
	if cl.Kind == ClientPre {
		return false
	}
	who, disguised := p.borrowedName(&cl.meta)
	if who == nil {
		return false
	}
	for _, raw := range cl.meta.RedirectURIs {
		host, loopback := redirectHost(raw)
		if disguised || !loopback && !strings.HasPrefix(host, "scheme:") && !hostMatches(host, who.Hosts) {
			return true
		}
	}
	return cl.Kind == ClientCIMD && !hostMatches(documentHost(cl.ID), who.Hosts)
}

// nameShape is what the eye sees of a name.
type nameShape struct {
	spelled string // the words with letters in them; "" when there is none
	whole   string
	letters bool // spelled out: "C u r 5 0 r"
}

func shapeOf(name string) nameShape {
	words := strings.Fields(name)
	spelled := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return strings.IndexFunc(w, unicode.IsLetter) < 0 })
	if len(spelled) == 0 {
		return nameShape{}
	}
	return nameShape{skeleton(strings.Join(spelled, " ")), skeleton(name), oneLetterWords(words)}
}

// looksLike tells whether a name reads like a well-known one, given as skeleton.
// Digits stand for letters only in company of letters: "build 90053" is a number
// and no "goose".
func (n nameShape) looksLike(known string) bool {
	return n.spelled != "" && (containsWords(n.spelled, known) || n.letters && containsWords(n.whole, known))
}

// oneLetterWords tells whether a name is spelled out: "C u r 5 0 r".
func oneLetterWords(words []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return utf8.RuneCountInString(w) > 1 })
}

// containsWords tells whether needle stands in text as whole words, so that
// "Cursor" is found in "Cursor IDE" and not in "Precursor".
func containsWords(text, needle string) bool {
	letter := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	squash := func(s string) string {
		return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return !letter(r) }), " ")
	}
	t, n := squash(text), squash(needle)
	if strings.Contains(" "+t+" ", " "+n+" ") {
		return true
	}
	// "Chat GPT", "C l a u d e": the same letters with other gaps.
	return strings.ReplaceAll(t, " ", "") == strings.ReplaceAll(n, " ", "")
}

// skeleton maps a name to what the eye sees (after UTS #39): compatibility forms,
// accents and case go, look-alike letters of other scripts and digits become the
// Latin letter they resemble, "rn" becomes "m".
func skeleton(s string) string {
	var b strings.Builder
	for _, r := range norm.NFKD.String(s) {
		if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Cf, r) {
			continue
		}
		if to, ok := lookAlike[r]; ok {
			b.WriteString(to)
			continue
		}
		r = unicode.ToLower(r)
		if to, ok := lookAlike[r]; ok {
			b.WriteString(to)
			continue
		}
		b.WriteRune(r)
	}
	return strings.NewReplacer("rn", "m", "vv", "w").Replace(b.String())
}

// lookAlike holds the confusables of the letters that names are made of, lower
// case; capitals that resemble another letter than their small form stand here
// too.
var lookAlike = func() map[rune]string {
	table := map[string]string{
		"a": "аαɑ@ᴀꭺ", "b": "ЬƅвВ", "c": "сϲᴄⅽС", "d": "ԁɗⅾ", "e": "еҽєε3ℯЕ", "f": "ƒϝ", "g": "ɡցɢ9", "h": "һհНн",
		"i": "іıιⅰІl1|Iɪ", "j": "јϳ", "k": "кκᴋКΚ", "m": "мᴍⅿМΜ", "n": "ոпηɴ", "o": "оοσօ0ⲟ੦०OОΟ", "p": "рρϱᴘРΡ",
		"q": "ԛգ", "r": "гᴦɾ", "s": "ѕꜱ5$Ѕ", "t": "тτᴛТΤ", "u": "υսᴜцμ", "v": "ѵνᴠⅴ", "w": "ѡԝᴡω", "x": "хχⅹХΧ", "y": "уγʏУ", "z": "ᴢʐ2Ζ",
	}
	out := map[rune]string{}
	for latin, others := range table {
		for _, r := range others {
			out[r] = latin
		}
	}
	return out
}()
