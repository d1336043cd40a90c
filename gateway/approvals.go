package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

// ApprovalGuard implements Approvals: a call that policy wants a person for
// waits for that person's yes on a page of the gateway's own (G-TG6).
//
// A yes is for exactly one call: its binding covers user, client, grant, session,
// server, tool, the tool's definition and the arguments. Another user, another
// client, a changed argument or a changed tool has another binding and is asked
// about anew; a replay finds it used. Nothing that an agent can send is a yes:
// the page needs the person's own login in a browser.
//
// The first time, the caller is sent the address of the page at once. When the
// same call comes again before there is an answer it is held for a while, so
// that whoever sends it again at once does not run in circles.
type ApprovalGuard struct {
	store ApprovalStore
	seal  *sealer
	page  func(id string) string
	log   *slog.Logger
	now   func() time.Time
	rand  io.Reader
	rules atomic.Pointer[ApprovalRules]
}

// ApprovalRules are the operator's part.
type ApprovalRules struct {
	Wait    time.Duration // how long a question stands, and after it a yes; 10 min
	Hold    time.Duration // how long a call that comes again is held; 45 s, less than 0 not at all
	Waiting int           // questions to one user at once; 20
}

const (
	approvalPoll = 300 * time.Millisecond
	maxAsked     = 48 << 10 // bytes of arguments that a person can be shown
	maxAskedName = 2 << 10  // bytes of the tool's name or the resource's URI
)

// NewApprovalGuard returns a guard. key seals what the page shows, 32 bytes, the
// same on every replica; page gives the address of an approval's page.
func NewApprovalGuard(store ApprovalStore, key []byte, page func(id string) string, log *slog.Logger, now func() time.Time, random io.Reader) (*ApprovalGuard, error) {
	seal, err := newSealer(key, random, now)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	g := &ApprovalGuard{store: store, seal: seal, page: page, log: log, now: now, rand: random}
	g.SetRules(ApprovalRules{})
	return g, nil
}

// SetRules puts rules in force.
func (g *ApprovalGuard) SetRules(r ApprovalRules) {
	if r.Wait <= 0 {
		r.Wait = 10 * time.Minute
	}
	if r.Hold == 0 {
		r.Hold = 45 * time.Second
	}
	if r.Waiting <= 0 {
		r.Waiting = 20
	}
	g.rules.Store(&r)
}

// Sentences for the caller. They say what to do and nothing of why (G-TG6).
const (
	sayAsk      = "A person must approve this call first."
	sayNo       = "A person did not approve this call."
	sayTooMany  = "Too many calls wait for approval already. Decide about those first."
	sayTooLong  = "This call needs a person's approval, and its arguments are too long to be shown to one."
	sayNoAnswer = "The approval cannot be asked for at present. Try again later."
)

// askedCall is what the page shows of a call. It is sealed in the store: arguments
// may hold what is private.
type askedCall struct {
	Arguments json.RawMessage `json:"arguments"`
	Policies  []string        `json:"policies"`
	Labels    []string        `json:"labels,omitempty"`
	Class     string          `json:"class"`
	Title     string          `json:"title,omitempty"`
}

// Await implements Approvals.
func (g *ApprovalGuard) Await(ctx context.Context, c *Call) *Refusal {
	if len(c.asks) == 0 {
		return nil
	}
	if c.Caller.User == "" {
		return refuse(http.StatusOK, wire.CodeInvalidParams, "approval:nobody", sayNobody)
	}
	rules := *g.rules.Load()
	a, mine, refusal := g.ask(ctx, c, rules)
	if refusal != nil {
		return refusal
	}
	deadline := g.now().Add(rules.Hold)
	tick := time.NewTicker(approvalPoll)
	defer tick.Stop()
	for {
		switch a.State {
		case ApprovalApproved:
			used, err := g.store.UseApproval(ctx, a.ID, g.now())
			if err != nil {
				return noAnswer(err)
			}
			if used {
				c.rec.Approval = a.ID
				return nil
			}
			// Another one of the same kind was faster: this one is asked about anew.
			if a, mine, refusal = g.ask(ctx, c, rules); refusal != nil {
				return refusal
			}
			if mine {
				return g.pending(a)
			}
			continue
		case ApprovalRefused:
			return refuse(http.StatusOK, wire.CodeInvalidParams, "approval:refused", sayNo)
		case ApprovalUsed:
			return g.pending(a)
		}
		if mine || !g.now().Before(deadline) {
			return g.pending(a)
		}
		select {
		case <-ctx.Done():
			return g.pending(a)
		case <-tick.C:
		}
		var err error
		if a, err = g.store.Approval(ctx, a.ID); err != nil {
			return noAnswer(err)
		}
		if !a.Expires.After(g.now()) {
			if a, mine, refusal = g.ask(ctx, c, rules); refusal != nil {
				return refusal
			}
		}
	}
}

