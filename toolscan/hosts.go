package toolscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/kidoban/kidoban"
)

// Entry is one server in the configuration of an MCP host.
type Entry struct {
	Name    string            `json:"name"`
	Host    string            `json:"host,omitempty"` // "claude", "cursor", …; "" for a file given by name
	File    string            `json:"file"`
	Command string            `json:"command,omitempty"`
	Args    []string          `json:"args,omitempty"`
	Env     map[string]string `json:"-"` // may hold secrets: never printed
	URL     string            `json:"url,omitempty"`
	Headers map[string]string `json:"-"` // may hold secrets: never printed
	Off     bool              `json:"disabled,omitempty"`
}

// Stdio says whether the entry starts a program.
func (e *Entry) Stdio() bool { return e.Command != "" }

// CommandLine is the command as a person would type it, safe to print.
func (e *Entry) CommandLine() string {
	parts := make([]string, 0, 1+len(e.Args))
	for _, a := range append([]string{e.Command}, e.Args...) {
		a, _ = Redact(a)
		parts = append(parts, a)
	}
	return Visible(strings.Join(parts, " "), 400)
}

// HostFile is a place where an MCP host keeps its servers. Path is relative to
// the home directory, to the application data directory (App), or to the
// project (Project).
type HostFile struct {
	Host    string
	Path    string
	App     bool // below ~/Library/Application Support, %APPDATA% or ~/.config
	Project bool
}

// HostFiles lists the known places, from the hosts' documentation.
func HostFiles() []HostFile {
	return []HostFile{
		{"claude", "Claude/claude_desktop_config.json", true, false},
		{"claude", ".claude.json", false, false}, // Claude Code, user scope
		{"claude", ".mcp.json", false, true},     // Claude Code, project scope
		{"cursor", ".cursor/mcp.json", false, false},
		{"cursor", ".cursor/mcp.json", false, true},
		{"vscode", "Code/User/mcp.json", true, false},
		{"vscode", "Code/User/settings.json", true, false},
		{"vscode", ".vscode/mcp.json", false, true},
		{"windsurf", ".codeium/windsurf/mcp_config.json", false, false},
		{"zed", ".config/zed/settings.json", false, false},
		{"zed", ".zed/settings.json", false, true},
		{"cline", "Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json", true, false},
		{"roo", "Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json", true, false},
		{"roo", ".roo/mcp.json", false, true},
		{"gemini", ".gemini/settings.json", false, false},
		{"gemini", ".gemini/settings.json", false, true},
		{"codex", ".codex/config.toml", false, false},
		{"codex", ".codex/config.toml", false, true},
		{"continue", ".continue/config.yaml", false, false},
		{"goose", ".config/goose/config.yaml", false, false},
		{"amazonq", ".aws/amazonq/mcp.json", false, false},
		{"kiro", ".kiro/settings/mcp.json", false, false},
		{"lmstudio", ".lmstudio/mcp.json", false, false},
		{"opencode", ".config/opencode/opencode.json", false, false},
		{"warp", ".warp/mcp.json", false, false},
	}
}

