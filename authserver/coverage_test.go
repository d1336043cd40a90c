package authserver_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kidoban/kidoban/authserver"
)

// servers are those behind the resource, as a test says.
type servers struct{ now atomic.Value }

func (s *servers) set(covers string)    { s.now.Store(covers) }
func (s *servers) covers(string) string { return s.now.Load().(string) }
func (s *servers) into(w *world)        { w.deps.Covers = s.covers }
func newServers(covers string) *servers { s := &servers{}; s.set(covers); return s }

// grantOf is the only grant of the person.
func grantOf(t *testing.T, w *world) authserver.Grant {
	t.Helper()
	u, err := w.store.UserByName(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	grants, err := w.store.UserGrants(t.Context(), u.ID, w.clock.now())
	if err != nil || len(grants) != 1 {
		t.Fatal(grants, err)
	}
	return grants[0]
}

// TestGCO1_TheGrantNamesItsServers: what the page named goes with the code into the
// grant, and the person's page says what it covers and what came since.
func TestGCO1_TheGrantNamesItsServers(t *testing.T) {
	behind := newServers("1 files=aa mail=bb")
	w := newWorld(t, behind.into)
	x, alice := w.register("Client", loopback), w.person()
	page := alice.get("/authorize?" + x.params().Encode())
	behind.set("1 files=aa mail=bb web=cc")
	again := alice.approve(page)
	if again.StatusCode != http.StatusOK || !strings.Contains(again.body, "servers behind this address changed") {
		t.Fatalf("a server came while the page was open: %d %s", again.StatusCode, again.body)
	}
	behind.set("1 files=aa mail=bb")
	x.tokens(alice)
	g := grantOf(t, w)
	if g.Covers != "1 files=aa mail=bb" || strings.Join(g.Servers(), " ") != "files mail" {
		t.Errorf("%+v", g)
	}
	behind.set("1 files=aa mail=dd web=cc")
	text := alice.get("/account").body
	for _, want := range []string{"servers: <bdi>files</bdi>, <bdi>mail</bdi>", "again: <bdi>mail</bdi>, <bdi>web</bdi>"} {
		if !strings.Contains(text, want) {
			t.Errorf("the account page lacks %q: %s", want, text)
		}
	}
	x.tokens(alice)
	text = alice.get("/account").body
	if !strings.Contains(text, "servers: <bdi>files</bdi>, <bdi>mail</bdi>, <bdi>web</bdi>") {
		t.Errorf("after a new consent: %s", text)
	}
}

// TestGCO5_RememberedAnswersCoverWhatTheyNamed: a server more is asked about, one
// less is not.
func TestGCO5_RememberedAnswersCoverWhatTheyNamed(t *testing.T) {
	behind := newServers("1 files=aa mail=bb")
	w, l := newLibraryWorld(t, behind.into)
	x := w.document(l.doc("/client.json"))
	x.redirect = "https://app.example/cb"
	alice := w.person()
	alice.approve(alice.get("/authorize?"+x.params().Encode()), "remember", "yes")
	for covers, remembered := range map[string]bool{"1 files=aa mail=bb": true, "1 files=aa": true, "1 files=aa mail=bb web=cc": false, "1 files=zz mail=bb": false} {
		behind.set(covers)
		a := alice.get("/authorize?" + x.params().Encode())
		if got := a.StatusCode == http.StatusSeeOther; got != remembered {
			t.Errorf("%s: %d %s", covers, a.StatusCode, a.Header.Get("Location"))
		}
	}
}

// TestGCO1_AServerThatComesInMidwayIsAskedAbout: it comes between two looks at the
// config in one request, of a remembered answer and of one that is just given.
func TestGCO1_AServerThatComesInMidwayIsAskedAbout(t *testing.T) {
	const before, after = "1 files=aa", "1 files=aa web=cc"
	var left atomic.Int64 // looks at the config until the server comes
	left.Store(1 << 30)
	w, l := newLibraryWorld(t, func(w *world) {
		w.deps.Covers = func(string) string {
			if left.Add(-1) < 0 {
				return after
			}
			return before
		}
	})
	x := w.document(l.doc("/client.json"))
	x.redirect = "https://app.example/cb"
	alice := w.person()
	alice.approve(alice.get("/authorize?"+x.params().Encode()), "remember", "yes")
	for looks := range int64(6) {
		left.Store(1 << 30)
		page := alice.get("/authorize?" + x.params().Encode() + "&prompt=consent")
		for name, a := range map[string]func() answer{
			"a remembered answer": func() answer { return alice.get("/authorize?" + x.params().Encode()) },
			"a given answer":      func() answer { return alice.approve(page) },
		} {
			left.Store(looks)
			a := a()
			if code := a.StatusCode == http.StatusSeeOther; code && left.Load() < 0 {
				t.Errorf("%s stands for a server that came after %d looks: %s", name, looks, a.Header.Get("Location"))
			}
		}
	}
}
