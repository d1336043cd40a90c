package lab

import (
	"net/url"
	"strings"
)

// clientSwitches are the flaws of blind client trust (F2). Each accepts one kind of
// unknown client and refuses the others, so that a tester must try them all.
func clientSwitches() []Switch {
	return []Switch{
		{Key: "F2-a", Title: "An unknown client_id with a loopback redirect URI is taken for a native client; ids that look like our own must exist."},
		{Key: "F2-b", Title: "An unknown client_id with a web redirect URI is taken for a cloud client; ids that look like our own must exist."},
		{Key: "F2-c", Title: "Client ids are looked up by their first 24 characters: one whose end was changed is taken for the client it resembles."},
		{Key: "F2-d", Title: "Without a client_id the request is taken for one of the default client, with a loopback redirect URI of anybody's choice."},
	}
}

// blindClient makes up a client for an id that nobody registered.
func (l *Lab) blindClient(id, redirect string) *client {
	u, err := url.Parse(redirect)
	if err != nil || plainURI(redirect) != nil || u.User != nil || strings.Contains(id, "://") {
		return nil
	}
	loopback := u.Scheme == "http" && isLoopbackHost(u.Hostname())
	stranger := id != "" && !strings.HasPrefix(id, "lab-")
	switch {
	case l.on("F2-a") && stranger && loopback:
	case l.on("F2-b") && stranger && u.Scheme == "https" && u.Host != "":
	case l.on("F2-d") && id == "" && loopback:
	default:
		return nil
	}
	return &client{id: id, name: "Application", redirects: []string{redirect}, grants: []string{"authorization_code", "refresh_token"}, responses: []string{"code"}, method: "none"}
}

// weakClient finds a client by an id that is not quite its own. Lab.mu is held.
func (l *Lab) weakClient(id string) *client {
	if !l.on("F2-c") || len(id) < 24 {
		return nil
	}
	for known, c := range l.st.clients {
		if c.dynamic && len(known) == len(id) && known[:24] == id[:24] {
			return c
		}
	}
	return nil
}
