package authserver

import (
	"context"
	"time"
)

// Store keeps what outlives a request. All methods are safe for concurrent use,
// by any number of processes on one database.
//
// A method that returns nil has made its effect durable: it survives the kill of
// the process and, as far as the disk keeps its promises, a power cut. Each
// method is one transaction: all of its effect or none. "Not found" is an error
// of kind kidoban.KindNotFound; a violated uniqueness is kidoban.KindConflict.
// Times are kept in milliseconds.
type Store interface {
	Accounts
	Clients
	Grants
	Operations
}

// Accounts are people, how they prove themselves and their sessions.
type Accounts interface {
	// CreateUser adds u. KindConflict when the name is taken.
	CreateUser(ctx context.Context, u User) error
	// User finds by id. Not found: KindNotFound.
	User(ctx context.Context, id string) (User, error)
	// UserByName finds by login name without regard to case. Not found: KindNotFound.
	UserByName(ctx context.Context, name string) (User, error)
	// UserForIdentity returns the user bound to (issuer, subject), creating fresh
	// and binding it when there is none. Two concurrent calls give one user.
	// KindConflict when fresh's name belongs to somebody else.
	UserForIdentity(ctx context.Context, issuer, subject string, fresh User) (User, error)
	// Users lists in order of name, after the given name, at most limit.
	Users(ctx context.Context, after string, limit int) ([]User, error)
	// SetPassword replaces the password hash and ends all sessions of the user
	// except the one whose hash is keep (nil: all).
	SetPassword(ctx context.Context, userID, hash string, keep []byte) error
	// SetAdmin makes a user an administrator, or not. Not found: KindNotFound.
	SetAdmin(ctx context.Context, userID string, admin bool) error
	// SetUserDisabled switches a user. Disabling ends sessions and revokes all
	// grants in the same transaction.
	SetUserDisabled(ctx context.Context, userID string, disabled bool, now time.Time) error

	// Heard finds what the user's identity provider said last. KindNotFound for who
	// never logged in at one.
	Heard(ctx context.Context, userID string) (Heard, error)
	// PutHeard stores it in place of the earlier, at its next version, with Ended and
	// Why empty. When groups differ, [ChangedUser] is in the log of revocations
	// afterwards.
	PutHeard(ctx context.Context, h Heard) error
	// SwapHeard does that if the version is still h.Version; done tells.
	SwapHeard(ctx context.Context, h Heard) (done bool, err error)
	// EndHeard stores h.Ended and h.Why and ends the user's sessions if the version is
	// still h.Version; done tells. What was heard stays.
	EndHeard(ctx context.Context, h Heard) (done bool, err error)

	// AddPasskey stores a credential. KindConflict when its id exists.
	AddPasskey(ctx context.Context, p Passkey) error
	// Passkeys lists a user's credentials; none is an empty list.
	Passkeys(ctx context.Context, userID string) ([]Passkey, error)
	// UpdatePasskey stores the credential's new state after a login.
	UpdatePasskey(ctx context.Context, p Passkey) error
	// DeletePasskey removes a user's credential. Not found: KindNotFound.
	DeletePasskey(ctx context.Context, userID string, id []byte) error

	// CreateSetup stores a set-up link. A link with an empty UserID replaces every
	// earlier one of that sort, and ends when there is an administrator.
	CreateSetup(ctx context.Context, s Setup) error
	// Setup looks at a link without using it. Not found when used or expired.
	Setup(ctx context.Context, hash []byte, now time.Time) (Setup, error)
	// RedeemSetup uses the link: of any number of concurrent calls exactly one
	// succeeds. Not found when unknown, used or expired. When the link has no user,
	// fresh is created in the same transaction (KindConflict leaves the link unused);
	// otherwise fresh.PasswordHash becomes the user's.
	RedeemSetup(ctx context.Context, hash []byte, now time.Time, fresh User) (User, error)

	// CreateSession stores a login.
	CreateSession(ctx context.Context, s Session) error
	// Session finds a login by cookie hash, with its user. Not found also when the
	// user is disabled.
	Session(ctx context.Context, hash []byte) (Session, User, error)
	// TouchSession moves LastSeen; unknown hashes are ignored.
	TouchSession(ctx context.Context, hash []byte, now time.Time) error
	// EndSession deletes a login; unknown hashes are ignored.
	EndSession(ctx context.Context, hash []byte) error
	// EndSessions deletes all logins of a user.
	EndSessions(ctx context.Context, userID string) error
}

