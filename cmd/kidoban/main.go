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
	Version    versionCmd    `cmd:"" help:"Print the version."`
	Sandbox    sandboxCmd    `cmd:"" name:"__sandbox" hidden:""`
	Audit      auditCmd      `cmd:"" help:"Test the authentication of an MCP server."`
	Login      loginCmd      `cmd:"" help:"Logins that the audit plays by itself: record one, keep its secrets."`
	Record     recordCmd     `cmd:"" help:"Record a real client's traffic with a server on loopback, and judge it."`
	Lab        labCmd        `cmd:"" help:"The deliberately weak servers, on loopback."`
	Explain    explainCmd    `cmd:"" help:"What a flaw or check is, how it is tested and how to fix it."`
	Checks     checksCmd     `cmd:"" help:"List every check."`
	Report     reportCmd     `cmd:"" help:"Show a stored run again, or write it as HTML, SARIF, JUnit, Markdown or badge."`
	Diff       diffCmd       `cmd:"" help:"Compare two runs: new, fixed, changed."`
	Tools      toolsCmd      `cmd:"" help:"Scan, pin and verify what MCP servers offer to the model."`
	Advisories advisoriesCmd `cmd:"" help:"Known incidents and vulnerable versions around MCP, with sources."`
	Gateway    gatewayCmd    `cmd:"" help:"Stand guard before MCP servers: authorization, relay, audit log."`
	Doctor     doctorCmd     `cmd:"" help:"Turn the audit on the gateway: a running one, or a fresh one."`
	Config     configCmd     `cmd:"" help:"About the gateway's config."`
	Vault      vaultCmd      `cmd:"" help:"The secrets that the gateway keeps."`
	Bench      benchCmd      `cmd:"" help:"Whole-process measurements."`
	Census     censusCmd     `cmd:"" help:"Measure thousands of MCP servers politely: what answers, who is let in, which flaws reading alone shows."`
	Docs       docsCmd       `cmd:"" hidden:"" help:"Write the generated pages of docs/flaws."`
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(e *env) error {
	_, err := fmt.Fprintln(e.stdout, "kidoban "+kidoban.Version)
	return err
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

// run parses args, runs the command and returns the exit code.
func run(e *env, args []string) int {
	var c cli
	parser, err := kong.New(&c,
		kong.Name("kidoban"),
		kong.Description("The checkpoint for MCP: audit any remote server's authentication, and stand guard before your own."),
		kong.Writers(e.stdout, e.stderr),
		kong.Exit(func(code int) { panic(exitError(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Bind(e),
	)
	if err != nil {
		fmt.Fprintln(e.stderr, "kidoban: "+err.Error())
		return exitInternal
	}
	code := exitClean
	func() {
		defer func() {
			if r := recover(); r != nil {
				if x, ok := r.(exitError); ok { // --help asks to leave
					code = int(x)
					return
				}
				panic(r)
			}
		}()
		kctx, err := parser.Parse(args)
		if err != nil {
			fmt.Fprintf(e.stderr, "kidoban: %s\nkidoban --help lists the commands.\n", err)
			code = exitUsage
			return
		}
		if err := kctx.Run(e); err != nil {
			code = fail(e, err)
		}
	}()
	return code
}

// fail prints err for a person and gives the exit code that belongs to it.
func fail(e *env, err error) int {
	var x exitError
	if errors.As(err, &x) {
		return int(x)
	}
	fmt.Fprintln(e.stderr, "kidoban: "+err.Error())
	switch kidoban.KindOf(err) {
	case kidoban.KindUsage, kidoban.KindInput:
		return exitUsage
	case kidoban.KindUnreachable, kidoban.KindLimit, kidoban.KindRefused:
		return exitIncomplete
	}
	return exitInternal
}
