// Package lab is the deliberately weak server that proves the tester: an MCP
// server, an authorization server, an upstream identity provider and the stub of
// a cloud client, in one process on loopback.
//
// Without switches a lab is safe and conforms to the MCP specification, OAuth 2.1
// and the RFCs they build on. Each [Switch] opens exactly one sub-flaw of the
// catalogue, in the way the catalogue says it can be exploited; each profile
// changes how the authorization endpoint behaves without making it weaker.
//
// The idea is distrust: the package shares no code with the auditor's judges, with
// the authorization server or with the gateway, and makes its own decisions on
// redirect URIs, PKCE, registrations and messages. A mistake in one of them can
// therefore not hide itself in the other.
//
// Reading order: lab.go (listeners and state), switches.go (what can be opened),
// authorize.go → login.go → consent.go → token.go (one code's way),
// delegate.go and idp.go (the upstream), endpoint.go and tools.go (the MCP face).
// A flaw lives at the place where it would be made in reality, as a question
// l.on("F5-a") beside the safe decision.
package lab
