package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/wire"
)

// guards are the judges of what passes through the gateway.
func (s *service) guards(conf gatewayConfig) gateway.Guards {
	pins := gateway.NewPinGuard(s.db, gateway.Trust(conf.Tools.Trust), s.decide.scanner, s.journal, s.log, time.Now)
	pins.Alert, s.decide.policy.Alert = s.as.Raise, s.as.Raise
	return gateway.Guards{
		Policy:    s.decide.policy,
		Pins:      pins,
		Arguments: gateway.NewArgumentGuard(nil, s.log),
		Approval:  s.decide.approvals,
		Results:   gateway.NewResultGuard(s.decide.scanner, s.log),
	}
}

// argumentsConfig is the part of a server's config that guards arguments.
type argumentsConfig struct {
	Path       string            `yaml:"path" enum:"off,flag,block" doc:"Paths that leave the roots. Default block for stdio, loopback and private servers, flag for others."`
	URL        string            `yaml:"url" enum:"off,flag,block" doc:"URLs to other than public addresses. Default as path."`
	Command    string            `yaml:"command" enum:"off,flag,block" doc:"Characters with a meaning to a shell, in commands and keys. Default as path."`
	SQL        string            `yaml:"sql" enum:"off,flag,block" doc:"SQL that is more than one plain statement. Default as path."`
	Template   string            `yaml:"template" enum:"off,flag,block" doc:"Code in templates, and in arguments of prompts. Default as path."`
	Undeclared string            `yaml:"undeclared" enum:"refuse,drop,pass" doc:"Parameters that a tool does not declare. Default refuse."`
	Roots      []string          `yaml:"roots" doc:"Directories that paths lead into. Default: what read, write and dir open, and directories on the command line."`
	Hosts      []string          `yaml:"hosts" doc:"Hosts, or host:port, that URLs may name although their addresses are closed."`
	Kinds      map[string]string `yaml:"kinds" doc:"What parameters hold, by tool.parameter or parameter: path, url, command, sql, template, token or text. Default: what schema and name say."`
	Fixed      map[string]string `yaml:"fixed" doc:"Values by tool.parameter that the gateway sets, whatever the model says, as JSON."`
}

// rules checks the words and builds the guard's rules.
func (a argumentsConfig) rules(bad func(string, ...any) error) (gateway.ArgumentRules, []error) {
	r := gateway.ArgumentRules{Undeclared: a.Undeclared, Roots: a.Roots, Hosts: a.Hosts}
	var errs []error
	if !slices.Contains([]string{"", gateway.UndeclaredRefuse, gateway.UndeclaredDrop, gateway.UndeclaredPass}, a.Undeclared) {
		errs = append(errs, bad("arguments: undeclared must be refuse, drop or pass, not %.40q", a.Undeclared))
	}
	for kind, mode := range map[gateway.ArgKind]string{gateway.ArgPath: a.Path, gateway.ArgURL: a.URL, gateway.ArgCommand: a.Command, gateway.ArgSQL: a.SQL, gateway.ArgTemplate: a.Template} {
		switch gateway.Mode(mode) {
		case "":
		case gateway.ModeOff, gateway.ModeFlag, gateway.ModeBlock:
			if r.Modes == nil {
				r.Modes = map[gateway.ArgKind]gateway.Mode{}
			}
			r.Modes[kind] = gateway.Mode(mode)
		default:
			errs = append(errs, bad("arguments: %s must be off, flag or block, not %.40q", kind, mode))
		}
	}
	for name, kind := range a.Kinds {
		switch k := gateway.ArgKind(kind); k {
		case gateway.ArgPath, gateway.ArgURL, gateway.ArgCommand, gateway.ArgSQL, gateway.ArgTemplate, gateway.ArgToken, gateway.ArgText:
			if r.Kinds == nil {
				r.Kinds = map[string]gateway.ArgKind{}
			}
			r.Kinds[name] = k
		default:
			errs = append(errs, bad("arguments: the kind of %.80q must be path, url, command, sql, template, token or text", name))
		}
	}
	for name, value := range a.Fixed {
		if !json.Valid([]byte(value)) || !strings.Contains(name, ".") {
			errs = append(errs, bad("arguments: fixed %.80q must be named tool.parameter and hold JSON, such as '\"acme\"'", name))
			continue
		}
		if r.Fixed == nil {
			r.Fixed = map[string]wire.Raw{}
		}
		r.Fixed[name] = wire.Raw(strings.TrimSpace(value))
	}
	for _, root := range a.Roots {
		if !filepath.IsAbs(root) {
			errs = append(errs, bad("arguments: root %.200q must be an absolute path", root))
		}
	}
	return r, errs
}

// resultsConfig is the part of a server's config about what comes back.
type resultsConfig struct {
	MaxText   int    `yaml:"max_text" doc:"Bytes of one text; what is longer is cut. Default 1048576."`
	Injection string `yaml:"injection" enum:"off,flag,block" doc:"Text that reads like orders to the model: flag labels it, block refuses it. Default flag."`
	Secrets   string `yaml:"secrets" enum:"redact,pass" doc:"Credentials in results. Default redact."`
}

func (r resultsConfig) rules(bad func(string, ...any) error) (out gateway.ResultRules, errs []error) {
	out = gateway.ResultRules{MaxText: r.MaxText, Injection: gateway.Mode(r.Injection)}
	if !slices.Contains([]string{"", "off", "flag", "block"}, r.Injection) {
		errs = append(errs, bad("results: injection must be off, flag or block, not %.40q", r.Injection))
	}
	switch r.Secrets {
	case "", "redact":
	case "pass":
		out.Secrets = gateway.ModeOff
	default:
		errs = append(errs, bad("results: secrets must be redact or pass, not %.40q", r.Secrets))
	}
	return out, errs
}
