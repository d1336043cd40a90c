package oauth

import (
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// CallbackKind says whose callback a redirect URI is.
type CallbackKind string

// The kinds of callbacks.
const (
	CallbackLoopback    CallbackKind = "loopback"     // a program on the user's machine: an MCP client
	CallbackPrivateUse  CallbackKind = "private_use"  // an app scheme: an MCP client
	CallbackOwn         CallbackKind = "own"          // the MCP server's or its AS's own: it is the client of another AS
	CallbackCloudClient CallbackKind = "cloud_client" // https elsewhere: a hosted MCP client
	CallbackInvalid     CallbackKind = "invalid"      // no absolute URI
)

// Layer returns 1 for callbacks of MCP clients (client ↔ MCP server's AS), 2
// for those of the MCP server itself (server ↔ third party), 0 for none.
func (k CallbackKind) Layer() int {
	switch k {
	case CallbackLoopback, CallbackPrivateUse, CallbackCloudClient:
		return 1
	case CallbackOwn:
		return 2
	}
	return 0
}

// ClassifyCallback sorts a redirect URI seen in an authorization request into
// its layer (flaw catalogue, section 5.6). own are URLs of the MCP server and
// its authorization server. On loopback, where all share one host, a callback
// is the server's own only at exactly its origin; elsewhere the registrable
// domain decides.
func ClassifyCallback(redirectURI string, own ...string) CallbackKind {
	u, err := url.Parse(redirectURI)
	if err != nil || u.Scheme == "" {
		return CallbackInvalid
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return CallbackPrivateUse
	}
	if u.Hostname() == "" {
		return CallbackInvalid
	}
	loop := isLoopbackHost(u.Hostname())
	for _, o := range own {
		ou, err := url.Parse(o)
		if err != nil || ou.Hostname() == "" {
			continue
		}
		if originOf(u) == originOf(ou) {
			return CallbackOwn
		}
		if !loop && !isLoopbackHost(ou.Hostname()) && SameSite(u.Hostname(), ou.Hostname()) {
			return CallbackOwn
		}
	}
	if loop {
		return CallbackLoopback
	}
	return CallbackCloudClient
}

// RegistrableDomain returns the part of a host that one owner registers, by
// the public suffix list (private suffixes such as github.io included). An
// address, a single label or a bare suffix is returned as it is.
func RegistrableDomain(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return host
	}
	if d, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return d
	}
	return host
}

// SameSite tells whether two hosts belong to one registrable domain.
func SameSite(a, b string) bool {
	return a != "" && b != "" && RegistrableDomain(a) == RegistrableDomain(b)
}

func isLoopbackHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.Unmap().IsLoopback()
}
