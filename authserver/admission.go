package authserver

import (
	"context"
	"sync/atomic"

	"github.com/kidoban/kidoban"
)

// admissions are the admitted domains in memory, followed by every replica.
type admissions struct {
	domains atomic.Pointer[map[string]bool]
}

func (a *admissions) has(domain string) bool { return (*a.domains.Load())[domain] }

func (s *Server) loadAdmitted(ctx context.Context) error {
	list, err := s.deps.Store.Admitted(ctx)
	if err != nil {
		return err
	}
	domains := make(map[string]bool, len(list))
	for _, a := range list {
		domains[a.Domain] = true
	}
	s.admitted.domains.Store(&domains)
	return nil
}

// maxQueue bounds how many waiting clients one decision goes through.
const maxQueue = 10_000

// AdmitDomain lets in what client documents of a domain name: those that wait
// now, and later ones without waiting (G-RG6, open-with-review). It returns how
// many waited.
func (s *Server) AdmitDomain(ctx context.Context, domain, by string) (int, error) {
	domain = canonicalHost(domain)
	if domain == "" || len(domain) > 253 {
		return 0, kidoban.Errorf(kidoban.KindUsage, "give the domain of a client document")
	}
	if err := s.deps.Store.AdmitDomain(ctx, Admission{Domain: domain, By: by, Created: s.deps.Now()}); err != nil {
		return 0, err
	}
	n, after := 0, ""
	for seen := 0; seen < maxQueue; {
		page, err := s.deps.Store.ReviewQueue(ctx, after, 500)
		if err != nil {
			return n, err
		}
		for _, c := range page {
			after = c.ID
			if documentHost(c.ID) != domain {
				continue
			}
			if err := s.deps.Store.SetReview(ctx, c.ID, false); err != nil {
				return n, err
			}
			n++
		}
		if seen += len(page); len(page) < 500 {
			break
		}
	}
	s.deps.Observer.Event(Event{At: s.deps.Now(), Name: "admit", Outcome: "ok", Host: domain, UserID: by})
	return n, s.loadAdmitted(ctx)
}

// DismissDomain takes an admission back: new documents of the domain wait again.
// Clients that were let in stay; block the domain to end them.
func (s *Server) DismissDomain(ctx context.Context, domain string) error {
	if err := s.deps.Store.DismissDomain(ctx, domain); err != nil {
		return err
	}
	return s.loadAdmitted(ctx)
}

// Admitted lists the admitted domains, oldest first.
func (s *Server) Admitted(ctx context.Context) ([]Admission, error) {
	return s.deps.Store.Admitted(ctx)
}
