package audit

import (
	"context"
	"slices"

	"github.com/kidoban/kidoban"
)

// A probe asks one question of a target. Its run function sends requests and
// returns what it saw; its judge turns that into results and does nothing else.
// A judge must answer for every key of its probe; a key it leaves out ends as
// inconclusive, which is a mistake that a test catches.
type probe struct {
	name string
	keys []string
	tier kidoban.Tier // the lowest tier at which it sends anything
	cost int          // requests it sends at most; it is not started with fewer left
	run  func(context.Context, *session) func(*Facts) []kidoban.Result
}

// spec is what a probe declares about itself.
type spec struct {
	name string
	keys []string
	tier kidoban.Tier
	cost int
}

// define binds a collector to its judge through the type of the evidence.
func define[E any](s spec, run func(context.Context, *session) E, judge func(*Facts, E) []kidoban.Result) probe {
	return probe{name: s.name, keys: s.keys, tier: s.tier, cost: s.cost,
		run: func(ctx context.Context, ses *session) func(*Facts) []kidoban.Result {
			ev := run(ctx, ses)
			return func(f *Facts) []kidoban.Result { return judge(f, ev) }
		}}
}

// judging makes a probe that sends nothing: its judge reads the facts.
func judging(name string, tier kidoban.Tier, keys []string, judge func(*Facts) []kidoban.Result) probe {
	return probe{name: name, keys: keys, tier: tier,
		run: func(context.Context, *session) func(*Facts) []kidoban.Result { return judge }}
}

// probes returns every probe in the order in which they run: what needs no
// client first, then the most telling requests to the authorization endpoint,
// then registrations (most telling first, because strangers' servers get three),
// then the upstream's side. What the budget does not reach is reported.
func probes() []probe {
	return slices.Concat([]probe{
		// The MCP endpoint and the metadata (T1, no client).
		probeF5Metadata(),
		// The authorization endpoint (T1 with a client), what gives codes away first.
		probeBaseline(),
		probeF2(),
		probeF5(),
		probeF7(),
		probeE26(),
		// Registrations (T2), the two most telling ones first.
		probeF1Https(),
		probeE27Error(),
	}, registrationProbes(), []probe{
		probeF1Http(),
		// The upstream's side (T1 with a client and an upstream).
		probeUpstream(),
		// Less telling forms.
		probeE05(),
		probeF7Near(),
		probeF1Bypass(),
		probeE27Next(),
		probeE26Password(),
		probeF7Https(),
		probeF7Omitted(),
		probeF5Confidential(),
		probeE28Markup(),
	}, lateRegistrationProbes())
}

// loginProbes are the probes that log in, in the order of the catalogue's 5.10:
// codes, the decision, tokens, and last what has to wait.
func loginProbes() []probe {
	return []probe{
		probeConsent(), probeBehind(), probeDocumentConsent(), probeCodes(), probeTokens(), probeEndpointLogin(), probeRefresh(), probeRevocation(), probeTools(),
		probeSecondServer(), probeTwoPeople(), probeLifetimes(),
	}
}

// needsServer are the flaws about an authorization server: without one they do
// not apply.
func needsServer(id string) bool {
	if id[0] == 'F' {
		return true
	}
	switch id {
	case "E01", "E02", "E05", "E06", "E11", "E12", "E13", "E14", "E15", "E16", "E17", "E18", "E19", "E20", "E21", "E22", "E24", "E25", "E26", "E27", "E28":
		return true
	}
	return false
}

// needsRegistration are the flaws about open registration.
func needsRegistration(id string) bool {
	switch id {
	case "F1", "E13", "E14", "E15", "E17", "E18", "E19", "E20":
		return true
	}
	return false
}

