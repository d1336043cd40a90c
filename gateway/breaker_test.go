package gateway

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kidoban/kidoban"
)

// TestGPX3_OneUsersFailuresShutOnlyThatUserOut: whatever one user makes a server fail
// at, the others' calls go through.
func TestGPX3_OneUsersFailuresShutOnlyThatUserOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := breaker{most: rapid.IntRange(1, 6).Draw(t, "most"), longest: time.Duration(rapid.IntRange(1, 60).Draw(t, "longest")) * time.Second}
		now, refused := time.Unix(1, 0), 0
		for range rapid.IntRange(0, 80).Draw(t, "calls") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			user := rapid.SampledFrom([]string{"mallory", "mallory", "mallory", "bob", "carol"}).Draw(t, "user")
			ok, retry := b.enter(now, user)
			switch {
			case ok:
				b.done(now, user, user == "mallory", false)
			case user != "mallory":
				t.Fatalf("%s has to wait %s", user, retry)
			case retry <= 0 || retry > max(b.longest, time.Second):
				t.Fatalf("retry after %s", retry)
			default:
				refused++
			}
			if b.shut(now, "bob") != 0 {
				t.Fatal("shut for bob")
			}
		}
	})
}

// TestGPX3_ADeadServerIsTriedByOneAtATime: when calls of several users fail the server
// is left alone by all, also by who never called it; whoever failed last lets the
// others try first, and one answer opens the way for all.
func TestGPX3_ADeadServerIsTriedByOneAtATime(t *testing.T) {
	b := breaker{most: 3, longest: 10 * time.Second}
	now := time.Unix(1, 0)
	fail := func(user string) {
		t.Helper()
		if ok, retry := b.enter(now, user); !ok {
			t.Fatalf("%s has to wait %s", user, retry)
		}
		b.done(now, user, true, false)
	}
	wants := func(user string, want time.Duration) {
		t.Helper()
		if ok, retry := b.enter(now, user); ok || retry != want || b.shut(now, user) != want {
			t.Errorf("%s: %v, after %s; want %s", user, ok, retry, want)
		}
	}
	fail("alice")
	fail("alice")
	fail("bob")
	wants("alice", time.Second)
	wants("carol", time.Second)
	wants("bob", 2*time.Second)
	now = now.Add(time.Second)
	if ok, _ := b.enter(now, "carol"); !ok {
		t.Fatal("nobody may try")
	}
	if ok, _ := b.enter(now, "alice"); ok {
		t.Error("two try at once")
	}
	b.done(now, "carol", false, true) // left before the answer: says nothing
	wants("alice", time.Second)       // failed more often than others who wait
	now = now.Add(time.Second)
	fail("alice")
	wants("carol", 2*time.Second)
	wants("alice", 4*time.Second)
	now = now.Add(2 * time.Second)
	if ok, _ := b.enter(now, "carol"); !ok {
		t.Fatal("nobody may try")
	}
	b.done(now, "carol", false, false)
	for _, user := range []string{"alice", "bob", "carol"} {
		if ok, _ := b.enter(now, user); !ok {
			t.Errorf("%s has to wait for a server that answers", user)
		}
	}
	for range 10 {
		b.done(now, "alice", true, false)
		b.done(now, "bob", true, false)
	}
	wants("carol", b.longest)
}

// TestGPX3_ATryThatHangsKeepsNobodyOut: a call that tries a server and takes hours, as a
// stream of notifications does, lets others try after a while, and does so before
// whoever made it may try again.
func TestGPX3_ATryThatHangsKeepsNobodyOut(t *testing.T) {
	b := breaker{most: 2, longest: 10 * time.Second}
	now := time.Unix(1, 0)
	b.done(now, "mallory", true, false)
	b.done(now, "bob", true, false)
	now = now.Add(time.Second)
	may := func(user string, want bool) {
		t.Helper()
		if ok, _ := b.enter(now, user); ok != want {
			t.Errorf("%s may try: %v", user, ok)
		}
	}
	may("mallory", true) // and that call does not end
	may("carol", false)
	now = now.Add(time.Second)
	may("mallory", false)
	may("carol", true)
	may("alice", false)
	b.done(now, "carol", false, false)
	may("alice", true)
	may("mallory", true)
}

