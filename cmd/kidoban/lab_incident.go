package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/toolscan"
)

// incidentCmd is kidoban lab incident: published incidents with a scripted model
// that obeys what it reads, direct and through a gateway with its defaults, each
// with its honest variant.
type incidentCmd struct {
	Names []string `arg:"" optional:"" help:"Incidents: github, whatsapp, whatsapp-later, whatsapp-message; all without."`
	Flow  string   `enum:"ask,block,off" default:"ask" help:"The barrier's mode: ask, block or off."`
	JSON  bool     `name:"json" help:"Print one JSON document."`
	Steps bool     `help:"Print every step of the model."`
}

// incidentRun is one play.
type incidentRun struct {
	Incident string     `json:"incident"`
	Through  string     `json:"through"` // "" or "gateway"
	Poisoned bool       `json:"poisoned"`
	Leaked   bool       `json:"leaked"`
	Done     bool       `json:"done"`     // what the user asked for was done
	Asked    int        `json:"asked"`    // questions to the person
	Approved int        `json:"approved"` // of which answered with yes
	Steps    []lab.Step `json:"steps"`
}

// Run plays and fails when an incident is not stopped or an honest task is.
func (c incidentCmd) Run(e *env) error {
	if len(c.Names) == 0 {
		c.Names = lab.IncidentNames()
	}
	all, bad := []incidentRun{}, 0
	for _, name := range c.Names {
		for _, through := range []string{"", "gateway"} {
			for _, poisoned := range []bool{true, false} {
				r, err := c.play(e.ctx, name, through, poisoned)
				if err != nil {
					return err
				}
				all = append(all, r)
				// With block nobody can say yes to sending after reading.
				must := !(poisoned && through == "") && !(c.Flow == "block" && through != "")
				if r.Leaked != (poisoned && through == "") || must && !r.Done {
					bad++
				}
				if !c.JSON {
					c.print(e, r)
				}
			}
		}
	}
	if c.JSON {
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(all); err != nil {
			return err
		}
	}
	if bad > 0 {
		return exitError(exitFindings)
	}
	return nil
}

func (c incidentCmd) print(e *env, r incidentRun) {
	through, kind, leak, done := "direct", "honest", "nothing leaked", "the user's task was done"
	if r.Through != "" {
		through = r.Through
	}
	if r.Poisoned {
		kind = "attack"
	}
	if r.Leaked {
		leak = "LEAKED"
	}
	if !r.Done {
		done = "the user's task was not done"
	}
	fmt.Fprintf(e.stdout, "%-17s %-8s %-7s %s; %s", r.Incident, kind, through, leak, done)
	if r.Asked > 0 {
		fmt.Fprintf(e.stdout, "; a person was asked %s and said yes %s", kidoban.Count(r.Asked, "time", "times"), kidoban.Count(r.Approved, "time", "times"))
	}
	fmt.Fprintln(e.stdout)
	if c.Steps {
		for _, s := range r.Steps {
			fmt.Fprintf(e.stdout, "    %s %s: %s\n", s.Server, s.Tool, toolscan.Visible(s.What, 200))
		}
	}
}

func (c incidentCmd) play(ctx context.Context, name, through string, poisoned bool) (r incidentRun, err error) {
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return r, kidoban.Wrap(kidoban.KindInternal, err, "no randomness")
	}
	i, err := lab.OpenIncident(name, "canary-"+hex.EncodeToString(id[:]), poisoned)
	if err != nil {
		return r, err
	}
	defer i.Close()
	transport := outbound.Relay(true, outbound.RelayOptions{Lab: true})
	defer transport.CloseIdleConnections()
	r = incidentRun{Incident: name, Through: through, Poisoned: poisoned}
	hands := lab.Hands{HTTP: &http.Client{Transport: transport, Timeout: time.Minute}}
	if through != "" {
		g, err := openIncidentGateway(ctx, i.Servers, c.Flow, "")
		if err != nil {
			return r, err
		}
		defer g.close()
		hands.URL, hands.Token = g.address, g.token
		hands.Asked = func(_, tool string, args map[string]string) bool {
			yes, asked := g.decide(ctx, i.Wanted(tool, args))
			if asked {
				r.Asked++
			}
			if asked && yes {
				r.Approved++
			}
			return asked && yes
		}
	}
	r.Steps, err = i.Play(ctx, hands)
	r.Leaked, r.Done = i.Leaked(), i.Done()
	return r, err
}

// incidentGateway is a gateway with its default guards before an incident's
// servers, one user, and that user's person.
type incidentGateway struct {
	gate *gateway.Gateway
	db   *store.DB
	dir  string
	url  string
	http *http.Server
	key  ed25519.PrivateKey
}

