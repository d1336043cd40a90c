package browser

import (
	"strings"
	"unicode"
)

// Kind is what a page wants from the person.
type Kind string

// The kinds of pages.
const (
	KindLogin   Kind = "login"    // who are you
	KindCode    Kind = "code"     // a second factor
	KindConsent Kind = "consent"  // yes or no
	KindGoOn    Kind = "continue" // one way forward
	KindOther   Kind = "other"
)

// Words on buttons and fields, in the languages that such pages are mostly
// written in. They choose what to press; no verdict hangs on one of them.
type words []string

func (w words) in(s string) bool {
	s = strings.ToLower(s)
	for _, x := range w {
		if strings.Contains(s, x) {
			return true
		}
	}
	return false
}

// whole tells whether one of the words stands in s as a word of its own.
func (w words) whole(s string) bool {
	for _, f := range strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		for _, x := range w {
			if f == x {
				return true
			}
		}
	}
	return false
}

func approveWords() words {
	return words{"approve", "allow", "authorize", "authorise", "accept", "agree", "grant", "consent", "confirm", "permit",
		"zulassen", "erlauben", "zustimmen", "autorisieren", "genehmigen", "autoriser", "accepter", "permettre", "permitir", "autorizar", "aceptar", "aceitar", "consenti", "autorizza", "accetta",
		"toestaan", "akkoord", "godkänn", "tillåt", "zezwól", "zatwierdź", "разрешить", "許可", "承認", "同意", "允许", "授权", "허용", "동의"}
}

func denyWords() words {
	return words{"deny", "cancel", "decline", "reject", "refuse", "disallow", "don't allow", "do not allow", "not now", "no thanks",
		"ablehnen", "abbrechen", "verweigern", "refuser", "annuler", "rechazar", "cancelar", "denegar", "negar", "recusar", "rifiuta", "annulla", "nega",
		"weigeren", "annuleren", "neka", "avbryt", "odrzuć", "anuluj", "отклонить", "отмена", "拒否", "キャンセル", "拒绝", "取消", "거부", "취소"}
}

func loginWords() words {
	return words{"log in", "login", "sign in", "signin", "sign-in", "log-in", "continue", "next", "submit", "verify", "unlock",
		"anmelden", "einloggen", "weiter", "connexion", "se connecter", "suivant", "continuer", "iniciar", "acceder", "siguiente", "entrar", "accedi", "avanti", "inloggen", "volgende", "logga in", "zaloguj", "dalej", "войти", "далее", "ログイン", "次へ", "登录", "下一步", "로그인", "다음"}
}

func goOnWords() words {
	return words{"continue", "proceed", "go on", "next", "weiter", "continuer", "continuar", "continua", "doorgaan", "fortsätt", "dalej", "продолжить", "続行", "继续", "계속", "yes", "ok"}
}

// grantWords are on buttons that can only mean a decision about access; others, as
// "accept" and "agree", also close notices.
func grantWords() words {
	return words{"allow", "authorize", "authorise", "approve", "grant", "permit", "zulassen", "erlauben", "autorisieren", "autoriser", "permitir", "autorizar", "autorizza",
		"toestaan", "tillåt", "zezwól", "разрешить", "許可", "承認", "允许", "授权", "허용"}
}

// asideWords are on buttons and links beside the way.
func asideWords() words {
	return words{"forgot", "reset", "register", "sign up", "signup", "create account", "create an account", "help", "privacy", "terms", "google", "github", "microsoft", "apple", "facebook", "passkey", "show password", "resend",
		"vergessen", "registrieren", "oublié", "inscrire", "olvid", "registrar", "dimenticat"}
}

// button tells whether e can be pressed.
func (e Element) button() bool {
	return e.Kind == "button" || e.Kind == "input" && (e.Type == "submit" || e.Type == "button" || e.Type == "image")
}

// said is what stands on a button, and beside it in the markup.
func (e Element) said() string { return e.Label }

func (e Element) named() string { return strings.ToLower(e.Name + " " + e.ID + " " + e.Value) }

// approves and denies read a button: its words first, then what the markup calls
// it. A refusal is looked for first, because "don't allow" contains "allow".
func (e Element) approves() bool {
	if !e.button() || denyWords().in(e.said()) {
		return false
	}
	if approveWords().in(e.said()) {
		return true
	}
	return !denyWords().in(e.named()) && approveWords().in(e.named()) || words{"yes", "ja", "oui", "sí", "sim", "да"}.whole(e.said())
}

func (e Element) denies() bool {
	if !e.button() && e.Kind != "link" {
		return false
	}
	if denyWords().in(e.said()) {
		return true
	}
	return e.button() && !approveWords().in(e.said()) && (denyWords().in(e.named()) || words{"no", "nein", "non", "нет"}.whole(e.said()))
}

func (e Element) input() bool { return e.Kind == "input" && !e.button() }

// password, identity and oneTime read what a field is for.
func (e Element) password() bool {
	if !e.input() || e.oneTime() {
		return false
	}
	// Some forms forget to hide what is typed.
	return e.Type == "password" || e.Type == "text" && (strings.Contains(e.Autocomplete, "current-password") || words{"password", "passwort", "passwd"}.whole(e.Name+" "+e.ID))
}

