package oauth

import (
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// SplitScope takes a scope value apart at its spaces (RFC 6749 §3.3). Order is
// kept, duplicates are dropped; other white space is treated as a space.
func SplitScope(scope string) []string { return UnionScopes(strings.Fields(scope)) }

// JoinScope writes scopes as one value.
func JoinScope(scopes []string) string { return strings.Join(scopes, " ") }

// CheckScope checks the syntax of RFC 6749 §3.3: tokens of printable ASCII
// without quote and backslash, parted by single spaces; at most 100 of them,
// 4096 bytes.
func CheckScope(scope string) error {
	if len(scope) > MaxURL {
		return kidoban.Errorf(kidoban.KindLimit, "The scope is longer than %d bytes.", MaxURL)
	}
	parts := strings.Split(scope, " ")
	if len(parts) > 100 {
		return kidoban.Errorf(kidoban.KindLimit, "The scope has more than 100 values.")
	}
	for _, p := range parts {
		if p == "" {
			return kidoban.Errorf(kidoban.KindInput, "The scope has an empty value; part values by one space.")
		}
		for i := 0; i < len(p); i++ {
			if c := p[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
				return kidoban.Errorf(kidoban.KindInput, "The scope holds a character that RFC 6749 section 3.3 does not allow.")
			}
		}
	}
	return nil
}

// UnionScopes returns every scope of the lists once, in order of first sight.
// It is what a client asks for in a step-up (CL-11).
func UnionScopes(lists ...[]string) []string {
	var out []string
	seen := map[string]bool{}
	for _, l := range lists {
		for _, s := range l {
			if !seen[s] {
				seen[s] = true
				out = append(out, s)
			}
		}
	}
	return out
}

// IntersectScopes returns the scopes of a that b holds too, in a's order.
func IntersectScopes(a, b []string) []string {
	var out []string
	for _, s := range UnionScopes(a) {
		if slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

// IsSubset tells whether every scope of a is in b. The empty list is a subset
// of any.
func IsSubset(a, b []string) bool { return len(IntersectScopes(a, b)) == len(UnionScopes(a)) }