// TestGPX3_AFewUsersCannotTakeEveryTry: users who make a server fail, or its answers
// hang, and are first whenever it may be tried, keep nobody out who comes back when told.
func TestGPX3_AFewUsersCannotTakeEveryTry(t *testing.T) {
	for name, hang := range map[string]bool{"they fail": false, "they hang": true} {
		t.Run(name, func(t *testing.T) {
			b := breaker{most: 2, longest: 10 * time.Second}
			now := time.Unix(1, 0)
			b.done(now, "bob", true, false) // an honest one
			bad := []string{"mallory", "mallet", "malice"}
			refused, back := 0, now.Add(30*time.Second)
			for end := now.Add(10 * time.Minute); now.Before(end); now = now.Add(10 * time.Millisecond) {
				for _, user := range bad {
					if ok, _ := b.enter(now, user); ok && !hang {
						b.done(now, user, true, false)
					}
				}
				if hang && now.Equal(time.Unix(1, 0)) {
					b.done(now, "mallory", true, false)
				}
				if now.Before(back) {
					continue
				}
				ok, retry := b.enter(now, "bob")
				if ok {
					return
				}
				refused++
				back = now.Add(retry)
			}
			t.Errorf("bob was refused %d times in ten minutes", refused)
		})
	}
}

// TestGPX3_WhoMakesAServerFailIsAlone: the same with calls: what alice asks for ends in
// 500, and bob's calls beside them all run.
func TestGPX3_WhoMakesAServerFailIsAlone(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, _ *http.Request, body string) {
		if strings.Contains(body, "crash") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		result(w, body, `{"content":[{"type":"text","text":"ran"}]}`)
	})
	s := at("s", up.URL)
	s.Failures, s.Era = 2, "legacy"
	var ck stoppable
	r := newRig(t, []Server{s}, generous, func(_ *Config, d *Deps) { d.Now = ck.now })
	ck.stop()
	alone := 0
	for i := range 20 {
		if a := r.post("s", "alice", callTool("crash")); a.status == http.StatusServiceUnavailable {
			alone++
		}
		if i%4 != 3 {
			continue
		}
		if a := r.post("s", "bob", callTool("add")); !strings.Contains(a.body, "ran") {
			t.Errorf("bob: %d %s", a.status, a.body)
		}
	}
	if alone != 10 {
		t.Errorf("alice was left alone %d times", alone)
	}
}

// bobsAccount is the only one there is.
type bobsAccount struct{}

func (bobsAccount) Credential(_ context.Context, user, server string, _ bool) ([]Header, error) {
	if server == "box" && user == "bob" {
		return []Header{{Name: "TOKEN", Value: "of-bob"}}, nil
	}
	if user != "bob" {
		return nil, kidoban.Errorf(kidoban.KindNotFound, "there is no account")
	}
	return []Header{{Name: "Authorization", Value: "Bearer of-bob"}}, nil
}

func (bobsAccount) Challenged(context.Context, string, string, int, []string) error { return nil }

// TestGPX3_AServerThatIsNotAskedIsNotJudged: a call that ends for want of an account
// says nothing of the server: it makes none dead, and none alive.
func TestGPX3_AServerThatIsNotAskedIsNotJudged(t *testing.T) {
	up := newRaw(t, func(http.ResponseWriter, *http.Request, string) { panic(http.ErrAbortHandler) })
	own, all, box := at("own", up.URL), at("all", up.URL), stdioOf(t, "box")
	own.Account, all.Account, box.Account = AccountUser, AccountShared, AccountUser
	own.Failures, all.Failures, box.Failures = 3, 3, 3
	box.Stdio.Command = "/bin/false"
	own.Era, all.Era = "legacy", "legacy"
	var ck stoppable
	r := newRig(t, []Server{own, all, box}, generous, withSandbox(t), func(_ *Config, d *Deps) { d.Accounts, d.Now = bobsAccount{}, ck.now })
	ck.stop()
	for _, name := range []string{"own", "box"} {
		for range own.Failures {
			r.post(name, "bob", callTool("add"))
			r.post(name, "alice", callTool("add"))
		}
		if a := r.post(name, "bob", callTool("add")); a.status != http.StatusServiceUnavailable {
			t.Errorf("%s, which is dead, is asked on: %d %s", name, a.status, a.body)
		}
	}
	for range 2 * all.Failures {
		if a := r.post("all", "alice", callTool("add")); !strings.Contains(a.body, "did not accept the gateway's account") {
			t.Errorf("without an account: %d %s", a.status, a.body)
		}
	}
}
