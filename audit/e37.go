package audit

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/browser"
	"github.com/kidoban/kidoban/wire"
)

// Two people (T4): does one get what is the other's? Both accounts are the
// tester's own.

type twoPeople struct {
	none kidoban.Result
	has  bool
	a, b *tokens

	legacy, modern bool

	sharedX      []*kidoban.Exchange // reads of what one list for both names
	notTheirs    bool                // of it, the second person may not read something
	listA, listB *kidoban.Exchange   // resources of each
	urisA, urisB []string
	reads        []*kidoban.Exchange // B reads what is A's
	readOne      bool

	sidX       *kidoban.Exchange // B's token in A's session
	sid        string
	sidShowsA  bool
	handle     string // name of a handle that a tool of A's gave
	handleX    []*kidoban.Exchange
	handleWork bool
	state      *kidoban.Exchange   // the answer that holds a requestState of A's
	stateX     []*kidoban.Exchange // an invented one and A's, in B's hands
	stateWork  bool

	who     string // a tool that tells who calls
	mixes   []*kidoban.Exchange
	mixed   bool
	rounds  int
	link    string
	linkX   []*kidoban.Exchange
	linkWhy string // why the link was not opened
	linked  bool
}

func probeTwoPeople() probe {
	keys := []string{"E07-3", "E07-6", "E08-e", "E31-d", "E35-c", "E37-a", "E37-b"}
	return define(spec{name: "two people", keys: keys, tier: kidoban.T4}, collectTwoPeople, func(f *Facts, e twoPeople) []kidoban.Result {
		if !e.has {
			return everyone(keys, func(k string) kidoban.Result { return rekey(e.none, k) })
		}
		return judgeTwoPeople(&e)
	})
}

// wideTokens are tokens of one person with every scope on offer.
func (s *session) wideTokens(ctx context.Context, who *Tester, key, note string) (*tokens, walked) {
	f := s.facts
	all := allScopes(f, f.SmallestScope)
	t, w := s.ticketOf(ctx, who, key, note, f.Client, func(r *authRequest) {
		if all != "" {
			r.Params = r.Params.with("scope", all)
		}
	})
	if t == nil {
		if t, w = s.ticketOf(ctx, who, key, note, f.Client, nil); t == nil {
			return nil, w
		}
	}
	return s.redeem(ctx, key, "tokens for it", t, nil), w
}

func collectTwoPeople(ctx context.Context, s *session) (e twoPeople) {
	f := s.facts
	if f.Client == nil || !s.o.both() {
		e.none = untested("E37-a", kidoban.ReasonSecondLogin, detailFor(kidoban.ReasonSecondLogin))
		return e
	}
	var w walked
	if e.a, w = s.wideTokens(ctx, s.o.Login, "E37", "the first person"); !e.a.issued() {
		e.none = w.noCode("E37-a")
		return e
	}
	if e.b, w = s.wideTokens(ctx, s.o.Second, "E37", "the second person"); !e.b.issued() {
		e.none = w.noCode("E37-a")
		return e
	}
	for _, who := range []*Tester{s.o.Login, s.o.Second} {
		if p := s.homes[who]; !p.known && who.Script == nil {
			e.none = unclear("E37-a", kidoban.ReasonUnstable, "nobody asks who the person is, so the two accounts are one", w.last())
			return e
		}
	}
	e.has = true
	in := s.enter(ctx, e.a.Access)
	e.legacy, e.modern = in.legacy, in.modern
	e.listA = s.invoke(ctx, "E31-d", "the first person's resources", e.a.Access, "resources/list", nil)
	e.listB = s.invoke(ctx, "E31-d", "the second person's resources", e.b.Access, "resources/list", nil)
	e.urisA, e.urisB = urisIn(e.listA), urisIn(e.listB)
	for _, u := range e.urisA {
		if slices.Contains(e.urisB, u) || len(e.reads) >= 3 {
			continue
		}
		x := s.invoke(ctx, "E37-a", "the second person reads what is the first one's", e.b.Access, "resources/read", map[string]any{"uri": u})
		e.reads = append(e.reads, x)
		e.readOne = e.readOne || ReplyOf(x).ok()
	}
	s.collectSharedList(ctx, &e)
	s.collectForeignSession(ctx, &e)
	tools := s.namedTools(ctx, "E37", e.a.Access)
	s.collectHandle(ctx, tools, &e)
	s.collectForeignState(ctx, tools, &e)
	s.collectMix(ctx, tools, &e)
	s.collectForeignLink(ctx, tools, &e)
	return e
}

