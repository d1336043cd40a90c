package audit

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// cleanUpTime bounds the clean-up of a run that was not interrupted.
const cleanUpTime = 2 * time.Minute

// Run audits one target. It returns a report whenever the target could be
// judged at all, unreachable included; the error is for what the caller must
// change (KindUsage, KindRefused) and for our own failures.
//
// When ctx ends before the run is through, the report says what was not reached,
// what was made is removed within Options.CleanUp, and the error is that of ctx.
func Run(ctx context.Context, o Options, target string) (*Report, error) {
	o.fill()
	target, err := NormalizeTarget(target, o.Lab)
	if err != nil {
		return nil, err
	}
	started := o.Now()
	rec := outbound.NewRecorder()
	var number atomic.Int64
	ids := func() int { return int(number.Add(1)) }
	out := outbound.New(outbound.Options{Lab: o.Lab, RootCAs: o.RootCAs, Resolve: o.Resolve, Now: o.Now, Recorder: rec, NextID: ids})
	defer out.Close()
	s := newSession(&o, out, target)
	s.rec, s.ids, s.stubborn = rec, ids, true
	if o.Key != nil {
		if o.Login != nil {
			return nil, kidoban.Errorf(kidoban.KindUsage, "either a key is handed over or somebody logs in, not both")
		}
		rec.Conceal(o.Key.value)
	}
	if o.has(kidoban.T2) || o.has(kidoban.T3) || o.has(kidoban.T4) {
		if err := s.permitted(ctx); err != nil {
			return nil, err
		}
	}
	old, err := Recover(ctx, o, out)
	if err != nil {
		return nil, err
	}
	if o.has(kidoban.T2) || o.loggedIn() {
		if s.ledger, err = OpenLedger(o.StateDir, s.runID); err != nil {
			return nil, err
		}
	}
	results := s.collect(ctx)
	s.emit("clean-up", "", 0, 0)
	// What was made is removed even when the caller has given up, or does so now.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(o.CleanUp, cancel) })()
	grants := s.revokeAll(last) // before the clients go that may revoke
	residue := s.clean(last)
	residue.LeftBehind = append(residue.LeftBehind, grants...)
	s.endSessions(last)
	if s.ledger != nil {
		if err := s.ledger.Close(); err != nil {
			return nil, err
		}
	}
	residue.Registered += old.Registered
	residue.Deleted += old.Deleted
	residue.LeftBehind = append(residue.LeftBehind, old.LeftBehind...)
	rep := s.report(results, residue, out)
	rep.Meta.Started = started.UTC().Format(time.RFC3339)
	rep.DurationMS = o.Now().Sub(started).Milliseconds()
	rep.Exchanges, rep.recorded, rep.Shots = rec.Exchanges(), rec, s.pages
	s.emit("done", "", 0, 0)
	return rep, s.stopped
}

func newSession(o *Options, out *outbound.Client, target string) *session {
	s := &session{o: o, out: out, posts: map[string]int{}, opened: map[string]bool{}}
	s.facts = &Facts{URL: target, Origin: originOf(target), Local: isLoopbackURL(target), Lab: o.Lab, TLS: strings.HasPrefix(target, "https://")}
	s.facts.login, s.facts.keyed = o.walks(), o.keyed()
	s.runID = s.nonce(12)
	return s
}

// collect runs discovery and every probe of the plan and returns one result for
// each check of the catalogue, in catalogue order.
func (s *session) collect(ctx context.Context) []kidoban.Result {
	s.emit("discover", "", 0, 0)
	s.discover(ctx)
	unknown := ctx.Err() != nil // what is there
	var only map[string]bool
	if s.o.Only != nil {
		only = map[string]bool{}
		for _, k := range s.o.Only {
			if c, ok := kidoban.CheckByKey(k); ok {
				only[c.Key()] = true
			}
		}
	}
	done := map[string]kidoban.Result{}
	all := plan()
	for i, p := range all {
		if s.stopped = ctx.Err(); s.stopped != nil {
			break
		}
		s.emit("probe", p.name, i, len(all))
		for _, r := range s.probe(ctx, p, only) {
			done[r.Key()] = better(done[r.Key()], r)
		}
	}
	withoutUpstream(done)
	settlePKCE(done, s.settled)
	pages := texts{}
	var out []kidoban.Result
	for _, c := range kidoban.Checks() {
		r, ok := done[c.Key()]
		switch {
		case !ok && unknown:
			r = untested(c.Key(), kidoban.ReasonInterrupted, "")
		case !ok:
			r = s.unasked(c, only)
		}
		out = append(out, s.complete(r, pages))
	}
	if s.o.loggedIn() && !s.o.walks() {
		ownOnly(out)
	}
	return out
}

