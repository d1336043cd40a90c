package policy

import (
	"net/netip"
	"time"

	"github.com/cedar-policy/cedar-go/types"
)

// Action is what somebody wants to do.
type Action string

// The actions. List is to be shown a tool, prompt or resource; what may not be
// called is not shown.
const (
	Connect Action = "connect" // begin a session with a server; the resource is the server
	List    Action = "list"
	Call    Action = "call" // a tool
	Get     Action = "get"  // a prompt
	Read    Action = "read" // a resource; subscribing is reading
	Use     Action = "use"  // whatever else a server offers; context.method says what
)

var actions = []Action{Connect, List, Call, Get, Read, Use}

// Kind is what is to be acted on.
type Kind string

// The kinds, which are entity types in Cedar.
const (
	Server   Kind = "Server"
	Tool     Kind = "Tool"
	Prompt   Kind = "Prompt"
	Resource Kind = "Resource"
)

var kinds = []Kind{Server, Tool, Prompt, Resource}

// Labels of tools, and of sessions that used them. Policies may name others that
// the operator gave out.
const (
	Untrusted = "untrusted" // text that strangers can write
	Private   = "private"   // the user's own data
	Injected  = "injected"  // sessions only: text that read like orders came in
	Sends     = "sends"     // tools only: what goes in may reach others
	Reaches   = "reaches"   // tools only: goes to addresses that the caller names
	Unclear   = "unclear"   // tools only: neither name nor annotations say whether it sends
)

// Principal is who asks.
type Principal struct {
	ID     string // the token's sub
	Name   string // login name
	Groups []string
	Admin  bool
}

// Object is what is acted on. Class is "read", "write" or "destroy"; "" for what
// is no tool.
type Object struct {
	Kind   Kind
	Server string
	Name   string // of the tool or prompt, the URI of a resource, "" of a server
	Class  string
	Labels []string
}

// Query is one question. Strings may be hostile; they are data for Cedar.
type Query struct {
	Principal Principal
	Action    Action
	Object    Object

	Client    string // client_id
	Scopes    []string
	Session   []string // labels of what the session has read
	Arguments []byte   // JSON object that was read strictly; nil is none
	Approved  bool     // a person said yes to exactly this
	Method    string
	Era       string
	Address   netip.Addr
	At        time.Time
}

// uids of Cedar entities.
func userUID(id string) types.EntityUID   { return types.NewEntityUID("User", types.String(id)) }
func groupUID(id string) types.EntityUID  { return types.NewEntityUID("Group", types.String(id)) }
func serverUID(id string) types.EntityUID { return types.NewEntityUID("Server", types.String(id)) }
func actionUID(a Action) types.EntityUID  { return types.NewEntityUID("Action", types.String(a)) }
func (o Object) uid() types.EntityUID {
	return types.NewEntityUID(types.EntityType(o.Kind), types.String(o.id()))
}
func texts(list []string) types.Set { return types.NewSet(values(list)...) }
func values(list []string) []types.Value {
	out := make([]types.Value, len(list))
	for i, s := range list {
		out[i] = types.String(s)
	}
	return out
}

func (o Object) id() string {
	if o.Kind == Server {
		return o.Server
	}
	return o.Server + "/" + o.Name
}

// around are the entities of one query. It implements types.EntityGetter without
// a map: there are two.
type around struct{ who, what types.Entity }

// Get implements types.EntityGetter.
func (a *around) Get(uid types.EntityUID) (types.Entity, bool) {
	switch uid {
	case a.who.UID:
		return a.who, true
	case a.what.UID:
		return a.what, true
	}
	return types.Entity{}, false
}

// The attributes that policies may read, by variable. Check refuses others.
var attributes = map[string][]string{
	"principal": {"name", "groups", "admin"},
	"resource":  {"server", "name", "class", "labels"},
	"context":   {"approved", "session", "arguments", "client", "scopes", "method", "era", "address", "now", "hour", "weekday"},
}

func (q *Query) entities() *around {
	groups := make([]types.EntityUID, len(q.Principal.Groups))
	for i, g := range q.Principal.Groups {
		groups[i] = groupUID(g)
	}
	a := &around{
		who: types.Entity{UID: userUID(q.Principal.ID), Parents: types.NewEntityUIDSet(groups...), Attributes: types.NewRecord(types.RecordMap{
			"name": types.String(q.Principal.Name), "groups": texts(q.Principal.Groups), "admin": types.Boolean(q.Principal.Admin)})},
		what: types.Entity{UID: q.Object.uid(), Attributes: types.NewRecord(types.RecordMap{
			"server": types.String(q.Object.Server), "name": types.String(q.Object.Name), "class": types.String(q.Object.Class), "labels": texts(q.Object.Labels)})},
	}
	if q.Object.Kind != Server {
		a.what.Parents = types.NewEntityUIDSet(serverUID(q.Object.Server))
	}
	return a
}

func (q *Query) context(arguments types.Record) types.Record {
	at := q.At.UTC()
	addr := q.Address
	if !addr.IsValid() {
		addr = netip.IPv6Unspecified()
	}
	return types.NewRecord(types.RecordMap{
		"approved": types.Boolean(q.Approved), "session": texts(q.Session), "arguments": arguments, "client": types.String(q.Client), "scopes": texts(q.Scopes),
		"method": types.String(q.Method), "era": types.String(q.Era), "address": types.IPAddr(netip.PrefixFrom(addr, addr.BitLen())),
		"now": types.NewDatetime(at), "hour": types.Long(at.Hour()), "weekday": types.String(at.Weekday().String()),
	})
}
