package gateway

import (
	"net/http"

	"github.com/kidoban/kidoban/wire"
)

// bridges holds the relationships that the gateway itself has with servers.
type bridges struct{ g *Gateway }

func (b *bridges) init(g *Gateway) { b.g = g }
func (b *bridges) drop(*server)    {}
func (b *bridges) close()          {}

func (g *Gateway) bridge(st *state, c *call) *Refusal {
	return refuse(http.StatusBadRequest, wire.CodeUnsupportedVersion, "bridge", "Unsupported protocol version")
}

func (g *Gateway) bridgeListen(st *state, c *call) *Refusal { return g.bridge(st, c) }
func (g *Gateway) bridgeEnd(c *call) *Refusal               { return g.bridge(c.st, c) }
