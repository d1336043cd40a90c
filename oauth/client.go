package oauth

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// ClientMetadata is a client as RFC 7591 describes it: the request that
// registers it, the response with what the server made of it, the management
// members of RFC 7592, and a Client ID Metadata Document.
//
// Localized holds members with a language tag (RFC 7591 §2.2): for
// "client_name#ja-Jpan-JP" the value stands at Localized["client_name"]["ja-Jpan-JP"].
// Extra holds members this type does not know, to be written again.
type ClientMetadata struct {
	Document                `json:"-"`
	RedirectURIs            []string
	TokenEndpointAuthMethod string // "" absent; the default is client_secret_basic, see AuthMethod
	GrantTypes              []string
	ResponseTypes           []string
	ClientName              string
	ClientURI               string
	LogoURI                 string
	Scope                   string
	Contacts                []string
	TosURI                  string
	PolicyURI               string
	JWKSURI                 string
	JWKS                    json.RawMessage
	SoftwareID              string
	SoftwareVersion         string
	SoftwareStatement       string
	ApplicationType         string
	PostLogoutRedirectURIs  []string
	DPoPBoundAccessTokens   bool

	// Set by the server in its response.
	ClientID                string
	ClientSecret            string
	ClientIDIssuedAt        *int64 // seconds since 1970
	ClientSecretExpiresAt   *int64 // seconds since 1970; 0 never
	RegistrationAccessToken string
	RegistrationClientURI   string

	Localized map[string]map[string]string
	Extra     map[string]json.RawMessage
}

// localizable are the members RFC 7591 §2 lets a client write in several languages.
var localizable = []string{"client_name", "client_uri", "logo_uri", "tos_uri", "policy_uri"}

// ParseClientMetadata reads a registration request or response of at most
// MaxDocument bytes. It fails only when body is no JSON object; wrong types,
// duplicates and bad language tags are in Faults, and a server answers those
// with invalid_client_metadata.
func ParseClientMetadata(body []byte) (ClientMetadata, error) {
	return parseClient(body, MaxDocument, "client metadata")
}

func parseClient(body []byte, max int, what string) (ClientMetadata, error) {
	d, err := parseDocument(body, max, what)
	if err != nil {
		return ClientMetadata{}, err
	}
	c := ClientMetadata{
		RedirectURIs:            d.strs("redirect_uris"),
		TokenEndpointAuthMethod: d.str("token_endpoint_auth_method"),
		GrantTypes:              d.strs("grant_types"),
		ResponseTypes:           d.strs("response_types"),
		ClientName:              d.str("client_name"),
		ClientURI:               d.str("client_uri"),
		LogoURI:                 d.str("logo_uri"),
		Scope:                   d.str("scope"),
		Contacts:                d.strs("contacts"),
		TosURI:                  d.str("tos_uri"),
		PolicyURI:               d.str("policy_uri"),
		JWKSURI:                 d.str("jwks_uri"),
		SoftwareID:              d.str("software_id"),
		SoftwareVersion:         d.str("software_version"),
		SoftwareStatement:       d.str("software_statement"),
		ApplicationType:         d.str("application_type"),
		PostLogoutRedirectURIs:  d.strs("post_logout_redirect_uris"),
		DPoPBoundAccessTokens:   d.boolean("dpop_bound_access_tokens"),
		ClientID:                d.str("client_id"),
		ClientSecret:            d.str("client_secret"),
		RegistrationAccessToken: d.str("registration_access_token"),
		RegistrationClientURI:   d.str("registration_client_uri"),
	}
	if raw, ok := d.value("jwks", "an object"); ok {
		if kindOfJSON(raw) == "an object" {
			c.JWKS = raw
		} else {
			d.fault("jwks", "an object", kindOfJSON(raw))
		}
	}
	if n, ok := d.integer("client_id_issued_at"); ok {
		c.ClientIDIssuedAt = &n
	}
	if n, ok := d.integer("client_secret_expires_at"); ok {
		c.ClientSecretExpiresAt = &n
	}
	c.readOthers(&d)
	c.Document = d
	return c, nil
}

// readOthers sorts the members without a field into Localized and Extra.
func (c *ClientMetadata) readOthers(d *Document) {
	for _, m := range d.members {
		if slices.Contains(clientMembers, m.Name) {
			continue
		}
		base, tag, tagged := strings.Cut(m.Name, "#")
		if !tagged || !slices.Contains(localizable, base) {
			if c.Extra == nil {
				c.Extra = map[string]json.RawMessage{}
			}
			c.Extra[m.Name] = m.Raw
			continue
		}
		if !isLanguageTag(tag) {
			d.fault(base+"#…", "a BCP 47 language tag", "something else")
			continue
		}
		text := d.str(m.Name)
		if text == "" {
			continue
		}
		if c.Localized == nil {
			c.Localized = map[string]map[string]string{}
		}
		if c.Localized[base] == nil {
			c.Localized[base] = map[string]string{}
		}
		c.Localized[base][tag] = text
	}
}

