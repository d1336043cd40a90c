package census

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/wire"
)

// Skipped is the class of targets that were not asked; the reason says why.
const Skipped audit.Class = "skipped"

// Result is what the census says about one target. It depends on the target
// alone: no times, no counters, no random names.
type Result struct {
	URL       string   `json:"url"`
	Host      string   `json:"host"`
	Source    string   `json:"source,omitempty"`
	Class     string   `json:"class"`
	Reason    string   `json:"reason,omitempty"` // why this class, for those that need a word
	Flags     []string `json:"flags"`
	KeyHeader string   `json:"key_header,omitempty"`

	Era       string   `json:"era,omitempty"`       // modern, legacy, dual
	Transport string   `json:"transport,omitempty"` // streamable-http, sse
	Versions  []string `json:"versions,omitempty"`
	Software  string   `json:"software,omitempty"`
	Tools     int      `json:"tools,omitempty"`
	ToolsHash string   `json:"tools_hash,omitempty"`
	Listener  string   `json:"cert_key,omitempty"` // SHA-256 of the certificate's public key

	Issuers   []string `json:"issuers,omitempty"`
	Issuer    string   `json:"issuer,omitempty"` // the one whose metadata were used
	Metadata  string   `json:"metadata,omitempty"`
	Upstream  string   `json:"upstream,omitempty"`
	Delegated bool     `json:"delegated,omitempty"`

	Flaws []string `json:"flaws"` // keys of checks that failed or are weak
}

// requestsPerTarget bounds one look: discovery, its documents, the issuer, and
// five requests to the issuer's authorization endpoint.
const requestsPerTarget = 36

// looker looks at one target at a time. It is safe for concurrent use.
type looker struct {
	o       Options
	manners manners
	late    func() time.Duration // how late this machine was with its work so far
}

// look measures a target. When ctx ends or the store fails in the middle there is
// an error and no result, since what was seen is no whole look: the target stays
// pending.
func (l *looker) look(ctx context.Context, t Target) (r Result, n Times, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l = &looker{o: l.o, manners: l.manners, late: l.late}
	l.manners.broken = cancel
	started := l.o.Now()
	r, n.Requests, n.Attempts = l.attempts(ctx, t)
	n.Finished = l.o.Now().UTC().Truncate(time.Millisecond)
	n.Millis = n.Finished.Sub(started).Milliseconds()
	return r, n, context.Cause(ctx)
}

// attempts looks until no limit of the server's keeps us from seeing it, at most
// three times. What may have been the network's fault, a line that broke off or an
// answer that did not come in time, is looked at twice.
func (l *looker) attempts(ctx context.Context, t Target) (r Result, requests, attempts int) {
	r = Result{URL: t.URL, Host: t.Host, Source: t.Source, Flags: []string{}, Flaws: []string{}}
	if l.o.OptOut.Has(t.Host) {
		r.Class, r.Reason = string(Skipped), "opt_out_list"
		return r, 0, 0
	}
	for attempts = 1; ; attempts++ {
		blank := r
		again, sent := l.once(ctx, t, &blank, attempts)
		requests += sent
		if again <= 0 || attempts == 3 || outbound.Sleep(ctx, again) != nil {
			return blank, requests, attempts
		}
	}
}

// waitFor is how long a target may keep a look waiting with silence and with
// answers that do not end, for exchanges of at most timeout: one, and half of
// another. A server that was still silent or still sending in two of them has
// shown what it does; a third would find the same.
func waitFor(timeout time.Duration) time.Duration { return timeout + timeout/2 }

// torn tells whether a host that was waited for so long was looked at in vain: one
// answer did not come in time, or several while this machine was late itself.
func (l *looker) torn(waited time.Duration) bool { return waited > 0 && waited <= l.o.Timeout }

