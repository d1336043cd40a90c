package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/kidoban/kidoban/toolscan"
)

// heldPins lists what waits, newest first.
func (v *view) heldPins(ctx context.Context, whole bool) ([]Pin, error) {
	all, err := v.deps.Pins.Pins(ctx, "", whole)
	if err != nil {
		return nil, err
	}
	var out []Pin
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].State == PinHeld {
			out = append(out, all[i])
		}
	}
	return out, nil
}

// maxHeldShown bounds the page.
const maxHeldShown = 50

// heldDefinition is a held pin as the page shows it: nothing hidden, and against
// the version approved last where there is one.
type heldDefinition struct {
	Server, Name, SHA256, Reason, Raw string
	Kind                              toolscan.Kind
	Grade                             toolscan.Grade
	Reasons                           []string
	Changes                           []toolscan.Change
	First                             time.Time
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

// definitions is the administrators' page of what is held.
func (v *view) definitions() {
	if !v.who.Admin {
		v.refuse(http.StatusForbidden, "no_admin")
		return
	}
	all, err := v.deps.Pins.Pins(v.r.Context(), "", true)
	if err != nil {
		v.failed(err)
		return
	}
	type page struct {
		Held   []heldDefinition
		Ticket string
	}
	p := page{Ticket: v.ticket("/decisions/definitions")}
	for _, pin := range all {
		if pin.State == PinHeld && len(p.Held) < maxHeldShown {
			p.Held = append(p.Held, v.held(all, pin))
		}
	}
	v.render(http.StatusOK, "definitions", p)
}

func (v *view) held(all []Pin, pin Pin) heldDefinition {
	h := heldDefinition{Server: pin.Server, Kind: pin.Kind, Name: toolscan.Visible(pin.Name, 200), SHA256: pin.SHA256, Reason: pin.Reason, First: pin.First, Raw: toolscan.Visible(string(pin.Raw), 8000)}
	was, ok := Against(all, pin)
	if !ok {
		return h
	}
	item := func(p Pin) toolscan.Item { return toolscan.Item{Kind: p.Kind, Name: p.Name, Raw: p.Raw} }
	d := v.deps.Scanner.Drift(nil, item(was), item(pin))
	h.Grade, h.Reasons = d.Grade, d.Reasons
	for _, c := range d.Changes {
		c.Path = toolscan.Visible(c.Path, 200)
		if c.Diff == nil {
			c.Diff = []toolscan.DiffOp{{Op: "-", Text: c.Before}, {Op: "+", Text: c.After}}
		}
		for i := range c.Diff {
			c.Diff[i].Text = toolscan.Visible(c.Diff[i].Text, 2000)
		}
		h.Changes = append(h.Changes, c)
	}
	for i := range h.Reasons {
		h.Reasons[i] = toolscan.Visible(h.Reasons[i], 300)
	}
	return h
}

// decideDefinition approves or rejects one version, by its hash.
func (v *view) decideDefinition() {
	if !v.who.Admin {
		v.note("", "", "", "refused", "no administrator")
		v.refuse(http.StatusForbidden, "no_admin")
		return
	}
	all, err := v.deps.Pins.Pins(v.r.Context(), v.form.Get("server"), false)
	if err != nil {
		v.failed(err)
		return
	}
	for _, p := range all {
		if p.SHA256 != v.form.Get("sha256") || string(p.Kind) != v.form.Get("kind") || p.Server != v.form.Get("server") || p.State != PinHeld {
			continue
		}
		p.State, p.By, p.Decided = PinRejected, v.who.Name, v.deps.Now()
		if v.form.Get("do") == "approve" {
			p.State = PinApproved
		}
		if err := v.deps.Pins.DecidePin(v.r.Context(), p); err != nil {
			v.failed(err)
			return
		}
		v.note("", p.Server, p.Name, string(p.State), "definition "+p.SHA256)
		v.outcome(http.StatusOK, "done_definition", "done", textIn(v.lang, "done_definition_text"))
		return
	}
	v.refuse(http.StatusConflict, "no_decided", "-")
}
