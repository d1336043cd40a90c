package report

import (
	"bytes"
	"encoding/json"
	"io"
	"sort"

	"github.com/kidoban/kidoban"
)

// maxRunFile bounds a run.json that is read back.
const maxRunFile = 64 << 20

// JSON writes the contract kidoban.audit/1. The same run gives the same bytes:
// results stand in catalogue order, lists without an order of their own are
// sorted, and empty lists are written as [].
func JSON(w io.Writer, run kidoban.Run) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(Normal(run)); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the run could not be written as JSON")
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Normal returns a copy of the run in the contract's order.
func Normal(run kidoban.Run) kidoban.Run {
	if run.Schema == "" {
		run.Schema = kidoban.RunSchema
	}
	order := catalogueOrder()
	run.Results = append([]kidoban.Result{}, run.Results...)
	sort.SliceStable(run.Results, func(i, j int) bool {
		a, b := run.Results[i], run.Results[j]
		if x, y := order.of(a.Key()), order.of(b.Key()); x != y {
			return x < y
		}
		return a.Fingerprint < b.Fingerprint
	})
	for i := range run.Results {
		r := &run.Results[i]
		r.Exchanges = append([]int{}, r.Exchanges...)
		r.Norms = append([]string{}, r.Norms...)
	}
	run.Chains = append([]kidoban.Chain{}, run.Chains...)
	for i := range run.Chains {
		c := &run.Chains[i]
		c.Checks = append([]string{}, c.Checks...)
		c.Hops = append([]kidoban.Hop{}, c.Hops...)
	}
	run.Target.Versions = append([]string{}, run.Target.Versions...)
	run.Target.Upstreams = append([]string{}, run.Target.Upstreams...)
	run.Grade.Caps = append([]string{}, run.Grade.Caps...)
	run.Residue.LeftBehind = append([]kidoban.LeftOver{}, run.Residue.LeftBehind...)
	run.Meta.Tiers = append([]kidoban.Tier{}, run.Meta.Tiers...)
	run.Meta.Hosts = append([]string{}, run.Meta.Hosts...)
	sort.Strings(run.Meta.Hosts)
	return run
}

// Stable returns the run without what two runs over the same input may differ
// in: times, durations and the run's id.
func Stable(run kidoban.Run) kidoban.Run {
	run = Normal(run)
	run.DurationMS = 0
	run.Meta.RunID, run.Meta.Started = "", ""
	return run
}

// ReadRun reads a run that JSON wrote, at most 64 MiB of it. Errors are
// KindInput and say what is wrong with the file.
func ReadRun(r io.Reader) (kidoban.Run, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxRunFile+1))
	if err != nil {
		return kidoban.Run{}, kidoban.Wrap(kidoban.KindInput, err, "the run could not be read")
	}
	if len(raw) > maxRunFile {
		return kidoban.Run{}, kidoban.Errorf(kidoban.KindInput, "the run is larger than %d MiB", maxRunFile>>20)
	}
	var run kidoban.Run
	if err := json.Unmarshal(raw, &run); err != nil {
		return kidoban.Run{}, kidoban.Wrap(kidoban.KindInput, err, "this is not the JSON of an audit run")
	}
	if run.Schema != kidoban.RunSchema {
		return kidoban.Run{}, kidoban.Errorf(kidoban.KindInput, "this is not a run of %s: its schema member says %.40q", kidoban.RunSchema, run.Schema)
	}
	return run, nil
}
