package audit

import (
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// probeE06 reads the metadata for the sign of token passthrough: the server names
// a large provider's own issuer as the one whose tokens it takes, so it takes
// tokens that were made for the provider's interfaces.
func probeE06() probe {
	return judging("token passthrough", kidoban.T1, []string{"E06-a"}, func(f *Facts) []kidoban.Result {
		const key = "E06-a"
		if f.PRM == nil {
			return []kidoban.Result{absent(key, "there is no protected resource metadata", lastPRM(f))}
		}
		for _, iss := range f.PRM.PRM.AuthorizationServers {
			if host := hostOf(iss); sharedIssuer(host) && site(host) != site(hostOf(f.URL)) {
				return []kidoban.Result{positive(key, kidoban.Signal, "the metadata name "+host+" as the authorization server, whose tokens are made for its own interfaces", f.PRM.X)}
			}
		}
		return []kidoban.Result{passed(key, "no upstream provider is named as the server's own", f.PRM.X)}
	})
}

// sharedIssuer tells issuers that make tokens for their own interfaces, one for
// all the world, rather than for the resource of whoever rents them.
func sharedIssuer(host string) bool {
	switch strings.ToLower(host) {
	case "accounts.google.com", "github.com", "gitlab.com", "login.microsoftonline.com", "slack.com", "appleid.apple.com", "login.live.com",
		"www.linkedin.com", "linkedin.com", "auth.atlassian.com", "login.salesforce.com", "discord.com", "www.facebook.com", "api.notion.com", "app.asana.com":
		return true
	}
	return false
}

// probeE25 reads whether access can be ended at all.
func probeE25() probe {
	return judging("revocation endpoint", kidoban.T1, []string{"E25-a"}, func(f *Facts) []kidoban.Result {
		if f.AS.Meta.RevocationEndpoint != "" {
			return []kidoban.Result{passed("E25-a", "the metadata name a revocation endpoint", f.AS.X)}
		}
		return []kidoban.Result{positive("E25-a", kidoban.Confirmed, "the metadata name no revocation endpoint", f.AS.X)}
	})
}

// probeE30 reads the scopes that are offered and asked for.
func probeE30() probe {
	return judging("scopes on offer", kidoban.T1, []string{"E30-a", "E30-b"}, func(f *Facts) []kidoban.Result {
		return []kidoban.Result{judgeCatchAll(f), judgeChallengeScope(f)}
	})
}

func judgeCatchAll(f *Facts) kidoban.Result {
	const key = "E30-a"
	scopes := append([]string{}, f.Scopes...)
	var xs []*kidoban.Exchange
	if f.PRM != nil {
		scopes, xs = append(scopes, f.PRM.PRM.ScopesSupported...), append(xs, f.PRM.X)
	}
	if f.AS != nil {
		scopes, xs = append(scopes, f.AS.Meta.ScopesSupported...), append(xs, f.AS.X)
	}
	catch := slices.IndexFunc(scopes, catchAll)
	if r, bad := f.unreadServer(key); bad && catch < 0 {
		return r
	}
	if len(scopes) == 0 {
		return absent(key, "no scopes are published", f.List)
	}
	if catch >= 0 {
		return positive(key, kidoban.Signal, "a catch-all scope is offered: "+scopes[catch], xs...)
	}
	return passed(key, "no catch-all scope is offered", xs...)
}

// catchAll tells a scope that stands for everything.
func catchAll(scope string) bool {
	low := strings.ToLower(scope)
	switch low {
	case "*", "all", "admin", "full", "full_access", "fullaccess", "root", "superuser", "everything", "sudo":
		return true
	}
	return strings.HasPrefix(low, "*:") || strings.HasSuffix(low, ":*") || strings.HasSuffix(low, "/*") || strings.HasSuffix(low, ".*")
}

func judgeChallengeScope(f *Facts) kidoban.Result {
	const key = "E30-b"
	for _, c := range f.Asks {
		if !c.Is("Bearer") && !c.Is("DPoP") {
			continue
		}
		if len(c.Scopes()) > 0 {
			return passed(key, "the challenge names the scopes that are needed", f.Refused)
		}
		return positive(key, kidoban.Signal, "the challenge names no scope, so clients ask for all that are published", f.Refused)
	}
	return absent(key, "there is no bearer challenge", f.Refused)
}
