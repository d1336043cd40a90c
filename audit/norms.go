package audit

import "github.com/kidoban/kidoban/audit/flaws"

// texts holds what results carry of their flaws' pages: the clauses in short
// form, and the first sentence of the fix. Each page is read once a run.
type texts map[string]flawText

type flawText struct {
	refs []string
	fix  string
}

func (t texts) of(id string) flawText {
	if have, ok := t[id]; ok {
		return have
	}
	f := flawText{refs: []string{}}
	if d, err := flaws.Text(id); err == nil {
		f = flawText{orEmpty(d.Refs()), d.FirstFix()}
	}
	t[id] = f
	return f
}
