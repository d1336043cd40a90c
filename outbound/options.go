package outbound

import (
	"context"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/kidoban/kidoban"
)

// Defaults and the hard caps no option and no request can lift.
const (
	DefaultMaxBody   = 1 << 20
	DefaultMaxHeader = 64 << 10
	DefaultTimeout   = 10 * time.Second

	HardMaxBody   = 64 << 20
	HardMaxHeader = 1 << 20
	HardTimeout   = 10 * time.Minute
)

// Options of a Client. The zero value is strict and polite to nobody in
// particular: defaults for sizes and time, no budget.
type Options struct {
	Lab       bool           // opens loopback, http allowed there; everything else special-use stays closed
	Private   bool           // opens private ranges and local names, https only
	RootCAs   *x509.CertPool // trusted instead of the system's roots (start from x509.SystemCertPool to add); nil = the system's
	UserAgent string         // "" = kidoban/<version> (+project URL)
	MaxBody   int64          // bytes of a response body after decoding; 0 = DefaultMaxBody
	MaxHeader int64          // bytes of a response header; 0 = DefaultMaxHeader
	Timeout   time.Duration  // of a whole exchange, first dial to last byte; 0 = DefaultTimeout

	PerHostInterval time.Duration // least time between the starts of two requests to one host; 0 = off
	PerHostMax      int           // requests per host over the client's life; 0 = no bound
	MaxRequests     int           // requests over the client's life; 0 = no bound

	// Patience is how long one host may keep the client waiting, over its life, with
	// exchanges that nothing but time ended: silence, and answers without an end.
	// The last of them is cut short, and then the host is asked for nothing more
	// (KindLimit). An exchange counts Timeout at most. 0 = no bound.
	Patience time.Duration
	// Late tells for how long, since some beginning, this machine itself did not get
	// round to its work. What it was late by during an exchange is not held against
	// the host. nil = never.
	Late func() time.Duration

	Now     func() time.Time                                             // nil = time.Now
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error) // nil = system resolver
	Wait    func(ctx context.Context, d time.Duration) error             // how politeness waits; nil = a timer

	// Admit is asked before each request, after the textual rules and before the
	// client's own politeness; it may wait. Its error refuses the request; done is
	// called when the exchange is over. It is for politeness that several clients or
	// machines keep together; nil = none.
	Admit func(ctx context.Context, host string) (done func(), err error)

	Recorder *Recorder // may be nil; not closed by the client

	// NextID numbers the exchanges, for several clients of one run; nil = from 1.
	// It is called under the client's lock.
	NextID func() int

	// InsecureTLSProbe makes a client that looks at broken TLS: it accepts any
	// certificate and TLS 1.0, and in return sends nothing but GET, HEAD and
	// OPTIONS without body, cookies and credentials. TLSInfo.Verified tells what
	// an honest client would have found. ProbeTLSMax, if set, is the highest
	// version such a client offers.
	InsecureTLSProbe bool
	ProbeTLSMax      uint16
}

func (o Options) withDefaults() Options {
	if o.UserAgent == "" {
		o.UserAgent = "kidoban/" + kidoban.Version + " (+https://github.com/kidoban/kidoban)"
	}
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.MaxHeader <= 0 {
		o.MaxHeader = DefaultMaxHeader
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	o.MaxBody = min(o.MaxBody, HardMaxBody)
	o.MaxHeader = min(o.MaxHeader, HardMaxHeader)
	o.Timeout = min(o.Timeout, HardTimeout)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wait == nil {
		o.Wait = Sleep
	}
	if o.Late == nil {
		o.Late = func() time.Duration { return 0 }
	}
	return o
}

// Sleep waits for d, or until ctx ends and then says why.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
