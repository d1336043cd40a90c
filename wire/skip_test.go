package wire

import (
	"testing"

	"pgregory.net/rapid"
)

// TestGPX1_StringsEndWhereTheyEnd: the quick way over a string stops where reading
// it byte by byte does, whatever is in it.
func TestGPX1_StringsEndWhereTheyEnd(t *testing.T) {
	slow := func(b []byte, i int) int {
		for i++; i < len(b); i++ {
			switch b[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
		return len(b)
	}
	rapid.Check(t, func(t *rapid.T) {
		b := append([]byte{'"'}, rapid.SliceOf(rapid.SampledFrom([]byte(`\"ab`))).Draw(t, "text")...)
		if got, want := skipString(b, 0), slow(b, 0); got != want {
			t.Fatalf("%q ends at %d, not %d", b, got, want)
		}
	})
}
