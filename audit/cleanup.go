package audit

import (
	"cmp"
	"context"
	"net/http"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// cleanCost is what deleting one client needs: DELETE and the GET that verifies.
const cleanCost = 2

// remains is one registration to remove, from this run or from a dead one.
type remains struct {
	issuer, endpoint string
	clientID         string
	uri, token       string
	expires          string
}

// noTime is why something is left that the ledger keeps for the next start.
const noTime = "no time was left to remove it; the next audit from this state directory does"

// sender sends a request of the clean-up, outside the probes' budget.
type sender func(context.Context, outbound.Req) *kidoban.Exchange

// remove deletes a registration (RFC 7592 §2.3) and verifies that it is gone.
// It returns "" or why the client is left behind. The management token goes to
// the origin of the registration endpoint or of the issuer and nowhere else:
// sent to another origin it would be a leaked credential.
func (r remains) remove(ctx context.Context, send sender) string {
	switch {
	case r.clientID == "":
		return "the run ended before the server's answer was written down; whether a client exists is unknown"
	case r.uri == "" || r.token == "":
		return "the server gave no management URI or token (RFC 7592)"
	case !sameOrigin(r.uri, r.endpoint) && !sameOrigin(r.uri, r.issuer):
		return "the management URI is on another origin, so the token was not sent there"
	}
	req := func(method, note string) *kidoban.Exchange {
		return send(ctx, outbound.Req{Method: method, URL: r.uri, Probe: "clean-up", Note: note, Credential: true, CredentialOrigin: r.uri,
			Header: kidoban.Fields{{Name: "Authorization", Value: "Bearer " + r.token}, {Name: "Accept", Value: "application/json"}}})
	}
	del := req(http.MethodDelete, "delete the client")
	if del.Response == nil {
		return "no answer to the deletion: " + why(del)
	}
	switch del.Status() {
	case 200, 202, 204:
	case 401, 404, 410:
		// The client may be gone, or the management may not exist at all: some servers
		// hand out an address for it that nothing answers. Only the first is clean, and
		// the two look alike.
		return "the server does not know the management URI or its token (status " + itoa(del.Status()) + "); the client may still exist"
	case 403, 405, 501:
		return "the server does not let clients delete themselves (status " + itoa(del.Status()) + ")"
	default:
		return "the deletion was answered with status " + itoa(del.Status())
	}
	switch get := req(http.MethodGet, "verify that the client is gone"); get.Status() {
	case 401, 403, 404, 410:
		return ""
	case 0:
		return "no answer when verifying the deletion"
	default:
		return "the client is still there after its deletion (status " + itoa(get.Status()) + ")"
	}
}

// clean removes everything this run registered and gives the account of it.
func (s *session) clean(ctx context.Context) kidoban.Residue {
	res := kidoban.Residue{LeftBehind: []kidoban.LeftOver{}}
	if s.ledger == nil {
		return res
	}
	as := s.facts.AS
	gone := map[string]bool{}
	for _, c := range s.facts.registered {
		res.Registered++
		if c.removed || gone[c.ID] { // deleted by a probe as its test, or one id for two registrations
			res.Deleted++
			_ = s.ledger.Note(c.entry, "deleted", "", s.o.Now())
			continue
		}
		r := remains{issuer: as.Issuer, endpoint: as.Meta.RegistrationEndpoint, clientID: c.ID, uri: c.regURI, token: c.regTok}
		if why := r.remove(ctx, s.final); why != "" {
			if ctx.Err() != nil {
				why = noTime
			} else {
				_ = s.ledger.Note(c.entry, "left", why, s.o.Now())
			}
			res.LeftBehind = append(res.LeftBehind, kidoban.LeftOver{Kind: "client", Issuer: as.Issuer, ClientID: c.ID, Reason: why, Expires: expiry(&c.Meta)})
			continue
		}
		gone[c.ID] = true
		res.Deleted++
		_ = s.ledger.Note(c.entry, "deleted", "", s.o.Now())
	}
	return res
}

// final sends a request of the clean-up: it may use what was kept in reserve,
// and goes on when the budget is spent, because cleaning up matters more than
// the count.
func (s *session) final(ctx context.Context, r outbound.Req) *kidoban.Exchange {
	s.mu.Lock()
	s.sent++
	s.mu.Unlock()
	s.pause(ctx)
	x, err := s.out.Do(ctx, s.o.Key.bind(r, s.facts.URL))
	if x == nil {
		x = &kidoban.Exchange{Err: "no exchange"}
		if err != nil {
			x.Err = err.Error()
		}
	}
	return x
}

// Recover finishes the clean-up of runs that died: it deletes what their
// ledgers name and reports the rest. It runs at the start of every run that has
// a state directory. The client must be fit for the ledgers' targets; entries of
// a lab are skipped unless lab is set.
func Recover(ctx context.Context, o Options, out *outbound.Client) (kidoban.Residue, error) {
	o.fill()
	res := kidoban.Residue{LeftBehind: []kidoban.LeftOver{}}
	if o.StateDir == "" {
		return res, nil
	}
	dead, err := orphans(o.StateDir)
	if err != nil {
		return res, err
	}
	send := func(ctx context.Context, r outbound.Req) *kidoban.Exchange {
		x, _ := out.Do(ctx, r)
		return x
	}
	for _, l := range dead {
		entries, err := readLedger(l.path)
		if err != nil {
			l.Close()
			return res, err
		}
		for _, e := range states(entries) {
			if e.Event != "intent" && e.Event != "registered" || e.Lab && !o.Lab {
				continue
			}
			res.Registered++
			r := remains{issuer: e.Issuer, endpoint: e.Endpoint, clientID: e.ClientID, uri: e.ClientURI, expires: e.Expires}
			why := ""
			if e.SealedToken != "" {
				if r.token, err = l.unseal(e.N, e.SealedToken); err != nil {
					why = "its management token cannot be opened"
				}
			}
			switch {
			case why != "":
			case e.Kind == grantEntry:
				res.Registered--
				why = withdraw(ctx, send, e.Endpoint, e.ClientID, "", r.token)
			default:
				why = r.remove(ctx, send)
			}
			if why == "" {
				if e.Kind != grantEntry {
					res.Deleted++
				}
				err = l.Note(e.N, "deleted", "by the next start", o.Now())
			} else {
				res.LeftBehind = append(res.LeftBehind, kidoban.LeftOver{Kind: cmp.Or(e.Kind, "client"), Issuer: e.Issuer, ClientID: e.ClientID, Reason: why, Expires: e.Expires})
				err = l.Note(e.N, "left", why, o.Now())
			}
			if err != nil {
				l.Close()
				return res, err
			}
		}
		if err := l.Close(); err != nil {
			return res, kidoban.Wrap(kidoban.KindInternal, err, "cannot close a recovered ledger")
		}
	}
	return res, nil
}
