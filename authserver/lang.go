package authserver

import (
	"net/http"
	"slices"
	"strings"

	"golang.org/x/text/language"
)

// languages are those the pages are written in, the first being the fallback.
var languages = []string{"en", "ja", "zh"}

// matcher chooses among languages; it takes 50 µs to build.
var matcher = language.NewMatcher([]language.Tag{language.English, language.Japanese, language.Chinese})

// languageCookie holds a person's own choice.
const languageCookie = "kidoban-lang"

// preferred returns the languages a person reads, best first: the choice in the
// URL, then the cookie's, then Accept-Language. The first is one of languages;
// the others serve to choose among a client's own localized names.
func preferred(r *http.Request) []string {
	var want []language.Tag
	if l := r.URL.Query().Get("lang"); l == "en" || l == "ja" || l == "zh" {
		want = append(want, language.Make(l))
	} else if k, err := r.Cookie(languageCookie); err == nil && (k.Value == "en" || k.Value == "ja" || k.Value == "zh") {
		want = append(want, language.Make(k.Value))
	}
	header := r.Header.Get("Accept-Language")
	if len(header) > 256 {
		header = ""
	}
	tags, _, err := language.ParseAcceptLanguage(header)
	if err == nil {
		want = append(want, tags...)
	}
	_, i, _ := matcher.Match(want...)
	out := []string{languages[i]}
	for _, t := range want {
		if len(out) < 8 {
			out = append(out, t.String())
		}
	}
	return out
}

// language remembers a choice of language and makes the address that the links
// to choose another one begin with.
func (s *Server) language(w http.ResponseWriter, r *http.Request, c *call) {
	// A callback's parameters are not to be repeated, neither to us nor on a page.
	if r.Method != http.MethodGet || len(r.URL.RawQuery) > 8<<10 || strings.HasSuffix(r.URL.Path, "/callback") {
		return
	}
	q := r.URL.Query()
	if l := q.Get("lang"); slices.Contains(languages, l) {
		http.SetCookie(w, &http.Cookie{Name: languageCookie, Value: l, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode})
	}
	q.Del("lang")
	c.self = r.URL.Path + "?"
	if len(q) > 0 {
		c.self += q.Encode() + "&"
	}
}
