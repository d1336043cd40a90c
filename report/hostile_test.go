package report

import (
	"encoding/xml"
	"io"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/charmbracelet/lipgloss"

	"github.com/kidoban/kidoban"
)

// nasty is what a target may write anywhere.
var nasty = []string{
	"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "</style><script>alert(1)</script>", "</title><b>", "javascript:alert(1)",
	"\x1b[2J\x1b[31mred\x1b]8;;http://evil.invalid\x07link\x1b]8;;\x07", "\u202eelgoog\u202c", "a\u200b\u200d\ufeffb", "z\u0337\u0338\u0339\u033a\u033b",
	"\xff\xfe\x00\x01", "line\r\nSet-Cookie: x", "`; rm -rf / #", "$(touch pwned)", "'; touch pwned; '", `"$HOME"`, "\x00HOME\x00", "%s%n{{.}}", "@everyone #1 [x](http://evil.invalid) |",
	strings.Repeat("A", 1<<20), strings.Repeat("\u202e", 1<<18), strings.Repeat("<", 1<<20), "]]>", "\U000e0041\U000e0042",
}

// hostile is the sample with every string of the target replaced.
func hostile() Input {
	in := sample()
	n := 0
	bad := func() string { n++; return nasty[n%len(nasty)] }
	r := &in.Run
	r.Target.URL, r.Target.Issuer, r.Target.Software, r.Target.Detail, r.Target.MovedTo, r.Target.Class = bad(), bad(), bad(), bad(), bad(), bad()
	r.Target.Versions, r.Target.Upstreams = nasty, nasty
	r.Grade.Caps = nasty
	for i := range r.Results {
		x := &r.Results[i]
		x.Summary, x.Fix, x.Detail, x.Norms = bad(), bad(), bad(), []string{bad(), bad()}
		if x.Suppressed != "" {
			x.Suppressed = bad()
		}
	}
	for i := range r.Chains {
		c := &r.Chains[i]
		c.ID, c.Title, c.Break, c.Effort, c.Explain = bad(), bad(), bad(), bad(), bad()
		for j := range c.Hops {
			c.Hops[j].Text, c.Hops[j].Check = bad(), bad()
		}
		c.Hops[0].From = bad()
	}
	r.Residue.LeftBehind = append(r.Residue.LeftBehind, kidoban.LeftOver{Kind: bad(), Issuer: bad(), ClientID: bad(), Reason: bad(), Expires: bad()})
	r.Meta.Authorized, r.Meta.RunID, r.Meta.Hosts = bad(), bad(), nasty
	for i := range r.Meta.Metadata {
		r.Meta.Metadata[i].Body, r.Meta.Metadata[i].URL, r.Meta.Metadata[i].Kind = bad(), bad(), bad()
	}
	for i := range in.Exchanges {
		x := &in.Exchanges[i]
		x.Probe, x.Note, x.Err, x.Jar = bad(), bad(), bad(), bad()
		x.Request.URL, x.Request.Target = bad(), bad()
		x.Request.Body = []byte(bad())
		x.Request.Header = append(x.Request.Header, kidoban.Field{Name: bad(), Value: bad()})
		x.Response.Header = append(x.Response.Header, kidoban.Field{Name: bad(), Value: bad()}, kidoban.Field{Name: "Location", Value: bad()})
		x.Response.Body = []byte(bad())
	}
	return in
}

// formats are all the writers under one signature.
func formats(in Input) map[string]func(io.Writer) error {
	return map[string]func(io.Writer) error{
		"terminal": func(w io.Writer) error { return Terminal{}.Write(w, in) },
		"html":     func(w io.Writer) error { return HTML(w, in) },
		"json":     func(w io.Writer) error { return JSON(w, in.Run) },
		"sarif":    func(w io.Writer) error { return SARIF(w, in) },
		"junit":    func(w io.Writer) error { return JUnit(w, in, kidoban.High) },
		"markdown": func(w io.Writer) error { return Markdown(w, in) },
		"badge":    func(w io.Writer) error { return Badge(w, in.Run) },
	}
}

