package census

import (
	"context"
	"time"
)

// Store keeps a census. All methods are safe for concurrent use and durable when
// they return. run names one census; several may share a database.
type Store interface {
	// CensusAdd adds targets that are not there yet and tells of each whether it
	// was new. Either all of them are stored or none.
	CensusAdd(ctx context.Context, run string, ts []Target) (isNew []bool, err error)
	// CensusForget takes away the targets of a source that have no result, so that
	// an import that was killed can begin anew.
	CensusForget(ctx context.Context, run, source string) error
	// CensusPending returns up to limit targets without a result whose Spread is
	// above after, in the order of their Spread.
	CensusPending(ctx context.Context, run string, after int64, limit int) ([]Target, error)
	// CensusCount returns how many targets there are and how many have a result.
	CensusCount(ctx context.Context, run string) (all, done int, err error)
	// CensusDone stores results. The first result of a target stays; another one
	// is ignored.
	CensusDone(ctx context.Context, run string, rs []Outcome) error
	// CensusResults gives every result, ordered by the bytes of the target's URL.
	CensusResults(ctx context.Context, run string, each func(Outcome) error) error
	// CensusCrowded returns up to limit targets without a result that are beyond the
	// first max of their host by Spread.
	CensusCrowded(ctx context.Context, run string, max, limit int) ([]Target, error)
	// CensusHosts counts the hosts, and the targets beyond the first max of each.
	CensusHosts(ctx context.Context, run string, max int) (hosts, beyond int, err error)

	// CensusTurn takes the turn of a host: it succeeds when nobody holds the turn
	// and the host's time has come, and then holds it until CensusRelease or for
	// the lease. used counts the turns ever taken. Without success, wait says when to
	// ask again; spent says that max turns were taken and there will be no more.
	// The clock is the database's where several machines share it.
	CensusTurn(ctx context.Context, run, host string, max int, lease time.Duration) (wait time.Duration, spent bool, err error)
	// CensusRelease gives the turn back; the next is free after the interval.
	CensusRelease(ctx context.Context, run, host string, interval time.Duration) error

	// CensusKnown reads what is known under key, nil when nothing is. It claims
	// nothing.
	CensusKnown(ctx context.Context, run, key string) ([]byte, error)
	// CensusClaim reads what is known under key. When nothing is, the caller gets
	// the claim (mine) and stores it with CensusLearn; others get neither until
	// then, or until the lease is over.
	CensusClaim(ctx context.Context, run, key string, lease time.Duration) (known []byte, mine bool, err error)
	// CensusRenew makes the claim under key last for the lease from now on; without
	// effect when something is known there.
	CensusRenew(ctx context.Context, run, key string, lease time.Duration) error
	// CensusUnclaim gives a claim back, so that others need not wait for the lease.
	CensusUnclaim(ctx context.Context, run, key string) error
	// CensusLearn stores what is known under key. The first answer stays.
	CensusLearn(ctx context.Context, run, key string, known []byte) error
}

// Outcome is a stored result.
type Outcome struct {
	URL    string
	Result []byte // canonical JSON of a Result
	Times  []byte // JSON of Times; never part of a comparison
}

// Times are what differs from one run to the next.
type Times struct {
	Finished time.Time `json:"finished"`
	Millis   int64     `json:"ms"`
	Requests int       `json:"requests"`
	Attempts int       `json:"attempts"`
}
