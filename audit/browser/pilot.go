package browser

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
)

// Account is a person's own test account.
type Account struct {
	User     string
	Password string
	TOTP     string // base32 secret of the second factor, "" without
}

// Decision is what the pilot does at a consent page.
type Decision int

// The decisions.
const (
	Approve Decision = iota
	Deny
	Look // stop at the first consent page and leave it open
)

// Errand is one walk.
type Errand struct {
	Account  Account
	Decision Decision
	Name     string                // the client's name as registered
	Quick    bool                  // the tab runs no scripts: a page that does not move will not
	Hands    bool                  // a person at the window logs in; the pilot waits
	Before   func(v *Visit) error  // called before a consent page is answered; may change the form
	Own      func(url string) bool // whose consent page it is; others' are approved. nil: all
	Script   *Script               // plays these steps on login pages; nil finds the fields by itself
	Now      func() time.Time
}

// Visit is one page of a walk and what was done there.
type Visit struct {
	*Page
	Kind Kind
	// Foreign marks a consent page that is not the server's own (Errand.Own).
	Foreign bool
	Did     string // login, code, approve, deny, continue; "" for the last page
}

// Journey is a whole walk.
type Journey struct {
	Visits   []Visit
	Captured string // the navigation that ended it, "" when it ended on a page
	Why      string // why it ended on a page: look, refused, stuck, or a sentence
}

// The reasons of Journey.Why that callers compare with.
const (
	EndLook    = "look"
	EndRefused = "refused" // the login was not accepted
	EndStuck   = "stuck"   // nothing on the page can be pressed
)

// Consents returns the consent pages of the walk, in order.
func (j *Journey) Consents() []*Page {
	var out []*Page
	for _, v := range j.Visits {
		if v.Kind == KindConsent && !v.Foreign {
			out = append(out, v.Page)
		}
	}
	return out
}

// Last is the page on which the walk ended, nil without any.
func (j *Journey) Last() *Page {
	if len(j.Visits) == 0 {
		return nil
	}
	return j.Visits[len(j.Visits)-1].Page
}

// maxSteps bounds the pages of one walk.
const maxSteps = 24

// Walk goes from address to the end: the capture, a decision to be looked at, or a
// page that leads nowhere. from may be "" to go on from the tab's page. It returns
// the journey as far as it came, with an error when the browser itself failed.
func Walk(ctx context.Context, tab Tab, from string, e Errand) (*Journey, error) {
	j := &Journey{}
	if from != "" {
		if err := tab.Goto(ctx, from); err != nil {
			return j, err
		}
	}
	logins, codes, rereads := 0, 0, 0
	filled := map[string]bool{} // places where a password was sent
	var was *Page               // the page that was acted on last
	for range maxSteps {
		if j.Captured = tab.Captured(); j.Captured != "" {
			return j, nil
		}
		p, kind, err := settled(ctx, tab, e, was)
		if err != nil {
			return j, err
		}
		if j.Captured = tab.Captured(); j.Captured != "" {
			return j, nil
		}
		j.Visits = append(j.Visits, Visit{Page: p, Kind: kind})
		v := &j.Visits[len(j.Visits)-1]
		was = p
		if e.Hands && (kind == KindLogin || kind == KindCode || kind == KindOther && p.Status < 400) {
			v.Did = "login"
			if err := byHand(ctx, tab, p, kind, e); err != nil {
				return j, err
			}
			continue
		}
		switch kind {
		case KindLogin:
			// A second time the same form means that the first was not accepted: trying
			// on would lock a person out.
			again := p.hasPassword() && filled[place(p.URL)]
			if logins++; logins > 4 || logins > 1 && p.Status >= 400 || again {
				j.Why = EndRefused
				return j, nil
			}
			filled[place(p.URL)] = p.hasPassword()
			v.Did = "login"
			if e.Script != nil && logins == 1 {
				err = e.Script.play(ctx, tab, e)
				break
			}
			err = login(ctx, tab, p, e)
		case KindCode:
			if e.Script != nil && logins == 0 {
				logins, v.Did = 1, "login"
				err = e.Script.play(ctx, tab, e)
				break
			}
			if codes++; codes > 2 || e.Account.TOTP == "" {
				j.Why = EndRefused
				return j, nil
			}
			v.Did = "code"
			err = enterCode(ctx, tab, p, e)
		case KindConsent:
			v.Foreign = e.Own != nil && !e.Own(p.URL)
			if v.Foreign {
				v.Did = "approve"
				err = tab.Click(ctx, p.approve())
				break
			}
			if e.Decision == Look {
				j.Why = EndLook
				return j, nil
			}
			if e.Before != nil {
				if err := e.Before(v); err != nil {
					return j, err
				}
			}
			at := p.approve()
			v.Did = "approve"
			if e.Decision == Deny {
				at, v.Did = p.deny(), "deny"
			}
			if at < 0 {
				j.Why, v.Did = EndStuck, ""
				return j, nil
			}
			err = tab.Click(ctx, at)
		case KindGoOn:
			v.Did = "continue"
			err = tab.Click(ctx, p.way())
		default:
			if e.Script != nil && logins == 0 && p.Status < 400 {
				logins, v.Did = 1, "login"
				err = e.Script.play(ctx, tab, e)
				break
			}
			at := p.chooser(e.Account.User)
			if at < 0 || p.Status >= 400 {
				j.Why = EndStuck
				return j, nil
			}
			v.Did = "continue"
			err = tab.Click(ctx, at)
		}
		if stale(err) && rereads < 3 {
			// The page was replaced between reading and acting: it is read anew.
			if rereads++; v.Did == "login" {
				logins--
				delete(filled, place(p.URL))
			}
			j.Visits, was = j.Visits[:len(j.Visits)-1], nil
			continue
		}
		if err != nil {
			return j, err
		}
	}
	j.Why = "more than 24 pages"
	return j, nil
}