// TestHostileStringsInEveryField holds every format to its bounds and to showing
// nothing that could act.
func TestHostileStringsInEveryField(t *testing.T) {
	limit := map[string]int{"terminal": 40 * 400, "html": 6 << 20, "sarif": 1 << 20, "junit": 4 << 20, "markdown": 65536, "badge": 2000}
	for name, f := range formats(hostile()) {
		out := string(write(t, f))
		if l, ok := limit[name]; ok && len(out) > l {
			t.Errorf("%s: %d bytes, at most %d wanted", name, len(out), l)
		}
		if name == "json" {
			continue // data for machines; JSON escapes by itself
		}
		if !utf8.ValidString(out) {
			t.Errorf("%s: not UTF-8", name)
		}
		for _, r := range out {
			if r != '\n' && hidden(r) {
				t.Errorf("%s: holds %U raw", name, r)
				break
			}
		}
		if (name == "html" || name == "badge" || name == "junit") && strings.Contains(strings.ToLower(out), "<script") {
			t.Errorf("%s: holds a script element", name)
		}
	}
}

func TestTerminalStaysInItsFrame(t *testing.T) {
	many := sample()
	for i := range many.Run.Results {
		many.Run.Results[i].Outcome = kidoban.Fail
	}
	for range 5 {
		many.Run.Chains = append(many.Run.Chains, many.Run.Chains[0])
	}
	for name, in := range map[string]Input{"sample": sample(), "hostile": hostile(), "many": many, "empty": {}} {
		for _, width := range []int{0, 40, 60, 80, 200} {
			for _, colour := range []bool{false, true} {
				out := string(write(t, func(w io.Writer) error { return Terminal{Width: width, Colour: colour}.Write(w, in) }))
				if !colour && strings.Contains(out, "\x1b") {
					t.Errorf("%s: colour without being asked", name)
				}
				lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
				if len(lines) > maxLines {
					t.Errorf("%s at %d: %d lines", name, width, len(lines))
				}
				frame := max(width, 60)
				if width == 0 {
					frame = 100
				}
				for _, l := range lines {
					if w := lipgloss.Width(l); w > frame {
						t.Errorf("%s at %d: a line of %d cells: %q", name, width, w, l)
					}
				}
			}
		}
	}
}

// TestTerminalTellsWhatBracketsMean: a good mark for the little that was decided is
// not taken for a good mark.
func TestTerminalTellsWhatBracketsMean(t *testing.T) {
	in := sample()
	for _, c := range []struct {
		g    kidoban.Grade
		says bool
	}{
		{kidoban.Grade{Letter: "A", Bracketed: true}, true}, {kidoban.Grade{Letter: "A"}, false},
		{kidoban.Grade{Letter: "D", Bracketed: true, Caps: []string{"D: F1+F6"}}, false}, // what capped it says more
	} {
		in.Run.Grade = c.g
		out := string(write(t, func(w io.Writer) error { return Terminal{Width: 100}.Write(w, in) }))
		if strings.Contains(out, "less than 60 % was decided") != c.says {
			t.Errorf("%+v:\n%s", c.g, out)
		}
	}
}

// TestRevealShowsEverything: what is left out of a text is said, and what is
// shown can be seen.
func TestRevealShowsEverything(t *testing.T) {
	for in, want := range map[string]string{
		"plain – text": "plain – text", "a\u202eb": `a\u{202e}b`, "\x1b[31m": `\x1b[31m`, "a\nb\tc\r": `a\nb\tc\r`, "\xff": `\xff`,
		"café": "café", "日本": "日本", "a\u00a0b": `a\u{00a0}b`, "\u3164": `\u{3164}`, "👍": "👍", "e\u0301": "e\u0301",
	} {
		if got := Clean(in, 100); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		n := rapid.IntRange(1, 50).Draw(t, "n")
		out := Clean(s, n)
		if !utf8.ValidString(out) {
			t.Fatalf("not UTF-8: %q", out)
		}
		for _, r := range out {
			if hidden(r) {
				t.Fatalf("%U is shown raw in %q", r, out)
			}
		}
	})
}

