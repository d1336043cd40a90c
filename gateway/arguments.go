package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"sort"
	"strings"

	"github.com/kidoban/kidoban/wire"
)

// ArgKind is what an argument means to the server that gets it.
type ArgKind string

// The kinds. ArgToken is a name or key that has no business with a shell; its
// mode is that of ArgCommand. ArgText is looked at by no guard.
const (
	ArgPath    ArgKind = "path"
	ArgURL     ArgKind = "url"
	ArgCommand ArgKind = "command"
	ArgSQL     ArgKind = "sql"
	// ArgTemplate is a text that a server renders: names in braces, no code.
	ArgTemplate ArgKind = "template"
	ArgToken    ArgKind = "token"
	ArgText     ArgKind = "text"
)

// Mode says what a guard does.
type Mode string

// The modes. A flagged call goes on and stands in the audit log.
const (
	ModeOff   Mode = "off"
	ModeFlag  Mode = "flag"
	ModeBlock Mode = "block"
)

// What happens to parameters that a tool does not declare.
const (
	UndeclaredRefuse = "refuse"
	UndeclaredDrop   = "drop"
	UndeclaredPass   = "pass"
)

// ArgumentRules are the operator's part for one server (G-TG3).
type ArgumentRules struct {
	// Modes by kind. Default: block for stdio servers and those at loopback or
	// private addresses, which sit where an attacker wants to go; flag for others.
	Modes map[ArgKind]Mode
	// Undeclared: refuse (the default), drop or pass.
	Undeclared string
	// Roots are the directories that paths lead into. Default: what the box of a
	// stdio server opens, and the directories on its command line.
	Roots []string
	// Hosts, as host or host:port, may be named by URLs although their addresses
	// are closed.
	Hosts []string
	// OnlyHosts are the only hosts, or host:port, that URLs may name; "*.x" is all
	// below x. OnlyResources are patterns with * of the only URIs that may be read.
	// Without any there is no such bound.
	OnlyHosts, OnlyResources []string
	// Kinds by "tool.parameter" or "parameter", over what names and schema say.
	Kinds map[string]ArgKind
	// Fixed are arguments by "tool.parameter" that the gateway sets, whatever the
	// model says: JSON values.
	Fixed map[string]wire.Raw
}

// ArgumentGuard implements Arguments: first the tool's own schema, then guards by
// kind. Arguments that pass go on as the bytes they came in.
type ArgumentGuard struct {
	schemas schemaCache
	urls    urlGuard
	log     *slog.Logger
}

// NewArgumentGuard returns a guard. resolve finds the addresses of hosts in URLs,
// nil asks the system; log may be nil.
func NewArgumentGuard(resolve func(context.Context, string) ([]netip.Addr, error), log *slog.Logger) *ArgumentGuard {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &ArgumentGuard{schemas: schemaCache{all: map[string]*argSchema{}}, urls: urlGuard{resolve: resolve}, log: log}
}

// Sentences of refusals: constant, so that no word of the server's comes back.
const (
	sayNoFit      = "The arguments do not fit the schema of the tool."
	sayUndeclared = "The arguments hold a parameter that the tool does not declare."
	sayNoSchema   = "The gateway cannot check arguments for this tool. Ask its operator."
)

var sayKind = map[ArgKind]string{
	ArgPath:     "An argument names a place outside the directories that this server may use.",
	ArgURL:      "An argument holds an address that the gateway does not let servers go to.",
	ArgCommand:  "An argument holds characters with a meaning to a command shell.",
	ArgToken:    "An argument holds characters with a meaning to a command shell.",
	ArgTemplate: "An argument holds code in a template.",
	ArgSQL:      "An argument holds SQL that is more than one plain statement of the kind the tool is for.",
}

func noArguments(rule, say string) *Refusal {
	return refuse(http.StatusOK, wire.CodeInvalidParams, rule, say)
}

