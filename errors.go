package kidoban

import (
	"errors"
	"fmt"
)

// Kind classes an error by what its receiver can do about it.
type Kind string

// The kinds of errors. Commands map them to exit codes, servers to status codes.
const (
	KindUsage       Kind = "usage"       // the caller asked for something that cannot be; retrying unchanged is useless
	KindInput       Kind = "input"       // a file, document or message from outside is malformed
	KindRefused     Kind = "refused"     // policy or an address guard said no
	KindUnreachable Kind = "unreachable" // the network or the peer did not answer
	KindLimit       Kind = "limit"       // a size, time, rate or count bound was hit
	KindConflict    Kind = "conflict"    // the state changed under the caller
	KindNotFound    Kind = "not_found"   // the named thing does not exist
	KindInternal    Kind = "internal"    // a defect or an environment failure on our side
)

// Error carries a kind, the sentence for the person in front, and the cause for
// the operator. The two are kept apart: Sentence may be shown to strangers,
// Cause may not.
type Error struct {
	Kind     Kind
	Sentence string // what was wrong, where, and what to do; no secrets, no upstream text
	Cause    error  // nil when the sentence says all
}

// Error returns the sentence, followed by the cause where there is one. It is
// meant for logs and terminals of the operator; show strangers only Sentence.
func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Sentence
	}
	return e.Sentence + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf builds an Error with no cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Sentence: fmt.Sprintf(format, args...)}
}

// Wrap builds an Error around cause. A nil cause gives a nil error.
func Wrap(kind Kind, cause error, format string, args ...any) error {
	if cause == nil {
		return nil
	}
	return &Error{Kind: kind, Sentence: fmt.Sprintf(format, args...), Cause: cause}
}

// KindOf returns the kind of the first Error in err's chain, or KindInternal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}
