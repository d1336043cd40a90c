package audit

import (
	"net/url"
	"slices"
	"sort"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/kidoban/kidoban"
)

// Kind is where following an authorization request ended (catalogue 5.3).
type Kind string

// The terminal kinds.
const (
	CallbackCode  Kind = "CALLBACK_CODE"  // a code or token at a redirect URI that we supplied
	CallbackError Kind = "CALLBACK_ERROR" // an error there
	CallbackBare  Kind = "CALLBACK"       // sent there with neither
	Upstream      Kind = "UPSTREAM"       // an authorization request to another server
	Login         Kind = "LOGIN"
	Consent       Kind = "CONSENT"
	ErrorPage     Kind = "ERROR_PAGE"
	Challenge     Kind = "CHALLENGE"
	RateLimit     Kind = "RATE_LIMIT"
	JSOnly        Kind = "JS_ONLY"
	Other         Kind = "OTHER"
	Unanswered    Kind = "UNANSWERED" // no response, a proxy's word that there is none, or the request was never sent
)

// Step is one answer on the way, with its random parts replaced.
type Step struct {
	Status int
	Host   string
	Path   string // random segments are "*"
	Keys   string // sorted query keys without those of the authorization request
}

// Trail is one authorization request followed to its end.
type Trail struct {
	Steps    []Step
	Kind     Kind
	Error    string     // OAuth error code
	At       string     // URL of the end: the callback, the upstream's request, or the page
	Params   url.Values // of a callback: query and fragment; of an upstream: its request
	Foreign  bool       // the callback is not the registered one
	Mode     string     // how a callback was delivered: query, fragment, form_post
	Page     Page
	Form     string // action of the page's first form, templated
	Consents bool   // a page on the way, or the last one, asked for consent
	Cookies  []string
	Browser  bool   // walked in a real browser, which does not tell what cookies were set
	Why      string // for OTHER and UNANSWERED
	Budget   bool   // UNANSWERED because the budget was spent

	Exchanges []*kidoban.Exchange
}

// Last returns the exchange that decided, or nil.
func (t *Trail) Last() *kidoban.Exchange {
	if t == nil || len(t.Exchanges) == 0 {
		return nil
	}
	return t.Exchanges[len(t.Exchanges)-1]
}

// crashed tells whether the server failed at the end of the trail.
func (t *Trail) crashed() bool {
	return t != nil && t.Kind == ErrorPage && t.Last() != nil && crashed(t.Last())
}

// last tells whether the deciding request was sent with a method: a form that was
// posted means that somebody logged in on the way.
func (t *Trail) last(method string) bool {
	for _, x := range t.Exchanges {
		if x.Request.Method == method {
			return true
		}
	}
	return false
}

// Signature is what two trails have in common when the server did the same.
// Titles lose the name that our client registered, because a server that
// accepts another client shows another name.
func (t *Trail) Signature() string {
	var b strings.Builder
	for _, s := range t.Steps {
		b.WriteString(strings.Join([]string{status(s.Status), s.Host, s.Path, s.Keys, "\n"}, " "))
	}
	b.WriteString(string(t.Kind) + "|" + t.Form + "|" + template(t.Page.Title) + "|" + t.Error)
	if t.Kind == Upstream {
		if u, err := url.Parse(t.At); err == nil {
			b.WriteString("|" + u.Host + templatePath(u.Path))
		}
	}
	return b.String()
}

func status(n int) string {
	return string([]byte{byte('0' + n/100%10), byte('0' + n/10%10), byte('0' + n%10)})
}

// reached tells whether the server took the request as far as a valid one goes.
func (k Kind) reached() bool {
	switch k {
	case Login, Consent, Upstream, CallbackCode, CallbackError:
		return true
	}
	return false
}

// requestKeys are the parameters of an authorization request. Servers carry
// them along through internal redirects; a mutation that leaves one out must
// not look like another way for that reason.
var requestKeys = []string{
	"response_type", "client_id", "redirect_uri", "redirect_uri[]", "scope", "state", "code_challenge", "code_challenge_method",
	"resource", "response_mode", "nonce", "prompt",
}

func stepOf(x *kidoban.Exchange, raw string) Step {
	s := Step{Status: x.Status()}
	u, err := url.Parse(raw)
	if err != nil {
		return s
	}
	s.Host, s.Path = u.Host, templatePath(u.Path)
	var keys []string
	for k := range u.Query() {
		if !slices.Contains(requestKeys, k) {
			keys = append(keys, template(k))
		}
	}
	sort.Strings(keys)
	s.Keys = strings.Join(keys, "&")
	return s
}

// templatePath replaces the random segments of a path by "*".
func templatePath(p string) string {
	segs := strings.Split(p, "/")
	for i, s := range segs {
		segs[i] = template(s)
	}
	return strings.Join(segs, "/")
}

// template replaces every word that looks random by "*": a UUID, a long number,
// a long word with digits, or with upper and lower case mixed inside.
func template(s string) string {
	var b strings.Builder
	start := -1
	flush := func(end int) {
		if start >= 0 {
			if w := s[start:end]; looksRandom(w) {
				b.WriteByte('*')
			} else {
				b.WriteString(w)
			}
			start = -1
		}
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; isWord(c) {
			if start < 0 {
				start = i
			}
			continue
		}
		flush(i)
		b.WriteByte(s[i])
	}
	flush(len(s))
	return b.String()
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_' || c == '~' || c == '='
}

func looksRandom(w string) bool {
	var digits, upper, lower, turns int
	for i := 0; i < len(w); i++ {
		switch c := w[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'A' && c <= 'Z':
			upper++
			if i > 0 && w[i-1] >= 'a' && w[i-1] <= 'z' {
				turns++
			}
		case c >= 'a' && c <= 'z':
			lower++
		}
	}
	switch n := len(w); {
	case digits == n:
		return n >= 5
	case n >= 8 && digits >= 3:
		return true
	case n >= 16 && (digits > 0 || turns >= 3):
		return true
	case n >= 20 && !strings.ContainsAny(w, "-_"):
		return upper > 0 && lower > 0 && turns >= 2
	}
	return false
}

// site returns what belongs to one operator: the registrable domain of a name,
// or host and port where there is none (addresses, localhost).
func site(host string) string {
	h := host
	if i := strings.LastIndexByte(h, ':'); i >= 0 && !strings.HasSuffix(h, "]") {
		h = h[:i]
	}
	if h == "localhost" || strings.HasSuffix(h, ".localhost") || strings.HasPrefix(h, "[") || strings.Trim(h, "0123456789.") == "" {
		return strings.ToLower(host)
	}
	if d, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(strings.TrimSuffix(h, "."))); err == nil {
		return d
	}
	return strings.ToLower(host)
}