// Clients are registrations, what is known about their callbacks, and the
// deny-list.
type Clients interface {
	// RegisterClient stores a self-registered client, unless share is true and an
	// unconsented, unexpired client with the same fingerprint exists: then that
	// one's life is extended to c.Expires and it is returned with created false
	// (G-RG5, idempotent registration). The registration access token's hash is
	// attached to the client either way, as long as it has fewer than maxTokens;
	// attached tells. Once there was no room for one, those who have one cannot delete
	// the client (DropToken). Two concurrent calls give one client.
	RegisterClient(ctx context.Context, c Client, token []byte, share bool, maxTokens int) (got Client, created, attached bool, err error)
	// PutClient stores a pre-registered client or a client document, replacing an
	// earlier state. When the fingerprint changed, remembered consents for the
	// client are dropped in the same transaction (G-CO5); Created, Consented and
	// Review of the stored row are kept. The stored row is returned.
	PutClient(ctx context.Context, c Client) (Client, error)
	// Client finds by id. Not found: KindNotFound. Expiry is for the caller to judge.
	Client(ctx context.Context, id string) (Client, error)
	// ClientByToken finds the client that a registration access token manages.
	ClientByToken(ctx context.Context, id string, token []byte) (Client, error)
	// DropToken detaches a registration access token. When it was the last one, the
	// client is deleted and its grants are revoked; gone tells. Not found when the
	// pair does not exist.
	DropToken(ctx context.Context, id string, token []byte, now time.Time) (gone bool, err error)
	// DeleteClient removes a client with its consents and revokes its grants.
	DeleteClient(ctx context.Context, id string, now time.Time) error
	// MarkConsented sets Consented, if it was not set, LastUsed and Expires (zero: never).
	MarkConsented(ctx context.Context, id string, now, expires time.Time) error
	// TouchClient sets LastUsed and Expires.
	TouchClient(ctx context.Context, id string, now, expires time.Time) error
	// SetReview opens or closes the review gate of a client.
	SetReview(ctx context.Context, id string, review bool) error
	// ReviewQueue lists clients that wait for an administrator, in order of id, after
	// the given id, at most limit.
	ReviewQueue(ctx context.Context, after string, limit int) ([]Client, error)
	// AdmitDomain lets a domain of client documents in; again changes nothing.
	AdmitDomain(ctx context.Context, a Admission) error
	// DismissDomain takes that back. Not found: KindNotFound.
	DismissDomain(ctx context.Context, domain string) error
	// Admitted lists the domains that were let in, oldest first.
	Admitted(ctx context.Context) ([]Admission, error)
	// CountPending counts unexpired self-registered or document clients without any consent.
	CountPending(ctx context.Context, now time.Time) (int, error)
	// ListClients lists in order of id, after the given id, at most limit.
	ListClients(ctx context.Context, after string, limit int) ([]Client, error)

	// SeeHosts records that a client uses hosts; it returns those never seen before.
	SeeHosts(ctx context.Context, clientID string, hosts []Host, now time.Time) (fresh []string, err error)
	// Hosts lists recorded hosts with their counts, newest first, at most limit.
	Hosts(ctx context.Context, limit int) ([]Host, error)

	// AddDeny stores an entry; the same kind and pattern again changes nothing.
	AddDeny(ctx context.Context, d Deny) error
	// RemoveDeny deletes an entry. Not found: KindNotFound.
	RemoveDeny(ctx context.Context, id string) error
	// DenyList returns all entries, oldest first.
	DenyList(ctx context.Context) ([]Deny, error)
}

// Redemption asks to spend a code and bring its grant to life.
type Redemption struct {
	Hash    []byte
	Now     time.Time
	Burn    bool    // spend the code without a grant: its verifier was wrong
	Grant   Grant   // inserted when the code was still good
	Refresh Refresh // inserted when Hash is not nil
}

// Spend says what became of a code or refresh token.
type Spend int

// Outcomes of RedeemCode and RotateRefresh.
const (
	SpendDone    Spend = iota // spent now, by this call
	SpendUnknown              // no such token, or it has expired
	SpendAgain                // it was spent before; its grant has been revoked by this call
	SpendGrace                // refresh: spent within the grace window; the sealed successor is returned
	SpendDead                 // its grant was already revoked or has ended
)

// Rotation asks to spend a refresh token and store its successor.
type Rotation struct {
	Hash      []byte
	Now       time.Time
	Grace     time.Duration
	Sealed    []byte  // the successor under the presented token
	Successor Refresh // inserted when the presented token was unspent
}

