package toolscan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"sort"
	"strings"

	"github.com/kidoban/kidoban"
)

// LockSchema names the format of a lock file.
const LockSchema = "kidoban.lock/1"

// Lock holds the approved definitions: what somebody looked at and accepted.
type Lock struct {
	Schema string `json:"schema"`
	Pins   []Pin  `json:"pins"`
}

// Pin is one approved item. SHA256 is over the bytes as the server sent them, so
// that nothing can change unseen; Canonical is for people and for the diff.
type Pin struct {
	Server    string          `json:"server"`
	Version   string          `json:"version,omitempty"` // the server's, as it said when the pin was made
	Kind      Kind            `json:"kind"`
	Name      string          `json:"name"`
	SHA256    string          `json:"sha256"`
	Canonical json.RawMessage `json:"canonical"`
	Date      string          `json:"date"` // RFC 3339
	By        string          `json:"approved_by"`
}

// maxLock bounds a lock file, in bytes.
const maxLock = 64 << 20

// Fingerprint is the hash of an item's bytes, hex.
func Fingerprint(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Canonical returns raw as compact JSON with sorted members: equal for equal
// meaning. What is no JSON becomes a JSON string.
func Canonical(raw []byte) json.RawMessage {
	v := decodeAny(raw)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return json.RawMessage(`null`) // unreachable: v was decoded from JSON
	}
	return bytes.TrimSpace(b.Bytes())
}

// MakeLock pins everything servers offer, as approved by whom at date (RFC 3339).
func MakeLock(servers []Server, by, date string) Lock {
	l := Lock{Schema: LockSchema, Pins: []Pin{}}
	for i := range servers {
		for _, it := range servers[i].Items {
			l.Pins = append(l.Pins, Pin{Server: servers[i].Name, Version: servers[i].Version, Kind: it.Kind, Name: it.Name,
				SHA256: Fingerprint(it.Raw), Canonical: Canonical(it.Raw), Date: date, By: by})
		}
	}
	sort.SliceStable(l.Pins, func(a, b int) bool {
		x, y := l.Pins[a], l.Pins[b]
		if x.Server != y.Server {
			return x.Server < y.Server
		}
		if x.Kind != y.Kind {
			return x.Kind < y.Kind
		}
		return x.Name < y.Name
	})
	return l
}

// ReadLock reads a lock file and checks its form.
func ReadLock(r io.Reader) (Lock, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxLock+1))
	if err != nil {
		return Lock{}, kidoban.Wrap(kidoban.KindInput, err, "cannot read the lock file")
	}
	var l Lock
	if len(b) > maxLock {
		return l, kidoban.Errorf(kidoban.KindLimit, "the lock file is larger than %d MiB", maxLock>>20)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return Lock{}, kidoban.Wrap(kidoban.KindInput, err, "the lock file is not of the form kidoban writes; make it anew with kidoban tools pin")
	}
	if l.Schema != LockSchema {
		return Lock{}, kidoban.Errorf(kidoban.KindInput, "the lock file is of another version; make it anew with kidoban tools pin")
	}
	return l, nil
}

// Write writes the lock file, indented, one order for one content.
func (l Lock) Write(w io.Writer) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(l); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "cannot encode the lock file")
	}
	_, err := w.Write(b.Bytes())
	return kidoban.Wrap(kidoban.KindInput, err, "cannot write the lock file")
}

// Servers returns the pinned definitions by server, in their canonical form.
func (l Lock) Servers() []Server {
	var out []Server
	at := map[string]int{}
	for i := range l.Pins {
		p := &l.Pins[i]
		k, ok := at[p.Server]
		if !ok {
			k = len(out)
			at[p.Server] = k
			out = append(out, Server{Name: p.Server, Version: p.Version})
		}
		out[k].Items = append(out[k].Items, Item{Kind: p.Kind, Name: p.Name, Raw: p.Canonical})
	}
	return out
}

// Departure is an item that is not as it was pinned.
type Departure struct {
	Server string `json:"server"`
	Kind   Kind   `json:"kind"`
	Name   string `json:"name"`
	What   string `json:"what"` // changed, added, removed, renamed
	Was    string `json:"was,omitempty"`
	Drift  Drift  `json:"drift"`
}

// Verify compares what servers offer now with the lock. An item whose bytes are
// pinned passes; everything else is listed: changed, new, gone, or renamed (the
// same definition under another name). Only servers that are in servers are
// judged, so that one server can be checked alone.
func (sc *Scanner) Verify(l Lock, servers []Server) []Departure {
	type key struct {
		server string
		kind   Kind
		name   string
	}
	pins := map[key]*Pin{}
	for i := range l.Pins {
		p := &l.Pins[i]
		pins[key{p.Server, p.Kind, p.Name}] = p
	}
	var out []Departure
	for i := range servers {
		ctx := NewContext(servers[i], nil)
		seen := map[key]bool{}
		var added []Item
		for _, it := range servers[i].Items {
			k := key{servers[i].Name, it.Kind, it.Name}
			p := pins[k]
			if p == nil || seen[k] { // a second item of the same name is new
				added = append(added, it)
				continue
			}
			seen[k] = true
			if p.SHA256 != Fingerprint(it.Raw) {
				old := Item{Kind: it.Kind, Name: p.Name, Raw: p.Canonical}
				out = append(out, Departure{Server: servers[i].Name, Kind: it.Kind, Name: it.Name, What: "changed", Drift: sc.Drift(ctx, old, it)})
			}
		}
		var gone []*Pin
		for j := range l.Pins {
			p := &l.Pins[j]
			if p.Server == servers[i].Name && !seen[key{p.Server, p.Kind, p.Name}] {
				gone = append(gone, p)
			}
		}
		out = sc.newAndGone(ctx, servers[i].Name, added, gone, out)
	}
	return out
}

// newAndGone pairs new items with vanished ones of the same definition.
func (sc *Scanner) newAndGone(ctx *Context, server string, added []Item, gone []*Pin, out []Departure) []Departure {
	for _, it := range added {
		d := Departure{Server: server, Kind: it.Kind, Name: it.Name, What: "added"}
		nameless := withoutName(Canonical(it.Raw))
		for j, p := range gone {
			if p != nil && p.Kind == it.Kind && bytes.Equal(withoutName(p.Canonical), nameless) {
				d.What, d.Was, gone[j] = "renamed", p.Name, nil
				break
			}
		}
		v := sc.Item(ctx, it)
		d.Drift = Drift{Grade: GradeWidened, Findings: v.Findings, Changes: []Change{{Kind: "added", After: strings.ToValidUTF8(string(it.Raw[:min(len(it.Raw), 4096)]), "\uFFFD")}}}
		if v.Flagged {
			d.Drift.Grade = GradeAlarm
			d.Drift.Reasons = []string{"the new item is flagged by itself"}
		}
		out = append(out, d)
	}
	for _, p := range gone {
		if p != nil {
			out = append(out, Departure{Server: server, Kind: p.Kind, Name: p.Name, What: "removed", Drift: Drift{Grade: GradeNarrowed}})
		}
	}
	return out
}

// withoutName drops the name and title of a canonical definition.
func withoutName(canonical []byte) []byte {
	var m map[string]json.RawMessage
	if json.Unmarshal(canonical, &m) != nil {
		return canonical
	}
	delete(m, "name")
	delete(m, "title")
	b, _ := json.Marshal(m) // m was decoded from JSON
	return b
}
