package gateway

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/sandbox"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

// Deps are what the gateway needs from the rest of the house.
type Deps struct {
	Keys     KeySet   // nil only with Config.Open
	Liveness Liveness // nil only with Config.Open
	Accounts Accounts // nil: no server has an account
	Journal  *Journal // nil: no audit log; the gateway does not close it
	Sandbox  *sandbox.Host
	// StateKey seals sessions and states, 32 bytes, the same on every replica.
	StateKey []byte
	// Once remembers the states that were used, for all replicas; nil: each
	// process for itself.
	Once Once
	// Coverage tells what grants cover at the aggregate; nil: all servers.
	Coverage Coverage
	// Replicas are the other processes on the same database; nil: there are none.
	Replicas Replicas
	// Rates are limits of other rooms that replicas are to share like the gateway's
	// own; may be nil.
	Rates *limit.Memory
	// Notes outlive this process; nil: they do not.
	Notes Notes
	// Connect is the page where a user connects the account of a server, or, with an
	// empty server, all that are missing; nil: there is none.
	Connect func(user, server string) (url string)
	// Pages tells that Decisions answer below the public URL: then addresses that servers
	// would have a person open lead through a page of theirs.
	Pages bool
	// Alert raises an alert: log, console and webhooks; nil: alerts go nowhere. It
	// may wait for the store: call it off the path of calls where that matters.
	Alert func(context.Context, kidoban.Alert)
	// Guards are the judges of what is said; nil members allow.
	Guards Guards
	// Address is the client's address; nil means the connection's.
	Address func(*http.Request) netip.Addr
	// Dialed is given each new connection to a server on which the goroutine of a call
	// reads the answer, and returns what is used in its place; may be nil.
	Dialed func(net.Conn) net.Conn
	Log    *slog.Logger // nil: silent
	Now    func() time.Time
	Rand   io.Reader
}

// KeySet finds the public keys that access tokens are verified with, in memory.
type KeySet interface {
	Lookup(kid string) (jose.JSONWebKey, bool)
}

// Liveness tells in memory whether a token was revoked. An error means that it
// is not known: the request is refused.
type Liveness interface {
	Live(grantID, jti string) (bool, error)
}

// Coverage knows what people agreed to.
type Coverage interface {
	// Covers is what Gateway.Coverage was when the person agreed to the grant; it never
	// changes. CoversAll is everything. KindNotFound: there is no such grant (any more).
	Covers(ctx context.Context, grant string) (string, error)
}

// Once makes things usable once.
type Once interface {
	// UseOnce records id until expires. It is true for exactly one of any number of
	// calls with the same id within that time.
	UseOnce(ctx context.Context, id string, now, expires time.Time) (bool, error)
}

// Guards are the judges between a verified call and the server. They are asked
// in this order. Each returns nil to let the call go on.
type Guards struct {
	Policy    Policy
	Pins      Pins
	Arguments Arguments
	Approval  Approvals
	Results   Results
}

// Policy decides whether the caller may do this at all.
type Policy interface {
	// Connects judges whether the caller may have to do with a server at all. It is
	// asked for each server, before anything is asked of it in the caller's name.
	Connects(ctx context.Context, c *Call, server string) *Refusal
	// Decide judges a call. It may leave the call to be approved by a person.
	Decide(ctx context.Context, c *Call) *Refusal
	// List takes out of the result of a list what the caller may not use.
	List(ctx context.Context, c *Call, result wire.Raw) (wire.Raw, *Refusal)
	// Saw notes what the caller is about to read.
	Saw(ctx context.Context, c *Call, m wire.Message) *Refusal
}

// Pins hold definitions to what was approved.
type Pins interface {
	// Check judges a call to a tool, prompt or resource.
	Check(ctx context.Context, c *Call) *Refusal
	// List filters the result of a list and may return another one.
	List(ctx context.Context, c *Call, result wire.Raw) (wire.Raw, *Refusal)
}

// Arguments guard what is sent; they may return other params.
type Arguments interface {
	Guard(ctx context.Context, c *Call) (wire.Raw, *Refusal)
}

// Approvals wait for a person, or return how to ask one.
type Approvals interface {
	Await(ctx context.Context, c *Call) *Refusal
}

// Results guard what comes back; they may return another message of the same kind.
type Results interface {
	Guard(ctx context.Context, c *Call, m wire.Message) (wire.Message, *Refusal)
}

// Caller is who stands behind a request.
type Caller struct {
	User    string // the token's sub; "" with Config.Open
	Client  string // client_id
	Grant   string
	TokenID string // jti
	Scopes  []string
	Expires time.Time
	Until   time.Time // when streams begun with the token end; zero: nobody said
}

// Call is one request on its way. Guards read it and change nothing.
type Call struct {
	ID      string // also in the answer's X-Request-Id and in the audit log
	At      time.Time
	Address netip.Addr
	Caller  Caller
	Server  string
	// Upstream is the config of that server, not to be changed.
	Upstream *Server
	Era      wire.Era
	Version  string
	Message  wire.Message // as read; Params may be replaced by guards
	Params   wire.Params  // what policy needs to know of Message.Params
	// Tool is the tool's definition as the server last listed it to this user;
	// nil when the call is not tools/call or the tool was never listed.
	Tool wire.Raw

	toolSum   string // hash of Tool, when it is known; see fingerprint
	rec       Record
	sessionID string   // of the client's legacy session, hashed; "" for none
	labels    []string // of what is called or read
	asks      []string // policies that want a person's yes
	flagged   bool     // the result reads like orders
}

// fingerprint is the hash of the tool's definition, "" without one.
func (c *Call) fingerprint() string {
	if c.toolSum == "" && c.Tool != nil {
		c.toolSum = toolscan.Fingerprint(c.Tool)
	}
	return c.toolSum
}
