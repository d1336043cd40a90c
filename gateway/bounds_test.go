package gateway

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/wire"
)

// TestGPX3_EachRateHoldsItsOwn: user, client, server and tool each have a rate;
// the answer says when to come back, and nobody else is held up.
func TestGPX3_EachRateHoldsItsOwn(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, _ *http.Request, body string) { result(w, body, `{}`) })
	call := func(tool string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `"}}`
	}
	for name, which := range map[string]func(*limit.Limits) *limit.Limit{
		"user":   func(l *limit.Limits) *limit.Limit { return &l.CallPerUser },
		"client": func(l *limit.Limits) *limit.Limit { return &l.CallPerClient },
		"server": func(l *limit.Limits) *limit.Limit { return &l.CallPerServer },
		"tool":   func(l *limit.Limits) *limit.Limit { return &l.CallPerTool },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, []Server{at("one", up.URL), at("two", up.URL)}, generous, func(c *Config, _ *Deps) {
				l := which(&c.Limits)
				l.Count, l.Per, l.Burst = 1, time.Minute, 3
			})
			post := func(server, user, client, tool string) answer {
				token := r.as.token(t, r.resource(server), user, func(m map[string]any) { m["client_id"] = client })
				return r.do("POST", r.resource(server), call(tool), "Authorization", "Bearer "+token)
			}
			for range 3 {
				if a := post("one", "alice", "c1", "x"); a.status != http.StatusOK {
					t.Fatalf("%d %s", a.status, a.body)
				}
			}
			a := post("one", "alice", "c1", "x")
			retry, _ := strconv.Atoi(a.header.Get("Retry-After"))
			if code, _ := a.rpc(t); a.status != http.StatusTooManyRequests || code == 0 || retry < 1 || retry > 60 {
				t.Errorf("beyond the rate: %d %v %s", a.status, a.header, a.body)
			}
			same := map[string][4]string{"user": {"two", "alice", "c2", "y"}, "client": {"two", "alice", "c1", "y"}, "server": {"one", "bob", "c2", "y"}, "tool": {"one", "alice", "c2", "x"}}[name]
			if a := post(same[0], same[1], same[2], same[3]); a.status != http.StatusTooManyRequests {
				t.Errorf("%v has the same %s: %d", same, name, a.status)
			}
			other := map[string][4]string{"user": {"one", "bob", "c1", "x"}, "client": {"one", "alice", "c2", "x"}, "server": {"two", "alice", "c1", "x"}, "tool": {"one", "alice", "c1", "y"}}[name]
			if a := post(other[0], other[1], other[2], other[3]); a.status != http.StatusOK {
				t.Errorf("%v is held up by another %s: %d %s", other, name, a.status, a.body)
			}
		})
	}
}

// TestGPX3_ACrowdLeavesAServerToOthers: users who take all they can get of a
// server's rate do not take what somebody else needs.
func TestGPX3_ACrowdLeavesAServerToOthers(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, _ *http.Request, body string) { result(w, body, `{}`) })
	r := newRig(t, []Server{at("one", up.URL)}, generous, func(c *Config, _ *Deps) {
		c.Limits.CallPerServer.Count, c.Limits.CallPerServer.Per, c.Limits.CallPerServer.Burst = 1, time.Hour, 64
	})
	post := func(user string) int {
		token := r.as.token(t, r.resource("one"), user, nil)
		return r.do("POST", r.resource("one"), `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "Authorization", "Bearer "+token).status
	}
	served := 0
	for i := range 8 {
		for post(fmt.Sprint("greedy-", i)) == http.StatusOK {
			if served++; served > 64 {
				t.Fatal("more than the limit")
			}
		}
	}
	if served < 33 {
		t.Errorf("a crowd gets %d of 64: less than what is free for all", served)
	}
	if status := post("alice"); status != http.StatusOK {
		t.Errorf("alice comes when the crowd has had %d of 64: %d", served, status)
	}
}

// TestGPX3_TheAggregateCountsForTheServer: whichever way a call comes, it takes of
// the same rates of server and tool; so does one that is for no server of the user's.
func TestGPX3_TheAggregateCountsForTheServer(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, _ *http.Request, body string) {
		if idOf(body) == "" {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"},"tools":[],"content":[]}`)
	})
	for _, rate := range []string{"call_per_server", "call_per_tool", "call_per_user"} {
		s := at("one", up.URL)
		s.Era = "legacy"
		r := newRig(t, []Server{s}, generous, func(c *Config, _ *Deps) {
			for _, l := range c.Limits.All() {
				if l.Name == rate {
					l.Count, l.Per, l.Burst = 1, time.Hour, 2
				}
			}
		})
		call := func(url, tool string) int {
			return r.do("POST", url, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tool+`"}}`, "Authorization", "Bearer "+r.as.token(t, url, "alice", nil)).status
		}
		tool := "one__x"
		if rate == "call_per_user" {
			tool = "nobody__x"
		}
		for range 2 {
			if status := call(r.url+"/mcp", tool); status != http.StatusOK {
				t.Errorf("%s: %d", rate, status)
			}
		}
		if status := call(r.resource("one"), "x"); status != http.StatusTooManyRequests {
			t.Errorf("%s: the server's own endpoint answers %d", rate, status)
		}
	}
}

