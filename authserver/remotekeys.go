package authserver

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
)

// remoteKeys caches key sets that clients and identity providers publish.
// Entries are few and small; the oldest goes when there are too many.
type remoteKeys struct {
	mu     sync.Mutex
	sets   map[string]remoteSet
	flight singleflight.Group
}

type remoteSet struct {
	set jose.JSONWebKeySet
	err error
	at  time.Time
}

const (
	maxRemoteSets  = 1000
	remoteSetLife  = 5 * time.Minute
	remoteSetRetry = 30 * time.Second // after a failure
)

// clientKeys returns the keys that a client registered by value or by reference.
func (s *Server) clientKeys(ctx context.Context, cl *client) (jose.JSONWebKeySet, error) {
	if cl.meta.JWKS != nil {
		return parseJWKS(cl.meta.JWKS)
	}
	return s.remoteKeySet(ctx, cl.meta.JWKSURI)
}

// remoteKeySet fetches a published key set through the guarded client. A failure
// is remembered for a short while, so that a client cannot make us knock at
// somebody's door with every request.
func (s *Server) remoteKeySet(ctx context.Context, url string) (jose.JSONWebKeySet, error) {
	if have, ok := s.keptKeySet(url); ok {
		return have.set, have.err
	}
	// The flight outlives the request that began it: who hangs up would else have his
	// failure remembered for everybody.
	v, err, _ := s.jwks.flight.Do(url, func() (any, error) {
		if have, ok := s.keptKeySet(url); ok { // by a flight that ended since
			return have.set, have.err
		}
		now := s.deps.Now()
		set, err := s.fetchKeySet(context.WithoutCancel(ctx), url)
		s.keepKeySet(url, remoteSet{set, err, now})
		return set, err
	})
	set, _ := v.(jose.JSONWebKeySet)
	return set, err
}

// keptKeySet returns what is remembered of url and not yet too old.
func (s *Server) keptKeySet(url string) (remoteSet, bool) {
	now := s.deps.Now()
	s.jwks.mu.Lock()
	defer s.jwks.mu.Unlock()
	have, ok := s.jwks.sets[url]
	life := remoteSetLife
	if have.err != nil {
		life = remoteSetRetry
	}
	return have, ok && now.Sub(have.at) < life
}

func (s *Server) keepKeySet(url string, set remoteSet) {
	s.jwks.mu.Lock()
	defer s.jwks.mu.Unlock()
	if s.jwks.sets == nil {
		s.jwks.sets = map[string]remoteSet{}
	}
	if len(s.jwks.sets) >= maxRemoteSets {
		oldest := ""
		for u, e := range s.jwks.sets {
			if oldest == "" || e.at.Before(s.jwks.sets[oldest].at) {
				oldest = u
			}
		}
		delete(s.jwks.sets, oldest)
	}
	s.jwks.sets[url] = set
}

func (s *Server) fetchKeySet(ctx context.Context, url string) (jose.JSONWebKeySet, error) {
	if s.deps.Outbound == nil || oauth.CheckLink(url) != nil && !s.labURL(url) {
		return jose.JSONWebKeySet{}, kidoban.Errorf(kidoban.KindRefused, "the key set's URL is not one that may be fetched")
	}
	x, err := s.deps.Outbound.Do(ctx, outbound.Req{Method: http.MethodGet, URL: url, Timeout: 5 * time.Second, MaxBody: 64 << 10,
		Header: kidoban.Fields{{Name: "Accept", Value: "application/jwk-set+json, application/json"}}})
	if err != nil {
		return jose.JSONWebKeySet{}, err
	}
	if x.Status() != http.StatusOK || x.Err != "" || x.Response.Truncated {
		return jose.JSONWebKeySet{}, kidoban.Errorf(kidoban.KindUnreachable, "the key set's server answered with status %d", x.Status())
	}
	return parseJWKS(x.Response.Body)
}

// labURL tells whether the guarded client itself allows a URL that the strict
// rule for links does not: loopback in a laboratory.
func (s *Server) labURL(url string) bool {
	return strings.HasPrefix(url, "http://") && s.deps.Outbound.CheckURL(url) == nil
}

func base64Hash(s string) string {
	h := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(h[:])
}
