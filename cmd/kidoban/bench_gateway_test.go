package main

import (
	"context"
	"strings"
	"testing"
)

// TestBenchGatewayRefusesWhatCannotBeMeasured: a run of nothing is no result.
func TestBenchGatewayRefusesWhatCannotBeMeasured(t *testing.T) {
	for _, args := range [][]string{{"--conns", "0"}, {"--conns=16,-1"}, {"--conns", "100000"}, {"--seconds", "0"}, {"--seconds", "NaN"}, {"--minutes=-1"}} {
		code, said := operate(t, append([]string{"bench", "gateway"}, args...)...)
		if name, _, _ := strings.Cut(args[0], "="); code != exitUsage || !strings.Contains(said, name) {
			t.Errorf("%v: exit %d, %s", args, code, said)
		}
	}
}

// TestAnInterruptedCommandSaysSo: who stops a command gets the exit code of that, and
// no figures of what did not run.
func TestAnInterruptedCommandSaysSo(t *testing.T) {
	for _, args := range [][]string{{"bench", "gateway", "--conns", "1"}, {"lab", "verify", "--tiers", "T0,T1,T2"}} {
		ctx, stop := context.WithCancel(t.Context())
		stop()
		var out, said strings.Builder
		if code := run(&env{ctx: ctx, stdout: &out, stderr: &said}, args); code != exitInterrupted || !strings.Contains(said.String(), "interrupted") || out.Len() > 0 {
			t.Errorf("%v: exit %d, %q, %q", args, code, out.String(), said.String())
		}
	}
}
