package policy

import (
	"encoding/json"
	"slices"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
)

// check finds what would fail when the policy is evaluated, and returns which
// members of the context it reads. It walks the policy's JSON form, which is
// part of Cedar's specification.
func (c *compiler) check(where string, p *cedar.Policy) (reads map[string]bool) {
	reads = map[string]bool{}
	raw, err := p.MarshalJSON()
	if err != nil {
		c.bad(where, "the policy cannot be read back: %v", err)
		return reads
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		c.bad(where, "the policy cannot be read back: %v", err)
		return reads
	}
	w := policyWalk{c: c, where: where, reads: reads}
	w.scope("principal", doc["principal"], "User", "Group")
	w.scope("action", doc["action"], "Action")
	w.scope("resource", doc["resource"], "Server", "Tool", "Prompt", "Resource")
	w.walk(doc["conditions"])
	return reads
}

type policyWalk struct {
	c     *compiler
	where string
	reads map[string]bool
}

// scope judges the head of a policy.
func (w *policyWalk) scope(part string, v any, allowed ...string) {
	m, _ := v.(map[string]any)
	if t, ok := m["entity_type"].(string); ok && !slices.Contains(allowed, t) {
		w.c.bad(w.where, "%s is %s can never be: it is one of %s", part, t, strings.Join(allowed, ", "))
	}
	one := func(v any) {
		e, _ := v.(map[string]any)
		t, _ := e["type"].(string)
		if e == nil {
			return
		}
		if !slices.Contains(allowed, t) {
			w.c.bad(w.where, "%s cannot be a %s: it is one of %s", part, t, strings.Join(allowed, ", "))
			return
		}
		w.entity(e)
	}
	one(m["entity"])
	if in, ok := m["in"].(map[string]any); ok {
		one(in["entity"])
	}
	list, _ := m["entities"].([]any)
	for _, e := range list {
		one(e)
	}
}

// entity judges a literal entity.
func (w *policyWalk) entity(e map[string]any) {
	t, _ := e["type"].(string)
	id, _ := e["id"].(string)
	switch t {
	case "Action":
		if !slices.Contains(actions, Action(id)) {
			w.c.bad(w.where, "there is no action %q: there are %s", id, joined(actions))
		}
	case "User":
	case "Group":
		w.c.set.groups[id] = true
	case "Server":
		w.c.knownServer(w.where, id)
	case "Tool", "Prompt", "Resource":
		server, name, _ := strings.Cut(id, "/")
		if name == "" {
			w.c.bad(w.where, "%s::%q names no server: write %s::\"server/name\"", t, id, t)
			return
		}
		w.c.knownServer(w.where, server)
	default:
		w.c.bad(w.where, "there is no entity type %q: there are User, Group, Action, %s", t, joined(kinds))
	}
}

func (c *compiler) knownServer(where, server string) {
	if c.o.Servers != nil && !strings.Contains(server, "*") && !slices.Contains(c.o.Servers, server) {
		c.warn(where, "there is no server %q", server)
	}
}

// walk looks at every expression.
func (w *policyWalk) walk(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			w.walk(e)
		}
	case map[string]any:
		for op, arg := range v {
			m, _ := arg.(map[string]any)
			switch op {
			case ".", "has":
				attr, _ := m["attr"].(string)
				if w.access(m["left"], attr) {
					continue
				}
			case "__entity":
				w.entity(m)
				continue
			case "is":
				if t, _ := m["entity_type"].(string); t != "User" && t != "Group" && !slices.Contains(kinds, Kind(t)) {
					w.c.bad(w.where, "there is no entity type %q", t)
				}
			case "Value":
				if e, ok := m["__entity"].(map[string]any); ok {
					w.entity(e)
				}
				continue
			case "Var":
				if arg == "context" { // whole: it may be compared, or come out of an if
					w.reads["arguments"], w.reads["session"] = true, true
				}
				continue
			}
			w.walk(arg)
		}
	}
}

// access judges an attribute of a variable; false means that it is one of
// something else, such as the arguments, which have no schema here.
func (w *policyWalk) access(left any, attr string) bool {
	m, _ := left.(map[string]any)
	name, ok := m["Var"].(string)
	if !ok {
		return false
	}
	if !slices.Contains(attributes[name], attr) {
		w.c.bad(w.where, "%s has no %q: there are %s", name, attr, joined(attributes[name]))
	}
	switch {
	case name == "context":
		w.reads[attr] = true
	case attr == "groups":
		w.c.set.anyGroup = true
	}
	return true
}

func joined[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return strings.Join(out, ", ")
}
