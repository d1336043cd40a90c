package main

import (
	"fmt"
	"os"
	"testing"
)

const someMaps = `00400000-01606000 r-xp 00000000 fe:00 12 /bin/kidoban
Rss:               15192 kB
Anonymous:             0 kB
Swap:                  0 kB
01606000-029fc000 r--p 01206000 fe:00 12 /bin/kidoban
Anonymous:            64 kB
Swap:                  0 kB
029fc000-02b36000 rw-p 025fc000 fe:00 12 /bin/kidoban
Anonymous:             0 kB
Swap:                  0 kB
02b36000-02b37000 r--p 00000000 fe:00 12 /bin/kidoban
Anonymous:             0 kB
Swap:                  4 kB
7fada000-7fadb000 r--p 00000000 fe:00 13 /lib/other.so
Anonymous:             0 kB
Swap:                  0 kB
7fadc000-7fadd000 rw-p 00000000 00:00 0
Anonymous:             4 kB
Swap:                  0 kB
`

// TestGivesBackOnlyWhatIsACopyOfTheFile: pages that were ever written stay.
func TestGivesBackOnlyWhatIsACopyOfTheFile(t *testing.T) {
	if got := fmt.Sprint(ownPages([]byte(someMaps), "/bin/kidoban")); got != "[{4194304 23093248}]" {
		t.Error(got)
	}
	if len(ownFile()) == 0 {
		t.Error("the test's own file is not mapped")
	}
	unmap(ownFile()) // and the test goes on
	if exe, err := os.Executable(); err != nil || exe == "" {
		t.Error(err)
	}
}
