package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/policy"
)

// groupFaults tells which groups cannot be: faults are those that would join people
// whom the operator wrote down with people whom a provider names, unknown those in
// which nobody is. named are those that rules and files speak of.
func (p policyConfig) groupFaults(providers []providerConfig, named []string) (faults []string, unknown []policy.Problem) {
	of := func(group string) (x providerConfig, is bool) {
		id, _, is := strings.Cut(group, ":")
		i := slices.IndexFunc(providers, func(x providerConfig) bool { return x.ID == id })
		if !is || i < 0 {
			return x, false
		}
		return providers[i], true
	}
	for _, group := range slices.Sorted(maps.Keys(p.Groups)) {
		if x, is := of(group); is && x.GroupsClaim != "" {
			faults = append(faults, fmt.Sprintf("the group %q is login provider %s's to fill: choose another name under policy: groups", group, x.ID))
		}
	}
	for _, g := range named {
		_, written := p.Groups[g]
		x, is := of(g)
		switch {
		case written || is && x.GroupsClaim != "":
		case is:
			unknown = append(unknown, policy.Problem{Where: "policy", Text: fmt.Sprintf("nobody is in the group %s: set groups_claim of login provider %s to the claim that names groups", g, x.ID)})
		default:
			unknown = append(unknown, policy.Problem{Where: "policy", Text: "there is no group " + g + " under policy: groups"})
		}
	}
	return faults, unknown
}

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
		if x.Recheck > 0 && !x.AsksRefresh() {
			out = append(out, fmt.Sprintf("login provider %s is asked anew with a refresh token, and scopes has no offline_access: most providers give none without it, and then people log in again every %s", x.ID, x.Recheck))
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
