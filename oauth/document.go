package oauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/kidoban/kidoban"
)

// Member is one member of a JSON object in document order, value untouched.
type Member struct {
	Name string
	Raw  json.RawMessage
}

// Fault is something in a document that a strict reader would refuse.
type Fault struct {
	Member string // name of the member, "" for the document itself
	Want   string // what the specification asks for
	Got    string // what stood there, described, never quoted
}

// String returns the fault as one clause.
func (f Fault) String() string {
	if f.Member == "" {
		return fmt.Sprintf("want %s, got %s", f.Want, f.Got)
	}
	return fmt.Sprintf("%s: want %s, got %s", f.Member, f.Want, f.Got)
}

// Document is a JSON object read with its order, its unknown members and its
// mistakes. The typed documents of this package embed it.
type Document struct {
	members []Member
	faults  []Fault
}

// Members returns all members in document order, duplicates included.
func (d *Document) Members() []Member { return d.members }

// Faults returns what is wrong with the document: duplicate members, invalid
// UTF-8 and members of a wrong type. Empty means a strict reader agrees.
func (d *Document) Faults() []Fault { return d.faults }

// Raw returns the value of the last member called name (what most readers
// would see) and whether there is one.
func (d *Document) Raw(name string) (json.RawMessage, bool) {
	for i := len(d.members) - 1; i >= 0; i-- {
		if d.members[i].Name == name {
			return d.members[i].Raw, true
		}
	}
	return nil, false
}

// Has tells whether a member called name is present, null included.
func (d *Document) Has(name string) bool { _, ok := d.Raw(name); return ok }

// parseDocument reads one JSON object of at most max bytes. what names the
// document in errors.
func parseDocument(body []byte, max int, what string) (Document, error) {
	var d Document
	if len(body) > max {
		return d, kidoban.Errorf(kidoban.KindLimit, "The %s is longer than %d bytes.", what, max)
	}
	if !utf8.Valid(body) {
		d.fault("", "UTF-8", "invalid bytes")
	}
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	dec := json.NewDecoder(bytes.NewReader(body))
	bad := func(err error) error {
		if err == nil {
			return kidoban.Errorf(kidoban.KindInput, "The %s is not a JSON object.", what)
		}
		return kidoban.Wrap(kidoban.KindInput, err, "The %s is not a JSON object", what)
	}
	tok, err := dec.Token()
	if err != nil || tok != json.Delim('{') {
		return d, bad(err)
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		name, ok := tok.(string)
		if err != nil || !ok {
			return d, bad(err)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return d, bad(err)
		}
		if seen[name] {
			d.fault(name, "one member of this name", "a duplicate")
		}
		seen[name] = true
		d.members = append(d.members, Member{name, raw})
	}
	if _, err := dec.Token(); err != nil {
		return d, bad(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return d, kidoban.Errorf(kidoban.KindInput, "The %s has data after its JSON object.", what)
	}
	return d, nil
}

func (d *Document) fault(member, want, got string) {
	d.faults = append(d.faults, Fault{member, want, got})
}

// value returns a member's raw value; null counts as absent, with a fault.
func (d *Document) value(name, want string) (json.RawMessage, bool) {
	raw, ok := d.Raw(name)
	if !ok {
		return nil, false
	}
	if kindOfJSON(raw) == "null" {
		d.fault(name, want, "null")
		return nil, false
	}
	return raw, true
}

func (d *Document) str(name string) string {
	raw, ok := d.value(name, "a string")
	if !ok {
		return ""
	}
	if kindOfJSON(raw) != "a string" {
		d.fault(name, "a string", kindOfJSON(raw))
		return ""
	}
	var s string
	_ = json.Unmarshal(raw, &s) // cannot fail: the decoder has read it as a string
	return s
}

// strs reads an array of strings. A single string is taken as an array of one,
// elements that are no strings are left out; both leave a fault.
func (d *Document) strs(name string) []string {
	raw, ok := d.value(name, "an array of strings")
	if !ok {
		return nil
	}
	switch kindOfJSON(raw) {
	case "a string":
		d.fault(name, "an array of strings", "a string")
		var s string
		_ = json.Unmarshal(raw, &s)
		return []string{s}
	case "an array":
	default:
		d.fault(name, "an array of strings", kindOfJSON(raw))
		return nil
	}
	var elems []json.RawMessage
	_ = json.Unmarshal(raw, &elems)
	out := make([]string, 0, len(elems))
	for _, e := range elems {
		if kindOfJSON(e) != "a string" {
			d.fault(name, "an array of strings", "an array holding "+kindOfJSON(e))
			continue
		}
		var s string
		_ = json.Unmarshal(e, &s)
		out = append(out, s)
	}
	return out
}

// boolean reads true or false. The string "true" is not true: a client that
// needs the feature would not see it either.
func (d *Document) boolean(name string) bool {
	raw, ok := d.value(name, "true or false")
	if !ok {
		return false
	}
	if kindOfJSON(raw) != "a boolean" {
		d.fault(name, "true or false", kindOfJSON(raw))
		return false
	}
	return raw[0] == 't'
}

// integer reads a whole number; ok is false when absent or not one. A number
// in a string is accepted with a fault (expires_in is often sent that way).
func (d *Document) integer(name string) (n int64, ok bool) {
	raw, present := d.value(name, "a whole number")
	if !present {
		return 0, false
	}
	text := string(raw)
	if kindOfJSON(raw) == "a string" {
		_ = json.Unmarshal(raw, &text)
		d.fault(name, "a whole number", "a string")
	}
	var f float64
	if err := json.Unmarshal([]byte(text), &n); err == nil {
		return n, true
	}
	if err := json.Unmarshal([]byte(text), &f); err == nil && f == float64(int64(f)) && f < 1<<62 && f > -1<<62 {
		return int64(f), true
	}
	d.fault(name, "a whole number", kindOfJSON(raw))
	return 0, false
}

// kindOfJSON names the type of a complete JSON value.
func kindOfJSON(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '"':
		return "a string"
	case '[':
		return "an array"
	case '{':
		return "an object"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}
