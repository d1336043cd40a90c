package toolscan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// Grade says how a changed definition is to be taken. Every change is held until
// somebody approves it; the grade says how urgently to look.
type Grade string

// The grades, calmest first.
const (
	GradeSame      Grade = "same"
	GradeFormat    Grade = "format"    // other bytes, same meaning: order of members, white space
	GradeTypo      Grade = "typo"      // a few letters
	GradeReworded  Grade = "reworded"  // other words, no orders
	GradeNarrowed  Grade = "narrowed"  // an approved item is gone
	GradeParameter Grade = "parameter" // parameters added, removed or changed
	GradeWidened   Grade = "widened"   // the schema admits more than before, an annotation promises more, an item or its name is new
	GradeAlarm     Grade = "alarm"     // a new instruction, sink, secret, hidden text or suspicious parameter
)

// Calm says whether an honest upgrade may look like this.
func (g Grade) Calm() bool { return g != GradeAlarm }

// Change is one difference of a definition.
type Change struct {
	Path   string   `json:"path"` // JSON pointer
	Kind   string   `json:"kind"` // added, removed, changed
	Before string   `json:"before,omitempty"`
	After  string   `json:"after,omitempty"`
	Diff   []DiffOp `json:"diff,omitempty"` // for texts
}

// Why is one reason for a grade, before it is put into words.
type Why struct {
	ID      string  // renamed, annotation, admits, finding; "" for none
	Path    string  // of what changed, visible; for annotation and admits
	Finding Finding // for finding
}

// String is the reason in English.
func (w Why) String() string {
	switch w.ID {
	case "renamed":
		return "the tool was renamed"
	case "annotation":
		return "annotation " + w.Path + " changed"
	case "admits":
		return "the schema admits more at " + w.Path
	case "finding":
		return "new: " + w.Finding.Reason + " (" + w.Finding.Rule + ")"
	}
	return ""
}

// Drift is the comparison of two versions of an item.
type Drift struct {
	Grade    Grade     `json:"grade"`
	Reasons  []string  `json:"reasons"`
	Why      []Why     `json:"-"` // the same for other languages
	Changes  []Change  `json:"changes"`
	Findings []Finding `json:"findings,omitempty"` // new in the later version
}

// maxChanges bounds the list of changes.
const maxChanges = 200

// Drift compares two versions of an item and grades what changed. A finding of
// the earlier version that is still there is no news.
func (sc *Scanner) Drift(ctx *Context, before, after Item) Drift {
	if bytes.Equal(before.Raw, after.Raw) && before.Name == after.Name {
		return Drift{Grade: GradeSame}
	}
	var d Drift
	a, b := decodeAny(before.Raw), decodeAny(after.Raw)
	compare("", a, b, &d.Changes)
	d.Grade = GradeFormat
	raise := func(g Grade, why Why) {
		if rank(g) > rank(d.Grade) {
			d.Grade = g
		}
		if why.ID != "" {
			d.Reasons, d.Why = append(d.Reasons, why.String()), append(d.Why, why)
		}
	}
	for i := range d.Changes {
		c := &d.Changes[i]
		switch {
		case c.Path == "/name":
			raise(GradeWidened, Why{ID: "renamed"})
		case len(c.Diff) > 0 && isTypo(c.Diff):
			raise(GradeTypo, Why{})
		case strings.Contains(c.Path, "/annotations/"):
			raise(GradeWidened, Why{ID: "annotation", Path: Visible(c.Path, 80)})
		case schemaPath(c.Path):
			if widens(c) {
				raise(GradeWidened, Why{ID: "admits", Path: Visible(c.Path, 80)})
			} else {
				raise(GradeParameter, Why{})
			}
		default:
			raise(GradeReworded, Why{})
		}
	}
	sc.newFindings(ctx, before, after, &d, raise)
	return d
}

// newFindings scans both versions and raises an alarm for what is new and
// weighs. The threshold is lower than for a fresh item: a change that brings in
// an order is the signature of a rug pull.
func (sc *Scanner) newFindings(ctx *Context, before, after Item, d *Drift, raise func(Grade, Why)) {
	old, now := sc.Item(ctx, before), sc.Item(ctx, after)
	had := map[string]int{}
	for _, f := range old.Findings {
		had[f.Rule]++
	}
	seen := map[string]int{}
	gained := 0.0
	for _, f := range now.Findings {
		seen[f.Rule]++
		if seen[f.Rule] <= had[f.Rule] || f.Tier == Label {
			continue
		}
		d.Findings = append(d.Findings, f)
		if f.Rule != "model" && f.weight > gained {
			gained = f.weight
		}
	}
	if now.Flagged && now.Score >= old.Score+alarmGain || gained >= alarmWeight {
		for _, f := range d.Findings {
			raise(GradeAlarm, Why{ID: "finding", Finding: f})
		}
	}
}

