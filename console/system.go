package console

import (
	"github.com/kidoban/kidoban/limit"
)

// limits shows the rates in force.
func (s *Server) limits(*visit) (any, error) {
	l := s.deps.Limits()
	var out []limit.Limit
	for _, x := range l.All() {
		out = append(out, *x)
	}
	return out, nil
}

// settings shows version and configuration, without secrets.
func (s *Server) settings(*visit) (any, error) { return s.deps.Settings(), nil }
