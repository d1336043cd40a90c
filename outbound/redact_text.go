package outbound

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

var (
	// pairRE finds name=value wherever one may stand: URLs in text, HTML, headers.
	pairRE = regexp.MustCompile(`([A-Za-z0-9_.\-\[\]%+]{2,80})=([^&\s"'<>;,#]+)`)
	// quotedRE finds "name": "value" and name='value' in scripts and headers.
	quotedRE = regexp.MustCompile(`(["']?)([A-Za-z0-9_.\-]{2,80})(["']?(?:\s|data:)*[:=](?:\s|data:)*)(?:"((?:[^"\\\n]|\\.)*)"|'((?:[^'\\\n]|\\.)*)')`)
	// inputRE finds form fields in HTML; their attributes come in any order.
	inputRE = regexp.MustCompile(`(?i)<(?:input|meta)\b[^>]*>`)
	nameRE  = regexp.MustCompile(`(?i)\bname\s*=\s*["']?([^"'\s>]+)`)
	valueRE = regexp.MustCompile(`(?i)(\b(?:value|content)\s*=\s*)(?:"([^"]*)"|'([^']*)')`)
	// partRE finds fields of multipart/form-data (RFC 7578).
	partRE = regexp.MustCompile(`(name="?)([^"\r\n;]{2,80})("?[^\r\n]*\r?\n(?:[^\r\n]+\r?\n)*\r?\n)([^\r\n]+)`)
	// jwtRE finds compact JWS and JWE; every one begins with {" in base64url.
	jwtRE    = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*`)
	bearerRE = regexp.MustCompile(`(?i)\b(bearer|basic|dpop)(\s+)([A-Za-z0-9._~+/=-]{12,})`)
	userRE   = regexp.MustCompile(`(//[^/\s@:"'<>]*:)([^/\s@"'<>]+)@`)
	formRE   = regexp.MustCompile(`^[A-Za-z0-9_.\-\[\]%+]+=[^\s<>"{}]*$`)
)

// body redacts a body. What it is is seen from its bytes, for a content type
// may lie; a declared form is read as one in any case.
func (r *redactor) body(s, contentType string) string {
	if s == "" {
		return s
	}
	if strings.HasPrefix(strings.ToLower(strings.TrimSpace(contentType)), "application/x-www-form-urlencoded") && !looksJSON(s) {
		return r.text(r.form(s, 0), 0)
	}
	return r.text(s, 0)
}

func looksJSON(s string) bool {
	t := strings.TrimLeft(s, " \t\r\n\ufeff")
	return t != "" && (t[0] == '{' || t[0] == '[')
}

// text redacts any text: JSON, a form, an event stream, HTML, prose.
func (r *redactor) text(s string, depth int) string {
	if depth > maxNest || len(s) < 4 || masked(s) {
		return s
	}
	if looksJSON(s) {
		return r.shapes(r.json(s, depth))
	}
	hasPair := strings.Contains(s, "=")
	if hasPair && formRE.MatchString(s) {
		return r.shapes(r.form(s, depth))
	}
	if strings.Contains(s, "data:") {
		s = r.events(s, depth)
	}
	s = r.shapes(s)
	if strings.Contains(s, "name=") {
		s = replaceGroups(partRE, s, func(g []string) string {
			if !secretName(g[2]) {
				return g[0]
			}
			return g[1] + g[2] + g[3] + r.maskNamed(g[2], g[4])
		})
		s = inputRE.ReplaceAllStringFunc(s, r.input)
	}
	if strings.ContainsAny(s, `"'`) && strings.ContainsAny(s, ":=") {
		s = replaceGroups(quotedRE, s, func(g []string) string { return r.quoted(g, depth) })
	}
	if !hasPair {
		return s
	}
	return replaceGroups(pairRE, s, func(g []string) string {
		return g[1] + "=" + r.value(g[1], g[2], depth)
	})
}

// shapes masks what is a secret by its form alone.
func (r *redactor) shapes(s string) string {
	if strings.Contains(s, "eyJ") {
		s = jwtRE.ReplaceAllStringFunc(s, r.mask)
	}
	// The expressions are slow and mostly miss: look for their anchors first.
	if l := strings.ToLower(s); strings.Contains(l, "bearer") || strings.Contains(l, "basic") || strings.Contains(l, "dpop") {
		s = replaceGroups(bearerRE, s, r.bearer)
	}
	if strings.Contains(s, "//") && strings.Contains(s, "@") {
		s = replaceGroups(userRE, s, func(g []string) string { return g[1] + r.maskNamed("password", g[2]) + "@" })
	}
	return s
}

// bearer handles one match of bearerRE. Prose goes on after the word in small
// letters; tokens have digits or capitals.
func (r *redactor) bearer(g []string) string {
	if strings.Trim(g[3], "abcdefghijklmnopqrstuvwxyz-.") == "" {
		return g[0]
	}
	switch name, _, _ := strings.Cut(g[3], "="); strings.ToLower(name) {
	case "resource_metadata", "error_description", "error_uri", "authorization_uri", "resource", "scope", "realm", "error": // a challenge, not a token
		return g[0]
	}
	return g[1] + g[2] + r.mask(g[3])
}

// events redacts the data lines of an event stream, each on its own.
func (r *redactor) events(s string, depth int) string {
	lines := strings.SplitAfter(s, "\n")
	for i, l := range lines {
		if rest, ok := strings.CutPrefix(l, "data:"); ok && looksJSON(rest) {
			lines[i] = "data:" + r.json(rest, depth)
		}
	}
	return strings.Join(lines, "")
}

// quoted handles one match of quotedRE.
func (r *redactor) quoted(g []string, depth int) string {
	q, v := `"`, g[4]
	if g[4] == "" {
		q, v = "'", g[5]
	}
	if v == "" {
		return g[0]
	}
	if !secretName(g[2]) {
		return g[1] + g[2] + g[3] + q + r.text(v, depth+1) + q
	}
	return g[1] + g[2] + g[3] + q + r.maskNamed(g[2], v) + q
}

// input masks the value of an HTML field with a secret name.
func (r *redactor) input(tag string) string {
	m := nameRE.FindStringSubmatch(tag)
	if m == nil || !secretName(m[1]) {
		return tag
	}
	return replaceGroups(valueRE, tag, func(g []string) string {
		if g[2] != "" {
			return g[1] + `"` + r.maskNamed(m[1], g[2]) + `"`
		}
		return g[1] + `'` + r.maskNamed(m[1], g[3]) + `'`
	})
}

// url redacts a URL or relative reference: query and fragment pair by pair,
// the rest as text.
func (r *redactor) url(s string, depth int) string {
	if depth > maxNest || s == "" {
		return s
	}
	base, frag, hasFrag := strings.Cut(s, "#")
	base, q, hasQuery := strings.Cut(base, "?")
	base = r.shapes(base)
	if hasQuery {
		base += "?" + r.form(q, depth)
	}
	if hasFrag {
		base += "#" + r.form(frag, depth)
	}
	return base
}

// form redacts name=value&name=value. Pairs that are not secret keep their
// bytes.
func (r *redactor) form(s string, depth int) string {
	if depth > maxNest {
		return s
	}
	parts := strings.Split(s, "&")
	for i, p := range parts {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			parts[i] = r.shapes(p)
			continue
		}
		parts[i] = name + "=" + r.value(name, value, depth)
	}
	return strings.Join(parts, "&")
}

