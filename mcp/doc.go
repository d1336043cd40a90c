// Package mcp is an MCP client that keeps the bytes. It finds out which era and
// transport a server speaks, lists what it offers with all pages, and gives
// every answer as the raw JSON that came, beside the HTTP exchange it came in:
// the audit judges exchanges, the gateway pins definitions, and neither may
// look through somebody's typed model.
//
// A refusal is an answer here. A server that says 401 at any step has told us
// what we came to learn, so it is reported as Refusal with its challenges and
// not as an error. Errors are left for "no answer arrived".
//
// Call is the raw level: method, path, headers, content type and body can all be
// set, which is what probes need. Connect, List and Request are the polite level
// built on it.
package mcp

import (
	"context"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// Doer sends one HTTP request without following redirects; *outbound.Client is
// one. It returns the Exchange whenever a response head arrived.
type Doer interface {
	Do(ctx context.Context, r outbound.Req) (*kidoban.Exchange, error)
}