// collectSharedList reads what one and the same list names, as each person. A list
// that is right for both names nothing that only one of them may read.
func (s *session) collectSharedList(ctx context.Context, e *twoPeople) {
	if len(e.urisA) == 0 || !slices.Equal(e.urisA, e.urisB) {
		return
	}
	for _, u := range e.urisA[:min(3, len(e.urisA))] {
		own := s.invoke(ctx, "E31-d", "control: the first person reads what the list names", e.a.Access, "resources/read", map[string]any{"uri": u})
		other := s.invoke(ctx, "E31-d", "the second person reads what the same list names", e.b.Access, "resources/read", map[string]any{"uri": u})
		if !ReplyOf(own).ok() {
			continue
		}
		e.sharedX = append(e.sharedX, own, other)
		if !ReplyOf(other).ok() {
			e.notTheirs = true
			return
		}
	}
}

// urisIn are the addresses of a resource list.
func urisIn(x *kidoban.Exchange) []string {
	var l struct {
		Resources []struct{ URI string } `json:"resources"`
	}
	r := ReplyOf(x)
	if !r.ok() || json.Unmarshal(r.Result, &l) != nil {
		return nil
	}
	var out []string
	for _, r := range l.Resources {
		out = append(out, r.URI)
	}
	return out
}

// collectForeignSession sends the second person's token in the first one's session.
func (s *session) collectForeignSession(ctx context.Context, e *twoPeople) {
	if !e.legacy || s.facts.SSE {
		return
	}
	sid, _ := s.sessionFor(ctx, "E07-3", e.a.Access, latestLegacy)
	if e.sid = sid; sid == "" {
		return
	}
	h := kidoban.Fields{{Name: "Authorization", Value: "Bearer " + e.b.Access}}
	e.sidX = s.rpc(ctx, "E07-3", "the second person's token in the first one's session", call{Method: "resources/list", Version: latestLegacy, Session: sid, Header: h})
	got := urisIn(e.sidX)
	e.sidShowsA = len(got) > 0 && slices.Equal(got, e.urisA) && !slices.Equal(got, e.urisB)
	s.endSession(ctx, call{Header: kidoban.Fields{{Name: "Authorization", Value: "Bearer " + e.a.Access}}}, sid)
}

// collectHandle looks for a tool that gives out a handle (…_id) and for one that
// takes it, and hands it to the second person.
func (s *session) collectHandle(ctx context.Context, tools []tooling, e *twoPeople) {
	if !e.modern {
		return
	}
	for _, t := range tools {
		if len(t.needs) > 0 {
			continue
		}
		x := s.callTool(ctx, "E07-6", "a tool that may give a handle", e.a.Access, t.name, t.args, nil)
		for name, value := range handlesIn(x) {
			for _, u := range tools {
				if !slices.Contains(u.needs, name) {
					continue
				}
				args := map[string]any{}
				for k, v := range u.args {
					args[k] = v
				}
				args[name] = "kidoban-" + s.nonce(12)
				control := s.callTool(ctx, "E07-6", "control: a handle that nobody has", e.b.Access, u.name, args, nil)
				args[name] = value
				taken := s.callTool(ctx, "E07-6", "the first person's handle in the second one's hands", e.b.Access, u.name, args, nil)
				e.handle, e.handleX, e.handleWork = name, []*kidoban.Exchange{x, control, taken}, ran(taken) && !ran(control)
				return
			}
		}
	}
}