// ParseHost reads the servers of a host's configuration. JSON with comments,
// YAML and the TOML of Codex are understood; the server maps of the known hosts
// are looked for wherever they stand. file gives the format by its ending and is
// copied into the entries. A file without servers gives none and no error.
func ParseHost(host, file string, data []byte) ([]Entry, error) {
	if len(data) > maxItemBytes {
		return nil, kidoban.Errorf(kidoban.KindLimit, "%s is larger than %d MiB", file, maxItemBytes>>20)
	}
	var root any
	var err error
	if strings.EqualFold(filepath.Ext(file), ".toml") {
		root = parseTOML(string(data))
	} else {
		// YAML is a superset of JSON; comments and trailing commas of JSON files
		// are removed first.
		plain := plainJSON(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
		if trimmed := bytes.TrimSpace(plain); len(trimmed) > 0 && trimmed[0] == '{' { // comments may stand before it
			if err := json.Unmarshal(plain, &root); err != nil {
				return nil, kidoban.Errorf(kidoban.KindInput, "%s is not JSON%s; correct it and try again", file, faultAt(plain, err))
			}
		} else {
			err = yaml.Unmarshal(data, &root)
		}
	}
	if err != nil {
		return nil, kidoban.Errorf(kidoban.KindInput, "%s cannot be read: it is neither JSON nor YAML; correct it and try again", file)
	}
	var out []Entry
	collect(root, "", 0, func(name string, m map[string]any) {
		if e, ok := entry(name, m); ok {
			e.Host, e.File = host, file
			out = append(out, e)
		}
	})
	sort.SliceStable(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// serverMaps are the members under which hosts keep servers by name.
var serverMaps = map[string]bool{"mcpServers": true, "servers": true, "context_servers": true, "mcp_servers": true, "mcp": true, "extensions": true, "mcp.servers": true}

// collect calls fn for every server in a configuration.
func collect(v any, key string, depth int, fn func(string, map[string]any)) {
	if depth > 8 {
		return
	}
	m, ok := v.(map[string]any)
	if !ok {
		if list, ok := v.([]any); ok && serverMaps[key] { // Continue: a list with names
			for _, x := range list {
				if s, ok := x.(map[string]any); ok {
					name, _ := s["name"].(string)
					fn(name, s)
				}
			}
		}
		return
	}
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		if serverMaps[key] {
			if s, ok := m[k].(map[string]any); ok {
				fn(k, s)
			}
		}
		collect(m[k], k, depth+1, fn)
	}
}

// entry reads one server, in the spelling of any host.
func entry(name string, m map[string]any) (Entry, bool) {
	e := Entry{Name: name, Env: texts(m["env"], m["envs"], m["environment"]), Headers: texts(m["headers"], m["http_headers"])}
	e.URL = firstText(m, "url", "serverUrl", "httpUrl", "uri")
	switch c := m["command"].(type) {
	case string:
		e.Command = c
	case map[string]any: // Zed: {path, args, env}
		e.Command, e.Args = firstText(c, "path"), list(c["args"])
		for k, v := range texts(c["env"]) {
			e.Env[k] = v
		}
	case []any: // opencode: the whole line
		if l := list(c); len(l) > 0 {
			e.Command, e.Args = l[0], l[1:]
		}
	}
	if e.Command == "" {
		e.Command = firstText(m, "cmd")
	}
	if a := list(m["args"]); a != nil {
		e.Args = a
	}
	if b, ok := m["disabled"].(bool); ok {
		e.Off = b
	}
	if b, ok := m["enabled"].(bool); ok {
		e.Off = !b
	}
	return e, e.Command != "" || e.URL != ""
}

func firstText(m map[string]any, keys ...string) string {
	for _, k := range keys {
		if s, ok := m[k].(string); ok && s != "" {
			return s
		}
	}
	return ""
}

func texts(vs ...any) map[string]string {
	out := map[string]string{}
	for _, v := range vs {
		if m, ok := v.(map[string]any); ok {
			for k, x := range m {
				if s, ok := x.(string); ok {
					out[k] = s
				}
			}
		}
	}
	return out
}

func list(v any) []string {
	l, ok := v.([]any)
	if !ok {
		return nil
	}
	out := make([]string, 0, len(l))
	for _, x := range l {
		if s, ok := x.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// LooksLikeHost says whether a file means to be a host's configuration: it names
// a map of servers.
func LooksLikeHost(data []byte) bool {
	for _, k := range [...]string{"mcpServers", "context_servers", "mcp_servers", "mcp.servers"} {
		if bytes.Contains(data[:min(len(data), maxItemBytes)], []byte(k)) {
			return true
		}
	}
	return false
}

// faultAt says where JSON stops being JSON; lines count from 1. It is "" when the
// fault has no place.
func faultAt(data []byte, err error) string {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return ""
	}
	at := int(min(max(syntax.Offset-1, 0), int64(len(data))))
	before := data[:at]
	column := at - bytes.LastIndexByte(before, '\n')
	if at >= len(bytes.TrimRight(data, " \t\r\n"))-1 && strings.Contains(syntax.Error(), "unexpected end") {
		return fmt.Sprintf(" (it ends in the middle, in line %d)", 1+bytes.Count(before, []byte("\n")))
	}
	return fmt.Sprintf(" (line %d, column %d)", 1+bytes.Count(before, []byte("\n")), column)
}

// plainJSON removes comments and trailing commas (JSONC). Lengths change, line
// ends stay.
func plainJSON(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			j := i + 1
			for j < len(b) && b[j] != '"' {
				if b[j] == '\\' {
					j++
				}
				j++
			}
			out = append(out, b[i:min(j+1, len(b))]...)
			i = j
		case c == '/' && i+1 < len(b) && b[i+1] == '/':
			for i < len(b) && b[i] != '\n' {
				i++
			}
			i--
		case c == '/' && i+1 < len(b) && b[i+1] == '*':
			for i += 2; i+1 < len(b) && (b[i] != '*' || b[i+1] != '/'); i++ {
				if b[i] == '\n' {
					out = append(out, '\n')
				}
			}
			i++
		case c == ']' || c == '}':
			k := len(out)
			for k > 0 && (out[k-1] == ' ' || out[k-1] == '\n' || out[k-1] == '\t' || out[k-1] == '\r') {
				k--
			}
			if k > 0 && out[k-1] == ',' {
				out = append(out[:k-1], out[k:]...)
			}
			out = append(out, c)
		case c == '\t':
			out = append(out, ' ') // YAML does not take tabs
		default:
			out = append(out, c)
		}
	}
	return out
}

// parseTOML reads the part of TOML that Codex writes: tables, strings, arrays of
// strings, booleans, inline tables of strings. Other values are skipped.
func parseTOML(s string) any {
	root := map[string]any{}
	at := root
	for _, line := range strings.Split(s, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			at = root
			for _, k := range tomlKey(strings.Trim(line, "[] ")) {
				next, ok := at[k].(map[string]any)
				if !ok {
					next = map[string]any{}
					at[k] = next
				}
				at = next
			}
		default:
			k, v, ok := strings.Cut(line, "=")
			if ok {
				if parts := tomlKey(strings.TrimSpace(k)); len(parts) == 1 {
					at[parts[0]] = tomlValue(strings.TrimSpace(v))
				}
			}
		}
	}
	return root
}

