// Package gateway stands between MCP clients and MCP servers and relays their
// messages.
//
// A call goes one way, written down in one function (Gateway.serve): its audit
// record is opened; Host and Origin are judged; the token is verified; the
// message is read strictly, once; it is routed to a server; policy, pins,
// argument guards and approvals are asked; the account the user holds at the
// server is fetched; the message is relayed, in a new envelope around the raw
// bytes that were read; each message that comes back is read as strictly and
// guarded; the record is closed. Whatever is in doubt is refused.
//
// Two eras of the protocol live side by side (package wire). Where client and
// server speak the same one over HTTP, messages pass; everywhere else (another
// era, stdio, the aggregate of all servers) the gateway holds a relationship of
// its own with the server and speaks each side's language (bridge).
//
// Nothing is kept between requests that another replica would miss: a legacy
// session id and a modern requestState are sealed envelopes around the
// server's own, bound to the user, the client and the server (seal.go). Only a
// conversation that is under way lives in the memory of one replica.
//
// Requirement ids in comments (RS-…, TR-…, G-…) are those of the specification
// in the project's documentation.
package gateway