// collectForeignState looks for a tool that asks back, and lets the second person
// answer with the state that the first one was given. A server that runs the tool
// with a state that nobody was given has no use for it, and nothing is learned.
func (s *session) collectForeignState(ctx context.Context, tools []tooling, e *twoPeople) {
	if !e.modern {
		return
	}
	for _, t := range tools {
		x := s.callTool(ctx, "E08-e", "a call of the first person that asks back", e.a.Access, t.name, t.args, nil)
		r := ReplyOf(x)
		state, answer := wire.LookupString(r.Result, "requestState"), answers(r.Result)
		if !r.ok() || state == "" || len(answer) == 0 {
			continue
		}
		go2 := func(note, state string) *kidoban.Exchange {
			return s.callTool(ctx, "E08-e", note, e.b.Access, t.name, t.args, map[string]any{"requestState": state, "inputResponses": answer})
		}
		control := go2("control: a state that nobody was given", "kidoban-"+s.nonce(24))
		taken := go2("the first person's state in the second one's hands", state)
		e.state, e.stateX, e.stateWork = x, []*kidoban.Exchange{control, taken}, ran(taken) && !ran(control)
		return
	}
}

// handlesIn are the members of a structured result that are called …_id.
func handlesIn(x *kidoban.Exchange) map[string]string {
	var r struct {
		StructuredContent map[string]any `json:"structuredContent"`
	}
	rep := ReplyOf(x)
	if !rep.ok() || json.Unmarshal(rep.Result, &r) != nil {
		return nil
	}
	out := map[string]string{}
	for k, v := range r.StructuredContent {
		if s, ok := v.(string); ok && (strings.HasSuffix(strings.ToLower(k), "_id") || strings.HasSuffix(k, "Id")) {
			out[k] = s
		}
	}
	return out
}

// mixRounds is how often two calls are sent at the same time.
const mixRounds = 12

// collectMix finds a tool whose answer tells the two people apart, and calls it for
// both at the same time.
func (s *session) collectMix(ctx context.Context, tools []tooling, e *twoPeople) {
	for _, t := range tools {
		if !t.readOnly || len(t.needs) > 0 {
			continue
		}
		ask := func(tk *tokens, note string) *kidoban.Exchange {
			return s.callTool(ctx, "E37-b", note, tk.Access, t.name, t.args, nil)
		}
		a, b, again := textOf(ask(e.a, "the first person alone")), textOf(ask(e.b, "the second person alone")), textOf(ask(e.a, "the first person alone, again"))
		if a == "" || b == "" || a == b || a != again {
			continue
		}
		e.who = t.name
		for ; e.rounds < mixRounds && s.left() > 10; e.rounds++ {
			var got [2]*kidoban.Exchange
			var wg sync.WaitGroup
			for i, tk := range []*tokens{e.a, e.b} {
				wg.Go(func() { got[i] = ask(tk, "both at the same time") })
			}
			wg.Wait()
			if textOf(got[0]) == b || textOf(got[1]) == a {
				e.mixes, e.mixed = got[:], true
				return
			}
			e.mixes = got[:]
		}
		return
	}
}

