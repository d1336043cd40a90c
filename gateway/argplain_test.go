package gateway

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"github.com/kidoban/kidoban/wire"
)

var plainNames = []string{"text", "n", `a\`, `a"`, "é", "path", "query", "target", "", "user_id"}

// drawSchema is an object's schema, mostly of the plain form.
func drawSchema(t *rapid.T) map[string]any {
	props := map[string]any{}
	for _, name := range rapid.SliceOfN(rapid.SampledFrom(plainNames), 0, 5).Draw(t, "declared") {
		m := map[string]any{"type": rapid.SampledFrom([]any{"string", "string", "number", "integer", "boolean", "array", []any{"string", "null"}}).Draw(t, "type")}
		if extra := rapid.SampledFrom([]string{"", "", "", "", "description", "minLength", "enum", "format"}).Draw(t, "extra"); extra != "" {
			m[extra] = map[string]any{"description": "What it is.", "minLength": 3, "enum": []any{"x", 1, true}, "format": "ipv4"}[extra]
		}
		props[name] = m
	}
	s := map[string]any{"type": "object", "properties": props}
	if rapid.Bool().Draw(t, "some required") {
		s["required"] = rapid.SliceOfNDistinct(rapid.SampledFrom(plainNames), 0, 2, rapid.ID).Draw(t, "required")
	}
	if rapid.Bool().Draw(t, "closed") {
		s["additionalProperties"] = rapid.Bool().Draw(t, "open")
	}
	if rapid.IntRange(0, 3).Draw(t, "draft") == 0 {
		s["$schema"] = "http://json-schema.org/draft-07/schema#"
	}
	if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
		s["maxProperties"] = 1
	}
	return s
}

func drawArguments(t *rapid.T) wire.Raw {
	args := wire.Raw("{}")
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(plainNames), 0, 4, rapid.ID).Draw(t, "given") {
		value := rapid.SampledFrom([]string{`"x"`, `"../../etc/passwd"`, `"DROP TABLE a"`, `"\u00e9\""`, "1", "-0.5", "1.0", "1e2", "1e400", "1e401", "-0", "12345678901234567890123", "true", "false", "null", "[]", `{"a":1}`}).Draw(t, "value")
		args = wire.SetMember(args, name, wire.Raw(value))
	}
	return args
}

// TestGTG3_PlainSchemasSayNoMoreThanTheWholeCheck: what passes without being decoded
// fits the schema, is declared, and holds nothing that a guard would look at.
func TestGTG3_PlainSchemasSayNoMoreThanTheWholeCheck(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc, err := json.Marshal(drawSchema(t))
		if err != nil {
			t.Fatal(err)
		}
		s, err := newArgSchema(doc)
		if err != nil {
			return // a number where the draft wants text, and the like
		}
		args := drawArguments(t)
		if !s.plain.passes(ArgumentRules{}, args) {
			return
		}
		value, err := decoded(args)
		if err == nil {
			err = s.validate(value)
		}
		if err != nil {
			t.Fatalf("%s passes %s: %v", doc, args, err)
		}
		if _, more := s.declared(args); more {
			t.Fatalf("%s passes %s, which the tool does not declare", doc, args)
		}
		schema, _ := s.doc.(map[string]any)
		props, _ := schema["properties"].(map[string]any)
		for name, v := range value.(map[string]any) {
			member, _ := props[name].(map[string]any)
			if text, is := v.(string); is && kindOf(ArgumentRules{}, &Call{}, name, member, text) != ArgText {
				t.Fatalf("%s passes %s, which a guard would look at", doc, args)
			}
		}
	})
}

func TestGTG3_PlainArgumentsPassUndecoded(t *testing.T) {
	s, err := newArgSchema(wire.Raw(`{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","required":["text"],"additionalProperties":false,
		"properties":{"text":{"type":"string","description":"What to say."},"times":{"type":"integer"},"factor":{"type":"number"},"loud":{"type":"boolean"},"path":{"type":"string"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]bool{
		`{"text":"a"}`: true,
		`{ "text" : "a", "times" : 3, "factor" : -1.5e3, "loud" : false }`: true,
		`{"text":"a","times":1.0}`:     false, // the validator knows
		`{"text":"a","path":"x"}`:      false, // a guard looks
		`{"times":3}`:                  false,
		`{"text":"a","more":1}`:        false,
		`{"text":3}`:                   false,
		`{"te\u0078t":"a"}`:            false,
		`{"text":"a","loud":"true"}`:   false,
		`{"text":"a","factor":null}`:   false,
		`{"text":"a","times":{"a":1}}`: false,
	} {
		if got := s.plain.passes(ArgumentRules{}, wire.Raw(args)); got != want {
			t.Errorf("%s passes: %v", args, got)
		}
	}
	for _, r := range []ArgumentRules{{Kinds: map[string]ArgKind{"text": ArgPath}}, {OnlyHosts: []string{"example.com"}}} {
		if s.plain.passes(r, wire.Raw(`{"text":"a"}`)) {
			t.Errorf("the operator's %+v are not asked", r)
		}
	}
}
