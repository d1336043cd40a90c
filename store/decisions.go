package store

import (
	"context"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
)

var (
	_ gateway.ApprovalStore = (*DB)(nil)
	_ gateway.SessionStore  = (*DB)(nil)
)

const approvalColumns = `id, binding, user_id, client_id, server, tool, sealed, state, created_ms, expires_ms, decided_ms, decided_by`

func scanApproval(a *gateway.Approval) func(row) error {
	return func(r row) error {
		var state string
		err := r.Scan(&a.ID, &a.Binding, &a.User, &a.Client, &a.Server, &a.Tool, &a.Sealed, &state, at(&a.Created), at(&a.Expires), at(&a.Decided), &a.By)
		a.State = gateway.ApprovalState(state)
		return err
	}
}

// AskApproval implements gateway.ApprovalStore.
func (d *DB) AskApproval(ctx context.Context, a gateway.Approval, max int) (got gateway.Approval, err error) {
	err = d.write(ctx, func(t tx) error {
		waiting := 0
		err := t.query(`SELECT COUNT(*) FROM approvals WHERE user_id = $1 AND state = 'waiting' AND expires_ms > $2 AND binding <> $3`,
			func(r row) error { return r.Scan(&waiting) }, a.User, ms(a.Created), a.Binding)
		if err != nil {
			return err
		}
		if waiting >= max {
			return kidoban.Errorf(kidoban.KindLimit, "%d calls wait for the same person already", waiting)
		}
		if _, err := t.exec(`INSERT INTO approvals(`+approvalColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, 'waiting', $8, $9, 0, '')
			ON CONFLICT (binding) DO UPDATE SET id = excluded.id, sealed = excluded.sealed, state = 'waiting',
				created_ms = excluded.created_ms, expires_ms = excluded.expires_ms, decided_ms = 0, decided_by = ''
			WHERE approvals.state = 'used' OR approvals.expires_ms <= $10`,
			a.ID, a.Binding, a.User, a.Client, a.Server, a.Tool, a.Sealed, ms(a.Created), ms(a.Expires), ms(a.Created)); err != nil {
			return err
		}
		return t.query(`SELECT `+approvalColumns+` FROM approvals WHERE binding = $1`, scanApproval(&got), a.Binding)
	})
	return got, err
}

// Approval implements gateway.ApprovalStore.
func (d *DB) Approval(ctx context.Context, id string) (a gateway.Approval, err error) {
	err = d.readOne(ctx, "approval", `SELECT `+approvalColumns+` FROM approvals WHERE id = $1`, scanApproval(&a), id)
	return a, err
}

// WaitingApprovals implements gateway.ApprovalStore.
func (d *DB) WaitingApprovals(ctx context.Context, user string, now time.Time) (out []gateway.Approval, err error) {
	err = d.read(ctx, `SELECT `+approvalColumns+` FROM approvals WHERE user_id = $1 AND state = 'waiting' AND expires_ms > $2 ORDER BY created_ms, id LIMIT 100`, func(r row) error {
		var a gateway.Approval
		err := scanApproval(&a)(r)
		out = append(out, a)
		return err
	}, user, ms(now))
	return out, err
}

// DecideApproval implements gateway.ApprovalStore.
func (d *DB) DecideApproval(ctx context.Context, a gateway.Approval) error {
	return d.write(ctx, func(t tx) error {
		n, err := t.exec(`UPDATE approvals SET state = $1, decided_ms = $2, decided_by = $3, expires_ms = $4
			WHERE id = $5 AND user_id = $6 AND state = 'waiting' AND expires_ms > $7`,
			string(a.State), ms(a.Decided), a.By, ms(a.Expires), a.ID, a.User, ms(a.Decided))
		if err == nil && n == 0 {
			return kidoban.Errorf(kidoban.KindConflict, "the call waits no longer")
		}
		return err
	})
}

// UseApproval implements gateway.ApprovalStore.
func (d *DB) UseApproval(ctx context.Context, id string, now time.Time) (used bool, err error) {
	err = d.write(ctx, func(t tx) error {
		n, err := t.exec(`UPDATE approvals SET state = 'used' WHERE id = $1 AND state = 'approved' AND expires_ms > $2`, id, ms(now))
		used = n == 1
		return err
	})
	return used, err
}

// SessionLabels implements gateway.SessionStore.
func (d *DB) SessionLabels(ctx context.Context, session string, since time.Time) (out []gateway.SessionLabel, err error) {
	err = d.read(ctx, `SELECT label, source, at_ms FROM session_labels WHERE session = $1 AND at_ms >= $2 ORDER BY label`, func(r row) error {
		var l gateway.SessionLabel
		err := r.Scan(&l.Label, &l.Source, at(&l.At))
		out = append(out, l)
		return err
	}, session, ms(since))
	return out, err
}

// LabelSession implements gateway.SessionStore.
func (d *DB) LabelSession(ctx context.Context, session string, labels []gateway.SessionLabel) error {
	return d.write(ctx, func(t tx) error {
		for _, l := range labels {
			if _, err := t.exec(`INSERT INTO session_labels(session, label, source, at_ms) VALUES ($1, $2, $3, $4)
				ON CONFLICT (session, label) DO UPDATE SET source = excluded.source, at_ms = excluded.at_ms WHERE session_labels.at_ms < excluded.at_ms`,
				session, l.Label, l.Source, ms(l.At)); err != nil {
				return err
			}
		}
		return nil
	})
}

// ForgetSession implements gateway.SessionStore.
func (d *DB) ForgetSession(ctx context.Context, session string) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`DELETE FROM session_labels WHERE session = $1`, session)
		return err
	})
}
