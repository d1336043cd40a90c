package audit

import (
	"context"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/outbound"
)

// TestStrangersGetThreeRegistrations: a server that is not the tester's own gets
// three registrations, the most telling ones, and every check that was left out
// says so.
func TestStrangersGetThreeRegistrations(t *testing.T) {
	l, err := lab.Start(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// Lab opens loopback and lifts the limit; here only the first is wanted.
	o := Options{Tiers: []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T2}, StateDir: t.TempDir(), MaxRequests: 300}
	o.fill()
	o.Spacing = 0
	rec := outbound.NewRecorder()
	out := outbound.New(outbound.Options{Lab: true, Recorder: rec})
	defer out.Close()
	s := newSession(&o, out, l.MCPURL)
	if s.ledger, err = OpenLedger(o.StateDir, s.runID); err != nil {
		t.Fatal(err)
	}
	defer s.ledger.Close()
	byKey := map[string]kidoban.Result{}
	for _, r := range s.collect(t.Context()) {
		byKey[r.Key()] = r
	}
	s.clean(context.WithoutCancel(t.Context()))
	posts := 0
	for _, x := range rec.Exchanges() {
		if x.Request.Method == "POST" && x.Request.URL == l.Issuer+"/register" {
			posts++
			if x.Request.Header.Get("X-Forwarded-For") != "" {
				t.Error("X-Forwarded-For was sent to a stranger's registration")
			}
		}
	}
	if posts != maxPosts {
		t.Errorf("%d registrations", posts)
	}
	for _, k := range []string{"E18-a", "E18-b", "E18-c", "E18-d", "E19-a", "E19-b", "E19-c", "E20-a", "E20-b", "E20-c", "E20-d", "E20-e", "E20-f", "E20-g", "E17-c"} {
		if r := byKey[k]; r.Outcome != kidoban.Pass {
			t.Errorf("%s is %s %s: %s", k, r.Outcome, r.Reason, r.Summary)
		}
	}
	for _, k := range []string{"E13-a", "E13-b", "E13-c", "E14-a", "E14-b", "E14-c", "E17-a", "E17-b", "E17-d"} {
		if r := byKey[k]; r.Outcome != kidoban.NotTested || r.Reason != kidoban.ReasonOwnServer || r.Detail == "" {
			t.Errorf("%s is %s %s: %s", k, r.Outcome, r.Reason, r.Summary)
		}
	}
	if left := l.Clients(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