// TestCurlIsOneSafeShellWord runs what Curl wrote through a real shell with a
// stand-in for curl that prints its arguments.
func TestCurlIsOneSafeShellWord(t *testing.T) {
	shell, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		evil := rapid.OneOf(rapid.String(), rapid.SampledFrom(nasty[:len(nasty)-5])).Draw(rt, "evil")
		if len(evil) > 4000 {
			evil = evil[:4000]
		}
		x := kidoban.Exchange{Request: kidoban.Request{Method: "POST", URL: "https://mcp.example.com/" + evil + "?code=abc&q=" + evil, Body: []byte(evil),
			Header: kidoban.Fields{{Name: "X-Y", Value: evil}, {Name: "Authorization", Value: "Bearer secret-token-value"}}}}
		line := Curl(x)
		if strings.ContainsAny(line, "\n\r\x1b\x00") {
			rt.Fatalf("more than a line: %q", line)
		}
		if strings.Contains(line, "secret-token-value") || strings.Contains(line, "code=abc") {
			rt.Fatalf("a secret stands in %q", line)
		}
		cmd := exec.Command(shell, "--norc", "-c", `curl() { printf '%s\0' "$@"; }; `+line)
		cmd.Env = []string{"HOME=/leak/leak", "AUTHORIZATION=A", "CODE=C"}
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if err != nil {
			rt.Fatalf("%v: %s\n%s", err, out, line)
		}
		args := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		if strings.Contains(string(out), "/leak/leak") {
			rt.Fatalf("a variable of the reader's was expanded: %q", line)
		}
		if n := len(args); !strings.HasPrefix(args[n-1], "https://mcp.example.com/") {
			rt.Fatalf("the address is not the last argument: %q from %q", args, line)
		}
		want := "X-Y: " + strings.ReplaceAll(evil, "\x00", "%00")
		found := false
		for _, a := range args {
			found = found || a == want
		}
		if !found && !strings.Contains(evil, "…") {
			rt.Fatalf("the header did not survive: %q in %q", want, args)
		}
	})
}

func TestCurlReplacesSecrets(t *testing.T) {
	for _, c := range []struct{ in, not, want string }{
		{"https://a/t?access_token=abc.def&x=1", "abc.def", `"$ACCESS_TOKEN"`},
		{"https://a/t?x=abc123…sha256:0badf00d&y=2", "sha256", `"$SECRET"`},
		{"https://a/t?x=abc123%E2%80%A6sha256%3A0badf00d&y=2", "sha256", `"$SECRET"`},
		{"https://a/t?x=%E2%80%A6redacted", "redacted", `"$SECRET"`},
	} {
		got := Curl(kidoban.Exchange{Request: kidoban.Request{Method: "GET", URL: c.in}})
		if strings.Contains(got, c.not) || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s", c.in, got)
		}
	}
}

// TestMarkdownCannotMentionOrLink looks at what GitHub would act on.
func TestMarkdownCannotMentionOrLink(t *testing.T) {
	out := string(write(t, func(w io.Writer) error { return Markdown(w, hostile()) }))
	inCode := false
	for i := 0; i < len(out); i++ {
		switch {
		case out[i] == '`':
			inCode = !inCode
		case out[i] == '\n':
			if inCode {
				t.Fatalf("code runs over the end of a line: …%s", out[max(0, i-80):i])
			}
		case inCode:
		case out[i] == '@', strings.HasPrefix(out[i:], "]("), strings.HasPrefix(out[i:], "://"), strings.HasPrefix(out[i:], "<img"):
			t.Errorf("outside of code: %s", out[max(0, i-40):min(len(out), i+40)])
		}
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "| fail") && strings.Count(line, "|") != 6 {
			t.Errorf("target text broke a table row: %s", line)
		}
	}
}

// TestJUnitIsXML reads the hostile output back with a strict parser.
func TestJUnitIsXML(t *testing.T) {
	for name, in := range map[string]Input{"sample": sample(), "hostile": hostile()} {
		out := write(t, func(w io.Writer) error { return JUnit(w, in, kidoban.High) })
		var back junitSuites
		if err := xml.Unmarshal(out, &back); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		failures := len(Failing(in.Run, kidoban.High, nil))
		if back.Tests != len(in.Run.Results) || back.Failures != failures || len(back.Suite.Cases) != back.Tests {
			t.Errorf("%s: %d cases, %d failures; want %d and %d", name, back.Tests, back.Failures, len(in.Run.Results), failures)
		}
	}
}
