package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/toolscan"
)

// userCmd is kidoban gateway user: the people, beside a running gateway.
type userCmd struct {
	Add     userAddCmd     `cmd:"" help:"Make a user. Prints the link with which the person sets a password."`
	List    userListCmd    `cmd:"" help:"List the users."`
	Reset   userResetCmd   `cmd:"" help:"Print a link with which a user sets a new password."`
	Disable userDisableCmd `cmd:"" help:"End a user's sessions and access at once, and keep the user out."`
	Enable  userEnableCmd  `cmd:"" help:"Let a disabled user in again."`
}

// userPassword sets a password without a person: over the running gateway's own
// set-up page, the one way on which passwords are made.
type userPassword struct {
	PasswordEnv string `help:"Environment variable with the password: sets it at once instead of printing a link. The gateway must be running." placeholder:"VAR"`
}

// finish prints the link, or uses it.
func (p userPassword) finish(e *env, link, name string) error {
	if p.PasswordEnv == "" {
		fmt.Fprintf(e.stdout, "%s sets a password here (the link works once, for a day):\n  %s\n", name, link)
		return nil
	}
	password := e.getenv(p.PasswordEnv)
	if password == "" {
		return kidoban.Errorf(kidoban.KindUsage, "the environment variable %s is empty", p.PasswordEnv)
	}
	if err := setPassword(e.ctx, link, name, password); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s can log in.\n", name)
	return nil
}

// setPassword fills in the page behind a set-up link.
func setPassword(ctx context.Context, link, name, password string) error {
	u, err := url.Parse(link)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the set-up link cannot be read")
	}
	form := url.Values{"token": {u.Query().Get("token")}, "name": {name}, "password": {password}, "again": {password}}
	u.RawQuery = ""
	t := outbound.Relay(u.Scheme == "http", outbound.RelayOptions{Lab: true, Private: true, MaxIdle: 1}) // the operator's own gateway
	defer t.CloseIdleConnections()
	client := &http.Client{Transport: t, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the set-up link cannot be used")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	if err != nil {
		return kidoban.Errorf(kidoban.KindUnreachable, "the gateway at %s does not answer: is it running?", u.Host)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		return kidoban.Errorf(kidoban.KindUsage, "the gateway does not take this name and password for %s: a password has at least 12 characters and is none of the common ones", name)
	}
	return nil
}

type userAddCmd struct {
	gatewayFile
	userPassword
	Name  string `arg:"" help:"Login name."`
	Admin bool   `help:"May see and change everything in the console."`
}

// Run makes the user. The first one is always an administrator.
func (c userAddCmd) Run(e *env) error {
	if strings.TrimSpace(c.Name) == "" {
		return kidoban.Errorf(kidoban.KindUsage, "a user needs a login name: kidoban gateway user add alice")
	}
	as, done, err := registrar(e, c.gatewayFile)
	if err != nil {
		return err
	}
	defer done()
	link, err := as.SetupLink(e.ctx)
	first := err == nil && link != ""
	if err == nil && !first {
		link, err = as.AddUser(e.ctx, c.Name, c.Admin)
	}
	if kidoban.KindOf(err) == kidoban.KindConflict {
		return kidoban.Errorf(kidoban.KindUsage, "there is a user %s already: kidoban gateway user reset %s makes a new link", c.Name, c.Name)
	}
	if err != nil {
		return err
	}
	if first && c.PasswordEnv == "" { // there is no such user before the link is used
		fmt.Fprintf(e.stdout, "There are no users yet. Whoever opens this link chooses name and password, and is the administrator (it works once, for a day):\n  %s\n", link)
		return nil
	}
	return c.finish(e, link, c.Name)
}

type userResetCmd struct {
	gatewayFile
	userPassword
	Name string `arg:"" help:"Login name."`
}

// Run makes a link for a user who is there.
func (c userResetCmd) Run(e *env) error {
	as, done, err := registrar(e, c.gatewayFile)
	if err != nil {
		return err
	}
	defer done()
	link, err := as.ResetLink(e.ctx, c.Name)
	if err != nil {
		return noUser(err, c.Name)
	}
	return c.finish(e, link, c.Name)
}

