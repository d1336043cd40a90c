package gateway

import "context"

// heldPins counts what waits for an administrator.
func (v *view) heldPins(ctx context.Context) (n int, err error) {
	all, err := v.deps.Pins.Pins(ctx, "", false)
	for _, p := range all {
		if p.State == PinHeld {
			n++
		}
	}
	return n, err
}

// Against compares a held definition with the version of the same name that was
// approved last; ok is false when there is none.
func Against(all []Pin, p Pin) (was Pin, ok bool) {
	for _, o := range all {
		if o.State == PinApproved && o.Server == p.Server && o.Kind == p.Kind && o.Name == p.Name && (!ok || !o.Decided.Before(was.Decided)) {
			was, ok = o, true
		}
	}
	return was, ok
}
