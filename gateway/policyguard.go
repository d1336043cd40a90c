package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

// PolicyGuard implements Policy: it turns calls into questions for the one
// decision point, hides what is denied, and keeps what a session has read
// (G-TG5). It is safe for concurrent use and holds no goroutine. Whatever cannot
// be found out (who it is, what the session has read) denies.
type PolicyGuard struct {
	sessions SessionStore
	people   People
	labels   labeler
	log      *slog.Logger
	now      func() time.Time

	// Alert is told when the barrier stops a way out after text that read like
	// orders; nil: nobody is. It is set before the first use and may wait for the
	// store: the call it is about waits too.
	Alert func(context.Context, kidoban.Alert)

	// Alone says that no other process writes what sessions have read: then what this
	// one remembers of it is whole, and a call to a way out need not ask the store. It
	// is set before the first use.
	Alone bool

	rules atomic.Pointer[PolicyRules]

	mu     sync.Mutex
	known  map[string]knownPerson  // guarded by mu
	forgot int                     // how often somebody was forgotten; guarded by mu
	recent map[string]knownSession // guarded by mu
	noted  int                     // how often a session changed here; guarded by mu
}

// PolicyRules are the operator's part. They are not changed once in use.
type PolicyRules struct {
	Set    *policy.Set         // nil: the default set
	Groups map[string][]string // members by group, as login names or user ids; Person has others
	// Memory is how long a session counts as having read something; 4 h.
	Memory time.Duration
}

// People know users by the token's sub.
type People interface {
	// Person is KindNotFound for who is no user: a client of its own.
	Person(ctx context.Context, id string) (Person, error)
}

// Person is a user as policies see one.
type Person struct {
	ID    string
	Name  string
	Admin bool
	// Groups are those that the person's identity provider named, as rules call them.
	Groups []string
}

type knownPerson struct {
	Person
	at time.Time
}

type knownSession struct {
	labels []SessionLabel
	at     time.Time
}

const (
	personFresh   = 10 * time.Second
	sessionFresh  = time.Second
	maxPeople     = 10_000
	sessionMemory = 4 * time.Hour
)

// NewPolicyGuard returns a guard with the default rules. people nil knows nobody
// by name; sessions nil keeps them in this process; log may be nil.
func NewPolicyGuard(sessions SessionStore, people People, scanner *toolscan.Scanner, log *slog.Logger, now func() time.Time) *PolicyGuard {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if sessions == nil {
		sessions = &sessionsHere{all: map[string]map[string]SessionLabel{}}
	}
	g := &PolicyGuard{sessions: sessions, people: people, labels: labeler{scanner: scanner}, log: log, now: now,
		known: map[string]knownPerson{}, recent: map[string]knownSession{}}
	g.SetRules(PolicyRules{})
	return g
}

// SetRules puts rules in force for the calls that follow. It also forgets what is
// known of tools, so that servers of an earlier config are not held for ever.
func (g *PolicyGuard) SetRules(r PolicyRules) {
	if r.Set == nil {
		r.Set = policy.Default()
	}
	if r.Memory <= 0 {
		r.Memory = sessionMemory
	}
	g.rules.Store(&r)
	g.labels.forget()
}

// Changed has what is known of a person found anew at the next call: somebody says that
// it has changed. An empty id is everybody.
func (g *PolicyGuard) Changed(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if delete(g.known, id); id == "" {
		clear(g.known)
	}
	g.forgot++
}

// Sentences of refusals; what decided stands in the audit log alone (G-TG7).
const (
	sayDenied   = "Policy does not allow this. Ask the gateway's operator."
	sayUnsure   = "It cannot be decided at present whether this is allowed. Try again later."
	sayUnnoted  = "The result is held back: the gateway cannot note at present that it was read. Try again later."
	sayNobody   = "This needs a person's approval, and nobody is logged in here. Ask the gateway's operator."
	ruleUnknown = "policy:unknown"
)

