// Package oauth holds the rules of OAuth that both halves share: the audit
// judges other servers by them, the gateway lives by them. Everything here is a
// pure function from bytes to an answer: no I/O, no clock, no state.
//
// Two habits run through the package. Parsers are lenient but never silent: a
// document with a wrong type or a duplicate member is read as far as it can be
// and says what was wrong (Faults), because the audit must report it and the
// gateway must refuse it. Checks are strict and compare the raw text, because a
// URL that is parsed, normalised and printed again is no longer the URL that
// another party will act on.
//
// Every input has a bound; what is longer is refused with KindLimit.
package oauth

import (
	"errors"

	"github.com/kidoban/kidoban"
)

// Bounds of what is read. The real documents seen in the field are a tenth of
// these sizes.
const (
	MaxDocument       = 256 << 10 // bytes of a metadata or registration document
	MaxClientDocument = 5 << 10   // bytes of a Client ID Metadata Document (CIMD draft: 5 KB recommended)
	MaxURL            = 4096      // bytes of a URL, redirect URI or client id
	MaxChallenge      = 16 << 10  // bytes of all WWW-Authenticate values together
)

// Refusal is an error with a stable machine code beside the sentence, so that
// callers can answer, count and test by code while people read the sentence.
type Refusal struct {
	Code string // snake_case, stable
	Err  *kidoban.Error
}

// Error returns the sentence.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap gives the kidoban.Error, so that kidoban.KindOf works.
func (r *Refusal) Unwrap() error { return r.Err }

// CodeOf returns the machine code of the first Refusal in err's chain, or "".
func CodeOf(err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

func refuse(code, format string, args ...any) error {
	return &Refusal{Code: code, Err: kidoban.Errorf(kidoban.KindRefused, format, args...)}
}
