package authserver

import (
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
)

// User is a person who may log in.
type User struct {
	ID           string // "u_" and 128 random bits; the token's sub
	Name         string // login name, unique without regard to case; for users of an identity provider the provider's stable name
	Display      string // shown on pages
	PasswordHash string // argon2id in PHC form; empty when there is no password
	Admin        bool
	Disabled     bool
	Created      time.Time
}

// shown is how a page tells a person as whom they are logged in: the name, unless it
// was made for rules and not for people.
func (u User) shown() string {
	if u.Display != "" && (uuidName.MatchString(u.Name) || strings.HasPrefix(u.Name, "user-")) {
		return u.Display
	}
	return u.Name
}

// uuidName is a name that begins with an object's id.
var uuidName = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}@`)

// Passkey is one WebAuthn credential of a user. Data is go-webauthn's
// credential as JSON; it holds no secret.
type Passkey struct {
	ID       []byte // credential id
	UserID   string
	Label    string
	Data     json.RawMessage
	Created  time.Time
	LastUsed time.Time
}

// Setup is a one-time link that lets its holder set a password for UserID, or,
// when UserID is empty, create the first administrator.
type Setup struct {
	Hash    []byte
	UserID  string
	Expires time.Time
}

// Session is a browser's login. Only the hash of the cookie is stored.
type Session struct {
	Hash     []byte
	UserID   string
	Method   string // "password", "passkey", "oidc", "setup"
	Created  time.Time
	LastSeen time.Time
	Expires  time.Time // absolute end
}

// Kinds of clients, by how they became known.
const (
	ClientPre  = "pre"  // configured by the operator
	ClientCIMD = "cimd" // a client id metadata document, identity proven by a domain
	ClientDCR  = "dcr"  // registered itself: everything it says is a claim
)

// Client is a registered client. Metadata is its registration as JSON, in the
// form of RFC 7591, after policy.
type Client struct {
	ID          string
	Kind        string
	Metadata    json.RawMessage
	Fingerprint string // hash over what consent depends on: redirect URIs, keys, name, authentication, scopes
	SecretHash  []byte // SHA-256; nil for public clients
	Created     time.Time
	Consented   time.Time // first consent by any user; zero before
	LastUsed    time.Time
	Expires     time.Time // zero: never
	FreshUntil  time.Time // CIMD: the document need not be fetched again before
	Review      bool      // CIMD in open-with-review: waits for an administrator
}

// Code is an authorization code's record: everything its redemption must match.
type Code struct {
	Hash        []byte
	GrantID     string // id the grant will have once the code is redeemed
	UserID      string
	ClientID    string
	RedirectURI string // byte-exact, as used in the authorization request
	Resource    string
	Scopes      []string
	Challenge   string // S256
	DPoPKey     string // RFC 9449 dpop_jkt, or empty
	Remember    bool   // the user asked to be remembered
	AuthTime    time.Time
	Created     time.Time
	Expires     time.Time
	GrantEnds   time.Time // how long the user allowed access at most
	Covers      string    // the servers that the consent named, see coverage.go
}

// Grant is a user's permission for one client, as it came to life with the
// redemption of a code. UserID is empty for client_credentials.
type Grant struct {
	ID           string
	UserID       string
	ClientID     string
	RedirectURI  string
	RedirectHost string
	Resource     string
	Scopes       []string
	DPoPKey      string
	Created      time.Time
	LastUsed     time.Time
	Expires      time.Time
	Revoked      time.Time // zero while live
	Reason       string    // why it was revoked
	Covers       string    // of the code; "" only until FixCoverage, for what is older than it
}

// Refresh is the record of one refresh token. A spent one keeps its sealed
// successor for the grace window, and stays as a tombstone so that reuse is seen.
type Refresh struct {
	Hash      []byte
	GrantID   string
	Created   time.Time
	Expires   time.Time
	Used      time.Time // zero while unspent
	Successor []byte    // sealed under the token itself
}

// Consent is a remembered answer. It holds only for exactly this redirect URI,
// resource and client fingerprint, and for scopes within Scopes (G-CO5).
type Consent struct {
	UserID      string
	ClientID    string
	RedirectURI string
	Resource    string
	Scopes      []string
	Fingerprint string
	Created     time.Time
	Expires     time.Time
	Covers      string // it holds for no server that is not named here
}

// Revocation is one entry of the log that every replica follows. ID is "g:" and
// a grant id, "t:" and a token's jti, or ChangedUser and a user's id.
type Revocation struct {
	ID string
	At time.Time
}

// Host is a redirect host that was ever registered or used (G-RG3).
type Host struct {
	Host      string // canonical host, or "scheme:" and the scheme of a private-use URI
	Loopback  bool
	FirstSeen time.Time
	LastSeen  time.Time
	Clients   int
	Users     int
	Grants    int
}

// Deny is one entry of the deny-list (G-RG4).
type Deny struct {
	ID      string
	Kind    string // DenyHost, DenyURL, DenyCIMD or DenyClient
	Pattern string // canonical, see canonicalDeny
	Reason  string
	By      string // the administrator, or "config"
	Created time.Time
}

// Admission is a domain of client documents that an administrator let in, where
// new ones wait for review.
type Admission struct {
	Domain  string
	By      string
	Created time.Time
}

// Alert is an alert in the words of the house.
type Alert = kidoban.Alert

// SigningKey is a key of the access-token key set. Sealed is the private key as
// JWK under the operator's key source; Public is the JWK that JWKS publishes.
type SigningKey struct {
	KID     string
	Slot    string // algorithm and rotation period; unique, so that replicas agree on one key
	Alg     string
	Sealed  []byte
	Public  json.RawMessage
	Active  time.Time // signs from here on; published from creation
	Retire  time.Time // stops signing
	Expires time.Time // leaves the key set
}

// Transaction is a step at a third party that this browser began and must end:
// an upstream account being connected, a login at an identity provider.
type Transaction struct {
	Hash    []byte // of the state value
	Browser []byte // hash of the transaction cookie
	Data    []byte // sealed by the server; holds the PKCE verifier
	Expires time.Time
}
