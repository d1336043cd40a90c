package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/toolscan"
)

// policyConfig is the part of the config that says who may do what.
type policyConfig struct {
	Default     string              `yaml:"default" enum:"allow,deny" doc:"What holds where no rule speaks: allow, within the token's scopes (the default), or deny."`
	Destructive string              `yaml:"destructive" enum:"ask,deny,allow" doc:"Tools that their server marks destructive. Default ask: a person approves each call."`
	Flow        string              `yaml:"flow" enum:"ask,block,off" doc:"Calls that send out after the session has read text of strangers or private data. Default ask."`
	Memory      span                `yaml:"memory" doc:"How long a session counts as having read something. Default 4h."`
	Groups      map[string][]string `yaml:"groups" doc:"Login names or user ids by group."`
	Rules       []ruleConfig        `yaml:"rules" doc:"Simple rules; each allows, asks or denies."`
	Files       []string            `yaml:"files" doc:"Cedar files with policies of your own; relative to the config's directory."`
	Wait        span                `yaml:"wait" doc:"How long a call waits for a person's approval, and an approval for its call. Default 10m."`
	Hold        span                `yaml:"hold" doc:"How long a call that comes again is held while a person decides. Default 45s."`
}

type ruleConfig struct {
	Allow   []string `yaml:"allow" doc:"Patterns server/name of tools, prompts and resources, with *."`
	Ask     []string `yaml:"ask" doc:"The same; a person approves each call."`
	Deny    []string `yaml:"deny" doc:"The same; denied ones are not listed either."`
	Users   []string `yaml:"users" doc:"Only for these login names or user ids."`
	Groups  []string `yaml:"groups" doc:"Only for members of these groups."`
	Clients []string `yaml:"clients" doc:"Only for these client ids."`
}

// sourcesConfig is the part of a server's config that says what may be read.
type sourcesConfig struct {
	Resources []string `yaml:"resources" doc:"Patterns of URIs, with *: the only resources that may be read."`
	Hosts     []string `yaml:"hosts" doc:"The only hosts, or host:port, that URLs in arguments may name; *.example.org means all below."`
}

var flowEffects = map[string]policy.Effect{"": policy.Ask, "ask": policy.Ask, "block": policy.Deny, "off": policy.Allow}

// compile reads the files and makes the set. Problems that are not fatal are the
// second result; the others the error.
func (p policyConfig) compile(servers []string, providers []providerConfig) (*policy.Set, []policy.Problem, error) {
	o := policy.Options{Default: policy.Effect(p.Default), Destructive: policy.Effect(p.Destructive), Servers: servers}
	flow, ok := flowEffects[p.Flow]
	if !ok {
		return nil, nil, kidoban.Errorf(kidoban.KindUsage, "policy: flow must be ask, block or off, not %.40q", p.Flow)
	}
	o.Flow = flow
	for _, r := range p.Rules {
		o.Rules = append(o.Rules, policy.Rule(r))
	}
	for _, name := range p.Files {
		text, err := readPolicy(name)
		if err != nil {
			return nil, nil, err
		}
		o.Files = append(o.Files, policy.File{Name: name, Text: text})
	}
	set, problems := policy.Compile(o)
	var fatal []string
	var rest []policy.Problem
	for _, x := range problems {
		if x.Fatal {
			fatal = append(fatal, x.String())
		} else {
			rest = append(rest, x)
		}
	}
	var named []string
	if set != nil {
		named = set.Groups()
	}
	faults, unknown := p.groupFaults(providers, named)
	fatal = append(fatal, faults...)
	rest = append(rest, unknown...)
	if len(fatal) > 0 {
		return nil, rest, kidoban.Errorf(kidoban.KindUsage, "policy: %s", strings.Join(fatal, "; "))
	}
	return set, rest, nil
}

func readPolicy(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the policy file %s cannot be read", name)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20+1))
	return text, kidoban.Wrap(kidoban.KindUsage, err, "the policy file %s cannot be read", name)
}

