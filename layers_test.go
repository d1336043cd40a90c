package kidoban

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/kidoban/kidoban"

// layer gives each room its distance from the centre. A package imports only
// rooms of smaller distance, or its own room.
var layer = map[string]int{
	"":     0,
	"wire": 1, "oauth": 1, "outbound": 1, "limit": 1, "vault": 1, "policy": 1, "sandbox": 1, "solo": 1,
	"mcp": 2, "toolscan": 2, "report": 2, "account": 2,
	"authserver": 3, "gateway": 3, "audit": 3, "lab": 3,
	"census": 4, "console": 4, "telemetry": 4,
	"store": 5,
	"cmd":   6,
}

// TestImportsPointToTheCentre reads the import blocks of every package and
// fails on an import that points outwards or sideways. Test files are exempt:
// the audit is tested against the lab.
func TestImportsPointToTheCentre(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n != "." && (strings.HasPrefix(n, ".") || n == "testdata" || n == "node_modules") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != "." {
				return filepath.SkipDir // a module of its own is no room
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files++
		room := strings.Split(filepath.ToSlash(filepath.Dir(path)), "/")[0]
		if room == "." {
			room = ""
		}
		from, known := layer[room]
		if !known {
			t.Errorf("%s: room %q is not in the plan: add it to the layers with a decision record", path, room)
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range f.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			if p != module && !strings.HasPrefix(p, module+"/") {
				if room == "" && strings.Contains(strings.Split(p, "/")[0], ".") {
					t.Errorf("%s imports %s: the root package uses the standard library only", path, p)
				}
				continue
			}
			target := strings.Split(strings.TrimPrefix(strings.TrimPrefix(p, module), "/"), "/")[0]
			to, known := layer[target]
			switch {
			case !known:
				t.Errorf("%s imports unknown room %q", path, target)
			case target == room:
			case to >= from:
				t.Errorf("%s (layer %d) imports %s (layer %d): imports point to the centre", path, from, p, to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 5 {
		t.Fatalf("read %d files only: the test does not see the module", files)
	}
}