// once is one look. again above 0 asks for another one after that time.
func (l *looker) once(ctx context.Context, t Target, r *Result, attempt int) (again time.Duration, requests int) {
	spent := false // the target's host had no turn left for us: what we saw is no whole look
	out := l.client(func(ctx context.Context, host string) (func(), error) {
		done, err := l.manners.admit(ctx, host)
		if err != nil && host == t.Host && kidoban.KindOf(err) == kidoban.KindLimit {
			spent = true // requests of one look come one after the other
		}
		return done, err
	})
	defer func() { requests = out.Requests(); out.Close() }()
	// A file on a disk is answered at once or not at all: at first it has half the
	// time, so that a silent host is known after one exchange and a half.
	inTime := l.o.Timeout / 2
	if attempt > 1 {
		inTime = l.o.Timeout
	}
	if l.optedOut(ctx, out, t.URL, inTime) {
		r.Class, r.Reason = string(Skipped), "opt_out_file"
		return 0, 0
	}
	memory := &memory{l: l, out: out, home: t.Host}
	o := audit.Options{Lab: l.o.Lab, MaxRequests: requestsPerTarget, Spacing: l.o.Interval, Servers: memory, Now: l.o.Now}
	f, err := audit.Look(ctx, o, out, t.URL)
	if err != nil {
		r.Class, r.Reason = string(Skipped), "not_a_target"
		return 0, 0
	}
	if to := f.MovedTo; to != "" && sameHost(to, t.URL) {
		if next, err := audit.Look(ctx, o, out, to); err == nil {
			f, r.Reason = next, "moved_on_same_host"
		}
	}
	if f.Busy() || memory.busy {
		again = retryAfter(f.RetryAfter())
	}
	l.describe(r, f)
	l.classify(ctx, out, r, f)
	if spent {
		r.Class, r.Reason, r.Flags, r.Flaws = string(Skipped), "host_budget", []string{}, []string{}
		return 0, 0
	}
	if waited := out.Waited(t.URL); l.torn(waited) || waited == 0 && attempt == 1 && lost(*r) {
		again = max(again, time.Second)
	}
	return again, 0
}

// lost tells what may have been the network's fault though no time ran out, a server
// that was being started, or an old stream's that ended while its messages waited for their turn: it is worth
// asking again.
func lost(r Result) bool {
	return r.Class == string(audit.HandshakeOnly) && r.Transport == "sse" ||
		r.Class == string(audit.Unstable) && (r.Reason == "outage" || r.Reason == "failing") ||
		r.Class == string(audit.Dead) && (r.Reason == "broke_off" || r.Reason == "no_connection")
}

func (l *looker) client(admit func(context.Context, string) (func(), error)) *outbound.Client {
	return outbound.New(outbound.Options{Lab: l.o.Lab, RootCAs: l.o.RootCAs, UserAgent: l.o.UserAgent, MaxBody: 256 << 10, Timeout: l.o.Timeout, Patience: waitFor(l.o.Timeout), Late: l.late,
		Now: l.o.Now, Resolve: l.o.Resolve, Admit: admit})
}

// retryAfter reads a Retry-After in seconds, between one second and thirty.
func retryAfter(v string) time.Duration {
	n, err := strconv.Atoi(v)
	if err != nil {
		n = 2
	}
	return time.Duration(min(max(n, 1), 30)) * time.Second
}

// optedOut asks for robots.txt and tells whether it keeps kidoban from something that
// the look needs: a host that is seen by half would be judged wrongly.
func (l *looker) optedOut(ctx context.Context, out *outbound.Client, of string, inTime time.Duration) bool {
	u, err := url.Parse(of)
	if err != nil {
		return false
	}
	x, err := out.Do(ctx, outbound.Req{URL: u.Scheme + "://" + u.Host + "/robots.txt", Probe: "census", Note: "opt-out file", MaxBody: 64 << 10, Timeout: inTime,
		Header: kidoban.Fields{{Name: "Accept", Value: "text/plain"}}})
	if err != nil || x.Status() != 200 {
		return false
	}
	return slices.ContainsFunc(asks(u), parseRobots(x.Response.Body).refuse)
}

