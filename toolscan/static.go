package toolscan

import (
	"fmt"
	"math"
	"net/url"
	"sort"
	"strings"

	"github.com/kidoban/kidoban"
)

// Static judges the configuration itself, before anything is started: secrets in
// the file, remotes without TLS, packages that may change under the user, names
// that resemble well-known ones, versions with known flaws. Values are never
// repeated in a finding.
func Static(entries []Entry) []Finding {
	var out []Finding
	for i := range entries {
		out = append(out, staticEntry(&entries[i])...)
	}
	return out
}

func staticEntry(e *Entry) []Finding {
	var out []Finding
	add := func(rule string, sev kidoban.Severity, conf float64, path, excerpt, why, fix string) {
		out = append(out, Finding{Rule: rule, Family: FamilyStatic, Tier: Label, Severity: sev, Confidence: conf, Server: e.Name, Path: path, Excerpt: Visible(excerpt, 160), Reason: why, Fix: fix})
	}
	secret := func(path, key, value string) {
		if kind := secretValue(key, value); kind != "" {
			add("static-secret", kidoban.High, 0.9, path, key, "A secret stands in the file in clear ("+kind+").",
				"Move it to the vault or to an input the host asks for, and rotate it; the gateway takes it with kidoban vault set.")
		}
	}
	for _, k := range keysOf(e.Env) {
		secret("/env/"+k, k, e.Env[k])
	}
	for _, k := range keysOf(e.Headers) {
		secret("/headers/"+k, k, e.Headers[k])
	}
	for i, a := range e.Args {
		key, value, ok := strings.Cut(a, "=")
		if !ok && i > 0 && strings.HasPrefix(e.Args[i-1], "-") {
			key, value = e.Args[i-1], a
		} else if !ok {
			key, value = "", a
		}
		secret(fmt.Sprintf("/args/%d", i), key, value)
	}
	if e.URL != "" {
		staticURL(e, add)
	}
	if e.Stdio() {
		staticCommand(e, add)
	}
	return out
}

type adder func(rule string, sev kidoban.Severity, conf float64, path, excerpt, why, fix string)

func staticURL(e *Entry, add adder) {
	u, err := url.Parse(e.URL)
	if err != nil {
		add("static-url", kidoban.Low, 0.5, "/url", "", "The URL cannot be read.", "Correct it.")
		return
	}
	host := u.Hostname()
	if u.Scheme == "http" && host != "localhost" && host != "127.0.0.1" && host != "::1" {
		add("static-http", kidoban.High, 1, "/url", u.Scheme+"://"+host, "The remote is reached without TLS: everyone on the way reads the tokens and can change the tools.", "Use https.")
	}
	if u.User != nil {
		add("static-secret", kidoban.High, 1, "/url", host, "The URL carries credentials.", "Move them to a header from the vault.")
	}
	for k, vs := range u.Query() {
		for _, v := range vs {
			if secretValue(k, v) != "" {
				add("static-secret", kidoban.High, 0.8, "/url", k, "The URL's query carries a secret; URLs end up in logs.", "Use a header from the vault, or OAuth.")
			}
		}
	}
	if isPunycode(host) {
		add("static-homoglyph", kidoban.Medium, 0.5, "/url", host, "The host name is written with letters outside ASCII; it may look like another.", "Check the name letter by letter.")
	}
}

func isPunycode(host string) bool {
	return strings.HasPrefix(host, "xn--") || strings.Contains(host, ".xn--") || strings.ContainsFunc(host, func(r rune) bool { return r > 0x7f })
}

