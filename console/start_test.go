package console

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestConsole_Setups: what is pasted is whole JSON or one word a shell leaves alone.
func TestConsole_Setups(t *testing.T) {
	for _, c := range []struct{ url, word string }{
		{"https://mcp.example.org/s/files/mcp", "https://mcp.example.org/s/files/mcp"},
		{"http://[::1]:8787/mcp", "'http://[::1]:8787/mcp'"},
		{"https://a.example/$(x)'&/mcp", `'https://a.example/$(x)'\''&/mcp'`},
	} {
		files := 0
		for _, s := range setups(Endpoint{Name: "files", URL: c.url}) {
			if s.File == "" {
				if !strings.Contains(s.Text, " "+c.word) {
					t.Errorf("%s: %s", s.Program, s.Text)
				}
				continue
			}
			files++
			var v map[string]map[string]map[string]string
			if err := json.Unmarshal([]byte(s.Text), &v); err != nil {
				t.Fatalf("%s: %v", s.Program, err)
			}
			for _, in := range v {
				if in["files"]["url"] != c.url {
					t.Errorf("%s: %s", s.Program, s.Text)
				}
			}
		}
		if files != 2 {
			t.Errorf("%d files", files)
		}
	}
}
