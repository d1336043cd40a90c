package wire

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kidoban/kidoban"
	"pgregory.net/rapid"
)

// The examples are those of revision 2026-07-28, streamable HTTP, Value Encoding.
func TestTR06_HeaderEncoding(t *testing.T) {
	for in, want := range map[string]string{
		"us-west1":           "us-west1",
		"Hello, 世界":          "=?base64?SGVsbG8sIOS4lueVjA==?=",
		" padded ":           "=?base64?IHBhZGRlZCA=?=",
		"line1\nline2":       "=?base64?bGluZTEKbGluZTI=?=",
		"=?base64?literal?=": "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=",
		"":                   "",
		"a\tb":               "a\tb",
	} {
		if got := EncodeHeader(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
		if back, ok := DecodeHeader(want); !ok || back != in {
			t.Errorf("%q: back %q %v", in, back, ok)
		}
	}
	for _, bad := range []string{"=?base64?*?=", "=?base64?YQ?=", "=?base64?/w==?=", "é", "a\nb"} {
		if s, ok := DecodeHeader(bad); ok {
			t.Errorf("%q decoded to %q", bad, s)
		}
	}
	if s, ok := DecodeHeader("=?BASE64?YQ==?="); !ok || s != "=?BASE64?YQ==?=" {
		t.Error("the markers are case-sensitive")
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		if back, ok := DecodeHeader(EncodeHeader(s)); !ok || back != s {
			t.Fatalf("%q → %q → %q %v", s, EncodeHeader(s), back, ok)
		}
	})
}

func TestTR04_TR07_CheckMirror(t *testing.T) {
	params, err := PeekParams(Raw(`{"name":"søk","arguments":{"region":"eu","n":42,"deep":{"on":true},"none":null},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`))
	if err != nil {
		t.Fatal(err)
	}
	hps, err := HeaderParams(Raw(`{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"N"},
		"deep":{"type":"object","properties":{"on":{"type":"boolean","x-mcp-header":"On"}}},"none":{"type":"string","x-mcp-header":"None"}}}`))
	if err != nil || len(hps) != 4 {
		t.Fatal(hps, err)
	}
	good := MirrorHeaders(MethodToolsCall, params, hps)
	want := kidoban.Fields{{Name: "MCP-Protocol-Version", Value: "2026-07-28"}, {Name: "Mcp-Method", Value: "tools/call"}, {Name: "Mcp-Name", Value: "=?base64?c8O4aw==?="},
		{Name: "Mcp-Param-Region", Value: "eu"}, {Name: "Mcp-Param-N", Value: "42"}, {Name: "Mcp-Param-On", Value: "true"}}
	if d := cmp.Diff(want, good); d != "" {
		t.Fatal(d)
	}
	with := func(name, value string) kidoban.Fields { return good.Set(name, value) }
	without := func(name string) (out kidoban.Fields) {
		for _, f := range good {
			if f.Name != name {
				out = append(out, f)
			}
		}
		return out
	}
	for name, c := range map[string]struct {
		h  kidoban.Fields
		ok bool
	}{
		"as computed":         {good, true},
		"integer as 42.0":     {with("Mcp-Param-N", "42.0"), true},
		"unknown parameter":   {with("Mcp-Param-Other", "x"), true},
		"name case":           {append(without("Mcp-Method"), kidoban.Field{Name: "mcp-method", Value: "tools/call"}), true},
		"version differs":     {with("MCP-Protocol-Version", "2025-11-25"), false},
		"no version":          {without("MCP-Protocol-Version"), false},
		"method differs":      {with("Mcp-Method", "tools/list"), false},
		"method case":         {with("Mcp-Method", "Tools/Call"), false},
		"no method":           {without("Mcp-Method"), false},
		"name differs":        {with("Mcp-Name", "other"), false},
		"name badly encoded":  {with("Mcp-Name", "=?base64?c8O4aw?="), false},
		"name twice":          {append(with("X", "y"), kidoban.Field{Name: "mcp-name", Value: "=?base64?c8O4aw==?="}), false},
		"integer differs":     {with("Mcp-Param-N", "43"), false},
		"parameter missing":   {without("Mcp-Param-Region"), false},
		"parameter not there": {with("Mcp-Param-None", "x"), false},
		"boolean as 1":        {with("Mcp-Param-On", "1"), false},
	} {
		err := CheckMirror(c.h, MethodToolsCall, params, hps)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && err.(*Refusal).RPC != CodeHeaderMismatch {
			t.Errorf("%s: code %d", name, err.(*Refusal).RPC)
		}
	}
}

func TestCL16_HeaderParams(t *testing.T) {
	for schema, why := range map[string]string{
		`{}`:                "",
		`{"properties":{}}`: "",
		`{"properties":{"x-mcp-header":{"type":"string"}}}`:                                                  "",
		`{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}`:                                          "",
		`{"properties":{"a":{"type":"string","default":{"x-mcp-header":"A"}}}}`:                              "",
		`{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}`:                                          WhyHeaderType,
		`{"properties":{"a":{"x-mcp-header":"A"}}}`:                                                          WhyHeaderType,
		`{"properties":{"a":{"type":"string","x-mcp-header":""}}}`:                                           WhyHeaderName,
		`{"properties":{"a":{"type":"string","x-mcp-header":"A B"}}}`:                                        WhyHeaderName,
		`{"properties":{"a":{"type":"string","x-mcp-header":"A\r\nX: y"}}}`:                                  WhyHeaderName,
		`{"properties":{"a":{"type":"string","x-mcp-header":7}}}`:                                            WhyHeaderName,
		`{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}`: WhyHeaderDuplicate,
		`{"properties":{"a":{"items":{"type":"string","x-mcp-header":"A"}}}}`:                                WhyHeaderUnreachable,
		`{"oneOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}`:                              WhyHeaderUnreachable,
		`{"$defs":{"a":{"type":"string","x-mcp-header":"A"}}}`:                                               WhyHeaderUnreachable,
		`{"items":{"x-mcp-h\u0065ader":"A"}}`:                                                                WhyHeaderUnreachable,
		`{"properties":{"x-mcp-header":{}},"d":"` + strings.Repeat("x", maxSchema) + `"}`:                    WhyTooLarge,
		`{"x-mcp-header":"A"}`: WhyHeaderUnreachable,
	} {
		_, err := HeaderParams(Raw(schema))
		if WhyOf(err) != why || (err == nil) != (why == "") {
			t.Errorf("%s: %v", schema, err)
		}
	}
}
