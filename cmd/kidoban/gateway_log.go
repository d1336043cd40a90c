package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/store"
)

// logCmd is kidoban gateway log: the audit log, beside a running gateway.
type logCmd struct {
	gatewayFile
	Verify bool          `help:"Check the hash chains instead: that nothing was changed, removed or put in later."`
	Since  time.Duration `help:"Only records as young as this." placeholder:"24h"`
	User   string        `help:"Only records of this user, by name or id." placeholder:"NAME"`
	Client string        `help:"Only records of this client id." placeholder:"ID"`
	Server string        `help:"Only records of this server." placeholder:"NAME"`
	Refuse bool          `name:"refused" help:"Only what was refused."`
}

// Run prints JSON lines, one record each, or verifies.
func (c logCmd) Run(e *env) error {
	return c.withStore(e, func(db *store.DB) error {
		if c.Verify {
			return verifyLog(e, db)
		}
		if c.User != "" { // records name people by their ids
			u, err := db.UserByName(e.ctx, strings.ToLower(strings.TrimSpace(c.User)))
			if err == nil {
				c.User = u.ID
			} else if kidoban.KindOf(err) != kidoban.KindNotFound {
				return err
			}
		}
		chains, err := db.JournalChains(e.ctx)
		if err != nil {
			return err
		}
		return c.print(e, db, chains)
	})
}

func verifyLog(e *env, db *store.DB) error {
	n, err := gateway.VerifyArchive(e.ctx, db, db.JournalEntries)
	if err == nil {
		_, err = fmt.Fprintf(e.stdout, "%s, every chain is whole\n", kidoban.Count(n, "record", "records"))
	} else if kidoban.KindOf(err) == kidoban.KindConflict {
		fmt.Fprintf(e.stdout, "NOT WHOLE: %v\n", err)
		return exitError(exitFindings)
	}
	return err
}

// logChain is one chain of the log while it is printed: what was read of it and
// not printed yet.
type logChain struct {
	name    string
	after   int64
	entries []gateway.Entry
	record  gateway.Record // of the first entry
}

// next goes to the chain's next record, reading more when it must. At the end
// there are no entries.
func (l *logChain) next(ctx context.Context, db *store.DB, page int) (err error) {
	if len(l.entries) > 0 {
		l.entries = l.entries[1:]
	}
	if len(l.entries) == 0 {
		if l.entries, err = db.JournalEntries(ctx, l.name, l.after, page); err != nil || len(l.entries) == 0 {
			return err
		}
	}
	l.after, l.record = l.entries[0].Seq, gateway.Record{}
	if err := json.Unmarshal(l.entries[0].Body, &l.record); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "record %d of %s cannot be read: run kidoban gateway log --verify", l.after, l.name)
	}
	return nil
}

// print writes the records of all chains, the earliest first: whoever reads the
// log's end wants what happened last, whichever process wrote it.
func (c logCmd) print(e *env, db *store.DB, names []string) error {
	page := max(20, min(1000, 20_000/(len(names)+1))) // entries in memory, with many chains too
	var chains []*logChain
	advance := func(l *logChain) error {
		err := l.next(e.ctx, db, page)
		if err == nil && len(l.entries) == 0 {
			chains = slices.DeleteFunc(chains, func(other *logChain) bool { return other == l })
		}
		return err
	}
	for _, name := range names {
		l := &logChain{name: name}
		chains = append(chains, l)
		if err := advance(l); err != nil {
			return err
		}
	}
	now := time.Now()
	for len(chains) > 0 {
		first := slices.MinFunc(chains, func(a, b *logChain) int { return a.record.At.Compare(b.record.At) })
		if c.wants(first.record, now) {
			if _, err := fmt.Fprintf(e.stdout, "%s\n", first.entries[0].Body); err != nil {
				return err
			}
		}
		if err := advance(first); err != nil {
			return err
		}
	}
	return nil
}

func (c logCmd) wants(r gateway.Record, now time.Time) bool {
	return (c.Since == 0 || now.Sub(r.At) <= c.Since) && (c.User == "" || r.User == c.User) && (c.Client == "" || r.Client == c.Client) &&
		(c.Server == "" || r.Server == c.Server) && (!c.Refuse || r.Decision == "refused")
}

// trimEvery spaces the cutting of the audit log.
const trimEvery = time.Hour

// trim cuts the audit log as the config says, until ctx ends.
func (s *service) trim(ctx context.Context) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		if keep := time.Duration(s.config().AuditKeep); keep > 0 {
			now := time.Now()
			if n, err := s.journal.Trim(ctx, s.db, now.Add(-keep), now); err != nil && ctx.Err() == nil {
				s.log.Error("audit log: old records cannot be deleted", "error", err)
			} else if n > 0 {
				s.log.Info("audit log: old records deleted", "records", n)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
