package census

import (
	"io"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// Change is a target that differs between two dates.
type Change struct {
	URL    string   `json:"url"`
	What   string   `json:"what"` // new, gone, class, flaws
	Before string   `json:"before,omitempty"`
	After  string   `json:"after,omitempty"`
	Added  []string `json:"added,omitempty"` // flaws
	Fixed  []string `json:"fixed,omitempty"`
}

// Difference is what changed from one census to the next.
type Difference struct {
	Same    int            `json:"same"`
	Moves   map[string]int `json:"moves"` // "static → oauth": how many
	Added   map[string]int `json:"added"` // by check
	Fixed   map[string]int `json:"fixed"`
	Changes []Change       `json:"changes"`
}

// Diff compares two result files, each ordered by address as WriteResults writes
// them. It keeps what changed, not what was read.
func Diff(before, after io.Reader) (*Difference, error) {
	d := &Difference{Moves: map[string]int{}, Added: map[string]int{}, Fixed: map[string]int{}}
	old := map[string]Result{}
	err := ReadResults(before, func(r Result) error {
		old[r.URL] = Result{URL: r.URL, Class: r.Class, Flaws: r.Flaws}
		return nil
	})
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindOf(err), err, "the earlier results")
	}
	err = ReadResults(after, func(r Result) error {
		was, known := old[r.URL]
		delete(old, r.URL)
		d.compare(was, r, known)
		return nil
	})
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindOf(err), err, "the later results")
	}
	for _, r := range old {
		d.Moves[r.Class+" → gone"]++
		d.Changes = append(d.Changes, Change{URL: r.URL, What: "gone", Before: r.Class})
	}
	slices.SortFunc(d.Changes, func(a, b Change) int { return strings.Compare(a.URL, b.URL) })
	return d, nil
}

func (d *Difference) compare(was, is Result, known bool) {
	if !known {
		d.Moves["new → "+is.Class]++
		d.Changes = append(d.Changes, Change{URL: is.URL, What: "new", After: is.Class})
		return
	}
	c := Change{URL: is.URL, Added: without(is.Flaws, was.Flaws), Fixed: without(was.Flaws, is.Flaws)}
	for _, k := range c.Added {
		d.Added[k]++
	}
	for _, k := range c.Fixed {
		d.Fixed[k]++
	}
	switch {
	case was.Class != is.Class:
		c.What, c.Before, c.After = "class", was.Class, is.Class
		d.Moves[was.Class+" → "+is.Class]++
	case len(c.Added)+len(c.Fixed) > 0:
		c.What = "flaws"
	default:
		d.Same++
		return
	}
	d.Changes = append(d.Changes, c)
}

// without gives the words of a that are not in b.
func without(a, b []string) (out []string) {
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}
