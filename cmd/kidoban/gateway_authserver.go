package main

import (
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/gateway"
)

type registrationConfig struct {
	DCR             *bool               `yaml:"dcr" doc:"Whether clients may register themselves (RFC 7591). Default true."`
	CIMD            *bool               `yaml:"cimd" doc:"Whether clients may be named by a metadata document. Default true."`
	CIMDMode        string              `yaml:"cimd_mode" enum:"open,allowlist,open-with-review" doc:"Default open."`
	CIMDAllow       []string            `yaml:"cimd_allow" doc:"Domains of the allow-list."`
	CIMDScopes      map[string][]string `yaml:"cimd_scopes" doc:"Scope ceiling by domain."`
	AnonymousScopes []string            `yaml:"anonymous_scopes" doc:"Scopes that self-registered clients may have."`
	AppSchemes      []string            `yaml:"app_schemes" doc:"Private redirect schemes of known apps."`
	RemoteHosts     []string            `yaml:"remote_hosts" doc:"The only non-loopback hosts that self-registered clients may return to."`
	NoRemote        bool                `yaml:"no_remote" doc:"Self-registered clients may return to loopback only."`
	Confidential    bool                `yaml:"confidential_only" doc:"Only clients that authenticate, with a secret or a key."`
	Impersonation   string              `yaml:"impersonation" enum:"refuse,flag" doc:"What happens to names that look like well-known clients. Default refuse."`
	Deny            []denyConfig        `yaml:"deny" doc:"The part of the deny-list that stands in the config."`
}

type denyConfig struct {
	Kind    string `yaml:"kind" enum:"host,url,client,cimd" doc:"What the pattern matches."`
	Pattern string `yaml:"pattern" doc:"Host, URL pattern, client id or domain."`
	Reason  string `yaml:"reason" doc:"Why; shown to administrators."`
}

type loginConfig struct {
	Passwords *bool            `yaml:"passwords" doc:"Whether local accounts log in by password. Default true."`
	Providers []providerConfig `yaml:"providers" doc:"OpenID Connect providers."`
	Asserting []assertConfig   `yaml:"assertions" doc:"Identity providers that decide which client may act for whom (enterprise-managed authorization, ID-JAG)."`
}

type assertConfig struct {
	Issuer   string `yaml:"issuer" doc:"Issuer identifier, as the assertions name it."`
	JWKSURI  string `yaml:"jwks_uri" doc:"Where its public keys are."`
	JWKSFile string `yaml:"jwks_file" doc:"File that holds its public keys, instead of jwks_uri."`
}

type providerConfig struct {
	ID           string   `yaml:"id" doc:"In URLs: a-z, 0-9 and -."`
	Name         string   `yaml:"name" doc:"On the button."`
	Issuer       string   `yaml:"issuer" doc:"Issuer identifier."`
	ClientID     string   `yaml:"client_id" doc:"Client id at the provider."`
	SecretFile   string   `yaml:"secret_file" doc:"File that holds the client secret."`
	Scopes       []string `yaml:"scopes" doc:"Beside openid. Default profile and email."`
	AllowDomains []string `yaml:"allow_domains" doc:"Verified e-mail domains that may log in."`
	AdminEmails  []string `yaml:"admin_emails" doc:"Verified addresses that become administrators."`
	NameClaim    string   `yaml:"name_claim" enum:"sub,oid,email,preferred_username" doc:"What rules and groups call a user by. Default the verified e-mail address; at Entra object@tenant (oid)."`
	GroupsClaim  string   `yaml:"groups_claim" doc:"Claim of the ID token that names a person's groups: a list of texts, or one. Rules call them id:value. Default none."`
	Recheck      span     `yaml:"recheck" doc:"How old the provider's word on a person may be when a client of the person gets tokens; then it is asked anew. At least 1m; default 0, never."`
}

type tokensConfig struct {
	Access  span   `yaml:"access" doc:"Access tokens; at most 10m, the default."`
	Refresh span   `yaml:"refresh" doc:"An unused refresh token. Default 720h."`
	Grant   span   `yaml:"grant" doc:"Longest life of a grant. Default 2160h."`
	Grace   span   `yaml:"grace" doc:"Rotation grace window; at most 60s, the default."`
	Alg     string `yaml:"alg" enum:"EdDSA,ES256" doc:"Signature algorithm. Default EdDSA."`
}

