package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"

	"github.com/kidoban/kidoban"
)

//go:embed report.html.tmpl
var htmlTemplate string

//go:embed report.css
var htmlStyle string

// Bounds of the HTML file: rows in the log, exchanges shown whole.
const (
	maxLogRows   = 600
	maxExchanges = 200
)

// HTML writes one self-contained file: no script, no address it would load
// anything from, and a policy that forbids both.
func HTML(w io.Writer, in Input) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"t": func(s string) template.HTML { return markup(s, nil) },
		"p": prose,
	}).Parse(htmlTemplate)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the template of the report is broken")
	}
	var b bytes.Buffer
	if err := t.Execute(&b, in.view()); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the report could not be written")
	}
	_, err = w.Write(b.Bytes())
	return err
}

func itoa(n int) string { return strconv.Itoa(n) }

func anchor(id int) string { return "#x" + itoa(id) }

type htmlView struct {
	Style      template.CSS
	Run        kidoban.Run
	Title      string
	Headline   string
	Letter     string // as shown
	GradeClass string // good, mid, bad, none
	Tiers      string
	Date       string
	Coverage   string
	Facts      []fact
	Chains     []chainView
	Bars       []barView
	Caps       []string
	Gains      []Gain
	Findings   []findingView
	Suppressed []findingView
	Gaps       []gapView
	Passed     []passed
	Docs       []docView
	Log        []logRow
	LogMore    int
	Exchanges  []exchangeView
	Left       []string
	Limits     []string
	Counts     Tally
}

type fact struct{ Name, Value string }

type chainView struct {
	kidoban.Chain
	Drawing drawing
	Fix     string // id to explain
	Proof   []string
}

type barView struct {
	Category
	Segments []segment
}

// segment is one coloured part of a bar, in percent of its width.
type segment struct {
	Class string
	X, W  float64
}

type findingView struct {
	kidoban.Result
	Key       string
	Name      string
	Question  string
	Why       string
	Control   *exchangeView
	Deciding  *exchangeView
	Others    []int
	SameAs    string // key of the finding above that tells norm and fix of this flaw
	NormTexts []Norm
	FixText   string
	Snippets  []Snippet
	Curl      string
	CWE       []int
}

type gapView struct {
	Outcome, Reason, Command string
	Checks                   []gapCheck
}

type gapCheck struct{ Key, Question string }

type passed struct {
	Name   string
	Checks []gapCheck
}

type docView struct {
	Title, URL, Href string
	Body             template.HTML
	Notes            []string
}

type logRow struct {
	ID                         int
	Href, Probe, Note, Request string
	Status                     string
	MS                         int64
}

func (in Input) view() htmlView {
	run := in.Run
	v := htmlView{
		Style: template.CSS(htmlStyle), // our own file
		Run:   run, Title: "Kidoban audit of " + Clean(run.Target.URL, maxURL), Headline: headline(run), Tiers: tiers(run.Meta), Coverage: coverageText(run),
		Date: Clean(run.Meta.Started, 40), Counts: Count(run.Results), Limits: Limits(), Gains: in.Gains(),
	}
	if len(v.Date) > 10 {
		v.Date = v.Date[:10]
	}
	v.GradeClass = "none"
	if run.Target.Headline == kidoban.HeadlineGraded {
		v.Letter = letter(run.Grade)
		v.GradeClass = gradeClass(run.Grade.Letter)
	} else if run.Target.Headline == kidoban.HeadlineOpen {
		v.Letter, v.GradeClass = "open", "bad"
	}
	v.Facts = facts(run)
	for _, c := range run.Grade.Caps {
		v.Caps = append(v.Caps, Clean(c, maxSummary))
	}
	for _, c := range Categories(run.Results) {
		v.Bars = append(v.Bars, barOf(c))
	}
	for _, c := range run.Chains {
		v.Chains = append(v.Chains, in.chainView(c))
	}
	told := map[string]string{}
	for _, r := range Findings(run.Results) {
		f := in.findingView(r)
		if f.SameAs = told[r.ID]; f.SameAs == "" {
			told[r.ID] = f.Key
		}
		v.Findings = append(v.Findings, f)
	}
	for _, r := range Suppressed(run.Results) {
		v.Suppressed = append(v.Suppressed, in.findingView(r))
	}
	v.Gaps = in.gapViews()
	v.Passed = in.passedViews()
	v.Docs = in.docViews()
	v.Log, v.LogMore = in.log()
	v.Exchanges = in.shown()
	for _, l := range run.Residue.LeftBehind {
		v.Left = append(v.Left, leftOver(l))
	}
	return v
}

