package account

import (
	"context"
	"time"
)

// Account is an account at a server as it is stored: sealed. An empty user is the
// account that all users share; a user that begins with ClientUser is the
// gateway's own registration as a client.
type Account struct {
	User    string
	Server  string
	Issuer  string // the authorization server that gave it out; "" for a fixed secret
	Sealed  []byte // by the vault, for exactly this user, server and issuer
	Version int64  // counts changes
	Updated time.Time
}

// Store keeps accounts. Methods that return nil have made their effect
// durable; not found is KindNotFound.
type Store interface {
	// Account finds the account of a user at a server.
	Account(ctx context.Context, user, server string) (Account, error)
	// PutAccount stores an account in place of the one there was.
	PutAccount(ctx context.Context, a Account) error
	// SwapAccount stores new contents if the account still has the given version
	// and issuer; otherwise KindConflict: of several replicas that refresh a token
	// at once, one wins.
	SwapAccount(ctx context.Context, a Account) error
	// DeleteAccount forgets an account and returns what it was, in one step: nothing is
	// stored in between.
	DeleteAccount(ctx context.Context, user, server string) (Account, error)
	// UserAccounts lists the accounts of a user in order of server.
	UserAccounts(ctx context.Context, user string) ([]Account, error)
	// AllAccounts lists all, the gateway's own registrations too, in order of user and server, after the given pair.
	AllAccounts(ctx context.Context, afterUser, afterServer string, limit int) ([]Account, error)
}

// ClientUser begins the User of the gateway's own registrations; the issuer
// follows. No user id begins like this.
const ClientUser = "client:"
