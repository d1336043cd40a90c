package authserver

import (
	"slices"
	"strings"
)

// A consent for a resource with many servers behind it names them: what is added
// later, or becomes another server under its old name, was not agreed to. The names
// come as one text, fields divided by spaces, from whoever knows the servers: each
// field is a server's name, an equals sign, and a mark of what the server is. It goes
// with the code into the grant and never changes there; new servers need a new
// consent. The gateway holds calls to it.

// CoversAll is the coverage of a grant whose resource says it all, or which no person
// gave: of one server, of a client in its own name, of an assertion.
const CoversAll = "*"

// covers is what a consent for the resource would name now.
func (s *Server) covers(resource string) string {
	if s.deps.Covers == nil {
		return CoversAll
	}
	return s.deps.Covers(resource)
}

// withinCoverage tells whether everything that now names was named before.
func withinCoverage(now, before string) bool {
	if before == CoversAll {
		return true
	}
	had := strings.Fields(before)
	for f := range strings.FieldsSeq(now) {
		if !slices.Contains(had, f) {
			return false
		}
	}
	return true
}

// coveredServers lists the servers' names of a coverage.
func coveredServers(covers string) (names []string) {
	for f := range strings.FieldsSeq(covers) {
		if name, _, ok := strings.Cut(f, "="); ok {
			names = append(names, name)
		}
	}
	return names
}

// Servers lists the servers that the consent named; nil for a grant that covers
// whatever its resource is.
func (g Grant) Servers() []string { return coveredServers(g.Covers) }

// left lists the servers of now that a grant does not cover.
func left(now, covers string) (names []string) {
	if covers == CoversAll || covers == "" {
		return nil
	}
	had := strings.Fields(covers)
	for f := range strings.FieldsSeq(now) {
		if name, _, ok := strings.Cut(f, "="); ok && !slices.Contains(had, f) {
			names = append(names, name)
		}
	}
	return names
}
