package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// Record is one line of the audit log: who did what and what became of it. It
// holds no argument and no result, only a digest of the arguments.
type Record struct {
	ID       string     `json:"id"`
	At       time.Time  `json:"at"`
	Address  netip.Addr `json:"address,omitzero"`
	User     string     `json:"user,omitempty"`
	Client   string     `json:"client,omitempty"`
	Grant    string     `json:"grant,omitempty"`
	Server   string     `json:"server,omitempty"`
	Method   string     `json:"method,omitempty"`
	Name     string     `json:"name,omitempty"` // tool, prompt or resource
	Era      string     `json:"era,omitempty"`
	Decision string     `json:"decision"`       // allowed, refused, or a word of whoever recorded it
	Rule     string     `json:"rule,omitempty"` // what decided
	Status   int        `json:"status,omitempty"`
	Digest   string     `json:"digest,omitempty"` // SHA-256 of the arguments as sent, hex
	Micros   int64      `json:"us"`
	Detail   string     `json:"detail,omitempty"`
	Policies []string   `json:"policies,omitempty"` // ids of the policies that decided
	Approval string     `json:"approval,omitempty"` // id of the person's yes that was used
	Trace    string     `json:"trace,omitempty"`    // the caller's W3C traceparent
}

// Entry is a record in its chain. Hash covers the entry before it, so that a
// record changed, removed or put in later breaks every hash that follows.
type Entry struct {
	Seq  int64 // from 1, without gaps
	At   time.Time
	Prev []byte // hash of the entry before; 32 zero bytes for the first
	Hash []byte // see ChainHash
	Body []byte // the record as JSON
	// Record is what Body says, for a sink that finds entries by it; not part of
	// the chain, and nil in what a sink gives back.
	Record *Record
}

// ChainHash is SHA-256 over the hash before, the number (8 bytes, big-endian)
// and the record.
func ChainHash(prev []byte, seq int64, body []byte) []byte {
	h := sha256.New()
	h.Write(prev)
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(seq))
	h.Write(n[:])
	h.Write(body)
	return h.Sum(nil)
}

// VerifyChain checks entries in order of Seq against the hash before the first
// and names the first that does not follow.
func VerifyChain(prev []byte, entries []Entry) error {
	for i, e := range entries {
		if i > 0 && e.Seq != entries[i-1].Seq+1 {
			return kidoban.Errorf(kidoban.KindConflict, "the audit log lacks entries between %d and %d", entries[i-1].Seq, e.Seq)
		}
		if string(e.Prev) != string(prev) || string(e.Hash) != string(ChainHash(prev, e.Seq, e.Body)) {
			return kidoban.Errorf(kidoban.KindConflict, "the audit log was changed at entry %d (%s)", e.Seq, hex.EncodeToString(e.Hash[:min(4, len(e.Hash))]))
		}
		prev = e.Hash
	}
	return nil
}

// Sink keeps chains of entries.
type Sink interface {
	// AppendEntries stores the entries behind the last one of the chain: all or
	// none, durable when it returns nil. KindConflict when they do not follow.
	AppendEntries(ctx context.Context, chain string, entries []Entry) error
	// LastEntry returns number and hash of the chain's last entry; 0 and nil
	// when there is none.
	LastEntry(ctx context.Context, chain string) (seq int64, hash []byte, err error)
}

// Journal writes records to a sink in batches, off the path of calls. Nothing is
// lost in silence: while the sink does not take records they wait in memory,
// and when too many wait, calls are refused until it does. It owns one
// goroutine; Close ends it after the last record.
type Journal struct {
	sink  Sink
	chain string
	max   int
	wake  chan struct{}
	end   chan struct{} // closed by Close
	done  chan struct{}
	watch []func(Record) // set by OpenJournal, never changed

	mu      sync.Mutex
	waiting []Record // guarded by mu
	floods  floods   // guarded by mu
	refused int64    // requests refused because too many waited; guarded by mu
	closed  bool     // guarded by mu

	seq  int64 // of the writer alone
	prev []byte
}

const (
	journalBatch = 512
	// journalMax is how many records may wait: some megabytes.
	journalMax = 16_384
	// journalPace is how long records gather, so that one write to the disk keeps
	// many; a full batch does not wait.
	journalPace = 25 * time.Millisecond
)

// OpenJournal continues the chain, whose name must belong to this process alone.
// Each watcher sees every record as it is appended, also those that the chain
// keeps as a sum only; it runs on the path of the call, so it must not wait.
func OpenJournal(ctx context.Context, sink Sink, chain string, watch ...func(Record)) (*Journal, error) {
	seq, hash, err := sink.LastEntry(ctx, chain)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the audit log cannot be read")
	}
	if seq == 0 {
		hash = make([]byte, sha256.Size)
	}
	j := &Journal{sink: sink, chain: chain, max: journalMax, wake: make(chan struct{}, 1), end: make(chan struct{}), done: make(chan struct{}), watch: watch, seq: seq, prev: hash}
	go j.write()
	return j, nil
}

