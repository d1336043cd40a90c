package gateway

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/idna"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/toolscan"
)

// leaveTo shows where a server would have a person go, to that person only (E35). It
// leads nowhere by itself: the person goes on by a link, and the other side does not hear
// from where.
func (v *view) leaveTo(sealed string) {
	var to sentTo
	raw, ok := v.seal.open(sealed, pageBinding())
	if !ok || json.Unmarshal(raw, &to) != nil {
		v.refuse(http.StatusGone, "no_page")
		return
	}
	u, err := url.Parse(to.URL)
	if err != nil {
		v.refuse(http.StatusGone, "no_page")
		return
	}
	type page struct {
		Host, Address, Go, Server, Title, Client string
		Foreign, Plain                           bool
	}
	p := page{Host: asciiHost(u), Address: toolscan.Visible(to.URL, maxPage), Go: to.URL, Server: to.Server, Title: toolscan.Visible(to.Title, 200), Client: to.Client, Plain: u.Scheme == "http"}
	p.Foreign = strings.Contains(p.Host, "xn--")
	if to.User != v.who.ID { // nothing of it is shown
		v.note(to.Client, to.Server, p.Host, "refused", "another person's page")
		if v.deps.Alert != nil {
			v.deps.Alert(v.r.Context(), kidoban.NewAlert(kidoban.AlertConnectOtherUser, to.User, nil))
		}
		v.refuse(http.StatusForbidden, "no_page_other")
		return
	}
	p.Client = v.client(to.Client)
	v.note(to.Client, to.Server, p.Host, "shown", "a page that the server wants opened")
	v.render(http.StatusOK, "page", p)
}

// asciiHost is the host, with its port, in the form that hides no character.
func asciiHost(u *url.URL) string {
	name, err := idna.Punycode.ToASCII(strings.ToLower(u.Hostname()))
	if err != nil {
		name = toolscan.Visible(u.Hostname(), 300)
	}
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	if p := u.Port(); p != "" {
		name += ":" + p
	}
	return name
}
