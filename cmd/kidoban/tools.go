package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/toolscan/corpus"
)

// toolsCmd groups the commands of the tool scanner.
type toolsCmd struct {
	Scan   toolsScanCmd   `cmd:"" help:"Read what servers offer and say what is dangerous in it."`
	Pin    toolsPinCmd    `cmd:"" help:"Approve what servers offer now: write kidoban.lock."`
	Verify toolsVerifyCmd `cmd:"" help:"Compare what servers offer now with kidoban.lock; exit 5 on any change."`
	Diff   toolsDiffCmd   `cmd:"" help:"Compare two files of definitions word by word."`
	Eval   toolsEvalCmd   `cmd:"" help:"Measure the scanner on a labelled corpus."`
	Train  toolsTrainCmd  `cmd:"" help:"Train the statistical signal on labelled corpora."`
}

// toolsScanCmd scans servers, files or the configurations of MCP hosts.
type toolsScanCmd struct {
	toolSources
	toolOutputs
	StrictOnly bool `help:"Count hard rules alone as findings."`
	All        bool `help:"Also list capabilities, schema notes and soft hits below the threshold."`
}

// Run scans. Exit codes: 0 clean, 1 findings, 2 usage, 3 a server did not answer.
func (c toolsScanCmd) Run(e *env) error {
	if len(c.Target) == 0 && len(c.From) == 0 {
		c.From = []string{"all"}
		fmt.Fprintln(e.stderr, "Looking for the configurations of MCP hosts on this machine (kidoban tools scan --from all).")
	}
	got, err := c.gather(e)
	if err != nil {
		return err
	}
	sc := toolscan.New()
	rep := scanReport{Schema: scanSchema, Tool: "kidoban " + kidoban.Version, Servers: got.names(), Problems: got.problems,
		Static: toolscan.Static(got.entries), Report: sc.Scan(got.servers), strict: c.StrictOnly, all: c.All}
	if err := c.write(e, &rep); err != nil {
		return err
	}
	switch {
	case e.ctx.Err() != nil:
		return exitError(exitInterrupted)
	case rep.failing(kidoban.Severity(c.FailOn)):
		return exitError(exitFindings)
	case len(got.problems) > 0:
		return exitError(exitIncomplete)
	}
	return nil
}

// toolsPinCmd writes the lock file.
type toolsPinCmd struct {
	toolSources
	Lock  string `help:"The lock file." default:"kidoban.lock"`
	By    string `help:"Who approves; recorded in every pin." placeholder:"NAME"`
	Force bool   `help:"Pin items although the scan flags them."`
}

// Run pins. Flagged items are refused unless --force is given.
func (c toolsPinCmd) Run(e *env) error {
	by := c.By
	for _, name := range []string{"USER", "LOGNAME", "USERNAME"} {
		if by == "" {
			by = e.env(name)
		}
	}
	if by == "" {
		return kidoban.Errorf(kidoban.KindUsage, "a pin records who approved: say --by NAME")
	}
	got, err := c.gather(e)
	if err != nil {
		return err
	}
	if err := e.ctx.Err(); err != nil {
		return kidoban.Wrap(kidoban.KindUnreachable, err, "nothing was pinned")
	}
	if len(got.problems) > 0 {
		return kidoban.Errorf(kidoban.KindUnreachable, "nothing was pinned because a server could not be read: %s", got.problems[0])
	}
	rep := toolscan.New().Scan(got.servers)
	if n, _ := rep.Flagged(); n > 0 && !c.Force {
		return kidoban.Errorf(kidoban.KindRefused, "nothing was pinned because the scan flags %s: look at kidoban tools scan, and repeat with --force if they are to be approved", kidoban.Count(n, "item", "items"))
	}
	lock := toolscan.MakeLock(got.servers, by, time.Now().UTC().Format(time.RFC3339))
	if err := wholeFile(c.Lock, 0o600, lock.Write); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s of %s pinned in %s, approved by %s.\n", kidoban.Count(len(lock.Pins), "definition", "definitions"), kidoban.Count(len(got.servers), "server", "servers"), c.Lock, toolscan.Visible(by, 80))
	return nil
}

// toolsVerifyCmd checks servers against the lock file.
type toolsVerifyCmd struct {
	toolSources
	Lock string `help:"The lock file." default:"kidoban.lock"`
	JSON bool   `name:"json" help:"Write the differences as JSON."`
}

// Run verifies. Exit codes: 0 as pinned, 5 changed, 3 a server did not answer.
func (c toolsVerifyCmd) Run(e *env) error {
	f, err := os.Open(c.Lock)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return kidoban.Errorf(kidoban.KindUsage, "there is no lock file %s: make one with kidoban tools pin", c.Lock)
		}
		return kidoban.Wrap(kidoban.KindUsage, err, "the lock file %s cannot be read", c.Lock)
	}
	defer f.Close()
	lock, err := toolscan.ReadLock(f)
	if err != nil {
		return err
	}
	got, err := c.gather(e)
	if err != nil {
		return err
	}
	deps := toolscan.New().Verify(lock, got.servers)
	if c.JSON {
		if deps == nil {
			deps = []toolscan.Departure{}
		}
		if err := writeJSON(e.stdout, deps); err != nil {
			return err
		}
	} else if len(deps) > 0 || len(got.problems) == 0 { // who did not answer is not as it was
		writeDepartures(e.stdout, deps, colourful(e))
	}
	for _, p := range got.problems {
		fmt.Fprintln(e.stderr, "kidoban: "+p)
	}
	switch {
	case e.ctx.Err() != nil:
		return exitError(exitInterrupted)
	case len(deps) > 0:
		return exitError(exitChanged)
	case len(got.problems) > 0:
		return exitError(exitIncomplete)
	}
	return nil
}