// What others write into a record is bounded, in bytes: a call may have a name of
// megabytes, and every refused one is recorded.
const (
	maxRecordName   = 512
	maxRecordDetail = 4 << 10
)

// cut shortens a text that is too long, and says how long it was.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "… (" + strconv.Itoa(len(s)) + " bytes)"
}

// Append hands a record over. It never blocks and never drops, but sums up what
// strangers are refused by the thousand (see floods).
func (j *Journal) Append(_ context.Context, r Record) {
	r.Method, r.Name, r.Detail = cut(r.Method, maxRecordName), cut(r.Name, maxRecordName), cut(r.Detail, maxRecordDetail)
	for _, f := range j.watch {
		f(r)
	}
	j.mu.Lock()
	record, sums := j.floods.pass(&r)
	j.waiting = append(j.waiting, sums...)
	if record {
		j.waiting = append(j.waiting, r)
	}
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Full tells that too many records wait; calls must be refused then. Each time
// it says so counts as a refusal, which the log tells when it works again.
func (j *Journal) Full() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.waiting) < j.max {
		return false
	}
	j.refused++
	return true
}

// Waiting is how many records are not durable yet.
func (j *Journal) Waiting() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.waiting)
}

// Close writes what waits and ends. ctx bounds the wait; what could not be
// written then is the error.
func (j *Journal) Close(ctx context.Context) error {
	j.mu.Lock()
	j.waiting = append(j.waiting, j.floods.end()...)
	if !j.closed {
		j.closed = true
		close(j.end)
	}
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return kidoban.Errorf(kidoban.KindInternal, "%s of the audit log could not be written", kidoban.Count(len(j.waiting), "record", "records"))
}

// write is the journal's goroutine.
func (j *Journal) write() {
	defer close(j.done)
	wait := 50 * time.Millisecond
	for {
		batch, closed := j.batch()
		if len(batch) == 0 {
			if closed {
				return
			}
			<-j.wake
			j.gather()
			continue
		}
		entries := j.entries(batch)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		err := j.sink.AppendEntries(ctx, j.chain, entries)
		cancel()
		if err == nil {
			last := entries[len(entries)-1]
			j.seq, j.prev = last.Seq, last.Hash
			j.drop(len(batch))
			wait = 50 * time.Millisecond
			j.gather()
			continue
		}
		if closed {
			return // Close reports what is left
		}
		time.Sleep(wait)
		wait = min(2*wait, 5*time.Second)
	}
}

// gather waits until a batch is worth a write.
func (j *Journal) gather() {
	if j.Waiting() >= journalBatch/2 {
		return
	}
	t := time.NewTimer(journalPace)
	defer t.Stop()
	select {
	case <-t.C:
	case <-j.end:
	}
}

// batch returns the oldest records without removing them.
func (j *Journal) batch() ([]Record, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.refused > 0 && len(j.waiting) < j.max/2 {
		j.waiting = append(j.waiting, Record{At: j.waiting0(), Decision: "refused", Rule: "journal", Status: 503,
			Detail: kidoban.Errorf(kidoban.KindLimit, "%s refused while the audit log took no records", kidoban.Count(j.refused, "request was", "requests were")).Sentence})
		j.refused = 0
	}
	return j.waiting[:min(len(j.waiting), journalBatch)], j.closed
}

// waiting0 is the time of the newest waiting record. The caller holds mu.
func (j *Journal) waiting0() time.Time {
	if n := len(j.waiting); n > 0 {
		return j.waiting[n-1].At
	}
	return time.Time{}
}

// drop removes the oldest n, which nobody reads any more. The room is used again,
// unless it is that of a jam.
func (j *Journal) drop(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	rest := j.waiting[n:]
	if cap(j.waiting) > 4*journalBatch && len(rest) < journalBatch {
		j.waiting = append(make([]Record, 0, journalBatch), rest...)
		return
	}
	left := copy(j.waiting, rest)
	clear(j.waiting[left:])
	j.waiting = j.waiting[:left]
}

func (j *Journal) entries(batch []Record) []Entry {
	out := make([]Entry, len(batch))
	seq, prev := j.seq, j.prev
	for i := range batch {
		r := &batch[i]
		body, err := json.Marshal(r)
		if err != nil { // strings and numbers only: it cannot happen, and must not lose a record
			body, _ = json.Marshal(Record{ID: r.ID, At: r.At, Decision: "unreadable"})
		}
		seq++
		out[i] = Entry{Seq: seq, At: r.At, Prev: prev, Hash: ChainHash(prev, seq, body), Body: body, Record: r}
		prev = out[i].Hash
	}
	return out
}
