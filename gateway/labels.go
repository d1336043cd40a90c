package gateway

import (
	"slices"
	"strings"
	"sync"

	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/sandbox"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

// labeler finds the labels of tools and resources, on which the barrier between
// what comes in and what goes out stands (G-TG5). It reads names, annotations
// and what the server can reach; the operator's word (Server.Labels) goes over
// it.
type labeler struct {
	scanner *toolscan.Scanner
	mu      sync.Mutex
	objects map[labelled]policy.Object // guarded by mu
}

// labelled is what the labels of a tool depend on. A server is its config, which is
// another one after a change.
type labelled struct {
	server    *Server
	name, sum string // of the tool; hash of its definition, "" without one
}

// maxLabelled bounds the definitions remembered.
const maxLabelled = 20_000

func (l *labeler) capabilities(tool wire.Raw) []toolscan.Capability {
	it := toolscan.Item{Kind: toolscan.KindTool, Name: wire.LookupString(tool, "name"), Raw: []byte(tool)}
	return l.scanner.Item(toolscan.NewContext(toolscan.Server{Items: []toolscan.Item{it}}, nil), it).Capabilities
}

// object is a tool as policy sees it; sum is the hash of def, and def may be nil.
// Whoever has the object changes nothing in it.
func (l *labeler) object(s *Server, server, name, sum string, def wire.Raw) policy.Object {
	key := labelled{s, name, sum}
	l.mu.Lock()
	o, ok := l.objects[key]
	l.mu.Unlock()
	if ok {
		return o
	}
	o = policy.Object{Kind: policy.Tool, Server: server, Name: name, Class: string(ClassOf(def)), Labels: slices.Clip(l.tool(s, name, def))}
	if len(name) > maxLabelledName {
		return o
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.objects == nil || len(l.objects) >= maxLabelled {
		l.objects = map[labelled]policy.Object{}
	}
	key.name, o.Name = strings.Clone(name), strings.Clone(name) // not the message it came in
	l.objects[key] = o
	return o
}

// forget empties the memory.
func (l *labeler) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.objects = nil
}

// maxLabelledName is the longest name of a tool that is remembered, in bytes.
const maxLabelledName = 256

// tool labels a tool. def may be nil: then the name alone speaks.
func (l *labeler) tool(s *Server, name string, def wire.Raw) []string {
	var caps []toolscan.Capability
	if def != nil {
		caps = l.capabilities(def)
	}
	has := func(c toolscan.Capability) bool { return slices.Contains(caps, c) }
	open, _ := wire.Lookup(def, "annotations", "openWorldHint")
	verb := toolscan.WriteVerb(name)
	reads := ClassOf(def) == Reads || toolscan.ReadVerb(name)
	var out []string
	add := func(label string, derived bool) {
		if mine, set := s.Labels[label]; set {
			derived = matchAny(mine, name)
		}
		if derived {
			out = append(out, label)
		}
	}
	add(policy.Untrusted, has(toolscan.CapNetwork) || toolscan.WrittenByStrangers(name) || reads && string(open) == "true")
	add(policy.Private, reads && (s.Account == AccountUser || has(toolscan.CapPrivate)))
	sends := !reads && string(open) != "false" && (verb != "" || has(toolscan.CapMessage) || has(toolscan.CapPayment) || ClassOf(def) == Destructive || string(open) == "true")
	add(policy.Sends, s.reachesOut() && sends)
	// MCP takes a tool without annotations for one that changes something in an open
	// world. A name that says nothing does not make it harmless; only the operator,
	// who said which tools send, does.
	_, told := s.Labels[policy.Sends]
	add(policy.Unclear, s.reachesOut() && !told && !sends && !reads && string(open) != "false")
	add(policy.Reaches, s.reachesOut() && (has(toolscan.CapNetwork) || takesURL(def)))
	return s.ownLabels(out, name)
}

// resource labels a resource by its URI.
func (l *labeler) resource(s *Server, uri string) []string {
	var out []string
	add := func(label string, derived bool) {
		if mine, set := s.Labels[label]; set {
			derived = matchAny(mine, uri)
		}
		if derived {
			out = append(out, label)
		}
	}
	scheme, _, _ := strings.Cut(strings.ToLower(uri), ":")
	add(policy.Untrusted, scheme == "http" || scheme == "https")
	add(policy.Private, s.Account == AccountUser || s.Stdio != nil || scheme == "file")
	return s.ownLabels(out, uri)
}

// ownLabels adds the operator's labels that have no meaning of ours.
func (s *Server) ownLabels(out []string, name string) []string {
	for label, patterns := range s.Labels {
		switch label {
		case policy.Untrusted, policy.Private, policy.Sends, policy.Reaches, policy.Unclear:
		default:
			if matchAny(patterns, name) {
				out = append(out, label)
			}
		}
	}
	slices.Sort(out)
	return out
}

// reachesOut tells whether what the server is sent can leave: it is remote, or
// its box has a network.
func (s *Server) reachesOut() bool {
	return s.Stdio == nil || s.Stdio.Network == sandbox.NetworkOut || s.Stdio.Runner == sandbox.RunnerNone
}

// takesURL tells whether a tool declares a parameter for an address.
func takesURL(def wire.Raw) bool {
	props, ok := wire.Lookup(def, "inputSchema", "properties")
	if !ok || len(props) == 0 || props[0] != '{' {
		return false
	}
	found := false
	wire.Each(props, func(name, schema wire.Raw) bool {
		text, _ := wire.String(name)
		words := wordsOf(text)
		found = len(words) > 0 && kindWords[words[len(words)-1]] == ArgURL
		if len(schema) > 0 && schema[0] == '{' {
			found = found || kindFormats[wire.LookupString(schema, "format")] == ArgURL
		}
		return !found
	})
	return found
}

// matchAny matches a name against patterns with * for any run of characters.
func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matchPattern(p, name) })
}

// matchPattern is linear: each piece between stars is searched once, from the
// left, and the last one must end the name.
func matchPattern(p, name string) bool {
	pieces := strings.Split(p, "*")
	if len(pieces) == 1 {
		return p == name
	}
	if !strings.HasPrefix(name, pieces[0]) {
		return false
	}
	name = name[len(pieces[0]):]
	for _, piece := range pieces[1 : len(pieces)-1] {
		i := strings.Index(name, piece)
		if i < 0 {
			return false
		}
		name = name[i+len(piece):]
	}
	return strings.HasSuffix(name, pieces[len(pieces)-1])
}
