package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/lab"
)

type populationCmd struct {
	N       int    `short:"n" name:"n" help:"Servers." default:"1000"`
	Seed    uint64 `help:"The same seed gives the same servers." default:"7"`
	Addr    string `help:"Loopback address to listen on." default:"127.0.0.1:0"`
	TLS     bool   `name:"tls" help:"Serve https, with certificates of the population's own authority."`
	CA      string `name:"ca" help:"File to write the authority's certificate to, for --ca-cert of the census." placeholder:"FILE"`
	Truth   string `help:"File to write the ground truth to, one JSON line a server." placeholder:"FILE"`
	Targets string `help:"File to write the candidates to." placeholder:"FILE"`
	OptOut  string `name:"opt-out" help:"File to write the hosts to that asked not to be measured." placeholder:"FILE"`
	Log     string `help:"File to write the access log to." placeholder:"FILE"`
	JSON    bool   `name:"json" help:"Print the address as one JSON line."`
}

// Run serves a population until the context ends.
func (c populationCmd) Run(e *env) error {
	o := lab.PopulationOptions{N: c.N, Seed: c.Seed, Addr: c.Addr, TLS: c.TLS}
	if c.Log != "" {
		f, err := os.Create(c.Log)
		if err != nil {
			return kidoban.Wrap(kidoban.KindUsage, err, "the access log cannot be made")
		}
		defer f.Close()
		o.Log = f
	}
	p, err := lab.StartPopulation(e.ctx, o)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the population does not start")
	}
	defer p.Close()
	for path, write := range map[string]func(io.Writer) error{c.Truth: p.WriteTruth, c.Targets: p.WriteTargets, c.CA: p.WriteCA, c.OptOut: p.WriteOptOut} {
		if path == "" {
			continue
		}
		if err := wholeFile(path, 0o666, write); err != nil {
			return err
		}
	}
	if c.JSON {
		err = json.NewEncoder(e.stdout).Encode(map[string]any{"addr": p.Addr(), "n": c.N, "seed": c.Seed, "truth": c.Truth, "targets": c.Targets, "opt_out": c.OptOut})
	} else {
		_, err = fmt.Fprintf(e.stdout, "%s on %s under the names s000000.pop.localhost and so on. Ctrl-C ends them.\n", kidoban.Count(c.N, "server answers", "servers answer"), p.Addr())
	}
	if err != nil {
		return err
	}
	<-e.ctx.Done()
	return nil
}
