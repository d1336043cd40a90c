package gateway

import (
	"context"
	"time"
)

// Approval is one call that waits for a person, or waited (G-TG6).
type Approval struct {
	ID      string // 128 random bits; in the address of its page, and no credential
	Binding string // hash over whom and what exactly it is for; see approvalBinding
	User    string
	Client  string
	Server  string
	Tool    string
	Sealed  string // what the page shows: arguments and policies
	State   ApprovalState
	Created time.Time
	Expires time.Time
	Decided time.Time
	By      string
}

// ApprovalState says where an approval is.
type ApprovalState string

// The states. Approved becomes used by the one call it is for.
const (
	ApprovalWaiting  ApprovalState = "waiting"
	ApprovalApproved ApprovalState = "approved"
	ApprovalRefused  ApprovalState = "refused"
	ApprovalUsed     ApprovalState = "used"
)

// ApprovalStore keeps approvals for all replicas. What has expired counts as if
// it were not there.
type ApprovalStore interface {
	// AskApproval stores a, unless one of the same binding waits, is approved or
	// is refused and has not expired at a.Created; that one comes back then. Of any
	// number of parallel calls one stores. KindLimit when the user has max waiting.
	AskApproval(ctx context.Context, a Approval, max int) (Approval, error)
	// Approval finds one by its id, expired ones too. KindNotFound.
	Approval(ctx context.Context, id string) (Approval, error)
	// WaitingApprovals lists what waits for a user at now, oldest first.
	WaitingApprovals(ctx context.Context, user string, now time.Time) ([]Approval, error)
	// DecideApproval sets state, by, decided and expires of one that waits for the
	// user and has not expired at a.Decided; otherwise KindConflict.
	DecideApproval(ctx context.Context, a Approval) error
	// UseApproval is true for exactly one call for an approved one that has not
	// expired, and makes it used.
	UseApproval(ctx context.Context, id string, now time.Time) (bool, error)
}

// SessionLabel is one thing that a session has read, when last and where.
type SessionLabel struct {
	Label  string
	Source string // "server/tool"
	At     time.Time
}

// SessionStore keeps what sessions have read, for all replicas.
type SessionStore interface {
	// SessionLabels lists the labels given since, in order of label.
	SessionLabels(ctx context.Context, session string, since time.Time) ([]SessionLabel, error)
	// LabelSession adds labels; one that is there gets the later time.
	LabelSession(ctx context.Context, session string, labels []SessionLabel) error
	// ForgetSession removes all.
	ForgetSession(ctx context.Context, session string) error
}
