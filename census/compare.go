package census

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/kidoban/kidoban"
)

// Truth is what a population says about one of its servers.
type Truth struct {
	URL    string   `json:"url"`
	Kind   string   `json:"kind"`
	Class  string   `json:"class"`
	Flags  []string `json:"flags"`
	Issuer string   `json:"issuer"`
	Flaws  []string `json:"flaws"`
	Tools  int      `json:"tools"`

	CertKey string `json:"cert_key"`
}

// Mismatch is one difference between a result and the truth.
type Mismatch struct {
	URL  string `json:"url"`
	Kind string `json:"kind"`
	Of   string `json:"of"`
	Want string `json:"want"`
	Got  string `json:"got"`
}

// Score counts how often something was said and how often it was true.
type Score struct {
	True, Said, Both int
}

// Precision is the share of what was said that is true; 1 when nothing was said.
func (s Score) Precision() float64 { return ratio(s.Both, s.Said) }

// Recall is the share of what is true that was said; 1 when nothing is.
func (s Score) Recall() float64 { return ratio(s.Both, s.True) }

// MarshalJSON gives the counts with precision and recall.
func (s Score) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"true": s.True, "said": s.Said, "both": s.Both, "precision": s.Precision(), "recall": s.Recall()})
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 1
	}
	return float64(a) / float64(b)
}

// Comparison is how a census did against the truth.
type Comparison struct {
	Targets    int               `json:"targets"`
	Mismatches int               `json:"mismatches"`
	First      []Mismatch        `json:"first_mismatches"` // at most 20
	Scores     map[string]*Score `json:"scores"`           // by class and by check
}

// WriteText prints the comparison for a person.
func (c *Comparison) WriteText(w io.Writer) {
	fmt.Fprintf(w, "Against the ground truth: %s, %s\n", kidoban.Count(c.Targets, "target", "targets"), kidoban.Count(c.Mismatches, "differs", "differ"))
	for _, k := range slices.Sorted(maps.Keys(c.Scores)) {
		s := c.Scores[k]
		fmt.Fprintf(w, "  %-24s true of %6d, said of %6d, precision %.4f, recall %.4f\n", k, s.True, s.Said, s.Precision(), s.Recall())
	}
	for _, m := range c.First {
		fmt.Fprintf(w, "  %s (%s): %s is %q, found %q\n", m.URL, m.Kind, m.Of, m.Want, m.Got)
	}
}

// CompareTruth compares every result of a run with the truth, one JSON line a
// server. Flaws are compared for the given checks only. The truth must be
// ordered by URL, as its simulator writes it.
func CompareTruth(ctx context.Context, store Store, run string, truth io.Reader, checks []string) (*Comparison, error) {
	c := &Comparison{Scores: map[string]*Score{}}
	sc := bufio.NewScanner(truth)
	sc.Buffer(nil, 1<<20)
	next := func() (t Truth, ok bool) {
		return t, sc.Scan() && json.Unmarshal(sc.Bytes(), &t) == nil
	}
	t, more := next()
	err := store.CensusResults(ctx, run, func(o Outcome) error {
		var r Result
		if err := json.Unmarshal(o.Result, &r); err != nil {
			return err
		}
		for more && cmp.Compare(t.URL, r.URL) < 0 {
			c.differ(t, "result", "one", "none")
			t, more = next()
		}
		if !more || t.URL != r.URL {
			c.differ(Truth{URL: r.URL}, "target", "none", "one")
			return nil
		}
		c.judge(t, r, checks)
		t, more = next()
		return nil
	})
	for ; more; t, more = next() {
		c.differ(t, "result", "one", "none")
	}
	if err == nil {
		err = sc.Err()
	}
	return c, kidoban.Wrap(kidoban.KindInternal, err, "the truth and the results cannot be compared")
}

func (c *Comparison) differ(t Truth, of, want, got string) {
	c.Mismatches++
	if len(c.First) < 20 {
		c.First = append(c.First, Mismatch{t.URL, t.Kind, of, want, got})
	}
}

func (c *Comparison) score(key string, truth, said bool) {
	s := c.Scores[key]
	if s == nil {
		s = &Score{}
		c.Scores[key] = s
	}
	if truth {
		s.True++
	}
	if said {
		s.Said++
	}
	if truth && said {
		s.Both++
	}
}

func (c *Comparison) judge(t Truth, r Result, checks []string) {
	c.Targets++
	c.score("class "+t.Class, true, r.Class == t.Class)
	if r.Class != t.Class {
		c.score("class "+r.Class, false, true)
	}
	got := slices.DeleteFunc(slices.Clone(r.Flaws), func(k string) bool { return !slices.Contains(checks, k) })
	for _, k := range checks {
		if a, b := slices.Contains(t.Flaws, k), slices.Contains(got, k); a || b {
			c.score(k, a, b)
		}
	}
	switch {
	case r.Class != t.Class:
		c.differ(t, "class", t.Class, r.Class+" "+r.Reason)
	case !slices.Equal(t.Flags, r.Flags):
		c.differ(t, "flags", fmt.Sprint(t.Flags), fmt.Sprint(r.Flags))
	case t.Issuer != r.Issuer:
		c.differ(t, "issuer", t.Issuer, r.Issuer)
	case t.Tools != 0 && t.Tools != r.Tools:
		c.differ(t, "tools", fmt.Sprint(t.Tools), fmt.Sprint(r.Tools))
	case t.CertKey != r.Listener:
		c.differ(t, "certificate key", t.CertKey, r.Listener)
	case !slices.Equal(t.Flaws, got):
		c.differ(t, "flaws", fmt.Sprint(t.Flaws), fmt.Sprint(got))
	}
}
