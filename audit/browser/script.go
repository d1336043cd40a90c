package browser

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// Script is a recorded login: what to do on the pages before the decision. A step
// is played when the walk meets a page that holds what it names; the decision
// itself stays with the pilot. Secrets are never in the file: a value is text, or
// names where the secret lives (${env:VAR}, keychain:NAME).
//
//	steps:
//	  - fill: {field: Email, value: alice@example.com}
//	  - click: Next
//	  - fill: {field: Password, value: "${env:PW}"}
//	  - click: Sign in
//	  - totp: {field: Code, secret: "${env:TOTP}"}
//	  - click: Verify
//
// A passkey is put into a virtual authenticator of a real browser before the page
// asks for it:
//
//	steps:
//	  - passkey: {credential: "keychain:example-passkey"}
//	  - click: Log in with a passkey
type Script struct {
	Name  string
	Steps []Step
}

// NeedsBrowser tells whether a step works in a real browser only.
func (s *Script) NeedsBrowser() bool {
	return s != nil && slices.ContainsFunc(s.Steps, func(st Step) bool { return st.Passkey != nil })
}

// Step is one action. Exactly one member is set.
type Step struct {
	Goto    string       `yaml:"goto,omitempty"`
	Fill    *FillStep    `yaml:"fill,omitempty"`
	Click   string       `yaml:"click,omitempty"` // words of a button or link, or a selector: #id, name=NAME
	TOTP    *TOTPStep    `yaml:"totp,omitempty"`
	Passkey *PasskeyStep `yaml:"passkey,omitempty"`
	Wait    string       `yaml:"wait,omitempty"` // words that the page must show, or a duration up to 30s
}

// FillStep writes a value into a field, which its label, name or id names.
type FillStep struct {
	Field string `yaml:"field"`
	Value string `yaml:"value"`
}

// TOTPStep writes the code of the moment into a field.
type TOTPStep struct {
	Field  string `yaml:"field"`
	Secret string `yaml:"secret"`
}

// PasskeyStep puts a credential into the browser's virtual authenticator.
type PasskeyStep struct {
	Credential string `yaml:"credential"` // names where the credential lives: JSON, see Passkey
	passkey    *Passkey
}

// maxScript bounds a script's steps.
const maxScript = 100

// ParseScript reads a login script. getenv is the environment; a secret that is
// missing there or in the keychain is an error that names the step.
func ParseScript(name string, raw []byte, getenv func(string) string) (*Script, error) {
	var f struct {
		Steps []Step `yaml:"steps"`
	}
	if len(raw) > 64<<10 {
		return nil, kidoban.Errorf(kidoban.KindUsage, "%s is longer than 64 KiB, which no login needs", name)
	}
	if err := yaml.UnmarshalWithOptions(raw, &f, yaml.Strict()); err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "%s is no login script", name)
	}
	if len(f.Steps) == 0 || len(f.Steps) > maxScript {
		return nil, kidoban.Errorf(kidoban.KindUsage, "%s has %d steps; a login script has 1 to %d", name, len(f.Steps), maxScript)
	}
	for i := range f.Steps {
		st := &f.Steps[i]
		set := 0
		for _, on := range []bool{st.Goto != "", st.Fill != nil, st.Click != "", st.TOTP != nil, st.Passkey != nil, st.Wait != ""} {
			if on {
				set++
			}
		}
		if set != 1 {
			return nil, kidoban.Errorf(kidoban.KindUsage, "%s, step %d: a step is one of goto, fill, click, totp, passkey, wait", name, i+1)
		}
		var err error
		switch {
		case st.Fill != nil:
			if secretField(st.Fill.Field) && !reference(st.Fill.Value) {
				return nil, kidoban.Errorf(kidoban.KindUsage, "%s, step %d: a secret does not belong into the file; write ${env:VAR} or keychain:NAME", name, i+1)
			}
			st.Fill.Value, err = secretOf(st.Fill.Value, getenv)
		case st.TOTP != nil:
			if !reference(st.TOTP.Secret) {
				return nil, kidoban.Errorf(kidoban.KindUsage, "%s, step %d: the secret does not belong into the file; write ${env:VAR} or keychain:NAME", name, i+1)
			}
			if st.TOTP.Secret, err = secretOf(st.TOTP.Secret, getenv); err == nil && TOTP(st.TOTP.Secret, time.Unix(0, 0)) == "" {
				err = kidoban.Errorf(kidoban.KindUsage, "the secret is not base32")
			}
		}
		if p := st.Passkey; p != nil {
			if !reference(p.Credential) {
				return nil, kidoban.Errorf(kidoban.KindUsage, "%s, step %d: the passkey does not belong into the file; write ${env:VAR} or keychain:NAME", name, i+1)
			}
			var text string
			if text, err = secretOf(p.Credential, getenv); err == nil {
				p.passkey, err = ParsePasskey(text)
			}
		}
		if err != nil {
			return nil, kidoban.Wrap(kidoban.KindUsage, err, "%s, step %d", name, i+1)
		}
	}
	return &Script{Name: name, Steps: f.Steps}, nil
}

func secretField(s string) bool {
	return words{"password", "passwort", "passwd", "secret", "mot de passe", "contraseña", "pin"}.in(s)
}

