// Package wire reads and writes the bytes of MCP: JSON-RPC messages, server-sent
// events, the headers that mirror a message, and the revisions that decide which
// of these rules apply.
//
// The idea is one strict reading. A proxy is only safe when it and the server
// behind it read the same message, and JSON gives them room to disagree: a
// member twice, a member in another case, invalid UTF-8, a batch. Reader
// refuses all of it at every depth, once, and keeps params, result, error and
// id as slices of the message that was read. What goes on to the next party is
// a new envelope around those slices (AppendRequest, AppendResult …): no value
// is ever decoded into a struct and encoded again, so nothing a newer revision
// adds is lost and integers beyond 2^53 keep their digits.
//
// The audit looks at servers that do not keep the rules. For it there is
// ReadLenient, which tells what a tolerant peer would see and what a strict one
// would object to.
package wire

import (
	"errors"

	"github.com/kidoban/kidoban"
)

// Raw is a complete JSON value as it stood on the wire, without white space
// around it. It is a slice of the message it was read from: copy it to keep it
// longer than the message's buffer.
type Raw []byte

// Refusal says why a message was not accepted: a machine code, the JSON-RPC
// error code to answer with, and the sentence.
type Refusal struct {
	Code string // one of the Why… constants
	RPC  int    // CodeParse or CodeInvalidRequest
	Err  *kidoban.Error
}

// Error returns the sentence.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap gives the kidoban.Error, so that kidoban.KindOf works.
func (r *Refusal) Unwrap() error { return r.Err }

// WhyOf returns the machine code of the first Refusal in err's chain, or "".
func WhyOf(err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// Machine codes of refusals.
const (
	WhyTooLarge    = "too_large"
	WhyTooDeep     = "too_deep"
	WhyNotJSON     = "not_json"
	WhyDuplicate   = "duplicate_member"
	WhyUTF8        = "invalid_utf8"
	WhyTrailing    = "trailing_data"
	WhyBatch       = "batch"
	WhyNotObject   = "not_an_object"
	WhyCase        = "member_case"
	WhyVersion     = "jsonrpc_version"
	WhyID          = "bad_id"
	WhyMethod      = "bad_method"
	WhyParams      = "bad_params"
	WhyShape       = "not_a_message"
	WhyErrorObject = "bad_error_object"
)

func refuse(code string, rpc int, kind kidoban.Kind, format string, args ...any) error {
	return &Refusal{Code: code, RPC: rpc, Err: kidoban.Errorf(kind, format, args...)}
}

func malformed(code, format string, args ...any) error {
	return refuse(code, CodeInvalidRequest, kidoban.KindInput, format, args...)
}
