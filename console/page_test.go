package console

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
)

// TestConsole_HTMX: what the build brings is what this version was written for,
// and nothing else under its name is served.
func TestConsole_HTMX(t *testing.T) {
	script, err := os.ReadFile("../scripts/htmx.sh")
	if err != nil {
		t.Fatal(err)
	}
	for name, sum := range scripts {
		if !bytes.Contains(script, []byte(sum+"  $dir/"+name)) {
			t.Errorf("scripts/htmx.sh and the console disagree about %s", name)
		}
	}
	if !bytes.Contains(script, []byte("version=4.0.1\n")) {
		t.Error("another version of htmx")
	}
	if !brought() {
		t.Error("htmx is not there or not the one expected: run scripts/htmx.sh")
	}
}

// TestConsole_Texts: every text that a page asks for is there in all languages,
// with the same arguments.
func TestConsole_Texts(t *testing.T) {
	verb := regexp.MustCompile(`%[a-z]`)
	for id, l := range texts {
		if l.en == "" || l.ja == "" || l.zh == "" {
			t.Errorf("%s lacks a language", id)
		}
		en := fmt.Sprint(verb.FindAllString(l.en, -1))
		if fmt.Sprint(verb.FindAllString(l.ja, -1)) != en || fmt.Sprint(verb.FindAllString(l.zh, -1)) != en {
			t.Errorf("%s: the arguments differ", id)
		}
	}
	asked := regexp.MustCompile(`\.(?:T|Many) "([a-z0-9_-]+)"`)
	many := regexp.MustCompile(`\.Many "([a-z0-9_-]+)"`)
	made := regexp.MustCompile(`\.T \(print "([a-z_]+)"`)
	names, err := fs.Glob(pageFiles, "pages/*.html")
	if err != nil || len(names) < 19 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		text, err := pageFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range asked.FindAllSubmatch(text, -1) {
			if _, ok := texts[string(m[1])]; !ok {
				t.Errorf("%s asks for %q", name, m[1])
			}
		}
		for _, m := range many.FindAllSubmatch(text, -1) {
			if _, ok := texts[string(m[1])+"_one"]; !ok {
				t.Errorf("%s asks for %q, which has no singular", name, m[1])
			}
		}
		for _, m := range made.FindAllSubmatch(text, -1) {
			found := false
			for id := range texts {
				found = found || strings.HasPrefix(id, string(m[1]))
			}
			if !found {
				t.Errorf("%s asks for texts that begin with %q", name, m[1])
			}
		}
	}
	for _, k := range kidoban.AlertKinds() {
		if texts["alert_"+string(k.Kind)].en == "" {
			t.Errorf("the alert %s has no title", k.Kind)
		}
	}
	for _, g := range navPages {
		for _, p := range append(g.pages, g.title) {
			if texts["title_"+p].en == "" && texts[p].en == "" {
				t.Errorf("the navigation lacks %s", p)
			}
		}
	}
}

// TestMeter_Measure: what each record counts as.
func TestMeter_Measure(t *testing.T) {
	for _, c := range []struct {
		r    gateway.Record
		want string
	}{
		{gateway.Record{Method: "tools/call", Decision: "allowed", Status: 200, Micros: 1500}, "calls 1"},
		{gateway.Record{Method: "tools/call", Decision: "refused", Status: 403}, "calls 1 refused 1"},
		{gateway.Record{Method: "tools/call", Decision: "refused", Status: 502}, "calls 1 failed 1"},
		{gateway.Record{Method: "auth:register", Decision: "ok"}, "registrations 1"},
		{gateway.Record{Method: "auth:register", Decision: "refused"}, "refused 1"},
		{gateway.Record{Method: "auth:consent", Decision: "ok"}, "consents 1"},
		{gateway.Record{Method: "alert", Decision: "alert"}, "alerts 1"},
		{gateway.Record{Method: "console:deny", Decision: "ok"}, ""},
	} {
		m, _ := measure(c.r)
		got := ""
		for _, x := range []struct {
			name string
			n    int64
		}{{"calls", m.Calls}, {"refused", m.Refused}, {"failed", m.Failed}, {"registrations", m.Registrations}, {"consents", m.Consents}, {"alerts", m.Alerts}} {
			if x.n > 0 {
				got = strings.TrimSpace(fmt.Sprintf("%s %s %d", got, x.name, x.n))
			}
		}
		if got != c.want {
			t.Errorf("%+v counts as %q, not %q", c.r, got, c.want)
		}
	}
	var m Meter
	for i := range 100 {
		one, _ := measure(gateway.Record{Method: "ping", Decision: "allowed", Micros: int64(i+1) * 1000})
		m.add(one)
	}
	if q := m.Quantile(0.5); q < 45_000 || q > 55_000 {
		t.Errorf("the median of 1…100 ms is %d µs", q)
	}
	if q := m.Quantile(0.95); q < 90_000 || q > 100_000 {
		t.Errorf("95 %% of 1…100 ms are within %d µs", q)
	}
}

// TestPlot: a chart is numbers and escaped words; values stay inside.
func TestPlot(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := plot{ID: "p", Title: `<script>"&`, Desc: "d", Format: func(f float64) string { return fmt.Sprint(f) }, Times: []time.Time{at, at.Add(time.Hour)}, Lines: []plotLine{{"l", []float64{0, 7}}}}
	want := `<polyline class="line s0" points="52.0,148.0 432.0,25.5 "/>`
	if s := string(p.SVG()); !strings.Contains(s, want) || strings.Contains(s, "<script>") || !strings.Contains(s, "&lt;script&gt;&#34;&amp;") {
		t.Error(s)
	}
}

// FuzzReadPlace: no address makes a place that cannot be written again.
func FuzzReadPlace(f *testing.F) {
	for _, s := range []string{"", "1.a", "1732000000000.12 chain", "-1.x", "x", "9223372036854775807.k"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := readPlace(s)
		if again := readPlace(p.String()); !p.At.IsZero() && (again != p || !again.At.Equal(p.At)) {
			t.Errorf("%q: %v %v", s, p, again)
		}
	})
}
