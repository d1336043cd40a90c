package kidoban

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestGRG8_EveryKindOfAlertIsExplainedOnceWorstFirst(t *testing.T) {
	seen := map[AlertKind]bool{}
	last := Critical
	for _, m := range AlertKinds() {
		if seen[m.Kind] || m.Text == "" || m.Severity.Rank() < 1 || m.Severity.Rank() > last.Rank() {
			t.Errorf("%+v", m)
		}
		seen[m.Kind], last = true, m.Severity
		if m.Kind.Severity() != m.Severity {
			t.Error(m.Kind)
		}
	}
	if AlertKind("something else").Severity() != Medium {
		t.Error("an unknown kind has no severity")
	}
}

// TestGRG8_AlertsAreToldInThreeLanguages: each kind has sentences in each, which
// want the same words; nothing of a sentence is left open.
func TestGRG8_AlertsAreToldInThreeLanguages(t *testing.T) {
	names := regexp.MustCompile(`\{[a-z]+\}`)
	wants := func(s string) []string {
		found := names.FindAllString(s, -1)
		slices.Sort(found)
		return slices.Compact(found)
	}
	if len(alertTexts) != len(AlertKinds()) {
		t.Errorf("%d kinds have sentences, there are %d", len(alertTexts), len(AlertKinds()))
	}
	for _, m := range AlertKinds() {
		with := AlertWords{AlertMore: "yes"}
		for i, lang := range []string{"en", "ja", "zh"} {
			x := alertTexts[m.Kind]
			if x.text[i] == "" || x.do[i] == "" || !slices.Equal(wants(x.text[i]), wants(x.text[0])) || !slices.Equal(wants(x.do[i]), wants(x.do[0])) {
				t.Errorf("%s in %s: %q %q", m.Kind, lang, x.text[i], x.do[i])
			}
			for _, name := range append(wants(x.text[i]), wants(x.do[i])...) {
				with[strings.Trim(name, "{}")] = "W"
			}
			text, do, in := NewAlert(m.Kind, "s", with).Told(lang)
			if in != lang || strings.ContainsAny(text+do, "{}") || !strings.HasSuffix(text, alertVocabulary["more=yes"][i]) || i > 0 && text == x.text[0] {
				t.Errorf("%s in %s: %q %q (%s)", m.Kind, lang, text, do, in)
			}
		}
	}
	a := NewAlert(AlertFlowBarred, "u", AlertWords{"user": "", "from": "", "server": "mail", "then": "refused"})
	if text, do, _ := a.Told("ja"); !strings.Contains(text, "誰か") || !strings.Contains(text, "拒否しました") || !strings.Contains(do, "あるサーバー") {
		t.Errorf("our own words are not told in Japanese: %s %s", text, do)
	}
	if a.Text != "An agent of somebody read text at a server that reads like orders, and then called a tool of mail that may send something out; it was refused." {
		t.Error(a.Text)
	}
}

// TestGRG8_OldAndStrangeAlertsAreToldAsTheyAre: one that was stored before there
// were languages, and one with words that look like names.
func TestGRG8_OldAndStrangeAlertsAreToldAsTheyAre(t *testing.T) {
	old := Alert{Kind: AlertServerDown, Text: "The server x does not answer.", Do: "Look."}
	if text, do, in := old.Told("ja"); text != old.Text || do != old.Do || in != "en" {
		t.Error(text, do, in)
	}
	strange := NewAlert("something else", "s", AlertWords{"host": "h"})
	if _, _, in := strange.Told("zh"); in != "en" {
		t.Error(in)
	}
	if a := NewAlert(AlertFirstSeenHost, "{host}", AlertWords{"host": "{host}{do}<b>"}); !strings.Contains(a.Text, "at {host}{do}<b>, a host") {
		t.Error(a.Text)
	}
}

// TestGRG8_EveryAlertBringsItsWords reads the calls that raise alerts: each gives
// the words that its kind's sentences want, and no others.
func TestGRG8_EveryAlertBringsItsWords(t *testing.T) {
	names := regexp.MustCompile(`\{([a-z]+)\}`)
	kinds := map[string]AlertKind{}
	raised := map[AlertKind]int{}
	calls := func(file string, look func(*ast.CallExpr)) {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if len(n.Names) == 1 && len(n.Values) == 1 && strings.HasPrefix(n.Names[0].Name, "Alert") {
					if v, ok := n.Values[0].(*ast.BasicLit); ok {
						kinds[n.Names[0].Name] = AlertKind(strings.Trim(v.Value, `"`))
					}
				}
			case *ast.CallExpr:
				look(n)
			}
			return true
		})
	}
	calls("alert.go", func(*ast.CallExpr) {})
	for _, dir := range []string{"authserver", "gateway", "cmd/kidoban"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			calls(file, func(c *ast.CallExpr) {
				var kind AlertKind
				for _, a := range c.Args {
					if s, ok := a.(*ast.SelectorExpr); ok && kinds[s.Sel.Name] != "" {
						kind = kinds[s.Sel.Name]
					}
				}
				words, ok := c.Args[max(0, len(c.Args)-1):], kind != ""
				if !ok {
					return
				}
				raised[kind]++
				var gives []string
				if lit, ok := words[0].(*ast.CompositeLit); ok {
					for _, e := range lit.Elts {
						gives = append(gives, strings.Trim(e.(*ast.KeyValueExpr).Key.(*ast.BasicLit).Value, `"`))
					}
				} else if id, ok := words[0].(*ast.Ident); ok && id.Name == "with" { // put together before; the guard's own test reads it
					return
				}
				var wants []string
				for _, m := range names.FindAllStringSubmatch(alertTexts[kind].text[0]+alertTexts[kind].do[0], -1) {
					wants = append(wants, m[1])
				}
				slices.Sort(gives)
				slices.Sort(wants)
				if wants = slices.Compact(wants); !slices.Equal(gives, wants) {
					t.Errorf("%s: %s is raised with %v, its sentences want %v", file, kind, gives, wants)
				}
			})
		}
	}
	for _, m := range AlertKinds() {
		if raised[m.Kind] == 0 {
			t.Errorf("nothing raises %s", m.Kind)
		}
	}
}
