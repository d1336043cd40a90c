package outbound

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// Client sends requests under one set of Options. It is safe for concurrent use.
type Client struct {
	o     Options
	guard Guard

	dialer dialer
	// One transport per way to treat the wire, so that a pooled connection made
	// under a looser rule is never reused under a stricter one.
	secure *http.Transport // https
	loop   *http.Transport // http to loopback (Lab)
	open   *http.Transport // http anywhere public (AllowPlain)

	base context.Context // ended by Close; every exchange ends with it
	stop context.CancelFunc

	mu       sync.Mutex // guards what follows
	closed   bool
	inflight sync.WaitGroup
	lastID   int
	requests int
	hosts    map[string]*hostState
}

// hostState is the politeness account of one host.
type hostState struct {
	name     string
	requests int
	next     time.Time // earliest start of the next request
	waited   time.Duration
}

// New returns a Client. The caller owns it and ends it with Close.
func New(o Options) *Client {
	o = o.withDefaults()
	c := &Client{o: o, guard: Guard{Lab: o.Lab, Private: o.Private}, hosts: make(map[string]*hostState)}
	// The client outlives any single request, so its end is its own: Close.
	c.base, c.stop = context.WithCancel(context.Background())
	c.dialer = newDialer(c.guard, o.Resolve)
	c.secure = c.transport(false)
	c.loop = c.transport(true)
	c.open = c.transport(false)
	return c
}

// transport builds an http.Transport that dials through the guard.
func (c *Client) transport(loopbackOnly bool) *http.Transport {
	return &http.Transport{
		Proxy:                  nil, // a proxy would resolve and dial behind the guard's back
		DialContext:            c.dialer.dialer(loopbackOnly),
		TLSClientConfig:        c.tlsConfig(""),
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // we decode ourselves, bounded
		MaxIdleConnsPerHost:    4,
		MaxIdleConns:           64,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: c.o.MaxHeader,
	}
}

// Close ends running exchanges, waits for them, and closes idle connections.
// Later requests are refused. Never call it from a Stream callback.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.inflight.Wait()
	for _, t := range []*http.Transport{c.secure, c.loop, c.open} {
		t.CloseIdleConnections()
	}
}

// UserAgent returns what the client calls itself; raw requests send it only if
// their Header holds it.
func (c *Client) UserAgent() string { return c.o.UserAgent }

// CheckURL judges the text of a URL by the client's mode, without dialling.
func (c *Client) CheckURL(raw string) error { return c.guard.CheckURL(raw) }

// Requests returns how many requests were sent or tried; those the guard or a
// budget refused do not count.
func (c *Client) Requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests
}

// Hosts returns the host names contacted so far, sorted.
func (c *Client) Hosts() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, h := range c.hosts {
		if h.requests > 0 {
			out = append(out, h.name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// enter opens an exchange and numbers it; leave closes it. After Close the
// exchange is numbered and refused.
func (c *Client) enter() (id int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++
	if c.o.NextID != nil {
		c.lastID = c.o.NextID()
	}
	if c.closed {
		return c.lastID, kidoban.Errorf(kidoban.KindUsage, "the client was closed; make a new one")
	}
	c.inflight.Add(1)
	return c.lastID, nil
}

// hostKey is the unit of politeness: the host name, whatever its port. On
// loopback many servers share one name, so there the port belongs to it.
func hostKey(u *url.URL) (key, name string) {
	name, err := asciiHost(u.Hostname())
	if err != nil {
		name = u.Hostname()
	}
	if a, _, ok := literal(name); name == "localhost" || ok && a.IsLoopback() {
		return name + ":" + u.Port(), name
	}
	return name, name
}

// Waited returns how long exchanges with the host of rawURL took that nothing but
// time ended (see Options.Patience).
func (c *Client) Waited(rawURL string) time.Duration {
	u, err := url.Parse(rawURL)
	if err != nil {
		return 0
	}
	key, _ := hostKey(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.hosts[key]; h != nil {
		return h.waited
	}
	return 0
}

// patience returns the bound of an exchange with u that may take up to limit, or
// an error when its host was waited for long enough. An exchange that asks for
// more than the usual time, a conversation over a stream, is not cut short.
func (c *Client) patience(u *url.URL, limit time.Duration) (time.Duration, error) {
	if c.o.Patience <= 0 {
		return limit, nil
	}
	left := c.o.Patience - c.Waited(u.String())
	switch {
	case left <= 0:
		return 0, kidoban.Errorf(kidoban.KindLimit, "%s was waited for %s in all, and is asked for nothing more", u.Hostname(), c.o.Patience)
	case limit > c.o.Timeout:
		return limit, nil
	}
	return min(limit, left), nil
}

// timedOut notes that an exchange with u was ended by its bound, after a wait that
// was the host's fault. It is never nothing, so that Waited shows it.
func (c *Client) timedOut(u *url.URL, wait time.Duration) {
	key, _ := hostKey(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.hosts[key]; h != nil {
		h.waited += max(1, min(wait, c.o.Timeout))
	}
}

// Forgive forgets how long the host of rawURL was waited for.
func (c *Client) Forgive(rawURL string) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return
	}
	key, _ := hostKey(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.hosts[key]; h != nil {
		h.waited = 0
	}
}

// admit charges the budgets for one request to u and waits for its turn.
// A request is charged when it is admitted, so that two can never share a slot.
func (c *Client) admit(ctx context.Context, u *url.URL) error {
	d, err := c.charge(u)
	if err != nil || d <= 0 {
		return err
	}
	return kidoban.Wrap(kidoban.KindUnreachable, c.o.Wait(ctx, d), "the request was cancelled while it waited for its turn at %s", u.Hostname())
}

func (c *Client) charge(u *url.URL) (time.Duration, error) {
	key, name := hostKey(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.o.MaxRequests > 0 && c.requests >= c.o.MaxRequests {
		return 0, kidoban.Errorf(kidoban.KindLimit, "the budget of %s is spent; allow more or test fewer checks", kidoban.Count(c.o.MaxRequests, "request", "requests"))
	}
	h := c.hosts[key]
	if h == nil {
		h = &hostState{name: name}
		c.hosts[key] = h
	}
	if c.o.PerHostMax > 0 && h.requests >= c.o.PerHostMax {
		return 0, kidoban.Errorf(kidoban.KindLimit, "%s to %s, the bound for one host", kidoban.Count(c.o.PerHostMax, "request went", "requests went"), name)
	}
	h.requests++
	c.requests++
	if c.o.PerHostInterval <= 0 {
		return 0, nil
	}
	now := c.o.Now()
	start := now
	if h.next.After(now) {
		start = h.next
	}
	h.next = start.Add(c.o.PerHostInterval)
	return start.Sub(now), nil
}
