package account

import (
	"crypto"
	"time"
)

// App is how the gateway gets accounts at one server (G-VA2).
type App struct {
	// URL is the MCP server's; the resource that tokens are for, unless Resource
	// says otherwise.
	URL string
	// Issuer of the accounts. Empty: whatever the server's own metadata names
	// (RFC 9728). With one, metadata that names another is not followed (CL-09).
	Issuer string
	// ClientID of the gateway there, if an operator registered it. Otherwise
	// Document is used where the issuer takes such, else the gateway registers.
	ClientID, ClientSecret string
	Key                    *Key   // for private_key_jwt; nil: none
	Method                 string // of client authentication; "": by the issuer's metadata
	Document               string // https URL of the gateway's own client document; "": none
	ClientName             string // for people, when registering

	Grant Grant
	// Provider is the identity provider whose word is exchanged, with the grants
	// that need one.
	Provider *Provider

	// Scopes to ask for, and no others. Empty: those the server's challenge
	// names, else those of its metadata, and more when it asks later (CL-10, CL-11).
	Scopes []string
	// Resource is the audience to ask for (RFC 8707). Empty: the one that was
	// discovered, or none with an Issuer in the config. NoResource sends none.
	Resource string
	// Params are added to the authorization request.
	Params map[string]string
	// Endpoints for providers without metadata; authorization and token or none.
	Authorization, Token, Revocation string
	// Legacy follows revision 2025-03-26 where a server has no metadata: its own
	// origin is the issuer, its endpoints have fixed paths.
	Legacy bool
	// Loopback lets the authorization server live on loopback, Private in a private
	// range (https only).
	Loopback, Private bool
}

// NoResource as App.Resource sends no audience, for providers that refuse the
// parameter.
const NoResource = "none"

// Grant is how a token is got.
type Grant string

// The grants. The first asks a person; the others do not.
const (
	GrantCode     Grant = ""                   // authorization code with PKCE, one account for each user
	GrantClient   Grant = "client_credentials" // the gateway as itself, one account for all (RFC 6749 §4.4)
	GrantExchange Grant = "token_exchange"     // a proof of the user for a token (RFC 8693)
	GrantAssert   Grant = "id_jag"             // a proof for an identity assertion, and that for a token (ID-JAG)
)

// Provider is an identity provider at which the gateway exchanges the proof of
// a user's login.
type Provider struct {
	Issuer                 string // found by its metadata when Token is empty
	Token                  string // endpoint
	ClientID, ClientSecret string
	Key                    *Key
	Method                 string
}

// Key signs the gateway's client assertions (RFC 7523).
type Key struct {
	ID     string // kid; may be empty
	Alg    string // ES256, ES384, EdDSA, RS256, PS256
	Signer crypto.Signer
}

// How long things found out are believed.
const (
	metadataLife  = time.Hour       // an issuer's endpoints
	discoveryLife = 5 * time.Minute // which issuer a server names; asked anew for each connection after that
)

// MaxScopes bounds what a server can make the gateway ask for, MaxScopeText the
// same in bytes, MaxStepUps how often in a day it can send a user back to agree
// to more (E36, 12).
const (
	MaxScopes    = 64
	MaxScopeText = 4 << 10
	MaxStepUps   = 5
)
