package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func playIncidents(t *testing.T, args ...string) []incidentRun {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(&env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs}, append([]string{"lab", "incident", "--json"}, args...)); code != exitClean {
		t.Errorf("%v: exit %d %s", args, code, errs.String())
	}
	var all []incidentRun
	if err := json.Unmarshal(out.Bytes(), &all); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return all
}

// TestGTG5_PublishedIncidents: the GitHub issue that leaks a private repository
// and the WhatsApp shadowing succeed direct, are stopped by a gateway with its
// defaults, and the honest variants work, with the person's yes where something
// is sent after reading.
func TestGTG5_PublishedIncidents(t *testing.T) {
	all := playIncidents(t)
	if len(all) != 16 {
		t.Fatalf("%d plays", len(all))
	}
	for _, r := range all {
		switch {
		case r.Poisoned && r.Through == "":
			if !r.Leaked {
				t.Errorf("%s: the attack does not even work", r.Incident)
			}
		case r.Leaked, !r.Done:
			t.Errorf("%+v", r)
		case r.Poisoned && (r.Incident == "github" || r.Incident == "whatsapp-message") && r.Asked <= r.Approved:
			t.Errorf("%s was stopped by something else: %+v", r.Incident, r.Steps)
		case r.Poisoned && strings.HasPrefix(r.Incident, "whatsapp") && r.Incident != "whatsapp-message":
			for _, s := range r.Steps {
				if s.What == "obeys what it read" {
					t.Errorf("%s: the poisoned description reached the model", r.Incident)
				}
			}
		}
	}
}

// TestGTG5_IncidentsWithNobodyToAsk: the barrier as a wall.
func TestGTG5_IncidentsWithNobodyToAsk(t *testing.T) {
	for _, r := range playIncidents(t, "--flow", "block", "github", "whatsapp-message") {
		if r.Through != "" && (r.Leaked || r.Asked > 0) {
			t.Errorf("%+v", r)
		}
	}
}
