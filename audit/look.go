package audit

import (
	"context"

	"github.com/kidoban/kidoban/outbound"
)

// Look runs discovery alone: what is there, which class it is, where
// authorization lives, in about six requests (T1) and without a report. It is
// the unit that a census repeats; out carries politeness, budget and recorder.
// o.Spacing is what out lets pass between two requests: a conversation over an
// event stream is waited for so much longer. The facts are the caller's. Errors are KindUsage for a target that is none.
func Look(ctx context.Context, o Options, out *outbound.Client, target string) (*Facts, error) {
	pause := o.Spacing
	o.fill()
	o.Spacing = 0 // out is polite already
	target, err := NormalizeTarget(target, o.Lab)
	if err != nil {
		return nil, err
	}
	s := newSession(&o, out, target)
	s.apart = pause
	s.discover(ctx)
	s.endSessions(context.WithoutCancel(ctx))
	return s.facts, nil
}
