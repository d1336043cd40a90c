package lab

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
)

// attack shows the weak behaviour of one switch: do returns whether it was seen.
type attack struct {
	key string
	do  func(b *agent) bool
}

// attacks are the proofs of all switches, by group.
func attacks() []attack {
	return slices.Concat(registrationAttacks(), redirectAttacks(), upstreamAttacks(), pkceAttacks(), pageAttacks(), tokenAttacks(),
		endpointAttacks(), metadataAttacks(), manageAttacks())
}

// TestSwitch throws each switch and shows the weakness, then shows that the same
// attack fails on the same lab without the switch.
func TestSwitch(t *testing.T) {
	for _, a := range attacks() {
		t.Run(a.key, func(t *testing.T) {
			t.Parallel()
			a.try(t, "")
		})
	}
}

// TestSwitchInEveryEra repeats the attacks on the endpoint that need no login in the
// eras beside the first one of their switch.
func TestSwitchInEveryEra(t *testing.T) {
	keys := []string{
		"E03-d", "E03-f", "E03-g", "E04-a", "E04-b", "E04-c", "E04-d", "E04-e", "E04-f", "E04-g", "E09-a", "E09-b", "E09-d", "E09-e", "E33-b", "E33-c", "E34-a",
	}
	raw := []string{"E09-e", "E33-b", "E33-c"} // bodies written by hand; not for the stream
	for _, a := range attacks() {
		if !slices.Contains(keys, a.key) {
			continue
		}
		s, _ := switchByKey(a.key)
		for _, era := range []string{eraModern, eraLegacy, eraSSE} {
			if s.Eras != nil && !slices.Contains(s.Eras, era) || era == eraSSE && slices.Contains(raw, a.key) {
				continue
			}
			t.Run(a.key+"/"+era, func(t *testing.T) {
				t.Parallel()
				a.try(t, era)
			})
		}
	}
}

// try runs the attack with the switch on and off. Without an era it takes the first
// of the switch's.
func (a attack) try(t *testing.T, era string) {
	t.Helper()
	s, ok := switchByKey(a.key)
	if !ok {
		t.Fatal("there is no such switch")
	}
	o := Options{Era: era, Upstream: s.Needs.Upstream, JWT: s.Needs.JWT, TLS: s.Needs.TLS, LoopbackDocuments: s.Needs.Documents}
	if era == "" && len(s.Eras) > 0 {
		o.Era = s.Eras[0]
	}
	skew := new(atomic.Int64) // attacks that need to wait move the clock instead
	o.Now = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
	for _, on := range []bool{true, false} {
		o.Flaws = slices.Clone(s.Needs.Flaws)
		if on {
			o.Flaws = []string{s.Key}
		}
		skew.Store(0)
		b := newAgent(t, startLab(t, o))
		b.skew = skew
		if got := a.do(b); got != on {
			t.Errorf("switch on %v: weakness seen %v", on, got)
		}
	}
}

// TestEverySwitchIsProved demands an attack for each switch, a switch for each
// check of the catalogue, and findings that exist.
func TestEverySwitchIsProved(t *testing.T) {
	proved := map[string]bool{}
	for _, a := range attacks() {
		if proved[a.key] {
			t.Errorf("%s has two attacks", a.key)
		}
		proved[a.key] = true
	}
	thrown := map[string]bool{}
	for _, s := range Switches() {
		if thrown[s.Key] {
			t.Errorf("%s stands twice", s.Key)
		}
		thrown[s.Key] = true
		if !proved[s.Key] {
			t.Errorf("%s has no attack", s.Key)
		}
		if s.Title == "" || !slices.Contains(s.Expect, s.Key) {
			t.Errorf("%s: title %q, expect %v", s.Key, s.Title, s.Expect)
		}
		for _, k := range append(slices.Clone(s.Expect), s.Needs.Flaws...) {
			if _, ok := kidoban.CheckByKey(k); !ok {
				t.Errorf("%s: no check %s", s.Key, k)
			}
		}
	}
}
