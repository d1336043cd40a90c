package census

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

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
	// There is the study's share with the interval that its own count gives.
	There *Interval `json:"study_interval,omitempty"`
}

// beside sets a measured share beside the study's, count among of.
func beside(key, label string, here Interval, count, of int, note string) Row {
	there := Wilson(count, of)
	return Row{key, label, here, fmt.Sprintf("%s of %s: %s%s", thousands(count), thousands(of), percent(there.Share), note), &there}
}

// ours is a row of which the study says nothing.
func ours(key, label string, here Interval) Row { return Row{Key: key, Label: label, Here: here} }

// Count is a word and how often it occurred.
type Count struct {
	Word string `json:"word"`
	N    int    `json:"n"`
}

// Cluster says how many servers share one mark.
type Cluster struct {
	By       string `json:"by"`
	Servers  int    `json:"servers"`  // that have the mark
	Clusters int    `json:"clusters"` // different values of it
	Shared   int    `json:"shared"`   // servers that share theirs with another one
	Largest  int    `json:"largest"`  // servers of the largest cluster
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
	Keys     []Count `json:"certificate_keys"`
	Distinct int     `json:"distinct"` // deployments after de-duplication by certificate key, issuer, software and tools
	Requests int     `json:"requests"`

	First time.Time `json:"first"` // when the first and the last target were measured
	Last  time.Time `json:"last"`

	Deployments []Cluster `json:"deployments"` // how many servers share a key, an issuer, software and tools, all of it

	Sources []Accounting `json:"sources"`
}

// tally is what one pass over the results counts.
type tally struct {
	class, reason, era, carrier, software, issuer, flag, flaw, group map[string]int
	category                                                         map[string]string // of each flaw of the catalogue
	oauth, delegated, upstream                                       int
	hosts                                                            map[string]bool
	marks                                                            [len(markNames)]map[mark]int
	key                                                              map[string]int             // short form of certificate keys
	cluster                                                          map[string]map[string]bool // issuer → flaws
}

// Summarize computes the tables of a census. Memory grows with the number of
// hosts and issuers, not with what is stored about them.
func Summarize(ctx context.Context, store Store, run string, sources []Accounting) (*Stats, error) {
	t := tally{class: map[string]int{}, reason: map[string]int{}, era: map[string]int{}, carrier: map[string]int{}, software: map[string]int{},
		issuer: map[string]int{}, flag: map[string]int{}, flaw: map[string]int{}, group: map[string]int{}, hosts: map[string]bool{}, key: map[string]int{}, cluster: map[string]map[string]bool{}}
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
		if n.Requests > 0 && (s.First.IsZero() || n.Finished.Before(s.First)) {
			s.First = n.Finished
		}
		if n.Finished.After(s.Last) {
			s.Last = n.Finished
		}
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
	t.mark(r)
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

// mark is a hash of what servers may share: fixed in size, however long the names
// that strangers give themselves.
type mark [12]byte

var markNames = [...]string{"certificate key", "authorization server", "software and tools", "all of these"}

// mark counts the server under each mark it has.
func (t *tally) mark(r Result) {
	tools := ""
	if r.ToolsHash != "" {
		tools = r.Software + "\x00" + r.ToolsHash
	}
	// A deployment without any mark of its own stands for itself.
	whole := strings.Join([]string{r.Listener, r.Issuer, r.Software, r.ToolsHash}, "\x00")
	if r.ToolsHash == "" && r.Listener == "" {
		whole = r.URL
	}
	for i, v := range [...]string{r.Listener, r.Issuer, tools, whole} {
		if v == "" {
			continue
		}
		if t.marks[i] == nil {
			t.marks[i] = map[mark]int{}
		}
		h := sha256.Sum256([]byte(v))
		t.marks[i][mark(h[:len(mark{})])]++
	}
	if len(r.Listener) >= 16 {
		t.key[r.Listener[:16]]++
	}
}

// clusters tells how many servers share each mark.
func (t *tally) clusters() (out []Cluster) {
	for i, m := range t.marks {
		c := Cluster{By: markNames[i], Clusters: len(m)}
		for _, n := range m {
			c.Servers, c.Largest = c.Servers+n, max(c.Largest, n)
			if n > 1 {
				c.Shared += n
			}
		}
		if c.Servers > 0 {
			out = append(out, c)
		}
	}
	return out
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
	{string(audit.NotMCP), "not an MCP server"}, {string(audit.Dead), "no answer"}, {string(audit.Unstable), "unstable: limits, outages, failures"}, {string(Skipped), "not asked"},
}

// The study's figures (arXiv 2605, section 3): 28,715 candidates, 7,973 live.
const studyOAuth, studyLive, studyTested = 2428, 7973, 119

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
		beside("none", "none (tools exposed)", Wilson(none, of), 3233, studyLive, ""),
		beside("oauth", "OAuth-based", Wilson(oauth, of), studyOAuth, studyLive, ""),
		beside("static", "static token or API key", Wilson(static, of), 2312, studyLive, ""),
	}
	s.OAuth = []Row{
		beside("dcr", "dynamic registration advertised", Wilson(t.flag["dcr"], oauth), 1118, studyOAuth, ""),
		ours("cimd", "client metadata documents", Wilson(t.flag["cimd"], oauth)),
		ours("prereg_only", "pre-registered clients only", Wilson(t.flag["prereg_only"], oauth)),
		ours("prm", "protected resource metadata", Wilson(t.flag["prm"], oauth)),
		ours("as_same_origin", "authorization server on the same origin", Wilson(t.flag["as_same_origin"], oauth)),
		ours("upstream", "sends strangers to an upstream", Wilson(t.upstream, oauth)),
		beside("delegated", "delegated authorization seen", Wilson(t.delegated, oauth), 81, studyTested, " of those tested"),
	}
	study := map[string]struct {
		count int
		note  string
	}{"F3-a": {12, " for F3"}, "F4-0": {7, " for F4"}, "F5-e": {81, " for F5, active"}, "F8-a": {3, " for F8"}}
	perIssuer := map[string]int{}
	for _, seen := range t.cluster {
		for k := range seen {
			perIssuer[k]++
		}
	}
	for _, c := range kidoban.Checks() {
		n := t.flaw[c.Key()]
		if n == 0 {
			continue
		}
		row := ours(c.Key(), words(c.Slug), Wilson(n, oauth))
		if there, ok := study[c.Key()]; ok {
			row = beside(c.Key(), words(c.Slug), row.Here, there.count, studyTested, there.note)
		}
		s.Flaws = append(s.Flaws, row)
		s.Clusters = append(s.Clusters, ours(c.Key(), words(c.Slug), Wilson(perIssuer[c.Key()], len(t.cluster))))
	}
	group := func(id string) Interval { return Wilson(t.group[id], oauth) }
	s.Groups = []Row{
		beside("C2", "delegated flows (F3, F4)", group("C2"), 18, studyTested, ""),
		beside("C3", "open clients (of F5, F6 only F5-e)", group("C3"), 102, studyTested, ""),
		beside("C4", "common OAuth (of F7 to F9 only F8)", group("C4"), 34, studyTested, ""),
		ours("META", "metadata (E10, E11)", group("META")),
	}
	s.Hosts, s.Distinct, s.Deployments = len(t.hosts), len(t.marks[len(t.marks)-1]), t.clusters()
	maps.DeleteFunc(t.key, func(_ string, n int) bool { return n == 1 })
	s.Keys = ranked(t.key, 10)
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
