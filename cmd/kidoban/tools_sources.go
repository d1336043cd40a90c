package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/mcp"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/toolscan"
)

// toolSources says where definitions come from.
type toolSources struct {
	Target  []string      `arg:"" optional:"" help:"A URL, an mcp.json, a file of definitions, or -- and the command of a stdio server."`
	From    []string      `help:"Read the configuration of these MCP hosts (claude, cursor, vscode, windsurf, zed, cline, gemini, codex, …; all)." placeholder:"HOST,…"`
	Bearer  string        `name:"bearer-env" help:"Environment variable with the access token for the URL." placeholder:"VAR"`
	Lab     bool          `help:"Allow loopback servers over plain http."`
	Timeout time.Duration `help:"For one server." default:"60s"`
	stdioFlags
}

// gathered is what could be read.
type gathered struct {
	servers  []toolscan.Server
	entries  []toolscan.Entry
	problems []string // one sentence each: what could not be read and what to do

	answers *bufio.Reader // the person's answers to questions
}

func (g *gathered) names() []string {
	out := []string{}
	for i := range g.servers {
		out = append(out, g.servers[i].Name)
	}
	return out
}

// maxFile bounds what is read from one file, in bytes.
const maxFile = 64 << 20

// gather reads every source that was named.
func (c toolSources) gather(e *env) (*gathered, error) {
	g := gathered{answers: bufio.NewReader(e.stdin)}
	if isCommand(c.Target) {
		g.entries = append(g.entries, toolscan.Entry{Name: commandName(c.Target), Command: c.Target[0], Args: c.Target[1:]})
	} else {
		for _, t := range c.Target {
			if err := c.target(t, &g); err != nil {
				return nil, err
			}
		}
	}
	if err := c.hosts(e, &g); err != nil {
		return nil, err
	}
	if len(g.entries) == 0 && len(g.servers) == 0 {
		return nil, kidoban.Errorf(kidoban.KindUsage, "there is nothing to read: name a URL, an mcp.json, a file of definitions, --from HOST, or -- and a command")
	}
	names := map[string]int{}
	for i := range g.entries {
		en := &g.entries[i]
		if en.Off {
			continue
		}
		s, err := c.connect(e, &g, en)
		if err != nil {
			g.problems = append(g.problems, fmt.Sprintf("%s: %s", toolscan.Visible(en.Name, 60), err))
			continue
		}
		// Two hosts may use the same server under the same name; the second is
		// told apart by its host.
		if names[s.Name]++; names[s.Name] > 1 && en.Host != "" {
			s.Name += "@" + en.Host
		}
		g.servers = append(g.servers, *s)
	}
	return &g, nil
}

// isCommand says whether the words are a stdio server's command line: what the
// command line had behind "--" is neither a URL nor a file of definitions.
func isCommand(words []string) bool {
	if len(words) == 0 || strings.Contains(words[0], "://") {
		return false
	}
	switch strings.ToLower(filepath.Ext(words[0])) {
	case ".json", ".jsonc", ".toml", ".yaml", ".yml", ".lock":
		return false
	}
	info, err := os.Stat(words[0])
	if err != nil {
		return filepath.Base(words[0]) == words[0] // a name to be found on the path, not a path to nothing
	}
	return !info.IsDir() && info.Mode()&0o111 != 0
}

// commandName names a server by its command line: a launcher (npx, python, env)
// says nothing, what it launches does.
func commandName(words []string) string {
	launcher := map[string]bool{"npx": true, "bunx": true, "pnpx": true, "uvx": true, "uv": true, "run": true, "node": true, "deno": true, "bun": true, "python": true,
		"python3": true, "env": true, "docker": true, "podman": true, "sh": true, "bash": true, "exec": true, "dlx": true, "pnpm": true, "yarn": true}
	for i, w := range words {
		if strings.HasPrefix(w, "-") || strings.Contains(w, "=") && i > 0 {
			continue
		}
		name := w
		if !strings.HasPrefix(w, "@") { // a scope of npm stays
			name = filepath.Base(w)
		}
		if name != "" && name != "." && !launcher[strings.ToLower(name)] {
			return name
		}
	}
	return filepath.Base(words[0])
}

// target reads one URL or file.
func (c toolSources) target(t string, g *gathered) error {
	if strings.HasPrefix(t, "http://") || strings.HasPrefix(t, "https://") {
		g.entries = append(g.entries, toolscan.Entry{Name: t, URL: t})
		return nil
	}
	info, err := os.Stat(t)
	switch {
	case err != nil:
		return kidoban.Wrap(kidoban.KindUsage, err, "%s is neither a URL nor a file; a stdio server's command goes behind --", t)
	case info.IsDir():
		return kidoban.Errorf(kidoban.KindUsage, "%s is a directory: name an mcp.json or a file of definitions in it", t)
	case info.Size() > maxFile:
		return kidoban.Errorf(kidoban.KindLimit, "%s is larger than %d MiB", t, maxFile>>20)
	}
	data, err := os.ReadFile(t)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInput, err, "cannot read %s", t)
	}
	entries, err := toolscan.ParseHost("", t, data)
	if err == nil && len(entries) > 0 {
		g.entries = append(g.entries, entries...)
		return nil
	}
	if err != nil && toolscan.LooksLikeHost(data) {
		return err
	}
	servers, serr := toolscan.ParseSnapshot(t, data)
	if serr != nil {
		return serr
	}
	g.servers = append(g.servers, servers...)
	return nil
}