// better is the result that stays when a later probe of a higher tier answers a
// question again: what was decided beats what was not, a confirmed finding stays,
// and otherwise the later probe has seen more.
func better(old, now kidoban.Result) kidoban.Result {
	decided := func(r kidoban.Result) bool {
		return r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak || r.Outcome == kidoban.Pass
	}
	finding := old.Outcome == kidoban.Fail || old.Outcome == kidoban.Weak
	switch {
	case old.Outcome == "":
		return now
	case decided(old) && !decided(now), finding && old.Evidence == kidoban.Confirmed, finding && now.Outcome == kidoban.Pass && check(old.Key()).Tier != kidoban.T3:
		return old
	case old.Outcome == kidoban.Inconclusive && now.Outcome == kidoban.NotTested:
		return old
	}
	return now
}

// noUpstream is what a whole login without an upstream says.
const noUpstream = "no upstream was seen during the login"

// withoutUpstream settles the checks about the upstream once a whole login has
// shown that there is none: before the login they could only wait for it.
func withoutUpstream(done map[string]kidoban.Result) {
	login := done["E02-b"]
	if login.Outcome != kidoban.NotApplicable || login.Summary != noUpstream {
		return
	}
	for _, c := range kidoban.Checks() {
		if r, ok := done[c.Key()]; c.Needs&kidoban.NeedsUpstream != 0 && (!ok || r.Outcome == kidoban.NotTested && r.Reason == kidoban.ReasonLogin) {
			a := absent(c.Key(), noUpstream)
			a.Exchanges = login.Exchanges
			done[c.Key()] = a
		}
	}
}

// settlePKCE corrects F5-a to F5-d by what the codes of such requests were worth: what
// the token endpoint refuses is no downgrade.
func settlePKCE(done map[string]kidoban.Result, settled map[string]*tokens) {
	for key, t := range settled {
		old := done[key]
		switch {
		case t == nil || t.x.Response == nil || old.Outcome != kidoban.Fail:
		case t.issued():
			old.Evidence, old.Exchanges = kidoban.Confirmed, append(old.Exchanges, t.x.ID)
			old.Summary += "; its code gives tokens"
			done[key] = old
		case t.x.Status() < 500 && oauthError(t.x) != "":
			done[key] = passed(key, "the code of such a request is worth nothing at the token endpoint"+errorText(t.x), t.x)
		}
	}
}

