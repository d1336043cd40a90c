package lab

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
)

func TestSwitchOptions(t *testing.T) {
	for _, s := range Switches() {
		for _, era := range append(Eras(), "") {
			base := Options{Era: era, IssuerPath: true, Flaws: []string{}}
			o, ok := s.Options(base)
			if !ok {
				if len(o.Flaws) > 0 || len(s.Eras) == 0 && len(s.Needs.Flaws) == 0 {
					t.Errorf("%s: refused in era %q", s.Key, era)
				}
				continue
			}
			if len(base.Flaws) > 0 || !slices.Contains(o.Flaws, s.Key) || s.Needs.Upstream && !o.Upstream || s.Needs.RootIssuer && o.IssuerPath {
				t.Errorf("%s in era %q: %+v", s.Key, era, o)
			}
			for _, k := range s.Needs.Flaws {
				if !slices.Contains(o.Flaws, k) {
					t.Errorf("%s needs %s", s.Key, k)
				}
			}
		}
	}
}

func TestCombos(t *testing.T) {
	for _, c := range Combos() {
		t.Run(c.Name, func(t *testing.T) {
			o := c.Options
			o.Flaws = c.Flaws
			l := startLab(t, o)
			for _, k := range c.Flaws {
				if _, ok := switchByKey(k); !ok || !slices.Contains(c.Expect, k) {
					t.Errorf("%s is no switch, or not expected in %v", k, c.Expect)
				}
			}
			for _, k := range l.Flaws {
				if !slices.Contains(c.Expect, k) && k != "E03-g" {
					t.Errorf("%s is on and not expected", k)
				}
			}
			if len(c.Chains) == 0 {
				t.Error("no chain")
			}
		})
	}
}

func TestChains(t *testing.T) {
	made := map[string]bool{}
	for _, c := range Combos() {
		for _, id := range c.Chains {
			made[id] = true
		}
	}
	for _, s := range Switches() {
		for _, id := range s.Chains {
			made[id] = true
		}
	}
	for _, r := range chainRules() {
		for _, family := range r.families {
			for _, k := range family {
				if _, ok := kidoban.CheckByKey(k); !ok {
					t.Errorf("%s: no check %s", r.id, k)
				}
			}
		}
		if !made[r.id] {
			t.Errorf("no lab makes the chain %s", r.id)
		}
	}
}

// TestUndecided compares the declaration with what a browser without a login sees:
// where the finding must stay open, a good request and one of an unknown client end
// alike.
func TestUndecided(t *testing.T) {
	for _, p := range Profiles() {
		l := startLab(t, Options{Profile: p})
		b := newAgent(t, l)
		id := b.client(nil)
		good, _ := b.walk(b.request(id))
		bad, _ := b.walk(b.request(strangerID))
		if alike := good.status == bad.status; alike != Undecided("F2-a", p) {
			t.Errorf("%s: good %d, unknown client %d, declared undecided %v", p, good.status, bad.status, !alike)
		}
	}
	for _, s := range Switches() {
		if s.Authorize != Undecided(s.Key, profileChallenge) {
			t.Errorf("%s: Authorize is %v", s.Key, s.Authorize)
		}
	}
	for _, key := range []string{"F5-e", "E17-a", "E32-c"} {
		if Undecided(key, profileChallenge) {
			t.Errorf("%s needs no /authorize", key)
		}
	}
}

// walk follows redirects, and nothing else, to a page.
func (b *agent) walk(v url.Values) (answer, []string) {
	b.t.Helper()
	at, _ := url.Parse(b.l.Issuer + "/authorize?" + v.Encode())
	var hops []string
	for range 21 {
		a := b.get(at.String())
		loc := a.header.Get("Location")
		if loc == "" {
			return a, hops
		}
		u, err := at.Parse(loc)
		if err != nil {
			b.t.Fatal(err)
		}
		at = u
		hops = append(hops, at.String())
	}
	b.t.Fatalf("more than 20 hops: %v", hops)
	return answer{}, nil
}

func TestDepth(t *testing.T) {
	for _, n := range []int{1, 8, 18} {
		b := newAgent(t, startLab(t, Options{Profile: profileDeep, Depth: n}))
		a, hops := b.walk(b.request(b.client(nil)))
		if !strings.Contains(a.body, `name="password"`) || len(hops) != n+1 {
			t.Errorf("depth %d: %d hops, %s", n, len(hops), a.body)
		}
		if a, hops := b.walk(b.request(strangerID)); a.status != 400 || len(hops) != n {
			t.Errorf("depth %d, unknown client: %d after %d hops", n, a.status, len(hops))
		}
	}
	if _, err := Start(t.Context(), Options{Depth: 19}); kidoban.KindOf(err) != kidoban.KindUsage {
		t.Errorf("depth 19: %v", err)
	}
}

func TestNoise(t *testing.T) {
	for n := range len(noises()) + 1 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			l := startLab(t, Options{Profile: profileNoise, Noise: n, Upstream: n%2 == 0})
			b := newAgent(t, l)
			id := b.client(nil)
			_, hops := b.walk(b.request(id))
			if !strings.HasPrefix(hops[0], l.noise+"/") {
				t.Errorf("no noise: %v", hops)
			}
			if b.redeem(id, b.code(b.request(id), "alice"), nil).status != 200 {
				t.Error("the login must work behind the noise")
			}
			if a := b.get(l.noise + "/x?continue=https%3A%2F%2Fevil.example"); a.header.Get("Location") != "" {
				t.Error("the noise is a redirector")
			}
		})
	}
	if _, err := Start(t.Context(), Options{Noise: 12}); kidoban.KindOf(err) != kidoban.KindUsage {
		t.Errorf("noise 12: %v", err)
	}
}

// TestE06bSigned shows that the upstream's token is passed through where the
// server's own tokens are JWTs as well.
func TestE06bSigned(t *testing.T) {
	b := newAgent(t, startLab(t, Options{JWT: true, Flaws: []string{"E06-b"}}))
	at := b.access("alice")
	if !strings.HasPrefix(at, "idp-") || !b.toolsOpen(at) || b.toolsOpen("idp-x") {
		t.Errorf("token %q", at)
	}
}

// TestE04aOwnTokens: a server that takes any stranger's token still knows its own.
func TestE04aOwnTokens(t *testing.T) {
	b := newAgent(t, startLab(t, Options{Flaws: []string{"E04-a"}}))
	id, tok := b.login("alice", nil)
	at := str(tok, "access_token")
	changed := "A" + at[1:]
	if at[0] == 'A' {
		changed = "B" + at[1:]
	}
	if !b.toolsOpen(at) || !b.toolsOpen("stranger") || b.toolsOpen(changed) {
		t.Error("own and strange tokens are good, a changed one is not")
	}
	b.form(b.l.Issuer+"/revoke", url.Values{"token": {at}, "client_id": {id}})
	if b.toolsOpen(at) {
		t.Error("a revoked token is good")
	}
}
