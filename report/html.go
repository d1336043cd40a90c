package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
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
		"p": prose, "count": kidoban.Count[int],
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
	Shots   []shotView
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

type exchangeView struct {
	ID               int
	Probe, Note, Jar string
	Line             template.HTML // request line
	Request          template.HTML // header and body
	Status           template.HTML
	Response         template.HTML
	Location         template.HTML
	Excerpt          []template.HTML // lines of the bodies that hold a marked or hidden part
	Err              string
	Curl             string
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
	room := maxShots
	for _, c := range run.Chains {
		cv := in.chainView(c)
		cv.Shots = in.shotsOf(c, &room)
		v.Chains = append(v.Chains, cv)
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
	if len(c.Checks) > 0 {
		v.Fix = c.Checks[0]
	}
	if _, ok := kidoban.FlawByID(c.Explain); ok { // the page to read, not a sentence
		v.Fix, v.Explain = c.Explain, ""
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

// isControl reports whether an exchange is the valid request a mutation is
// compared with.
func isControl(x kidoban.Exchange) bool {
	note := strings.ToLower(x.Note)
	return (strings.Contains(note, "control") || strings.Contains(note, "baseline")) && !strings.Contains(note, "mutation") || x.Probe == "baseline"
}

// viewExchange renders one exchange. words nil marks nothing.
func viewExchange(x kidoban.Exchange, words []string) exchangeView {
	v := exchangeView{ID: x.ID, Probe: Clean(x.Probe, 40), Note: Clean(x.Note, maxWord), Jar: Clean(x.Jar, 40), Err: Clean(x.Err, maxSummary), Curl: Curl(x)}
	v.Line = markup(x.Request.Method+" "+x.Request.URL, words)
	v.Excerpt = excerpt(x, words)
	v.Request = message(x.Request.Header, x.Request.Body, words)
	if x.Response == nil {
		v.Status = markup("no answer", nil)
		return v
	}
	v.Status = markup(fmt.Sprintf("%s %d %s", x.Response.Proto, x.Response.Status, http.StatusText(x.Response.Status)), nil)
	v.Response = message(x.Response.Header, x.Response.Body, words)
	if l := x.Response.Header.Get("Location"); l != "" {
		v.Location = markup(l, words)
	}
	return v
}

// maxExcerpt bounds the lines that the short view shows of a body.
const maxExcerpt = 6

// excerpt returns the telling lines of an exchange: header fields and body lines
// with a marked or hidden part, of the request first.
func excerpt(x kidoban.Exchange, words []string) []template.HTML {
	var out []template.HTML
	add := func(prefix, line string) {
		if len(out) == maxExcerpt || len(line) > maxLine {
			return
		}
		m := markup(strings.TrimRight(line, " \r"), words)
		if strings.Contains(string(m), "<mark>") || strings.Contains(string(m), `<span class="h">`) {
			out = append(out, markup(prefix, nil)+m)
		}
	}
	if words == nil {
		return nil
	}
	for _, line := range strings.Split(clip(pretty(x.Request.Header, x.Request.Body)), "\n") {
		add("> ", line)
	}
	if x.Response == nil {
		return out
	}
	for _, f := range x.Response.Header {
		if !strings.EqualFold(f.Name, "Location") {
			add("< ", f.Name+": "+f.Value)
		}
	}
	for _, line := range strings.Split(clip(pretty(x.Response.Header, x.Response.Body)), "\n") {
		add("< ", strings.ReplaceAll(line, "\t", "    "))
	}
	return out
}

func clip(s string) string { return s[:min(len(s), maxBlock)] }

// message renders header and body. Bodies that are no text are summed up.
func message(h kidoban.Fields, body []byte, words []string) template.HTML {
	var b strings.Builder
	for i, f := range h {
		if i == 60 {
			fmt.Fprintf(&b, "… %d more header fields\n", len(h)-i)
			break
		}
		w := words
		if w != nil && strings.EqualFold(f.Name, "Location") {
			w = append([]string{f.Value}, words...) // where a redirect goes always decides
		}
		b.WriteString(string(markup(f.Name+": "+f.Value, w)) + "\n")
	}
	if len(body) > 0 {
		b.WriteString("\n" + string(block(pretty(h, body), words)))
	}
	return template.HTML(b.String()) // escaped above
}

// pretty indents JSON bodies of reasonable size.
func pretty(h kidoban.Fields, body []byte) string {
	if len(body) <= maxBlock && strings.Contains(h.Get("Content-Type"), "json") {
		var b bytes.Buffer
		if json.Indent(&b, bytes.TrimSpace(body), "", "  ") == nil {
			return b.String()
		}
	}
	return string(body)
}

func (in Input) gapViews() []gapView {
	var out []gapView
	for _, g := range Gaps(in.Run.Results) {
		v := gapView{Outcome: outcomeText(g.Outcome), Reason: reasonText(g.Reason), Command: g.command(in.Run.Target.URL)}
		for _, k := range g.Keys {
			v.Checks = append(v.Checks, in.gapCheck(k))
		}
		out = append(out, v)
	}
	return out
}

func (in Input) gapCheck(k string) gapCheck {
	id, _, _ := strings.Cut(k, "-")
	q := in.page(id).Questions[k]
	if q == "" {
		if c, ok := kidoban.CheckByKey(k); ok {
			q = strings.ReplaceAll(c.Slug, "-", " ")
		}
	}
	return gapCheck{k, q}
}

// passedViews groups the clean checks by flaw.
func (in Input) passedViews() []passed {
	var out []passed
	for _, r := range pick(in.Run.Results, func(r kidoban.Result) bool { return r.Outcome == kidoban.Pass }) {
		f, _ := kidoban.FlawByID(r.ID)
		name := Clean(r.ID, 8) + " " + f.Name
		if n := len(out); n == 0 || out[n-1].Name != name {
			out = append(out, passed{Name: name})
		}
		last := &out[len(out)-1]
		last.Checks = append(last.Checks, in.gapCheck(r.Key()))
	}
	return out
}

var docTitles = map[string]string{
	"prm": "Protected resource metadata", "as": "Authorization server metadata",
	"oidc": "OpenID configuration", "card": "Server card",
}

// has reports whether the evidence holds exchange id.
func (in Input) has(id int) bool {
	_, ok := in.exchange(id)
	return ok
}

func (in Input) docViews() []docView {
	var out []docView
	for i, d := range in.Run.Meta.Metadata {
		if i == 20 {
			break
		}
		v := docView{Title: docTitles[d.Kind], URL: d.URL}
		if in.has(d.XID) {
			v.Href = anchor(d.XID)
		}
		if v.Title == "" {
			v.Title = "Document"
		}
		body := d.Body
		var b bytes.Buffer
		if json.Indent(&b, []byte(body), "", "  ") == nil {
			body = b.String()
		}
		v.Body = block(body, in.docWords(d.XID))
		for _, r := range Findings(in.Run.Results) {
			for _, id := range r.Exchanges {
				if id == d.XID {
					v.Notes = append(v.Notes, r.Key()+": "+summary(r))
					break
				}
			}
		}
		out = append(out, v)
	}
	return out
}

// docWords are the telling words of the findings that a document decided.
func (in Input) docWords(xid int) []string {
	words := []string{}
	for _, r := range Findings(in.Run.Results) {
		for _, id := range r.Exchanges {
			if id == xid {
				words = append(words, telling[r.ID]...)
			}
		}
	}
	return words
}

func (in Input) log() (rows []logRow, more int) {
	named := in.named()
	for i, x := range in.Exchanges {
		if i == maxLogRows {
			return rows, len(in.Exchanges) - i
		}
		r := logRow{ID: x.ID, Probe: Clean(x.Probe, 24), Note: Clean(x.Note, 60), Request: Clean(x.Request.Method, 12) + " " + Clean(x.Request.URL, 160), MS: x.Duration.Milliseconds()}
		if named[x.ID] {
			r.Href = anchor(x.ID)
		}
		r.Status = itoa(x.Status())
		if x.Response == nil {
			r.Status = "–"
		}
		rows = append(rows, r)
	}
	return rows, 0
}

// named are the exchanges that a finding, chain or document points to.
func (in Input) named() map[int]bool {
	out := map[int]bool{}
	add := func(id int) {
		if len(out) < maxExchanges && id > 0 {
			out[id] = true
		}
	}
	for _, r := range append(Findings(in.Run.Results), Suppressed(in.Run.Results)...) {
		for _, id := range r.Exchanges {
			add(id)
		}
	}
	for _, c := range in.Run.Chains {
		for _, h := range c.Hops {
			add(h.XID)
		}
	}
	for _, d := range in.Run.Meta.Metadata {
		add(d.XID)
	}
	return out
}

func (in Input) shown() []exchangeView {
	named := in.named()
	var out []exchangeView
	for _, x := range in.Exchanges {
		if named[x.ID] {
			out = append(out, viewExchange(x, []string{}))
		}
	}
	return out
}