// Decide implements Policy.
func (g *PolicyGuard) Decide(ctx context.Context, c *Call) *Refusal {
	rules := g.rules.Load()
	q, ok := g.question(c)
	if !ok {
		return nil
	}
	who, err := g.person(ctx, c.Caller.User)
	if err != nil {
		return refuse(http.StatusOK, wire.CodeInternal, ruleUnknown, sayUnsure).because(err)
	}
	q.Principal = rules.principal(who)
	c.labels = q.Object.Labels
	if q.Action == policy.Call {
		out := !g.Alone && slices.ContainsFunc(c.labels, wayOut)
		if q.Session, err = g.session(ctx, rules, c, out); err != nil {
			return refuse(http.StatusOK, wire.CodeInternal, ruleUnknown, sayUnsure).because(err)
		}
	}
	v := rules.Set.Decide(q)
	c.rec.Policies = v.Policies
	if v.Effect != policy.Allow && slices.ContainsFunc(v.Policies, policy.Barrier) && slices.Contains(q.Session, policy.Injected) {
		g.tell(ctx, rules, c, who, v.Effect)
	}
	switch v.Effect {
	case policy.Allow:
		c.asks = nil
		return nil
	case policy.Ask:
		c.asks = v.Policies
		return nil
	}
	return barred(v)
}

// wayOut tells whether a label stands for a way out of the house, or may.
func wayOut(label string) bool {
	return label == policy.Sends || label == policy.Reaches || label == policy.Unclear
}

// tell raises an alert: an agent that had read orders wanted to send something.
// Servers are named as the operator named them; nothing is said in the words of a
// server, a tool or a text.
func (g *PolicyGuard) tell(ctx context.Context, rules *PolicyRules, c *Call, who Person, e policy.Effect) {
	if g.Alert == nil {
		return
	}
	with := kidoban.AlertWords{"from": "", "server": c.Server, "then": "waits"}
	if read, err := g.labelsOf(ctx, rules, c.Caller.User, false); err == nil {
		for _, l := range read {
			if l.Label == policy.Injected {
				with["from"], _, _ = strings.Cut(l.Source, "/")
			}
		}
	}
	subject := c.Caller.User
	with["user"] = toolscan.Visible(cmp.Or(who.Name, subject), 80)
	if with["user"] == "" { // the gateway is open to everybody
		subject = c.Server
	}
	if e == policy.Deny {
		with["then"] = "refused"
	}
	a := kidoban.NewAlert(kidoban.AlertFlowBarred, subject, with)
	a.At = g.now()
	g.Alert(context.WithoutCancel(ctx), a)
}

// question says what a call wants to do; false for what needs no decision.
func (g *PolicyGuard) question(c *Call) (*policy.Query, bool) {
	q := &policy.Query{Client: c.Caller.Client, Scopes: c.Caller.Scopes, Method: c.Message.Method, Era: string(c.Era), Address: c.Address, At: c.At,
		Object: policy.Object{Kind: policy.Server, Server: c.Server}}
	switch c.Message.Method {
	case wire.MethodPing, wire.MethodSetLevel:
		return nil, false
	case wire.MethodInitialize, wire.MethodDiscover, wire.MethodToolsList, wire.MethodPromptsList, wire.MethodResourcesList, wire.MethodTemplatesList, wire.MethodListen:
		q.Action = policy.Connect
	case wire.MethodToolsCall:
		q.Action, q.Arguments = policy.Call, c.Params.Arguments
		q.Object = g.toolObject(c, c.Params.Name, c.fingerprint(), c.Tool)
	case wire.MethodPromptsGet:
		q.Action, q.Arguments = policy.Get, c.Params.Arguments
		q.Object.Kind, q.Object.Name = policy.Prompt, c.Params.Name
	case wire.MethodResourcesRead, wire.MethodSubscribe, wire.MethodUnsubscribe:
		q.Action = policy.Read
		q.Object.Kind, q.Object.Name, q.Object.Labels = policy.Resource, c.Params.URI, g.labels.resource(c.Upstream, c.Params.URI)
	case wire.MethodComplete:
		ref, _ := wire.Lookup(c.Message.Params, "ref")
		if name := wire.LookupString(ref, "name"); name != "" {
			q.Action, q.Object.Kind, q.Object.Name = policy.Get, policy.Prompt, name
		} else {
			uri := wire.LookupString(ref, "uri")
			q.Action, q.Object.Kind, q.Object.Name, q.Object.Labels = policy.Read, policy.Resource, uri, g.labels.resource(c.Upstream, uri)
		}
	default:
		q.Action = policy.Use
	}
	return q, true
}

func (g *PolicyGuard) toolObject(c *Call, name, sum string, def wire.Raw) policy.Object {
	return g.labels.object(c.Upstream, c.Server, name, sum, def)
}

// listUse is what would be done with what a list shows.
var listUse = map[string]struct {
	kind policy.Kind
	use  policy.Action
}{
	wire.MethodToolsList:     {policy.Tool, policy.Call},
	wire.MethodPromptsList:   {policy.Prompt, policy.Get},
	wire.MethodResourcesList: {policy.Resource, policy.Read},
	wire.MethodTemplatesList: {policy.Resource, policy.Read},
}

