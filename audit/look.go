package audit

import (
	"context"

	"github.com/kidoban/kidoban/outbound"
)

// Look runs discovery alone: what is there, which class it is, where
// authorization lives, in about six requests (T1) and without a report. It is
// the unit that a census repeats; out carries politeness, budget and recorder.
// The facts are the caller's. Errors are KindUsage for a target that is none.
func Look(ctx context.Context, o Options, out *outbound.Client, target string) (*Facts, error) {
	o.fill()
	o.Spacing = 0 // out is polite already
	target, err := NormalizeTarget(target, o.Lab)
	if err != nil {
		return nil, err
	}
	s := newSession(&o, out, target)
	s.discover(ctx)
	s.endSessions(context.WithoutCancel(ctx))
	return s.facts, nil
}
