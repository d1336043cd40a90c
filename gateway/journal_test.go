package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// memorySink keeps entries in order, as a store does.
type memorySink struct {
	mu   sync.Mutex
	all  []Entry
	fail error
}

func (m *memorySink) AppendEntries(_ context.Context, _ string, entries []Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.all = append(m.all, entries...)
	return nil
}

func (m *memorySink) LastEntry(context.Context, string) (int64, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.all) == 0 {
		return 0, nil, nil
	}
	last := m.all[len(m.all)-1]
	return last.Seq, last.Hash, nil
}

func (m *memorySink) set(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func (m *memorySink) entries() []Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Entry(nil), m.all...)
}

func closeJournal(t *testing.T, j *Journal) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestAuditLogIsAChain(t *testing.T) {
	sink := &memorySink{}
	for range 2 { // the second process continues the chain
		j, err := OpenJournal(t.Context(), sink, "a")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 700 {
			j.Append(t.Context(), Record{ID: string(rune('a' + i%26)), Decision: "allowed"})
		}
		closeJournal(t, j)
	}
	all := sink.entries()
	if len(all) != 1400 {
		t.Fatalf("%d entries", len(all))
	}
	zero := make([]byte, 32)
	if err := VerifyChain(zero, all); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(e []Entry) []Entry{
		"changed": func(e []Entry) []Entry { e[700].Body = []byte(`{}`); return e },
		"removed": func(e []Entry) []Entry { return append(e[:500], e[501:]...) },
		"first":   func(e []Entry) []Entry { return e[1:] },
		"swapped": func(e []Entry) []Entry { e[3], e[4] = e[4], e[3]; return e },
	} {
		if err := VerifyChain(zero, change(sink.entries())); kidoban.KindOf(err) != kidoban.KindConflict {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAuditLogIsNeverLostInSilence: while the log takes nothing, calls wait in
// memory, then are refused; afterwards the log has them all and says how many
// were refused.
func TestAuditLogIsNeverLostInSilence(t *testing.T) {
	sink := &memorySink{}
	j, err := OpenJournal(t.Context(), sink, "a")
	if err != nil {
		t.Fatal(err)
	}
	j.max = 20
	up := listServer(t)
	r := newRig(t, []Server{at("one", up.URL)}, func(_ *Config, d *Deps) { d.Journal = j })
	sink.set(errors.New("disk full"))
	served, refused := 0, 0
	for range 40 {
		switch a := r.post("one", "alice", listTools); a.status {
		case 200:
			served++
		case 503:
			refused++
		}
	}
	if served < 20 || refused < 10 || served+refused != 40 || up.count() != served {
		t.Errorf("%d served, %d refused, the server saw %d", served, refused, up.count())
	}
	sink.set(nil)
	for deadline := time.Now().Add(time.Minute); j.Full() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if a := r.post("one", "alice", listTools); a.status != 200 {
		t.Errorf("afterwards: %d", a.status)
	}
	closeJournal(t, j)
	records, told := 0, false
	for _, e := range sink.entries() {
		var rec Record
		if err := json.Unmarshal(e.Body, &rec); err != nil {
			t.Fatal(err)
		}
		if rec.Rule == "journal" {
			told = told || strings.Contains(rec.Detail, "refused")
		} else {
			records++
		}
	}
	if records != served+1 || !told {
		t.Errorf("%d records for %d calls; told of the refusals: %v", records, served+1, told)
	}
}

// TestARecordHoldsItsOwnTrace: what a record takes of a message is taken before the
// message's memory serves another call, whose words would stand in it.
func TestARecordHoldsItsOwnTrace(t *testing.T) {
	sink := &memorySink{}
	j, err := OpenJournal(t.Context(), sink, "a")
	if err != nil {
		t.Fatal(err)
	}
	var rooms atomic.Pointer[wire.Rooms]
	r := newRig(t, []Server{at("one", listServer(t).URL)}, func(_ *Config, d *Deps) {
		d.Journal = j
		d.Now = func() time.Time {
			for range 8 { // other calls come, and have whatever memory is free
				if free := rooms.Load(); free != nil {
					room := free.Take(1)
					copy(room[:cap(room)], bytes.Repeat([]byte{'x'}, cap(room)))
					defer free.Give(room)
				}
			}
			return time.Now()
		}
	})
	rooms.Store(&r.g.rooms)
	const calls = 20
	trace := func(i int) string { return fmt.Sprintf("00-%032x-%016x-01", i+1, i+1) }
	for i := range calls {
		if a := r.post("one", "alice", `{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":{"traceparent":"`+trace(i)+`"}}}`); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	closeJournal(t, j)
	for i, e := range sink.entries() {
		var rec Record
		if err := json.Unmarshal(e.Body, &rec); err != nil || rec.Trace != trace(i) {
			t.Errorf("call %d has the trace %q, %v", i, rec.Trace, err)
		}
	}
	if n := len(sink.entries()); n != calls {
		t.Errorf("%d records", n)
	}
}

func TestEveryRefusalIsInTheLog(t *testing.T) {
	sink := &memorySink{}
	j, err := OpenJournal(t.Context(), sink, "a")
	if err != nil {
		t.Fatal(err)
	}
	up := listServer(t)
	r := newRig(t, []Server{at("one", up.URL)}, func(_ *Config, d *Deps) { d.Journal = j })
	ids := map[string]string{}
	note := func(a answer, rule string) { ids[a.header.Get("X-Request-Id")] = rule }
	note(r.do("POST", r.resource("one"), listTools), "token:missing")
	note(r.post("one", "alice", listTools, "Origin", "https://evil.example"), "origin")
	note(r.post("one", "alice", listTools, "Host", "evil.example"), "host")
	note(r.post("one", "alice", `[]`), "wire:batch")
	note(r.post("one", "alice", listTools), "")
	closeJournal(t, j)
	for _, e := range sink.entries() {
		var rec Record
		if err := json.Unmarshal(e.Body, &rec); err != nil {
			t.Fatal(err)
		}
		rule, ok := ids[rec.ID]
		if !ok || rec.Rule != rule || (rule == "") != (rec.Decision == "allowed") || !rec.Address.IsValid() {
			t.Errorf("%s", e.Body)
		}
		delete(ids, rec.ID)
	}
	if len(ids) != 0 {
		t.Errorf("not recorded: %v", ids)
	}
}
