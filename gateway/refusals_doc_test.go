package gateway

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// refusalRules finds each rule that this package refuses with, as written: a
// constant, or the constant beginning of one.
func refusalRules(t *testing.T) map[string]string {
	t.Helper()
	at := map[string]int{"refuse": 2, "unauthorized": 0, "insufficient": 0, "noArguments": 0, "heldBy": 0}
	rules := map[string]string{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		note := func(e ast.Expr) {
			for sum, ok := e.(*ast.BinaryExpr); ok; sum, ok = e.(*ast.BinaryExpr) {
				e = sum.X
			}
			if lit, ok := e.(*ast.BasicLit); ok {
				rule, _ := strconv.Unquote(lit.Value)
				rules[rule] = set.Position(lit.Pos()).String()
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok {
					if i, ok := at[f.Name]; ok && i < len(n.Args) {
						note(n.Args[i])
					}
				}
			case *ast.CompositeLit:
				if typ, ok := n.Type.(*ast.Ident); ok && typ.Name == "Refusal" {
					for _, e := range n.Elts {
						if kv, ok := e.(*ast.KeyValueExpr); ok && kv.Key.(*ast.Ident).Name == "Rule" {
							note(kv.Value)
						}
					}
				}
			case *ast.ValueSpec: // constants of rules
				for i, id := range n.Names {
					if strings.HasPrefix(id.Name, "rule") && i < len(n.Values) {
						note(n.Values[i])
					}
				}
			case *ast.AssignStmt:
				for i, left := range n.Lhs {
					if id, ok := left.(*ast.Ident); ok && id.Name == "rule" && i < len(n.Rhs) {
						note(n.Rhs[i])
					}
				}
			}
			return true
		})
	}
	return rules
}

// TestEveryRuleIsExplained: what the audit log gives as the reason of a refusal, a
// reader finds in docs/refusals.md, and nothing there is a rule no more.
func TestEveryRuleIsExplained(t *testing.T) {
	page, err := os.ReadFile("../docs/refusals.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := refusalRules(t)
	if len(rules) < 60 {
		t.Fatalf("only %d rules were found: %v", len(rules), rules)
	}
	told := map[string]bool{}
	for _, row := range strings.Split(string(page), "\n") {
		cells := strings.Split(row, "|")
		if len(cells) < 4 {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z_]+(?::[a-zA-Z_:]+)?)`").FindAllStringSubmatch(cells[1], -1) {
			told[m[1]] = true
		}
	}
	known := func(rule string) bool {
		for r := range rules {
			if r == rule || strings.HasSuffix(r, ":") && strings.HasPrefix(rule, r) {
				return true
			}
		}
		return false
	}
	for rule := range told {
		if !known(rule) && rule != "policy:unknown" {
			t.Errorf("docs/refusals.md explains %s, which no call is refused with", rule)
		}
	}
	for rule, where := range rules {
		found := told[rule]
		for r := range told {
			found = found || strings.HasSuffix(rule, ":") && strings.HasPrefix(r, rule)
		}
		if !found {
			t.Errorf("%s: docs/refusals.md does not explain %q", where, rule)
		}
	}
}
