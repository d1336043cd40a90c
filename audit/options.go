package audit

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"io"
	"net/netip"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// Options of one run. The zero value is a read-only run (T0 and T1) against a
// public server.
type Options struct {
	Tiers      []kidoban.Tier // nil: T0 and T1
	Lab        bool           // loopback targets over http are allowed, no politeness pauses
	Authorized string         // who allowed the state-creating tiers; recorded in the report
	OwnServer  bool           // the target is the tester's own: rate tests and more registrations
	Clients    []PreRegistered
	Canary     *Canary
	CanaryWait time.Duration // how long the server gets to fetch what it was told of; 0 is two minutes, in a lab none
	Only       []string      // keys of checks; nil means all. Others end as not_tested(tier)

	Key       *Key     // opens the target without a login; not together with Login
	Login     *Tester  // the tester's account; nil leaves T3 out
	Second    *Tester  // another one; nil leaves most of T4 out
	SecondURL string   // a second MCP server of the tester's own under the same authorization server
	Tools     []string // tools that may be called
	// Patience is how long the run may wait for something to expire; Wait waits, and
	// is the timer of the system when nil.
	Patience time.Duration
	Wait     func(ctx context.Context, d time.Duration) error

	CleanUp     time.Duration // what removing the traces of an interrupted run may take; 0 is half a minute
	Thorough    bool          // the larger default budget, which reaches every check; own servers and labs only
	MaxRequests int           // whole run, clean-up included; 0 is the default of the highest tier
	StateDir    string        // where the residue ledger lives; "" refuses T2

	RootCAs  *x509.CertPool // extra trust, for servers with a private authority
	Resolve  func(ctx context.Context, host string) ([]netip.Addr, error)
	TXT      func(ctx context.Context, host string) ([]string, error) // nil: the system resolver
	Spacing  time.Duration                                            // between two requests; 0 is one second off loopback, none in a lab
	Progress func(Event)                                              // called from the run's goroutine; may be nil

	Servers Servers // memory of authorization servers, for Look; nil: each target asks for itself

	Now  func() time.Time // nil: time.Now
	Rand io.Reader        // nil: crypto/rand
}

// PreRegistered is a client that the operator brought along, for servers whose
// registration is closed.
type PreRegistered struct {
	ID          string
	Secret      string // "" for a public client
	RedirectURI string // registered with the server, byte for byte
}

// Event is one step of a run, for a status line.
type Event struct {
	Stage    string // "discover", "probe", "clean-up", "done"
	Probe    string // name of the probe that starts, "" otherwise
	Requests int    // sent so far
	Budget   int
	Done     int // probes finished
	Of       int // probes planned
}

// Budgets of a whole run. T2 includes its clean-up.
const (
	DefaultRequestsT1       = 20
	DefaultRequestsT1Client = 40 // with a client of the operator's: the authorization endpoint too
	DefaultRequestsT2       = 60
	DefaultRequestsKey      = 110  // with a key that was handed over
	ThoroughRequests        = 300  // every check of T2 with a collector: about 200 in a lab
	DefaultRequestsT3       = 1200 // a login makes many small requests
)

func (o *Options) fill() {
	if len(o.Tiers) == 0 {
		o.Tiers = []kidoban.Tier{kidoban.T0, kidoban.T1}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.MaxRequests <= 0 {
		o.MaxRequests = DefaultRequestsT1
		if len(o.Clients) > 0 {
			o.MaxRequests = DefaultRequestsT1Client
		}
		if o.has(kidoban.T2) {
			o.MaxRequests = DefaultRequestsT2
		}
		if o.keyed() {
			o.MaxRequests = DefaultRequestsKey
		}
		if o.Thorough && (o.Lab || o.OwnServer) {
			o.MaxRequests = ThoroughRequests
		}
		if o.loggedIn() {
			o.MaxRequests = DefaultRequestsT3
		}
	}
	if o.Wait == nil {
		o.Wait = outbound.Sleep
	}
	if o.CleanUp <= 0 {
		o.CleanUp = 30 * time.Second
	}
	if o.Spacing == 0 && !o.Lab {
		o.Spacing = time.Second
	}
	if o.CanaryWait == 0 && !o.Lab {
		o.CanaryWait = 2 * time.Minute
	}
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
}

// has tells whether tier t was asked for.
func (o *Options) has(t kidoban.Tier) bool {
	for _, x := range o.Tiers {
		if x == t {
			return true
		}
	}
	return false
}

// loggedIn tells whether the run may log in.
func (o *Options) loggedIn() bool { return o.Login != nil && o.has(kidoban.T3) }

// walks tells whether the run may walk through the pages of a login by itself.
func (o *Options) walks() bool { return o.loggedIn() && o.Login.Own == nil }

// both tells whether the run may log in twice.
func (o *Options) both() bool { return o.loggedIn() && o.Second != nil && o.has(kidoban.T4) }

// Report is a finished run with its evidence. The exchanges are redacted.
type Report struct {
	kidoban.Run
	Exchanges []kidoban.Exchange
	Shots     []Shot // pages of the login, in order

	recorded *outbound.Recorder
}

// WriteHAR writes the exchanges as a HAR file.
func (r *Report) WriteHAR(w io.Writer) error { return r.recorded.WriteHAR(w) }
