package main

import (
	"fmt"
	"io"
	"log/slog"
	"os/user"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
)

// denyCmd is kidoban gateway deny: the deny-list, beside a running gateway, whose
// replicas follow within a second (G-RG4).
type denyCmd struct {
	Add    denyAddCmd    `cmd:"" default:"withargs" help:"Block a host, URL, document domain or client; its access ends at once."`
	List   denyListCmd   `cmd:"" help:"List what is blocked."`
	Remove denyRemoveCmd `cmd:"" help:"Take an entry off the list. Access that ended stays ended."`
}

type denyAddCmd struct {
	gatewayFile
	Kind    string `arg:"" enum:"host,url,cimd,client" help:"host (with all below it), url (with all below it), cimd (domain of client documents) or client (an id)."`
	Pattern string `arg:"" help:"What to block: evil.example, https://host.example/app, a client id."`
	Reason  string `help:"Why; shown to administrators." placeholder:"TEXT"`
}

// registrar opens the authorization server of a config without serving it.
func registrar(e *env, f gatewayFile) (as *authserver.Server, done func(), err error) {
	conf, err := f.load()
	if err != nil {
		return nil, nil, err
	}
	db, err := openBeside(e, conf)
	if err != nil {
		return nil, nil, err
	}
	done = func() { db.Close() }
	defer func() {
		if err != nil {
			done()
		}
	}()
	v, err := openVault(e.ctx, conf, db)
	if err != nil {
		return nil, nil, err
	}
	gc, err := conf.gateway()
	if err != nil {
		return nil, nil, err
	}
	ac, err := conf.authserver(gc)
	if err != nil {
		return nil, nil, err
	}
	if as, err = authserver.New(e.ctx, ac, authserver.Deps{Store: db, Sealer: sealer{v}, Observer: teller{slog.New(slog.NewTextHandler(e.stderr, nil))}}); err != nil {
		return nil, nil, err
	}
	done = func() { as.Close(); db.Close() }
	return as, done, nil
}

// teller writes failures to the log; a command has no audit log of its own.
type teller struct{ log *slog.Logger }

// Event implements authserver.Observer.
func (t teller) Event(e authserver.Event) {
	if e.Outcome == "failed" {
		t.log.Warn(e.Name, "detail", e.Detail)
	}
}

// Alert implements authserver.Observer.
func (t teller) Alert(kidoban.Alert) {}

// Run blocks.
func (c denyAddCmd) Run(e *env) error {
	as, done, err := registrar(e, c.gatewayFile)
	if err != nil {
		return err
	}
	defer done()
	by := "command line"
	if u, err := user.Current(); err == nil {
		by = u.Username
	}
	n, err := as.Ban(e.ctx, c.Kind, c.Pattern, c.Reason, by)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "blocked %s %s; %s ended\n", c.Kind, c.Pattern, kidoban.Count(n, "grant", "grants"))
	return err
}

type denyListCmd struct {
	gatewayFile
}

// Run lists.
func (c denyListCmd) Run(e *env) error {
	as, done, err := registrar(e, c.gatewayFile)
	if err != nil {
		return err
	}
	defer done()
	list := as.DenyList()
	if len(list) == 0 {
		fmt.Fprintln(e.stderr, "Nothing is blocked.")
	}
	for _, d := range list {
		if err := writeDeny(e.stdout, d); err != nil {
			return err
		}
	}
	return nil
}

func writeDeny(w io.Writer, d authserver.Deny) error {
	when := "config"
	if !d.Created.IsZero() {
		when = d.Created.UTC().Format(time.RFC3339)
	}
	_, err := fmt.Fprintf(w, "%s  %-6s %s  (%s, by %s) %s\n", d.ID, d.Kind, d.Pattern, when, d.By, d.Reason)
	return err
}

type denyRemoveCmd struct {
	gatewayFile
	ID string `arg:"" help:"The entry's id, as list shows it."`
}

// Run removes.
func (c denyRemoveCmd) Run(e *env) error {
	as, done, err := registrar(e, c.gatewayFile)
	if err != nil {
		return err
	}
	defer done()
	return as.Unban(e.ctx, c.ID)
}
