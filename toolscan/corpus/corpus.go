// Package corpus measures the tool scanner on labelled material and trains its
// statistical model. Material is a directory of JSON-lines files that stays
// outside the repository; only numbers and weights come out of it.
package corpus

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kidoban/kidoban"
)

// Record is one line of any corpus file.
type Record struct {
	ID         string          `json:"id"`
	Source     string          `json:"source"`
	Label      string          `json:"label"`
	Class      string          `json:"class"`
	Detectable string          `json:"definition_detectable"` // yes, no, needs_context
	AttackType string          `json:"attack_type"`
	Kind       string          `json:"kind"`
	Server     string          `json:"server"`
	Tool       json.RawMessage `json:"tool"`
	Content    string          `json:"content"`
	Injection  string          `json:"injection"`
	Before     json.RawMessage `json:"before"`
	After      json.RawMessage `json:"after"`
}

// Name returns the name of the record's tool.
func (r *Record) Name() string {
	var t struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal(r.Tool, &t) // a tool without a readable name has none
	return t.Name
}

// maxLine bounds one record, in bytes.
const maxLine = 8 << 20

// Read reads one file of dir. A missing file is an empty corpus.
func Read(dir, file string) ([]Record, error) {
	f, err := os.Open(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInput, err, "cannot read %s", file)
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(make([]byte, 1<<16), maxLine)
	var out []Record
	for n := 1; in.Scan(); n++ {
		if len(in.Bytes()) == 0 {
			continue
		}
		var r Record
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			return nil, kidoban.Wrap(kidoban.KindInput, err, "%s line %d is not a record", file, n)
		}
		out = append(out, r)
	}
	return out, kidoban.Wrap(kidoban.KindInput, in.Err(), "cannot read %s", file)
}
