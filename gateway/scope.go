package gateway

import (
	"slices"

	"github.com/kidoban/kidoban/wire"
)

// Class is how far a tool reaches, as far as its own annotations tell. They are
// the server's word (CL-17): they can make a call need more scope, and less
// only down to reading.
type Class string

// The classes of tools.
const (
	Reads       Class = "read"
	Writes      Class = "write"
	Destructive Class = "destroy"
)

// ClassOf reads a tool's annotations. A tool that says nothing, or was never
// listed, writes.
func ClassOf(tool wire.Raw) Class {
	hint := func(name string) string {
		v, _ := wire.Lookup(tool, "annotations", name)
		return string(v)
	}
	switch {
	case hint("readOnlyHint") == "true":
		return Reads
	case hint("destructiveHint") == "true":
		return Destructive
	}
	return Writes
}

// classScopes are the gateway's own scopes by the class of tools that they open.
var classScopes = map[Class]string{Reads: "mcp:read", Writes: "mcp:write", Destructive: "mcp:destroy"}

// needs gives the scope that each class of a server's tools asks for; nil where
// classes ask for none.
func (st *state) needs(s *server) map[Class]string {
	if st.config.Open || !slices.Equal(s.Scopes, MinScopes) {
		return nil
	}
	return classScopes
}

// scoped asks for the scope of the tool's class, for servers that use the
// gateway's own scopes (E30, RS-08).
func (g *Gateway) scoped(st *state, c *call) *Refusal {
	needs := st.needs(c.server)
	if c.Message.Method != wire.MethodToolsCall || needs == nil {
		return nil
	}
	want, known := needs[ClassOf(c.Tool)]
	if known && st.allows(c.Caller.Scopes, []string{want}) {
		return nil
	}
	return insufficient("scope:"+want, []string{want})
}
