package audit

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/report"
)

// Save keeps a run under runs: <runs>/<id>/exchanges.har and run.json, each
// whole or not at all. run.json comes last and says that the run is complete. It
// returns the directory.
func Save(runs string, r *Report) (string, error) {
	dir := filepath.Join(runs, r.Meta.RunID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", kidoban.Wrap(kidoban.KindUsage, err, "the run's directory cannot be made")
	}
	tmp, err := os.CreateTemp(dir, ".har-*")
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindUsage, err, "the evidence cannot be written")
	}
	defer os.Remove(tmp.Name())
	err = r.WriteHAR(tmp)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(dir, report.EvidenceFile))
	}
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindUsage, err, "the evidence cannot be written")
	}
	if err := report.SaveShots(dir, r.Shots); err != nil {
		return "", err
	}
	return dir, report.Save(dir, r.Run)
}

// Suppress marks the findings that suppressions cover on the day of now and
// computes chains, grade and coverage anew: a suppressed finding is no link of a
// chain and caps nothing. The findings stay in the run.
func Suppress(run *kidoban.Run, list []report.Suppression, now time.Time) report.Applied {
	applied := report.Suppress(run, list, now)
	run.Chains = Chains(run.Results)
	run.Grade, run.Coverage.Tested, run.Coverage.Applicable = grade(run.Target.Headline, run.Results, run.Chains)
	return applied
}
