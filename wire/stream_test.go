package wire

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/kidoban/kidoban"
)

func TestStreamArray(t *testing.T) {
	var got []string
	keep := func(r Raw) bool { got = append(got, string(r)); return true }
	doc := `{"x":[{"entries":[9]}],"log":{"v":"1\"]","entries":[{"a":"}\\"},  {"b":[1,{"c":"\\\""}]},3 ,"s"],"more":1},"z":0}`
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(doc), "bytes": iotest.OneByteReader(strings.NewReader(doc)),
		"marked": strings.NewReader("\ufeff" + doc), "marked bytes": iotest.OneByteReader(strings.NewReader("\ufeff" + doc))} {
		got = nil
		end, err := StreamArray(r, 1<<20, keep, "log", "entries")
		if err != nil || end.Elements != 4 || strings.Join(got, "|") != `{"a":"}\\"}|{"b":[1,{"c":"\\\""}]}|3|"s"` {
			t.Errorf("%s: %v %+v %q", name, err, end, got)
		}
	}
}

func TestStreamArrayBounds(t *testing.T) {
	doc := `{"log":{"entries":[{"a":"` + strings.Repeat("x", 300<<10) + `"},{"b":1}`
	n := 0
	end, err := StreamArray(strings.NewReader(doc), 1000, func(Raw) bool { n++; return true }, "log", "entries")
	if kidoban.KindOf(err) != kidoban.KindInput || n != 1 || end.Skipped != 1 || !strings.Contains(err.Error(), fmt.Sprintf("byte %d", len(doc))) {
		t.Errorf("a cut document: %v %+v", err, end)
	}
	for _, bad := range []string{"", "[]", "{", "\xef", "\xef\xbb", "\xef\xbb\xbf", "\xef{}", "\xef\xbb{\"log\":{\"entries\":[]}}", `{"log":{}}`, `{"log":{"entries":{}}}`, "\x00", `{"log" 1`, `{"log":{"entries":[`, `{"log":{"entries":["a":1]}}`, `{"log":{"entries":[}`, `{"log"::`} {
		if _, err := StreamArray(strings.NewReader(bad), 1000, func(Raw) bool { return true }, "log", "entries"); kidoban.KindOf(err) != kidoban.KindInput {
			t.Errorf("%q: %v", bad, err)
		}
	}
	end, err = StreamArray(strings.NewReader(`{"log":{"entries":[1,2,3]}}`), 1000, func(Raw) bool { return false }, "log", "entries")
	if err != nil || end.Elements != 1 {
		t.Errorf("stopped: %v %+v", err, end)
	}
}

// TestStreamArrayAgrees: whatever JSON says, the pieces are those of encoding/json.
func TestStreamArrayAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOf(rapid.MapOf(rapid.String(), rapid.String())).Draw(t, "list")
		b, err := json.Marshal(map[string]any{"a": "x", "log": map[string]any{"entries": list}})
		if err != nil {
			t.Fatal(err)
		}
		var got []map[string]string
		if _, err := StreamArray(iotest.HalfReader(strings.NewReader(string(b))), 1<<20, func(r Raw) bool {
			var m map[string]string
			if err := json.Unmarshal(r, &m); err != nil {
				t.Fatalf("%s: %v", r, err)
			}
			got = append(got, m)
			return true
		}, "log", "entries"); err != nil && list != nil {
			t.Fatal(err)
		}
		want, _ := json.Marshal(list)
		have, _ := json.Marshal(got)
		if string(want) != string(have) && len(list) > 0 {
			t.Fatalf("%s and %s", want, have)
		}
	})
}

func FuzzStreamArray(f *testing.F) {
	f.Add([]byte(`{"log":{"entries":[{"a":"\\"}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = StreamArray(iotest.OneByteReader(strings.NewReader(string(b))), 64, func(Raw) bool { return true }, "log", "entries")
	})
}
