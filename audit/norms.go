package audit

import "github.com/kidoban/kidoban/audit/flaws"

// norms returns what a result carries of its flaw's page: the clauses in short
// form, and the first sentence of the fix.
func norms(id string) (refs []string, fix string) {
	d, err := flaws.Text(id)
	if err != nil {
		return []string{}, ""
	}
	return orEmpty(d.Refs()), d.FirstFix()
}
