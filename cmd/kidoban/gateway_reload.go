package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
)

// reload puts a changed config in force, whole or not at all. What is followed from
// then on is what the file names, in force or not: what it lacks may come.
func (s *service) reload(e *env, file gatewayFile) { s.takeIn(e, file, true) }

// againEvery is how soon a config is tried again that is not in force by no fault of its
// own, as when the database is away.
const againEvery = 5 * time.Second

func (s *service) tryAgain(e *env, file gatewayFile) {
	if !s.again.IsZero() && !time.Now().Before(s.again) {
		s.takeIn(e, file, false)
	}
}

// takeIn says what has become of the config. While it is only waited for something, it
// says so once: first is for a config that has changed just now.
func (s *service) takeIn(e *env, file gatewayFile, first bool) {
	s.again = time.Time{}
	shown := s.config().TLS
	before := onDisk(file.Config)
	conf, err := file.load()
	s.files = follows(file.Config, before, append(conf.files(), shown.Cert, shown.Key))
	s.renewCertificate()
	if err == nil {
		for _, f := range conf.check() {
			if f.Fail {
				err = errors.Join(err, kidoban.Errorf(kidoban.KindUsage, "%s", f.Text))
			}
		}
	}
	var left []string
	faultless := err == nil
	if faultless {
		left, err = s.apply(e.ctx, conf)
	}
	if err != nil {
		again := ""
		if faultless && passes(err) {
			s.again = time.Now().Add(againEvery)
			again = "\nkidoban: it is tried again until it can be"
		}
		if first || again == "" {
			fmt.Fprintf(e.stderr, "kidoban: the changed config is not used, the old one stays in force:\n%s%s\n", err, again)
		}
		return
	}
	s.solo.Allow(on(conf.BusyPolling))
	but := ""
	if len(left) > 0 {
		but = ", but for what takes a restart: " + strings.Join(left, ", ")
	}
	fmt.Fprintf(e.stderr, "kidoban: the changed config is in force%s\n", but)
}

// passes tells whether an error may pass without a change of the config.
func passes(err error) bool {
	switch kidoban.KindOf(err) {
	case kidoban.KindUsage, kidoban.KindInput, kidoban.KindRefused:
		return false
	}
	return true
}

// restarts names what differs from old and is part of what else stands in the config,
// so that nothing of a changed config is in force without it: a server that was added
// for a gateway that asks who is there must not be served by one that does not.
func (c gatewayConfig) restarts(old gatewayConfig) (names []string) {
	moved := c.Database != old.Database && (c.DatabaseFile == "" || c.DatabaseFile != old.DatabaseFile)
	for _, d := range []struct {
		name    string
		differs bool
	}{
		{"listen", c.Listen != old.Listen}, {"public_url", c.PublicURL != old.PublicURL}, {"database", moved},
		{"vault_key", c.VaultKey != old.VaultKey}, {"open", c.Open != old.Open}, {"tools", c.Tools != old.Tools},
		{"tls on or off", (c.TLS.Cert == "") != (old.TLS.Cert == "")}, {"telemetry but for its headers", !c.Telemetry.sameWays(old.Telemetry)},
	} {
		if d.differs {
			names = append(names, d.name)
		}
	}
	return names
}

// leave puts back what stays as it is until a restart, and names it. Everything else
// holds without it. A database's URL that changed in its own file is no change of the
// config: who renews a password there still wants the rest to be followed.
func (c *gatewayConfig) leave(old gatewayConfig) (names []string) {
	for _, p := range []struct {
		name     string
		now, was *string
	}{{"what database_file holds", &c.Database, &old.Database}, {"data", &c.Data, &old.Data}, {"instance", &c.Instance, &old.Instance}, {"name", &c.Name, &old.Name}} {
		if *p.now != *p.was {
			*p.now = *p.was
			names = append(names, p.name)
		}
	}
	return names
}

// apply puts conf in force, and names what of it has to wait for a restart.
func (s *service) apply(ctx context.Context, conf gatewayConfig) (left []string, err error) {
	if names := conf.restarts(s.conf); len(names) > 0 {
		return nil, kidoban.Errorf(kidoban.KindUsage, "it changes what takes a restart: %s", strings.Join(names, ", "))
	}
	left = conf.leave(s.conf)
	gc, err := conf.gateway()
	if err != nil {
		return nil, err
	}
	ac, err := conf.authserver(gc)
	if err != nil {
		return nil, err
	}
	apps, aerr := conf.apps()
	if err := errors.Join(gc.Validate(), ac.Validate(), aerr); err != nil {
		return nil, err
	}
	rules, err := conf.policyRules()
	if err != nil {
		return nil, err
	}
	export, _, terr := conf.Telemetry.export(conf.Instance)
	hooks, herr := conf.Alerts.hooks()
	if err := errors.Join(terr, herr); err != nil {
		return nil, err
	}
	if conf.TLS != s.config().TLS {
		if err := s.readCertificate(conf.TLS); err != nil {
			return nil, err
		}
	}
	if err := s.as.Reload(ctx, ac); err != nil {
		return nil, err
	}
	s.outlets.change(export, hooks)
	s.setPolicy(conf, rules)
	s.setProxies(conf)
	s.wallet.SetApps(apps)
	s.current.Store(&conf)
	s.decide.policy.Changed("") // which groups of people count stands in the config
	return left, s.gate.Reload(gc)
}
