package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/lab/attack"
	"github.com/kidoban/kidoban/outbound/freeport"
)

// labAttackCmd replays an attack in real browsers, against a weak lab and against
// a fresh gateway.
type labAttackCmd struct {
	Name    string   `arg:"" optional:"" help:"phishing, confused-deputy, other-browser or banned-host; all without a name."`
	On      []string `help:"weak (a lab with the flaws it needs), gateway (a fresh one), or both." default:"weak,gateway" enum:"weak,gateway"`
	Shots   string   `name:"screenshots" help:"Write screenshots of where the victim ended into this directory." placeholder:"DIR"`
	Lang    string   `help:"Language of the browsers." default:"en"`
	Browser string   `help:"The Chromium to use; found by itself." placeholder:"PATH"`
	JSON    bool     `name:"json" help:"Print JSON."`

	Against     string `help:"Instead, attack a running server of yours on loopback: its MCP address." placeholder:"URL"`
	Issuer      string `help:"With --against: its authorization server; default is the address's origin." placeholder:"URL"`
	User        string `help:"With --against: a user of yours, the victim." placeholder:"NAME"`
	PasswordEnv string `help:"Environment variable with that user's password." placeholder:"VAR"`
}

// attackLine is one result in the JSON of kidoban lab attack.
type attackLine struct {
	On string `json:"on"`
	attack.Result
	Alerts []kidoban.AlertKind `json:"alerts,omitempty"`
}

// Run attacks. It exits with 1 when an attack on a gateway succeeded, or one on a
// weak lab did not: then the script proves nothing.
func (c labAttackCmd) Run(e *env) error {
	list := attack.Attacks()
	if c.Name != "" {
		a, err := attack.ByName(c.Name)
		if err != nil {
			return err
		}
		list = []attack.Attack{a}
	}
	if c.Shots != "" {
		if err := os.MkdirAll(c.Shots, 0o755); err != nil {
			return kidoban.Wrap(kidoban.KindUsage, err, "the directory for screenshots cannot be made")
		}
	}
	var lines []attackLine
	bad := false
	for _, a := range list {
		runs := c.On
		if c.Against != "" {
			runs = []string{"against"}
		}
		for _, on := range runs {
			line, err := map[string]func(context.Context, *env, attack.Attack) (attackLine, error){
				"weak": c.weak, "gateway": c.gateway, "against": c.against}[on](e.ctx, e, a)
			if err != nil {
				return err
			}
			bad = bad || line.Succeeded != (on == "weak")
			lines = append(lines, line)
			if !c.JSON {
				line.tell(e.stdout, a)
			}
		}
	}
	if c.JSON {
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(lines); err != nil {
			return err
		}
	}
	if bad {
		return exitError(exitFindings)
	}
	return nil
}

func (l attackLine) tell(w io.Writer, a attack.Attack) {
	word := "STOPPED  "
	if l.Succeeded {
		word = "SUCCEEDED"
	}
	fmt.Fprintf(w, "%s  %-8s %s\n           %s\n", word, l.On, a.Title, l.End)
	if l.Loot != "" {
		fmt.Fprintf(w, "           The attacker has %s.\n", l.Loot)
	}
	if len(l.Alerts) > 0 {
		fmt.Fprintf(w, "           alerts: %s\n", strings.Trim(fmt.Sprint(l.Alerts), "[]"))
	}
	for _, s := range l.Screenshots {
		fmt.Fprintf(w, "           %s\n", s)
	}
}

func (c labAttackCmd) target(on string) attack.Target {
	return attack.Target{Screenshots: c.Shots, Prefix: on + "-", Language: c.Lang, Chromium: c.Browser}
}

// weak runs the attack against a lab with the flaws that it needs.
func (c labAttackCmd) weak(ctx context.Context, _ *env, a attack.Attack) (attackLine, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{Flaws: a.Flaws, Upstream: a.ThirdParty, Registrations: 100, Banned: []string{"evil-calendar.example"}})
	if err != nil {
		return attackLine{}, err
	}
	defer l.Close()
	t := c.target("weak")
	t.MCPURL, t.Issuer, t.ThirdParty = l.MCPURL, l.Issuer, l.UpstreamURL
	t.Victim, t.Attacker = l.Accounts[0], l.Accounts[1]
	t.VictimThere, t.AttackerThere = l.Accounts[0], l.Accounts[1]
	t.Ban = func(context.Context, string) error { return nil } // banned from the start
	res, err := a.Run(ctx, t)
	return attackLine{On: "weak", Result: res}, err
}

