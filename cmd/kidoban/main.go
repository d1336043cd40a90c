// Command kidoban is the checkpoint for the Model Context Protocol: it audits
// the authentication of MCP servers and stands guard before them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/kidoban/kidoban"
)

// Exit codes of every command.
const (
	exitClean      = 0
	exitFindings   = 1 // findings at or above --fail-on
	exitUsage      = 2
	exitIncomplete = 3
	exitInternal   = 4
	exitChanged    = 5 // a pinned definition changed

	exitInterrupted = 130 // stopped by a signal before it was through, as shells say it
)

// env is what a command gets from the outside world. Commands read nothing else.
type env struct {
	ctx    context.Context
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string // the environment; nil means an empty one
}

// env returns a variable of the environment, or "".
func (e *env) env(name string) string {
	if e.getenv == nil {
		return ""
	}
	return e.getenv(name)
}

// cli is the command line. Each command lives in a file of its own.
type cli struct {
	ShowVersion versionFlag   `name:"version" help:"Print the version."`
	Version     versionCmd    `cmd:"" hidden:"" help:"Print the version."`
	Sandbox     sandboxCmd    `cmd:"" name:"__sandbox" hidden:""`
	Audit       auditCmd      `cmd:"" group:"audit" help:"Test the authentication of an MCP server."`
	Explain     explainCmd    `cmd:"" group:"audit" help:"What a flaw or check is, how it is tested and how to fix it."`
	Checks      checksCmd     `cmd:"" group:"audit" help:"List every check."`
	Report      reportCmd     `cmd:"" group:"audit" help:"Show a stored run again, or write it as HTML, SARIF, JUnit, Markdown or badge."`
	Diff        diffCmd       `cmd:"" group:"audit" help:"Compare two runs: new, fixed, changed."`
	Login       loginCmd      `cmd:"" group:"audit" help:"Logins that the audit plays by itself: record one, keep its secrets."`
	Record      recordCmd     `cmd:"" group:"audit" help:"Record a real client's traffic with a server on loopback, and judge it."`
	Census      censusCmd     `cmd:"" group:"audit" help:"Measure thousands of MCP servers politely: what answers, who is let in, which flaws reading alone shows."`
	Tools       toolsCmd      `cmd:"" group:"tools" help:"Scan, pin and verify what MCP servers offer to the model."`
	Advisories  advisoriesCmd `cmd:"" group:"tools" help:"Known incidents and vulnerable versions around MCP, with sources."`
	Gateway     gatewayCmd    `cmd:"" group:"gateway" help:"Stand guard before MCP servers: authorization, relay, audit log."`
	Vault       vaultCmd      `cmd:"" group:"gateway" help:"The secrets that the gateway keeps."`
	Config      configCmd     `cmd:"" group:"gateway" help:"The schema and the reference of the gateway's config."`
	Doctor      doctorCmd     `cmd:"" group:"gateway" help:"Turn the audit on the gateway: a running one, or a fresh one."`
	Lab         labCmd        `cmd:"" group:"proof" help:"The deliberately weak servers, on loopback, and the attacks on them."`
	Bench       benchCmd      `cmd:"" group:"proof" help:"Whole-process measurements."`
	Completion  completionCmd `cmd:"" group:"proof" help:"Print the completion for bash, zsh or fish."`
	Docs        docsCmd       `cmd:"" hidden:"" help:"Write the generated pages of docs/flaws."`
}

// groups are the headings of kidoban --help.
var groups = kong.Groups{
	"audit":   "The audit:",
	"tools":   "What tools say to the model:",
	"gateway": "The gateway:",
	"proof":   "Proofs and the rest:",
}

// first is what kidoban says without arguments.
const first = `kidoban %s: the checkpoint for MCP

  kidoban audit URL        how would an attacker get in? read-only, no account needed
  kidoban tools scan       what do the MCP servers in this machine's editors tell the model?
  kidoban gateway          stand guard before your own servers; prints what to do next
  kidoban explain F4       what a finding means and how to fix it
  kidoban lab serve --flaws F4-1 --upstream
                           a weak server on loopback to try the audit on

kidoban --help lists every command, kidoban COMMAND --help its flags.
`

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(e *env) error {
	_, err := fmt.Fprintln(e.stdout, "kidoban "+kidoban.Version)
	return err
}