// Guard implements Arguments.
func (g *ArgumentGuard) Guard(ctx context.Context, c *Call) (wire.Raw, *Refusal) {
	switch {
	case c.Upstream == nil:
		return nil, nil
	case c.Message.Method == wire.MethodResourcesRead, c.Message.Method == wire.MethodSubscribe:
		return nil, g.guardURI(ctx, c)
	case c.Message.Method == wire.MethodPromptsGet:
		return nil, g.guardPrompt(ctx, c)
	case c.Message.Method != wire.MethodToolsCall:
		return nil, nil
	}
	rules, args, changed := c.Upstream.Arguments, c.Params.Arguments, false
	if args == nil {
		args = wire.Raw("{}")
	}
	for _, name := range fixedOf(rules, c.Params.Name) {
		if otherCase(args, name) {
			return nil, noArguments("argument:undeclared", sayUndeclared)
		}
		args, changed = wire.SetMember(args, name, rules.Fixed[c.Params.Name+"."+name]), true
	}
	schema, err := g.schemas.of(c)
	if err != nil {
		return nil, noArguments("argument:schema_unusable", sayNoSchema).because(err)
	}
	if !changed && schema.plain.passes(rules, args) {
		return nil, nil
	}
	if declared, more := schema.declared(args); more {
		switch rules.Undeclared {
		case UndeclaredPass:
		case UndeclaredDrop:
			args, changed = declared, true
		default:
			return nil, noArguments("argument:undeclared", sayUndeclared)
		}
	}
	value, err := decoded(args)
	if err != nil { // the strict reading accepted it
		return nil, noArguments("argument:unreadable", sayNoFit).because(err)
	}
	if err := schema.validate(value); err != nil {
		return nil, noArguments("argument:schema", sayNoFit).because(err)
	}
	w := argWalk{ctx: ctx, guard: g, call: c, rules: rules}
	w.walk("", schema.doc, value)
	if w.refusal != nil || !changed {
		return nil, w.refusal
	}
	params := c.Message.Params
	return wire.SetMember(params, "arguments", args), nil
}

func fixedOf(rules ArgumentRules, tool string) (names []string) {
	for k := range rules.Fixed {
		if name, ok := strings.CutPrefix(k, tool+"."); ok {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// otherCase tells whether args have a member that differs from name in case only:
// some servers read it as name, and would take the model's value for the operator's.
func otherCase(args wire.Raw, name string) (found bool) {
	wire.Each(args, func(member, _ wire.Raw) bool {
		text, _ := wire.String(member)
		found = text != name && strings.EqualFold(text, name)
		return !found
	})
	return found
}

// argWalk looks at every string of the arguments.
type argWalk struct {
	ctx     context.Context
	guard   *ArgumentGuard
	call    *Call
	rules   ArgumentRules
	refusal *Refusal
}

// walk goes down the value with the schema beside it, as far as that goes along.
// name is the nearest member's.
func (w *argWalk) walk(name string, schema, value any) {
	if w.refusal != nil {
		return
	}
	s, _ := schema.(map[string]any)
	switch v := value.(type) {
	case string:
		w.judge(kindOf(w.rules, w.call, name, s, v), v)
	case []any:
		for _, e := range v {
			w.walk(name, s["items"], e)
		}
	case map[string]any:
		props, _ := s["properties"].(map[string]any)
		for member, e := range v {
			if props[member] == nil && name != "" { // a map: its keys are values, too
				w.walk(name, nil, member)
			}
			w.walk(member, props[member], e)
		}
	}
}

// judge asks the guard of the kind.
func (w *argWalk) judge(kind ArgKind, value string) {
	if len(w.rules.OnlyHosts) > 0 && !allowedHost(w.rules.OnlyHosts, value, kind) {
		w.refusal = noArguments("source:host", saySource)
		return
	}
	mode := w.rules.mode(kind, w.call.Upstream)
	if mode == ModeOff {
		return
	}
	why := ""
	switch kind {
	case ArgPath:
		why = badPath(value, w.call.Upstream.roots(), w.call.Upstream.dir())
	case ArgURL:
		why = w.guard.urls.bad(w.ctx, value, w.rules.Hosts)
	case ArgCommand:
		why = badCommand(value)
	case ArgToken:
		why = badToken(value)
	case ArgSQL:
		why = badSQL(value, readOnly(w.call.Tool))
	case ArgTemplate:
		why = badTemplate(value)
	}
	if why != "" {
		w.object(kind, why)
	}
}

// object flags or refuses, as the mode says.
func (w *argWalk) object(kind ArgKind, why string) {
	mode := w.rules.mode(kind, w.call.Upstream)
	if mode == ModeOff {
		return
	}
	rule := "argument:" + string(kind) + ":" + why
	if mode == ModeFlag {
		w.call.rec.Detail = rule
		w.guard.log.Info("an argument was flagged", "request", w.call.ID, "server", w.call.Server, "rule", rule)
		return
	}
	w.refusal = noArguments(rule, sayKind[kind])
}

// mode is the configured one, or the default for where the server is.
func (r ArgumentRules) mode(kind ArgKind, s *Server) Mode {
	if kind == ArgText {
		return ModeOff
	}
	if kind == ArgToken {
		kind = ArgCommand
	}
	if m := r.Modes[kind]; m != "" {
		return m
	}
	if s.Transport == TransportStdio || s.Loopback || s.Private {
		return ModeBlock
	}
	return ModeFlag
}

// readOnly tells whether a tool says that it only reads.
func readOnly(tool wire.Raw) bool {
	text := strings.ToLower(wire.LookupString(tool, "description"))
	return ClassOf(tool) == Reads || strings.Contains(text, "read-only") || strings.Contains(text, "read only") || strings.Contains(text, "readonly")
}
