package main

import (
	"context"
	"encoding/json"
	"fmt"
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
	User   string        `help:"Only records of this user id." placeholder:"ID"`
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
		chains, err := db.JournalChains(e.ctx)
		if err != nil {
			return err
		}
		for _, chain := range chains {
			if err := c.print(e, db, chain); err != nil {
				return err
			}
		}
		return nil
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

func (c logCmd) print(e *env, db *store.DB, chain string) error {
	for after := int64(0); ; {
		entries, err := db.JournalEntries(e.ctx, chain, after, 1000)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, en := range entries {
			after = en.Seq
			var r gateway.Record
			if err := json.Unmarshal(en.Body, &r); err != nil {
				return kidoban.Wrap(kidoban.KindInternal, err, "record %d of %s cannot be read: run kidoban gateway log --verify", en.Seq, chain)
			}
			if c.wants(r, time.Now()) {
				if _, err := fmt.Fprintf(e.stdout, "%s\n", en.Body); err != nil {
					return err
				}
			}
		}
	}
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
