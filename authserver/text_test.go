package authserver

import (
	"regexp"
	"strings"
	"testing"
)

// TestGCO2_EveryTextInEveryLanguage: the pages name no text that does not exist,
// and no translation is missing or takes other arguments.
func TestGCO2_EveryTextInEveryLanguage(t *testing.T) {
	verbs := regexp.MustCompile(`%[sd]`)
	for id, l := range texts {
		if l.en == "" || l.ja == "" || l.zh == "" {
			t.Errorf("%s is not in every language", id)
		}
		want := strings.Join(verbs.FindAllString(l.en, -1), "")
		for _, s := range []string{l.ja, l.zh} {
			if strings.Join(verbs.FindAllString(s, -1), "") != want {
				t.Errorf("%s takes other arguments in a translation", id)
			}
		}
		if strings.HasPrefix(id, "error_") && id != "error_title" {
			if _, ok := texts[strings.TrimSuffix(id, "_do")+"_do"]; !ok {
				t.Errorf("%s does not say what to do", id)
			}
		}
	}
	used := regexp.MustCompile(`\.T "([a-z_]+)"`)
	files, err := pageFiles.ReadDir("pages")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		body, err := pageFiles.ReadFile("pages/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range used.FindAllStringSubmatch(string(body), -1) {
			n++
			if _, ok := texts[m[1]]; !ok {
				t.Errorf("%s names the text %q, which does not exist", f.Name(), m[1])
			}
		}
	}
	if n < 50 {
		t.Fatalf("%d texts found in the pages only", n)
	}
}
