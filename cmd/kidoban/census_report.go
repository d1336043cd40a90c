package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/census"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/store"
)

type censusReportCmd struct {
	censusPlace
	HTML         string `name:"html" help:"Write one HTML file." placeholder:"FILE"`
	Markdown     string `help:"Write Markdown." placeholder:"FILE"`
	CSV          string `name:"csv" help:"Write every table as CSV." placeholder:"FILE"`
	Export       string `help:"Write the results for publication, JSON lines." placeholder:"FILE"`
	Truth        string `help:"Compare with the ground truth of a population (lab population --truth): precision and recall of each class and passive flaw. Exit status 1 if anything differs." placeholder:"FILE"`
	PublishNames bool   `help:"Leave host names in what is written. Without it they are hashed."`
	JSON         bool   `name:"json" help:"Print the tables as one JSON document."`
}

// Run computes the tables and writes them.
func (c censusReportCmd) Run(e *env) error {
	sources, err := storedSources(c.censusPlace)
	if err != nil {
		return kidoban.Errorf(kidoban.KindNotFound, "there is no census in %s: make one with kidoban census run, or name its directory with --dir", c.Dir)
	}
	db, err := c.open(e.ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if c.Truth != "" {
		return c.compare(e, db)
	}
	s, err := census.Summarize(e.ctx, db, c.Name, sources)
	if err != nil {
		return err
	}
	key, err := censusKey(c.censusPlace)
	if err != nil {
		return err
	}
	names := census.Names{Key: key, Publish: c.PublishNames}
	s.Hide(names)
	for _, f := range []struct {
		path  string
		write func(io.Writer) error
	}{{c.HTML, s.WriteHTML}, {c.Markdown, s.WriteMarkdown}, {c.CSV, s.WriteCSV},
		{c.Export, func(w io.Writer) error { return census.WritePublic(e.ctx, db, c.Name, names, w) }}} {
		if f.path == "" {
			continue
		}
		if err := streamFile(e, f.path, f.write); err != nil {
			return err
		}
	}
	switch {
	case c.JSON:
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	case c.HTML+c.Markdown+c.CSV+c.Export == "":
		return s.WriteText(e.stdout)
	}
	return nil
}

// compare sets the results beside a population's truth.
func (c censusReportCmd) compare(e *env, db *store.DB) error {
	f, err := os.Open(c.Truth)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the ground truth %s cannot be read", c.Truth)
	}
	defer f.Close()
	cmp, err := census.CompareTruth(e.ctx, db, c.Name, f, lab.PopulationChecks())
	if err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(e.stdout).Encode(cmp)
	} else {
		cmp.WriteText(e.stdout)
	}
	if err == nil && cmp.Mismatches > 0 {
		return exitError(exitFindings)
	}
	return err
}

type censusDiffCmd struct {
	Before string `arg:"" help:"results.jsonl of the earlier census."`
	After  string `arg:"" help:"results.jsonl of the later one."`
	JSON   bool   `name:"json" help:"Print one JSON document, every changed target included."`
}

// Run compares two result files.
func (c censusDiffCmd) Run(e *env) error {
	a, err := os.Open(c.Before)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the earlier results %s cannot be read", c.Before)
	}
	defer a.Close()
	b, err := os.Open(c.After)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the later results %s cannot be read", c.After)
	}
	defer b.Close()
	d, err := census.Diff(a, b)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(d)
	}
	fmt.Fprintf(e.stdout, "%s, %d changed.\n", kidoban.Count(d.Same, "target is as it was", "targets are as they were"), len(d.Changes))
	for _, part := range []struct {
		title string
		m     map[string]int
	}{{"class", d.Moves}, {"new flaws", d.Added}, {"fixed flaws", d.Fixed}} {
		for _, k := range slices.Sorted(maps.Keys(part.m)) {
			fmt.Fprintf(e.stdout, "  %-12s %-32s %6d\n", part.title, k, part.m[k])
		}
	}
	return nil
}
