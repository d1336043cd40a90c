package outbound

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"html"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kidoban/kidoban"
)

// Redact returns a copy of x without secrets, fit for a file or a report.
//
// A secret becomes its first 6 characters, "…sha256:" and 8 hex digits of its
// hash: enough to see that two are the same one, not enough to use it. Values
// under 16 characters lose the first 6 too; passwords become "…redacted", for a
// hash would let anyone check a guess.
//
// What is a secret is told by its place: credential headers, cookies, and the
// parameters and members named in secretName, in queries, fragments, forms, JSON,
// event streams, multipart and HTML, also where one of these is nested in
// another; besides, by its shape: JWTs and bearer tokens. Every secret so found
// is then removed wherever else the exchange repeats it. Syntax survives: JSON
// stays JSON, a form stays a form. Redacting twice equals redacting once.
func Redact(x kidoban.Exchange) kidoban.Exchange {
	var s secrets
	return redact(x, &s)
}

func redact(x kidoban.Exchange, known *secrets) kidoban.Exchange {
	r := &redactor{known: known}
	r.conceal(&x)
	x.Request.URL = r.url(x.Request.URL, 0)
	x.Request.Target = r.url(x.Request.Target, 0)
	x.Request.Body = []byte(r.body(string(x.Request.Body), x.Request.Header.Get("Content-Type")))
	x.Request.Header = r.fields(x.Request.Header)
	x.Err, x.Sentence, x.Cause = r.text(x.Err, 0), r.text(x.Sentence, 0), r.text(x.Cause, 0)
	if x.Response != nil {
		resp := *x.Response
		resp.Body = []byte(r.body(string(resp.Body), resp.Header.Get("Content-Type")))
		resp.Header = r.fields(resp.Header)
		x.Response = &resp
	}
	r.sweep(&x)
	return x
}

const (
	maskMark   = "…sha256:"
	maskSecret = "…redacted"
	maxNest    = 5 // encodings inside encodings
)

// redactor works on one exchange.
type redactor struct {
	known *secrets
}

// mask replaces a secret. Empty values and masks stay.
func (r *redactor) mask(s string) string {
	if s == "" || masked(s) {
		return s
	}
	r.known.learn(s)
	sum := sha256.Sum256([]byte(s))
	prefix := ""
	if utf8.ValidString(s) && utf8.RuneCountInString(s) >= 16 {
		prefix = string([]rune(s)[:6])
	}
	return prefix + maskMark + hex.EncodeToString(sum[:4])
}

// maskNamed is mask for the value of a parameter or member called name.
func (r *redactor) maskNamed(name, s string) string {
	if s == "" || masked(s) || !lowEntropy(name) {
		return r.mask(s)
	}
	r.known.learn(s)
	return maskSecret
}

// masked reports whether s is a mask already.
func masked(s string) bool {
	if s == maskSecret {
		return true
	}
	prefix, sum, ok := strings.Cut(s, maskMark)
	return ok && utf8.RuneCountInString(prefix) <= 6 && len(sum) == 8 && strings.Trim(sum, "0123456789abcdef") == ""
}

// secretNames are parameter and member names, lower case without _ - and
// spaces, whose value is a credential or proves one.
var secretNames = []string{
	"accesstoken", "refreshtoken", "idtoken", "idtokenhint", "logintoken", "token", "tokens", "code", "authcode",
	"authorizationcode", "devicecode", "usercode", "clientsecret", "registrationaccesstoken", "codeverifier",
	"password", "passwd", "pwd", "passphrase", "assertion", "clientassertion", "subjecttoken", "actortoken",
	"samlresponse", "requeststate", "secret", "apikey", "privatekey", "accesskey", "secretkey",
	"authorization", "cookie", "setcookie", "session", "sessionid", "sid", "mcpsessionid", "jwt", "bearer", "otp", "totp",
	"ticket", "credential", "credentials", "xsrf",
}

