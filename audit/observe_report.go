package audit

import (
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// ObservedOptions choose what a report is about.
type ObservedOptions struct {
	Target string // URL of the MCP server; "" takes the one with most messages
	RunID  string
	Now    func() time.Time // nil: time.Now
}

// Targets returns the addresses of the MCP servers in the traffic, the busiest
// first.
func (o *Observation) Targets() []string { return o.mcpPlaces() }

// Report judges what has been observed. Every check of the catalogue has a
// result: what the traffic does not show is not_tested, with the command that
// would test it. KindInput when no MCP server can be made out.
func (o *Observation) Report(opt ObservedOptions) (*Report, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	target := opt.Target
	if target == "" {
		places := o.mcpPlaces()
		if o.number == 0 {
			return nil, kidoban.Errorf(kidoban.KindInput, "nothing recorded is an HTTP exchange that can be read: record a client while it talks to the server")
		}
		if len(places) == 0 {
			return nil, kidoban.Errorf(kidoban.KindInput, "the traffic (%s) holds no MCP message; give the server's URL beside it, or record the client's traffic too", kidoban.Count(o.number, "exchange", "exchanges"))
		}
		target = places[0]
	}
	if n, err := NormalizeTarget(target, true); err == nil {
		target = n
	} else if opt.Target != "" && !strings.HasPrefix(target, "http://") {
		return nil, err
	}
	t := o.sortTraffic(target)
	results := o.results(t)
	detail := t.f.Detail
	if notes := o.allNotes(); len(notes) > 0 {
		detail = strings.TrimPrefix(detail+"; partial: "+strings.Join(notes, "; "), "; ")
	}
	r := newReport(t.f, results)
	r.recorded = outbound.NewRecorder()
	r.Target.Detail, r.Target.Software = clean(detail), clean(t.f.Software)
	r.Residue = kidoban.Residue{LeftBehind: []kidoban.LeftOver{}}
	r.Meta.RunID, r.Meta.Started = opt.RunID, opt.Now().UTC().Format(time.RFC3339)
	r.Meta.Tiers, r.Meta.Hosts = []kidoban.Tier{kidoban.T0}, []string{}
	for _, x := range o.cited(t, results) {
		r.recorded.Add(*x)
	}
	r.Exchanges = r.recorded.Exchanges()
	return r, nil
}

// allNotes are the notes of reading and of the bounds.
func (o *Observation) allNotes() []string {
	notes := slices.Clone(o.notes)
	if o.unreadable > 0 {
		notes = append(notes, kidoban.Count(o.unreadable, "entry without a readable request was", "entries without a readable request were")+" left out")
	}
	if o.dropped > 0 {
		notes = append(notes, kidoban.Count(o.dropped, "message beyond the bound was", "messages beyond the bound were")+" not judged")
	}
	return notes
}

// results are one for each check, in catalogue order.
func (o *Observation) results(t *traffic) []kidoban.Result {
	found := map[string]kidoban.Result{}
	for _, r := range t.judge() {
		if !check(r.Key()).Passive || r.Outcome == kidoban.NotTested || r.Outcome == kidoban.Inconclusive && len(r.Exchanges) == 0 {
			continue
		}
		found[r.Key()] = r
	}
	s := &session{facts: t.f}
	pages := texts{}
	var out []kidoban.Result
	for _, c := range kidoban.Checks() {
		r, ok := found[c.Key()]
		if !ok || t.f.Headline == kidoban.HeadlineNotMCP {
			r = t.unseen(c)
		}
		out = append(out, s.complete(r, pages))
	}
	return out
}

// unseen is the result of a check that the traffic does not decide.
func (t *traffic) unseen(c kidoban.Check) kidoban.Result {
	f := t.f
	switch {
	case f.Headline == kidoban.HeadlineNotMCP:
	case c.Needs&kidoban.NeedsTLS != 0 && !f.TLS && f.Local:
		return absent(c.Key(), "a loopback server without TLS")
	case c.Needs&kidoban.NeedsLegacy != 0 && f.Modern && !f.Legacy:
		return absent(c.Key(), "the server does not speak the session era")
	case c.Needs&kidoban.NeedsModern != 0 && f.Legacy && !f.Modern:
		return absent(c.Key(), "the server does not speak the stateless era")
	}
	r := blank(c.Key())
	r.Outcome, r.Reason, r.Detail = kidoban.NotTested, kidoban.ReasonTier, "kidoban audit "+f.URL
	r.Summary = "not tested: only a request of its own would tell"
	if c.Passive {
		r.Summary = "not tested: the recorded traffic does not show it"
	}
	switch c.Tier {
	case kidoban.T1, kidoban.T0:
		if c.Needs&kidoban.NeedsClient != 0 {
			r.Detail += " " + detailFor(kidoban.ReasonTier)
		}
	case kidoban.T2:
		r.Detail += " " + detailFor(kidoban.ReasonTier)
	case kidoban.T3:
		r.Reason, r.Detail = kidoban.ReasonLogin, r.Detail+" --login"
	case kidoban.T4:
		r.Reason, r.Detail = kidoban.ReasonSecondLogin, r.Detail+" "+detailFor(kidoban.ReasonSecondLogin)
	}
	return r
}

// cited are the exchanges that results and documents name, in order.
func (o *Observation) cited(t *traffic, results []kidoban.Result) (out []*kidoban.Exchange) {
	want := map[int]bool{}
	for _, r := range results {
		for _, id := range r.Exchanges {
			want[id] = true
		}
	}
	for _, d := range documents(t.f) {
		want[d.XID] = true
	}
	for _, x := range o.kept {
		if want[x.ID] {
			out = append(out, x)
		}
	}
	return out
}
