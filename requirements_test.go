package kidoban

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The requirements of the authorization server, by group and how many there are.
// Their ids stand in test names: who reads a requirement finds what shows it.
var requirements = map[string]int{"GAS": 9, "GRG": 8, "GCO": 6}

// TestEveryRequirementIsInATestName reads the names of all tests.
func TestEveryRequirementIsInATestName(t *testing.T) {
	id := regexp.MustCompile(`G(?:AS|RG|CO)[0-9]+`)
	shown := map[string]int{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if n := d.Name(); d.IsDir() && n != "." && (strings.HasPrefix(n, ".") || n == "testdata" || n == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "Test") {
				for _, m := range id.FindAllString(fn.Name.Name, -1) {
					shown[m]++
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for group, n := range requirements {
		for i := 1; i <= n; i++ {
			if name := fmt.Sprint(group, i); shown[name] == 0 {
				t.Errorf("no test's name holds %s", name)
			}
		}
	}
}
