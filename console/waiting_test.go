package console_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/store/storetest"
)

// TestConsole_CallsThatWait: whoever is logged in sees on every page how many calls
// wait for that person's yes; an administrator also that some wait for others; and
// nobody more when they are decided or have expired.
func TestConsole_CallsThatWait(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	alice, bob := w.person("alice", true), w.person("bob", false)
	see := func(when string, b *browser, page, badge, line string) {
		t.Helper()
		body := b.get(page).body
		got := ""
		if _, rest, ok := strings.Cut(body, `<a href="/decisions">Decisions <span class="count" role="img" aria-label="`); ok {
			got, _, _ = strings.Cut(rest, `"`)
		}
		if got != badge || line != "" && !strings.Contains(body, line) || line == "" && strings.Contains(body, "the yes of") {
			t.Errorf("%s, %s: the badge says %q, want %q, and the page %q:\n%s", when, page, got, badge, line, body)
		}
	}
	see("at first", alice, "/console", "", "")
	see("at first", bob, "/console/mine", "", "")
	now := w.now()
	for i, user := range []string{"bob", "bob", "alice"} {
		id := fmt.Sprint("call", i)
		_, err := w.db.AskApproval(t.Context(), gateway.Approval{ID: id, Binding: id, User: w.user(user).ID, Client: "c", Server: "files", Tool: "send", Created: now, Expires: now.Add(10 * time.Minute)}, 5)
		must(t, err)
	}
	see("three wait", bob, "/console/mine", "2 calls wait for your yes", "")
	see("three wait", alice, "/console", "1 call waits for your yes", "2 calls wait for the yes of others")
	see("three wait", alice, "/console/log", "1 call waits for your yes", "")
	a, err := w.db.Approval(t.Context(), "call2")
	must(t, err)
	a.State, a.Decided, a.By = gateway.ApprovalRefused, now, a.User
	must(t, w.db.DecideApproval(t.Context(), a))
	see("alice said no", alice, "/console", "", "2 calls wait for the yes of others")
	w.ahead.Store(int64(11 * time.Minute))
	see("later", alice, "/console", "", "")
	see("later", bob, "/console/mine", "", "")
}
