package report

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/kidoban/kidoban"
)

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
