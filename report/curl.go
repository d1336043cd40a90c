package report

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kidoban/kidoban"
)

// maxCurl bounds what is put on a command line.
const maxCurl = 16 << 10

// redacted is the mark that outbound leaves where a secret was, as it is or
// percent-encoded, with the characters it keeps before it.
var redacted = regexp.MustCompile(`[^\s"'&=;,{}:<>]{0,16}(?:…|%E2%80%A6)(?:sha256(?::|%3A)[0-9a-f]{8}|redacted)`)

// secretParams are parameters whose value is a secret whatever it looks like,
// and the shell variable that stands for it.
var secretParams = map[string]string{
	"code": "CODE", "code_verifier": "CODE_VERIFIER", "client_secret": "CLIENT_SECRET",
	"access_token": "ACCESS_TOKEN", "refresh_token": "REFRESH_TOKEN", "id_token": "ID_TOKEN",
	"token": "TOKEN", "password": "PASSWORD", "assertion": "ASSERTION", "client_assertion": "CLIENT_ASSERTION",
	"api_key": "API_KEY", "apikey": "API_KEY", "key": "API_KEY", "session_id": "SESSION_ID", "sessionid": "SESSION_ID",
	"registration_access_token": "REGISTRATION_ACCESS_TOKEN", "subject_token": "SUBJECT_TOKEN",
}

// secretHeaders are headers whose value is a secret, with their variable.
var secretHeaders = map[string]string{
	"authorization": "AUTHORIZATION", "proxy-authorization": "PROXY_AUTHORIZATION", "cookie": "COOKIE",
	"mcp-session-id": "MCP_SESSION_ID", "x-api-key": "API_KEY", "api-key": "API_KEY", "dpop": "DPOP",
}

// skipHeaders are set by curl itself.
var skipHeaders = map[string]bool{"content-length": true, "accept-encoding": true, "connection": true, "transfer-encoding": true}

// Curl returns one command line that repeats the exchange's request. It is safe
// to paste into a POSIX shell whatever the target wrote: every argument is in
// single quotes, and only variables of ours stand outside of them. Secrets are
// replaced by variables such as "$CODE". Redirects are not followed. A request
// that is too long gives a comment instead.
func Curl(x kidoban.Exchange) string {
	size := len(x.Request.URL) + len(x.Request.Target) + len(x.Request.Body)
	for _, h := range x.Request.Header {
		size += len(h.Name) + len(h.Value)
	}
	if size > maxCurl {
		return "# request #" + itoa(x.ID) + " is too long for a command line; the evidence file has it"
	}
	var b strings.Builder
	b.WriteString("curl -sS -i --globoff --path-as-is")
	if m := x.Request.Method; m != "" && m != "GET" {
		b.WriteString(" -X " + ShellQuote(Clean(m, 40)))
	}
	if x.Request.Target != "" {
		b.WriteString(" --request-target " + quoteSecrets(hideParams(noNUL(x.Request.Target))))
	}
	for _, h := range x.Request.Header {
		name := strings.ToLower(h.Name)
		if skipHeaders[name] || strings.HasPrefix(name, ":") || name == "host" && sameHost(h.Value, x.Request.URL) {
			continue
		}
		b.WriteString(" -H " + headerArg(h))
	}
	if len(x.Request.Body) > 0 {
		b.WriteString(" --data-raw " + quoteSecrets(hideParams(noNUL(string(x.Request.Body)))))
	}
	b.WriteString(" " + quoteSecrets(hideParams(noNUL(x.Request.URL))))
	return b.String()
}

func sameHost(host, raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && strings.EqualFold(u.Host, host)
}

func headerArg(h kidoban.Field) string {
	if v, ok := secretHeaders[strings.ToLower(h.Name)]; ok {
		scheme, _, two := strings.Cut(h.Value, " ")
		if !two || len(scheme) > 12 {
			scheme = ""
		} else {
			scheme += " "
		}
		return ShellQuote(h.Name+": "+scheme) + `"$` + v + `"`
	}
	return quoteSecrets(noNUL(h.Name + ": " + h.Value))
}

// noNUL frees a text of the byte that marks our variables: a target that could
// write the mark could make a pasted line send it the reader's environment.
func noNUL(s string) string { return strings.ReplaceAll(s, "\x00", "%00") }

// secret stands for a value while a text is being built. Texts go through noNUL
// before, so that every mark in them is ours.
func secret(variable string) string { return "\x00" + variable + "\x00" }

// secretParam finds parameters of secretParams in queries, fragments and forms,
// without parsing: parsing and writing again would repair what a probe broke.
var secretParam = regexp.MustCompile(`(?i)(^|[?&;#\s])(` + strings.Join(slices.Sorted(maps.Keys(secretParams)), "|") + `)=([^&;#\s?]+)`)

// hideParams replaces the values of secret parameters, and leaves JSON alone.
func hideParams(s string) string {
	if strings.HasPrefix(strings.TrimSpace(s), "{") {
		return s
	}
	return secretParam.ReplaceAllStringFunc(s, func(m string) string {
		head, _, _ := strings.Cut(m, "=")
		name := strings.TrimLeft(head, "?&;# \t\r\n\f\v")
		if v, ok := secretParams[strings.ToLower(name)]; ok {
			return head + "=" + secret(v)
		}
		return m
	})
}

// quoteSecrets quotes s for a shell, leaving variables outside the quotes. Bytes
// a shell argument cannot hold are dropped.
func quoteSecrets(s string) string {
	s = redacted.ReplaceAllString(s, secret("SECRET"))
	var b strings.Builder
	for i, piece := range strings.Split(s, "\x00") {
		if i%2 == 1 && isVariable(piece) {
			b.WriteString(`"$` + piece + `"`)
			continue
		}
		if piece != "" {
			b.WriteString(ShellQuote(piece))
		}
	}
	if b.Len() == 0 {
		return "''"
	}
	return b.String()
}

func isVariable(s string) bool {
	if s == "" {
		return false
	}
	for _, r := range s {
		if (r < 'A' || r > 'Z') && r != '_' {
			return false
		}
	}
	return true
}

// ShellQuote returns s as one word of a shell: bare where that is safe, else in
// single quotes, or, when s holds something a reader would not see, in the
// $'…' form of POSIX 2024 (bash, zsh, ksh) with those bytes written out. A NUL,
// which no argument can hold, becomes %00. The result is one line.
func ShellQuote(s string) string {
	s = strings.ReplaceAll(s, "\x00", "%00")
	bare, plain := s != "", utf8.ValidString(s)
	for _, r := range s {
		if hidden(r) {
			plain = false
		}
		if r > unicode.MaxASCII || !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:,@%+", r)) {
			bare = false
		}
	}
	switch {
	case bare && plain:
		return s
	case plain:
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\'' || r == '\\' || r == '!' || hidden(r) || r == utf8.RuneError && size == 1:
			for _, c := range []byte(s[i : i+size]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String() + "'"
}
