package gateway

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// question is a request of the server that the client must answer.
type question struct {
	method string
	params wire.Raw
	// progress tells the server what its client says of its progress, in params whose
	// token is not the server's; nil when the server did not ask for that.
	progress func(ctx context.Context, params wire.Raw)
	says     chan wire.Raw // params of progress on their way; made by put
	reply    chan reply    // has room for the one answer; made by put
	over     chan struct{} // closed when nobody waits for it any more; made by put
	asked    atomic.Bool   // the client has it, and may answer beside the call it was asked in
}

type reply struct{ result, refusal wire.Raw }

// errWithdrawn ends the context of a question that the server takes back.
var errWithdrawn = errors.New("the server takes its question back")

// put hands a question over and waits for the answer, until ctx ends. hand is called
// once more when the server takes it back meanwhile; false says that nobody is there.
// Neither result nor refusal means that who was to ask has gone before the client had
// the question.
func (q *question) put(ctx context.Context, gone <-chan struct{}, hand func(withdrawn bool) bool) (result, refusal wire.Raw) {
	q.says, q.reply, q.over = make(chan wire.Raw, maxSays), make(chan reply, 1), make(chan struct{})
	defer close(q.over)
	if !hand(false) {
		return nil, nil
	}
	for {
		select {
		case params := <-q.says:
			q.said(ctx, params)
		case r := <-q.reply:
			for len(q.says) > 0 { // came before
				q.said(ctx, <-q.says)
			}
			return r.result, r.refusal
		case <-gone:
			if !q.asked.Load() {
				return nil, nil
			}
			gone = nil
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errWithdrawn) {
				hand(true)
			}
			return nil, cannotAsk
		}
	}
}

// maxSays is how much progress may wait to be told; more is lost.
const maxSays = 16

// tell takes in what the client says of its progress, before it answers.
func (q *question) tell(params wire.Raw) {
	if q.progress == nil {
		return
	}
	select {
	case q.says <- slices.Clone(params):
	default:
	}
}

// said tells the server. A server that does not listen ends the relationship, so it
// has its time, whatever becomes of the question.
func (q *question) said(ctx context.Context, params wire.Raw) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	q.progress(ctx, params)
}

// open tells whether somebody waits for the answer.
func (q *question) open() bool {
	select {
	case <-q.over:
		return false
	default:
		return true
	}
}

// answer hands over the answer; the first one counts.
func (q *question) answer(r reply) {
	select {
	case q.reply <- r:
	default:
	}
}

// withToken changes the progress token in params that have one; nil takes it out.
func withToken(params, token wire.Raw) wire.Raw {
	meta, ok := wire.Lookup(params, "_meta")
	if _, has := wire.Lookup(meta, wire.MetaProgressToken); !ok || !has {
		return params
	}
	if token != nil {
		return wire.SetMember(params, "_meta", wire.SetMember(meta, wire.MetaProgressToken, token))
	}
	if meta = wire.DropMember(meta, wire.MetaProgressToken); string(meta) == "{}" {
		return wire.DropMember(params, "_meta")
	}
	return wire.SetMember(params, "_meta", meta)
}

// asking is who may be asked something: a call under way, or who listens.
type asking struct {
	ctx  context.Context
	caps wire.Raw
	h    handler
	who  string // a question lasts as long as any call of theirs; "" for as long as ctx

	method string // of the call
}

// of is a, or nobody when the client did not say that it could answer m.
func (a asking) of(m wire.Message) asking {
	if !capable(a.caps, m.Method, m.Params) {
		return asking{}
	}
	return a
}

// progressBy tells a server of progress in a message that send sends.
func progressBy(send func(context.Context, []byte) error) func(context.Context, wire.Raw) {
	return func(ctx context.Context, params wire.Raw) {
		_ = send(ctx, wire.AppendNotification(nil, wire.MethodProgress, params)) // a courtesy
	}
}

// questions are those of one server that wait for an answer. Its zero value is ready.
type questions struct {
	mu   sync.Mutex
	open map[string]waiting // by the server's own id; guarded by mu
	over bool               // the server has gone; guarded by mu
}

type waiting struct {
	who string
	end context.CancelCauseFunc
}

// maxQuestions of one relationship wait at once; more are refused.
const maxQuestions = 64

