package report

import (
	"bytes"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
)

// TestShotsInChains: a chain shows the pages of its checks, and nothing that is no
// picture.
func TestShotsInChains(t *testing.T) {
	png := append([]byte("\x89PNG\r\n\x1a\n"), bytes.Repeat([]byte{7}, 100)...)
	in := Input{Run: kidoban.Run{Schema: kidoban.RunSchema, Chains: []kidoban.Chain{{ID: "F1+E02", Title: "a way in", Checks: []string{"E02-b"}}},
		Results: []kidoban.Result{{ID: "E02", Variant: "b", Outcome: kidoban.Fail, Exchanges: []int{7}}}},
		Shots: []Shot{{Check: "E02-b", Note: "there", Title: "<script>x</script>", PNG: png}, {XID: 7, Check: "F6", Note: "by number", PNG: append(png, 1)},
			{Check: "F9-2", Note: "another", PNG: append(png, 2)}, {Check: "E02-b", Note: "no picture", PNG: []byte("<svg onload=x>")}}}
	dir := t.TempDir()
	if err := Save(dir, in.Run); err != nil {
		t.Fatal(err)
	}
	if err := SaveShots(dir, in.Shots); err != nil {
		t.Fatal(err)
	}
	back, err := Load(dir, dir)
	if err != nil || len(back.Shots) != 4 || !bytes.Equal(back.Shots[0].PNG, png) {
		t.Fatalf("read back %d pages, %v", len(back.Shots), err)
	}
	var out strings.Builder
	if err := HTML(&out, back); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "data:image/png;base64,"); n != 2 {
		t.Errorf("%d pictures, want 2", n)
	}
	for _, bad := range []string{"<script>x", "no picture", "another"} {
		if strings.Contains(out.String(), bad) {
			t.Errorf("the report contains %q", bad)
		}
	}
}
