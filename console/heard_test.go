package console_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/store/storetest"
)

// TestConsole_GroupsOfTheProvider: the list and a person's page show what the provider
// said and when, and that the login there has ended; its words are no markup.
func TestConsole_GroupsOfTheProvider(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	admin := w.person("alice", true)
	must(t, w.db.CreateUser(t.Context(), authserver.User{ID: "u_dana", Name: "dana@corp.example", Created: w.now()}))
	var groups []string
	for i := range 5 {
		groups = append(groups, fmt.Sprintf("<b>g%d\u202e", i))
	}
	h := authserver.Heard{UserID: "u_dana", Provider: "corp", Issuer: "https://idp.example", Claim: "groups", Groups: groups, At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	must(t, w.db.PutHeard(t.Context(), h))
	list, page := admin.get("/console/users").body, admin.get("/console/user?id=u_dana").body
	for i := range groups {
		name := fmt.Sprintf("corp:&lt;b&gt;g%d", i)
		if strings.Contains(list, name) != (i < 3) || !strings.Contains(page, name) {
			t.Errorf("%s: in the list %v, on the page %v", name, strings.Contains(list, name), strings.Contains(page, name))
		}
	}
	if !strings.Contains(list, "+2") || !strings.Contains(page, "2026-03-04") || strings.Contains(list+page, "<b>g") || strings.Contains(list+page, "\u202e") || strings.Contains(page, "Login ended there") {
		t.Errorf("%s\n%s", list, page)
	}
	now, err := w.db.Heard(t.Context(), "u_dana")
	must(t, err)
	now.Ended, now.Why = w.now(), "the provider <said> so"
	if done, err := w.db.EndHeard(t.Context(), now); !done || err != nil {
		t.Fatal(done, err)
	}
	if page := admin.get("/console/user?id=u_dana").body; !strings.Contains(page, "Login ended there") || !strings.Contains(page, "the provider &lt;said&gt; so") {
		t.Error(page)
	}
	if page := admin.get("/console/users").body; strings.Count(page, "corp:") != 3 {
		t.Error("people of no provider have groups", page)
	}
}