func (e Element) oneTime() bool {
	if !e.input() || e.Type == "checkbox" || e.Type == "radio" {
		return false
	}
	if strings.Contains(e.Autocomplete, "one-time-code") {
		return true
	}
	if e.Type == "email" || strings.Contains(e.Autocomplete, "password") || strings.Contains(e.Autocomplete, "username") {
		return false
	}
	s := strings.ToLower(e.Name + " " + e.ID + " " + e.Label)
	return words{"totp", "otp", "2fa", "mfa", "one-time", "onetime", "authenticator", "verification code", "security code", "einmalcode", "two-factor", "twofactor"}.in(s) || e.Type != "password" && words{"code", "passcode"}.whole(s)
}

func (e Element) identity() bool {
	if !e.input() {
		return false
	}
	switch e.Type {
	case "", "text", "email", "tel":
	default:
		return false
	}
	if e.oneTime() {
		return false
	}
	s := strings.ToLower(e.Autocomplete + " " + e.Name + " " + e.ID + " " + e.Label)
	return e.Type == "email" || words{"username", "email", "e-mail", "user", "login", "identifier", "account", "benutzer", "utilisateur", "usuario", "utente", "handle", "mail"}.in(s)
}

// Read says what a page wants. name is the client's name as registered; a page
// that shows it beside one approving button asks for consent too.
func Read(p *Page, name string) Kind {
	var pass, ident, code, yes, no bool
	ways := 0
	for _, e := range p.Elements {
		pass = pass || e.password()
		ident = ident || e.identity()
		code = code || e.oneTime()
		yes = yes || e.approves()
		no = no || e.denies()
		if e.button() {
			ways++
		}
	}
	switch {
	case pass:
		return KindLogin
	case code && !ident:
		return KindCode
	case yes && no:
		return KindConsent
	case ident:
		return KindLogin
	case yes && (name != "" && strings.Contains(p.Text, name) || p.grants()):
		return KindConsent
	case no && p.way() >= 0 && (name != "" && strings.Contains(p.Text, name) || approveWords().in(p.Title+" "+p.Text)):
		return KindConsent // "Authorize …" above "Continue" and "Cancel"
	case yes || ways > 0 && p.way() >= 0:
		return KindGoOn
	}
	return KindOther
}

// submit picks the button that sends the form that holds field: by its words, then
// by its position. -1 for none.
func (p *Page) submit(field Element) int {
	best, score := -1, 0
	for i, e := range p.Elements {
		if !e.button() || e.denies() || e.Type == "button" && e.Kind == "input" && e.Label == "" {
			continue
		}
		n := 1
		if e.Form == field.Form {
			n += 4
		} else if e.Form >= 0 && field.Form >= 0 {
			continue
		}
		if loginWords().in(e.said()) {
			n += 3
		}
		if e.Type == "submit" {
			n += 2
		}
		if i > field.Index {
			n++
		}
		if asideWords().in(e.said()) {
			n -= 6
		}
		if n > score {
			best, score = e.Index, n
		}
	}
	return best
}

// grants tells whether one of the buttons can only mean a decision about access.
func (p *Page) grants() bool {
	for _, e := range p.Elements {
		if e.button() && !denyWords().in(e.said()) && grantWords().in(e.said()) && !strings.Contains(strings.ToLower(e.said()), "cookie") {
			return true
		}
	}
	return false
}

// approve and deny pick the button of a decision: the first that says yes or no
// in its own words, else by what the markup calls it, else the one that goes on
// beside one that says no. -1 for none.
func (p *Page) approve() int {
	at := p.pick(Element.approves, approveWords())
	if at < 0 && p.deny() >= 0 {
		at = p.way()
	}
	return at
}

func (p *Page) deny() int { return p.pick(Element.denies, denyWords()) }

func (p *Page) pick(is func(Element) bool, said words) int {
	found := -1
	for _, e := range p.Elements {
		if !is(e) {
			continue
		}
		if said.in(e.said()) && e.button() {
			return e.Index
		}
		if found < 0 {
			found = e.Index
		}
	}
	return found
}

// way picks the one button that goes on.
func (p *Page) way() int {
	var all []Element
	for _, e := range p.Elements {
		if e.button() && !asideWords().in(e.said()) && !e.denies() {
			all = append(all, e)
		}
	}
	for _, e := range all {
		if goOnWords().in(e.said()) || approveWords().in(e.said()) {
			return e.Index
		}
	}
	if len(all) == 1 {
		return all[0].Index
	}
	return -1
}

// chooser picks the entry of an account list that shows the person's own name.
func (p *Page) chooser(user string) int {
	if user == "" {
		return -1
	}
	for _, e := range p.Elements {
		if (e.button() || e.Kind == "link") && strings.Contains(strings.ToLower(e.Label), strings.ToLower(user)) {
			return e.Index
		}
	}
	return -1
}

// ApproveAt is the index of the button that says yes, -1 for none.
func (p *Page) ApproveAt() int { return p.approve() }