// tomlKey splits a dotted key with quoted parts.
func tomlKey(k string) []string {
	var parts []string
	var b strings.Builder
	quote := byte(0)
	for i := 0; i < len(k); i++ {
		c := k[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && c == '.':
			parts = append(parts, strings.TrimSpace(b.String()))
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	return append(parts, strings.TrimSpace(b.String()))
}

func tomlValue(v string) any {
	switch {
	case v == "":
		return nil
	case v[0] == '"' || v[0] == '\'':
		return tomlStrings(v)[0]
	case v[0] == '[':
		out := []any{}
		for _, s := range tomlStrings(v) {
			out = append(out, s)
		}
		return out
	case v[0] == '{':
		m := map[string]any{}
		for _, pair := range strings.Split(strings.Trim(v, "{} "), ",") {
			if k, x, ok := strings.Cut(pair, "="); ok {
				if s := tomlStrings(x); len(s) > 0 {
					m[strings.Trim(strings.TrimSpace(k), `"'`)] = s[0]
				}
			}
		}
		return m
	case strings.HasPrefix(v, "true"):
		return true
	case strings.HasPrefix(v, "false"):
		return false
	}
	return nil
}

// tomlStrings returns the quoted strings in v; at least one, perhaps empty,
// when v starts with a quote.
func tomlStrings(v string) []string {
	var out []string
	for i := 0; i < len(v); i++ {
		q := v[i]
		if q == '#' {
			break
		}
		if q != '"' && q != '\'' {
			continue
		}
		var b strings.Builder
		for i++; i < len(v) && v[i] != q; i++ {
			if q == '"' && v[i] == '\\' && i+1 < len(v) {
				i++
			}
			b.WriteByte(v[i])
		}
		out = append(out, b.String())
	}
	return out
}
