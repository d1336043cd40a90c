package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/audit/keylog"
	"github.com/kidoban/kidoban/report"
)

// recordings are files of traffic to judge instead of a server: not one packet
// is sent (tier T0).
type recordings struct {
	InHAR  []string `name:"har" sep:"none" placeholder:"FILE" help:"Judge recorded traffic instead: a HAR file of a browser, a proxy or kidoban record; repeatable."`
	InBurp []string `name:"burp" sep:"none" placeholder:"FILE" help:"Judge a Burp history (XML export) instead; repeatable."`
	InPCAP []string `name:"pcap" sep:"none" placeholder:"FILE" help:"Judge a packet capture (pcap, pcapng) instead; repeatable."`
	KeyLog []string `name:"keylog" sep:"none" placeholder:"FILE" help:"TLS secrets of the captured client (the file that SSLKEYLOGFILE named), to read encrypted connections; repeatable."`
}

// given tells whether there is any file.
func (r recordings) given() bool { return len(r.InHAR)+len(r.InBurp)+len(r.InPCAP)+len(r.KeyLog) > 0 }

// observe reads every file into one observation. What could be read before an
// error counts; the notes of the observation say what is missing.
func (r recordings) observe(ctx context.Context) (*audit.Observation, error) {
	o := audit.Observe()
	if len(r.KeyLog) > 0 {
		if len(r.InPCAP) == 0 {
			return nil, kidoban.Errorf(kidoban.KindUsage, "--keylog opens the encrypted connections of a packet capture: give the capture with --pcap")
		}
		var keys keylog.Log
		o.Keys(&keys)
		if err := eachFile(r.KeyLog, keys.Read); err != nil {
			return nil, err
		}
	}
	for _, in := range []struct {
		names []string
		read  func(context.Context, string, io.Reader) error
	}{{r.InHAR, o.ReadHAR}, {r.InBurp, o.ReadBurp}, {r.InPCAP, o.ReadPCAP}} {
		err := eachFile(in.names, func(name string, f io.Reader) error { return in.read(ctx, name, f) })
		if err != nil {
			return nil, err
		}
	}
	return o, nil
}

// eachFile opens one file after the other. KindUsage when one cannot be opened.
func eachFile(names []string, read func(name string, f io.Reader) error) error {
	for _, name := range names {
		file, err := os.Open(name)
		if err != nil {
			return kidoban.Wrap(kidoban.KindUsage, err, "cannot read %s", name)
		}
		if st, err := file.Stat(); err == nil && st.IsDir() {
			file.Close()
			return kidoban.Errorf(kidoban.KindUsage, "%s is a directory: name a file in it", name)
		}
		err = read(filepath.Base(name), bufio.NewReaderSize(file, 1<<20))
		file.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// runRecorded judges recorded traffic.
func (c auditCmd) runRecorded(e *env) error {
	if c.Active || len(c.Tiers) > 0 || len(c.ClientID) > 0 || c.CanaryListen != "" {
		return kidoban.Errorf(kidoban.KindUsage, "recorded traffic is judged without sending anything: leave --active, --tiers, --client-id and --canary-listen out")
	}
	accepted, base, err := c.known(e)
	if err != nil {
		return err
	}
	o, err := c.observe(e.ctx)
	if err != nil {
		return err
	}
	for _, n := range o.Notes() {
		fmt.Fprintln(e.stderr, "kidoban: "+n)
	}
	rep, err := o.Report(audit.ObservedOptions{Target: c.URL, RunID: newRunID()})
	if err != nil {
		return err
	}
	if others := o.Targets(); c.URL == "" && len(others) > 1 {
		fmt.Fprintf(e.stderr, "kidoban: judged %s; the traffic also holds %s: name the one you mean\n", rep.Target.URL, strings.Join(others[1:min(len(others), 6)], ", "))
	}
	for _, l := range audit.Suppress(&rep.Run, accepted, time.Now()).Lines() {
		fmt.Fprintln(e.stderr, "kidoban: "+l)
	}
	if err := c.deliver(e, rep); err != nil {
		return err
	}
	switch {
	case len(report.Failing(rep.Run, kidoban.Severity(c.FailOn), base)) > 0:
		return exitError(exitFindings)
	case len(o.Notes()) > 0, rep.Target.Headline == kidoban.HeadlineNotMCP:
		return exitError(exitIncomplete)
	}
	return nil
}

func newRunID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