// secretName reports whether the value called name is a secret. Suffixes catch
// the vendors' own names (x_access_token, clientApiKey).
func secretName(name string) bool {
	n := plainName(name)
	switch n {
	case "progresstoken", "nextpagetoken", "pagetoken": // pointers of protocols, not credentials
		return false
	}
	if slices.Contains(secretNames, n) {
		return true
	}
	for _, s := range []string{"token", "secret", "password", "apikey", "privatekey", "sessionid", "assertion"} {
		if strings.HasSuffix(n, s) {
			return true
		}
	}
	return false
}

// lowEntropy names values a person chose.
func lowEntropy(name string) bool {
	n := plainName(name)
	return strings.Contains(n, "passw") || n == "pwd" || n == "passphrase" || n == "otp" || n == "totp"
}

func plainName(name string) string {
	if i := strings.LastIndexByte(name, '['); i >= 0 && strings.HasSuffix(name, "]") { // user[password]
		if inner := name[i+1 : len(name)-1]; inner != "" {
			name = inner
		} else {
			name = name[:i]
		}
	}
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name = name[i+1:]
	}
	return strings.Map(func(c rune) rune {
		switch c {
		case '_', '-', ' ', '\t', '\r', '\n', '+':
			return -1
		}
		return c
	}, strings.ToLower(name))
}

// secrets are the values masked so far, to find their echoes.
type secrets struct {
	concealed []string // in every escape; without a trace, and never forgotten
	list      []string
	forms     map[string][len(escapes)]string // of the secrets in list
}

// maxSecrets bounds the echoes looked for: the latest ones count.
const maxSecrets = 256

// learn remembers s if an echo of it would be recognisable: long, and not a
// word that pages use anyway.
func (k *secrets) learn(s string) {
	if len(s) < 12 || len(s) > 16<<10 || len(s) < 20 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_- ") == "" || slices.Contains(k.list, s) {
		return
	}
	if len(k.list) >= maxSecrets {
		delete(k.forms, k.list[0])
		k.list = slices.Delete(k.list, 0, 1)
	}
	k.list = append(k.list, s)
}

// sweep removes the known secrets from every text of x, in the encodings in
// which a page repeats them.
func (r *redactor) sweep(x *kidoban.Exchange) {
	if len(r.known.list) == 0 {
		return
	}
	longest := slices.Clone(r.known.list)
	slices.SortStableFunc(longest, func(a, b string) int { return len(b) - len(a) })
	clean := func(s string) string {
		for _, secret := range longest {
			s = r.remove(s, secret)
		}
		return s
	}
	rewrite(x, clean)
}

// rewrite puts every text of x through clean, in place.
func rewrite(x *kidoban.Exchange, clean func(string) string) {
	x.Request.URL, x.Request.Target, x.Err = clean(x.Request.URL), clean(x.Request.Target), clean(x.Err)
	x.Sentence, x.Cause = clean(x.Sentence), clean(x.Cause)
	x.Request.Body = []byte(clean(string(x.Request.Body)))
	for i := range x.Request.Header {
		x.Request.Header[i].Value = clean(x.Request.Header[i].Value)
	}
	if x.Response == nil {
		return
	}
	x.Response.Body = []byte(clean(string(x.Response.Body)))
	for i := range x.Response.Header {
		x.Response.Header[i].Value = clean(x.Response.Header[i].Value)
	}
}

// conceal takes what must leave no trace out of x, whatever its place. x gets texts
// of its own first.
func (r *redactor) conceal(x *kidoban.Exchange) {
	if len(r.known.concealed) == 0 {
		return
	}
	x.Request.Header = slices.Clone(x.Request.Header)
	if x.Response != nil {
		resp := *x.Response
		resp.Header = slices.Clone(resp.Header)
		x.Response = &resp
	}
	rewrite(x, func(s string) string { return without(s, r.known.concealed) })
}

