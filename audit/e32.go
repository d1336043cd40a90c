package audit

import (
	"bytes"
	"context"
	"net/url"
	"regexp"
	"strings"

	"github.com/kidoban/kidoban"
)

// What errors give away. Patterns run over at most 16 KiB of each error answer;
// a plain word is looked for before an expression is run. What a request of ours
// brought along is an echo and no disclosure.

// trace is the mark of a server's insides in an error.
type trace struct{ word, what string }

func traces() []trace {
	return []trace{
		{"traceback (most recent call last)", "a Python stack trace"},
		{"goroutine ", "a Go stack trace"},
		{"node_modules/", "a Node.js stack trace"},
		{"java.lang.", "a Java stack trace"},
		{"org.springframework.", "a Java stack trace"},
		{"\tat com.", "a Java stack trace"},
		{"system.nullreferenceexception", "a .NET stack trace"},
		{"microsoft.aspnetcore.", "a .NET stack trace"},
		{"werkzeug debugger", "a debugger page"},
		{"django.core.", "a Django debug page"},
		{"django_settings_module", "a Django debug page"},
		{"whoops, looks like something went wrong", "a framework's debug page"},
		{"actioncontroller::", "a Rails debug page"},
		{"/site-packages/", "a path on the server"},
		{"/usr/src/app/", "a path on the server"},
		{"sqlstate[", "a database error"},
		{"psycopg2.", "a database error"},
		{"sequelizedatabaseerror", "a database error"},
		{"pg::", "a database error"},
		{"ora-0", "a database error"},
		{".svc.cluster.local", "the name of an inside host"},
		{".compute.internal", "the name of an inside host"},
	}
}

var (
	goTrace    = regexp.MustCompile(`goroutine \d+ \[`)
	insideAddr = regexp.MustCompile(`\b(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}(?::\d{2,5})?\b`)
	jsTrace    = regexp.MustCompile(`\bat [^\n(]{1,120}\((?:file://|/|[A-Z]:\\)[^\n)]{1,200}:\d+:\d+\)`)
)

// internals names what an error answer reveals of the server's insides, or "".
func internals(x *kidoban.Exchange) string {
	low := bytes.ToLower(x.Response.Body)
	for _, t := range traces() {
		if !bytes.Contains(low, []byte(t.word)) {
			continue
		}
		if t.word == "goroutine " && !goTrace.Match(x.Response.Body) {
			continue
		}
		return t.what
	}
	if bytes.Contains(low, []byte("at ")) && jsTrace.Match(x.Response.Body) {
		return "a JavaScript stack trace"
	}
	if m := insideAddr.Find(x.Response.Body); m != nil && !echoed(x, m) && !strings.Contains(x.Response.Addr, string(m)) {
		return "an inside address"
	}
	return ""
}

