package main

import "github.com/kidoban/kidoban/report"

// diffCmd compares two stored runs.
type diffCmd struct {
	Before string `arg:"" help:"The earlier run: a directory, a run.json or an id."`
	After  string `arg:"" help:"The later run."`
	JSON   bool   `name:"json" help:"Print one JSON document."`
}

// Run prints the difference. It ends with 1 when there are new findings, so that
// a pipeline can stop on it.
func (c diffCmd) Run(e *env) error {
	before, err := loadRun(e, c.Before)
	if err != nil {
		return err
	}
	after, err := loadRun(e, c.After)
	if err != nil {
		return err
	}
	d := report.Compare(before.Run, after.Run)
	if c.JSON {
		err = d.JSON(e.stdout)
	} else {
		err = terminal(e).Diff(e.stdout, d)
	}
	if err == nil && len(d.New) > 0 {
		return exitError(exitFindings)
	}
	return err
}