const incidentUser = "u_victim"

// openIncidentGateway starts one; without a database it has one of its own.
func openIncidentGateway(ctx context.Context, servers map[string]string, flow, database string) (g *incidentGateway, err error) {
	g = &incidentGateway{}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if g.dir, err = os.MkdirTemp("", "kidoban-incident-"); err != nil {
		return g, kidoban.Wrap(kidoban.KindInternal, err, "there is no place for temporary files")
	}
	if database == "" {
		database = filepath.Join(g.dir, "kidoban.db")
	}
	if g.db, err = store.Open(ctx, store.Options{URL: database}); err != nil {
		return g, err
	}
	if _, g.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return g, kidoban.Wrap(kidoban.KindInternal, err, "no randomness")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return g, kidoban.Wrap(kidoban.KindInternal, err, "nobody can listen on loopback")
	}
	g.http = &http.Server{ReadHeaderTimeout: 10 * time.Second}
	g.url = "http://" + l.Addr().String()
	conf := gateway.Config{PublicURL: g.url, Implies: map[string][]string{"mcp:write": {"mcp:read"}}}
	for name, url := range servers {
		conf.Servers = append(conf.Servers, gateway.Server{Name: name, URL: url, Loopback: true})
	}
	guards, err := g.guards(flow)
	if err == nil {
		g.gate, err = gateway.New(conf, gateway.Deps{Keys: g, Liveness: g, StateKey: g.key.Seed(), Guards: guards})
	}
	if err != nil {
		l.Close()
		return g, err
	}
	g.http.Handler = g.gate
	go g.http.Serve(l) // ends with close
	return g, nil
}

// guards are those of a gateway whose config says nothing about them.
func (g *incidentGateway) guards(flow string) (out gateway.Guards, err error) {
	scanner, log := toolscan.New(), slog.New(slog.DiscardHandler)
	rules, err := gatewayConfig{Policy: policyConfig{Flow: flow}}.policyRules()
	if err != nil {
		return out, err
	}
	p := gateway.NewPolicyGuard(g.db, nil, scanner, log, time.Now)
	p.SetRules(rules)
	a, err := gateway.NewApprovalGuard(g.db, g.key.Seed(), func(id string) string { return gateway.ApprovalPage(g.url, id) }, log, time.Now, rand.Reader)
	if err != nil {
		return out, err
	}
	a.SetRules(gateway.ApprovalRules{Hold: -1})
	return gateway.Guards{Policy: p, Pins: gateway.NewPinGuard(g.db, "", scanner, nil, log, time.Now), Arguments: gateway.NewArgumentGuard(nil, log), Approval: a, Results: gateway.NewResultGuard(scanner, log)}, nil
}

func (g *incidentGateway) address(server string) string { return g.url + "/s/" + server + "/mcp" }

// decide is the person at the page: whatever waits is answered.
func (g *incidentGateway) decide(ctx context.Context, yes bool) (approved, asked bool) {
	waiting, err := g.db.WaitingApprovals(ctx, incidentUser, time.Now())
	if err != nil {
		return false, false
	}
	for _, a := range waiting {
		a.State, a.By, a.Decided, a.Expires = gateway.ApprovalRefused, "the person", time.Now(), time.Now().Add(time.Minute)
		if yes {
			a.State = gateway.ApprovalApproved
		}
		if g.db.DecideApproval(ctx, a) == nil {
			approved, asked = yes, true
		}
	}
	return approved, asked
}

// token signs an access token for one server.
func (g *incidentGateway) token(server string) string {
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: g.key}, (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", "incident"))
	if err != nil {
		return ""
	}
	now := time.Now()
	raw, err := jwt.Signed(s).Claims(map[string]any{"iss": g.url, "aud": g.address(server), "sub": incidentUser, "client_id": "scripted model", "jti": "1", "kidoban_grant": "1",
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "scope": "mcp:write"}).Serialize()
	if err != nil {
		return ""
	}
	return raw
}

// Lookup implements gateway.KeySet.
func (g *incidentGateway) Lookup(kid string) (jose.JSONWebKey, bool) {
	return jose.JSONWebKey{Key: g.key.Public(), KeyID: "incident", Algorithm: "EdDSA", Use: "sig"}, kid == "incident"
}

// Live implements gateway.Liveness.
func (g *incidentGateway) Live(string, string) (bool, error) { return true, nil }

func (g *incidentGateway) close() {
	if g.http != nil {
		g.http.Close()
	}
	if g.gate != nil {
		g.gate.Close()
	}
	if g.db != nil {
		g.db.Close()
	}
	if g.dir != "" {
		os.RemoveAll(g.dir)
	}
}
