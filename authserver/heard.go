package authserver

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/kidoban/kidoban"
)

// Heard is what an identity provider last said of a user. It holds no secret.
type Heard struct {
	UserID   string
	Provider string   // id of the provider in the config; "" when nothing was heard yet
	Issuer   string   // as configured; with nothing heard, that of the identity
	Claim    string   // the claim that Groups are from; "" for none
	Groups   []string // its values, in order
	At       time.Time
	Ended    time.Time // when the login was found to have ended there; zero: it has not
	Why      string    // for the operator
	Version  int64     // counts changes
}

// Bounds of a groups claim. What is beyond them is refused, never cut: a rule that
// denies a group would otherwise pass by whoever is in enough others.
const (
	maxGroups     = 200
	maxGroupBytes = 256
	maxClaimBytes = 128
)

// minRecheck keeps a provider from being asked at every call.
const minRecheck = time.Minute

// GroupName is what rules call a group of a provider's. No id of a provider holds a
// colon, so that none can name itself into another's.
func GroupName(provider, value string) string { return provider + ":" + value }

// Names are the user's groups as rules name them, as far as x is who said them: what
// was heard of another provider or from another claim counts no more.
func (h Heard) Names(x Provider) []string {
	if x.GroupsClaim == "" || h.Provider != x.ID || h.Issuer != x.Issuer || h.Claim != x.GroupsClaim {
		return nil
	}
	out := make([]string, len(h.Groups))
	for i, g := range h.Groups {
		out[i] = GroupName(x.ID, g)
	}
	return out
}

// Said are the groups as the provider named them then, whatever of it counts today: for
// people to read.
func (h Heard) Said() []string {
	out := make([]string, len(h.Groups))
	for i, g := range h.Groups {
		out[i] = GroupName(h.Provider, g)
	}
	return out
}

// groupsOf reads the groups of an ID token that was verified. had tells whether the
// claim is there at all: Okta and Keycloak leave it out for who is in no group.
func (x Provider) groupsOf(id *oidc.IDToken) (groups []string, had bool, err error) {
	if x.GroupsClaim == "" {
		return nil, false, nil
	}
	bad := func(text string, args ...any) ([]string, bool, error) {
		return nil, false, &loginFault{"provider_groups", kidoban.Errorf(kidoban.KindRefused, "the groups of the ID token cannot be used: "+text, args...)}
	}
	var all map[string]json.RawMessage
	if err := id.Claims(&all); err != nil {
		return bad("it cannot be read")
	}
	// Whom Entra finds in more groups than a token may hold, it sends elsewhere for them.
	var elsewhere map[string]json.RawMessage
	_ = json.Unmarshal(all["_claim_names"], &elsewhere) // none is no such claim
	if _, sent := elsewhere[x.GroupsClaim]; sent || x.GroupsClaim == "groups" && string(all["hasgroups"]) == "true" {
		return bad("the person is in more groups than the provider puts into a token. Let it send fewer: at Entra only the groups assigned to the application, or roles")
	}
	raw, had := all[x.GroupsClaim]
	if !had || string(raw) == "null" {
		return nil, false, nil
	}
	var list []*string // null is no text
	if one := new(string); json.Unmarshal(raw, one) == nil {
		list = []*string{one}
	} else if json.Unmarshal(raw, &list) != nil || slices.Contains(list, nil) {
		return bad("%s is neither a list of texts nor one text", x.GroupsClaim)
	}
	if len(list) > maxGroups {
		return bad("%s holds %d groups, and %d is the most. Let the provider send fewer: only those that rules name", x.GroupsClaim, len(list), maxGroups)
	}
	for _, g := range list {
		if *g == "" || len(*g) > maxGroupBytes || strings.ContainsFunc(*g, notInNames) {
			return bad("%s holds a name that is empty, longer than %d bytes, or not plain text", x.GroupsClaim, maxGroupBytes)
		}
		groups = append(groups, *g)
	}
	slices.Sort(groups)
	return slices.Compact(groups), true, nil
}

// notInNames tells of a character that makes two names look, or become, one.
func notInNames(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }

// hear keeps what a provider said of a user who has just logged in there.
func (s *Server) hear(ctx context.Context, x Provider, userID string, groups []string) error {
	h := Heard{UserID: userID, Provider: x.ID, Issuer: x.Issuer, Claim: x.GroupsClaim, Groups: groups, At: s.deps.Now()}
	if err := s.deps.Store.PutHeard(ctx, h); err != nil {
		return err
	}
	s.live.changed(userID)
	return nil
}

// hearAgain does so for one whose login was renewed there. A login that came meanwhile
// was heard later, and stands.
func (s *Server) hearAgain(ctx context.Context, x Provider, before Heard, groups []string) error {
	if before.UserID == "" { // the user has gone
		return nil
	}
	now := Heard{UserID: before.UserID, Provider: x.ID, Issuer: x.Issuer, Claim: x.GroupsClaim, Groups: groups, At: s.deps.Now(), Version: before.Version}
	done, err := s.deps.Store.SwapHeard(ctx, now)
	if done {
		s.live.changed(now.UserID)
	}
	return err
}