// put asks whom find finds and answers, in a goroutine that ends with who is asked. A
// server may mean another call than the one whose stream the question takes, so it
// does not end with that. What the server has taken back is not answered (2025-11-25,
// cancellation). progress gets params with the server's own token.
func (o *questions) put(find func() asking, m wire.Message, progress func(ctx context.Context, params wire.Raw), answer func(result, refusal wire.Raw)) {
	a, id := find(), string(m.ID.Raw)
	if a.h.ask == nil {
		answer(nil, cannotAsk)
		return
	}
	base := a.ctx
	if a.who != "" {
		base = context.WithoutCancel(base)
	}
	ctx, cancel := context.WithCancelCause(base)
	o.mu.Lock()
	_, twice := o.open[id]
	full := twice || o.over || len(o.open) >= maxQuestions
	if o.open == nil {
		o.open = map[string]waiting{}
	}
	if !full {
		o.open[id] = waiting{a.who, cancel}
	}
	o.mu.Unlock()
	if full {
		cancel(nil)
		answer(nil, cannotAsk)
		return
	}
	if a.who != "" && find().who != a.who {
		cancel(nil) // their last call ended before left could see the question
	}
	go func() {
		defer cancel(nil)
		var result, refusal wire.Raw
		for range maxAskers {
			q := &question{method: m.Method, params: m.Params}
			if token, ok := wire.Lookup(m.Params, "_meta", wire.MetaProgressToken); ok {
				q.progress = func(ctx context.Context, params wire.Raw) {
					progress(ctx, wire.SetMember(params, "progressToken", token))
				}
			}
			result, refusal = a.h.ask(ctx, q)
			if b := find(); result != nil || refusal != nil || ctx.Err() != nil || b.who != a.who || b.h.ask == nil {
				break
			} else {
				a = b
			}
		}
		if result == nil && refusal == nil {
			refusal = cannotAsk
		}
		o.mu.Lock()
		delete(o.open, id)
		o.mu.Unlock()
		if !errors.Is(context.Cause(ctx), errWithdrawn) {
			answer(result, refusal)
		}
	}()
}

// maxAskers is how many calls are tried when they end before they ask.
const maxAskers = 4

// left ends the questions to somebody whose last call is over.
func (o *questions) left(who string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, w := range o.open {
		if w.who == who && who != "" {
			w.end(nil)
		}
	}
}

// end takes all questions back: the server has gone, and nobody need answer them.
func (o *questions) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	for _, w := range o.open {
		w.end(errWithdrawn)
	}
}

// withdraw ends a question that the server takes back.
func (o *questions) withdraw(id wire.Raw) {
	o.mu.Lock()
	w, ok := o.open[string(id)]
	o.mu.Unlock()
	if ok {
		w.end(errWithdrawn)
	}
}

// ask gives a question an id of ours and remembers who waits for the answer. The
// id says where, for the answer may come to another replica. It is the progress token,
// too: those of several servers may be alike.
func (s *session) ask(q *question, where string) wire.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	id := "kidoban-" + where + "." + strconv.Itoa(s.next)
	maps.DeleteFunc(s.asks, func(_ string, o *question) bool { return !o.open() })
	s.asks[id] = q
	q.asked.Store(true)
	var token wire.Raw
	if q.progress != nil {
		token = wire.Quote(id)
	}
	return wire.Message{Kind: wire.Request, ID: wire.StringID(id), Method: q.method, Params: withToken(q.params, token)}
}

// unask forgets a question, of which nobody wants to know any more, and returns what
// tells the client so if it has not answered.
func (s *session) unask(q *question) (withdrawal wire.Message, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, o := range s.asks {
		if o == q {
			delete(s.asks, id)
			params := wire.SetMember(wire.Raw("{}"), "requestId", wire.Quote(id))
			return wire.Message{Kind: wire.Notification, Method: wire.MethodCancelled, Params: params}, true
		}
	}
	return wire.Message{}, false
}

// progressed hands what the client says of its progress to the server that wants to
// know; false when nobody here asked. A question that is answered has none.
func (s *session) progressed(token string, params wire.Raw) bool {
	s.mu.Lock()
	q := s.asks[token]
	s.mu.Unlock()
	if q != nil {
		q.tell(params)
	}
	return q != nil
}

// replied passes an answer on to the replica it is for.
func (g *Gateway) replied(ctx context.Context, s *session, m wire.Message) {
	if s.answered(m) {
		return
	}
	id, _ := wire.String(m.ID.Raw)
	g.forwarded(ctx, s, id, letter{Kind: "reply", ID: m.ID.Raw, Result: m.Result, Error: m.Error})
}

// forwarded sends what a client says about a question to the replica that put it.
func (g *Gateway) forwarded(ctx context.Context, s *session, id string, l letter) {
	where, _, ok := strings.Cut(strings.TrimPrefix(id, "kidoban-"), ".")
	if !ok || g.mail == nil || !g.mail.alive(where) {
		return
	}
	l.Client = s.id
	if err := g.mail.post(ctx, where, l); err != nil {
		g.deps.Log.Warn("an answer for another replica is lost", "error", err)
	}
}

// answered hands the client's answer to whoever asked; false when nobody here did.
func (s *session) answered(m wire.Message) bool {
	id, _ := wire.String(m.ID.Raw)
	s.mu.Lock()
	to := s.asks[id]
	delete(s.asks, id)
	s.mu.Unlock()
	if to != nil {
		to.answer(reply{result: slices.Clone(m.Result), refusal: slices.Clone(m.Error)})
	}
	return to != nil
}
