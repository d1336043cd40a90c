package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/lab"
)

// labCmd holds the commands around the deliberately weak servers.
type labCmd struct {
	List       labListCmd    `cmd:"" help:"List the switches, profiles and eras."`
	Serve      labServeCmd   `cmd:"" help:"Serve a lab on loopback until Ctrl-C."`
	Attack     labAttackCmd  `cmd:"" help:"Replay an attack in real browsers: against a weak lab, and against a fresh gateway."`
	Population populationCmd `cmd:"" help:"Serve thousands of synthetic MCP servers on loopback, with their ground truth."`
	Study      studyCmd      `cmd:"" help:"Hold the audit against the study's figures: its 119 servers, from recorded traffic and by probing."`
	Incident   incidentCmd   `cmd:"" help:"Replay published incidents with a model that obeys what it reads, direct and through the gateway."`
	Verify     verifyCmd     `cmd:"" help:"Prove the audit: every switch on and off, every profile and era, compared with what the lab declares."`
}

type labListCmd struct {
	JSON bool `name:"json" help:"Print one JSON document."`
}

// labSwitch is a switch in the JSON of kidoban lab list.
type labSwitch struct {
	Key    string       `json:"key"`
	Slug   string       `json:"slug"`
	Title  string       `json:"title"`
	Tier   kidoban.Tier `json:"tier"`
	Expect []string     `json:"expect"`
	Chains []string     `json:"chains"`
	Needs  lab.Needs    `json:"needs"`
	Eras   []string     `json:"eras"`

	Authorize bool `json:"authorize"` // decided behind /authorize
}

// Run prints what a lab can be.
func (c labListCmd) Run(e *env) error {
	var all []labSwitch
	for _, s := range lab.Switches() {
		check, _ := kidoban.CheckByKey(s.Key)
		eras, chains := s.Eras, s.Chains
		if eras == nil {
			eras = lab.Eras()
		}
		if chains == nil {
			chains = []string{}
		}
		all = append(all, labSwitch{s.Key, check.Slug, s.Title, s.Tier, s.Expect, chains, s.Needs, eras, s.Authorize})
	}
	if c.JSON {
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"switches": all, "profiles": lab.Profiles(), "eras": lab.Eras()})
	}
	fmt.Fprintf(e.stdout, "profiles  %s\neras      %s\n\n", strings.Join(lab.Profiles(), ", "), strings.Join(lab.Eras(), ", "))
	for _, s := range all {
		fmt.Fprintf(e.stdout, "%-6s %s  %s\n", s.Key, s.Tier, s.Title)
	}
	return nil
}

type labServeCmd struct {
	Flaws      []string `help:"Switches to throw, separated by commas: F1-a,F5-b, or their slugs." placeholder:"KEY,..."`
	Profile    string   `help:"How the authorization endpoint behaves; kidoban lab list has them all." default:"plain"`
	Depth      int      `help:"Redirects before validation in the deep-chain profile, 1 to 18; 0 is 8." default:"0"`
	Noise      int      `help:"Kind of unrelated traffic in the noise profile, 1 to 11; 0 is an analytics detour." default:"0"`
	Era        string   `help:"Era of the MCP server: modern, legacy, dual or sse." default:"dual"`
	IssuerPath bool     `help:"Give the issuer a path."`
	JWT        bool     `name:"jwt" help:"Issue at+jwt access tokens."`
	Upstream   bool     `help:"Log people in at an upstream identity provider."`
	Passkeys   bool     `help:"Add an account with a passkey; the server is then reached as localhost."`
	TLS        bool     `name:"tls" help:"Serve https under the lab's own authority."`
	Documents  bool     `help:"Let the authorization server fetch client documents from 127.0.0.1, for a canary there."`
	Addr       string   `help:"Loopback address to listen on." default:"127.0.0.1:0"`
	JSON       bool     `name:"json" help:"Print the addresses and accounts as one JSON line."`
}

// labLine is the line that kidoban lab serve --json prints.
type labLine struct {
	MCPURL    string        `json:"mcp_url"`
	SecondURL string        `json:"second_url"`
	Issuer    string        `json:"issuer"`
	Upstream  string        `json:"upstream_url,omitempty"`
	Cloud     string        `json:"cloud_url"`
	Flaws     []string      `json:"flaws"`
	Profile   string        `json:"profile"`
	Era       string        `json:"era"`
	Accounts  []lab.Account `json:"accounts"`
	CACert    string        `json:"ca_cert,omitempty"` // PEM
}

// registrationWindow is how long a served lab remembers registrations: an audit in a
// lab uses up the limit to see that there is one, and people audit more than once.
const registrationWindow = time.Minute

// Run serves until the context ends.
func (c labServeCmd) Run(e *env) error {
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{
		Flaws: c.Flaws, Profile: c.Profile, Era: c.Era, IssuerPath: c.IssuerPath, JWT: c.JWT, Upstream: c.Upstream,
		Passkeys: c.Passkeys, TLS: c.TLS, LoopbackDocuments: c.Documents, Addr: c.Addr, Depth: c.Depth, Noise: c.Noise,
		RegistrationWindow: registrationWindow,
	})
	if err != nil {
		return err
	}
	defer l.Close()
	if c.JSON {
		flaws := l.Flaws
		if flaws == nil {
			flaws = []string{}
		}
		err = json.NewEncoder(e.stdout).Encode(labLine{
			l.MCPURL, l.SecondURL, l.Issuer, l.UpstreamURL, l.CloudURL, flaws, c.Profile, c.Era, l.Accounts, string(l.CACert),
		})
	} else {
		err = c.greet(e, l)
	}
	if err != nil {
		return err
	}
	<-e.ctx.Done()
	return nil
}

// greet tells a person what runs and how to audit it.
func (c labServeCmd) greet(e *env, l *lab.Lab) error {
	weak := "none: this lab is safe"
	if len(l.Flaws) > 0 {
		weak = strings.Join(l.Flaws, ", ")
	}
	var people []string
	for _, a := range l.Accounts {
		if a.Passkey != "" {
			people = append(people, a.User+" / a passkey, printed by --json")
			continue
		}
		people = append(people, a.User+" / "+a.Password)
	}
	up := ""
	if l.UpstreamURL != "" {
		up = "\n  upstream  " + l.UpstreamURL
	}
	_, err := fmt.Fprintf(e.stdout, `A lab is running. It is weak on purpose and listens on loopback only.

  MCP       %s
  issuer    %s%s
  flaws     %s
  accounts  %s

Audit it in another terminal:

  kidoban audit %s --lab --active --thorough

It takes 20 registrations a minute, and an audit uses them all to see that there is
a limit: leave a minute between two active audits.

Ctrl-C ends it.
`, l.MCPURL, l.Issuer, up, weak, strings.Join(people, ", "), l.MCPURL)
	return err
}
