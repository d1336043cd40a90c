package census

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/kidoban/kidoban"
)

// table is a titled list of shares.
type table struct {
	Title string
	Of    string // what the shares are of
	Rows  []Row
}

func (s *Stats) tables() []table {
	return []table{
		{"Authentication of MCP servers", "servers without, with OAuth, or with a static credential", s.Auth},
		{"All targets by class", "targets", s.Classes},
		{"OAuth servers", "OAuth servers", s.OAuth},
		{"Flaws that reading alone shows", "OAuth servers", s.Flaws},
		{"By category of the study", "OAuth servers", s.Groups},
		{"The same, counted once an authorization server", "authorization servers", s.Clusters},
	}
}

type ranking struct {
	Title string
	Rows  []Count
}

func (s *Stats) rankings() []ranking {
	return []ranking{{"Why", s.Reasons}, {"Era", s.Eras}, {"Transport", s.Carriers}, {"Software", s.Software}, {"Authorization servers with most servers", s.Issuers}, {"Certificate keys of several servers", s.Keys}}
}

func percent(f float64) string { return fmt.Sprintf("%.2f %%", 100*f) }

func (i Interval) String() string {
	return fmt.Sprintf("%d of %d: %s (%.1f–%.1f)", i.Count, i.Of, percent(i.Share), 100*i.Low, 100*i.High)
}

// plain removes what would act on a terminal or break a line: names of servers
// are written by strangers.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}

// thousands writes a count as the study does: 7,973.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// words makes a check's slug readable.
func words(slug string) string {
	w := strings.Split(slug, "-")
	for i, x := range w {
		switch x {
		case "as", "prm", "pkce", "cimd", "s256", "json", "iss", "dcr", "uri", "https", "tls":
			w[i] = strings.ToUpper(x)
		}
	}
	return strings.Join(w, " ")
}

// String says what a cluster is in one line.
func (c Cluster) String() string {
	return fmt.Sprintf("%s in %s; %s theirs, the largest has %d", kidoban.Count(c.Servers, "server", "servers"), kidoban.Count(c.Clusters, "cluster", "clusters"), kidoban.Count(c.Shared, "shares", "share"), c.Largest)
}

// headline says how much there was.
func headline(s *Stats) string {
	return fmt.Sprintf("%s on %s, %s, %s, %s", kidoban.Count(s.Targets, "target", "targets"), kidoban.Count(s.Hosts, "host", "hosts"), kidoban.Count(s.Live, "MCP server", "MCP servers"),
		kidoban.Count(s.Distinct, "distinct deployment", "distinct deployments"), kidoban.Count(s.Requests, "request", "requests"))
}