func (c gatewayConfig) serverNames() []string {
	out := []string{}
	for name := range c.Servers {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// decisionMaking is what decides, and the pages on which people do.
type decisionMaking struct {
	scanner   *toolscan.Scanner
	policy    *gateway.PolicyGuard
	approvals *gateway.ApprovalGuard
	pages     *gateway.Decisions
}

// openDecisions makes it. key seals what pages show, the same on every replica.
func (s *service) openDecisions(conf gatewayConfig, key []byte) (err error) {
	d := &s.decide
	d.scanner = toolscan.New()
	d.policy = gateway.NewPolicyGuard(s.db, s, d.scanner, s.log, time.Now)
	s.as.Liveness().OnChange(d.policy.Changed)
	d.policy.Alone = !s.db.Postgres() // an SQLite file has one gateway
	page := func(id string) string { return gateway.ApprovalPage(conf.PublicURL, id) }
	if d.approvals, err = gateway.NewApprovalGuard(s.db, key, page, s.log, time.Now, rand.Reader); err != nil {
		return err
	}
	rules, err := conf.policyRules()
	if err != nil {
		return err
	}
	s.setPolicy(conf, rules)
	d.pages, err = s.decisionPages(key)
	return err
}

func (c gatewayConfig) policyRules() (gateway.PolicyRules, error) {
	set, _, err := c.Policy.compile(c.serverNames(), c.Login.Providers)
	return gateway.PolicyRules{Set: set, Groups: c.Policy.Groups, Memory: time.Duration(c.Policy.Memory)}, err
}

// setPolicy puts rules in force.
func (s *service) setPolicy(conf gatewayConfig, rules gateway.PolicyRules) {
	s.decide.policy.SetRules(rules)
	s.decide.approvals.SetRules(gateway.ApprovalRules{Wait: time.Duration(conf.Policy.Wait), Hold: time.Duration(conf.Policy.Hold)})
}

// Person implements gateway.People.
func (s *service) Person(ctx context.Context, id string) (gateway.Person, error) {
	u, err := s.db.User(ctx, id)
	if err != nil {
		return gateway.Person{}, err
	}
	p := gateway.Person{ID: u.ID, Name: u.Name, Admin: u.Admin}
	h, err := s.db.Heard(ctx, id)
	if kidoban.KindOf(err) == kidoban.KindNotFound && err != nil {
		return p, nil
	}
	if err != nil {
		return gateway.Person{}, err
	}
	p.Groups = s.config().heardGroups(h)
	return p, nil
}

// heardGroups are the groups that a person's identity provider named, as rules call
// them by this config.
func (c gatewayConfig) heardGroups(h authserver.Heard) []string {
	for _, x := range c.Login.Providers {
		if x.ID == h.Provider {
			return h.Names(x.provider())
		}
	}
	return nil
}

// decisionPages are those on which people decide.
func (s *service) decisionPages(key []byte) (*gateway.Decisions, error) {
	return gateway.NewDecisions(gateway.DecisionDeps{
		PublicURL: s.conf.PublicURL, Name: s.conf.Name, Approvals: s.decide.approvals, Policy: s.decide.policy, Pins: s.db, Held: s.conf.consolePath() + "/definitions?state=held", Journal: s.journal, StateKey: key, Now: time.Now, Alert: s.as.Raise,
		Visitor: func(r *http.Request) (gateway.Person, error) {
			u, err := s.as.Visitor(r)
			return gateway.Person{ID: u.ID, Name: u.Name, Admin: u.Admin}, err
		},
		Login: s.as.AskLogin,
		Client: func(ctx context.Context, id string) string {
			var meta struct {
				Name string `json:"client_name"`
			}
			c, err := s.db.Client(ctx, id)
			if err != nil || json.Unmarshal(c.Metadata, &meta) != nil || meta.Name == "" {
				return id
			}
			return meta.Name + " (" + id + ")"
		},
	})
}

// policyCmd is kidoban gateway policy.
type policyCmd struct{ gatewayFile }

// Run prints what decides. Nothing is opened and nobody is asked.
func (c policyCmd) Run(e *env) error {
	conf, err := c.load()
	if err != nil {
		return err
	}
	set, problems, err := conf.Policy.compile(conf.serverNames(), conf.Login.Providers)
	if err != nil {
		return err
	}
	for _, p := range problems {
		fmt.Fprintf(e.stderr, "kidoban: warning: policy: %s\n", p)
	}
	_, err = io.WriteString(e.stdout, set.Cedar())
	return err
}