// toolsDiffCmd compares two files.
type toolsDiffCmd struct {
	A    string `arg:"" help:"Earlier definitions (a list of tools, or a lock file)."`
	B    string `arg:"" help:"Later definitions."`
	JSON bool   `name:"json" help:"Write the differences as JSON."`
}

// Run compares; exit 5 when anything differs.
func (c toolsDiffCmd) Run(e *env) error {
	before, err := readDefinitions(c.A)
	if err != nil {
		return err
	}
	after, err := readDefinitions(c.B)
	if err != nil {
		return err
	}
	// Two files with one server each are compared whatever they call it.
	if len(before) == 1 && len(after) == 1 {
		before[0].Name = after[0].Name
	}
	deps := toolscan.New().Verify(toolscan.MakeLock(before, "", ""), after)
	if c.JSON {
		if deps == nil {
			deps = []toolscan.Departure{}
		}
		err = writeJSON(e.stdout, deps)
	} else {
		writeDepartures(e.stdout, deps, colourful(e))
	}
	if err == nil && len(deps) > 0 {
		return exitError(exitChanged)
	}
	return err
}

// readDefinitions reads a file of definitions or a lock file.
func readDefinitions(file string) ([]toolscan.Server, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInput, err, "cannot read %s", file)
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if json.Unmarshal(data, &head) == nil && head.Schema == toolscan.LockSchema {
		f, err := os.Open(file)
		if err != nil {
			return nil, kidoban.Wrap(kidoban.KindInput, err, "cannot read %s", file)
		}
		defer f.Close()
		lock, err := toolscan.ReadLock(f)
		if err != nil {
			return nil, err
		}
		return lock.Servers(), nil
	}
	return toolscan.ParseSnapshot(file, data)
}

// toolsEvalCmd measures.
type toolsEvalCmd struct {
	Corpus string `required:"" help:"Directory with malicious_tools.jsonl, benign_tools.jsonl, …" type:"existingdir" placeholder:"DIR"`
	JSON   bool   `name:"json" help:"Write the numbers as JSON."`
}

// Run evaluates and prints.
func (c toolsEvalCmd) Run(e *env) error {
	rep, err := corpus.Evaluate(toolscan.New(), c.Corpus)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(e.stdout, rep)
	}
	return rep.Text(e.stdout)
}

// toolsTrainCmd trains the linear models.
type toolsTrainCmd struct {
	Corpus []string `required:"" help:"Directory of a labelled corpus; repeatable." type:"existingdir" placeholder:"DIR"`
	Out    string   `required:"" help:"Where the weights go; toolscan/weights.bin is built into the binary." placeholder:"FILE"`
	JSON   bool     `name:"json" help:"Write the leave-one-source-out numbers as JSON."`
}

// Run trains, writes the weights and prints what leaving sources out says.
func (c toolsTrainCmd) Run(e *env) error {
	tr, err := corpus.Train(toolscan.New(), c.Corpus)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.Out, tr.Weights, 0o644); err != nil {
		return kidoban.Wrap(kidoban.KindInput, err, "cannot write %s", c.Out)
	}
	if c.JSON {
		return writeJSON(e.stdout, tr)
	}
	return tr.Text(e.stdout)
}

// advisoriesCmd lists known incidents.
type advisoriesCmd struct {
	JSON bool `name:"json" help:"Write the list as JSON."`
}

// Run prints the advisories.
func (c advisoriesCmd) Run(e *env) error {
	list := toolscan.Advisories()
	if c.JSON {
		return writeJSON(e.stdout, list)
	}
	for i := range list {
		a := &list[i]
		fmt.Fprintf(e.stdout, "%-24s %-8s %v  %s\n", a.ID, a.Severity, a.Owasp, a.Title)
		if a.Package != "" {
			fmt.Fprintf(e.stdout, "    %s %s", a.Package, affected(a))
			fmt.Fprintln(e.stdout)
		}
		fmt.Fprintf(e.stdout, "    %s %s\n", a.Says(), a.Remedy())
		for _, s := range a.Sources {
			fmt.Fprintf(e.stdout, "    %s\n", s)
		}
		for _, s := range a.See {
			fmt.Fprintf(e.stdout, "    %s (not read for this list)\n", s)
		}
	}
	return nil
}

func affected(a *toolscan.Advisory) string {
	switch {
	case a.From != "" && a.Fixed != "":
		return "from " + a.From + ", fixed in " + a.Fixed
	case a.Fixed != "":
		return "before " + a.Fixed
	case a.From != "":
		return "from " + a.From
	}
	return "every version"
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	return kidoban.Wrap(kidoban.KindInternal, enc.Encode(v), "cannot write the result")
}
