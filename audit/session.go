package audit

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// session is one run against one target while it sends requests. Probes get it
// to collect; judges never see it. It is used from one goroutine; do is safe for
// concurrent use by a probe that must race requests.
type session struct {
	o     *Options
	out   *outbound.Client
	facts *Facts // what discovery and earlier probes learned
	runID string

	mu      sync.Mutex
	sent    int
	reserve int // requests kept for clean-up
	last    time.Time
	apart   time.Duration // what out keeps between two requests by itself

	stubborn bool // requests of the discovery are sent again where something stood in for the answer

	rec  *outbound.Recorder
	ids  func() int          // numbers of exchanges, shared with the TLS probe's own client
	seen []*kidoban.Exchange // answers for the closing judges, bodies cut

	stopped error // why the run ended before it was through

	blanks []*kidoban.Exchange // of the running probe: what stood in for answers

	ledger   *Ledger
	ledgerMu sync.Mutex // probes that race requests write to the ledger from both

	throughLogin bool             // authorization requests are followed by logging in
	behind       bool             // the upstream lies behind a decision
	approving    bool             // and by saying yes, as far as an upstream
	needsScripts bool             // and in a real browser
	idBeside     atomic.Bool      // the token endpoint wants client_id in the body beside Basic
	scriptFrom   string           // where the page's script leads, learned once: this prefix
	scriptWay    string           // becomes that one
	refused      map[*Tester]bool // whose login was not accepted
	welcome      bool             // a login was accepted in this run
	first        *firstLook
	doubts       []string           // keys of F5 that the authorization endpoint let pass
	settled      map[string]*tokens // and what their codes gave
	baseBehind   *Trail             // a valid request with a login and a yes; nil before it was sent
	pages        []Shot
	grants       []*issued
	entered      *entrance
	tried        bool    // whether a genuine token opens the endpoint is known
	sampleToken  *tokens // the first good tokens of the run
	bearer       string  // goes with every call to the endpoint that names no credentials; "" is none
	homes        map[*Tester]*person
	firstHops    []*kidoban.Exchange // of the first login of the run: later ones skip the upstream
	codes        []string            // codes and access tokens of the run, for E24-h
	access       []string
	posts        map[string]int // registrations sent, by issuer
	opened       map[string]bool
	keys         map[string]bool // checks that the running probe may decide; nil means all
}

// do sends one request within the budget. It never returns nil: a request that
// could not be sent gives an exchange without response.
func (s *session) do(ctx context.Context, r outbound.Req) *kidoban.Exchange {
	unsent := func(why string) *kidoban.Exchange {
		x := &kidoban.Exchange{Probe: r.Probe, Note: r.Note, Request: kidoban.Request{Method: r.Method, URL: r.URL}, Err: why, ErrKind: kidoban.KindLimit}
		s.miss(x)
		return x
	}
	switch {
	case ctx.Err() != nil:
		return unsent("no time was left to send it")
	case !s.take(s.reserve):
		return unsent(errBudget)
	}
	s.pause(ctx)
	x, err := s.out.Do(ctx, s.o.Key.bind(r, s.facts.URL))
	if x == nil { // the client is closed; say so instead of failing later
		x = &kidoban.Exchange{Probe: r.Probe, Note: r.Note, Err: "no exchange", ErrKind: kidoban.KindInternal}
		if err != nil {
			x.Err, x.ErrKind = err.Error(), kidoban.KindOf(err)
		}
	}
	s.keep(x)
	s.miss(x)
	return x
}

// take books one request, leaving keep requests for others.
func (s *session) take(keep int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sent+keep >= s.o.MaxRequests {
		return false
	}
	s.sent++
	return true
}

// left returns how many requests probes may still send.
func (s *session) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, s.o.MaxRequests-s.reserve-s.sent)
}

// pause keeps the politeness distance between two requests.
func (s *session) pause(ctx context.Context) {
	if s.o.Spacing <= 0 {
		return
	}
	s.mu.Lock()
	now := time.Now()
	next := s.last.Add(s.o.Spacing)
	if next.Before(now) {
		next = now
	}
	s.last = next
	s.mu.Unlock()
	_ = outbound.Sleep(ctx, time.Until(next)) // whoever asks next sees that ctx has ended
}

// get sends a GET without cookies.
func (s *session) get(ctx context.Context, probe, note, url string) *kidoban.Exchange {
	return s.do(ctx, outbound.Req{Method: http.MethodGet, URL: url, Probe: probe, Note: note,
		Header: kidoban.Fields{{Name: "Accept", Value: "application/json"}}})
}

// form posts a form, as to a token endpoint.
func (s *session) form(ctx context.Context, probe, note, url string, p params, header ...kidoban.Field) *kidoban.Exchange {
	h := append(kidoban.Fields{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}, {Name: "Accept", Value: "application/json"}}, header...)
	return s.do(ctx, outbound.Req{Method: http.MethodPost, URL: url, Probe: probe, Note: note, Header: h, Body: []byte(p.encode())})
}

// wants tells whether the running probe may decide key; probes skip requests
// whose only use is a check that the plan has ruled out.
func (s *session) wants(keys ...string) bool {
	if s.keys == nil {
		return true
	}
	for _, k := range keys {
		if s.keys[k] {
			return true
		}
	}
	return false
}

// thorough tells whether the budget allows the less telling forms of a mutation
// beside the most telling one.
func (s *session) thorough() bool { return s.o.MaxRequests >= 2*DefaultRequestsT2 }

// roomy tells whether there is room for the less telling forms of a question. A target
// without an authorization server leaves most of its budget: it goes into the endpoint.
func (s *session) roomy() bool {
	return s.thorough() || s.facts.AS == nil && s.left() > DefaultRequestsT1
}

// nonce returns a fresh word of n lower-case hex digits, usable in a host name.
func (s *session) nonce(n int) string {
	b := make([]byte, (n+1)/2)
	s.read(b)
	return hex.EncodeToString(b)[:n]
}

// secret returns n random bytes in base64url: states, verifiers.
func (s *session) secret(n int) string {
	b := make([]byte, n)
	s.read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// word returns n random base62 characters: a client id that no server knows.
func (s *session) word(n int) string {
	b := make([]byte, n)
	s.read(b)
	for i := range b {
		b[i] = base62[int(b[i])%len(base62)]
	}
	return string(b)
}

func (s *session) read(b []byte) {
	if _, err := io.ReadFull(s.o.Rand, b); err != nil {
		panic("audit: the source of randomness is broken: " + err.Error())
	}
}

// probeDomain is where foreign URIs of a run point: RFC 6761 promises that
// names under .invalid never resolve, so nothing can leak to anybody.
const probeDomain = ".kidoban-probe.invalid"

// foreign returns a fresh https URI that belongs to nobody.
func (s *session) foreign() string { return "https://" + s.nonce(10) + probeDomain + "/cb" }

func (s *session) emit(stage, probe string, done, of int) {
	s.mu.Lock()
	sent := s.sent
	s.mu.Unlock()
	s.o.Progress(Event{Stage: stage, Probe: probe, Requests: sent, Budget: s.o.MaxRequests, Done: done, Of: of})
}

func itoa(n int) string { return strconv.Itoa(n) }
