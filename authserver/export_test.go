package authserver

import "time"

// Settle waits until the watch has looked at every call it was told of.
func (s *Server) Settle() {
	for s.uses.looked.Load() < s.uses.taken.Load() || len(s.uses.in) > 0 {
		time.Sleep(100 * time.Microsecond)
	}
}
