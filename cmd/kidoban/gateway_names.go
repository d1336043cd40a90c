package main

import (
	"fmt"
	"strings"

	"github.com/kidoban/kidoban/authserver"
)

// nameFaults tells where rules name people by what others can call themselves, or by
// what nobody is called.
func (p policyConfig) nameFaults(providers []authserver.Provider) (out []string) {
	named := ""
	for _, members := range p.Groups {
		named = firstAddress(named, members)
	}
	for _, r := range p.Rules {
		named = firstAddress(named, r.Users)
	}
	for _, x := range providers {
		if x.MultiTenant() && x.MutableName() {
			out = append(out, fmt.Sprintf("login provider %s lets the tenants of others log in, and %s is what each of them writes into it: whoever runs a tenant can be anybody that a rule names. Remove name_claim, or name your tenant in issuer", x.ID, x.NameClaim))
		}
		if x.OpaqueNames() && named != "" {
			out = append(out, fmt.Sprintf("policy names %q, but users of login provider %s are called by their object (%s): write what kidoban gateway user list shows, or the user id. Who logged in before keeps the name he had", named, x.ID, map[bool]string{true: "sub", false: "object@tenant"}[x.NameClaim == "sub"]))
		}
	}
	return out
}

// firstAddress is the first name, in order, that looks like a person's address.
func firstAddress(have string, names []string) string {
	for _, n := range names {
		host := n[strings.LastIndex(n, "@")+1:]
		if strings.Contains(n, "@") && strings.Contains(host, ".") && (have == "" || n < have) {
			have = n
		}
	}
	return have
}
