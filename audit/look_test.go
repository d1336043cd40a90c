package audit_test

import (
	"context"
	"slices"
	"testing"

	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/outbound"
)

// TestLook: class and flags of a server in few requests.
func TestLook(t *testing.T) {
	for _, c := range []struct {
		flaws    []string
		class    audit.Class
		fallback bool
	}{{nil, audit.OAuth, false}, {[]string{"E03-a"}, audit.NoAuthList, false}, {[]string{"E10-a"}, audit.OAuth, true}} {
		l, err := lab.Start(context.Background(), lab.Options{Flaws: c.flaws})
		if err != nil {
			t.Fatal(err)
		}
		out := outbound.New(outbound.Options{Lab: true})
		f, err := audit.Look(context.Background(), audit.Options{Lab: true}, out, l.MCPURL)
		if err != nil {
			t.Fatal(err)
		}
		got := audit.Classify(f)
		if got.Class != c.class || f.Fallback != c.fallback || !slices.Contains(got.Flags, "dcr") || !slices.Contains(got.Flags, "as_same_origin") {
			t.Errorf("%v: %+v, fallback %v", c.flaws, got, f.Fallback)
		}
		if n := out.Requests(); n > 10 {
			t.Errorf("%v: %d requests", c.flaws, n)
		}
		out.Close()
		l.Close()
	}
}