// Without returns s in which every value is replaced by a word that says so, also
// where it stands escaped for a URL, HTML or JSON.
func Without(s string, values ...string) string {
	var all []string
	for _, v := range values {
		all = append(all, everyEscape(v)...)
	}
	return without(s, all)
}

func without(s string, all []string) string {
	for _, v := range all {
		s = strings.ReplaceAll(s, v, maskSecret)
	}
	return s
}

// everyEscape lists the ways in which v may be repeated, the longest first.
func everyEscape(v string) []string {
	if v == "" {
		return nil
	}
	var out []string
	for _, escape := range escapes {
		if e := escape(v); !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return len(b) - len(a) })
	return out
}

// escapes are the ways in which a secret may be repeated in other text.
var escapes = [...]func(string) string{
	func(s string) string { return s }, url.QueryEscape, url.PathEscape, html.EscapeString, jsonInner,
}

// remove replaces secret in s, plain or escaped. The mask takes the escaping of
// what it replaces. No escape makes a text shorter, so that most texts need no
// search.
func (r *redactor) remove(s, secret string) string {
	if len(s) < len(secret) {
		return s
	}
	for i, e := range r.known.escaped(secret) {
		if (i == 0 || e != secret) && strings.Contains(s, e) {
			s = strings.ReplaceAll(s, e, escapes[i](r.mask(secret)))
		}
	}
	return s
}

// escaped returns secret in every escape, computed once.
func (k *secrets) escaped(secret string) [len(escapes)]string {
	if f, ok := k.forms[secret]; ok {
		return f
	}
	var f [len(escapes)]string
	for i, escape := range escapes {
		f[i] = escape(secret)
	}
	if k.forms == nil {
		k.forms = map[string][len(escapes)]string{}
	}
	k.forms[secret] = f
	return f
}

// fields redacts a header. The caller's is not touched.
func (r *redactor) fields(f kidoban.Fields) kidoban.Fields {
	if f == nil {
		return nil
	}
	out := make(kidoban.Fields, len(f))
	for i, h := range f {
		out[i] = kidoban.Field{Name: h.Name, Value: r.header(strings.ToLower(h.Name), h.Value)}
	}
	return out
}

// header redacts one value; name is lower case.
func (r *redactor) header(name, v string) string {
	switch name {
	case "authorization", "proxy-authorization":
		scheme, rest, ok := strings.Cut(v, " ")
		if rest = strings.TrimLeft(rest, " "); ok && knownScheme(scheme) {
			if user, pass, ok := basic(scheme, rest); ok {
				r.known.learn(user + ":" + pass)
				r.known.learn(pass)
			}
			return scheme + " " + r.mask(rest)
		}
		return r.mask(v)
	case "cookie":
		parts := strings.Split(v, ";")
		for i, p := range parts {
			parts[i] = r.cookie(p)
		}
		return strings.Join(parts, ";")
	case "set-cookie":
		first, attrs, ok := strings.Cut(v, ";")
		if first = r.cookie(first); ok {
			return first + ";" + r.text(attrs, 0)
		}
		return first
	case "location", "content-location", "referer", "origin":
		return r.url(v, 0)
	}
	if secretHeader(name) {
		return r.mask(v)
	}
	return r.text(v, 0)
}

func (r *redactor) cookie(pair string) string {
	name, value, ok := strings.Cut(pair, "=")
	if !ok {
		return r.mask(pair) // a nameless cookie is all value
	}
	return name + "=" + r.mask(value)
}

// knownScheme lists what may stand before a credential; anything else could be
// the credential.
func knownScheme(s string) bool {
	switch strings.ToLower(s) {
	case "bearer", "basic", "digest", "dpop", "token", "negotiate", "apikey", "hoba", "mutual", "aws4-hmac-sha256", "gnap":
		return true
	}
	return false
}

func basic(scheme, rest string) (user, pass string, ok bool) {
	if !strings.EqualFold(scheme, "basic") {
		return "", "", false
	}
	b, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(b), ":")
}