// WriteText prints the tables for a terminal.
func (s *Stats) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", headline(s))
	fmt.Fprintf(&b, "\nFrom candidates to servers\n")
	for _, c := range s.Funnel {
		fmt.Fprintf(&b, "  %-48s %9d\n", c.Word, c.N)
	}
	for _, a := range s.Sources {
		fmt.Fprintf(&b, "\nCandidates from %s (%s; %s, of them empty or comments %d)\n  %-48s %9d\n", plain(a.Source), kidoban.Count(a.Entries, "entry", "entries"), kidoban.Count(a.Lines, "line", "lines"), a.Blank, "new targets", a.Targets)
		for _, k := range slices.Sorted(maps.Keys(a.Rejected)) {
			fmt.Fprintf(&b, "  %-48s %9d\n", k, a.Rejected[k])
		}
	}
	for _, t := range s.tables() {
		if len(t.Rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s (share of %s, 95 %% interval)\n", t.Title, t.Of)
		for _, r := range t.Rows {
			fmt.Fprintf(&b, "  %-48s %-36s %s\n", r.title(), r.Here, r.Study)
		}
	}
	fmt.Fprintf(&b, "\nServers that share a mark\n")
	for _, c := range s.Deployments {
		fmt.Fprintf(&b, "  %-42s %s\n", c.By, c)
	}
	for _, t := range s.rankings() {
		if len(t.Rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", t.Title)
		for _, r := range t.Rows {
			fmt.Fprintf(&b, "  %-42s %8d\n", plain(r.Word), r.N)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Coded tells whether the row is about a check of the catalogue.
func (r Row) Coded() bool { return strings.ContainsRune(r.Key, '-') && r.Key[0] < 'a' }

// title is the row's label, with the key of the check before it.
func (r Row) title() string {
	if r.Coded() {
		return r.Key + " " + r.Label
	}
	return r.Label
}

// WriteMarkdown prints the tables as Markdown.
func (s *Stats) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Census of MCP servers\n\n%s.\n", headline(s))
	fmt.Fprintf(&b, "\n## From candidates to servers\n\n| | |\n|---|---:|\n")
	for _, c := range s.Funnel {
		fmt.Fprintf(&b, "| %s | %d |\n", c.Word, c.N)
	}
	for _, t := range s.tables() {
		fmt.Fprintf(&b, "\n## %s\n\n| | here, share of %s | 95 %% interval | the study |\n|---|---:|---:|---|\n", t.Title, t.Of)
		for _, r := range t.Rows {
			fmt.Fprintf(&b, "| %s | %d of %d: %s | %.1f–%.1f %% | %s |\n", r.title(), r.Here.Count, r.Here.Of, percent(r.Here.Share), 100*r.Here.Low, 100*r.Here.High, r.Study)
		}
	}
	fmt.Fprintf(&b, "\n## Servers that share a mark\n\n| mark | servers | clusters | servers that share | largest |\n|---|---:|---:|---:|---:|\n")
	for _, c := range s.Deployments {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |\n", c.By, c.Servers, c.Clusters, c.Shared, c.Largest)
	}
	for _, t := range s.rankings() {
		fmt.Fprintf(&b, "\n## %s\n\n| | |\n|---|---:|\n", t.Title)
		for _, r := range t.Rows {
			fmt.Fprintf(&b, "| %s | %d |\n", inMarkdown(r.Word), r.N)
		}
	}
	for _, a := range s.Sources {
		fmt.Fprintf(&b, "\n## Candidates from %s\n\n| | |\n|---|---:|\n| empty lines and comments | %d |\n| entries | %d |\n| new targets | %d |\n", inMarkdown(a.Source), a.Blank, a.Entries, a.Targets)
		for _, k := range slices.Sorted(maps.Keys(a.Rejected)) {
			fmt.Fprintf(&b, "| %s | %d |\n", k, a.Rejected[k])
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// inMarkdown makes a stranger's text harmless in a table: no markup, no line end.
func inMarkdown(s string) string {
	var b strings.Builder
	for _, r := range plain(s) {
		if strings.ContainsRune("\\`*_{}[]()<>#+!|~&@:", r) {
			fmt.Fprintf(&b, "&#%d;", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// WriteCSV prints every table as one CSV: table, key, label, count, of, share, low, high, study.
func (s *Stats) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	c.Write([]string{"table", "key", "label", "count", "of", "share", "low", "high", "study"})
	number := func(f float64) string { return fmt.Sprintf("%.6f", f) }
	for _, f := range s.Funnel {
		c.Write([]string{"From candidates to servers", f.Word, "", fmt.Sprint(f.N), "", "", "", "", ""})
	}
	for _, a := range s.Sources {
		for _, k := range slices.Sorted(maps.Keys(a.Rejected)) {
			c.Write([]string{"Candidates from " + plain(a.Source), k, "", fmt.Sprint(a.Rejected[k]), fmt.Sprint(a.Entries), "", "", "", ""})
		}
	}
	for _, t := range s.tables() {
		for _, r := range t.Rows {
			c.Write([]string{t.Title, r.Key, r.Label, fmt.Sprint(r.Here.Count), fmt.Sprint(r.Here.Of), number(r.Here.Share), number(r.Here.Low), number(r.Here.High), r.Study})
		}
	}
	for _, d := range s.Deployments {
		c.Write([]string{"Servers that share a mark", d.By, "clusters", fmt.Sprint(d.Clusters), fmt.Sprint(d.Servers), "", "", "", ""})
	}
	for _, t := range s.rankings() {
		for _, r := range t.Rows {
			word := plain(r.Word)
			if strings.ContainsRune("=+-@", []rune(word + " ")[0]) {
				word = "'" + word // no spreadsheet shall take it for a formula
			}
			c.Write([]string{t.Title, word, "", fmt.Sprint(r.N), "", "", "", "", ""})
		}
	}
	c.Flush()
	return c.Error()
}
