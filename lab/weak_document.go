package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
)

// documentSwitches are the flaws of fetching for strangers: addresses of a
// registration (E15) and client documents (E16). All of them need a canary on
// 127.0.0.1. There http is let through as https would be elsewhere, and 127.0.0.1
// stands for the public internet; any other loopback address, 127.0.0.2 for
// example, stands for what must never be dialled.
func documentSwitches() []Switch {
	docs := Needs{Documents: true}
	return []Switch{
		{Key: "E15-a", Title: "Registration fetches logo_uri.", Needs: docs},
		{Key: "E15-b", Title: "Registration fetches jwks_uri, follows redirects and dials any loopback address.", Needs: docs},
		{Key: "E15-c", Title: "Registration fetches sector_identifier_uri, follows redirects and dials any loopback address.", Needs: docs},
		{Key: "E15-d", Title: "Registration fetches the first of request_uris, follows redirects and dials any loopback address.", Needs: docs},
		{Key: "E16-a", Title: "The client_id in a document is not compared with its address.", Needs: docs},
		{Key: "E16-b", Title: "Any address is taken for a document's: without a path, with dot segments, fragment or user information.", Needs: docs},
		{Key: "E16-c", Title: "Redirects of a document are followed.", Needs: docs},
		{Key: "E16-d", Title: "A document counts whatever status it comes with.", Needs: docs},
		{Key: "E16-e", Title: "A document may be of 4 MB.", Needs: docs},
		{Key: "E16-f", Title: "A document may hold a secret and ask for a symmetric method.", Needs: docs},
		{Key: "E16-g", Title: "The redirect_uri of a client with a document is not looked up in it.", Needs: docs},
		{Key: "E16-h", Title: "The content type of a document does not matter.", Needs: docs},
		{Key: "E16-i", Title: "A failed fetch is remembered for 30 seconds.", Needs: docs},
		{Key: "E16-j", Title: "Consent is remembered for a document's address and redirect URI, whatever else changes in it.", Needs: docs},
		{Key: "E16-k", Title: "A document on any loopback address is fetched.", Needs: docs},
		{Key: "E16-l", Title: "The decision page does not show where the client's document lives.", Needs: docs},
		{Key: "E16-m", Title: "The decision page for a client with a document does not warn of programs on this computer.", Needs: docs},
		{Key: "E16-n", Title: "A document may hold script addresses.", Needs: docs},
	}
}

// fetchedMembers are the members of a registration that the switches of E15 fetch.
func fetchedMembers() map[string]string {
	return map[string]string{"E15-a": "logo_uri", "E15-b": "jwks_uri", "E15-c": "sector_identifier_uri", "E15-d": "request_uris"}
}

// fetchMetadata is where a careless server fetches what a registration names. A safe
// one fetches nothing.
func (l *Lab) fetchMetadata(ctx context.Context, c *client) {
	for key, raw := range c.fetch {
		if !l.on(key) || raw == "" {
			continue
		}
		hc := l.fetch
		if key != "E15-a" {
			hc = unguarded()
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
		if err != nil {
			continue
		}
		if res, err := hc.Do(req); err == nil {
			io.Copy(io.Discard, io.LimitReader(res.Body, maxDocument))
			res.Body.Close()
		}
	}
}

// unguarded follows redirects and dials every loopback address. Beyond loopback a
// lab sends nothing, weak or not.
func unguarded() *http.Client {
	d := &net.Dialer{Timeout: documentTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil || !a.Addr().Unmap().IsLoopback() {
			return errors.New("a lab sends nothing beyond loopback")
		}
		return nil
	}}
	return &http.Client{Timeout: documentTimeout, Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}}
}
