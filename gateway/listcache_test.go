package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kidoban/kidoban/wire"
)

// TestGPX3_PagesOutliveTheirServers: whatever servers go away, come back, grow and
// shrink between two pages, a client that follows the cursors sees each item of every
// server that stayed as it was, the pages end, and nothing comes twice while nothing
// changes.
func TestGPX3_PagesOutliveTheirServers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "a-b", "ab", "b", "z"}
		counts := rapid.SliceOfN(rapid.IntRange(0, 2*pageSize+3), len(names), len(names)).Draw(t, "counts")
		steady := rapid.Bool().Draw(t, "steady")
		gather := func() *gathered {
			v := &gathered{parts: make([][]wire.Raw, len(names))}
			for i, name := range names {
				n := counts[i]
				if !steady && i > 0 && i < 4 { // the first and the last stay
					n = rapid.SampledFrom([]int{0, n, 1, pageSize}).Draw(t, "now")
				}
				for k := range n {
					v.parts[i] = append(v.parts[i], wire.Raw(fmt.Sprintf(`"%s %d"`, name, k)))
				}
			}
			v.encode("tools", names)
			return v
		}
		var seen []string
		at, pages := place{}, 0
		for ok := true; ok; pages++ {
			if pages > 3*len(names)*3 {
				t.Fatal("the pages do not end")
			}
			page := append(slices.Clone(gather().page(at)), '}')
			tools, _ := wire.Lookup(page, "tools")
			wire.Elements(tools, func(item wire.Raw) bool { seen = append(seen, strings.Trim(string(item), `"`)); return true })
			was := at
			if at, ok = placeOf(wire.LookupString(page, "nextCursor")); ok && !was.before(at) {
				t.Fatalf("after %v comes %v", was, at)
			}
		}
		unique := slices.Clone(seen)
		slices.Sort(unique)
		unique = slices.Compact(unique)
		for _, i := range []int{0, 4} {
			for k := range counts[i] {
				if _, there := slices.BinarySearch(unique, fmt.Sprintf("%s %d", names[i], k)); !there {
					t.Fatalf("item %d of %s was passed over", k, names[i])
				}
			}
		}
		if steady && len(unique) != len(seen) {
			t.Fatal("an item came twice")
		}
	})
}

// TestCursorsAreRead: what is no place of a list is refused.
func TestCursorsAreRead(t *testing.T) {
	for _, bad := range []string{"", "250", "a", "a+", "a+-1", "a+x", "+", "a+1+2", "a+99999999999999999999"} {
		if p, ok := placeOf(bad); ok {
			t.Errorf("%q is %v", bad, p)
		}
	}
	if p, ok := placeOf("files+250"); !ok || p != (place{"files", 250}) {
		t.Errorf("%v", p)
	}
}
