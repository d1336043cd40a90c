package gateway

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"testing"
	"time"
)

// TestRS14_SealedThingsExpire: what clients carry for the gateway opens until its life is
// over, and nobody's parts make up another's.
func TestRS14_SealedThingsExpire(t *testing.T) {
	now := time.Now()
	s, err := newSealer(bytes.Repeat([]byte{7}, 32), rand.Reader, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := binding("session", "ab", "c"), binding("session", "a", "bc")
	sealed, err := s.seal([]byte("id"), mine, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		bound []byte
		after time.Duration
		want  bool
	}{
		"at once":     {mine, 0, true},
		"in time":     {mine, 58 * time.Second, true},
		"too late":    {mine, time.Minute, false},
		"for another": {theirs, 0, false},
		"for nobody":  {nil, 0, false},
	} {
		now = now.Add(c.after)
		if plain, ok := s.open(sealed, c.bound); ok != c.want || ok && string(plain) != "id" {
			t.Errorf("%s: %q %v", name, plain, ok)
		}
		now = now.Add(-c.after)
	}
	if name := s.name("id", mine); name != s.name("id", mine) || name == s.name("id", theirs) {
		t.Error("names are not as their owners")
	} else if _, ok := s.named(name, theirs); ok {
		t.Error("a name opens for another")
	}
}

// TestRS14_SessionsExpire: the same at the door.
func TestRS14_SessionsExpire(t *testing.T) {
	clock := &stoppable{}
	up := newLegacy(t, `{"tools":{}}`, func(w http.ResponseWriter, _ *http.Request, body string) bool {
		result(w, body, `{"tools":[]}`)
		return true
	})
	r := newRig(t, []Server{at("s", up.URL)}, func(c *Config, d *Deps) { c.StateLife, d.Now = time.Hour, clock.now })
	clock.stop()
	own := []string{"Authorization", "Bearer " + r.as.token(t, r.resource("s"), "alice", func(m map[string]any) { m["exp"] = time.Now().Add(3 * time.Hour).Unix() })}
	own = append(own, "Mcp-Session-Id", r.do(http.MethodPost, r.resource("s"), initialize, own...).header.Get("Mcp-Session-Id"))
	for _, c := range []struct{ after, want int }{{0, http.StatusOK}, {59, http.StatusOK}, {2, http.StatusNotFound}} {
		clock.advance(time.Duration(c.after) * time.Minute)
		if a := r.do(http.MethodPost, r.resource("s"), listTools, own...); a.status != c.want {
			t.Errorf("%d minutes later: %d %s", c.after, a.status, a.body)
		}
	}
}
