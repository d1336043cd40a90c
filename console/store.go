package console

import (
	"context"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/gateway"
)

// Store reads what the pages list, and keeps the counters. *store.DB implements
// it. Lists are ordered by time, newest first, and paged by key: a page costs the
// same at any depth. All methods are safe for concurrent use.
type Store interface {
	// Totals counts what there is at now. It reads whole indexes.
	Totals(ctx context.Context, now time.Time) (Totals, error)
	// WaitingCalls counts the calls that wait for a person's yes at now: that of one
	// user, and of everybody.
	WaitingCalls(ctx context.Context, userID string, now time.Time) (own, all int, err error)
	// Waiting counts what waits for a decision.
	Waiting(ctx context.Context) (Waiting, error)

	// PageClients lists clients by time of creation.
	PageClients(ctx context.Context, q ClientQuery) (Page[authserver.Client], error)
	// Client finds one by id. Not found: KindNotFound.
	Client(ctx context.Context, id string) (authserver.Client, error)
	// PageHosts lists redirect hosts by first sight; text matches a part of the name.
	PageHosts(ctx context.Context, q Query) (Page[Host], error)
	// Host finds one by name. Not found: KindNotFound.
	Host(ctx context.Context, name string) (Host, error)
	// HostClients lists the clients that have a callback at a host, in order of id,
	// after the given id.
	HostClients(ctx context.Context, host, after string, limit int) ([]authserver.Client, error)
	// HostUsers lists ids of users who gave access to a client that took it to the
	// host, in order of id, after the given id.
	HostUsers(ctx context.Context, host, after string, limit int) ([]string, error)
	// PageGrants lists grants by time of creation, those that have ended too.
	PageGrants(ctx context.Context, q GrantQuery) (Page[authserver.Grant], error)
	// Grant finds one by id. Not found: KindNotFound.
	Grant(ctx context.Context, id string) (authserver.Grant, error)
	// PageAlerts lists alerts; text matches a part of subject or sentence.
	PageAlerts(ctx context.Context, q AlertQuery) (Page[kidoban.Alert], error)
	// PageJournal lists entries of the audit log, of all chains.
	PageJournal(ctx context.Context, q JournalQuery) (Page[JournalEntry], error)

	// PageUsers lists people whose name begins so, in order of name, after the given
	// name, at most limit.
	PageUsers(ctx context.Context, prefix, after string, limit int) ([]authserver.User, error)
	// Passkeys lists a user's credentials; none is an empty list.
	Passkeys(ctx context.Context, userID string) ([]authserver.Passkey, error)
	// HeardOf finds what identity providers said of users, by id; who never logged in at
	// one is left out.
	HeardOf(ctx context.Context, ids []string) (map[string]authserver.Heard, error)
	// EndSessions deletes all logins of a user.
	EndSessions(ctx context.Context, userID string) error
	// User finds by id. Not found: KindNotFound.
	User(ctx context.Context, id string) (authserver.User, error)
	// UserByName finds by login name. Not found: KindNotFound.
	UserByName(ctx context.Context, name string) (authserver.User, error)
	// UserNames finds the names that users have, by id; unknown ids are left out.
	UserNames(ctx context.Context, ids []string) (map[string]string, error)
	// ClientNames finds the registrations of clients, by id; unknown ids are left out.
	ClientNames(ctx context.Context, ids []string) (map[string]authserver.Client, error)
	// SetAdmin makes a user an administrator, or not. Not found: KindNotFound.
	SetAdmin(ctx context.Context, userID string, admin bool) error

	// PinCounts counts definitions by server and state.
	PinCounts(ctx context.Context) ([]PinCount, error)
	// PagePins lists definitions without their text, in order of server, kind, name
	// and hash, after the given place.
	PagePins(ctx context.Context, q PinQuery) ([]gateway.Pin, error)
	// PinVersions lists every version of one definition with its text, oldest first.
	PinVersions(ctx context.Context, p gateway.Pin) ([]gateway.Pin, error)
	// DecidePin sets state, by and time of a pin. KindNotFound when there is none.
	DecidePin(ctx context.Context, p gateway.Pin) error

	// AddMeters adds counts to those that are stored, all or none.
	AddMeters(ctx context.Context, m []Meter) error
	// Meters lists the stored counts of one server ("" the whole) in [from, to), by
	// time.
	Meters(ctx context.Context, width time.Duration, server string, from, to time.Time) ([]Meter, error)
	// ServerMeters sums up the counts of each server in [from, to).
	ServerMeters(ctx context.Context, width time.Duration, from, to time.Time) ([]Meter, error)
	// DropMeters deletes counts of a width from before a time, at most batch.
	DropMeters(ctx context.Context, width time.Duration, before time.Time, batch int) (int, error)
}

// Place is where a page ended: behind the row with this time and key. The zero
// value is before the newest.
type Place struct {
	At  time.Time
	Key string
}

// Query asks for a page of a list.
type Query struct {
	Text  string // a part of what the row says, without regard to ASCII case
	After Place
	Limit int // rows of the page
	// Look bounds how many rows are looked at for Text. A page may so end before it
	// is full; its Next is where to look on.
	Look int
}

// ClientQuery chooses clients.
type ClientQuery struct {
	Query         // Text is looked for in id and registration
	Kind   string // authserver.ClientPre, ClientCIMD or ClientDCR; "" all
	Review bool   // only those that wait for an administrator
}

// GrantQuery chooses grants.
type GrantQuery struct {
	Query  // Text is not looked at
	User   string
	Client string
}

// AlertQuery chooses alerts.
type AlertQuery struct {
	Query
	Kind kidoban.AlertKind
}

// JournalQuery chooses entries of the audit log.
type JournalQuery struct {
	Query           // Text is looked for in the whole entry
	Request  string // id of a request
	User     string
	Client   string
	Server   string
	Other    bool      // only what was not allowed: refusals, failures, alerts, decisions
	From, To time.Time // zero: open
}

// Page is a page of a list.
type Page[T any] struct {
	Rows []T
	Next Place // zero at the end of the list
	// Looked is the time of the last row that was looked at, when the page ended
	// because enough had been looked at.
	Looked time.Time
}

// Totals are numbers of what there is.
type Totals struct {
	Users, Clients, Grants, Hosts int // Grants: live ones
}

// Waiting are numbers of what waits for a decision.
type Waiting struct {
	Review int // clients that wait for an administrator
	Held   int // definitions
}

// Many is where counting stops: a number above it stands for "more than Many".
const Many = 1000

// Host is a redirect host with one of the clients that use it. Its numbers are
// counted up to Many.
type Host struct {
	authserver.Host
	ClientID string // empty when its clients are gone
}

// JournalEntry is an entry of the audit log with its place.
type JournalEntry struct {
	Chain  string
	Seq    int64
	At     time.Time
	Hash   []byte
	Record gateway.Record
	Body   []byte
}

// PinCount is how many definitions of a server are in a state.
type PinCount struct {
	Server string
	State  gateway.PinState
	N      int
}

// PinQuery chooses definitions. After holds server, kind, name and hash of the
// last one of the page before.
type PinQuery struct {
	Server string
	State  gateway.PinState
	After  gateway.Pin
	Limit  int
}
