package main

import (
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
