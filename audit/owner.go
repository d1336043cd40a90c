package audit

import (
	"context"
	"net"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// permitted enforces audit principle 5: off loopback, state-creating tiers need
// the name of who allowed it, or a proof that the tester runs the server. Who
// calls the server his own must prove it too, or name who says so.
func (s *session) permitted(ctx context.Context) error {
	if s.facts.Local {
		return nil
	}
	if s.o.Authorized != "" {
		if len(s.o.Authorized) > 500 {
			return kidoban.Errorf(kidoban.KindUsage, "the authorization statement is longer than 500 characters")
		}
		return nil
	}
	if s.o.has(kidoban.T4) {
		return kidoban.Errorf(kidoban.KindUsage, "two accounts (T4) are tested outside a lab with a written statement only: say who allowed it with --authorized \"…\"")
	}
	host := hostOf(s.facts.URL)
	proof, err := OwnershipProof(s.o.StateDir, host)
	if err != nil {
		return err
	}
	if s.fileProof(ctx, proof) || s.recordProof(ctx, proof) {
		s.o.Authorized = "proof of ownership published by " + host
		return nil
	}
	return kidoban.Errorf(kidoban.KindUsage, "tests that create state need permission: say who gave it with --authorized \"…\", or publish the line\n  %s\n"+
		"at https://%s/.well-known/kidoban-audit.txt, or as a TXT record of _kidoban-audit.%s", proof, host, bareHost(host))
}

func (s *session) fileProof(ctx context.Context, proof string) bool {
	u, err := url.Parse(s.facts.URL)
	if err != nil {
		return false
	}
	u.Path, u.RawPath, u.RawQuery = "/.well-known/kidoban-audit.txt", "", ""
	x := s.do(ctx, outbound.Req{URL: u.String(), Probe: "permission", Note: "proof of ownership", MaxBody: 4096})
	if x.Status() != 200 {
		return false
	}
	for _, line := range strings.Split(string(x.Response.Body), "\n") {
		if strings.TrimSpace(line) == proof {
			return true
		}
	}
	return false
}

func (s *session) recordProof(ctx context.Context, proof string) bool {
	lookup := s.o.TXT
	if lookup == nil {
		lookup = net.DefaultResolver.LookupTXT
	}
	host := bareHost(hostOf(s.facts.URL))
	if net.ParseIP(host) != nil {
		return false
	}
	records, err := lookup(ctx, "_kidoban-audit."+host)
	if err != nil {
		return false
	}
	for _, r := range records {
		if strings.TrimSpace(r) == proof {
			return true
		}
	}
	return false
}

func bareHost(hostport string) string {
	u, err := url.Parse("https://" + hostport)
	if err != nil {
		return hostport
	}
	return u.Hostname()
}