func staticCommand(e *Entry, add adder) {
	ref, ok := packageOf(e)
	if !ok {
		if shellLine(e) {
			add("static-shell", kidoban.Medium, 0.6, "/command", e.CommandLine(), "The server is started through a shell line that can hide more than a server.", "Start the program directly.")
		}
		return
	}
	if ref.version == "" || ref.version == "latest" || ref.version == "next" || strings.ContainsAny(ref.version, "^~*><x") {
		add("static-unpinned", kidoban.Medium, 1, "/args", ref.name, "The package is fetched anew at every start, in whatever version is current then: a rug pull needs only a release.",
			"Name an exact version: "+ref.name+pinMark(ref)+"1.2.3.")
	}
	for i := range Advisories() {
		a := &Advisories()[i]
		if a.Package != ref.name || a.Ecosystem != ref.ecosystem {
			continue
		}
		hit, certain := a.Affects(ref.version)
		if !hit {
			continue
		}
		conf := 1.0
		if !certain {
			conf = 0.5
		}
		add("static-vulnerable", a.Severity, conf, "/args", ref.name+pinMark(ref)+ref.version, a.ID+": "+a.Says(), a.Remedy())
	}
	if known := resembles(ref.name); known != "" {
		add("static-typosquat", kidoban.High, 0.7, "/args", ref.name, "The package's name resembles "+known+" and is not it.", "Check that this is the package you meant.")
	}
}

func pinMark(r packageRef) string {
	if r.ecosystem == "pypi" {
		return "=="
	}
	return "@"
}

// packageRef is a package that a launcher fetches and runs.
type packageRef struct{ ecosystem, name, version string }

