package browser

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/goccy/go-yaml"

	"github.com/kidoban/kidoban"
)

// RecordOptions choose what a recording writes.
type RecordOptions struct {
	// Secret gives the reference under which a secret will be found when the script
	// is played: password, totp or passkey. nil gives ${env:KIDOBAN_PASSWORD} and so on.
	Secret func(what string) string
	// Passkeys lets the browser's virtual authenticator answer for passkeys, so that
	// one of a test account can be made while recording, and kept. Without it the
	// person's own authenticator answers.
	Passkeys bool
}

// Recording is a login as a person did it.
type Recording struct {
	Steps    []Step
	Passkeys []Passkey // made in the virtual authenticator
	Why      string    // why it ended: captured, decision, closed
	Notes    []string  // what could not be written as a step
}

// The ends of a recording.
const (
	RecordCaptured = "captured" // the browser was sent back to the client
	RecordDecision = "decision" // a decision page: that part is never recorded
	RecordClosed   = "closed"   // the person closed the window
)

// Record opens start in a tab and writes down what a person does there, until the
// login is complete. Only what a person's own hand does counts; values of password
// fields stay in the page, and those of one-time codes are dropped.
func (c *Chromium) Record(ctx context.Context, start string, o RecordOptions) (*Recording, error) {
	w, err := c.watch(ctx, start, o)
	if err != nil {
		return nil, err
	}
	defer w.tab.Close()
	return w.run(ctx)
}

// watcher is a recording under way.
type watcher struct {
	o   RecordOptions
	tab *tab

	mu     sync.Mutex
	events []recorded
}

// recorded is what the page's listener tells of one act.
type recorded struct {
	What    string // fill, click or passkey
	Value   string
	Element Element
}

// maxRecorded bounds the acts of one recording.
const maxRecorded = 400

func (c *Chromium) watch(ctx context.Context, start string, o RecordOptions) (*watcher, error) {
	if o.Secret == nil {
		o.Secret = func(what string) string { return "${env:KIDOBAN_" + strings.ToUpper(what) + "}" }
	}
	opened, err := c.Open(ctx, Policy{Capture: backToClient(start)})
	if err != nil {
		return nil, err
	}
	w := &watcher{o: o, tab: opened.(*tab)}
	fail := func(err error) (*watcher, error) {
		w.tab.Close()
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the browser cannot be watched")
	}
	if err := chromedp.Listen(w.tab.ctx, w.heard); err != nil {
		return fail(err)
	}
	if _, err := chromedp.Call(w.tab.ctx, runtime.AddBinding, runtime.AddBindingParams{Name: "kidobanTold"}); err != nil {
		return fail(err)
	}
	if _, err := chromedp.Call(w.tab.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watchScript}); err != nil {
		return fail(err)
	}
	if o.Passkeys {
		if _, err := w.tab.platform(w.tab.ctx); err != nil {
			return fail(err)
		}
	}
	if err := w.tab.Goto(ctx, start); err != nil {
		w.tab.Close()
		return nil, err
	}
	return w, nil
}

// heard notes what a page tells; it is told by a stranger's page and bounded.
func (w *watcher) heard(ev any) {
	e, ok := ev.(*runtime.EventBindingCalled)
	if !ok || e.Name != "kidobanTold" || len(e.Payload) > 16<<10 {
		return
	}
	var r recorded
	if json.Unmarshal([]byte(e.Payload), &r) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) < maxRecorded {
		w.events = append(w.events, r)
	}
}

// run waits for the end of the login.
func (w *watcher) run(ctx context.Context) (*Recording, error) {
	rec := &Recording{}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for silent := 0; rec.Why == ""; {
		select {
		case <-w.tab.ctx.Done():
			rec.Why = RecordClosed
			continue
		case <-ctx.Done():
			return nil, kidoban.Errorf(kidoban.KindRefused, "the recording was interrupted; nothing was written")
		case <-tick.C:
		}
		if keys, err := w.tab.passkeys(w.tab.ctx); err == nil {
			rec.Passkeys = keys
		}
		p, err := w.tab.Page(ctx)
		switch {
		case w.tab.Captured() != "":
			rec.Why = RecordCaptured
		case err != nil: // a page that is just leaving is silent for a moment; a closed window stays so
			if silent++; silent > 10 {
				rec.Why = RecordClosed
			}
		case Read(p, "") == KindConsent:
			rec.Why = RecordDecision
		default:
			silent = 0
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write(rec)
	return rec, nil
}

// write turns acts into steps: of several changes of a field the last counts, and a
// passkey has to be there before the click that asks for it.
func (w *watcher) write(rec *Recording) {
	for _, r := range w.events {
		x := r.Element
		name := x.call()
		switch {
		case r.What == "passkey":
			rec.Steps = append([]Step{{Passkey: &PasskeyStep{Credential: w.o.Secret("passkey")}}}, without(rec.Steps)...)
		case name == "":
			rec.Notes = append(rec.Notes, "a "+x.Kind+" that has neither words nor a name was used; name it by hand")
		case r.What == "click":
			if n := len(rec.Steps); n == 0 || rec.Steps[n-1].Click != name {
				rec.Steps = append(rec.Steps, Step{Click: name})
			}
		case x.oneTime():
			w.fill(rec, Step{TOTP: &TOTPStep{Field: name, Secret: w.o.Secret("totp")}})
		case x.password():
			w.fill(rec, Step{Fill: &FillStep{Field: name, Value: w.o.Secret("password")}})
		default:
			if secretField(name) { // the player refuses a plain value there
				w.fill(rec, Step{Fill: &FillStep{Field: name, Value: w.o.Secret("password")}})
				break
			}
			w.fill(rec, Step{Fill: &FillStep{Field: name, Value: r.Value}})
		}
	}
}

// fill appends a step, in place of an earlier one for the same field since the last
// click.
func (w *watcher) fill(rec *Recording, st Step) {
	for i := len(rec.Steps) - 1; i >= 0 && rec.Steps[i].Click == ""; i-- {
		if rec.Steps[i].field() == st.field() {
			rec.Steps[i] = st
			return
		}
	}
	rec.Steps = append(rec.Steps, st)
}

func (s Step) field() string {
	switch {
	case s.Fill != nil:
		return s.Fill.Field
	case s.TOTP != nil:
		return s.TOTP.Field
	}
	return ""
}

// without drops the passkey step that is there already.
func without(steps []Step) []Step {
	if len(steps) > 0 && steps[0].Passkey != nil {
		return steps[1:]
	}
	return steps
}

// call names an element for a step: by its words, else by its name, else by its id.
func (e Element) call() string {
	label := fold(e.Label)
	switch {
	case label != "" && len(label) <= 80 && !strings.HasPrefix(label, "#") && !strings.HasPrefix(label, "name="):
		return label
	case e.Name != "":
		return "name=" + e.Name
	case e.ID != "":
		return "#" + e.ID
	}
	return ""
}

// YAML is the recording as a script file.
func (r *Recording) YAML() ([]byte, error) {
	return yaml.Marshal(struct {
		Steps []Step `yaml:"steps"`
	}{r.Steps})
}

// backToClient tells where an authorization request returns to, nothing without one.
func backToClient(start string) func(string) bool {
	target := queryValue(start, "redirect_uri")
	return func(to string) bool { return target != "" && strings.HasPrefix(to, target) }
}
