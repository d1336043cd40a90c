package gateway

import (
	"net/http"
	"strconv"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// Refusal is an answer that ends a call: what the client is told and what the
// audit log keeps. Say never holds a word of the server's (G-TG7).
type Refusal struct {
	Status int      // HTTP status
	RPC    int      // JSON-RPC code; 0 means wire.CodeInvalidRequest
	Rule   string   // stable word for the audit log: "token", "origin", "policy:…"
	Say    string   // the sentence for the client
	Data   wire.Raw // of the JSON-RPC error; may be nil
	Scopes []string // with status 403: the scopes the operation needs
	Error  string   // OAuth error code for the challenge of a 401 or 403
	Retry  int      // seconds for Retry-After; 0 leaves it out
	Open   string   // a page that the person behind the client is to open
	Result wire.Raw // an answer instead of an error: the request goes on when the client returns
	Cause  error    // for the operator

	policies []string // that decided, when they stand in no record yet
}

func refuse(status, rpc int, rule, say string) *Refusal {
	return &Refusal{Status: status, RPC: rpc, Rule: rule, Say: say}
}

func (r *Refusal) because(err error) *Refusal {
	r.Cause = err
	return r
}

// ofWire turns a refusal of the strict reading into ours.
func ofWire(err error, status int) *Refusal {
	rpc := wire.CodeInvalidRequest
	if w, ok := asWire(err); ok {
		rpc = w.RPC
	}
	r := refuse(status, rpc, "wire:"+wire.WhyOf(err), "The message was not accepted.")
	if w, ok := asWire(err); ok {
		r.Say = w.Err.Sentence
	}
	if kidoban.KindOf(err) == kidoban.KindLimit {
		r.Status = http.StatusRequestEntityTooLarge
	}
	return r
}

func asWire(err error) (*wire.Refusal, bool) {
	w, ok := err.(*wire.Refusal)
	return w, ok
}

// write sends the refusal as a JSON-RPC error. challenge is the value of
// WWW-Authenticate for statuses that carry one.
func (r *Refusal) write(w http.ResponseWriter, id wire.ID, challenge string) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if challenge != "" {
		h.Set("WWW-Authenticate", challenge)
	}
	if r.Retry > 0 {
		h.Set("Retry-After", strconv.Itoa(r.Retry))
	}
	rpc := r.RPC
	if rpc == 0 {
		rpc = wire.CodeInvalidRequest
	}
	w.WriteHeader(r.Status)
	if r.Result != nil {
		_, _ = w.Write(wire.AppendResult(nil, id, r.Result)) // the client may have gone
		return
	}
	_, _ = w.Write(wire.AppendError(nil, id, rpc, r.Say, r.Data)) // the client may have gone
}
