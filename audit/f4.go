package audit

import "github.com/kidoban/kidoban"

// judgeF4 decides whether routing data inside the upstream state is believed.
func judgeF4(f *Facts, ev upstreamEvidence) []kidoban.Result {
	keys := []string{"F4-0", "F4-1", "F4-2", "F4-4", "F4-5"}
	l := f.L2.Samples[0]
	x := l.Trail.Last()
	var out []kidoban.Result
	each := func(make func(key string) kidoban.Result, ks ...string) {
		for _, k := range ks {
			out = append(out, make(k))
		}
	}
	if l.Hidden || !l.HasState {
		each(func(k string) kidoban.Result { return absent(k, "the request to the upstream shows no state", x) }, keys...)
		return out
	}
	what, signed := routing(l.State, l.sent)
	switch {
	case what == "":
		out = append(out, passed("F4-0", "the upstream state carries no readable routing data", x))
		each(func(k string) kidoban.Result {
			return passed(k, "the upstream state is opaque: there is nothing to change", x)
		}, "F4-1", "F4-2", "F4-4")
	case signed:
		out = append(out, passed("F4-0", "the upstream state carries "+what+" beside a signature", x))
		each(func(k string) kidoban.Result { return absent(k, "counted as F4-4: the state is signed", x) }, "F4-1", "F4-2")
		out = append(out, judgeForged("F4-4", "a signed upstream state is taken with a changed redirect URI", ev))
	default:
		out = append(out, positive("F4-0", kidoban.Signal, "the upstream state carries "+what+" in readable form without a signature", x))
		out = append(out, judgeForged("F4-1", "an upstream state with a changed redirect URI is taken: the error goes there", ev), judgeF42(ev))
		out = append(out, absent("F4-4", "the state is not signed", x))
	}
	return append(out, judgeF45(ev))
}

// judgeForged reads where the callback sent a refusal with a changed state.
// Tampering counts only in the browser that owns the transaction, beside a
// genuine state that works.
func judgeForged(key, fact string, ev upstreamEvidence) kidoban.Result {
	t := ev.forged
	if ev.unsigned != nil && (t == nil || !t.Foreign) {
		t = ev.unsigned
	}
	if ev.tampered == "" {
		return unclear(key, kidoban.ReasonNeedsUI, "the state carries routing data in a form that cannot be rewritten", ev.control.Last())
	}
	if r, ok := blocked(key, t); !ok {
		return r
	}
	xs := []*kidoban.Exchange{ev.control.Last(), t.Last()}
	switch {
	case t.Foreign && (t.Kind == CallbackError || t.Kind == CallbackCode || t.Kind == CallbackBare):
		if t == ev.forged && (ev.forged2 == nil || !ev.forged2.Foreign) {
			return positive(key, kidoban.Likely, fact, xs...)
		}
		return positive(key, kidoban.Confirmed, fact, xs...)
	case t.Kind == CallbackError:
		return passed(key, "the error goes to the registered redirect URI whatever the state says", xs...)
	case t.Kind == ErrorPage && ev.control != nil && ev.control.Kind != ErrorPage:
		return passed(key, "a changed state is refused where the genuine one is taken", xs...)
	case unseen(ev.code) || unseen(ev.codeBad):
		return unclear(key, kidoban.ReasonDeferred, "refusals of the upstream stay on a local page with either state", xs...)
	case ev.code != nil && ev.codeBad != nil && ev.code.Signature() != ev.codeBad.Signature():
		return passed(key, "a changed state is refused where the genuine one is taken", ev.code.Last(), ev.codeBad.Last())
	case ev.code != nil && ev.codeBad != nil:
		return unclear(key, kidoban.ReasonDeferred, "refusals of the upstream stay on a local page; where a code would go shows after a login", xs...)
	}
	return unclear(key, kidoban.ReasonDeferred, "refusals of the upstream stay on a local page with either state", xs...)
}

// judgeF42 compares what a made-up code does with the genuine and with the
// changed state: the same failure of the upstream exchange means that the state
// was believed before.
func judgeF42(ev upstreamEvidence) kidoban.Result {
	const key = "F4-2"
	if ev.tampered == "" || ev.code == nil || ev.codeBad == nil {
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	for _, t := range []*Trail{ev.code, ev.codeBad} {
		if r, ok := blocked(key, t); !ok && !(fails(t) && ev.stands()) {
			return r
		}
	}
	xs := []*kidoban.Exchange{ev.code.Last(), ev.codeBad.Last()}
	if ev.code.Signature() != ev.codeBad.Signature() && !(ev.code.Kind == CallbackError && ev.codeBad.Kind == CallbackError && ev.codeBad.Foreign) {
		return passed(key, "a changed state is refused before the code is used", xs...)
	}
	if ev.forged != nil && ev.control != nil && ev.forged.Kind == ErrorPage && ev.control.Kind == CallbackError {
		return passed(key, "a changed state is refused where the genuine one is taken", ev.control.Last(), ev.forged.Last())
	}
	return positive(key, kidoban.Likely, "a made-up code reaches the upstream exchange with the genuine and with the changed state alike", xs...)
}

// unseen tells whether a limit, a challenge or silence stood in for the callback.
func unseen(t *Trail) bool {
	_, bad := unclearKind(t)
	return t != nil && bad && !fails(t)
}

// fails tells whether the callback answered with a fault, as servers do when the
// upstream does not take the code.
func fails(t *Trail) bool {
	x := t.Last()
	return x != nil && x.Response != nil && (outage(x) || crashed(x))
}

// stands tells whether the callback answered a later request as a server in order
// does: then its fault before was about the code.
func (ev *upstreamEvidence) stands() bool {
	for _, t := range []*Trail{ev.empty, ev.wrong} {
		if t != nil && !hidden(t.Last()) {
			return true
		}
	}
	return false
}

// judgeF45 looks whether a state works twice.
func judgeF45(ev upstreamEvidence) kidoban.Result {
	const key = "F4-5"
	if ev.control == nil {
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	for _, t := range []*Trail{ev.control, ev.again} {
		if r, ok := blocked(key, t); !ok {
			return r
		}
	}
	xs := []*kidoban.Exchange{ev.control.Last(), ev.again.Last()}
	switch {
	case ev.control.Signature() == ev.again.Signature() && (ev.control.Kind == ErrorPage || ev.wrong != nil && ev.wrong.Signature() == ev.control.Signature()):
		return unclear(key, kidoban.ReasonDeferred, "the callback answers alike both times; whether the state is spent cannot be seen", xs...)
	case ev.control.Signature() == ev.again.Signature():
		return positive(key, kidoban.Confirmed, "the upstream state works a second time", xs...)
	}
	return passed(key, "the upstream state works once", xs...)
}
