package main

import (
	"encoding/json"
	"fmt"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/audit/flaws"
)

// checksCmd lists the catalogue.
type checksCmd struct {
	JSON bool `name:"json" help:"Print one JSON document."`
}

// listedCheck is a check in the JSON of kidoban checks.
type listedCheck struct {
	Key      string           `json:"key"`
	Flaw     string           `json:"flaw"`
	Name     string           `json:"name"`
	Category string           `json:"category"`
	Slug     string           `json:"slug"`
	Question string           `json:"question"`
	Tier     kidoban.Tier     `json:"tier"`
	Passive  bool             `json:"passive"`
	Severity kidoban.Severity `json:"severity"`
	Outcome  kidoban.Outcome  `json:"outcome"`
	Evidence kidoban.Evidence `json:"max_evidence"`
	Cap      string           `json:"grade_cap"` // best grade left when it is positive with its strongest proof; "" for no effect
	CWE      []int            `json:"cwe"`
	Norms    []string         `json:"norms"`
}

// Run prints the list.
func (c checksCmd) Run(e *env) error {
	docs, err := flaws.All()
	if err != nil {
		return err
	}
	page := map[string]flaws.Doc{}
	for _, d := range docs {
		page[d.ID] = d
	}
	if !c.JSON {
		return printChecks(e, page)
	}
	var list []listedCheck
	for _, k := range kidoban.Checks() {
		f, _ := kidoban.FlawByID(k.ID)
		d := page[k.ID]
		list = append(list, listedCheck{k.Key(), k.ID, f.Name, f.Category, k.Slug, d.Questions[k.Key()], k.Tier, k.Passive, k.Severity, k.Outcome, k.Max, capOf(k), append([]int{}, f.CWE...), d.Refs()})
	}
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(map[string]any{"schema": "kidoban.checks/1", "grade_version": audit.GradeVersion, "checks": list})
}

func printChecks(e *env, page map[string]flaws.Doc) error {
	last := ""
	for _, k := range kidoban.Checks() {
		if k.ID != last {
			f, _ := kidoban.FlawByID(k.ID)
			if _, err := fmt.Fprintf(e.stdout, "\n%s %s (%s)\n", f.ID, f.Name, f.Category); err != nil {
				return err
			}
			last = k.ID
		}
		if _, err := fmt.Fprintf(e.stdout, "  %-6s %-3s %-8s %-4s %-3s %s\n", k.Key(), k.Tier, k.Severity, k.Outcome, capOf(k), page[k.ID].Questions[k.Key()]); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(e.stdout, capTable, len(kidoban.Checks()), audit.GradeVersion)
	return err
}

// capTable explains the letters behind the checks.
const capTable = `
%d checks. kidoban explain CHECK says more about one.

The letter is the best grade left when the check is positive with its strongest
proof (grade version %d):
  F   code, token or data obtained by the attacker
  D   a link of an attack chain is proven: any chain, or a fail from high up
  C   a requirement is violated without proven impact
  B   only a recommendation is violated
  A   none of these; A+ with nothing weak at all, 90 %% coverage and the login done
Signals and infos never cap. Below 60 %% coverage the letter stands in brackets.
`

// capOf is the letter that a check caps the grade at with its strongest proof.
func capOf(c kidoban.Check) string {
	return audit.CapOf(kidoban.Result{ID: c.ID, Variant: c.Variant, Outcome: c.Outcome, Severity: c.Severity, Evidence: c.Max})
}
