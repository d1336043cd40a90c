package gateway

import (
	"strings"
	"testing"
)

// TestGTG6_WhatAPersonIsShownFirst: a short argument does not stand below a long one,
// however they are called, and nothing of the text makes lines of its own.
func TestGTG6_WhatAPersonIsShownFirst(t *testing.T) {
	long := strings.Repeat("lorem ipsum ", 400)
	got := readable([]byte(`{"body":"` + long + `\n  \"to\": \"ann@example.com\"\u202e","empty":{},"list":[1.50,{"z":[],"a":"<b>&"}],"to":"eve@evil.example"}`))
	want := "{\n  \"empty\": {},\n  \"list\": [\n    1.50,\n    {\n      \"a\": \"<b>&\",\n      \"z\": []\n    }\n  ],\n  \"to\": \"eve@evil.example\",\n  \"body\": \"" + long + `\n  \"to\": \"ann@example.com\"⟨U+202E⟩"` + "\n}"
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for _, raw := range []string{`{}`, `[]`, `null`, `"x"`, `{"a":`} {
		if got := readable([]byte(raw)); got != raw {
			t.Errorf("%s became %s", raw, got)
		}
	}
	if got := inBrief([]byte(`{"b":"` + long + `","a":1}`)); !strings.HasPrefix(got, `{ "a": 1, "b": "lorem`) || len(got) > 130 {
		t.Error(got)
	}
	if got := words([]byte(`{"о":"\nон","n":1,"l":["x"]}`)); got != "о\n\nон\nn\nl\nx\n" {
		t.Errorf("%q", got)
	}
}
