package report

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
)

func FuzzParseSuppressions(f *testing.F) {
	f.Add([]byte(strings.Replace(goodSuppression, "FP", strings.Repeat("a", 32), 1)))
	f.Add([]byte("suppressions:\n- {}"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseSuppressions("kidoban.yaml", data)
		for _, s := range list {
			if _, why := s.check(); why != "" && err == nil {
				t.Errorf("an incomplete suppression was accepted: %+v: %s", s, why)
			}
		}
	})
}

func FuzzReadRun(f *testing.F) {
	raw, err := os.ReadFile("testdata/sample.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"schema":"kidoban.audit/1","results":[{"id":"F1"}],"chains":[{"hops":[{}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		run, err := ReadRun(bytes.NewReader(data))
		if err != nil {
			return
		}
		for name, write := range formats(Input{Run: run, Pages: pagesOf}) {
			if err := write(io.Discard); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func FuzzParseEvidence(f *testing.F) {
	f.Add([]byte(`{"log":{"entries":[{"request":{"method":"GET","url":"https://a/"},"response":{"status":200,"content":{"text":"AA==","encoding":"base64"}},"_kidoban":{"id":3}}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseEvidence(data)
		if err != nil {
			return
		}
		for _, x := range list {
			if line := Curl(x); strings.ContainsAny(line, "\n\r\x00") {
				t.Errorf("more than a line: %q", line)
			}
		}
	})
}