// Grants are permissions, codes, refresh tokens and their revocation.
type Grants interface {
	// CreateCode stores a code.
	CreateCode(ctx context.Context, c Code) error
	// Code reads a code's record, spent or not. Not found: KindNotFound.
	Code(ctx context.Context, hash []byte) (Code, error)
	// RedeemCode spends a code. Of any number of concurrent calls on any number of
	// replicas exactly one gets SpendDone; only that one's grant and refresh token
	// exist afterwards. A call that finds the code spent revokes the grant that came
	// of it (SpendAgain); with Burn it revokes nothing (G-AS4).
	RedeemCode(ctx context.Context, r Redemption) (Spend, error)

	// Refresh reads a refresh token's record with its grant. Not found: KindNotFound.
	Refresh(ctx context.Context, hash []byte) (Refresh, Grant, error)
	// RotateRefresh spends a refresh token. Exactly one of concurrent calls gets
	// SpendDone; calls within Grace of it get SpendGrace and the sealed successor it
	// stored; later calls revoke the grant and get SpendAgain (G-AS5).
	RotateRefresh(ctx context.Context, r Rotation) (Spend, []byte, error)

	// CreateGrant stores a grant that has no code: client_credentials, ID-JAG.
	CreateGrant(ctx context.Context, g Grant) error
	// Grant finds by id. Not found: KindNotFound.
	Grant(ctx context.Context, id string) (Grant, error)
	// UserGrants lists a user's live grants, newest first.
	UserGrants(ctx context.Context, userID string, now time.Time) ([]Grant, error)
	// AllGrants lists live grants of all users in order of id, after the given id.
	AllGrants(ctx context.Context, now time.Time, after string, limit int) ([]Grant, error)
	// RevokeGrant ends a grant and drops the consent remembered with it. A grant
	// already revoked stays as it is. Not found: KindNotFound.
	RevokeGrant(ctx context.Context, id, reason string, now time.Time) error
	// RevokeClientGrants ends all live grants of a client, and codes and redemptions
	// under way bring none to life afterwards; it returns how many ended.
	RevokeClientGrants(ctx context.Context, clientID, reason string, now time.Time) (int, error)
	// RevokeUserGrants is the same for a user.
	RevokeUserGrants(ctx context.Context, userID, reason string, now time.Time) (int, error)
	// RevokeToken ends one access token by its jti.
	RevokeToken(ctx context.Context, jti string, now time.Time) error
	// Revocations lists the log from since on, oldest first. A revocation may become
	// visible later than its time says by the length of its transaction, so callers
	// read with overlap.
	Revocations(ctx context.Context, since time.Time) ([]Revocation, error)

	// PutConsent remembers an answer, replacing the earlier one for the same user,
	// client, redirect URI and resource.
	PutConsent(ctx context.Context, c Consent) error
	// Consent finds a remembered answer. Not found: KindNotFound.
	Consent(ctx context.Context, userID, clientID, redirectURI, resource string) (Consent, error)
	// RecentGrants counts distinct users who approved the client since a time.
	RecentGrants(ctx context.Context, clientID string, since time.Time) (int, error)
	// ClientGrants lists ids of clients that have live grants.
	ClientGrants(ctx context.Context, now time.Time) ([]string, error)
}

// Share is the part of a limit that one key may take: one each interval, burst at
// once.
type Share struct {
	Key      string
	Interval time.Duration
	Burst    int
}

// Operations are the server's own keys, replay memory, limits and housekeeping.
type Operations interface {
	// Secret returns the secret stored under name, storing sealed when there is
	// none. Concurrent first calls agree on one.
	Secret(ctx context.Context, name string, sealed []byte) ([]byte, error)
	// AddKey stores a signing key unless its slot is taken; it returns the slot's key.
	AddKey(ctx context.Context, k SigningKey) (SigningKey, error)
	// SigningKeys lists keys that have not expired, oldest first.
	SigningKeys(ctx context.Context, now time.Time) ([]SigningKey, error)
	// RetireKeys makes every key stop signing at now, so that the next rotation step
	// makes a new one.
	RetireKeys(ctx context.Context, now time.Time) error

	// UseOnce records id until expires. It returns true for exactly one of any
	// number of calls with the same id within that time.
	UseOnce(ctx context.Context, id string, now, expires time.Time) (bool, error)
	// TakeLimit moves the theoretical arrival time of key (GCRA): interval per
	// event, burst events at once. It returns how long to wait; zero means taken.
	TakeLimit(ctx context.Context, key string, now time.Time, interval time.Duration, burst int) (time.Duration, error)
	// TakeLimits takes one of each share, or of none when one is spent: spent is its
	// index and wait how long until it gives again; a wait of zero means taken. One
	// transaction for all processes on the database.
	TakeLimits(ctx context.Context, now time.Time, shares ...Share) (spent int, wait time.Duration, err error)
	// ClearLimit forgets what was taken of key.
	ClearLimit(ctx context.Context, key string) error

	// CreateTransaction stores a step at a third party.
	CreateTransaction(ctx context.Context, t Transaction) error
	// UseTransaction spends a transaction: exactly one call gets it, and only with
	// the browser hash it was made with. Not found otherwise; a wrong browser
	// leaves it unspent and returns kidoban.KindRefused.
	UseTransaction(ctx context.Context, hash, browser []byte, now time.Time) (Transaction, error)

	// AddAlert stores an alert; the newest 10,000 are kept.
	AddAlert(ctx context.Context, a Alert) error
	// Alerts lists the newest alerts first.
	Alerts(ctx context.Context, limit int) ([]Alert, error)

	// Purge deletes what has ended before now, at most batch rows of each sort; it
	// returns how many rows went. Revocations are kept until keep before now.
	Purge(ctx context.Context, now time.Time, keep time.Duration, batch int) (int, error)
}
