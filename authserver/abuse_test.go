package authserver_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
)

// newWatched is a world where each request says whence it comes.
func newWatched(t *testing.T) *world {
	return newWorld(t, func(w *world) {
		w.deps.Address = func(r *http.Request) netip.Addr {
			if from := r.Header.Get("X-Test-Address"); from != "" {
				return netip.MustParseAddr(from)
			}
			return netip.MustParseAddr("192.0.2.1")
		}
	})
}

// grantOf is the grant behind a token response.
func (w *world) grantOf(user string) authserver.Grant {
	w.t.Helper()
	u, err := w.store.UserByName(w.t.Context(), user)
	if err != nil {
		w.t.Fatal(err)
	}
	g, err := w.store.UserGrants(w.t.Context(), u.ID, w.clock.now())
	if err != nil || len(g) == 0 {
		w.t.Fatal(g, err)
	}
	return g[0]
}

// use makes n calls and waits until the watch has looked at all of them.
func (w *world) use(g authserver.Grant, from string, n int) {
	w.t.Helper()
	for i := range n {
		w.s.Used(authserver.Use{Grant: g.ID, User: g.UserID, Address: netip.MustParseAddr(from), At: w.clock.now()})
		if i%500 == 499 {
			w.s.Settle()
		}
	}
	w.s.Settle()
}

// campaign is a phishing campaign as the lab's attacker runs it, replayed with its
// times: when, what, who, from where.
var campaign = []struct {
	after time.Duration
	what  string // register, approve, use
	who   string
	from  string
}{
	{0, "register", "attacker", "198.51.100.66"},
	{4 * time.Minute, "approve", "alice", "192.0.2.10"},
	{3 * time.Second, "use", "alice", "198.51.100.66"},
	{70 * time.Second, "approve", "bob", "192.0.2.11"},
	{2 * time.Second, "use", "bob", "198.51.100.66"},
	{95 * time.Second, "approve", "carol", "192.0.2.12"},
	{3 * time.Second, "use", "carol", "198.51.100.66"},
}

// TestGRG8_PhishingCampaignRaisesAlerts: a client registers itself with a callback
// at its own host, three people are sent the same link, and their access is used
// from the attacker's machine at once.
func TestGRG8_PhishingCampaignRaisesAlerts(t *testing.T) {
	w := newWatched(t)
	people := map[string]*browser{"alice": w.person(), "bob": w.another("bob"), "carol": w.another("carol")}
	var phish *app
	for _, step := range campaign {
		w.clock.forward(step.after)
		switch step.what {
		case "register":
			phish = w.register("Team Notes", "https://notes.phish.example/cb")
		case "approve":
			people[step.who].Header.Set("X-Test-Address", step.from)
			phish.tokens(people[step.who])
		case "use":
			w.use(w.grantOf(step.who), step.from, 3)
		}
	}
	for _, kind := range []kidoban.AlertKind{kidoban.AlertFirstSeenHost, kidoban.AlertConsentCampaign, kidoban.AlertTokenElsewhere} {
		if !w.seen.alerted(kind) {
			t.Errorf("no alert %s", kind)
		}
	}
	for _, a := range w.seen.alerts {
		if a.Do == "" || a.Subject == "" {
			t.Errorf("an alert does not say what to do: %+v", a)
		}
	}
}

// TestGRG8_NormalDayRaisesNone: twenty people with programs on their machines and
// a hosted one, from morning to evening, some on the way, some in the evening from
// home, with busy and idle hours.
func TestGRG8_NormalDayRaisesNone(t *testing.T) {
	w := newWatched(t)
	hosted := w.register("Claude", "https://claude.ai/api/mcp/auth_callback") // somebody used it before this day
	w.seen.mu.Lock()
	w.seen.alerts = nil
	w.seen.mu.Unlock()
	const people = 20
	var grants []authserver.Grant
	for i := range people {
		name := fmt.Sprint("user", i)
		b := w.another(name)
		b.Header.Set("X-Test-Address", fmt.Sprintf("203.0.113.%d", 1+i))
		x := hosted
		if i%4 != 0 {
			x = w.register(fmt.Sprint("Editor of ", name), fmt.Sprintf("http://127.0.0.1/%d", i))
		}
		x.tokens(b)
		grants = append(grants, w.grantOf(name))
		w.clock.forward(6 * time.Minute) // one after the other, as a team begins to use it
	}
	for slot := range 9 * 6 { // ten minutes each
		for i, g := range grants {
			from := fmt.Sprintf("203.0.113.%d", 1+i)
			switch {
			case i%4 == 0:
				from = fmt.Sprintf("160.79.%d.%d", slot, i) // the hosted client's machines
			case slot > 40 && i%3 == 0:
				from = fmt.Sprintf("198.18.%d.5", i) // from home
			}
			w.use(g, from, []int{3, 40, 0, 12, 150, 7}[(slot+i)%6])
		}
		w.clock.forward(10 * time.Minute)
	}
	for _, a := range w.seen.alerts {
		t.Errorf("%s: %s", a.Kind, a.Text)
	}
}