func gradeClass(l string) string {
	switch {
	case strings.HasPrefix(l, "A"):
		return "good"
	case l == "B" || l == "C":
		return "mid"
	case l == "":
		return "none"
	}
	return "bad"
}

func facts(run kidoban.Run) []fact {
	var out []fact
	add := func(name, value string) {
		if value != "" {
			out = append(out, fact{name, value})
		}
	}
	add("Authorization server", run.Target.Issuer)
	add("Upstream", strings.Join(run.Target.Upstreams, ", "))
	add("MCP revisions", strings.Join(run.Target.Versions, ", "))
	add("Software (self-reported)", run.Target.Software)
	add("Tiers", tiers(run.Meta))
	add("Authorized by", run.Meta.Authorized)
	add("Started", run.Meta.Started)
	add("Requests", fmt.Sprintf("%d in %s", run.Requests, duration(run.DurationMS)))
	add("Tool", run.Meta.Tool)
	return out
}

func barOf(c Category) barView {
	b := barView{Category: c}
	total := c.Decided() + c.Undecided
	if total == 0 {
		return b
	}
	x := 0.0
	for _, s := range []struct {
		class string
		n     int
	}{{"pass", c.Pass}, {"weak", c.Weak}, {"fail", c.Fail}, {"sup", c.Sup}, {"open", c.Undecided}} {
		w := 100 * float64(s.n) / float64(total)
		if s.n > 0 {
			b.Segments = append(b.Segments, segment{s.class, x, w})
		}
		x += w
	}
	return b
}

func (in Input) chainView(c kidoban.Chain) chainView {
	v := chainView{Chain: c, Drawing: draw(c, in.has)}
	v.Fix = explains(c)
	if isName(c.Explain) {
		v.Explain = "" // a name, not prose
	}
	for _, h := range c.Hops {
		word := "follows from the others"
		if h.Check != "" {
			word = h.Check
			for _, r := range in.Run.Results {
				if r.Key() == h.Check && r.Evidence != "" {
					word += ", " + string(r.Evidence)
				}
			}
		}
		v.Proof = append(v.Proof, Clean(word, 40))
	}
	return v
}

func (in Input) findingView(r kidoban.Result) findingView {
	f, _ := kidoban.FlawByID(r.ID)
	p := in.page(r.ID)
	v := findingView{Result: r, Key: r.Key(), Name: f.Name, CWE: f.CWE, Question: p.Questions[r.Key()], Why: p.Summary, FixText: p.Fix}
	for _, s := range p.Snippets {
		v.Snippets = append(v.Snippets, Snippet{s.Lang, strings.ReplaceAll(s.Code, "\t", "    ")})
	}
	if r.Fix != "" {
		v.FixText = r.Fix
		if p.Fix != "" && !strings.Contains(p.Fix, r.Fix) {
			v.FixText = r.Fix + " " + p.Fix
		} else if p.Fix != "" {
			v.FixText = p.Fix
		}
	}
	for _, n := range r.Norms {
		nt := Norm{Ref: n}
		for _, known := range p.Norms {
			if known.Ref == n {
				nt.Text = known.Text
			}
		}
		v.NormTexts = append(v.NormTexts, nt)
	}
	if len(r.Norms) == 0 {
		v.NormTexts = p.Norms
	}
	words := telling[r.ID]
	if words == nil {
		words = []string{}
	}
	for i, id := range r.Exchanges {
		x, ok := in.exchange(id)
		if !ok {
			continue
		}
		xv := viewExchange(x, words)
		switch {
		case i == len(r.Exchanges)-1:
			v.Deciding, v.Curl = &xv, xv.Curl
		case v.Control == nil && isControl(x):
			v.Control = &xv
		default:
			v.Others = append(v.Others, id)
		}
	}
	return v
}
