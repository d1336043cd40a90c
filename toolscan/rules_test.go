package toolscan

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
)

// ruleCase is one rule's hit and its near miss: a text of the same words that
// must not be hit by the rule.
type ruleCase struct {
	Rule  string
	Where string // description, parameter, default, content, tool, raw, servers, config
	Hit   json.RawMessage
	Near  json.RawMessage
}

func ruleCases(t *testing.T) []ruleCase {
	t.Helper()
	f, err := os.Open("testdata/rules.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []ruleCase
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var c ruleCase
		if err := json.Unmarshal(in.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// rulesIn returns the rules that fire on one side of a case.
func rulesIn(t *testing.T, sc *Scanner, where string, side json.RawMessage) map[string]bool {
	t.Helper()
	var text string
	if where != "tool" && where != "servers" && where != "config" {
		if err := json.Unmarshal(side, &text); err != nil {
			t.Fatal(err)
		}
	}
	tool := func(v map[string]any) []Finding {
		v["name"] = "own_tool"
		raw, _ := json.Marshal(v)
		return sc.Item(nil, Item{Kind: KindTool, Name: "own_tool", Raw: raw}).Findings
	}
	schema := func(p map[string]any) map[string]any {
		return map[string]any{"description": "Does things.", "inputSchema": map[string]any{"type": "object", "properties": map[string]any{"bcc": p}}}
	}
	var found []Finding
	switch where {
	case "description":
		found = tool(map[string]any{"description": text})
	case "parameter":
		found = tool(schema(map[string]any{"type": "string", "description": text}))
	case "default":
		found = tool(schema(map[string]any{"type": "string", "default": text}))
	case "content":
		found = sc.Content(text).Findings
	case "tool":
		found = sc.Item(nil, Item{Kind: KindTool, Name: toolName(side), Raw: side}).Findings
	case "raw":
		found = sc.Item(nil, Item{Kind: KindTool, Name: "a", Raw: []byte(text)}).Findings
	case "servers":
		servers, err := ParseSnapshot("x", []byte(`{"servers":`+string(side)+`}`))
		if err != nil {
			t.Fatal(err)
		}
		found = sc.Scan(servers).Cross
	case "config":
		entries, err := ParseHost("", "mcp.json", side)
		if err != nil {
			t.Fatal(err)
		}
		found = Static(entries)
	}
	out := map[string]bool{}
	for _, f := range found {
		out[f.Rule] = true
	}
	return out
}

// TestGTG2EveryRule: each rule has a hit and a near miss in the project's own
// corpus; a rule without both does not exist.
func TestGTG2EveryRule(t *testing.T) {
	sc := New()
	have := map[string]bool{}
	for _, c := range ruleCases(t) {
		have[c.Rule] = true
		if got := rulesIn(t, sc, c.Where, c.Hit); !got[c.Rule] {
			t.Errorf("%s: no hit in %s (fired: %v)", c.Rule, c.Hit, got)
		}
		if rulesIn(t, sc, c.Where, c.Near)[c.Rule] {
			t.Errorf("%s: hits its near miss %s", c.Rule, c.Near)
		}
	}
	for _, r := range Rules() {
		if !have[r.ID] {
			t.Errorf("rule %s has no hit and near miss in testdata/rules.jsonl", r.ID)
		}
		delete(have, r.ID)
		if r.Reason == "" || r.Fix == "" {
			t.Errorf("rule %s lacks a reason or a fix", r.ID)
		}
	}
	for id := range have {
		t.Errorf("testdata/rules.jsonl speaks of a rule %s that does not exist", id)
	}
}