// isLanguageTag checks the shape of BCP 47: subtags of 1 to 8 letters or
// digits, the first of letters, at most 35 characters (RFC 5646 §4.4.1).
func isLanguageTag(tag string) bool {
	if tag == "" || len(tag) > 35 {
		return false
	}
	for i, sub := range strings.Split(tag, "-") {
		if sub == "" || len(sub) > 8 {
			return false
		}
		for j := 0; j < len(sub); j++ {
			c := sub[j]
			letter := c|0x20 >= 'a' && c|0x20 <= 'z'
			if !letter && (i == 0 || c < '0' || c > '9') {
				return false
			}
		}
	}
	return true
}

// AuthMethod returns the token endpoint authentication method in force: the
// one named, or client_secret_basic (RFC 7591 §2).
func (c *ClientMetadata) AuthMethod() string {
	if c.TokenEndpointAuthMethod == "" {
		return "client_secret_basic"
	}
	return c.TokenEndpointAuthMethod
}

// In returns a localizable member ("client_name", "logo_uri", …) in the first
// of the given languages that is present, by BCP 47 lookup (the tag, then the
// tag shortened from its end), else the member without a tag.
func (c *ClientMetadata) In(member string, languages ...string) string {
	texts := c.Localized[member]
	for _, want := range languages {
		for tag := want; tag != ""; {
			for _, have := range slices.Sorted(maps.Keys(texts)) {
				if strings.EqualFold(have, tag) {
					return texts[have]
				}
			}
			i := strings.LastIndexByte(tag, '-')
			tag = tag[:max(i, 0)]
		}
		// A reader of "ja" understands "ja-Jpan-JP".
		for _, have := range slices.Sorted(maps.Keys(texts)) {
			if prefix := want + "-"; len(have) > len(prefix) && strings.EqualFold(have[:len(prefix)], prefix) {
				return texts[have]
			}
		}
	}
	switch member {
	case "client_name":
		return c.ClientName
	case "client_uri":
		return c.ClientURI
	case "logo_uri":
		return c.LogoURI
	case "tos_uri":
		return c.TosURI
	case "policy_uri":
		return c.PolicyURI
	}
	return ""
}

// clientMembers are the members with a field, in the order they are written.
var clientMembers = []string{
	"client_id", "client_secret", "client_id_issued_at", "client_secret_expires_at",
	"registration_access_token", "registration_client_uri",
	"client_name", "client_uri", "logo_uri", "tos_uri", "policy_uri", "contacts",
	"redirect_uris", "post_logout_redirect_uris", "application_type", "grant_types",
	"response_types", "token_endpoint_auth_method", "scope", "jwks_uri", "jwks",
	"software_id", "software_version", "software_statement", "dpop_bound_access_tokens",
}

// MarshalJSON writes the members that are set, localized ones after their
// plain form, unknown ones at the end; always in the same order.
func (c ClientMetadata) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	put := func(name string, v any) error {
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		key, _ := json.Marshal(name)
		b.Write(key)
		b.WriteByte(':')
		b.Write(raw)
		return nil
	}
	b.WriteByte('{')
	for _, name := range clientMembers {
		if v := c.field(name); v != nil {
			if err := put(name, v); err != nil {
				return nil, err
			}
		}
		for _, tag := range slices.Sorted(maps.Keys(c.Localized[name])) {
			if err := put(name+"#"+tag, c.Localized[name][tag]); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Extra)) {
		if err := put(name, c.Extra[name]); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON is ParseClientMetadata.
func (c *ClientMetadata) UnmarshalJSON(body []byte) (err error) {
	*c, err = ParseClientMetadata(body)
	return err
}

// field returns the value of a member, or nil when it is not set.
func (c *ClientMetadata) field(name string) any {
	text := map[string]string{
		"client_id": c.ClientID, "client_secret": c.ClientSecret,
		"registration_access_token": c.RegistrationAccessToken, "registration_client_uri": c.RegistrationClientURI,
		"client_name": c.ClientName, "client_uri": c.ClientURI, "logo_uri": c.LogoURI,
		"tos_uri": c.TosURI, "policy_uri": c.PolicyURI, "application_type": c.ApplicationType,
		"token_endpoint_auth_method": c.TokenEndpointAuthMethod, "scope": c.Scope, "jwks_uri": c.JWKSURI,
		"software_id": c.SoftwareID, "software_version": c.SoftwareVersion, "software_statement": c.SoftwareStatement,
	}
	if s, ok := text[name]; ok {
		if s == "" {
			return nil
		}
		return s
	}
	list := map[string][]string{
		"contacts": c.Contacts, "redirect_uris": c.RedirectURIs, "grant_types": c.GrantTypes,
		"response_types": c.ResponseTypes, "post_logout_redirect_uris": c.PostLogoutRedirectURIs,
	}
	if l, ok := list[name]; ok {
		if l == nil {
			return nil
		}
		return l
	}
	switch {
	case name == "client_id_issued_at" && c.ClientIDIssuedAt != nil:
		return *c.ClientIDIssuedAt
	case name == "client_secret_expires_at" && c.ClientSecretExpiresAt != nil:
		return *c.ClientSecretExpiresAt
	case name == "jwks" && c.JWKS != nil:
		return c.JWKS
	case name == "dpop_bound_access_tokens" && c.DPoPBoundAccessTokens:
		return true
	}
	return nil
}
