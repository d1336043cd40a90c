package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/kidoban/kidoban"
)

// A consent for the aggregate names the servers that were behind it. A server that
// was added later, or that became another under its name (its address, its program,
// whose account it is used with), was not agreed to: for the grants of before it is
// left out of lists and streams, and who calls it is told to ask for consent again,
// with the challenge that clients know from scopes (RS-08).

// CoversAll is the coverage of a grant that no person gave, or that is for one server.
const CoversAll = "*"

// coverageForm begins a coverage, so that none is empty.
const coverageForm = "1"

// maxCoverages bounds the grants whose coverage is remembered, and the different
// coverages among them.
const maxCoverages = 20_000

// mark is what a consent means by a server's name: 72 bits of a hash.
func (s *Server) mark() string {
	parts := []string{s.Name, s.Transport, s.URL, s.Account}
	if s.Stdio != nil {
		parts = append(append(parts, s.Stdio.Command), s.Stdio.Args...)
	}
	return base64.RawURLEncoding.EncodeToString(binding(parts...)[:9])
}

// Coverage is what a consent for the resource names now: each server behind the
// aggregate as name=mark, in order of name.
func (g *Gateway) Coverage(resource string) string {
	st := g.state.Load()
	for _, t := range st.targets {
		if t.resource != resource || t.server != nil {
			continue
		}
		fields := []string{}
		for _, s := range st.servers {
			fields = append(fields, s.Name+"="+s.mark)
		}
		slices.Sort(fields)
		return strings.Join(append([]string{coverageForm}, fields...), " ")
	}
	return CoversAll
}

// coverage is a parsed one: marks by name. nil is everything.
type coverage map[string]string

func (v *coverage) has(s *server) bool {
	return v == nil || (*v)[s.Name] == s.mark
}

// covers remembers what grants cover. A grant's coverage never changes, and most
// grants share theirs with others.
type covers struct {
	mu      sync.RWMutex
	byGrant map[string]*coverage   // guarded by mu
	byText  map[[32]byte]*coverage // guarded by mu
}

// findCoverage finds what the caller's grant covers. What cannot be found out covers
// nothing.
func (g *Gateway) findCoverage(c *call) *Refusal {
	if c.target.server != nil || g.deps.Coverage == nil {
		return nil
	}
	v, err := g.covers.of(c.r.Context(), g.deps.Coverage, c.Caller.Grant)
	switch {
	case err != nil && kidoban.KindOf(err) == kidoban.KindNotFound: // a database that was restored knows nothing of it
		return unauthorized("token:revoked", "invalid_token", "The access was revoked. Connect again.").because(err)
	case err != nil:
		return (&Refusal{Status: http.StatusServiceUnavailable, Rule: "token:coverage", Retry: 2, Say: "It cannot be checked just now what the access covers. Try again in a moment."}).because(err)
	}
	c.covers = v
	return nil
}

func (k *covers) of(ctx context.Context, from Coverage, grant string) (*coverage, error) {
	k.mu.RLock()
	v, ok := k.byGrant[grant]
	k.mu.RUnlock()
	if ok {
		return v, nil
	}
	text, err := from.Covers(ctx, grant)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byGrant == nil || len(k.byGrant) >= maxCoverages {
		k.byGrant, k.byText = map[string]*coverage{}, map[[32]byte]*coverage{}
	}
	if text != CoversAll {
		sum := sha256.Sum256([]byte(text))
		if v = k.byText[sum]; v == nil {
			v = parseCoverage(text)
			k.byText[sum] = v
		}
	}
	k.byGrant[grant] = v
	return v, nil
}

func parseCoverage(text string) *coverage {
	v := coverage{}
	for f := range strings.FieldsSeq(text) {
		if name, mark, ok := strings.Cut(f, "="); ok {
			v[name] = mark
		}
	}
	return &v
}

// notHere is the answer for a name at the aggregate that leads nowhere: to a server
// that the consent does not name, it says how to get there.
func (g *Gateway) notHere(c *call, server, say string) *Refusal {
	s := c.st.servers[server]
	if s == nil || c.covers.has(s) || !g.mayReach(c, s) {
		return unknownName(say)
	}
	r := insufficient("consent:server", c.Caller.Scopes)
	r.Say = "The server " + s.Name + " was added or changed after access was granted. Connect again and agree to it."
	return r
}

// uncovered lists the servers that the caller could have but for the consent.
func (g *Gateway) uncovered(c *call) (names []string) {
	if c.covers == nil {
		return nil
	}
	for _, s := range c.st.servers {
		if !c.covers.has(s) && g.mayReach(c, s) {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}
