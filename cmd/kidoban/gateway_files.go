package main

import (
	"fmt"
	"os"
	"slices"
	"time"
)

// fileEvery is how often the config and what it names are looked at.
const fileEvery = time.Second

// followed tells when files are to be read again: when they are others than those
// that were read, and the same as at the last look. What still changes is being
// written, and half a config may be a config, too.
type followed struct {
	names []string
	read  string // as they were before they were read
	last  string // at the last look
}

// follows makes one of a config and what it names. config tells how its file was
// before it was read; the others are read from now on.
func follows(file, config string, names []string) followed {
	now := config + onDisk(names...)
	return followed{names: append([]string{file}, names...), read: now, last: now}
}

// changed takes a look.
func (f *followed) changed(now string) bool {
	yes := now != f.read && now == f.last
	if f.last = now; yes {
		f.read = now
	}
	return yes
}

// onDisk tells times, sizes and rights of files. A link is what it leads to, as it is
// for who reads them: Kubernetes changes mounted secrets by another link alone.
func onDisk(names ...string) (out string) {
	for _, name := range names {
		if i, err := os.Stat(name); err == nil {
			out += fmt.Sprintf("%s %d %s;", i.ModTime(), i.Size(), i.Mode())
		} else {
			out += "none;"
		}
	}
	return out
}

// files are all that is read beside the config, as it names them. The vault's keys are
// not among them: they are followed in a way of their own.
func (c gatewayConfig) files() []string {
	out := []string{c.DatabaseFile, c.TLS.Cert, c.TLS.Key, c.Telemetry.HeadersFile}
	for _, w := range c.Alerts.Webhooks {
		out = append(out, w.URLFile, w.SecretFile)
	}
	for _, p := range c.Login.Providers {
		out = append(out, p.SecretFile)
	}
	for _, p := range c.Login.Asserting {
		out = append(out, p.JWKSFile)
	}
	for _, p := range c.Clients {
		out = append(out, p.SecretFile, p.JWKSFile)
	}
	for _, name := range c.serverNames() {
		o := c.Servers[name].OAuth
		out = append(out, o.SecretFile, o.KeyFile, o.Provider.SecretFile, o.Provider.KeyFile)
	}
	out = append(out, c.Policy.Files...)
	return slices.DeleteFunc(out, func(name string) bool { return name == "" })
}

// readCertificate puts the certificate as it is on disk in place of that in memory.
func (s *service) readCertificate(t tlsConfig) error {
	pair, err := t.load()
	if err != nil {
		return err
	}
	s.cert.Store(&pair)
	return nil
}

// renewCertificate reads the certificate in force again, whatever else is wrong with
// a changed config: it runs out on its day all the same.
func (s *service) renewCertificate() {
	t := s.config().TLS
	if t.Cert == "" {
		return
	}
	if err := s.readCertificate(t); err != nil {
		s.log.Warn("the TLS certificate cannot be read again; the one in memory stays in use", "error", err)
	}
}