func noUser(err error, name string) error {
	if kidoban.KindOf(err) == kidoban.KindNotFound {
		return kidoban.Errorf(kidoban.KindUsage, "there is no user %s: kidoban gateway user list shows who there is", name)
	}
	return err
}

type userListCmd struct {
	gatewayFile
	JSON bool `name:"json" help:"Print JSON lines."`
}

// Run lists everybody, page by page.
func (c userListCmd) Run(e *env) error {
	return c.withStore(e, func(db *store.DB) error {
		for after := ""; ; {
			users, err := db.Users(e.ctx, after, 200)
			if err == nil && after == "" && len(users) == 0 {
				fmt.Fprintln(e.stderr, "There are no users yet: kidoban gateway user add NAME --admin makes the first.")
			}
			if err != nil || len(users) == 0 {
				return err
			}
			var ids []string
			for _, u := range users {
				ids = append(ids, u.ID)
			}
			heard, err := db.HeardOf(e.ctx, ids)
			if err != nil {
				return err
			}
			for _, u := range users {
				if err := c.tell(e, u, heard[u.ID]); err != nil {
					return err
				}
				after = u.Name
			}
		}
	})
}

func (c userListCmd) tell(e *env, u authserver.User, h authserver.Heard) error {
	if c.JSON {
		line := map[string]any{"id": u.ID, "name": u.Name, "admin": u.Admin, "disabled": u.Disabled, "created": u.Created.UTC().Format(time.RFC3339)}
		if !h.At.IsZero() {
			line["groups"], line["heard"] = h.Said(), h.At.UTC().Format(time.RFC3339)
		}
		if !h.Ended.IsZero() {
			line["login_ended"] = h.Ended.UTC().Format(time.RFC3339)
		}
		return json.NewEncoder(e.stdout).Encode(line)
	}
	words := ""
	if u.Admin {
		words += "  administrator"
	}
	if u.Disabled {
		words += "  disabled"
	}
	if !h.Ended.IsZero() {
		words += "  login ended at the provider"
	}
	if groups := h.Said(); len(groups) > 0 {
		words += "  " + toolscan.Visible(strings.Join(groups, ", "), 1000) + " (" + h.At.UTC().Format(time.RFC3339) + ")"
	}
	_, err := fmt.Fprintf(e.stdout, "%s  %s%s\n", u.ID, u.Name, words)
	return err
}

// withStore opens the database of a config.
func (f gatewayFile) withStore(e *env, do func(*store.DB) error) error {
	conf, err := f.load()
	if err != nil {
		return err
	}
	db, err := openBeside(e, conf)
	if err != nil {
		return err
	}
	defer db.Close()
	return do(db)
}

type userDisableCmd struct {
	gatewayFile
	Name string `arg:"" help:"Login name."`
}

// Run keeps the user out.
func (c userDisableCmd) Run(e *env) error { return disable(e, c.gatewayFile, c.Name, true) }

type userEnableCmd struct {
	gatewayFile
	Name string `arg:"" help:"Login name."`
}

// Run lets the user in.
func (c userEnableCmd) Run(e *env) error { return disable(e, c.gatewayFile, c.Name, false) }

func disable(e *env, f gatewayFile, name string, off bool) error {
	as, done, err := registrar(e, f)
	if err != nil {
		return err
	}
	defer done()
	return f.withStore(e, func(db *store.DB) error {
		u, err := db.UserByName(e.ctx, strings.ToLower(strings.TrimSpace(name)))
		if err != nil {
			return noUser(err, name)
		}
		if err := as.DisableUser(e.ctx, u.ID, off); err != nil {
			return err
		}
		word := "may log in again"
		if off {
			word = "is out: sessions and access ended, everywhere within a second"
		}
		_, err = fmt.Fprintf(e.stdout, "%s %s.\n", u.Name, word)
		return err
	})
}