func reference(v string) bool {
	return strings.HasPrefix(v, "${env:") && strings.HasSuffix(v, "}") || strings.HasPrefix(v, "keychain:")
}

// secretOf resolves a reference; other text is itself.
func secretOf(v string, getenv func(string) string) (string, error) {
	if name, ok := strings.CutPrefix(v, "keychain:"); ok {
		return fromKeychain(name)
	}
	if !reference(v) {
		return v, nil
	}
	name := strings.TrimSuffix(strings.TrimPrefix(v, "${env:"), "}")
	s := getenv(name)
	if s == "" {
		return "", kidoban.Errorf(kidoban.KindUsage, "the environment variable %s is empty", name)
	}
	return s, nil
}

// matches tells whether e is what a step names.
func (e Element) matches(want string) bool {
	if id, ok := strings.CutPrefix(want, "#"); ok {
		return e.ID == id
	}
	if name, ok := strings.CutPrefix(want, "name="); ok {
		return e.Name == name
	}
	low := strings.ToLower(fold(want))
	return low != "" && (strings.ToLower(e.Name) == low || strings.Contains(strings.ToLower(e.Label), low))
}

// find returns the element that a step names: an exact label before a part of one.
func (p *Page) find(want string, is func(Element) bool) (Element, bool) {
	var part *Element
	for i := range p.Elements {
		e := p.Elements[i]
		if !is(e) || !e.matches(want) {
			continue
		}
		if strings.EqualFold(e.Label, fold(want)) || strings.HasPrefix(want, "#") || strings.HasPrefix(want, "name=") {
			return e, true
		}
		if part == nil {
			part = &e
		}
	}
	if part != nil {
		return *part, true
	}
	return Element{}, false
}

// patience is how long a step waits for what it names.
const patience = 5 * time.Second

// play does the steps of a script. It stops early when the tab is captured.
func (s *Script) play(ctx context.Context, tab Tab, e Errand) error {
	for i, st := range s.Steps {
		if tab.Captured() != "" {
			return nil
		}
		err := s.step(ctx, tab, e, st)
		if stale(err) { // the page was replaced while the step was made
			err = s.step(ctx, tab, e, st)
		}
		if err != nil {
			return kidoban.Errorf(kidoban.KindOf(err), "%s, step %d: %s", s.Name, i+1, err)
		}
	}
	return nil
}

func (s *Script) step(ctx context.Context, tab Tab, e Errand, st Step) error {
	field := func(x Element) bool { return x.input() || x.Kind == "textarea" || x.Kind == "select" }
	press := func(x Element) bool { return x.button() || x.Kind == "link" }
	switch {
	case st.Goto != "":
		return tab.Goto(ctx, st.Goto)
	case st.Fill != nil:
		x, err := await(ctx, tab, e, "the field", st.Fill.Field, field)
		if err != nil {
			return err
		}
		return tab.Fill(ctx, x.Index, st.Fill.Value)
	case st.TOTP != nil:
		x, err := await(ctx, tab, e, "the field", st.TOTP.Field, field)
		if err != nil {
			return err
		}
		return tab.Fill(ctx, x.Index, TOTP(st.TOTP.Secret, e.now()))
	case st.Passkey != nil:
		a, ok := tab.(authenticator)
		if !ok {
			return kidoban.Errorf(kidoban.KindUsage, "a passkey needs a real browser")
		}
		return a.AddPasskey(ctx, st.Passkey.passkey)
	case st.Click != "":
		x, err := await(ctx, tab, e, "the button", st.Click, press)
		if err != nil {
			return err
		}
		return tab.Click(ctx, x.Index)
	}
	if d, err := time.ParseDuration(st.Wait); err == nil {
		return pause(ctx, min(d, 30*time.Second))
	}
	for began := time.Now(); ; {
		p, err := tab.Page(ctx)
		if err != nil {
			return err
		}
		if strings.Contains(strings.ToLower(p.Text), strings.ToLower(st.Wait)) {
			return nil
		}
		if e.Quick || time.Since(began) > patience {
			return kidoban.Errorf(kidoban.KindInput, "the page %s does not show %q; it says: %.200s", place(p.URL), st.Wait, p.Text)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// await waits for an element and says what was there instead.
func await(ctx context.Context, tab Tab, e Errand, what, want string, is func(Element) bool) (Element, error) {
	for began := time.Now(); ; {
		p, err := tab.Page(ctx)
		if err != nil {
			return Element{}, err
		}
		if x, ok := p.find(want, is); ok {
			return x, nil
		}
		if e.Quick || time.Since(began) > patience {
			var there []string
			for _, x := range p.Elements {
				if is(x) && len(there) < 12 {
					there = append(there, strings.TrimSpace(x.Label+" "+x.Name))
				}
			}
			return Element{}, kidoban.Errorf(kidoban.KindInput, "%s %q is not on %s (%.80s); there is: %s", what, want, place(p.URL), p.Title, strings.Join(there, " | "))
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return Element{}, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	if err := outbound.Sleep(ctx, d); err != nil {
		return kidoban.Wrap(kidoban.KindUnreachable, err, "the login took too long")
	}
	return nil
}