type clientConfig struct {
	ID           string   `yaml:"id" doc:"Client id."`
	Name         string   `yaml:"name" doc:"For people."`
	RedirectURIs []string `yaml:"redirect_uris" doc:"Where codes go, byte for byte."`
	AuthMethod   string   `yaml:"auth_method" enum:"none,client_secret_basic,client_secret_post,private_key_jwt" doc:"Default none."`
	SecretFile   string   `yaml:"secret_file" doc:"File that holds the client secret."`
	JWKSFile     string   `yaml:"jwks_file" doc:"File that holds the client's public keys."`
	Grants       []string `yaml:"grants" doc:"Default authorization_code and refresh_token."`
	Scopes       []string `yaml:"scopes" doc:"Ceiling."`
	RequireDPoP  bool     `yaml:"require_dpop" doc:"Only sender-constrained tokens."`
	Introspects  bool     `yaml:"introspects" doc:"It may ask /introspect about every token, not only its own."`
}

// provider is all of it but the secret.
func (p providerConfig) provider() authserver.Provider {
	return authserver.Provider{ID: p.ID, Name: p.Name, Issuer: p.Issuer, ClientID: p.ClientID, Scopes: p.Scopes, AllowDomains: p.AllowDomains, AdminEmails: p.AdminEmails,
		NameClaim: p.NameClaim, GroupsClaim: p.GroupsClaim, Recheck: time.Duration(p.Recheck)}
}

// authserver builds the config of the authorization server.
func (c gatewayConfig) authserver(g gateway.Config) (authserver.Config, error) {
	r := c.Registration
	a := authserver.Config{Issuer: c.PublicURL, Name: c.Name, Limits: g.Limits, ConfidentialOnly: r.Confidential,
		Registration: authserver.Registration{DisableDCR: !on(r.DCR), DisableCIMD: !on(r.CIMD), CIMDMode: r.CIMDMode, CIMDAllow: r.CIMDAllow, CIMDScopes: r.CIMDScopes,
			AnonymousScopes: r.AnonymousScopes, AppSchemes: r.AppSchemes, RemoteHosts: r.RemoteHosts, NoRemote: r.NoRemote, Impersonation: r.Impersonation},
		Login:  authserver.Login{DisablePasswords: !on(c.Login.Passwords)},
		Tokens: authserver.Tokens{Access: time.Duration(c.Tokens.Access), Refresh: time.Duration(c.Tokens.Refresh), Grant: time.Duration(c.Tokens.Grant), Grace: time.Duration(c.Tokens.Grace), Alg: c.Tokens.Alg},
	}
	var bad []error
	secret := func(path string) string {
		if path == "" {
			return ""
		}
		s, err := readSecret(path)
		bad = append(bad, err)
		return s
	}
	for _, d := range r.Deny {
		a.Registration.Deny = append(a.Registration.Deny, authserver.DenyRule(d))
	}
	for _, p := range c.Login.Providers {
		x := p.provider()
		x.ClientSecret = secret(p.SecretFile)
		a.Login.Providers = append(a.Login.Providers, x)
	}
	for _, p := range c.Login.Asserting {
		idp := authserver.TrustedIdP{Issuer: p.Issuer, JWKSURI: p.JWKSURI}
		if p.JWKSFile != "" {
			idp.JWKS = []byte(secret(p.JWKSFile))
		}
		a.TrustedIdPs = append(a.TrustedIdPs, idp)
	}
	for _, p := range c.Clients {
		pre := authserver.PreRegistered{ID: p.ID, Name: p.Name, RedirectURIs: p.RedirectURIs, AuthMethod: p.AuthMethod, Secret: secret(p.SecretFile), Grants: p.Grants, Scopes: p.Scopes, RequireDPoP: p.RequireDPoP}
		if p.JWKSFile != "" {
			pre.JWKS = []byte(secret(p.JWKSFile))
		}
		if p.Introspects {
			a.Introspectors = append(a.Introspectors, p.ID)
		}
		a.Clients = append(a.Clients, pre)
	}
	if on(c.Aggregate) {
		a.Resources = append(a.Resources, authserver.Resource{URI: c.PublicURL + "/mcp", Name: "all servers", Names: map[string]string{"ja": "全サーバー", "zh": "所有服务器"}, Default: true})
	}
	for _, s := range g.Servers {
		name := s.Title
		if name == "" {
			name = s.Name
		}
		a.Resources = append(a.Resources, authserver.Resource{URI: c.PublicURL + "/s/" + s.Name + "/mcp", Name: name})
	}
	return a, errors.Join(bad...)
}

// readSecret reads a small file and drops the line break at its end. A file without
// anything in it is being written, or was forgotten: none that is named may be empty.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindUsage, err, "the file %s cannot be read", path)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindUsage, err, "the file %s cannot be read", path)
	}
	text := strings.TrimRight(string(raw), "\r\n")
	if text == "" {
		return "", kidoban.Errorf(kidoban.KindUsage, "the file %s is empty", path)
	}
	return text, nil
}
