package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/vault"
)

// gatewayCmd is kidoban gateway. Without a subcommand it runs the gateway.
type gatewayCmd struct {
	Run     gatewayRunCmd     `cmd:"" default:"withargs" help:"Run the gateway (the default)."`
	Check   gatewayCheckCmd   `cmd:"" help:"List what is unsafe or impossible in a config, all at once."`
	Backup  gatewayBackupCmd  `cmd:"" help:"Copy the database of a running gateway into one file."`
	Restore gatewayRestoreCmd `cmd:"" help:"Put a backup in place for a gateway that is not running."`
	Deny    denyCmd           `cmd:"" help:"The deny-list: hosts, URLs, document domains and clients that get nothing."`
	User    userCmd           `cmd:"" help:"The people who may log in."`
	Pins    pinsCmd           `cmd:"" help:"What servers' definitions wait for approval."`
	Policy  policyCmd         `cmd:"" help:"Print the policy of a config as Cedar: defaults, rules and files."`
	Log     logCmd            `cmd:"" help:"The audit log as JSON lines, or check that it is whole."`
}

// Help says what a first reader of kidoban gateway --help looks for.
func (gatewayCmd) Help() string {
	return `Most used:

    kidoban gateway                    run on loopback with the defaults
    kidoban gateway -c kidoban.yaml    run with a config (docs/start.md has some)
    kidoban gateway check -c FILE      say what is wrong with one
    kidoban gateway run --help         the flags`
}

// gatewayFile is where a command finds the config.
type gatewayFile struct {
	Config string `short:"c" placeholder:"FILE" help:"The gateway's YAML config. Without one it has its defaults, on loopback."`
	Data   string `placeholder:"DIR" help:"Directory for database and key; overrides the config. By default kidoban in your configuration directory."`
	Listen string `placeholder:"ADDRESS" help:"Address and port of the gateway; overrides the config. By default 127.0.0.1:8787."`
}

// load reads the config and fills in defaults.
func (f gatewayFile) load() (gatewayConfig, error) {
	c, err := readGatewayConfig(f.Config)
	if err != nil {
		return c, err
	}
	if f.Data != "" {
		c.Data = f.Data
	}
	if f.Listen != "" {
		c.Listen = f.Listen
	}
	for i, name := range c.Policy.Files {
		if !filepath.IsAbs(name) {
			c.Policy.Files[i] = filepath.Join(filepath.Dir(f.Config), name)
		}
	}
	return c.withDefaults()
}

type gatewayCheckCmd struct {
	gatewayFile
	JSON bool `help:"Print JSON."`
}

// Run prints every finding and fails when one of them would stop the gateway.
func (c gatewayCheckCmd) Run(e *env) error {
	conf, err := c.load()
	if err != nil {
		return err
	}
	findings := conf.check()
	failed := false
	type line struct {
		Code string `json:"code"`
		Text string `json:"text"`
		Fail bool   `json:"fail"`
		Docs string `json:"docs"`
	}
	lines := []line{}
	for _, f := range findings {
		failed = failed || f.Fail
		lines = append(lines, line{f.Code, f.Text, f.Fail, "docs/gateway.md#" + f.Code})
	}
	if c.JSON {
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(lines); err != nil {
			return err
		}
	} else {
		for _, l := range lines {
			word := "warning"
			if l.Fail {
				word = "error"
			}
			fmt.Fprintf(e.stdout, "%s [%s] %s\n        %s\n", word, l.Code, l.Text, l.Docs)
		}
		if len(lines) == 0 {
			fmt.Fprintln(e.stdout, "The config is fine.")
		}
	}
	if failed {
		return exitError(exitFindings)
	}
	return nil
}

// configCmd is kidoban config.
type configCmd struct {
	Schema configSchemaCmd `cmd:"" help:"Print the JSON Schema of the gateway's config."`
	Docs   configDocsCmd   `cmd:"" help:"Print a page with every member of the gateway's config."`
}

type configSchemaCmd struct{}

// Run prints the schema.
func (configSchemaCmd) Run(e *env) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(gatewaySchema())
}

// makeData makes the data directory, which nobody else may enter.
func makeData(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the data directory %s cannot be made", dir)
	}
	return nil
}

// openBeside opens the database for a command beside the gateway. One that makes
// the database says so: it was meant for a gateway whose data lies elsewhere, and
// would do its work where nobody looks.
func openBeside(e *env, conf gatewayConfig) (*store.DB, error) {
	path, fresh := sqlitePath(conf.Database), false
	if err := makeData(conf.Data); err != nil {
		return nil, err
	}
	if path != "" && os.MkdirAll(filepath.Dir(path), 0o700) == nil {
		if f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil { // otherwise openStore tells of it
			err = ownAs(f, filepath.Dir(path))
			f.Close()
			if err != nil {
				return nil, err
			}
			fresh = true
		}
	}
	db, err := openStore(e.ctx, conf)
	if err == nil && fresh {
		fmt.Fprintf(e.stderr, "kidoban: there was no database yet: %s is new and empty. If your gateway keeps its data elsewhere, name that with --data, or its config with -c\n", path)
	}
	return db, err
}

// ownAs gives a new file to whom dir belongs, where it lies or will lie.
func ownAs(f *os.File, dir string) error {
	like, err := os.Stat(dir)
	if err == nil {
		err = vault.OwnAs(f, like)
	}
	return kidoban.Wrap(kidoban.KindUsage, err, "%s cannot be given to the owner of %s", f.Name(), dir)
}

// sqlitePath is the file of an SQLite database, "" for another one.
func sqlitePath(database string) string {
	if strings.Contains(database, "://") {
		return ""
	}
	return strings.TrimPrefix(database, "sqlite:")
}

// openStore opens the database of a configuration, in a data directory that it
// makes when there is none.
func openStore(ctx context.Context, conf gatewayConfig) (*store.DB, error) {
	if err := makeData(conf.Data); err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Options{URL: conf.Database})
}