// hosts reads the configurations of the named MCP hosts.
func (c toolSources) hosts(e *env, g *gathered) error {
	if len(c.From) == 0 {
		return nil
	}
	want := map[string]bool{}
	for _, f := range c.From {
		want[strings.ToLower(strings.TrimSpace(f))] = true
	}
	known := map[string]bool{"all": true}
	found := 0
	for _, h := range toolscan.HostFiles() {
		known[h.Host] = true
		if !want["all"] && !want[h.Host] {
			continue
		}
		file := hostPath(e, h)
		data, err := os.ReadFile(file)
		if err != nil {
			continue // most hosts are not installed
		}
		entries, err := toolscan.ParseHost(h.Host, file, data)
		if err != nil {
			g.problems = append(g.problems, err.Error())
			continue
		}
		found++
		g.entries = append(g.entries, entries...)
	}
	for w := range want {
		if !known[w] {
			return kidoban.Errorf(kidoban.KindUsage, "the host %q is not known; give its configuration file instead", w)
		}
	}
	if found == 0 {
		return kidoban.Errorf(kidoban.KindNotFound, "none of these hosts has a configuration here: name a URL, an mcp.json, a file of definitions, or -- and the command of a stdio server")
	}
	return nil
}

// hostPath returns the absolute path of a host's configuration.
func hostPath(e *env, h toolscan.HostFile) string {
	path := filepath.FromSlash(h.Path)
	home := e.env("HOME")
	if home == "" {
		home = e.env("USERPROFILE")
	}
	switch {
	case h.Project:
		return path
	case !h.App:
		return filepath.Join(home, path)
	case runtime.GOOS == "darwin":
		return filepath.Join(home, "Library", "Application Support", path)
	case e.env("APPDATA") != "":
		return filepath.Join(e.env("APPDATA"), path)
	case e.env("XDG_CONFIG_HOME") != "":
		return filepath.Join(e.env("XDG_CONFIG_HOME"), path)
	}
	return filepath.Join(home, ".config", path)
}

// connect lists everything one server offers.
func (c toolSources) connect(e *env, g *gathered, en *toolscan.Entry) (*toolscan.Server, error) {
	ctx, cancel := context.WithTimeout(e.ctx, c.Timeout)
	defer cancel()
	if en.Stdio() {
		return c.stdio(ctx, e, g, en)
	}
	return c.remote(ctx, e, en)
}

// lists are the list methods and the kinds of their items.
var lists = []struct {
	method, member string
	kind           toolscan.Kind
}{
	{"tools/list", "tools", toolscan.KindTool},
	{"prompts/list", "prompts", toolscan.KindPrompt},
	{"resources/list", "resources", toolscan.KindResource},
	{"resources/templates/list", "resourceTemplates", toolscan.KindTemplate},
}

// remote lists a server over HTTP.
func (c toolSources) remote(ctx context.Context, e *env, en *toolscan.Entry) (*toolscan.Server, error) {
	if !c.Lab && loopbackURL(en.URL) {
		return nil, kidoban.Errorf(kidoban.KindUsage, "this is a server on your own machine: add --lab, which allows loopback addresses")
	}
	out := outbound.New(outbound.Options{Lab: c.Lab, MaxBody: 16 << 20, MaxRequests: 500})
	defer out.Close()
	o := mcp.Options{URL: en.URL, MaxBody: 16 << 20}
	if c.Bearer != "" {
		if o.Bearer = e.env(c.Bearer); o.Bearer == "" {
			return nil, kidoban.Errorf(kidoban.KindUsage, "the environment variable %s is empty", c.Bearer)
		}
	}
	for k, v := range en.Headers {
		if !strings.Contains(v, "${") {
			o.Header = append(o.Header, kidoban.Field{Name: k, Value: v})
		}
	}
	client, err := mcp.New(out, o)
	if err != nil {
		return nil, err
	}
	defer client.Close(context.WithoutCancel(ctx))
	hello, err := client.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if !hello.Found() {
		if hello.Refusal != nil {
			return nil, kidoban.Errorf(kidoban.KindRefused, "it asks for a login (HTTP %d): give a token with --bearer-env", hello.Refusal.Status)
		}
		return nil, kidoban.Errorf(kidoban.KindInput, "it does not speak MCP at this address")
	}
	s := &toolscan.Server{Name: en.Name}
	s.SetURL(en.URL)
	s.Version = versionOf(json.RawMessage(hello.ServerInfo))
	if hello.Instructions != "" {
		raw, _ := json.Marshal(hello.Instructions) // a string
		s.Add(toolscan.KindInstructions, raw)
	}
	for _, l := range lists {
		list, err := client.List(ctx, l.method)
		if err != nil {
			return nil, err
		}
		for _, it := range list.Items {
			s.Add(l.kind, json.RawMessage(it))
		}
	}
	return s, nil
}

func versionOf(info json.RawMessage) string {
	var v struct {
		Version string `json:"version"`
	}
	_ = json.Unmarshal(info, &v) // self-reported and for display only
	return toolscan.Visible(v.Version, 60)
}

// ask puts a y/N question; anything but y is no.
func (g *gathered) ask(e *env, question string) bool {
	fmt.Fprint(e.stderr, question+" [y/N] ")
	answer, err := g.answers.ReadString('\n') // the end of input is a no
	if err != nil {
		fmt.Fprintln(e.stderr) // nobody pressed return
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