func noAnswer(err error) *Refusal {
	return refuse(http.StatusOK, wire.CodeInternal, "approval:unknown", sayNoAnswer).because(err)
}

// pending sends the caller to the page.
func (g *ApprovalGuard) pending(a Approval) *Refusal {
	r := refuse(http.StatusOK, wire.CodeInvalidParams, "approval:waiting", sayAsk)
	r.Open = g.page(a.ID)
	return r
}

// ask finds the approval of a call or makes one; mine is true for a new one.
func (g *ApprovalGuard) ask(ctx context.Context, c *Call, rules ApprovalRules) (a Approval, mine bool, refusal *Refusal) {
	tool := c.Params.Name // one of the two: what else the params hold is the agent's text
	if c.Message.Method == wire.MethodResourcesRead || c.Message.Method == wire.MethodSubscribe || c.Message.Method == wire.MethodUnsubscribe {
		tool = c.Params.URI
	}
	if len(c.Params.Arguments) > maxAsked || len(tool) > maxAskedName {
		return a, false, refuse(http.StatusOK, wire.CodeInvalidParams, "approval:too_long", sayTooLong)
	}
	args, err := canonical(c.Params.Arguments)
	if err != nil {
		return a, false, noAnswer(err)
	}
	var id [16]byte
	if _, err := io.ReadFull(g.rand, id[:]); err != nil {
		return a, false, noAnswer(err)
	}
	now := g.now()
	a = Approval{ID: strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:])), Binding: approvalBinding(c, args),
		User: c.Caller.User, Client: c.Caller.Client, Server: c.Server, Tool: tool, State: ApprovalWaiting, Created: now, Expires: now.Add(rules.Wait)}
	shown, err := json.Marshal(askedCall{Arguments: args, Policies: c.asks, Labels: c.labels, Class: string(ClassOf(c.Tool)), Title: wire.LookupString(c.Tool, "title")})
	if err != nil {
		return a, false, noAnswer(err)
	}
	if a.Sealed, err = g.seal.seal(shown, binding("approval", a.ID), 2*rules.Wait+time.Hour); err != nil {
		return a, false, noAnswer(err)
	}
	got, err := g.store.AskApproval(ctx, a, rules.Waiting)
	switch {
	case kidoban.KindOf(err) == kidoban.KindLimit && err != nil:
		return a, false, refuse(http.StatusOK, wire.CodeInvalidParams, "approval:too_many", sayTooMany).because(err)
	case err != nil:
		return a, false, noAnswer(err)
	}
	mine = got.ID == a.ID
	if mine {
		g.log.Info("a call waits for a person", "request", c.ID, "user", c.Caller.User, "server", c.Server, "tool", toolscan.Visible(a.Tool, 120), "policies", c.asks, "page", g.page(a.ID))
	}
	return got, mine, nil
}

// approvalBinding covers everything that a yes is for.
func approvalBinding(c *Call, args []byte) string {
	pin := ""
	if c.Tool != nil {
		pin = c.fingerprint()
	}
	sum := sha256.Sum256(args)
	return hex.EncodeToString(binding("approval", c.Caller.User, c.Caller.Client, c.Caller.Grant, c.sessionID, c.Server, c.Message.Method, c.Params.Name, c.Params.URI, pin, string(sum[:])))
}

// canonical is JSON with sorted members and without spaces, numbers as they were
// written: the same call may come again with its members in another order.
func canonical(raw []byte) ([]byte, error) {
	if len(raw) == 0 {
		return []byte("{}"), nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}