// List implements Policy: what is denied is not shown.
func (g *PolicyGuard) List(ctx context.Context, c *Call, result wire.Raw) (wire.Raw, *Refusal) {
	use, ok := listUse[c.Message.Method]
	if !ok || c.Server == "" || c.Upstream == nil {
		return result, nil
	}
	l := lists[c.Message.Method]
	items, ok := wire.Lookup(result, l.items)
	if !ok {
		return result, nil
	}
	rules := g.rules.Load()
	who, err := g.person(ctx, c.Caller.User)
	if err != nil {
		return nil, refuse(http.StatusOK, wire.CodeInternal, ruleUnknown, sayUnsure).because(err)
	}
	q := &policy.Query{Principal: rules.principal(who), Action: policy.List, Client: c.Caller.Client, Scopes: c.Caller.Scopes, Method: c.Message.Method, Era: string(c.Era), Address: c.Address, At: c.At}
	nothing := barred(rules.connect(q.Principal, c, c.Server, g.now)) != nil
	kept, n, all := wire.Raw{'['}, 0, 0
	wire.Elements(items, func(item wire.Raw) bool {
		all++
		name := wire.LookupString(item, l.name)
		switch use.kind {
		case policy.Tool:
			q.Object = g.toolObject(c, name, toolscan.Fingerprint(item), item)
		case policy.Prompt:
			q.Object = policy.Object{Kind: use.kind, Server: c.Server, Name: name}
		default:
			q.Object = policy.Object{Kind: use.kind, Server: c.Server, Name: name, Labels: g.labels.resource(c.Upstream, name)}
		}
		if !nothing && rules.Set.Listed(q, use.use) {
			if n++; n > 1 {
				kept = append(kept, ',')
			}
			kept = append(kept, item...)
		}
		return true
	})
	if n == all {
		return result, nil
	}
	return wire.SetMember(result, l.items, append(kept, ']')), nil
}

// Saw implements Policy: what comes back is noted before the client has it.
func (g *PolicyGuard) Saw(ctx context.Context, c *Call, m wire.Message) *Refusal {
	if m.Kind != wire.Result && m.Kind != wire.ErrorReply {
		return nil
	}
	var labels []string
	for _, l := range [...]string{policy.Untrusted, policy.Private} {
		if slices.Contains(c.labels, l) {
			labels = append(labels, l)
		}
	}
	if c.flagged {
		labels = append(labels, policy.Injected)
	}
	if len(labels) == 0 {
		return nil
	}
	if c.rec.Detail == "" {
		c.rec.Detail = "read: " + strings.Join(labels, ", ")
	}
	if err := g.note(ctx, c, labels); err != nil {
		return refuse(http.StatusOK, wire.CodeInternal, "policy:session", sayUnnoted).because(err)
	}
	return nil
}

func (r *PolicyRules) principal(who Person) policy.Principal {
	p := policy.Principal{ID: who.ID, Name: who.Name, Admin: who.Admin}
	for _, group := range who.Groups {
		if r.Set.Matters(group) {
			p.Groups = append(p.Groups, group)
		}
	}
	for group, members := range r.Groups {
		if slices.Contains(members, who.ID) || who.Name != "" && slices.Contains(members, who.Name) {
			p.Groups = append(p.Groups, group)
		}
	}
	slices.Sort(p.Groups)
	p.Groups = slices.Compact(p.Groups)
	return p
}

// person finds who a token speaks for, at most ten seconds old.
func (g *PolicyGuard) person(ctx context.Context, id string) (Person, error) {
	if g.people == nil || id == "" {
		return Person{ID: id}, nil
	}
	now := g.now()
	g.mu.Lock()
	k, ok := g.known[id]
	forgot := g.forgot
	g.mu.Unlock()
	if ok && now.Sub(k.at) < personFresh {
		return k.Person, nil
	}
	p, err := g.people.Person(ctx, id)
	if err != nil && kidoban.KindOf(err) != kidoban.KindNotFound {
		return Person{}, err
	}
	p.ID = id
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.forgot != forgot {
		return p, nil // it may have been read before the change: not to be remembered
	}
	if len(g.known) >= maxPeople {
		g.known = map[string]knownPerson{}
	}
	g.known[id] = knownPerson{p, now}
	return p, nil
}
