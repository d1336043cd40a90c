package gateway

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/kidoban/kidoban"
)

// Archive is the sink as retention sees it: all chains, from the front.
type Archive interface {
	// JournalChains lists the chains there are.
	JournalChains(ctx context.Context) ([]string, error)
	// JournalFront returns number and hash of the entry up to which a chain may be
	// cut: every entry until there is older than before, and at least the chain's
	// last entry stays. 0 when nothing may go.
	JournalFront(ctx context.Context, chain string, before time.Time) (seq int64, hash []byte, err error)
	// JournalCut deletes a chain's entries up to seq, at most batch of them, the
	// oldest first; it returns how many went.
	JournalCut(ctx context.Context, chain string, seq int64, batch int) (int64, error)
}

// Records that say where a chain was cut: Server is the chain, Name the number of
// the last entry that went, Digest its hash.
const (
	checkpointMethod = "checkpoint"
	cutBatch         = 1000
)

// Trim cuts entries older than before off the front of every chain. For each it
// first records, durably and in this journal's own chain, number and hash of the
// last entry that goes: from there on what is left can be verified as before, and
// a front that somebody else cut off has no such record. It returns how many
// entries went.
func (j *Journal) Trim(ctx context.Context, a Archive, before, now time.Time) (int64, error) {
	chains, err := a.JournalChains(ctx)
	if err != nil {
		return 0, err
	}
	var gone int64
	for _, chain := range chains {
		seq, hash, err := a.JournalFront(ctx, chain, before)
		if err != nil {
			return gone, err
		}
		if seq == 0 {
			continue
		}
		j.Append(ctx, Record{At: now, Method: checkpointMethod, Server: chain, Name: strconv.FormatInt(seq, 10), Digest: hex.EncodeToString(hash),
			Decision: "kept", Rule: "retention", Detail: fmt.Sprintf("entries of %s up to %d, from before %s, are deleted", chain, seq, before.UTC().Format(time.RFC3339))})
		if err := j.Flush(ctx); err != nil {
			return gone, err
		}
		for n := int64(cutBatch); n == cutBatch; gone += n {
			if n, err = a.JournalCut(ctx, chain, seq, cutBatch); err != nil {
				return gone, err
			}
		}
	}
	return gone, nil
}

// Flush waits until every record that was handed over is durable.
func (j *Journal) Flush(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		j.mu.Lock()
		n := len(j.waiting)
		j.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return kidoban.Wrap(kidoban.KindUnreachable, ctx.Err(), "%s of the audit log not durable yet", kidoban.Count(n, "record", "records"))
		case <-tick.C:
		}
	}
}

// Checkpoint is the place at which a chain was cut.
type Checkpoint struct {
	Chain string
	Seq   int64
	Hash  string // hex
}

// CheckpointOf reads a checkpoint out of an entry.
func CheckpointOf(e Entry) (Checkpoint, bool) {
	var r Record
	if json.Unmarshal(e.Body, &r) != nil || r.Method != checkpointMethod || r.Rule != "retention" {
		return Checkpoint{}, false
	}
	seq, err := strconv.ParseInt(r.Name, 10, 64)
	return Checkpoint{r.Server, seq, r.Digest}, err == nil
}

// VerifyStart judges the first entry that is left of a chain, whose front may have
// been cut at one of the checkpoints. Where it is good, VerifyChain goes on from
// the entry's Prev.
func VerifyStart(chain string, first Entry, cuts []Checkpoint) error {
	if first.Seq == 1 {
		if hex.EncodeToString(first.Prev) != fmt.Sprintf("%064d", 0) {
			return kidoban.Errorf(kidoban.KindConflict, "the audit log %s was changed at its first entry", chain)
		}
		return nil
	}
	for _, c := range cuts {
		if c.Chain == chain && c.Seq == first.Seq-1 && c.Hash == hex.EncodeToString(first.Prev) {
			return nil
		}
	}
	return kidoban.Errorf(kidoban.KindConflict, "the audit log %s begins at entry %d, and nothing says that it was cut there", chain, first.Seq)
}

// VerifyArchive checks every chain of an archive, whose entries page reads in
// order after a number, at most limit of them. It returns how many entries it saw;
// the error names the first that is wrong.
func VerifyArchive(ctx context.Context, a Archive, page func(ctx context.Context, chain string, after int64, limit int) ([]Entry, error)) (int64, error) {
	chains, err := a.JournalChains(ctx)
	if err != nil {
		return 0, err
	}
	// Two passes: a chain may have been cut by a process that writes another one.
	var cuts []Checkpoint
	firsts := map[string]Entry{}
	var seen int64
	for _, chain := range chains {
		var prev []byte
		var after int64
		for {
			entries, err := page(ctx, chain, after, cutBatch)
			if err != nil || len(entries) == 0 {
				if err != nil {
					return seen, err
				}
				break
			}
			if after == 0 {
				firsts[chain], prev = entries[0], entries[0].Prev
			} else if entries[0].Seq != after+1 {
				return seen, kidoban.Errorf(kidoban.KindConflict, "the audit log %s lacks entries between %d and %d", chain, after, entries[0].Seq)
			}
			if err := VerifyChain(prev, entries); err != nil {
				return seen, fmt.Errorf("chain %s: %w", chain, err)
			}
			for _, e := range entries {
				if c, ok := CheckpointOf(e); ok {
					cuts = append(cuts, c)
				}
			}
			last := entries[len(entries)-1]
			prev, after, seen = last.Hash, last.Seq, seen+int64(len(entries))
		}
	}
	for chain, first := range firsts {
		if err := VerifyStart(chain, first, cuts); err != nil {
			return seen, err
		}
	}
	return seen, nil
}