// secretForms are what secrets look like; the group, or the whole match, is the
// secret itself. A secret without a name must stand by itself: the middle of some
// random text may look like anything.
var secretForms = []struct {
	word, what string
	re         *regexp.Regexp
}{
	{"client_secret", "a client secret", regexp.MustCompile(`(?i)client_secret["']?\s*[=:]\s*["']?([^\s"'&,;<>\\]{8,200})`)},
	{"private key-----", "a private key", regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`)},
	{"akia", "an AWS key", regexp.MustCompile(`(?:^|[\s"'=:(,>])(AKIA[0-9A-Z]{16}\b)`)},
	{"aiza", "a Google key", regexp.MustCompile(`(?:^|[\s"'=:(,>])(AIza[0-9A-Za-z_-]{35}\b)`)},
	{"ya29.", "a Google token", regexp.MustCompile(`(?:^|[\s"'=:(,>])(ya29\.[0-9A-Za-z_-]{20,})`)},
	{"gh", "a GitHub token", regexp.MustCompile(`(?:^|[\s"'=:(,>])(gh[opsu]_[0-9A-Za-z]{30,})`)},
	{"github_pat_", "a GitHub token", regexp.MustCompile(`(?:^|[\s"'=:(,>])(github_pat_[0-9A-Za-z_]{30,})`)},
	{"xox", "a Slack token", regexp.MustCompile(`(?:^|[\s"'=:(,>])(xox[abpr]-[0-9A-Za-z-]{10,})`)},
	{"sk-", "an API key", regexp.MustCompile(`(?:^|[\s"'=:(,>])(sk-[0-9A-Za-z_-]{20,})`)},
	{"password", "a password", regexp.MustCompile(`(?i)(?:db_|database_|redis_|postgres_)password["']?\s*[=:]\s*["']?([^\s"'&,;<>]{4,200})`)},
	{"://", "a database address with its password", regexp.MustCompile(`(?:postgres(?:ql)?|mysql|mongodb(?:\+srv)?|redis|amqp)://[^\s:/@]{1,80}:([^\s@/]{3,200})@`)},
	{"eyj", "a token", regexp.MustCompile(`(?:^|[\s"':(,>])(eyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,})`)},
	{"upstream_token", "an upstream token", regexp.MustCompile(`(?i)upstream_(?:access_)?token["']?\s*[=:]\s*["']?([^\s"'&,;<>]{8,200})`)},
}

// secretsShown names the secret that an answer shows, or "".
func secretsShown(x *kidoban.Exchange) string {
	text := append(append([]byte{}, x.Response.Body...), "\n"+x.Header("Location")...)
	low := bytes.ToLower(text)
	for _, f := range secretForms {
		if !bytes.Contains(low, []byte(f.word)) {
			continue
		}
		in := x.Response.Body
		if f.word == "client_secret" || f.word == "upstream_token" {
			in = text
		} else if st := x.Status(); st >= 300 && st < 400 {
			continue // in an address only what is named: codes and states look like anything
		}
		m := f.re.FindSubmatch(in)
		if m == nil {
			continue
		}
		if secret := m[len(m)-1]; !echoed(x, secret) {
			return f.what
		}
	}
	return ""
}

// echoed tells whether a string was in the request already.
func echoed(x *kidoban.Exchange, what []byte) bool {
	w := string(what)
	if strings.Contains(x.Request.URL, w) || bytes.Contains(x.Request.Body, what) {
		return true
	}
	if u, err := url.QueryUnescape(x.Request.URL); err == nil && strings.Contains(u, w) {
		return true
	}
	for _, h := range x.Request.Header {
		if strings.Contains(h.Value, w) {
			return true
		}
	}
	return false
}

// isError tells answers that report an error, whatever their status.
func isError(x *kidoban.Exchange) bool {
	return x.Status() >= 400 || oauthError(x) != "" || ReplyOf(x).IsError
}

func judgeInternals(f *Facts, seen []*kidoban.Exchange) kidoban.Result {
	const key = "E32-a"
	n := 0
	for _, x := range seen {
		if !isError(x) || !ofTarget(f, x) || challenged(x) {
			continue
		}
		n++
		if what := internals(x); what != "" {
			return positive(key, kidoban.Confirmed, "an error shows "+what, x)
		}
	}
	if n == 0 {
		return unclear(key, kidoban.ReasonUnstable, "no error was seen")
	}
	return passed(key, kidoban.Count(n, "error answer", "error answers")+" searched, none shows the server's insides")
}

func judgeSecrets(f *Facts, seen []*kidoban.Exchange) kidoban.Result {
	const key = "E32-b"
	n := 0
	for _, x := range seen {
		redirect := x.Status() >= 300 && x.Status() < 400
		if !isError(x) && !redirect || !ofTarget(f, x) {
			continue
		}
		n++
		if what := secretsShown(x); what != "" {
			return positive(key, kidoban.Confirmed, "an error shows "+what, x)
		}
	}
	if n == 0 {
		return unclear(key, kidoban.ReasonUnstable, "no error was seen")
	}
	return passed(key, kidoban.Count(n, "answer", "answers")+" searched, none shows a secret")
}

// probeIntrospection asks about a made-up token without saying who asks (RFC
// 7662 §2.1: the endpoint must be protected).
func probeIntrospection() probe {
	return define(spec{name: "introspection", keys: []string{"E32-c"}, tier: kidoban.T1},
		func(ctx context.Context, s *session) *kidoban.Exchange {
			as := s.facts.AS
			if as == nil || as.Meta.IntrospectionEndpoint == "" || s.facts.unsafeURL(as.Meta.IntrospectionEndpoint, false) != "" || !s.facts.owns(hostOf(as.Meta.IntrospectionEndpoint)) {
				return nil
			}
			return s.form(ctx, "E32-c", "introspection of a made-up token, without credentials", as.Meta.IntrospectionEndpoint, params{{"token", "kidoban-invalid-" + s.word(24)}})
		},
		func(f *Facts, x *kidoban.Exchange) []kidoban.Result {
			const key = "E32-c"
			one := func(r kidoban.Result) []kidoban.Result { return []kidoban.Result{r} }
			if r, bad := f.unreadServer(key); bad {
				return one(r)
			}
			switch {
			case f.AS == nil || f.AS.Meta.IntrospectionEndpoint == "":
				return one(absent(key, "no introspection endpoint is published"))
			case x == nil:
				return one(absent(key, "the introspection endpoint is on somebody else's domain or no safe address, so it was not asked", f.AS.X))
			}
			if r, bad := undecided(key, "introspection", x); bad {
				return one(r)
			}
			if x.Status() == 200 && jsonObject(x.Response.Body)["active"] != nil {
				return one(positive(key, kidoban.Confirmed, "introspection answers a caller who does not say who he is", x))
			}
			return one(passed(key, "introspection asks for authentication (status "+itoa(x.Status())+")", x))
		})
}
