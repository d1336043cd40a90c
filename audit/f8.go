package audit

import (
	"math"
	"strings"

	"github.com/kidoban/kidoban"
)

// judgeF8 judges the state that the server sends to its upstream. That the
// server does not demand a state of its clients is no flaw (RFC 6749 only
// recommends it).
func judgeF8(f *Facts, ev upstreamEvidence) []kidoban.Result {
	var states []string
	var xs []*kidoban.Exchange
	missing := 0
	for _, l := range f.L2.Samples {
		xs = append(xs, l.Trail.Last())
		if l.HasState {
			states = append(states, l.State)
		} else {
			missing++
		}
	}
	first := f.L2.Samples[0]
	if first.Hidden {
		var out []kidoban.Result
		for _, k := range []string{"F8-a", "F8-b", "F8-c", "F8-e"} {
			out = append(out, unclear(k, kidoban.ReasonUpstream, "the request to the upstream is pushed or signed; its state cannot be seen", xs[0]))
		}
		return out
	}
	if missing > 0 {
		a := positive("F8-a", kidoban.Confirmed, "the request to "+hostOf(first.Upstream)+" has no state", xs[0])
		if first.Challenge != "" && first.Method == "S256" {
			a.Severity = kidoban.Medium // PKCE on this hop protects against forged answers too (OAuth 2.1 §2.3.3)
		}
		return []kidoban.Result{a, absent("F8-b", "counted as F8-a: there is no state"), judgeF8c(ev), absent("F8-e", "counted as F8-a: there is no state")}
	}
	out := []kidoban.Result{passed("F8-a", "the request to the upstream has a state", xs[0])}
	if len(states) < 2 {
		out = append(out, untested("F8-b", kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)), judgeF8c(ev), untested("F8-e", kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget)))
		return out
	}
	b, e := passed("F8-b", "upstream states differ in "+itoa(len(states))+" samples and show no pattern", xs...), passed("F8-e", "upstream states have room for 128 random bits", xs...)
	bits := randomBits(states)
	switch {
	case fixed(states):
		b = positive("F8-b", kidoban.Confirmed, "the upstream state is the same in every request", xs...)
		e = absent("F8-e", "counted as F8-b: the state is fixed")
	case counting(states):
		b = positive("F8-b", kidoban.Confirmed, "upstream states count up", xs...)
		e = absent("F8-e", "counted as F8-b: the state is predictable")
	case bits < 128 && !structured(first):
		e = positive("F8-e", kidoban.Confirmed, "upstream states have room for about "+itoa(roundTo8(bits))+" random bits; 128 are needed", xs...)
	}
	return append(out, b, judgeF8c(ev), e)
}

// structured tells whether a state carries data: then its length says nothing
// about its random part, and F4 judges it.
//
// That a short state decodes to printable text happens by chance and is no
// structure.
func structured(l L2) bool {
	if what, _ := routing(l.State, l.sent); what != "" {
		return true
	}
	for _, x := range unnest(l.State) {
		if x.how == "json" || x.how == "jwt" || x.signed || len(x.text) >= 24 {
			return true
		}
	}
	return false
}

func fixed(states []string) bool {
	for _, s := range states[1:] {
		if s != states[0] {
			return false
		}
	}
	return true
}

// counting tells whether states are numbers or hex in close succession.
func counting(states []string) bool {
	prev := 0.0
	for i, s := range states {
		n := 0.0
		if len(s) > 19 || strings.Trim(s, "0123456789") != "" {
			return false
		}
		for _, c := range s {
			n = n*10 + float64(c-'0')
		}
		if i > 0 && (n <= prev || n-prev > 1e7) {
			return false
		}
		prev = n
	}
	return true
}

// randomBits bounds the random part of the samples from above: the characters
// outside the shared prefix and suffix, times the bits that their alphabet
// holds.
func randomBits(states []string) float64 {
	pre, suf := len(states[0]), len(states[0])
	shortest := len(states[0])
	for _, s := range states[1:] {
		shortest = min(shortest, len(s))
		n := 0
		for n < min(pre, len(s)) && s[n] == states[0][n] {
			n++
		}
		pre = n
		n = 0
		for n < min(suf, len(s)) && s[len(s)-1-n] == states[0][len(states[0])-1-n] {
			n++
		}
		suf = n
	}
	length := shortest
	if pre+suf < shortest && pre+suf > 2 { // one or two shared characters happen by chance
		length = shortest - pre - suf
	}
	all := strings.Join(states, "")
	alphabet := 64.0
	switch {
	case strings.Trim(all, "0123456789") == "":
		alphabet = 10
	case strings.Trim(all, "0123456789abcdef-") == "" || strings.Trim(all, "0123456789ABCDEF-") == "":
		alphabet = 16
	case strings.Trim(all, "0123456789abcdefghijklmnopqrstuvwxyz") == "":
		alphabet = 36
	}
	if alphabet == 16 {
		length -= strings.Count(states[0], "-")
	}
	return float64(length) * math.Log2(alphabet)
}

func roundTo8(bits float64) int { return int(bits+4) / 8 * 8 }

// judgeF8c looks whether the callback compares the state at all.
func judgeF8c(ev upstreamEvidence) kidoban.Result {
	const key = "F8-c"
	if ev.control == nil || ev.wrong == nil {
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	for _, t := range []*Trail{ev.control, ev.wrong} {
		if r, ok := blocked(key, t); !ok {
			return r
		}
	}
	good := ev.control
	for _, t := range []*Trail{ev.wrong, ev.missing} {
		if t == nil || t.Kind != CallbackError {
			continue
		}
		if good.Kind == CallbackError {
			return positive(key, kidoban.Likely, "the callback takes an answer whose state the server never made", good.Last(), t.Last())
		}
	}
	switch {
	case good.Kind == CallbackError:
		return passed(key, "an answer with a wrong state is refused", good.Last(), ev.wrong.Last())
	case good.Signature() == ev.wrong.Signature():
		return unclear(key, kidoban.ReasonDeferred, "the callback answers alike with the genuine and a wrong state", good.Last(), ev.wrong.Last())
	}
	return passed(key, "an answer with a wrong state is treated differently", good.Last(), ev.wrong.Last())
}

// judgeF8d compares the state that came back with the one that was sent.
func judgeF8d(f *Facts, answer *Trail, sent string) kidoban.Result {
	const key = "F8-d"
	if r, ok := blocked(key, f.Base); !ok {
		return r
	}
	switch {
	case answer == nil:
		return untested(key, kidoban.ReasonLogin, detailFor(kidoban.ReasonLogin))
	case sent == "" || answer.Params.Get("state") == sent:
		return passed(key, "the client's state comes back unchanged", answer.Last())
	case !answer.Params.Has("state"):
		return positive(key, kidoban.Confirmed, "the client's state does not come back", answer.Last())
	}
	return positive(key, kidoban.Confirmed, "the client's state comes back altered", answer.Last())
}
