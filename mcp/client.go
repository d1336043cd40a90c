package mcp

import (
	"net/url"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// Options of a Client.
type Options struct {
	URL          string // the MCP endpoint
	Name         string // clientInfo.name; default "kidoban"
	Capabilities wire.Raw
	Bearer       string         // access token, sent on every request; "" = none
	Header       kidoban.Fields // sent on every request
	Jar          *outbound.Jar
	Probe        string // copied into every exchange

	MaxBody     int64         // bytes of one response; default 4 MiB
	Timeout     time.Duration // of one exchange; 0 = the Doer's
	StreamTime  time.Duration // how long the old transport's stream may stay open; default 2 min
	MaxPages    int           // of one list; default 100
	MaxItems    int           // of one list; default 10,000
	MaxListSize int           // bytes of all items of one list; default 16 MiB
}

// Transport is how messages travel.
type Transport string

// The transports.
const (
	StreamableHTTP Transport = "streamable_http"
	HTTPSSE        Transport = "http+sse" // revision 2024-11-05, two endpoints
)

// Client talks to one MCP endpoint. Connect before List and Request; Call works
// at any time. Its methods are safe for concurrent use after Connect. Close
// ends the session and the goroutine of the old transport.
type Client struct {
	do Doer
	o  Options

	mu        sync.Mutex
	nextID    int64
	era       wire.Era
	version   string
	session   string
	transport Transport
	stream    *sseStream // the old transport's open stream
}

// New returns a Client for o.URL. It sends nothing.
func New(do Doer, o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, kidoban.Errorf(kidoban.KindUsage, "The MCP endpoint is not an http or https URL.")
	}
	if o.Name == "" {
		o.Name = "kidoban"
	}
	if o.Capabilities == nil {
		o.Capabilities = wire.Raw("{}")
	}
	setDefault(&o.MaxBody, 4<<20)
	setDefault(&o.MaxPages, 100)
	setDefault(&o.MaxItems, 10_000)
	setDefault(&o.MaxListSize, 16<<20)
	setDefault(&o.StreamTime, 2*time.Minute)
	return &Client{do: do, o: o, transport: StreamableHTTP}, nil
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// state is a copy of what requests depend on.
type state struct {
	era       wire.Era
	version   string
	session   string
	transport Transport
	stream    *sseStream
}

func (c *Client) state() state {
	c.mu.Lock()
	defer c.mu.Unlock()
	return state{c.era, c.version, c.session, c.transport, c.stream}
}

// Use sets era, revision and session without any traffic, for a server that is
// known already.
func (c *Client) Use(version, session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.era, _ = wire.EraOf(version)
	c.version, c.session = version, session
}

func (c *Client) newID() wire.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextID++
	return wire.IntID(c.nextID)
}

func (c *Client) clientInfo() wire.Raw {
	b := wire.AppendQuote([]byte(`{"name":`), c.o.Name)
	b = wire.AppendQuote(append(b, `,"version":`...), kidoban.Version)
	return append(b, '}')
}
