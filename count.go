package kidoban

import "fmt"

// Count says how many there are of a thing, and the verb with it where there is one:
// Count(1, "key is", "keys are") is "1 key is", and with 0 or 2 "2 keys are". Every
// English sentence that holds a number which may be one is made with it; texts that
// are translated have a line of their own for one.
func Count[N ~int | ~int64](n N, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}