// gateway runs the attack against a fresh gateway. It takes remote callbacks, which
// by default it does not: what is shown is what stands behind that first gate.
func (c labAttackCmd) gateway(ctx context.Context, _ *env, a attack.Attack) (attackLine, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir, err := os.MkdirTemp("", "kidoban-attack-")
	if err != nil {
		return attackLine{}, kidoban.Wrap(kidoban.KindInternal, err, "no temporary directory")
	}
	defer os.RemoveAll(dir)
	at, err := freeport.Loopback()
	if err != nil {
		return attackLine{}, err
	}
	addr := at.String()
	base := "http://" + addr
	third, err := lab.Start(ctx, lab.Options{Upstream: true, UpstreamCallback: base + connectCallback})
	if err != nil {
		return attackLine{}, err
	}
	defer third.Close()
	p, s, err := admitAttacked(ctx, dir, addr, third)
	if err != nil {
		return attackLine{}, err
	}
	defer p.release()
	t := c.target("gateway")
	t.Issuer, t.MCPURL = base, base+"/s/notes/mcp"
	if a.ThirdParty {
		t.MCPURL, t.ThirdParty = base+"/s/mail/mcp", third.UpstreamURL
	}
	t.Victim, t.Attacker = lab.Account{User: p.users[0], Password: p.secret}, lab.Account{User: p.users[1], Password: p.secret}
	t.VictimThere, t.AttackerThere = third.Accounts[0], third.Accounts[1]
	t.Ban = func(ctx context.Context, host string) error {
		_, err := s.as.Ban(ctx, "host", host, "phishing", p.users[0])
		return err
	}
	res, err := a.Run(ctx, t)
	if err != nil {
		return attackLine{}, err
	}
	line := attackLine{On: "gateway", Result: res}
	alerts, err := s.db.Alerts(ctx, 20)
	for _, al := range alerts {
		line.Alerts = append(line.Alerts, al.Kind)
	}
	return line, err
}

// admitAttacked starts a gateway before a small server of its own and one whose
// accounts are at the third party.
func admitAttacked(ctx context.Context, dir, addr string, third *lab.Lab) (*patient, *service, error) {
	behind, stop, err := smallServer()
	if err != nil {
		return nil, nil, err
	}
	id, secret := third.UpstreamClient()
	secretFile := filepath.Join(dir, "client-secret")
	if err := os.WriteFile(secretFile, []byte(secret), 0o600); err != nil {
		stop()
		return nil, nil, kidoban.Wrap(kidoban.KindInternal, err, "the client secret cannot be written")
	}
	conf := gatewayConfig{Listen: addr, Data: filepath.Join(dir, "data"),
		Registration: registrationConfig{RemoteHosts: []string{"*"}},
		Limits: map[string]limitConfig{"registration_per_ip": {Count: 1000, Per: span(time.Minute), Burst: 100},
			"registration_per_prefix": {Count: 1000, Per: span(time.Minute), Burst: 100}},
		Servers: map[string]serverConfig{"notes": {URL: behind, Address: "loopback"},
			"mail": {URL: behind, Address: "loopback", Title: "Mail", Account: "user", OAuth: oauthConfig{Issuer: third.UpstreamURL, ClientID: id, SecretFile: secretFile,
				Method: "client_secret_basic", Scopes: []string{"openid"}, Resource: "none"}}}}
	p, s, err := admitWith(ctx, conf, nil)
	if err != nil {
		stop()
		return nil, nil, err
	}
	release := p.release
	p.release = func() { release(); stop() }
	return p, s, nil
}

// against runs the attack against a server that runs already. Its operator bans
// the host of banned-host beforehand.
func (c labAttackCmd) against(ctx context.Context, e *env, a attack.Attack) (attackLine, error) {
	if a.ThirdParty {
		return attackLine{}, kidoban.Errorf(kidoban.KindUsage, "%s needs a third party that both know; without --against it brings its own", a.Name)
	}
	if c.User == "" || e.env(c.PasswordEnv) == "" {
		return attackLine{}, kidoban.Errorf(kidoban.KindUsage, "give a user of yours with --user, and the password in an environment variable: --password-env VAR")
	}
	t := c.target("against")
	t.MCPURL, t.Issuer = c.Against, c.Issuer
	if t.Issuer == "" {
		u, err := url.Parse(c.Against)
		if err != nil {
			return attackLine{}, kidoban.Wrap(kidoban.KindUsage, err, "%.200s is no URL", c.Against)
		}
		t.Issuer = u.Scheme + "://" + u.Host
	}
	t.Victim = lab.Account{User: c.User, Password: e.env(c.PasswordEnv)}
	t.Ban = func(context.Context, string) error { return nil }
	res, err := a.Run(ctx, t)
	return attackLine{On: "against", Result: res}, err
}