// describe fills what is not judged.
func (l *looker) describe(r *Result, f *audit.Facts) {
	switch {
	case f.Modern && f.Legacy:
		r.Era = "dual"
	case f.Modern:
		r.Era = "modern"
	case f.Legacy:
		r.Era = "legacy"
	}
	if r.Era != "" {
		r.Transport = "streamable-http"
	}
	if f.SSE {
		r.Transport = "sse"
	}
	r.Versions, r.Software, r.Tools = f.Versions, f.Software, f.Tools
	if f.Open {
		if raw, ok := wire.Lookup(audit.ReplyOf(f.List).Result, "tools"); ok {
			h := sha256.Sum256(bytes.TrimSpace(raw))
			r.ToolsHash = hex.EncodeToString(h[:12])
		}
	}
	if f.Discover != nil && f.Discover.Response != nil && f.Discover.Response.TLS != nil {
		r.Listener = f.Discover.Response.TLS.SPKI
	}
	r.Issuers = f.Issuers
	if f.AS != nil {
		r.Issuer, r.Metadata = f.AS.Issuer, f.AS.URL
		if k := f.AS.Known; k != nil {
			r.Upstream, r.Delegated = k.Upstream, k.Delegated
			r.Flaws = append(r.Flaws, k.Flaws...)
		}
	} else if f.Fallback {
		r.Issuers = nil // a guess that led nowhere
	}
}

// classify sets the class and the word for it.
func (l *looker) classify(ctx context.Context, out *outbound.Client, r *Result, f *audit.Facts) {
	c := audit.Classify(f)
	r.Class, r.KeyHeader = string(c.Class), c.Header
	if c.Flags != nil {
		r.Flags = c.Flags
	}
	r.Flaws = append(r.Flaws, audit.Positive(audit.Passive(f))...)
	slices.Sort(r.Flaws)
	r.Flaws = slices.Compact(r.Flaws)
	switch {
	case c.Class == audit.NotMCP && f.MovedTo != "":
		r.Reason = "moved_to_another_host"
	case f.Busy() && c.Class != audit.NoAuthList && c.Class != audit.OAuth:
		r.Class, r.Reason = string(audit.Unstable), "rate_limit"
	case c.Class == audit.Dead:
		r.Reason = deadReason(f.Discover)
	case c.Class == audit.Unstable:
		r.Reason = f.Failing()
	case c.Class == audit.NotMCP:
		r.Reason = "no_mcp_answer"
	case c.Class == audit.NoAuthList && l.control(ctx, out, f):
		r.Class, r.Reason = string(audit.NotMCP), "answers_everything"
	}
	if r.Class == string(audit.NotMCP) || r.Class == string(Skipped) {
		r.Era, r.Transport, r.Versions, r.Tools, r.ToolsHash, r.Flaws, r.Flags = "", "", nil, 0, "", []string{}, []string{}
	}
}

// deadReason says in one stable word why nothing answered.
func deadReason(x *kidoban.Exchange) string {
	switch {
	case x == nil:
		return "no_answer"
	case x.ErrKind == kidoban.KindLimit:
		return "timeout"
	case x.ErrKind == kidoban.KindRefused:
		return "address_refused"
	case strings.Contains(x.Err, "could not be resolved"):
		return "no_such_name"
	case strings.Contains(x.Err, "certificate"):
		return "certificate"
	case strings.Contains(x.Err, "did not accept a connection"):
		return "no_connection"
	}
	return "broke_off"
}

