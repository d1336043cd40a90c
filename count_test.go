package kidoban

import "testing"

// TestCountSaysOneAsOne: with the verb, too, and of any whole number.
func TestCountSaysOneAsOne(t *testing.T) {
	for want, got := range map[string]string{
		"0 keys": Count(0, "key", "keys"), "1 key": Count(1, "key", "keys"), "2 entries": Count(int64(2), "entry", "entries"),
		"1 key is": Count(int64(1), "key is", "keys are"), "-1 keys": Count(-1, "key", "keys"),
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