// An alarm needs a score that grew by alarmGain to the threshold, or one new
// rule hit of alarmWeight.
const (
	alarmGain   = 0.3
	alarmWeight = 0.5
)

func rank(g Grade) int {
	for i, x := range [...]Grade{GradeSame, GradeFormat, GradeTypo, GradeReworded, GradeNarrowed, GradeParameter, GradeWidened, GradeAlarm} {
		if g == x {
			return i
		}
	}
	return 0
}

func schemaPath(p string) bool {
	return strings.HasPrefix(p, "/inputSchema") || strings.HasPrefix(p, "/outputSchema") || strings.HasPrefix(p, "/arguments")
}

// widens says whether a schema change lets more through: a bound or an enum
// removed, additionalProperties opened, a type loosened.
func widens(c *Change) bool {
	last := c.Path[strings.LastIndexByte(c.Path, '/')+1:]
	switch last {
	case "enum", "pattern", "maxLength", "minLength", "maximum", "minimum", "format", "const", "required":
		return c.Kind == "removed"
	case "additionalProperties":
		return c.After == "true"
	case "type":
		return c.Kind == "removed" || c.After == `"object"` || c.After == `"string"` && c.Before != ""
	}
	return false
}

// isTypo accepts a diff of at most three replaced words that stay near each
// other in spelling, and changes of punctuation or case.
func isTypo(ops []DiffOp) bool {
	words := 0
	for i, op := range ops {
		if op.Op != "-" {
			if op.Op == "+" && (i == 0 || ops[i-1].Op != "-") && letters(op.Text) > 0 {
				return false
			}
			continue
		}
		with := ""
		if i+1 < len(ops) && ops[i+1].Op == "+" {
			with = ops[i+1].Text
		}
		n := len(strings.Fields(op.Text))
		if words += n; words > 3 || len(op.Text) > 60 || len(with) > 60 {
			return false
		}
		if editDistance(strings.ToLower(op.Text), strings.ToLower(with)) > 2 {
			return false
		}
	}
	return true
}

func letters(s string) int {
	n := 0
	for _, r := range s {
		if r > 0x80 || isLetter(byte(r)) || r >= '0' && r <= '9' {
			n++
		}
	}
	return n
}

// editDistance is Levenshtein's, over bytes, for short strings.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost++
			}
			diag = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// decodeAny reads JSON into comparable values; what is no JSON is one string.
// Numbers keep their text.
func decodeAny(raw []byte) any {
	if len(raw) > maxItemBytes {
		return string(raw[:maxItemBytes])
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return string(raw)
	}
	return v
}

// compare lists the differences of two JSON values by pointer, in order.
func compare(path string, a, b any, out *[]Change) {
	if len(*out) >= maxChanges || strings.Count(path, "/") > maxDepth {
		return
	}
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			compareObjects(path, x, y, out)
			return
		}
	case []any:
		if y, ok := b.([]any); ok {
			compareArrays(path, x, y, out)
			return
		}
	case string:
		if y, ok := b.(string); ok {
			if x != y {
				*out = append(*out, Change{Path: path, Kind: "changed", Before: x, After: y, Diff: WordDiff(x, y)})
			}
			return
		}
	}
	if p, q := text(a), text(b); p != q {
		*out = append(*out, Change{Path: path, Kind: "changed", Before: p, After: q})
	}
}

func compareObjects(path string, x, y map[string]any, out *[]Change) {
	keys := map[string]bool{}
	for k := range x {
		keys[k] = true
	}
	for k := range y {
		keys[k] = true
	}
	names := make([]string, 0, len(keys))
	for k := range keys {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		p := path + "/" + pointerEscape.Replace(k)
		va, ina := x[k]
		vb, inb := y[k]
		switch {
		case ina && inb:
			compare(p, va, vb, out)
		case ina:
			*out = append(*out, Change{Path: p, Kind: "removed", Before: text(va)})
		default:
			*out = append(*out, Change{Path: p, Kind: "added", After: text(vb)})
		}
		if len(*out) >= maxChanges {
			return
		}
	}
}

func compareArrays(path string, x, y []any, out *[]Change) {
	for i := 0; i < len(x) || i < len(y); i++ {
		p := fmt.Sprintf("%s/%d", path, i)
		switch {
		case i >= len(x):
			*out = append(*out, Change{Path: p, Kind: "added", After: text(y[i])})
		case i >= len(y):
			*out = append(*out, Change{Path: p, Kind: "removed", Before: text(x[i])})
		default:
			compare(p, x[i], y[i], out)
		}
		if len(*out) >= maxChanges {
			return
		}
	}
}

// text is the compact JSON of a value, at most 4 KiB.
func text(v any) string {
	b, _ := json.Marshal(v) // v was decoded from JSON
	if len(b) > 4096 {
		b = append(bytes.ToValidUTF8(b[:4096], nil), "…"...)
	}
	return string(b)
}
