package audit

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// Canary is a collector of the tester's own that the target's servers can
// reach: it serves the documents that probes publish and notes who asked for
// them. It keeps no bodies and no query values. Probes that make the target
// fetch something need it.
type Canary struct {
	base string // scheme and host of every URL
	srv  *http.Server
	done chan struct{}
	now  func() time.Time

	mu   sync.Mutex
	docs map[string]CanaryDoc // by path
	hits map[string][]CanaryHit
}

// CanaryDoc is what the collector answers at one path.
type CanaryDoc struct {
	Status int // 0 means 200
	Header map[string]string
	Body   []byte
	Delay  time.Duration // before the answer, at most ten seconds
	Repeat int           // the body is sent this many times more, for large documents
}

// CanaryHit is one request that the collector saw.
type CanaryHit struct {
	Time      time.Time
	Remote    string
	UserAgent string
	Method    string
}

// Bounds of the collector.
const (
	maxCanaryDocs = 1024
	maxCanaryHits = 256 // for one path
)

// ListenCanary starts a collector on addr. base is the public URL under which
// the listener is reached, https://canary.example; "" means the listener's own
// http address, which only a lab on the same machine can reach. Stop it with
// Close.
func ListenCanary(ctx context.Context, addr, base string) (*Canary, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "cannot listen on %s for the canary", addr)
	}
	if base == "" {
		ap, err := netip.ParseAddrPort(ln.Addr().String())
		if err != nil || !ap.Addr().IsLoopback() {
			ln.Close()
			return nil, kidoban.Errorf(kidoban.KindUsage, "a canary that is not on loopback needs --canary-domain")
		}
		base = "http://" + ln.Addr().String()
	}
	return ServeCanary(ctx, ln, base), nil
}

// ServeCanary starts a collector on a listener of the caller's, TLS for example,
// which it takes over. base is the URL under which the listener is reached.
func ServeCanary(ctx context.Context, ln net.Listener, base string) *Canary {
	c := &Canary{base: strings.TrimSuffix(base, "/"), done: make(chan struct{}), now: time.Now, docs: map[string]CanaryDoc{}, hits: map[string][]CanaryHit{}}
	c.srv = &http.Server{Handler: c, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() {
		defer close(c.done)
		_ = c.srv.Serve(ln) // ends with Close
	}()
	return c
}

// Close stops the collector and waits for its listener to end.
func (c *Canary) Close() {
	if c == nil {
		return
	}
	c.srv.Close()
	<-c.done
}

// URL returns the address of a path at the collector.
func (c *Canary) URL(path string) string { return c.base + "/" + strings.TrimPrefix(path, "/") }

// Publish answers requests for path with d from now on. Beyond the bound on
// documents nothing more is published, and the path answers 404.
func (c *Canary) Publish(path string, d CanaryDoc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.docs) < maxCanaryDocs {
		c.docs["/"+strings.TrimPrefix(path, "/")] = d
	}
}

// Seen returns the requests for path so far, oldest first.
func (c *Canary) Seen(path string) []CanaryHit {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.hits["/"+strings.TrimPrefix(path, "/")])
}

// ServeHTTP answers with the published document, or with a page that explains
// what this host is.
func (c *Canary) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	d, ok := c.docs[r.URL.Path]
	if ok && len(c.hits[r.URL.Path]) < maxCanaryHits {
		ua := r.UserAgent()
		c.hits[r.URL.Path] = append(c.hits[r.URL.Path], CanaryHit{c.now(), r.RemoteAddr, ua[:min(200, len(ua))], r.Method})
	}
	c.mu.Unlock()
	if !ok {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("This host is the collector of a security test of MCP servers: https://github.com/kidoban/kidoban\n"))
		return
	}
	if d.Delay > 0 {
		t := time.NewTimer(min(d.Delay, 10*time.Second))
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			return
		}
	}
	for k, v := range d.Header {
		w.Header().Set(k, v)
	}
	if d.Status != 0 {
		w.WriteHeader(d.Status)
	}
	for i := 0; i <= min(d.Repeat, 4096); i++ {
		if _, err := w.Write(d.Body); err != nil {
			return // the reader has had enough, which is what such a document is for
		}
	}
}
