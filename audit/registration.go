package audit

import (
	"bytes"
	"context"
	"slices"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
)

// The checks of client registration beyond redirect URIs on foreign hosts: E13 to
// E20. A stranger's server gets three registrations in all, so one of them asks
// for as much as it can, and what that one cannot decide is named as untested.

// registrationProbes are those worth a place among a stranger's three.
func registrationProbes() []probe {
	return []probe{probeE18(), probeE13("E13-a"), probeE19(), probeE20()}
}

// lateRegistrationProbes come last: they cost many registrations or a collector,
// and the rate test leaves a server that refuses everything.
func lateRegistrationProbes() []probe {
	return []probe{
		probeE13("E13-b"), probeE17Expiry(), probeE14(), probeE14Size(), probeE13("E13-c"),
		probeE16(), probeE15(), probeE17Size(), probeE17Rate(),
	}
}

// attempt is a registration that a check asked for, or why it was not sent.
type attempt struct {
	reg *Registration
	why kidoban.Reason
}

// attempt registers, unless the server has already said what it says to every
// registration: that registration is closed, or that there were too many. Then
// that answer stands for this one too.
func (s *session) attempt(ctx context.Context, key, note string, meta map[string]any) attempt {
	if r := s.facts.closed(); r != nil {
		return attempt{reg: r}
	}
	r, ok := s.register(ctx, key, note, meta)
	if ok {
		return attempt{reg: &r}
	}
	if s.ledger != nil && s.postsSpent() && !s.o.Lab && !s.o.OwnServer {
		return attempt{why: kidoban.ReasonOwnServer}
	}
	return attempt{why: kidoban.ReasonBudget}
}

// closed returns the registration whose answer holds for every other, or nil.
func (f *Facts) closed() *Registration {
	if f.limited != nil {
		return f.limited
	}
	for i := range f.C0 {
		r := &f.C0[i]
		switch st := r.X.Status(); {
		case r.accepted():
		case st == 401, st == 403, st == 404, st == 405, challenged(r.X):
			return r
		}
	}
	return nil
}

// accepted tells whether the attempt made a client.
func (a attempt) accepted() bool { return a.reg != nil && a.reg.accepted() }

// refused tells whether the server looked at what was asked and said no.
func (a attempt) refused() bool {
	return a.reg != nil && !a.reg.accepted() && (a.x().Status() == 400 || a.x().Status() == 422) && !rateLimited(a.x())
}

// blames tells whether a refusal names a member.
func (a attempt) blames(member string) bool {
	return bytes.Contains(head(a.x().Response.Body, 4096), []byte(member))
}

// x is the exchange of an attempt, or nil.
func (a attempt) x() *kidoban.Exchange {
	if a.reg == nil {
		return nil
	}
	return a.reg.X
}

// meta is what the server says it registered.
func (a attempt) meta() *oauth.ClientMetadata { return &a.reg.Client.Meta }

// turnedDown judges an attempt that made no client. ok is false when it made one.
// A refusal passes only where a harmless registration is accepted: otherwise it
// says nothing about what was asked.
func (a attempt) turnedDown(key, what string, f *Facts) (r kidoban.Result, ok bool) {
	if a.reg == nil {
		return untested(key, a.why, detailFor(a.why)), true
	}
	if r, bad := unanswered(key, a.reg.X); bad {
		return r, true
	}
	if a.reg.accepted() {
		return kidoban.Result{}, false
	}
	x := a.reg.X
	switch st := x.Status(); {
	case st == 401 || st == 403 || st == 404 || st == 405:
		return passed(key, "registration is closed to strangers: status "+itoa(st), x), true
	case st >= 500:
		return unclear(key, kidoban.ReasonUnstable, "registration fails with status "+itoa(st)+" on "+what, x), true
	case st < 400:
		return unclear(key, kidoban.ReasonUnstable, "registration answers with status "+itoa(st)+" and no client", x), true
	case f.Client == nil && len(f.C0) > 0:
		return unclear(key, kidoban.ReasonUnstable, "registration refuses a harmless client too, so its refusal of "+what+" shows nothing", f.C0[len(f.C0)-1].X, x), true
	}
	return passed(key, "registration refuses "+what+" with status "+itoa(x.Status())+errorText(x), x), true
}

// one is a judge's answer of a single result.
func one(r kidoban.Result) []kidoban.Result { return []kidoban.Result{r} }

// secretMethod is the method that confidential clients are registered with.
func secretMethod(f *Facts) string {
	const basic, post = "client_secret_basic", "client_secret_post"
	if have := f.AS.Meta.TokenAuthMethods(); !slices.Contains(have, basic) && slices.Contains(have, post) {
		return post
	}
	return basic
}
