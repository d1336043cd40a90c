package authserver

import (
	"strings"
	"testing"
)

const (
	ourTenant   = "11111111-1111-1111-1111-111111111111"
	theirTenant = "22222222-2222-2222-2222-222222222222"
	object      = "33333333-3333-3333-3333-333333333333"
)

// TestGTG5_NamesComeFromWhatNobodyGivesHimself: a tenant's administrator writes any
// address into his users' claims (nOAuth); rules never know them by it.
func TestGTG5_NamesComeFromWhatNobodyGivesHimself(t *testing.T) {
	forged := idClaims{Email: "boss@corp.example", Preferred: "boss@corp.example", Cognito: "boss", Name: "The Boss", Tenant: theirTenant, Object: object}
	entra := "https://login.microsoftonline.com/"
	for name, c := range map[string]struct {
		x        Provider
		claims   idClaims
		verified bool
		want     string
	}{
		"Entra, any tenant":            {Provider{Issuer: entra + "common/v2.0"}, forged, false, object + "@" + theirTenant},
		"Entra, any organization":      {Provider{Issuer: entra + "organizations/v2.0"}, forged, false, object + "@" + theirTenant},
		"Entra, one tenant":            {Provider{Issuer: entra + ourTenant + "/v2.0"}, forged, false, object + "@" + theirTenant},
		"Entra, another cloud":         {Provider{Issuer: "https://login.microsoftonline.us/common/v2.0"}, forged, false, object + "@" + theirTenant},
		"Entra, no object":             {Provider{Issuer: entra + "common/v2.0"}, idClaims{Preferred: "boss@corp.example", Tenant: theirTenant}, false, ""},
		"Entra, the address, by name":  {Provider{Issuer: entra + "common/v2.0", NameClaim: "email"}, forged, false, ""},
		"a provider, verified":         {Provider{Issuer: "https://idp.example"}, forged, true, "boss@corp.example"},
		"a provider, not verified":     {Provider{Issuer: "https://idp.example"}, forged, false, ""},
		"a provider, sub":              {Provider{Issuer: "https://idp.example", NameClaim: "sub"}, forged, true, "s-1"},
		"a host that ends like Entra":  {Provider{Issuer: "https://evillogin.microsoftonline.com.evil.example"}, forged, false, ""},
		"Cognito's name never changes": {Provider{Issuer: "https://cognito-idp.eu-west-1.amazonaws.com/pool"}, forged, false, "boss"},
	} {
		if got := c.x.nameOf("s-1", c.claims, c.verified); got != c.want {
			t.Errorf("%s: %q, not %q", name, got, c.want)
		}
	}
	if name := loginName(object + "@" + theirTenant); !goodProviderName(name) || goodName(strings.Repeat("a", 65)) || goodProviderName(strings.Repeat("a", 81)) {
		t.Error("an object at a tenant is no name, or an endless one is")
	}
	for issuer, want := range map[string]bool{entra + "common/v2.0": true, entra + "organizations/v2.0": true, entra + ourTenant + "/v2.0": false, "https://idp.example/common": false} {
		if (Provider{Issuer: issuer}).MultiTenant() != want {
			t.Error(issuer)
		}
	}
}

// TestGTG5_PeopleSeeTheirNames: what was made for rules is not shown to people.
func TestGTG5_PeopleSeeTheirNames(t *testing.T) {
	for name, want := range map[string]string{object + "@" + theirTenant: "Dana", "user-0123456789ab": "Dana", "dana@corp.example": "dana@corp.example"} {
		if got := (User{Name: name, Display: "Dana"}).shown(); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	for want, c := range map[string]idClaims{"Dana": {Name: "Dana", Preferred: "x@y"}, "x@y": {Preferred: "x@y"}, "e@y": {Email: "e@y", Name: "a\x00b"}} {
		if got := shownAs(c); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