// control asks a path that nobody has for a method that nobody has. A server
// that answers that with a result answers everything, and says nothing.
func (l *looker) control(ctx context.Context, out *outbound.Client, f *audit.Facts) bool {
	u, err := url.Parse(f.URL)
	if err != nil {
		return false
	}
	h := sha256.Sum256([]byte(f.URL))
	body, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "kidoban/no-such-method"}) // constants
	x, err := out.Do(ctx, outbound.Req{Method: "POST", URL: u.Scheme + "://" + u.Host + "/kidoban-control-" + hex.EncodeToString(h[:4]), Body: body,
		Probe: "census", Note: "control: a path and a method that do not exist",
		Header: kidoban.Fields{{Name: "Content-Type", Value: "application/json"}, {Name: "Accept", Value: "application/json, text/event-stream"}}})
	if err != nil {
		return false
	}
	reply := audit.ReplyOf(x)
	return reply.RPC && !reply.IsError
}

func sameHost(a, b string) bool {
	x, err1 := url.Parse(a)
	y, err2 := url.Parse(b)
	return err1 == nil && err2 == nil && x.Host == y.Host && (x.Scheme == y.Scheme || x.Scheme == "https")
}

// memory implements audit.Servers over the store: an issuer is asked once in a
// census, whoever needs it first.
type memory struct {
	l    *looker
	out  *outbound.Client
	home string
	busy bool
}

// issuerLease is how long others wait for somebody who asks an issuer and is not
// heard of any more; whoever asks renews it.
const issuerLease = 15 * time.Second

// Server implements audit.Servers.
func (m *memory) Server(ctx context.Context, issuer string, ask func(context.Context) audit.Known) audit.Known {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		raw, mine, err := m.l.manners.store.CensusClaim(ctx, m.l.o.Run, issuer, issuerLease)
		var k audit.Known
		switch {
		case err != nil:
			m.l.manners.broken(err)
			return audit.Known{Err: "the census' own store failed"}
		case raw != nil:
			if json.Unmarshal(raw, &k) != nil {
				k = audit.Known{Err: "what is stored about it cannot be read"}
			}
			return k
		case mine:
			renewed := m.renewing(ctx, issuer)
			k = m.first(ctx, issuer, ask)
			renewed()
			if ctx.Err() != nil { // an unfinished look is no knowledge
				_ = m.l.manners.store.CensusUnclaim(context.WithoutCancel(ctx), m.l.o.Run, issuer) // else the lease ends
				return k
			}
			if raw, err = json.Marshal(k); err == nil {
				err = m.l.manners.store.CensusLearn(ctx, m.l.o.Run, issuer, raw)
			}
			if err != nil {
				m.l.manners.broken(err)
			}
			return k
		}
		if outbound.Sleep(ctx, wait) != nil {
			return audit.Known{Err: "cancelled"}
		}
	}
}

// renewing keeps the claim on an issuer until the function it returns is called.
func (m *memory) renewing(ctx context.Context, issuer string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		for outbound.Sleep(ctx, issuerLease/3) == nil {
			_ = m.l.manners.store.CensusRenew(ctx, m.l.o.Run, issuer, issuerLease) // else another one asks too
		}
	}()
	return func() { cancel(); <-done }
}

// first asks an issuer, again while it limits its callers.
func (m *memory) first(ctx context.Context, issuer string, ask func(context.Context) audit.Known) (k audit.Known) {
	u, err := url.Parse(issuer)
	if err == nil && u.Host != "" && u.Hostname() != m.home && m.l.optedOut(ctx, m.out, issuer, m.l.o.Timeout) {
		return audit.Known{Err: "its operator opted out"}
	}
	for range 3 {
		m.out.Forgive(issuer)
		k = ask(ctx)
		if !k.Busy && !m.l.torn(m.out.Waited(issuer)) || outbound.Sleep(ctx, time.Second) != nil {
			break
		}
	}
	m.busy = m.busy || k.Busy
	return k
}

// Resolver sends every name to one address: for a population of servers that
// live on loopback under many names.
func Resolver(a netip.Addr) func(context.Context, string) ([]netip.Addr, error) {
	return func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{a}, nil }
}
