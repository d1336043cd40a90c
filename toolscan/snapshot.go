package toolscan

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
)

// Add appends an item as it came. Its name is read for display and comparison;
// an item without one is kept under "".
func (s *Server) Add(kind Kind, raw json.RawMessage) {
	var named struct {
		Name string `json:"name"`
		URI  string `json:"uri"`
		Tmpl string `json:"uriTemplate"`
	}
	_ = json.Unmarshal(raw, &named) // what has no readable name is scanned all the same
	name := named.Name
	switch {
	case kind == KindInstructions:
		name = "instructions"
	case kind == KindResource && named.URI != "":
		name = named.URI
	case kind == KindTemplate && named.Tmpl != "":
		name = named.Tmpl
	}
	s.Items = append(s.Items, Item{Kind: kind, Name: name, Raw: raw})
}

// SetURL notes the hosts that are the server's own: the one it is reached at.
func (s *Server) SetURL(raw string) {
	if u, err := url.Parse(raw); err == nil && u.Hostname() != "" {
		s.Hosts = append(s.Hosts, u.Hostname())
	}
}

// offered is what a file may hold of one server, in any of the shapes lists
// come in.
type offered struct {
	Name         string            `json:"name"`
	Server       string            `json:"server"`
	Version      string            `json:"version"`
	URL          string            `json:"url"`
	Instructions json.RawMessage   `json:"instructions"`
	Tools        []json.RawMessage `json:"tools"`
	Prompts      []json.RawMessage `json:"prompts"`
	Resources    []json.RawMessage `json:"resources"`
	Templates    []json.RawMessage `json:"resourceTemplates"`
	Result       *offered          `json:"result"`
	Servers      []offered         `json:"servers"`
	InputSchema  json.RawMessage   `json:"inputSchema"`
	Description  json.RawMessage   `json:"description"`
}

// ParseSnapshot reads definitions from a file: a list answer ({"tools": […]},
// with or without the JSON-RPC envelope), a bare array of tools, one tool, or
// several servers ({"servers": [{"name", "tools", …}]}). name is used where the
// file names no server.
func ParseSnapshot(name string, data []byte) ([]Server, error) {
	if len(data) > maxSnapshot {
		return nil, kidoban.Errorf(kidoban.KindLimit, "%s is larger than %d MiB", name, maxSnapshot>>20)
	}
	data = bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	if len(data) > 0 && data[0] == '[' {
		var list []json.RawMessage
		if err := json.Unmarshal(data, &list); err != nil {
			return nil, kidoban.Errorf(kidoban.KindInput, "%s is not JSON%s", name, faultAt(data, err))
		}
		s := Server{Name: name}
		for _, t := range list {
			s.Add(KindTool, t)
		}
		return []Server{s}, nil
	}
	var o offered
	if err := json.Unmarshal(data, &o); err != nil {
		const forms = "expected an object with tools, prompts, resources, servers or mcpServers, or an array of tools"
		switch {
		case len(data) == 0:
			return nil, kidoban.Errorf(kidoban.KindInput, "%s is empty: %s", name, forms)
		case !json.Valid(data):
			return nil, kidoban.Errorf(kidoban.KindInput, "%s is not JSON%s: %s", name, faultAt(data, err), forms)
		}
		return nil, kidoban.Errorf(kidoban.KindInput, "%s is JSON of another form: %s", name, forms)
	}
	if len(o.Servers) > 0 {
		var out []Server
		for i := range o.Servers {
			out = append(out, o.Servers[i].server(name))
		}
		return out, nil
	}
	if o.Result != nil {
		o = *o.Result
	}
	s := o.server(name)
	if len(s.Items) == 0 && (o.InputSchema != nil || o.Description != nil) {
		s.Name = name
		s.Add(KindTool, data)
	}
	if len(s.Items) == 0 && o.Tools == nil && o.Prompts == nil && o.Resources == nil && o.Templates == nil { // an empty list is an answer, too
		return nil, kidoban.Errorf(kidoban.KindInput, "%s holds no definitions: expected tools, prompts, resources, instructions, servers or mcpServers", name)
	}
	return []Server{s}, nil
}

// maxSnapshot bounds a file of definitions, in bytes.
const maxSnapshot = 64 << 20

func (o *offered) server(name string) Server {
	s := Server{Name: name, Version: o.Version}
	for _, n := range []string{o.Server, o.Name} {
		if n != "" {
			s.Name = n
		}
	}
	if o.URL != "" {
		s.SetURL(o.URL)
	}
	if len(o.Instructions) > 0 && strings.HasPrefix(string(o.Instructions), `"`) {
		s.Add(KindInstructions, o.Instructions)
	}
	for _, raw := range o.Tools {
		s.Add(KindTool, raw)
	}
	for _, raw := range o.Prompts {
		s.Add(KindPrompt, raw)
	}
	for _, raw := range o.Resources {
		s.Add(KindResource, raw)
	}
	for _, raw := range o.Templates {
		s.Add(KindTemplate, raw)
	}
	return s
}
