package gateway

import (
	"slices"

	"github.com/kidoban/kidoban/wire"
)

// madeTasks are the requests over one relationship that were answered with a task. In
// 2025-11-25 the progress token of such a request stays valid as long as its task
// (tasks, Task Progress Notifications); the extension of 2026-07-28 knows no progress of
// tasks. Nobody need say that a task is over, so the oldest go. Its zero value is ready;
// the owner's lock guards it.
type madeTasks struct {
	all []madeTask // oldest first
}

type madeTask struct {
	ours  string // the token that the server knows
	token wire.Raw
	who   string
}

// Of one session, and over one relationship, so many are remembered.
const (
	maxMadeBy = 16
	maxMade   = 256
)

// add remembers a request if m answers it with a task. Of too many the oldest goes of
// whoever has most.
func (t *madeTasks) add(ours string, token wire.Raw, who string, m wire.Message) {
	id, ok := wire.Lookup(m.Result, "task", taskMember)
	if _, text := wire.String(id); !ok || !text || who == "" || m.Kind != wire.Result {
		return
	}
	n, most := map[string]int{}, who
	for _, o := range t.all {
		if n[o.who]++; n[o.who] > n[most] {
			most = o.who
		}
	}
	if n[who] >= maxMadeBy {
		most = who
	}
	if n[who] >= maxMadeBy || len(t.all) >= maxMade {
		oldest := slices.IndexFunc(t.all, func(o madeTask) bool { return o.who == most })
		t.all = slices.Delete(t.all, oldest, oldest+1)
	}
	t.all = append(t.all, madeTask{ours, token, who})
}

// route finds who hears of a task's progress: the stream of its session, or a call of it
// that waits for a task's result. m gets the client's own token.
func (t *madeTasks) route(ours string, m wire.Message, calls *underway, listeners *fan) (wire.Message, func(wire.Message)) {
	i := slices.IndexFunc(t.all, func(o madeTask) bool { return o.ours == ours })
	if i < 0 {
		return m, nil
	}
	made := t.all[i]
	m.Params = wire.SetMember(m.Params, "progressToken", made.token)
	if s, ok := listeners.of(made.who); ok {
		return m, s.note
	}
	for _, o := range slices.Backward(calls.calls) {
		if o.who == made.who && o.method == wire.MethodTaskResult {
			return m, o.h.note
		}
	}
	return m, nil
}
