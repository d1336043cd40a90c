package main

import (
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/kidoban/kidoban/limit"
)

type configDocsCmd struct{}

// Run prints the page of the config's members, made from the types that read it.
func (configDocsCmd) Run(e *env) error {
	_, err := io.WriteString(e.stdout, configReference())
	return err
}

// configReference is docs/config.md.
func configReference() string {
	var b strings.Builder
	b.WriteString("# Every member of the gateway's config\n\nMade by `kidoban config docs` from the program itself; `kidoban config schema` prints the same as JSON Schema ([for editors](schema/gateway.schema.json)). An empty file is a whole config: every member has a default. What is unknown, misspelt or of the wrong type stops the start with file, line and column; `kidoban gateway check -c FILE` lists everything that is unsafe or impossible.\n")
	referenceOf(&b, "", reflect.TypeFor[gatewayConfig]())
	b.WriteString("\n## Names under limits\n\nSo many at a steady rate, and a burst at once. What they hold under hostile load is in [Limits](gateway-limits.md).\n\n| name | of what | count | per | burst |\n|---|---|---|---|---|\n")
	l := limit.Defaults()
	for _, p := range l.All() {
		fmt.Fprintf(&b, "| `%s` | %s | %d | %s | %d |\n", p.Name, counted(p.Name), p.Count, strings.TrimSuffix(strings.TrimSuffix(p.Per.String(), "0s"), "0m"), p.Burst)
	}
	return b.String()
}

// counted says in words what a limit counts, and of whom.
func counted(name string) string {
	what, of, _ := strings.Cut(name, "_")
	of = strings.TrimPrefix(of, "per_")
	for _, w := range []struct {
		word *string
		of   map[string]string
	}{
		{&what, map[string]string{"registration": "registrations", "authorize": "requests to authorize", "token": "requests for tokens", "revoke": "revocations",
			"login": "failed logins", "consent": "consents", "document": "client documents fetched", "call": "calls", "connect": "accounts connected at servers"}},
		{&of, map[string]string{"ip": "of one address (IPv6: one /64)", "prefix": "of one network (/24, IPv6: /48)", "global": "in all", "user": "of one user",
			"client": "of one client (calls: and user)", "name": "of one login name", "source": "for one address that asks", "host": "from one host", "server": "of one server, all users", "tool": "of one tool and user"}},
	} {
		*w.word = w.of[*w.word]
	}
	return what + " " + of
}

// referenceOf writes the table of a struct, and those of the structs in it.
func referenceOf(b *strings.Builder, path string, t reflect.Type) {
	title := "The file"
	if path != "" {
		title = "`" + path + "`"
	}
	fmt.Fprintf(b, "\n## %s\n\n| member | is | means |\n|---|---|---|\n", title)
	type inner struct {
		path string
		t    reflect.Type
	}
	var later []inner
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		is, in, suffix := kindOfMember(f.Type, f.Tag.Get("enum"))
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, is, strings.ReplaceAll(f.Tag.Get("doc"), "|", `\|`))
		if in != nil {
			below := name + suffix
			if path != "" {
				below = path + "." + below
			}
			later = append(later, inner{below, in})
		}
	}
	for _, in := range later {
		referenceOf(b, in.path, in.t)
	}
}

// kindOfMember says what a member is, and which struct it opens, if any.
func kindOfMember(t reflect.Type, enum string) (is string, in reflect.Type, suffix string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[span]():
		return "time span", nil, ""
	case enum != "":
		return strings.ReplaceAll(enum, ",", ", "), nil, ""
	}
	switch t.Kind() {
	case reflect.Struct:
		return "object", t, ""
	case reflect.Map:
		is, in, _ := kindOfMember(t.Elem(), "")
		return "name: " + is, in, ".NAME"
	case reflect.Slice:
		is, in, _ := kindOfMember(t.Elem(), "")
		return "list of " + is, in, "[]"
	case reflect.Bool:
		return "true, false", nil, ""
	case reflect.String:
		return "text", nil, ""
	}
	return "number", nil, ""
}
