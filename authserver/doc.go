// Package authserver is the OAuth authorization server that MCP clients meet at
// the gateway: registration, login, consent, tokens and their end.
//
// # The idea
//
// An MCP client is usually a stranger: it registered itself a second ago, its
// name is a claim, and its callback may be anybody's. So the server is built
// around one question, asked of a person on one page: may *this* client, which
// returns to *this* host, act for you on *these* servers? Everything before the
// page carries no authority, and everything after it is bound to the answer.
//
// Four rules follow and hold everywhere:
//
//   - Nothing is kept for a stranger. An authorization request travels sealed in
//     the URL and the form until a person has logged in and answered; half-open
//     requests cost no memory and no disk (see ticket.go).
//   - Every secret that is handed out is 256 random bits and only its SHA-256
//     hash is kept. The one exception, the successor of a refresh token, is
//     sealed under the token it succeeds (see refresh.go).
//   - Whatever may happen once happens in one SQL statement ([Store]).
//   - Redirect URIs are compared byte for byte by one validator at registration,
//     at the authorization endpoint, on the consent form and at the token
//     endpoint (see redirect.go).
//
// # Use
//
// [New] takes a [Config] and [Deps] and gives a [Server], which is an
// http.Handler for all paths it publishes ([Server.Paths]). A resource server in
// the same process takes [Server.KeySet] to verify access tokens without I/O and
// [Server.Liveness] to see revocations of any replica within a second.
//
// Requirement ids (G-AS…, G-RG…, G-CO…, AS-…, PX-…) in comments and test names
// are those of the gateway's specification; flaw ids (F…, E…) those of the
// catalogue in the root package.
package authserver