// TestGRG8_TokenBurst: a grant that calls far above its user's own past raises an
// alert, once; a user without a past has nothing to be compared with.
func TestGRG8_TokenBurst(t *testing.T) {
	w := newWatched(t)
	x := w.register("Editor", loopback)
	x.tokens(w.person())
	g := w.grantOf(w.admin)
	w.use(g, "192.0.2.1", 1500)
	if w.seen.alerted(kidoban.AlertTokenBurst) {
		t.Fatal("no past, and an alert all the same")
	}
	w2 := newWatched(t)
	x = w2.register("Editor", loopback)
	x.tokens(w2.person())
	g = w2.grantOf(w2.admin)
	for range 8 {
		w2.use(g, "192.0.2.1", 30)
		w2.clock.forward(11 * time.Minute)
	}
	w2.use(g, "192.0.2.1", 900)
	if w2.seen.alerted(kidoban.AlertTokenBurst) {
		t.Fatal("below the floor")
	}
	w2.use(g, "192.0.2.1", 3000)
	if n := len(w2.seen.alerts); n != 1 || !w2.seen.alerted(kidoban.AlertTokenBurst) {
		t.Fatalf("%d alerts: %+v", n, w2.seen.alerts)
	}
}

// TestGRG8_NewNetworkAfterConsent: right after a consent a network never seen is
// told of; one that the person came from before, and one hours later, are not.
func TestGRG8_NewNetworkAfterConsent(t *testing.T) {
	w := newWatched(t)
	alice := w.person()
	x := w.register("Editor", loopback)
	x.tokens(alice)
	g := w.grantOf(w.admin)
	w.use(g, "192.0.2.77", 3) // the same network as the browser's
	w.clock.forward(3 * time.Hour)
	w.use(g, "203.0.113.9", 3)
	if w.seen.alerted(kidoban.AlertTokenElsewhere) {
		t.Fatal("an alert on a normal use")
	}
	y := w.register("Other", "http://127.0.0.1/other")
	y.tokens(alice)
	w.use(w.grantOf(w.admin), "198.51.100.66", 3)
	if !w.seen.alerted(kidoban.AlertTokenElsewhere) {
		t.Fatal("no alert")
	}
}

// TestGRG8_AlertsAreBounded: strangers choose the hosts in alerts, and still
// cannot raise thousands.
func TestGRG8_AlertsAreBounded(t *testing.T) {
	w := newWatched(t)
	for i := range 200 {
		w.postJSON("/register", map[string]any{"client_name": "Claude", "redirect_uris": []string{fmt.Sprintf("https://h%d.example/cb", i)}})
	}
	if !w.seen.alerted(kidoban.AlertImpersonation) || len(w.seen.alerts) > 31 {
		t.Fatalf("%d alerts", len(w.seen.alerts))
	}
}

// TestGRG8_ConsentFormOfAnother: the attacker's own form, sent from the victim's
// browser, is refused and told of.
func TestGRG8_ConsentFormOfAnother(t *testing.T) {
	w := newWorld(t, nil)
	victim, attacker := w.person(), w.another("mallory")
	x := w.register("Phish", loopback)
	page := attacker.get("/authorize?" + x.params().Encode())
	v := page.hidden()
	v.Set("decision", "approve")
	v["scope_choice"] = []string{"mcp:read"}
	if a := victim.post("/authorize/consent", v); a.StatusCode != 403 || a.Header.Get("Location") != "" {
		t.Fatal(a.StatusCode, a.body)
	}
	if !w.seen.alerted(kidoban.AlertForgedConsent) {
		t.Fatal("no alert")
	}
}
