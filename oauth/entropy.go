package oauth

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
)

// PossibleBits returns the most randomness a value of this length and alphabet
// can hold: length × log2 of the smallest usual alphabet its characters fit. It
// is an upper bound; a value may hold far less. A UUID counts its random bits:
// 122 for version 4, 74 for version 7, 0 for versions 1 and 2.
func PossibleBits(s string) float64 {
	if v := uuidVersion(s); v != 0 {
		return map[byte]float64{4: 122, 7: 74}[v]
	}
	return float64(len(s)) * math.Log2(float64(alphabet(s)))
}

// alphabet returns the size of the smallest usual alphabet that holds s.
func alphabet(s string) int {
	const digits, lower, upper = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for _, a := range [...]struct {
		chars string
		size  int
	}{
		{digits, 10}, {digits + "abcdef-", 16}, {digits + "ABCDEF-", 16}, {lower, 26}, {upper, 26},
		{digits + "ABCDEFGHIJKLMNOPQRSTUVWXYZ", 32}, {digits + lower, 36}, {digits + lower + upper, 62},
		{digits + lower + upper + "-_=", 64}, {digits + lower + upper + "+/=", 64},
	} {
		if strings.Trim(s, a.chars) == "" && containsOnly(s, a.chars) {
			return a.size
		}
	}
	return 94
}

func containsOnly(s, chars string) bool {
	for i := 0; i < len(s); i++ {
		if strings.IndexByte(chars, s[i]) < 0 {
			return false
		}
	}
	return true
}

// uuidVersion returns the version of a UUID in its 36-character form, 0 for
// anything else.
func uuidVersion(s string) byte {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return 0
	}
	for i := 0; i < len(s); i++ {
		if i != 8 && i != 13 && i != 18 && i != 23 && !isHex(s[i]) {
			return 0
		}
	}
	if s[14] < '1' || s[14] > '8' {
		return 0
	}
	return s[14] - '0'
}

// StateSample compares several states that one server issued, in order.
type StateSample struct {
	Count      int
	Absent     int     // empty ones
	Distinct   int     // different non-empty ones
	Prefix     int     // characters all begin with
	Suffix     int     // characters all end with
	Bits       float64 // PossibleBits of the part between, smallest of the sample
	RandomBits float64 // most PossibleBits of any part, decoded ones included, that differs every time and is no time or counter
	Sequential bool    // a part counts upwards
	Timestamps bool    // a part is a time
	Readable   bool    // at least one can be decoded
}

// Fixed tells whether the same state came more than once.
func (s StateSample) Fixed() bool { return s.Distinct < s.Count-s.Absent }

// CompareStates looks at states taken from separate fresh transactions (F8
// asks for five or more). Fewer than two tell nothing about Sequential.
func CompareStates(states []string) StateSample {
	s := StateSample{Count: len(states)}
	var present []string
	for _, v := range states {
		if v == "" {
			s.Absent++
		} else {
			present = append(present, v)
		}
	}
	if len(present) == 0 {
		return s
	}
	s.Distinct = len(slices.Compact(slices.Sorted(slices.Values(present))))
	s.Prefix, s.Suffix = sharedEnds(present)
	s.Bits = math.Inf(1)
	for _, v := range present {
		bits := PossibleBits(v)
		if len(present) > 1 && s.Prefix+s.Suffix > 0 {
			bits = min(bits, PossibleBits(v[s.Prefix:len(v)-s.Suffix]))
		}
		s.Bits = min(s.Bits, bits)
	}
	for _, values := range columns(present) {
		s.column(values)
	}
	r := ReadState(present[0])
	s.Readable = r.Structure
	return s
}

// columns returns, for each place in the decoded states, its values in order.
// Places that some states lack are left out.
func columns(states []string) map[string][]string {
	out := map[string][]string{}
	for i, v := range states {
		r := ReadState(v)
		for _, l := range r.Leaves {
			if l.Opened {
				continue // a wrapping around other leaves is not random by itself
			}
			if len(out[l.Path]) == i {
				out[l.Path] = append(out[l.Path], l.Value)
			}
		}
	}
	for path, values := range out {
		if len(values) != len(states) {
			delete(out, path)
		}
	}
	return out
}

// column judges the values at one place.
func (s *StateSample) column(values []string) {
	if counts(values) {
		s.Sequential = true
		return
	}
	if isTime(values) {
		s.Timestamps = true
		return
	}
	if len(values) > 1 && len(slices.Compact(slices.Sorted(slices.Values(values)))) < len(values) {
		return
	}
	pre, suf := 0, 0
	if len(values) > 1 {
		pre, suf = sharedEnds(values)
	}
	least := math.Inf(1)
	for _, v := range values {
		least = min(least, PossibleBits(v), PossibleBits(v[pre:len(v)-suf]))
		if uuidVersion(v) != 0 {
			least = min(least, PossibleBits(v))
		}
	}
	s.RandomBits = max(s.RandomBits, least)
}

// sharedEnds returns how many characters all values share at both ends; the
// two never overlap.
func sharedEnds(values []string) (prefix, suffix int) {
	if len(values) < 2 {
		return 0, 0
	}
	first, shortest := values[0], len(values[0])
	for _, v := range values[1:] {
		shortest = min(shortest, len(v))
	}
	same := func(at func(string) byte) bool {
		for _, v := range values[1:] {
			if at(v) != at(first) {
				return false
			}
		}
		return true
	}
	for prefix < shortest && same(func(v string) byte { return v[prefix] }) {
		prefix++
	}
	for suffix < shortest-prefix && same(func(v string) byte { return v[len(v)-1-suffix] }) {
		suffix++
	}
	return prefix, suffix
}

// counts tells whether at least three values, read as numbers, rise by steps
// smaller than a million.
func counts(values []string) bool {
	if len(values) < 3 {
		return false
	}
	last := int64(-1)
	for _, v := range values {
		n, ok := number(v)
		if !ok || last >= 0 && (n <= last || n-last > 1_000_000) {
			return false
		}
		last = n
	}
	return !isTime(values)
}

// number reads decimal, hex, or up to eight bytes of base64 as a number.
func number(s string) (int64, bool) {
	if n, err := strconv.ParseInt(s, 10, 63); err == nil {
		return n, n >= 0
	}
	if n, err := strconv.ParseInt(s, 16, 63); err == nil {
		return n, n >= 0
	}
	if b, ok := decodeAny(s); ok && len(b) > 0 && len(b) <= 8 {
		var full [8]byte
		copy(full[8-len(b):], b)
		n := binary.BigEndian.Uint64(full[:])
		return int64(n), n < 1<<63
	}
	return 0, false
}

// isTime tells whether every value is a number that, in seconds, milli-, micro-
// or nanoseconds since 1970, falls between 2020 and 2040.
func isTime(values []string) bool {
	for _, v := range values {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return false
		}
		for n >= 1e11 {
			n /= 1000
		}
		if n < 1577836800 || n > 2208988800 {
			return false
		}
	}
	return len(values) > 0
}
