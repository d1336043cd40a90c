package gateway

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/kidoban/kidoban/wire"
)

// saySource is the sentence for whatever stands on no allow-list.
const saySource = "This source is not one that the gateway's operator allows."

// guardURI judges what a resources/read or a subscription names: the operator's
// list of sources first, then what a URI can do to the server that resolves it.
// Templates make such URIs out of whatever the model says.
func (g *ArgumentGuard) guardURI(ctx context.Context, c *Call) *Refusal {
	rules, uri := c.Upstream.Arguments, c.Params.URI
	if len(rules.OnlyResources) > 0 && !allowedURI(rules.OnlyResources, uri) {
		return noArguments("source:resource", saySource)
	}
	w := argWalk{ctx: ctx, guard: g, call: c, rules: rules}
	switch scheme, rest, _ := strings.Cut(uri, ":"); strings.ToLower(scheme) {
	case "file":
		w.judge(ArgPath, uri)
	case "http", "https":
		w.judge(ArgURL, uri)
	default: // a name of the server's own: it must not climb out of wherever it stands for
		w.climb(strings.TrimLeft(rest, "/"))
	}
	return w.refusal
}

// climb refuses paths that go up beyond where they began, as path arguments of
// servers whose places are not known.
func (w *argWalk) climb(p string) {
	if why := badPath(p, nil, ""); why != "" && why != "home" {
		w.object(ArgPath, why)
	}
}

// allowedURI matches a URI against the operator's patterns. What a server might
// read as another URI than the one that is matched is on no list.
func allowedURI(patterns []string, uri string) bool {
	low := strings.ToLower(uri)
	if strings.ContainsAny(uri, "\\\x00\n\r\t") || strings.Contains(low, "%2e") || strings.Contains(low, "%2f") || strings.Contains(low, "%5c") || strings.Contains(low, "%25") {
		return false
	}
	for _, segment := range strings.FieldsFunc(uri, func(r rune) bool { return r == '/' || r == ':' || r == '?' }) {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return matchAny(patterns, uri)
}

// allowedHost tells whether an argument that is an address names a host of the
// list; an argument that names none is no matter of the list.
func allowedHost(hosts []string, v string, kind ArgKind) bool {
	v = strings.TrimFunc(v, func(r rune) bool { return r <= ' ' || r == 0x7f }) // as browsers do
	web := asWeb(v)
	switch {
	case web != v && kind != ArgURL && strings.ContainsAny(web, " \t\r\n"): // prose that begins with "HTTP:"
		return true
	case strings.HasPrefix(web, "https://"):
		v = web
	case kind != ArgURL:
		return true
	case strings.Contains(v, "://"):
	case hostLike.MatchString(v) && strings.ContainsAny(v, ".:"):
		v = "https://" + v
	default:
		return true
	}
	u, err := url.Parse(v)
	if err != nil || u.User != nil || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == '\\' }) {
		return false
	}
	host, port := strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")), u.Port()
	return slices.ContainsFunc(hosts, func(h string) bool {
		h = strings.ToLower(h)
		below, any := strings.CutPrefix(h, "*.")
		return h == host || port != "" && h == host+":"+port || any && strings.HasSuffix(host, "."+below)
	})
}

// guardPrompt judges the arguments of a prompt, which servers put into texts of
// their own: by their names, and as pieces of a template.
func (g *ArgumentGuard) guardPrompt(ctx context.Context, c *Call) *Refusal {
	w := argWalk{ctx: ctx, guard: g, call: c, rules: c.Upstream.Arguments}
	if args := c.Params.Arguments; len(args) > 0 && args[0] == '{' {
		wire.Each(args, func(member, raw wire.Raw) bool {
			name, _ := wire.String(member)
			if text, ok := wire.String(raw); ok {
				kind := kindOf(w.rules, c, name, nil, text)
				if kind == ArgText {
					kind = ArgTemplate
				}
				w.judge(kind, text)
			}
			return w.refusal == nil
		})
	}
	return w.refusal
}

var (
	templateCode  = regexp.MustCompile(`(?s)\{\{(.*?)\}\}|\{%(.*?)%\}|[$#]\{(.*?)\}|<%(.*?)%>`)
	templatePlain = regexp.MustCompile(`^[\s\w.|,'":?-]*$`)
	templateDeeds = regexp.MustCompile(`\b(?:include|import|extends|exec|eval|system|set|macro|jndi|env|class|self|config|request)\b|__`)
)

// badTemplate says why a text is more than a template with names in it.
func badTemplate(v string) string {
	for _, m := range templateCode.FindAllStringSubmatch(v, 256) {
		inner := strings.Join(m[1:], "")
		if m[4] != "" || !templatePlain.MatchString(inner) || templateDeeds.MatchString(inner) {
			return "expression"
		}
	}
	return ""
}
