package main

import (
	"encoding/json"
	"fmt"
	"os/user"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/toolscan"
)

// pinsCmd is kidoban gateway pins: what servers offer and what was decided about
// it, beside a running gateway, which follows within two seconds.
type pinsCmd struct {
	List    pinsListCmd    `cmd:"" help:"List definitions and what was decided about them."`
	Diff    pinsDiffCmd    `cmd:"" help:"Show what held definitions change, word by word."`
	Approve pinsApproveCmd `cmd:"" help:"Approve held definitions."`
	Reject  pinsRejectCmd  `cmd:"" help:"Reject definitions, approved ones too."`
}

// pinPick chooses pins.
type pinPick struct {
	gatewayFile
	Server string `arg:"" optional:"" help:"The server's name in the config; all servers without."`
	Name   string `arg:"" optional:"" help:"Name of the tool, prompt or resource."`
}

func (p pinPick) open(e *env) (*store.DB, []gateway.Pin, error) {
	conf, err := p.load()
	if err != nil {
		return nil, nil, err
	}
	db, err := openBeside(e, conf)
	if err != nil {
		return nil, nil, err
	}
	all, err := db.Pins(e.ctx, p.Server, true)
	if err != nil {
		db.Close()
		return nil, nil, err
	}
	return db, all, nil
}

func (p pinPick) wants(pin gateway.Pin) bool { return p.Name == "" || p.Name == pin.Name }

type pinsListCmd struct {
	pinPick
	Held bool `help:"Only what is held."`
	JSON bool `help:"Print JSON."`
}

// Run prints the pins.
func (c pinsListCmd) Run(e *env) error {
	db, all, err := c.open(e)
	if err != nil {
		return err
	}
	defer db.Close()
	type line struct {
		Server, Name, SHA256, State, Reason, By string
		Kind                                    toolscan.Kind
		First                                   time.Time
	}
	lines := []line{}
	for _, p := range all {
		if c.wants(p) && (!c.Held || p.State == gateway.PinHeld) {
			lines = append(lines, line{p.Server, p.Name, p.SHA256, string(p.State), p.Reason, p.By, p.Kind, p.First.UTC()})
		}
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(lines)
	}
	for _, l := range lines {
		fmt.Fprintf(e.stdout, "%-9s %-20s %-12s %-32s %.12s  %s\n", l.State, l.Server, l.Kind, toolscan.Visible(l.Name, 120), l.SHA256, l.Reason)
	}
	if len(lines) == 0 {
		fmt.Fprintln(e.stdout, "There are none.")
	}
	return nil
}

type pinsDiffCmd struct{ pinPick }

// Run compares each held definition with the version approved last.
func (c pinsDiffCmd) Run(e *env) error {
	db, all, err := c.open(e)
	if err != nil {
		return err
	}
	defer db.Close()
	sc := toolscan.New()
	n := 0
	for _, p := range all {
		if p.State != gateway.PinHeld || !c.wants(p) {
			continue
		}
		n++
		fmt.Fprintf(e.stdout, "%s %s %s  %.12s  (%s)\n", p.Server, p.Kind, toolscan.Visible(p.Name, 120), p.SHA256, p.Reason)
		was, ok := gateway.Against(all, p)
		if !ok {
			fmt.Fprintf(e.stdout, "  new: %s\n", toolscan.Visible(string(p.Raw), 2000))
			continue
		}
		item := func(p gateway.Pin) toolscan.Item { return toolscan.Item{Kind: p.Kind, Name: p.Name, Raw: p.Raw} }
		d := sc.Drift(nil, item(was), item(p))
		fmt.Fprintf(e.stdout, "  %s\n", d.Grade)
		for _, ch := range d.Changes {
			text := diffLine(ch.Diff, false)
			if ch.Diff == nil {
				text = toolscan.Visible(ch.Before, 400) + " -> " + toolscan.Visible(ch.After, 400)
			}
			fmt.Fprintf(e.stdout, "  %s %s: %s\n", ch.Kind, toolscan.Visible(ch.Path, 200), text)
		}
	}
	if n == 0 {
		fmt.Fprintln(e.stdout, "Nothing is held.")
	}
	return nil
}

type pinsApproveCmd struct {
	pinPick
	SHA string `name:"sha256" help:"Only the version whose hash begins so." placeholder:"HEX"`
	All bool   `help:"Without a name: all that the server has waiting."`
}

// Run approves what is held.
func (c pinsApproveCmd) Run(e *env) error {
	return c.decide(e, gateway.PinApproved, c.SHA, c.All)
}

type pinsRejectCmd struct {
	pinPick
	SHA string `name:"sha256" help:"Only the version whose hash begins so." placeholder:"HEX"`
	All bool   `help:"Without a name: everything of the server."`
}

// Run rejects.
func (c pinsRejectCmd) Run(e *env) error {
	return c.decide(e, gateway.PinRejected, c.SHA, c.All)
}

func (p pinPick) decide(e *env, to gateway.PinState, sha string, whole bool) error {
	if p.Server == "" || p.Name == "" && !whole && sha == "" {
		return kidoban.Errorf(kidoban.KindUsage, "name the server and the tool; --all means everything of the server")
	}
	db, all, err := p.open(e)
	if err != nil {
		return err
	}
	defer db.Close()
	by := "command line"
	if u, err := user.Current(); err == nil {
		by += " (" + u.Username + ")"
	}
	n := 0
	for _, pin := range all {
		if !p.wants(pin) || pin.State == to || to == gateway.PinApproved && pin.State != gateway.PinHeld && sha == "" || len(sha) > len(pin.SHA256) || pin.SHA256[:len(sha)] != sha {
			continue
		}
		pin.State, pin.By, pin.Decided = to, by, time.Now()
		if err := db.DecidePin(e.ctx, pin); err != nil {
			return err
		}
		n++
		fmt.Fprintf(e.stdout, "%s: %s %s %s %.12s\n", to, pin.Server, pin.Kind, toolscan.Visible(pin.Name, 120), pin.SHA256)
	}
	if n == 0 {
		return kidoban.Errorf(kidoban.KindNotFound, "nothing there waits for that; kidoban gateway pins list %s shows what there is", p.Server)
	}
	return nil
}
