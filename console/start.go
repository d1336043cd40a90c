package console

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// Endpoint is an address that programs connect to.
type Endpoint struct {
	Name  string // of a server, or of the gateway for all servers together
	Title string // for people; "" for all servers
	URL   string
}

// startPage tells a person how to connect a program of theirs.
type startPage struct {
	Endpoints []Endpoint
	Chosen    Endpoint
	Clients   []clientSetup
}

// clientSetup is what one program wants to be told.
type clientSetup struct {
	Program string // its own name
	How     string // text id: a command to run, or a file to edit
	File    string // of a file to edit
	Text    string // to paste
}

// start is the page from which a person connects programs: what to paste into
// which. Nothing in it is secret: the program asks for a login by itself.
func (s *Server) start(v *visit) (any, error) {
	p := startPage{Endpoints: s.deps.Endpoints()}
	if len(p.Endpoints) == 0 {
		return p, nil
	}
	p.Chosen = p.Endpoints[0]
	for _, e := range p.Endpoints {
		if e.Name == v.text("server") {
			p.Chosen = e
		}
	}
	p.Clients = setups(p.Chosen)
	return p, nil
}

// setups are the lines for an endpoint. Names and URLs come from the config, whose
// names are letters, digits and hyphens; the URL is quoted for shells all the same.
func setups(e Endpoint) []clientSetup {
	entry := func(member string, in map[string]string) string {
		raw, err := json.MarshalIndent(map[string]any{member: map[string]any{e.Name: in}}, "", "  ")
		if err != nil {
			return "" // maps of strings always have a form
		}
		return string(raw)
	}
	quoted := shellWord(e.URL)
	return []clientSetup{
		{"Claude Code", "start_run", "", fmt.Sprintf("claude mcp add --transport http %s %s", e.Name, quoted)},
		{"Codex", "start_run", "", fmt.Sprintf("codex mcp add %s --url %s\ncodex mcp login %s", e.Name, quoted, e.Name)},
		{"Gemini CLI", "start_run", "", fmt.Sprintf("gemini mcp add --transport http %s %s", e.Name, quoted)},
		{"Cursor", "start_file", "~/.cursor/mcp.json", entry("mcpServers", map[string]string{"url": e.URL})},
		{"VS Code", "start_file", ".vscode/mcp.json", entry("servers", map[string]string{"type": "http", "url": e.URL})},
		{"stdio", "start_stdio", "", "npx -y mcp-remote " + quoted},
	}
}

// plainWord is what no shell reads anything into.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9:/._-]+$`)

// shellWord writes a URL for a shell.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
