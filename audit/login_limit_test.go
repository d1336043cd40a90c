package audit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
)

// TestT3LoginRefused: a wrong password and a limit are said as what they are, and what
// was found before the login is kept.
func TestT3LoginRefused(t *testing.T) {
	var again audit.Options
	began := time.Now() // and it stays so, for the limit is one of a minute
	r, l := loginLab(t, lab.Options{Flaws: []string{"F5-e"}, Registrations: 1000, Now: func() time.Time { return began }}, nil, func(o *audit.Options) {
		again = *o
		wrong := *o.Login
		wrong.Password = "wrong"
		o.Login = &wrong
	})
	if x := result(t, r, "F9-2"); x.Outcome != kidoban.Inconclusive || !strings.Contains(x.Summary, "check the account") && x.Reason != kidoban.ReasonRateLimit {
		t.Errorf("a wrong password: %s(%s) %s", x.Outcome, x.Reason, x.Summary)
	}
	if x := result(t, r, "F5-e"); x.Outcome != kidoban.Fail && x.Outcome != kidoban.Weak {
		t.Errorf("what was found before is lost: %s", x.Outcome)
	}
	tries := 0
	for _, a := range l.Log() {
		if a.Method == "POST" && strings.HasSuffix(a.Path, "/login") {
			tries++
		}
	}
	if tries > 2+10 { // ten are E34-c's, for a person who does not exist
		t.Errorf("%d wrong tries would lock the account", tries)
	}
	right, wrong := again.Login, *again.Login
	wrong.Password = "wrong"
	again.Only, again.Login = []string{"F9-2"}, &wrong
	var second *audit.Report
	for i := range 6 { // the lab has enough of the fifth in a minute
		if i == 5 {
			again.Login = right
		}
		var err error
		if second, err = audit.Run(t.Context(), again, l.MCPURL); err != nil {
			t.Fatal(err)
		}
	}
	if x := result(t, second, "F9-2"); x.Outcome != kidoban.Inconclusive || x.Reason != kidoban.ReasonRateLimit {
		t.Errorf("a limit: %s(%s) %s", x.Outcome, x.Reason, x.Summary)
	}
}

// TestT3NamesWhatCannotBeRevoked: where there is no revocation endpoint, every grant of
// the run is counted in the report.
func TestT3NamesWhatCannotBeRevoked(t *testing.T) {
	r, _ := loginLab(t, lab.Options{Flaws: []string{"E25-a"}}, nil, func(o *audit.Options) { o.Only = []string{"F9-2", "E24-a"} })
	for _, l := range r.Residue.LeftBehind {
		if l.Kind == "grant" && strings.Contains(l.Reason, "no revocation endpoint") {
			return
		}
	}
	t.Errorf("left behind: %+v", r.Residue.LeftBehind)
}
