// Package account keeps the accounts with which the gateway goes to the servers
// behind it: a user's own at a third party, one that all users share, and the
// gateway's own registration as a client.
//
// The idea: an account belongs to exactly one user, one server and one issuer,
// and is sealed for these three (package vault). Whatever a server or an
// authorization server says can make the gateway ask a person again, but never
// move a credential to another issuer (CL-09). Where the config names no
// authorization server, it is found the way the MCP specification orders it
// (discover.go), and the gateway becomes a client there: pre-registered, by its
// client document, or by registration (register.go, CL-07).
//
// Reading order: wallet.go (what a call asks for), token.go (one token's life),
// authorize.go (a person connects an account), discover.go, register.go,
// grant.go (accounts without a person: client credentials, token exchange,
// identity assertion), quirk.go (providers that differ).
//
// Misuse to avoid: handing a client's own token to anything here. The only
// proof of a user that goes out is the one of Subjects, made for that purpose
// (RS-06).
package account