// probe runs one probe for the keys that may be asked.
func (s *session) probe(ctx context.Context, p probe, only map[string]bool) []kidoban.Result {
	var out []kidoban.Result
	keys := map[string]bool{}
	for _, k := range p.keys {
		c := check(k)
		r, ok := gate(c, s.facts, s.o, only)
		if ok && p.name != baselineProbe {
			r, ok = gateClient(c, s.facts)
		}
		if !ok {
			out = append(out, r)
			continue
		}
		keys[k] = true
	}
	if len(keys) == 0 && !(p.name == baselineProbe && s.facts.AS != nil && leansOnBaseline(only)) || !s.o.has(p.tier) {
		return out
	}
	if p.cost > 0 && s.left() < min(p.cost, 2) {
		for k := range keys {
			out = append(out, untested(k, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
		}
		return out
	}
	s.keys, s.blanks = keys, nil
	judge := p.run(ctx, s)
	s.keys = nil
	for _, r := range judge(s.facts) {
		if keys[r.Key()] {
			if p.tier.Rank() >= kidoban.T3.Rank() {
				r = weigh(r, s.blanks)
			}
			if finding := r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak; ctx.Err() != nil && !finding {
				r = untested(r.Key(), kidoban.ReasonInterrupted, "") // what is missing was not asked
			}
			out = append(out, r)
			delete(keys, r.Key())
		}
	}
	for _, k := range p.keys {
		if keys[k] && p.name == behindProbe && !s.behind {
			continue // the first answer stands
		}
		if keys[k] {
			out = append(out, unclear(k, kidoban.ReasonUnstable, noVerdict))
		}
	}
	return out
}

// leansOnBaseline tells whether one of the checks asked for needs the client and
// the shared requests, although none of the baseline's own is asked for.
func leansOnBaseline(only map[string]bool) bool {
	for k := range only {
		if c := check(k); c.Needs&(kidoban.NeedsClient|kidoban.NeedsUpstream) != 0 || c.Tier.Rank() >= kidoban.T2.Rank() {
			return true
		}
	}
	return false
}

// noVerdict marks a key that its judge forgot: our mistake, said aloud.
const noVerdict = "the probe gave no verdict"

// unasked is the result of a check that no probe answered.
func (s *session) unasked(c kidoban.Check, only map[string]bool) kidoban.Result {
	if r, ok := gate(c, s.facts, s.o, only); !ok {
		return r
	}
	if r, ok := gateClient(c, s.facts); !ok {
		return r
	}
	switch {
	case !s.o.has(c.Tier):
		return untested(c.Key(), kidoban.ReasonTier, detailFor(kidoban.ReasonTier))
	case s.stopped != nil:
		return untested(c.Key(), kidoban.ReasonInterrupted, "")
	}
	return untested(c.Key(), kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
}

// complete adds what is the same for every result of a check.
func (s *session) complete(r kidoban.Result, pages texts) kidoban.Result {
	if r.Exchanges == nil {
		r.Exchanges = []int{}
	}
	page := pages.of(r.ID)
	r.Norms, r.Fix = page.refs, page.fix
	r.Summary, r.Detail = clean(s.conceal(r.Summary)), s.conceal(r.Detail)
	if r.Fingerprint == "" {
		r.Fingerprint = kidoban.Fingerprint(r.Key(), s.facts.URL, r.Slug)
	}
	return r
}

// clean makes a summary fit for one line of any output: what servers wrote into
// it is hostile.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x206f || r == 0xfeff {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len([]rune(s)) > 300 {
		s = string([]rune(s)[:300]) + "…"
	}
	return s
}

// endSessions closes the legacy sessions that the run opened.
func (s *session) endSessions(ctx context.Context) {
	if s.facts.Session == "" {
		return
	}
	s.final(ctx, outbound.Req{Method: http.MethodDelete, URL: s.facts.URL, Probe: "clean-up", Note: "end the session",
		Header: kidoban.Fields{{Name: "Mcp-Session-Id", Value: s.facts.Session}}})
}

// report puts the run together.
func (s *session) report(results []kidoban.Result, residue kidoban.Residue, out *outbound.Client) *Report {
	f := s.facts
	if s.stopped != nil {
		f.Headline, f.Detail = kidoban.HeadlineInterrupted, interruption(results, s.stopped)
	}
	r := newReport(f, results)
	r.Target.Detail, r.Target.Cause = clean(s.conceal(f.Detail)), clean(s.conceal(f.cause()))
	r.Target.Software, r.Target.MovedTo = clean(s.conceal(f.Software)), clean(s.conceal(f.MovedTo))
	r.Residue = residue
	s.mu.Lock()
	r.Requests = s.sent
	s.mu.Unlock()
	hosts := out.Hosts()
	slices.Sort(hosts)
	tiers := slices.Clone(s.o.Tiers)
	slices.Sort(tiers)
	r.Meta.RunID, r.Meta.Authorized = s.runID, clean(s.o.Authorized)
	r.Meta.Tiers, r.Meta.Hosts = tiers, orEmpty(hosts)
	s.concealIn(&r.Run)
	return r
}

// newReport is what facts and results say, whichever way they were got.
func newReport(f *Facts, results []kidoban.Result) *Report {
	r := &Report{}
	r.Schema = kidoban.RunSchema
	r.Target = kidoban.Target{URL: f.URL, Headline: f.Headline, Versions: orEmpty(slices.Clone(f.Versions)),
		Tools: f.Tools, Upstreams: []string{}, Class: string(Classify(f).Class)}
	if f.AS != nil {
		r.Target.Issuer = f.AS.Issuer
	}
	if f.L2 != nil {
		r.Target.Upstreams = f.L2.names()
	}
	r.Results = results
	r.Chains = Chains(results)
	r.Grade, r.Coverage.Tested, r.Coverage.Applicable = grade(f.Headline, results, r.Chains)
	r.Meta = kidoban.Meta{Tool: "kidoban " + kidoban.Version, GradeV: GradeVersion, Metadata: documents(f)}
	return r
}

// interruption says how much an interrupted run did not reach.
func interruption(results []kidoban.Result, cause error) string {
	missing := 0
	for _, r := range results {
		if r.Reason == kidoban.ReasonInterrupted {
			missing++
		}
	}
	why := "the run was stopped"
	if errors.Is(cause, context.DeadlineExceeded) {
		why = "the run's time was up"
	}
	return why + " before " + kidoban.Count(missing, "check", "checks") + " of " + itoa(len(results)) + " could be decided; what stands here is what it had seen"
}

func documents(f *Facts) []kidoban.Document {
	out := []kidoban.Document{}
	add := func(d Document) {
		if d.Err == "" && d.X != nil && d.X.Response != nil {
			body := strings.ToValidUTF8(string(head(d.X.Response.Body, 64<<10)), "\uFFFD")
			out = append(out, kidoban.Document{Kind: d.Kind, URL: d.URL, XID: d.X.ID, Body: body})
		}
	}
	for _, d := range f.PRMs {
		add(d)
	}
	for _, as := range f.Servers {
		for _, d := range as.Tried {
			add(d)
		}
	}
	return out
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func originOf(raw string) string {
	o, err := outbound.Origin(raw)
	if err != nil {
		return ""
	}
	return o
}
