package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/report"
)

// recordCmd lets a real client talk to a server through a loopback address and
// judges what passes.
type recordCmd struct {
	URL      string `arg:"" help:"The MCP server."`
	Addr     string `default:"127.0.0.1:0" help:"Loopback address for the client; port 0 is any that is free."`
	WriteHAR string `name:"write-har" help:"Write the exchanges, redacted, as HAR while they pass." placeholder:"FILE"`
	CA       string `help:"File with certificates to trust besides the system's (PEM)." type:"existingfile" placeholder:"FILE"`
	outputs
}

// Run records until Ctrl-C. Exit codes as for kidoban audit.
func (c recordCmd) Run(e *env) error {
	o := audit.RecorderOptions{Addr: c.Addr, Recorder: outbound.NewRecorder()}
	var err error
	if c.WriteHAR != "" {
		if o.Recorder, err = outbound.CreateRecorder(c.WriteHAR); err != nil {
			return err
		}
	}
	if c.CA != "" {
		if o.RootCAs, err = trust(c.CA); err != nil {
			return err
		}
	}
	live := &liveVerdicts{e: e, told: map[string]kidoban.Outcome{}}
	o.Seen = live.seen
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	live.mu.Lock() // nothing is judged before there is a recorder
	rec, err := audit.StartRecorder(ctx, o, c.URL)
	live.rec = rec
	live.mu.Unlock()
	if err != nil {
		o.Recorder.Close()
		return err
	}
	fmt.Fprintf(e.stdout, "point the client at %s\nCtrl-C ends the recording\n", rec.URL())
	<-e.ctx.Done()
	cancel()
	rec.Close()
	if err := o.Recorder.Close(); err != nil {
		return err
	}
	rep, err := rec.Observation().Report(audit.ObservedOptions{Target: rec.Target(), RunID: newRunID()})
	if err != nil {
		return err
	}
	if err := (auditCmd{outputs: c.outputs}).deliver(e, rep); err != nil {
		return err
	}
	if len(report.Failing(rep.Run, kidoban.Severity(c.FailOn), nil)) > 0 {
		return exitError(exitFindings)
	}
	return nil
}

// liveVerdicts prints findings as the traffic shows them, each once.
type liveVerdicts struct {
	e    *env
	mu   sync.Mutex // guards what follows
	rec  *audit.LoopbackRecorder
	told map[string]kidoban.Outcome
}

func (l *liveVerdicts) seen(noteworthy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !noteworthy || l.rec == nil {
		return
	}
	rep, err := l.rec.Observation().Report(audit.ObservedOptions{Target: l.rec.Target()})
	if err != nil {
		return // nothing to judge yet
	}
	for _, r := range rep.Results {
		bad := r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak
		if bad && l.told[r.Key()] != r.Outcome {
			fmt.Fprintf(l.e.stdout, "%-5s %-8s %-6s %s %v\n", r.Outcome, r.Severity, r.Key(), r.Summary, r.Exchanges)
			l.told[r.Key()] = r.Outcome
		} else if !bad && l.told[r.Key()] != "" {
			fmt.Fprintf(l.e.stdout, "now %s %s: %s\n", r.Outcome, r.Key(), r.Summary)
			delete(l.told, r.Key())
		}
	}
}