// TestGPX3_BreakerByConfig: a server that fails as often as its config says is
// left alone, tried again by one call, and back when that succeeds; at its own
// endpoint and, bridged, in the aggregate.
func TestGPX3_BreakerByConfig(t *testing.T) {
	var broken atomic.Bool
	var asked atomic.Int64
	up := newRaw(t, func(w http.ResponseWriter, _ *http.Request, body string) {
		asked.Add(1)
		if broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if idOf(body) == "" {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"},"tools":[],"content":[]}`)
	})
	for name, path := range map[string]string{"its own endpoint": "one", "the aggregate": ""} {
		t.Run(name, func(t *testing.T) {
			var ck stoppable
			s := at("one", up.URL)
			s.Failures, s.Rest, s.Era = 2, 2*time.Second, "legacy"
			r := newRig(t, []Server{s}, generous, func(_ *Config, d *Deps) { d.Now = ck.now })
			url, tool := r.url+"/mcp", "one__x"
			if path != "" {
				url, tool = r.resource(path), "x"
			}
			token := r.as.token(t, url, "alice", nil)
			ck.stop()
			call := func() answer {
				return r.do("POST", url, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tool+`"}}`, "Authorization", "Bearer "+token)
			}
			if a := call(); a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
			broken.Store(true)
			for i := range 2 {
				if a := call(); a.status != http.StatusBadGateway {
					t.Errorf("failure %d: %d %s", i, a.status, a.body)
				}
			}
			before := asked.Load()
			a := call()
			if code, say := a.rpc(t); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || code == 0 || say == "" {
				t.Errorf("open: %d %v %s", a.status, a.header, a.body)
			}
			if asked.Load() != before {
				t.Error("the server was asked all the same")
			}
			broken.Store(false)
			ck.advance(3 * time.Second)
			for i := range 3 {
				if a := call(); a.status != http.StatusOK {
					t.Errorf("back, call %d: %d %s", i, a.status, a.body)
				}
			}
			if h := r.g.Health(); h[0].Fails != 0 {
				t.Error(fmt.Sprint(h))
			}
		})
	}
}

// TestGTG3_NumbersAreNotWrittenOut: ten bytes of an argument, or of a schema, must not
// cost a hundredth of a second each.
func TestGTG3_NumbersAreNotWrittenOut(t *testing.T) {
	for _, schema := range []string{
		`{"type":"object","properties":{"n":{"type":"array","items":{"type":"integer"}}}}`,
		`{"type":"object","properties":{"n":{"type":"array","items":{"minimum":-5e400}}}}`,
		`{"type":"object","properties":{"n":{"type":"array","items":{"enum":[1e400,2]}}}}`,
	} {
		s, err := newArgSchema(wire.Raw(schema))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{"1e999999", "-1E-999999", "1e401", "1e99999999999999999999", "0.5e+9999", strings.Repeat("9", maxDigits+1)} {
			args := wire.Raw(`{"a \\" : "1e9", "n":[1,` + strings.Repeat(n+",", 1000) + `2]}`)
			if _, err := decoded(args); err == nil {
				t.Errorf("%.20s is taken", n)
			}
		}
		args := wire.Raw(`{"n":[` + strings.Repeat("1e400,", 10_000) + `-1e-400,0,-0,1.0,` + strings.Repeat("9", 4000) + `,"1e999999","\\\"1e999999"]}`)
		if v, err := decoded(args); err != nil {
			t.Error(err)
		} else {
			_ = s.validate(v) // and the test ends
		}
	}
	if _, err := newArgSchema(wire.Raw(`{"type":"object","properties":{"n":{"minimum":1e999999}}}`)); err == nil {
		t.Error("a schema may hold any number")
	}
}
