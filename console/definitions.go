package console

import (
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/toolscan"
)

type definitionsPage struct {
	Server, State string
	Servers       []string
	States        []string
	Counts        []PinCount
	Rows          []gateway.Pin
	Next          string
}

var pinStates = []gateway.PinState{gateway.PinHeld, gateway.PinApproved, gateway.PinRejected}

// definitions lists what servers offer and what was decided about it (G-TG1).
func (s *Server) definitions(v *visit) (any, error) {
	ctx := v.r.Context()
	var p definitionsPage
	counts, err := s.deps.Store.PinCounts(ctx)
	if err != nil {
		return nil, err
	}
	p.Counts = counts
	for _, c := range counts {
		if len(p.Servers) == 0 || p.Servers[len(p.Servers)-1] != c.Server {
			p.Servers = append(p.Servers, c.Server)
		}
	}
	q := PinQuery{Server: v.text("server"), Limit: pageRows + 1}
	p.Server = q.Server
	for _, st := range pinStates {
		p.States = append(p.States, string(st))
		if v.query.Get("state") == string(st) {
			q.State, p.State = st, string(st)
		}
	}
	if parts := strings.Split(v.exact("after"), "\n"); len(parts) == 4 {
		q.After = gateway.Pin{Server: parts[0], Kind: toolscan.Kind(parts[1]), Name: parts[2], SHA256: parts[3]}
	}
	rows, err := s.deps.Store.PagePins(ctx, q)
	if len(rows) > pageRows {
		rows = rows[:pageRows]
		last := rows[pageRows-1]
		p.Next = strings.Join([]string{last.Server, string(last.Kind), last.Name, last.SHA256}, "\n")
	}
	p.Rows = rows
	return p, err
}

type definitionPage struct {
	Pin      gateway.Pin
	Versions []versionRow
}

// versionRow is one version of a definition, against the one approved before it.
type versionRow struct {
	gateway.Pin
	Text    string
	Grade   toolscan.Grade
	Reasons []string
	Changes []toolscan.Change
	Against string // hash of the approved version; empty when there is none
}

// maxDefinition bounds what is shown of a definition in bytes.
const maxDefinition = 16 << 10

// definition shows every version of one definition, the newest first, each word
// by word against what is approved.
func (s *Server) definition(v *visit) (any, error) {
	p := definitionPage{Pin: gateway.Pin{Server: v.text("server"), Kind: toolscan.Kind(v.text("kind")), Name: v.exact("name")}}
	all, err := s.deps.Store.PinVersions(v.r.Context(), p.Pin)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, kidoban.Errorf(kidoban.KindNotFound, "there is no such definition")
	}
	for i := len(all) - 1; i >= 0; i-- {
		p.Versions = append(p.Versions, s.version(v.langs[0], all, all[i]))
	}
	return p, nil
}

func (s *Server) version(lang string, all []gateway.Pin, pin gateway.Pin) versionRow {
	row := versionRow{Pin: pin, Text: toolscan.Visible(string(pin.Raw), maxDefinition)}
	was, ok := gateway.Against(all, pin)
	if !ok || was.SHA256 == pin.SHA256 {
		return row
	}
	item := func(p gateway.Pin) toolscan.Item { return toolscan.Item{Kind: p.Kind, Name: p.Name, Raw: p.Raw} }
	d := s.deps.Scanner.Drift(nil, item(was), item(pin))
	row.Against, row.Grade = was.SHA256, d.Grade
	for _, w := range d.Why {
		row.Reasons = append(row.Reasons, toolscan.Visible(whyText(lang, w), 300))
	}
	for _, c := range d.Changes {
		c.Path = toolscan.Visible(c.Path, 200)
		if c.Diff == nil {
			c.Diff = []toolscan.DiffOp{{Op: "-", Text: c.Before}, {Op: "+", Text: c.After}}
		}
		for i := range c.Diff {
			c.Diff[i].Text = toolscan.Visible(c.Diff[i].Text, 2000)
		}
		row.Changes = append(row.Changes, c)
	}
	return row
}

// definitionActs decide about one version by its whole hash: what was looked at is
// what is approved.
func (s *Server) definitionActs() map[string]act {
	decide := func(to gateway.PinState) func(*visit, string) (string, error) {
		return func(v *visit, sum string) (string, error) {
			all, err := s.deps.Store.PinVersions(v.r.Context(), gateway.Pin{Server: v.text("server"), Kind: toolscan.Kind(v.text("kind")), Name: v.exact("name")})
			if err != nil {
				return "", err
			}
			for _, p := range all {
				if p.SHA256 == sum {
					p.State, p.By, p.Decided = to, v.guest.Name, v.now
					return string(to), s.deps.Store.DecidePin(v.r.Context(), p)
				}
			}
			return "", kidoban.Errorf(kidoban.KindNotFound, "there is no such version")
		}
	}
	return map[string]act{"approve": {wide: true, do: decide(gateway.PinApproved)}, "reject": {do: decide(gateway.PinRejected)}}
}
