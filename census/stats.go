package census

import (
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
)

// Interval is a share with its 95 % confidence interval (Wilson, 1927), which
// stays inside 0 and 1 and is honest for small counts.
type Interval struct {
	Count int     `json:"count"`
	Of    int     `json:"of"`
	Share float64 `json:"share"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Wilson computes the interval of count among of.
func Wilson(count, of int) Interval {
	i := Interval{Count: count, Of: of}
	if of == 0 {
		return i
	}
	const z = 1.959963984540054
	n, p := float64(of), float64(count)/float64(of)
	center, spread := p+z*z/(2*n), z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	i.Share = p
	i.Low, i.High = max(0, (center-spread)/(1+z*z/n)), min(1, (center+spread)/(1+z*z/n))
	return i
}

// Row is one line of a table: a measured share beside the study's, where the
// study has one.
type Row struct {
	Key   string   `json:"key"`
	Label string   `json:"label"`
	Here  Interval `json:"here"`
	Study string   `json:"study,omitempty"` // as printed there; "" where it says nothing
	Share float64  `json:"study_share,omitempty"`
}

// Count is a word and how often it occurred.
type Count struct {
	Word string `json:"word"`
	N    int    `json:"n"`
}

// Stats are the tables of a census.
type Stats struct {
	Targets  int     `json:"targets"`
	Live     int     `json:"live"`
	Hosts    int     `json:"hosts"`
	Funnel   []Count `json:"funnel"`     // candidates → targets → answering → MCP → the three kinds
	Classes  []Row   `json:"classes"`    // all classes, of the targets
	Auth     []Row   `json:"auth"`       // the study's table: of the live servers that it counts
	OAuth    []Row   `json:"oauth"`      // properties of the OAuth servers
	Flaws    []Row   `json:"flaws"`      // of the OAuth servers
	Groups   []Row   `json:"categories"` // servers with at least one of a category's flaws
	Clusters []Row   `json:"clusters"`   // the same rates counted once an issuer
	Reasons  []Count `json:"reasons"`
	Eras     []Count `json:"eras"`
	Carriers []Count `json:"transports"`
	Software []Count `json:"software"`
	Issuers  []Count `json:"issuers"`
	Distinct int     `json:"distinct"` // deployments after de-duplication by certificate key, issuer, software and tools
	Requests int     `json:"requests"`

	Sources []Accounting `json:"sources"`
}

// tally is what one pass over the results counts.
type tally struct {
	class, reason, era, carrier, software, issuer, flag, flaw, group map[string]int
	category                                                         map[string]string // of each flaw of the catalogue
	oauth, delegated, upstream                                       int
	hosts, distinct                                                  map[string]bool
	cluster                                                          map[string]map[string]bool // issuer → flaws
}

// Summarize computes the tables of a census. Memory grows with the number of
// hosts and issuers, not with what is stored about them.
func Summarize(ctx context.Context, store Store, run string, sources []Accounting) (*Stats, error) {
	t := tally{class: map[string]int{}, reason: map[string]int{}, era: map[string]int{}, carrier: map[string]int{}, software: map[string]int{},
		issuer: map[string]int{}, flag: map[string]int{}, flaw: map[string]int{}, group: map[string]int{}, hosts: map[string]bool{}, distinct: map[string]bool{}, cluster: map[string]map[string]bool{}}
	t.category = map[string]string{}
	for _, f := range kidoban.Flaws() {
		t.category[f.ID] = f.Category
	}
	s := &Stats{Sources: sources}
	err := store.CensusResults(ctx, run, func(o Outcome) error {
		var r Result
		var n Times
		if json.Unmarshal(o.Result, &r) != nil || json.Unmarshal(o.Times, &n) != nil {
			return kidoban.Errorf(kidoban.KindInput, "the stored result of %s cannot be read", o.URL)
		}
		s.Targets++
		s.Requests += n.Requests
		t.add(r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.tables(s)
	return s, nil
}

func (t *tally) add(r Result) {
	t.class[r.Class]++
	t.hosts[r.Host] = true
	if r.Reason != "" {
		t.reason[r.Class+": "+r.Reason]++
	}
	if !isLive(r.Class) {
		return
	}
	count(t.era, r.Era)
	count(t.carrier, r.Transport)
	name, _, _ := strings.Cut(r.Software, " ")
	count(t.software, name)
	// A deployment without any mark of its own stands for itself.
	mark := strings.Join([]string{r.Listener, r.Issuer, r.Software, r.ToolsHash}, "\x00")
	if r.ToolsHash == "" && r.Listener == "" {
		mark = r.URL
	}
	t.distinct[mark] = true
	if r.Class != string(audit.OAuth) {
		return
	}
	t.oauth++
	count(t.issuer, r.Issuer)
	for _, f := range r.Flags {
		t.flag[f]++
	}
	if r.Delegated {
		t.delegated++
	}
	if r.Upstream != "" {
		t.upstream++
	}
	seen := t.cluster[cmp.Or(r.Issuer, r.URL)]
	if seen == nil {
		seen = map[string]bool{}
		t.cluster[cmp.Or(r.Issuer, r.URL)] = seen
	}
	groups := map[string]bool{}
	for _, k := range r.Flaws {
		t.flaw[k]++
		seen[k] = true
		id, _, _ := strings.Cut(k, "-")
		groups[t.category[id]] = true
	}
	for g := range groups {
		t.group[g]++
	}
}

func count(m map[string]int, word string) {
	if word != "" {
		m[word]++
	}
}

// isLive tells the classes that are MCP servers.
func isLive(class string) bool {
	switch audit.Class(class) {
	case audit.NoAuthFull, audit.NoAuthList, audit.HandshakeOnly, audit.OAuth, audit.Static, audit.OtherAuth:
		return true
	}
	return false
}

// classNames are the classes in the order of the tables.
var classNames = [...]struct{ key, label string }{
	{string(audit.NoAuthList), "no authentication (tools listed to anyone)"}, {string(audit.OAuth), "OAuth"}, {string(audit.Static), "static token or API key"},
	{string(audit.HandshakeOnly), "handshake open, tools refused"}, {string(audit.OtherAuth), "other authentication or a firewall"},
	{string(audit.NotMCP), "not an MCP server"}, {string(audit.Dead), "no answer"}, {string(audit.Unstable), "unstable"}, {string(Skipped), "not asked"},
}

// The study's figures (arXiv 2605, section 3): 28,715 candidates, 7,973 live.
const studyOAuth, studyLive = 2428, 7973

func (t *tally) tables(s *Stats) {
	for _, c := range classNames {
		s.Classes = append(s.Classes, Row{Key: c.key, Label: c.label, Here: Wilson(t.class[c.key], s.Targets)})
		if isLive(c.key) {
			s.Live += t.class[c.key]
		}
	}
	none, oauth, static := t.class[string(audit.NoAuthList)], t.oauth, t.class[string(audit.Static)]
	of := none + oauth + static
	s.Auth = []Row{
		{"none", "none (tools exposed)", Wilson(none, of), "3,233 of 7,973: 40.55 %", 3233.0 / studyLive},
		{"oauth", "OAuth-based", Wilson(oauth, of), "2,428 of 7,973: 30.45 %", 2428.0 / studyLive},
		{"static", "static token or API key", Wilson(static, of), "2,312 of 7,973: 29.00 %", 2312.0 / studyLive},
	}
	s.OAuth = []Row{
		{"dcr", "dynamic registration advertised", Wilson(t.flag["dcr"], oauth), "1,118 of 2,428: 46.0 %", 1118.0 / studyOAuth},
		{"cimd", "client metadata documents", Wilson(t.flag["cimd"], oauth), "", 0},
		{"prereg_only", "pre-registered clients only", Wilson(t.flag["prereg_only"], oauth), "", 0},
		{"prm", "protected resource metadata", Wilson(t.flag["prm"], oauth), "", 0},
		{"as_same_origin", "authorization server on the same origin", Wilson(t.flag["as_same_origin"], oauth), "", 0},
		{"upstream", "sends strangers to an upstream", Wilson(t.upstream, oauth), "", 0},
		{"delegated", "delegated authorization seen", Wilson(t.delegated, oauth), "81 of 119 tested: 68.07 %", 81.0 / 119},
	}
	study := map[string]string{"F3-a": "F3: 12 of 119 tested", "F4-0": "F4: 7 of 119 tested", "F5-e": "F5: 81 of 119 tested (active)", "F8-a": "F8: 3 of 119 tested"}
	perIssuer := map[string]int{}
	for _, seen := range t.cluster {
		for k := range seen {
			perIssuer[k]++
		}
	}
	for _, c := range kidoban.Checks() {
		if n := t.flaw[c.Key()]; n > 0 {
			s.Flaws = append(s.Flaws, Row{c.Key(), c.Slug, Wilson(n, oauth), study[c.Key()], 0})
			s.Clusters = append(s.Clusters, Row{c.Key(), c.Slug, Wilson(perIssuer[c.Key()], len(t.cluster)), "", 0})
		}
	}
	for _, g := range []struct{ key, label, study string }{
		{"C2", "delegated flows (F3, F4)", "18 of 119 tested: 15.1 %"}, {"C3", "open clients (of F5, F6 only F5-e)", "102 of 119 tested: 85.7 %"},
		{"C4", "common OAuth (of F7 to F9 only F8)", "34 of 119 tested: 28.6 %"}, {"META", "metadata (E10, E11)", ""}} {
		s.Groups = append(s.Groups, Row{g.key, g.label, Wilson(t.group[g.key], oauth), g.study, 0})
	}
	s.Hosts, s.Distinct = len(t.hosts), len(t.distinct)
	s.Reasons, s.Eras, s.Carriers = ranked(t.reason, 40), ranked(t.era, 10), ranked(t.carrier, 10)
	s.Software, s.Issuers = ranked(t.software, 20), ranked(t.issuer, 20)
	entries := s.Targets
	if len(s.Sources) > 0 {
		entries = 0
		for _, a := range s.Sources {
			entries += a.Entries
		}
	}
	s.Funnel = []Count{{"candidates", entries}, {"targets", s.Targets},
		{"answering", s.Targets - t.class[string(audit.Dead)] - t.class[string(Skipped)]}, {"MCP servers", s.Live}, {"OAuth", oauth}, {"with registration", t.flag["dcr"]}}
}

// ranked gives the most frequent words, at most n, ties in the order of the words.
func ranked(m map[string]int, n int) []Count {
	out := make([]Count, 0, len(m))
	for w, c := range m {
		out = append(out, Count{w, c})
	}
	slices.SortFunc(out, func(a, b Count) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Word, b.Word)) })
	return out[:min(n, len(out))]
}
