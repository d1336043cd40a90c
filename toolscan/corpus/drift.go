package corpus

import (
	"bytes"
	"encoding/json"

	"github.com/kidoban/kidoban/toolscan"
)

// drift measures pairs of definitions: rug pulls must be alarms, upgrades calm.
// Releases that list tools added, removed and unchanged are judged by their new
// tools.
func (rep *Report) drift(sc *toolscan.Scanner, dir string) error {
	d := &rep.Drift
	d.Grades = map[string]int{}
	bad, err := Read(dir, "definition_changes_malicious.jsonl")
	if err != nil {
		return err
	}
	for i := range bad {
		grade := worstGrade(sc, &bad[i])
		d.MaliciousHeld.add(grade != toolscan.GradeSame)
		d.MaliciousAlarm.add(grade == toolscan.GradeAlarm)
	}
	good, err := Read(dir, "definition_changes_benign.jsonl")
	if err != nil {
		return err
	}
	for i := range good {
		r := &good[i]
		if len(r.Before) == 0 && len(r.After) == 0 {
			continue // a release without pairs: its changed tools are records of their own
		}
		grade := worstGrade(sc, r)
		d.Grades[string(grade)]++
		d.BenignCalm.add(grade.Calm())
		if !grade.Calm() {
			d.NotCalm = append(d.NotCalm, Case{ID: r.ID, Source: r.Source, Text: toolscan.Visible(string(r.After), 400)})
		}
	}
	return nil
}

// worstGrade compares a record's sides: one tool each, or lists of tools.
func worstGrade(sc *toolscan.Scanner, r *Record) toolscan.Grade {
	before, after := toolsOf(r.Before), toolsOf(r.After)
	worst := toolscan.GradeSame
	at := func(g toolscan.Grade) {
		if worst == toolscan.GradeSame || !g.Calm() {
			worst = g
		}
	}
	for name, now := range after {
		old, ok := before[name]
		if !ok && len(before) == 1 && len(after) == 1 {
			for _, old = range before {
				ok = true
			}
		}
		it := toolscan.Item{Kind: toolscan.KindTool, Name: name, Raw: now}
		if !ok {
			if sc.Item(nil, it).Flagged {
				at(toolscan.GradeAlarm)
			} else {
				at(toolscan.GradeWidened)
			}
			continue
		}
		if !bytes.Equal(old, now) {
			at(sc.Drift(nil, toolscan.Item{Kind: toolscan.KindTool, Name: name, Raw: old}, it).Grade)
		}
	}
	return worst
}

func toolsOf(raw json.RawMessage) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	var list []json.RawMessage
	var wrapped struct {
		Tools []json.RawMessage `json:"tools"`
		Name  *string           `json:"name"`
	}
	switch {
	case json.Unmarshal(raw, &list) == nil:
	case json.Unmarshal(raw, &wrapped) == nil && wrapped.Name == nil && wrapped.Tools != nil:
		list = wrapped.Tools
	default:
		list = []json.RawMessage{raw}
	}
	for _, t := range list {
		r := Record{Tool: t}
		out[r.Name()] = t
	}
	return out
}