// gate says whether check c can be asked at all, from what is known so far. It
// is pure; the caller asks again as more becomes known. With ok the question may
// be put; otherwise the result says why it was not.
func gate(c kidoban.Check, f *Facts, o *Options, only map[string]bool) (kidoban.Result, bool) {
	key := c.Key()
	no := func(r kidoban.Reason) (kidoban.Result, bool) { return untested(key, r, detailFor(r)), false }
	na := func(why string) (kidoban.Result, bool) { return absent(key, why), false }
	switch f.Headline {
	case kidoban.HeadlineUnreachable:
		if key == "E29-c" && f.TLS { // the transport may be the reason
			break
		}
		if r, bad := unanswered(key, f.Discover); bad && f.Discover != nil && f.Discover.Response != nil {
			return r, false
		}
		return unclear(key, kidoban.ReasonNetwork, "the server did not answer"), false
	case kidoban.HeadlineMoved:
		return na("the server has moved; audit its new address")
	case kidoban.HeadlineNotMCP:
		return na("there is no MCP server at this address")
	}
	if only != nil && !only[key] {
		return untested(key, kidoban.ReasonTier, "--only "+key), false
	}
	if r, bad := f.unread(c); bad {
		return r, false
	}
	held := f.keyed && withKey(key)
	switch {
	case f.AS == nil && (needsServer(c.ID) || f.login && c.Tier.Rank() >= kidoban.T3.Rank() || f.keyed && c.Tier == kidoban.T3 && !held):
		return na("the server names no authorization server with metadata")
	case needsRegistration(c.ID) && f.AS != nil && f.AS.Meta.RegistrationEndpoint == "":
		return na("the authorization server offers no dynamic registration")
	case c.ID == "E16" && f.AS != nil && !f.AS.Meta.ClientIDMetadataDocumentSupport:
		return na("the authorization server does not take client metadata documents")
	case c.Needs&kidoban.NeedsTLS != 0 && !f.TLS && f.Local:
		return na("a loopback server without TLS")
	case c.Needs&kidoban.NeedsLegacy != 0 && f.Modern && !f.Legacy:
		return na("the server does not speak the session era")
	case c.Needs&kidoban.NeedsModern != 0 && f.Legacy && !f.Modern:
		return na("the server does not speak the stateless era")
	}
	switch {
	case c.Tier == kidoban.T4 && !(o.both() || key == "E05-d" && o.loggedIn() && o.SecondURL != "" && o.has(kidoban.T4)):
		return no(kidoban.ReasonSecondLogin)
	case c.Tier == kidoban.T3 && !static3[key] && !o.loggedIn() && !held:
		return no(kidoban.ReasonLogin)
	case c.Needs&kidoban.NeedsTool != 0 && len(o.Tools) == 0:
		return no(kidoban.ReasonToolNamed)
	case c.Tier == kidoban.T2 && !o.has(kidoban.T2):
		return no(kidoban.ReasonTier)
	case c.Needs&kidoban.NeedsOwn != 0 && !o.OwnServer && !o.Lab:
		return no(kidoban.ReasonOwnServer)
	case c.Needs&kidoban.NeedsCanary != 0 && o.Canary == nil:
		return no(kidoban.ReasonCanary)
	}
	return kidoban.Result{}, true
}

// unread says that what check c needs was asked for and the answer was hidden: then
// nobody knows whether the server has it.
func (f *Facts) unread(c kidoban.Check) (kidoban.Result, bool) {
	key := c.Key()
	if r, bad := f.unreadServer(key); bad && (needsServer(c.ID) || f.login && c.Tier.Rank() >= kidoban.T3.Rank()) {
		return r, true
	}
	switch {
	case c.Needs&kidoban.NeedsModern != 0 && !f.Modern && f.Discover != nil && hidden(f.Discover):
		return undecided(key, "server/discover", f.Discover)
	case c.Needs&kidoban.NeedsLegacy != 0 && !f.Legacy && f.Init != nil && hidden(f.Init):
		return undecided(key, "initialize", f.Init)
	}
	return kidoban.Result{}, false
}

// unreadServer says the same of the authorization server's metadata.
func (f *Facts) unreadServer(key string) (kidoban.Result, bool) {
	if f.AS != nil {
		return kidoban.Result{}, false
	}
	var docs []Document
	if f.PRM == nil {
		docs = slices.Clone(f.PRMs)
	}
	for _, as := range f.Servers {
		docs = append(docs, as.Tried...)
	}
	for _, d := range docs {
		if r, bad := undecided(key, "the address of the metadata", d.X); bad {
			return r, true
		}
	}
	return kidoban.Result{}, false
}

// static3 are checks of tier T3 that need no login where a consent page, or the
// code itself, comes before any.
var static3 = map[string]bool{"F1-e": true, "F6-B": true, "F6-C": true, "F6-D": true, "F6-F": true}

// gateClient continues gate once the run knows whether it has a client and
// whether the baseline reached an upstream.
func gateClient(c kidoban.Check, f *Facts) (kidoban.Result, bool) {
	key := c.Key()
	if c.Needs&(kidoban.NeedsClient|kidoban.NeedsUpstream) == 0 || f.login && c.Tier == kidoban.T3 || f.keyed && withKey(key) {
		return kidoban.Result{}, true
	}
	if f.Client == nil {
		switch f.NoClient {
		case kidoban.ReasonRateLimit:
			return unclear(key, kidoban.ReasonRateLimit, "registration is limited, so there is no client to test with", lastC0(f)), false
		case kidoban.ReasonChallenge, kidoban.ReasonNetwork:
			return unclear(key, f.NoClient, "registration gave no answer of the server", lastC0(f)), false
		case kidoban.ReasonBudget:
			return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)), false
		}
		return untested(key, kidoban.ReasonClient, detailFor(kidoban.ReasonClient)), false
	}
	if f.Base == nil {
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)), false
	}
	if c.Needs&kidoban.NeedsUpstream != 0 && f.L2 == nil {
		if r, bad := unclearKind(f.Base); bad {
			return unclear(key, r, "the authorization endpoint does not show whether there is an upstream", f.Base.Last()), false
		}
		switch f.Base.Kind {
		case Login, Consent, JSOnly:
			return untested(key, kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin)), false
		case CallbackCode:
			return absent(key, "the server gives a code without asking any upstream", f.Base.Last()), false
		}
		return unclear(key, kidoban.ReasonUnstable, "a valid request does not get as far as an upstream", f.Base.Last()), false
	}
	return kidoban.Result{}, true
}

func lastC0(f *Facts) *kidoban.Exchange {
	if n := len(f.C0); n > 0 {
		return f.C0[n-1].X
	}
	return nil
}
