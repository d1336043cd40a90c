package authserver

import (
	"net/url"
	"slices"
	"strings"
)

// A user is known by the issuer and the subject of the first login, for ever; that
// is who a token speaks for. The name is what rules and groups may call that user
// instead, so it is taken only from a claim that nobody can give himself. Whoever
// runs a tenant of Entra writes any address into preferred_username and email, and a
// provider with the tenants of others lets each of them log in (known as nOAuth):
// there the name is made of the object and the tenant. What people are shown is the
// display name, which decides nothing.

// NameClaims are the claims that Provider.NameClaim may name. The first two are
// stable; an e-mail address counts only if the provider says that it verified it.
var NameClaims = []string{"sub", "oid", "email", "preferred_username"}

// maxProviderName bounds the name of a provider's user, in characters: an object and
// a tenant are two UUIDs.
const maxProviderName = 80

// nameOf is the name of a provider's user in rules; "" is one made of issuer and
// subject.
func (x Provider) nameOf(subject string, c idClaims, verified bool) string {
	claim := x.NameClaim
	if claim == "" {
		claim = quirkOf(x.Issuer).nameClaim
	}
	switch claim {
	case "sub":
		return subject
	case "oid":
		if c.Object == "" || c.Tenant == "" {
			return ""
		}
		return c.Object + "@" + c.Tenant
	case "preferred_username":
		return c.Preferred
	case "cognito:username":
		return c.Cognito
	}
	if !verified {
		return ""
	}
	return strings.ToLower(c.Email)
}

// shownAs is what people are shown of a user.
func shownAs(c idClaims) string {
	for _, s := range []string{c.Name, c.Preferred, c.Email} {
		if s != "" && plainText(s) {
			return s
		}
	}
	return ""
}

// MultiTenant tells whether the provider lets tenants of others log in, as far as its
// issuer tells.
func (x Provider) MultiTenant() bool {
	u, err := url.Parse(x.Issuer)
	return err == nil && quirkOf(x.Issuer).multiTenant && slices.ContainsFunc(strings.Split(u.Path, "/"), func(part string) bool {
		return slices.Contains(tenantPlaceholders, part)
	})
}

// OpaqueNames tells whether its users are called by an object's id in rules, not by
// an address.
func (x Provider) OpaqueNames() bool {
	return x.NameClaim == "oid" || x.NameClaim == "sub" || x.NameClaim == "" && quirkOf(x.Issuer).nameClaim == "oid"
}

// MutableName tells whether the name comes from a claim that changes, or that
// whoever runs a tenant chooses.
func (x Provider) MutableName() bool {
	return x.NameClaim == "email" || x.NameClaim == "preferred_username"
}