// collectForeignLink lets the second person open the page that a tool made for the
// first one.
func (s *session) collectForeignLink(ctx context.Context, tools []tooling, e *twoPeople) {
	for _, t := range tools {
		x := s.callTool(ctx, "E35-c", "a tool that may send the first person to a page", e.a.Access, t.name, t.args, nil)
		link := linkIn(x)
		if link == "" {
			continue
		}
		e.link, e.linkX = link, []*kidoban.Exchange{x}
		switch {
		case !s.facts.owns(hostOf(link)):
			e.linkWhy = "the page is not the server's own (E35-a)"
			return
		case len(secretsIn(link, append(tokenNames(), "session", "session_id", "sid", "email", "ticket", "otp", "magic"))) > 0:
			e.linkWhy = "the address carries credentials, so it logs anybody in (E35-b)"
			return
		}
		p, err := s.home(ctx, s.o.Second)
		if err != nil {
			return
		}
		w := p.walk(ctx, errand{key: "E35-c", note: "the second person opens the first one's page", start: link, decision: browser.Approve})
		e.linkX = append(e.linkX, w.last())
		after := s.callTool(ctx, "E35-c", "the first person's tool after that", e.a.Access, t.name, t.args, nil)
		e.linkX = append(e.linkX, after)
		e.linked = ran(after) && linkIn(after) == ""
		return
	}
}

func judgeTwoPeople(e *twoPeople) []kidoban.Result {
	return append([]kidoban.Result{judgeForeignSession(e), judgeHandle(e), judgeForeignState(e), judgeSharedList(e), judgeForeignObject(e)}, judgeMix(e), judgeForeignLink(e))
}

func judgeForeignSession(e *twoPeople) kidoban.Result {
	const key = "E07-3"
	switch {
	case e.sid == "":
		return absent(key, "the server hands out no sessions", e.listA)
	case e.sidShowsA:
		return positive(key, kidoban.Confirmed, "a session id shows its owner's data to another person", e.listA, e.listB, e.sidX)
	case len(e.urisA) == 0 && ReplyOf(e.sidX).ok():
		return unclear(key, kidoban.ReasonUnstable, "the session is taken; there is nothing to tell whose data it shows", e.sidX)
	}
	return passed(key, "a session id in another person's hands shows nothing of its owner", e.sidX)
}

func judgeHandle(e *twoPeople) kidoban.Result {
	const key = "E07-6"
	switch {
	case !e.modern:
		return absent(key, "the server does not speak the stateless era", e.listA)
	case e.handle == "":
		return absent(key, "no named tool gives a handle that another one takes", e.listA)
	case e.handleWork:
		return positive(key, kidoban.Confirmed, "a "+e.handle+" of one person works for another", e.handleX...)
	}
	return passed(key, "a handle works for its owner only", e.handleX...)
}

func judgeForeignState(e *twoPeople) kidoban.Result {
	const key = "E08-e"
	switch {
	case !e.modern:
		return absent(key, "the server does not speak the stateless era", e.listA)
	case e.state == nil:
		return absent(key, "no named tool gives a requestState", e.listA)
	case e.stateWork:
		return positive(key, kidoban.Confirmed, "a requestState of one person works for another", append([]*kidoban.Exchange{e.state}, e.stateX...)...)
	case ran(e.stateX[0]):
		return absent(key, "the tool runs with any requestState, so it does not rely on it", e.stateX...)
	}
	return passed(key, "a requestState works for its owner only", append([]*kidoban.Exchange{e.state}, e.stateX...)...)
}

func judgeSharedList(e *twoPeople) kidoban.Result {
	const key = "E31-d"
	switch {
	case len(e.urisA) == 0:
		return absent(key, "there are no resources whose list could be the wrong person's", e.listA)
	case !slices.Equal(e.urisA, e.urisB):
		return passed(key, "each person gets a list of their own", e.listA, e.listB)
	}
	if r := ReplyOf(e.listA); wire.LookupString(r.Result, "cacheScope") == "public" {
		return absent(key, "the list is the same for everybody and says so", e.listA, e.listB)
	}
	evidence := append([]*kidoban.Exchange{e.listA, e.listB}, e.sharedX...)
	switch {
	case e.notTheirs:
		return positive(key, kidoban.Confirmed, "the second person gets the first one's list: it names what only the first one may read", evidence...)
	case len(e.sharedX) > 0:
		return passed(key, "the list is the same for both people, and both may read what it names", evidence...)
	}
	return absent(key, "nothing on the list can be read, so nothing tells whose it is", evidence...)
}

