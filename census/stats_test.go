package census_test

import (
	"bytes"
	"context"
	"io"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kidoban/kidoban/census"
)

// results in memory stand for a store where only reading matters.
type fixed []string

func (f fixed) put(t *testing.T, db census.Store) {
	t.Helper()
	for i, r := range f {
		x := census.Target{URL: "https://h" + strings.Repeat("x", i) + ".example/mcp", Host: "h" + strings.Repeat("x", i) + ".example"}
		if _, err := db.CensusAdd(t.Context(), "census", []census.Target{x}); err != nil {
			t.Fatal(err)
		}
		out := census.Outcome{URL: x.URL, Result: []byte(strings.Replace(r, "URL", x.URL, 1)), Times: []byte(`{"requests":7}`)}
		if err := db.CensusDone(t.Context(), "census", []census.Outcome{out}); err != nil {
			t.Fatal(err)
		}
	}
}

// hostile is what a server may call itself.
const hostile = `<script>alert(1)</script>\u001b]0;x\u0007|=cmd()|`

func sample(t *testing.T) *census.Stats {
	db := fresh(t)
	fixed{
		`{"url":"URL","host":"h","class":"oauth","flags":["dcr"],"issuer":"https://as.example","software":"` + hostile + ` 1","flaws":["F5-e","E11-a"]}`,
		`{"url":"URL","host":"h","class":"oauth","flags":[],"issuer":"https://as.example","flaws":["F5-e"]}`,
		`{"url":"URL","host":"h","class":"noauth_list","flags":[],"flaws":[],"tools_hash":"aa","software":"fastmcp 2"}`,
		`{"url":"URL","host":"h","class":"noauth_list","flags":[],"flaws":[],"tools_hash":"aa","software":"fastmcp 2"}`,
		`{"url":"URL","host":"h","class":"dead","reason":"timeout","flags":[],"flaws":[]}`,
	}.put(t, db)
	s, err := census.Summarize(t.Context(), db, "census", []census.Accounting{{Source: "list", Entries: 6, Targets: 5, Rejected: map[string]int{"duplicate": 1}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSummary: shares, clusters and de-duplication by hand.
func TestSummary(t *testing.T) {
	s := sample(t)
	if s.Targets != 5 || s.Live != 4 || s.Distinct != 3 || s.Requests != 35 {
		t.Errorf("%d targets, %d live, %d distinct, %d requests", s.Targets, s.Live, s.Distinct, s.Requests)
	}
	if r := s.OAuth[0]; r.Key != "dcr" || r.Here.Count != 1 || r.Here.Of != 2 {
		t.Errorf("%+v", r)
	}
	for i, want := range []string{"F5-e 2/2 1/1", "E11-a 1/2 1/1"} {
		if a, b := s.Flaws[i], s.Clusters[i]; !strings.HasPrefix(want, a.Key) || a.Here.Of != 2 || b.Here.Count != 1 || b.Here.Of != 1 {
			t.Errorf("%s: %+v, %+v", want, a, b)
		}
	}
}

// TestStrangersNamesAreHarmless: what a server calls itself acts in no format.
func TestStrangersNamesAreHarmless(t *testing.T) {
	s := sample(t)
	for name, write := range map[string]func(io.Writer) error{"html": s.WriteHTML, "markdown": s.WriteMarkdown, "csv": s.WriteCSV, "text": s.WriteText} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		out := b.String()
		if strings.ContainsAny(out, "\x1b\x07") || name != "text" && name != "csv" && strings.Contains(out, "<script") {
			t.Errorf("%s lets a stranger's name act", name)
		}
		if !strings.Contains(out, "40.55 %") && name != "csv" {
			t.Errorf("%s lacks the study", name)
		}
	}
	s.Hide(census.Names{Key: []byte("k")})
	var b bytes.Buffer
	if err := s.WriteHTML(&b); err != nil || strings.Contains(b.String(), "as.example") {
		t.Errorf("a host name is published: %v", err)
	}
}

// TestPublicExportHidesNames: no host, issuer or path of the census is in it.
func TestPublicExportHidesNames(t *testing.T) {
	db := fresh(t)
	fixed{`{"url":"URL","host":"h.example","class":"oauth","flags":[],"issuer":"https://as.example/t","issuers":["https://as.example/t"],"metadata":"https://as.example/x","upstream":"https://idp.example/a","software":"Acme Corp","flaws":[]}`}.put(t, db)
	for publish, want := range map[bool]bool{false: false, true: true} {
		var b bytes.Buffer
		if err := census.WritePublic(context.Background(), db, "census", census.Names{Key: []byte("k"), Publish: publish}, &b); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(b.String(), "example") || strings.Contains(b.String(), "Acme"); got != want {
			t.Errorf("publish %v: %s", publish, &b)
		}
	}
}

// TestWilsonHolds: the share lies inside its interval, the interval inside 0 and
// 1, and more observations make it narrower. Known value: 10 of 100.
func TestWilsonHolds(t *testing.T) {
	if w := census.Wilson(10, 100); math.Abs(w.Low-0.05523) > 1e-4 || math.Abs(w.High-0.17437) > 1e-4 {
		t.Errorf("%+v", w)
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 1e6).Draw(t, "n")
		k := rapid.IntRange(0, n).Draw(t, "k")
		w, more := census.Wilson(k, n), census.Wilson(10*k, 10*n)
		if w.Low < 0 || w.High > 1 || w.Low > w.Share+1e-12 || w.High < w.Share-1e-12 || more.High-more.Low >= w.High-w.Low {
			t.Fatalf("%+v %+v", w, more)
		}
	})
}

// TestDiff: new, gone, changed and unchanged.
func TestDiff(t *testing.T) {
	line := func(url, class, flaw string) string {
		return `{"url":"` + url + `","host":"h","class":"` + class + `","flags":[],"flaws":["` + flaw + `"]}` + "\n"
	}
	before := line("https://a", "static", "x") + line("https://b", "oauth", "F5-e") + line("https://c", "oauth", "F5-e") + line("https://d", "dead", "x")
	after := line("https://a", "oauth", "x") + line("https://b", "oauth", "F3-a") + line("https://c", "oauth", "F5-e") + line("https://e", "oauth", "x")
	d, err := census.Diff(strings.NewReader(before), strings.NewReader(after))
	if err != nil {
		t.Fatal(err)
	}
	if d.Same != 1 || len(d.Changes) != 4 || d.Moves["static → oauth"] != 1 || d.Moves["dead → gone"] != 1 || d.Moves["new → oauth"] != 1 || d.Fixed["F5-e"] != 1 || d.Added["F3-a"] != 1 {
		t.Errorf("%+v", d)
	}
	if _, err := census.Diff(strings.NewReader("no"), strings.NewReader("")); err == nil {
		t.Error("garbage was taken")
	}
}
