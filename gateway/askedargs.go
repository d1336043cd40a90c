package gateway

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/kidoban/kidoban/toolscan"
)

// shortMember is how many bytes of JSON a member may have that is shown before longer
// ones: where a call goes is short, and must not stand below pages of text.
const shortMember = 200

// readable prints JSON with one member per line, the short ones first, and nothing
// hidden. The order of members has no meaning.
func readable(raw []byte) string {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return toolscan.Visible(string(raw), maxAsked)
	}
	lines := strings.Split(laidOut(v, "\n"), "\n")
	for i, l := range lines {
		lines[i] = toolscan.Visible(l, 4*maxAsked)
	}
	return strings.Join(lines, "\n")
}

// laidOut prints one value; newline is a line break with the indent of its line.
func laidOut(v any, newline string) string {
	in := newline + "  "
	switch v := v.(type) {
	case map[string]any:
		var short, long []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if s := in + onOneLine(name) + ": " + laidOut(v[name], in); len(s) <= shortMember {
				short = append(short, s)
			} else {
				long = append(long, s)
			}
		}
		if len(v) > 0 {
			return "{" + strings.Join(append(short, long...), ",") + newline + "}"
		}
	case []any:
		var all []string
		for _, e := range v {
			all = append(all, in+laidOut(e, in))
		}
		if len(v) > 0 {
			return "[" + strings.Join(all, ",") + newline + "]"
		}
	}
	return onOneLine(v)
}

// onOneLine is JSON in which < and > are themselves: the page's template escapes.
func onOneLine(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return "?"
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// inBrief is the beginning of arguments, for a line of a list.
func inBrief(raw []byte) string {
	return toolscan.Visible(strings.Join(strings.Fields(readable(raw)), " "), 120)
}

// words are all names and texts in arguments, one per line, as they are.
func words(raw []byte) string {
	d := json.NewDecoder(bytes.NewReader(raw))
	var b strings.Builder
	for {
		t, err := d.Token()
		if err != nil {
			return b.String()
		}
		if s, ok := t.(string); ok {
			b.WriteString(s + "\n")
		}
	}
}
