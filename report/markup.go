package report

import (
	"html/template"
	"regexp"
	"sort"
	"strings"

	"github.com/kidoban/kidoban"
)

// Bounds on what the HTML shows of one text, in runes for lines and bytes for blocks.
const (
	maxLine  = 600
	maxBlock = 6 << 10
)

// canary finds the addresses a probe planted: hosts below .invalid, which no
// genuine server uses, as they are or percent-encoded.
var canary = regexp.MustCompile(`[A-Za-z0-9%:/._~@\\-]*\.invalid[A-Za-z0-9%/._~-]*`)

// telling are the words whose surroundings decide a flaw; they are marked in the
// exchange that proves it.
var telling = map[string][]string{
	"F1":  {"redirect_uris", "client_id"},
	"F2":  {"client_id"},
	"F3":  {"code_challenge_method", "code_challenge"},
	"F4":  {"state"},
	"F5":  {"code_challenge_methods_supported", "code_challenge_method", "code_challenge", "code_verifier", "plain"},
	"F6":  {"code="},
	"F7":  {"redirect_uri"},
	"F8":  {"state"},
	"F9":  {"access_token"},
	"E01": {"client_id"},
	"E02": {"Set-Cookie", "state"},
	"E03": {`"tools"`, `"resources"`, `"prompts"`},
	"E04": {`"tools"`, "Authorization"},
	"E05": {"resource", "aud"},
	"E06": {"authorization_servers"},
	"E07": {"Mcp-Session-Id", "session_id"},
	"E09": {"Origin", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Host"},
	"E10": {"resource_metadata", `"resource"`, "authorization_servers", "bearer_methods_supported"},
	"E11": {`"issuer"`, "response_types_supported", "grant_types_supported", "registration_endpoint"},
	"E12": {"iss="},
	"E13": {"javascript:", "data:", "redirect_uris"},
	"E14": {"client_name", "client_uri"},
	"E17": {"client_secret_expires_at", "Retry-After"},
	"E18": {"grant_types", `"scope"`},
	"E19": {"invalid_client", "invalid_grant"},
	"E20": {"registration_client_uri"},
	"E24": {"expires_in"},
	"E25": {"revocation_endpoint"},
	"E26": {"response_type", "unsupported_response_type"},
	"E28": {"X-Frame-Options", "frame-ancestors", "Cache-Control", "Referrer-Policy"},
	"E29": {"Strict-Transport-Security", "Set-Cookie"},
	"E30": {"scopes_supported", `"scope"`},
	"E31": {"Cache-Control", "cacheScope", "Age", "X-Cache"},
	"E33": {"Mcp-Method", "Mcp-Name", `"method"`},
}

// markup renders one line of hostile text: escaped, hidden characters written
// out, and the deciding parts marked. The only markup it produces is <mark> and
// <span class="h">.
func markup(s string, words []string) template.HTML {
	cut := ""
	if len(s) > maxLine*4 {
		s, cut = s[:maxLine*4], s[maxLine*4:]
	}
	var b strings.Builder
	at := 0
	for _, r := range ranges(s, words) {
		reveal(&b, s[at:r[0]])
		b.WriteString("<mark>")
		reveal(&b, s[r[0]:r[1]])
		b.WriteString("</mark>")
		at = r[1]
	}
	reveal(&b, s[at:])
	if cut != "" {
		b.WriteString(`<span class="h">…</span>`)
	}
	return template.HTML(b.String()) // every part was escaped by reveal
}

// reveal appends hostile text with hidden characters in spans.
func reveal(b *strings.Builder, s string) { revealUpTo(b, s, maxLine) }

func revealUpTo(b *strings.Builder, s string, max int) {
	for _, seg := range Reveal(s, max) {
		if seg.Hidden {
			b.WriteString(`<span class="h">` + template.HTMLEscapeString(seg.Text) + `</span>`)
			continue
		}
		b.WriteString(template.HTMLEscapeString(seg.Text))
	}
}

// ranges finds the parts of s to mark: planted addresses and telling words, with
// overlaps joined.
func ranges(s string, words []string) [][2]int {
	var out [][2]int
	if words == nil {
		return nil
	}
	for _, m := range canary.FindAllStringIndex(s, 50) {
		out = append(out, [2]int{m[0], m[1]})
	}
	for _, w := range words {
		for at, n := 0, 0; n < 20; n++ {
			i := strings.Index(s[at:], w)
			if i < 0 {
				break
			}
			from, to := at+i, at+i+len(w)
			if !(from > 0 && joins(s[from-1], w[0])) && !(to < len(s) && joins(w[len(w)-1], s[to])) {
				out = append(out, [2]int{from, to})
			}
			at = to
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i][0] < out[j][0] })
	joined := out[:0]
	for _, r := range out {
		if n := len(joined); n > 0 && r[0] <= joined[n-1][1] {
			joined[n-1][1] = max(joined[n-1][1], r[1])
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// joins reports whether two bytes belong to one word: client_uri is not marked in
// registration_client_uri.
func joins(a, b byte) bool {
	word := func(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
	return word(a) && word(b)
}

// block renders text of many lines, at most maxBlock bytes of it.
func block(s string, words []string) template.HTML {
	cut := 0
	if len(s) > maxBlock {
		s, cut = s[:maxBlock], len(s)-maxBlock
	}
	var b strings.Builder
	for i, line := range strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(string(markup(strings.ReplaceAll(line, "\t", "    "), words)))
	}
	if cut > 0 {
		b.WriteString("\n" + `<span class="h">` + template.HTMLEscapeString(kidoban.Count(cut, "byte", "bytes")) + ` more</span>`)
	}
	return template.HTML(b.String()) // made of escaped lines only
}

// prose renders running text with `code` set as code. The text is treated as
// hostile like any other, since a run file may bring its own.
func prose(s string) template.HTML {
	var b strings.Builder
	parts := strings.Split(strings.Join(strings.Fields(s), " "), "`")
	for i, part := range parts {
		code := i%2 == 1 && i < len(parts)-1
		switch {
		case code:
			b.WriteString("<code>")
		case i%2 == 1:
			b.WriteString("`") // an opening mark without an end
		}
		revealUpTo(&b, part, maxBlock)
		if code {
			b.WriteString("</code>")
		}
	}
	return template.HTML(b.String()) // escaped by revealUpTo
}
