package report

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/kidoban/kidoban"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares out with testdata/name, byte for byte.
func golden(t *testing.T, name string, out []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out, want) {
		t.Errorf("%s differs from what is written; look at it and run go test ./report -update\n%s", name, firstDifference(want, out))
	}
}

func firstDifference(want, got []byte) string {
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			from := max(0, i-80)
			return "want …" + string(want[from:min(len(want), i+80)]) + "…\ngot  …" + string(got[from:min(len(got), i+80)]) + "…"
		}
	}
	return "one is a prefix of the other"
}

func write(t *testing.T, f func(io.Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := f(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestGolden(t *testing.T) {
	in := sample()
	for name, f := range map[string]func(io.Writer) error{
		"sample.txt":   func(w io.Writer) error { return Terminal{}.Write(w, in) },
		"sample.html":  func(w io.Writer) error { return HTML(w, in) },
		"sample.json":  func(w io.Writer) error { return JSON(w, in.Run) },
		"sample.sarif": func(w io.Writer) error { return SARIF(w, in) },
		"sample.xml":   func(w io.Writer) error { return JUnit(w, in, kidoban.High) },
		"sample.md":    func(w io.Writer) error { return Markdown(w, in) },
		"sample.svg":   func(w io.Writer) error { return Badge(w, in.Run) },
	} {
		out := write(t, f)
		golden(t, name, out)
		if again := write(t, f); !bytes.Equal(out, again) {
			t.Errorf("%s: the same run gave different bytes", name)
		}
	}
}