// versionFlag is --version.
type versionFlag bool

// BeforeReset prints the version before anything else is asked for.
func (versionFlag) BeforeReset(e *env) error {
	if err := (versionCmd{}).Run(e); err != nil {
		return err
	}
	panic(exitError(exitClean))
}

// exitError ends the program with a code after the command has said all there
// is to say.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(&env{ctx: ctx, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}, os.Args[1:]))
}

// newParser reads command lines into c.
func newParser(e *env, c *cli) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("kidoban"),
		kong.Description("The checkpoint for MCP: audit any remote server's authentication, and stand guard before your own."),
		kong.Writers(e.stdout, e.stderr),
		kong.Exit(func(code int) { panic(exitError(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		groups,
		kong.Bind(e),
	)
}

// run runs a command line and returns the exit code.
func run(e *env, args []string) int {
	own, out := *e, &output{to: e.stdout}
	own.stdout = out
	return out.whole(&own, parseAndRun(&own, args))
}

// parseAndRun parses args, runs the command and returns the exit code.
func parseAndRun(e *env, args []string) (code int) {
	if len(args) == 0 {
		fmt.Fprintf(e.stdout, first, kidoban.Version)
		return exitClean
	}
	var c cli
	parser, err := newParser(e, &c)
	if err != nil {
		fmt.Fprintln(e.stderr, "kidoban: "+err.Error())
		return exitInternal
	}
	defer func() {
		if r := recover(); r != nil {
			x, ok := r.(exitError) // --help and --version ask to leave
			if !ok {
				panic(r)
			}
			code = int(x)
		}
	}()
	kctx, err := parser.Parse(args)
	if err != nil {
		return misused(e, err)
	}
	if err := kctx.Run(e); err != nil {
		return fail(e, err)
	}
	return exitClean
}

// misused tells what is wrong with a command line, how the command is used, and
// where its help is.
func misused(e *env, err error) int {
	if e.lost(err) { // the help itself
		return exitInternal
	}
	what, help := said(err), "kidoban --help lists the commands."
	var p *kong.ParseError
	if errors.As(err, &p) && p.Context.Selected() != nil {
		n := p.Context.Selected()
		help = "Usage: kidoban " + n.Summary() + "\nkidoban " + n.Path() + " --help says more."
		word, unexpected := strings.CutPrefix(p.Error(), "unexpected argument ")
		if n.Parent != nil && n.Parent.DefaultCmd == n && unexpected { // a command of the parent was meant
			var names []string
			for _, sister := range n.Parent.Children {
				names = append(names, sister.Name)
			}
			if near := nearest(word, names); near != "" && !strings.Contains(what, "did you mean") {
				what += fmt.Sprintf(", did you mean %q?", near)
			}
			help = "kidoban " + n.Parent.Path() + " --help lists its commands."
		}
	} else if p != nil {
		for _, step := range p.Context.Path {
			if step.Command != nil {
				help = "kidoban " + step.Command.Path() + " --help lists its commands."
			}
		}
	}
	fmt.Fprintln(e.stderr, "kidoban: "+what)
	fmt.Fprintln(e.stderr, help)
	return exitUsage
}

// fail prints err for a person and gives the exit code that belongs to it.
func fail(e *env, err error) int {
	var x exitError
	if errors.As(err, &x) {
		return int(x)
	}
	if e.lost(err) {
		return exitInternal
	}
	if e.ctx.Err() != nil && errors.Is(err, context.Canceled) { // it ended because it was told to
		what := strings.TrimSuffix(strings.TrimSuffix(said(err), context.Canceled.Error()), ": ") // Go's word for it says nothing more
		fmt.Fprintln(e.stderr, strings.TrimSuffix("kidoban: interrupted: "+what, ": "))
		return exitInterrupted
	}
	fmt.Fprintln(e.stderr, "kidoban: "+said(err))
	switch kidoban.KindOf(err) {
	case kidoban.KindUsage, kidoban.KindInput, kidoban.KindNotFound, kidoban.KindConflict:
		return exitUsage
	case kidoban.KindUnreachable, kidoban.KindLimit, kidoban.KindRefused:
		return exitIncomplete
	}
	return exitInternal
}
