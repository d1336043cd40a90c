package gateway

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestGPX5_WhoFollowsAndWhoNoLongerDoesTakeTurns: requests to follow a resource and no
// longer to, under way at once, leave the server with what is wanted last: those of one
// session, and those of two windows that share the relationship.
func TestGPX5_WhoFollowsAndWhoNoLongerDoesTakeTurns(t *testing.T) {
	for name, c := range map[string]struct {
		before, first, second string // a window's number and what it asks for
		ends                  bool   // the server tells of the resource in the end
	}{
		"one session subscribes and unsubscribes":   {"", "1 resources/subscribe", "1 resources/unsubscribe", false},
		"one session unsubscribes and subscribes":   {"1 resources/subscribe", "1 resources/unsubscribe", "1 resources/subscribe", true},
		"one window unsubscribes, another follows":  {"1 resources/subscribe", "1 resources/unsubscribe", "2 resources/subscribe", true},
		"the last but one and the last unsubscribe": {"1 resources/subscribe", "2 resources/subscribe", "1 resources/unsubscribe", true},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			tells, slow := false, false
			came, other := make(chan struct{}, 1), make(chan struct{}, 1)
			up := newLegacy(t, `{"resources":{"subscribe":true}}`, func(w http.ResponseWriter, _ *http.Request, body string) bool {
				subscribes := strings.Contains(body, `"resources/subscribe"`)
				if !subscribes && !strings.Contains(body, `"resources/unsubscribe"`) {
					return false
				}
				mu.Lock()
				held := slow
				slow = false
				mu.Unlock()
				if held {
					came <- struct{}{}
					select { // long enough for the other to overtake it, if it may
					case <-other:
					case <-time.After(time.Second / 2):
					}
				}
				mu.Lock()
				tells = subscribes
				mu.Unlock()
				result(w, body, `{}`)
				if !held {
					select {
					case other <- struct{}{}:
					default:
					}
				}
				return true
			})
			s := at("s", up.URL)
			s.Era = "legacy"
			r := newRig(t, []Server{s}, generous)
			windows := map[string]window{"1": r.window("/mcp"), "2": r.window("/mcp")}
			ask := func(what string) {
				t.Helper()
				n, method, _ := strings.Cut(what, " ")
				if a := windows[n].ask(method, `{"uri":"s+x://y"}`); !strings.Contains(a.body, `"result"`) {
					t.Errorf("%s: %d %s", what, a.status, a.body)
				}
			}
			if c.before != "" {
				ask(c.before)
				<-other
			}
			mu.Lock()
			slow = true
			mu.Unlock()
			var wg sync.WaitGroup
			wg.Go(func() { ask(c.first) })
			<-came
			wg.Go(func() { ask(c.second) })
			wg.Wait()
			if tells != c.ends {
				t.Errorf("the server tells of the resource: %v", tells)
			}
		})
	}
}

// TestGPX5_ASessionThatEndedFollowsNothing: who unsubscribes beside a session that has
// ended is the last.
func TestGPX5_ASessionThatEndedFollowsNothing(t *testing.T) {
	up := newFollows(t)
	s := at("s", up.URL)
	s.Era = "legacy"
	r := newRig(t, []Server{s}, generous)
	one, two := r.window("/mcp"), r.window("/mcp")
	for _, w := range []window{one, two} {
		w.ask("resources/subscribe", `{"uri":"s+x://y"}`)
	}
	if a := r.do(http.MethodDelete, r.url+"/mcp", "", one.header()...); a.status != http.StatusNoContent {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if two.ask("resources/unsubscribe", `{"uri":"s+x://y"}`); up.asked(`"resources/unsubscribe"`) != 1 {
		t.Errorf("the server was told %d times", up.asked(`"resources/unsubscribe"`))
	}
}