// value redacts the escaped value of the escaped parameter name.
func (r *redactor) value(name, value string, depth int) string {
	plain := unescape(value)
	// key is too common a member name to be a secret, but not a parameter's.
	if n := plainName(unescape(name)); secretName(n) || n == "key" && len(plain) >= 16 {
		if m := r.maskNamed(unescape(name), plain); m != plain {
			return url.QueryEscape(m)
		}
		return value
	}
	if m := r.nested(plain, depth+1); m != plain {
		return url.QueryEscape(m)
	}
	return value
}

// nested redacts a value that may itself be a URL, a form, JSON, or base64 of
// these. Base64 that hides a secret is masked whole.
func (r *redactor) nested(s string, depth int) string {
	if depth > maxNest || len(s) < 4 || masked(s) {
		return s
	}
	var out string
	if strings.ContainsAny(s, "?#") && !looksJSON(s) && !strings.ContainsAny(s, " \n") {
		out = r.url(s, depth)
	} else {
		out = r.text(s, depth)
	}
	if out != s || len(s) < 16 {
		return out
	}
	if inner, ok := unbase64(s); ok && r.text(inner, depth+1) != inner {
		return r.mask(s)
	}
	return out
}

// unbase64 decodes s if it is base64, of either alphabet, of readable text.
func unbase64(s string) (string, bool) {
	if strings.ContainsAny(s, " :.?&") {
		return "", false
	}
	t := strings.ReplaceAll(strings.ReplaceAll(strings.TrimRight(s, "="), "-", "+"), "_", "/")
	b, err := base64.RawStdEncoding.DecodeString(t)
	return string(b), err == nil && utf8.Valid(b) && strings.ContainsAny(string(b), "=:")
}

// unescape undoes percent-encoding where it can.
func unescape(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// replaceGroups is ReplaceAllStringFunc with the groups of each match.
func replaceGroups(re *regexp.Regexp, s string, f func(groups []string) string) string {
	var b strings.Builder
	last := 0
	for _, m := range re.FindAllStringSubmatchIndex(s, -1) {
		g := make([]string, len(m)/2)
		for i := range g {
			if m[2*i] >= 0 {
				g[i] = s[m[2*i]:m[2*i+1]]
			}
		}
		b.WriteString(s[last:m[0]])
		b.WriteString(f(g))
		last = m[1]
	}
	if last == 0 {
		return s
	}
	b.WriteString(s[last:])
	return b.String()
}