// elementGone is what a tab says of an element that its page no longer has.
const elementGone = "the element is no longer there"

func stale(err error) bool { return err != nil && strings.Contains(err.Error(), elementGone) }

// settled reads the page, and gives a script a moment where nothing can be pressed
// yet, or where the page is still the one that was acted on: a script may be asking
// the server.
func settled(ctx context.Context, tab Tab, e Errand, was *Page) (*Page, Kind, error) {
	for try := 0; ; try++ {
		p, err := tab.Page(ctx)
		if err != nil {
			return nil, KindOther, err
		}
		k := Read(p, e.Name)
		same := p.unmoved(was)
		if k != KindOther && !same || e.Quick || p.Status >= 400 || try >= 40 || tab.Captured() != "" {
			return p, k, nil
		}
		if len(p.Elements) > 0 && try >= 6 && !same {
			return p, k, nil
		}
		t := time.NewTimer(150 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return p, k, kidoban.Wrap(kidoban.KindUnreachable, ctx.Err(), "the login took too long")
		}
	}
}

// unmoved tells whether p is was, as far as a person sees.
func (p *Page) unmoved(was *Page) bool {
	if was == nil || p.Doc != was.Doc || p.URL != was.URL || p.Text != was.Text || len(p.Elements) != len(was.Elements) {
		return false
	}
	for i, x := range p.Elements {
		y := was.Elements[i]
		y.Value = x.Value // what was filled in
		if x != y {
			return false
		}
	}
	return true
}

// byHand waits until the person at the window has left the page.
func byHand(ctx context.Context, tab Tab, was *Page, kind Kind, e Errand) error {
	for {
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
		if tab.Captured() != "" {
			return nil
		}
		p, err := tab.Page(ctx)
		if err != nil {
			continue // the page is just leaving
		}
		if k := Read(p, e.Name); p.URL != was.URL || k != kind {
			return nil
		}
	}
}

// login fills what the page asks for and sends it.
func login(ctx context.Context, tab Tab, p *Page, e Errand) error {
	var last Element
	filled := false
	fill := func(x Element, value string) error {
		last, filled = x, true
		return tab.Fill(ctx, x.Index, value)
	}
	for _, x := range p.Elements {
		var err error
		switch {
		case x.password():
			err = fill(x, e.Account.Password)
		case x.oneTime():
			if e.Account.TOTP != "" {
				err = fill(x, TOTP(e.Account.TOTP, e.now()))
			}
		case x.identity():
			err = fill(x, e.Account.User)
		case x.Kind == "input" && x.Type == "text" && !filled && p.hasPassword():
			err = fill(x, e.Account.User) // the only text field before a password
		}
		if err != nil {
			return err
		}
	}
	return send(ctx, tab, p, last)
}

func (p *Page) hasPassword() bool {
	for _, x := range p.Elements {
		if x.password() {
			return true
		}
	}
	return false
}

func enterCode(ctx context.Context, tab Tab, p *Page, e Errand) error {
	for _, x := range p.Elements {
		if x.oneTime() {
			if err := tab.Fill(ctx, x.Index, TOTP(e.Account.TOTP, e.now())); err != nil {
				return err
			}
			return send(ctx, tab, p, x)
		}
	}
	return nil
}

// send presses the button of a form.
func send(ctx context.Context, tab Tab, p *Page, field Element) error {
	at := p.submit(field)
	if at < 0 {
		at = p.approve()
	}
	if at < 0 {
		return kidoban.Errorf(kidoban.KindInput, "the page %s has a field to log in with and no button to send it; a login script can say what to press", place(p.URL))
	}
	return tab.Click(ctx, at)
}

func (e Errand) now() time.Time {
	if e.Now != nil {
		return e.Now()
	}
	return time.Now()
}

// queryValue is one parameter of an address, "" without it.
func queryValue(raw, name string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Query().Get(name)
}

// place is an address without what may be secret in it.
func place(raw string) string {
	raw, _, _ = strings.Cut(raw, "?")
	raw, _, _ = strings.Cut(raw, "#")
	return raw[:min(len(raw), 200)]
}