func judgeForeignObject(e *twoPeople) kidoban.Result {
	const key = "E37-a"
	switch {
	case len(e.reads) == 0:
		return absent(key, "there is nothing that only one of the two people sees", e.listA, e.listB)
	case e.readOne:
		return positive(key, kidoban.Confirmed, "one person reads what is another one's by its address", append([]*kidoban.Exchange{e.listA, e.listB}, e.reads...)...)
	}
	return passed(key, "what is one person's is refused to another", e.reads...)
}

func judgeMix(e *twoPeople) kidoban.Result {
	const key = "E37-b"
	switch {
	case e.who == "":
		return untested(key, kidoban.ReasonToolNamed, "--tool NAME, of a tool that tells who calls")
	case e.mixed:
		return positive(key, kidoban.Confirmed, "calls at the same time get each other's person", e.mixes...)
	}
	return passed(key, "calls at the same time stay apart ("+kidoban.Count(e.rounds, "round", "rounds")+" of "+e.who+")", e.mixes...)
}

func judgeForeignLink(e *twoPeople) kidoban.Result {
	const key = "E35-c"
	switch {
	case e.link == "":
		return absent(key, "no named tool sends the person to a page", e.listA)
	case e.linkWhy != "":
		return absent(key, e.linkWhy, e.linkX...)
	case e.linked:
		return positive(key, kidoban.Confirmed, "whoever opens the page that a tool made for one person finishes it for them", e.linkX...)
	}
	return passed(key, "the page that a tool made for one person is refused to another", e.linkX...)
}

// probeSecondServer presents a token at another server (E05-d).
func probeSecondServer() probe {
	return define(spec{name: "a token at another server", keys: []string{"E05-d"}, tier: kidoban.T4}, collectSecondServer, judgeSecondServer)
}

type secondServer struct {
	none    kidoban.Result
	t       *tokens
	control reached
	taken   reached
}

func collectSecondServer(ctx context.Context, s *session) (e secondServer) {
	if s.o.SecondURL == "" {
		e.none = untested("E05-d", kidoban.ReasonSecondLogin, "--second-url URL, of another MCP server of yours under the same authorization server")
		return e
	}
	if s.facts.Client == nil {
		e.none = untested("E05-d", kidoban.ReasonClient, detailFor(kidoban.ReasonClient))
		return e
	}
	t, w := s.grantTokens(ctx, "E05-d", "a grant for this server", s.facts.Client, nil)
	if !t.issued() {
		e.none = w.noCode("E05-d")
		return e
	}
	e.t = t
	e.control = s.reach(ctx, "E05-d", "control: no token at the other server", call{Method: "tools/list", URL: s.o.SecondURL, Session: "none"})
	c := authz("Bearer " + t.Access)
	c.URL, c.Session = s.o.SecondURL, "none"
	e.taken = s.reach(ctx, "E05-d", "this server's token at the other one", c)
	return e
}

func judgeSecondServer(f *Facts, e secondServer) []kidoban.Result {
	const key = "E05-d"
	one := func(r kidoban.Result) []kidoban.Result { return []kidoban.Result{r} }
	switch {
	case e.t == nil:
		return one(e.none)
	case e.control.listed:
		return one(absent(key, "the other server lists its tools to anyone", e.control.last()))
	case !refused(e.control.last()):
		return one(unclear(key, kidoban.ReasonUnstable, "the other server neither serves nor refuses the plain request", e.control.last()))
	case e.taken.listed:
		return one(positive(key, kidoban.Confirmed, "a token that was made for this server opens another one", e.control.last(), e.t.x, e.taken.last()))
	}
	return one(passed(key, "a token that was made for this server is refused by another one", e.control.last(), e.taken.last()))
}