// packageOf finds the package an npx, bunx, pnpm dlx, uvx or pipx line runs.
func packageOf(e *Entry) (packageRef, bool) {
	cmd := strings.ToLower(e.Command[strings.LastIndexAny(e.Command, `/\`)+1:])
	cmd = strings.TrimSuffix(strings.TrimSuffix(cmd, ".cmd"), ".exe")
	args := e.Args
	if (cmd == "cmd" || cmd == "sh" || cmd == "bash") && len(args) > 1 { // cmd /c npx …
		rest := args[1:]
		if len(rest) == 1 {
			rest = strings.Fields(rest[0])
		}
		if len(rest) > 0 {
			cmd, args = rest[0], rest[1:]
		}
	}
	eco := ""
	switch cmd {
	case "npx", "bunx":
		eco = "npm"
	case "npm", "pnpm", "yarn", "bun":
		if len(args) > 0 && (args[0] == "exec" || args[0] == "dlx" || args[0] == "x") {
			eco, args = "npm", args[1:]
		}
	case "uvx":
		eco = "pypi"
	case "uv", "pipx":
		if len(args) > 0 && (args[0] == "tool" || args[0] == "run") {
			eco, args = "pypi", args[1:]
			if len(args) > 0 && args[0] == "run" {
				args = args[1:]
			}
		}
	}
	if eco == "" {
		return packageRef{}, false
	}
	spec := ""
	for i := 0; i < len(args) && spec == ""; i++ {
		switch a := args[i]; {
		case a == "-p" || a == "--package" || a == "--from" || a == "--with":
			if i+1 < len(args) {
				spec = args[i+1]
			}
		case strings.HasPrefix(a, "--package=") || strings.HasPrefix(a, "--from="):
			_, spec, _ = strings.Cut(a, "=")
		case strings.HasPrefix(a, "-"):
		default:
			spec = a
		}
	}
	if spec == "" || strings.ContainsAny(spec, "/\\ ") && !strings.HasPrefix(spec, "@") || strings.Contains(spec, "://") {
		return packageRef{}, false
	}
	return splitSpec(eco, spec), true
}

func splitSpec(eco, spec string) packageRef {
	if eco == "pypi" {
		if name, v, ok := strings.Cut(spec, "=="); ok {
			return packageRef{eco, strings.ToLower(strings.Split(name, "[")[0]), v}
		}
	}
	if i := strings.LastIndexByte(spec, '@'); i > 0 {
		return packageRef{eco, strings.ToLower(spec[:i]), spec[i+1:]}
	}
	return packageRef{eco, strings.ToLower(spec), ""}
}

// shellLine recognises commands that are programs of their own.
func shellLine(e *Entry) bool {
	line := e.Command + " " + strings.Join(e.Args, " ")
	for _, mark := range [...]string{"curl ", "wget ", "| sh", "|sh", "| bash", "|bash", "base64 -d", "Invoke-Expression", "iex(", "$(", "/dev/tcp", "eval "} {
		if strings.Contains(line, mark) {
			return true
		}
	}
	return false
}

// secretValue says what kind of secret a value is, "" for none. References to
// variables and inputs of the host are none.
func secretValue(key, value string) string {
	v := strings.TrimSpace(value)
	v = strings.TrimPrefix(strings.TrimPrefix(v, "Bearer "), "bearer ")
	if len(v) < 8 || strings.Contains(v, "${") || strings.HasPrefix(v, "$") || strings.HasPrefix(v, "%") || strings.HasPrefix(v, "<") || strings.HasPrefix(v, "{{") || placeholder(v) {
		return ""
	}
	if s := Secrets(v); len(s) > 0 {
		return s[0].Kind
	}
	k := strings.ToLower(key)
	for _, w := range [...]string{"token", "secret", "password", "passwd", "apikey", "api_key", "api-key", "access_key", "private_key", "authorization", "credential", "connection_string", "database_url"} {
		if !strings.Contains(k, w) {
			continue
		}
		if strings.Contains(w, "_url") || strings.Contains(w, "connection") {
			if u, err := url.Parse(v); err == nil && u.User != nil {
				if _, has := u.User.Password(); has {
					return "password in a URL"
				}
			}
			continue
		}
		if !strings.ContainsAny(v, " /\\") && entropy(v) > 2.5 {
			return "value of " + Visible(key, 40)
		}
	}
	return ""
}

// entropy is Shannon's, in bits a character.
func entropy(s string) float64 {
	count := map[byte]int{}
	for i := 0; i < len(s); i++ {
		count[s[i]]++
	}
	keys := make([]int, 0, len(count))
	for c := range count {
		keys = append(keys, int(c))
	}
	sort.Ints(keys)
	h := 0.0
	for _, c := range keys {
		p := float64(count[byte(c)]) / float64(len(s))
		h -= p * math.Log2(p)
	}
	return h
}

func keysOf(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// wellKnownPackages are packages whose names are worth imitating.
var wellKnownPackages = []string{
	"@modelcontextprotocol/server-filesystem", "@modelcontextprotocol/server-github", "@modelcontextprotocol/server-memory", "@modelcontextprotocol/server-postgres",
	"@modelcontextprotocol/server-slack", "@modelcontextprotocol/server-puppeteer", "@modelcontextprotocol/server-everything", "@modelcontextprotocol/server-sequential-thinking",
	"@modelcontextprotocol/inspector", "@playwright/mcp", "@upstash/context7-mcp", "@notionhq/notion-mcp-server", "@supabase/mcp-server-supabase", "@stripe/mcp",
	"mcp-remote", "figma-developer-mcp", "chrome-devtools-mcp", "firecrawl-mcp", "tavily-mcp", "exa-mcp-server", "mcp-server-kubernetes", "mcp-server-fetch", "mcp-server-git",
	"mcp-server-time", "mcp-server-sqlite", "@sentry/mcp-server", "@browsermcp/mcp", "@mcp-get-community/server-curl", "desktop-commander",
}

// resembles returns the well-known package that name imitates, "" for none: the
// name is confusable, one or two letters away, or the same in another scope.
func resembles(name string) string {
	for _, k := range wellKnownPackages {
		if name == k {
			return ""
		}
	}
	for _, k := range wellKnownPackages {
		if skeleton(name) == skeleton(k) {
			return k
		}
		if n := len(k); n >= 10 && abs(len(name)-n) <= 2 && editDistance(name, k) <= 1+n/24 {
			return k
		}
		if kScope, kBase, ok := strings.Cut(k, "/"); ok {
			scope, base, has := strings.Cut(name, "/")
			if has && base == kBase && scope != kScope && editDistance(scope, kScope) <= 3 {
				return k
			}
		}
	}
	return ""
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
