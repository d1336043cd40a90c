package authserver

import (
	"encoding/json"
	"net/http"
	"slices"
)

// metadata is the document of RFC 8414. It is our own type because a server must
// leave out what is switched off: everything advertised answers, and nothing is
// advertised that does not (G-AS2).
type metadata struct {
	Issuer                string   `json:"issuer"`
	Authorization         string   `json:"authorization_endpoint"`
	Token                 string   `json:"token_endpoint"`
	Registration          string   `json:"registration_endpoint,omitempty"`
	Revocation            string   `json:"revocation_endpoint"`
	Introspection         string   `json:"introspection_endpoint"`
	PAR                   string   `json:"pushed_authorization_request_endpoint"`
	JWKS                  string   `json:"jwks_uri"`
	Scopes                []string `json:"scopes_supported"`
	ResponseTypes         []string `json:"response_types_supported"`
	ResponseModes         []string `json:"response_modes_supported"`
	Grants                []string `json:"grant_types_supported"`
	AuthMethods           []string `json:"token_endpoint_auth_methods_supported"`
	AuthAlgs              []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationMethods     []string `json:"revocation_endpoint_auth_methods_supported"`
	RevocationAlgs        []string `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	IntrospectionMethods  []string `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectionAlgs     []string `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	Challenges            []string `json:"code_challenge_methods_supported"`
	CIMD                  bool     `json:"client_id_metadata_document_supported,omitempty"`
	Iss                   bool     `json:"authorization_response_iss_parameter_supported"`
	DPoP                  []string `json:"dpop_signing_alg_values_supported"`
	GrantProfiles         []string `json:"authorization_grant_profiles_supported,omitempty"`
	UILocales             []string `json:"ui_locales_supported"`
	RequestParameter      bool     `json:"request_parameter_supported"`
	RequestURIParameter   bool     `json:"request_uri_parameter_supported"`
	RequirePushedRequests bool     `json:"require_pushed_authorization_requests"`
}

func (s *Server) buildMetadata(p *policy) ([]byte, error) {
	m := metadata{
		Issuer:               p.Issuer,
		Authorization:        p.url("/authorize"),
		Token:                p.url("/token"),
		Revocation:           p.url("/revoke"),
		Introspection:        p.url("/introspect"),
		PAR:                  p.url("/par"),
		JWKS:                 p.url("/jwks"),
		ResponseTypes:        []string{"code"},
		ResponseModes:        []string{"query"},
		Grants:               []string{grantCode, grantRefresh, grantClient},
		AuthMethods:          []string{methodNone, methodKey, methodBasic, methodPost},
		AuthAlgs:             clientAlgNames(),
		RevocationMethods:    []string{methodNone, methodKey, methodBasic, methodPost},
		RevocationAlgs:       clientAlgNames(),
		IntrospectionMethods: []string{methodKey, methodBasic, methodPost},
		IntrospectionAlgs:    clientAlgNames(),
		Challenges:           []string{"S256"},
		CIMD:                 !p.Registration.DisableCIMD && s.deps.Outbound != nil,
		Iss:                  true,
		DPoP:                 dpopAlgNames(),
		UILocales:            languages,
	}
	if p.ConfidentialOnly {
		m.AuthMethods, m.RevocationMethods = m.AuthMethods[1:], m.RevocationMethods[1:]
	}
	if !p.Registration.DisableDCR {
		m.Registration = p.url("/register")
	}
	if len(p.TrustedIdPs) > 0 {
		m.Grants = append(m.Grants, grantJWT)
		m.GrantProfiles = []string{"urn:ietf:params:oauth:grant-profile:id-jag"}
	}
	for _, sc := range p.Config.Scopes {
		m.Scopes = append(m.Scopes, sc.Name)
	}
	return json.Marshal(m)
}

// wellKnown lists every place where clients look for the document: RFC 8414 with
// the path inserted, OpenID Connect Discovery inserted and appended, and RFC 8414
// appended, which some clients try.
func (p *policy) wellKnown() []string {
	all := []string{
		"/.well-known/oauth-authorization-server" + p.path,
		"/.well-known/openid-configuration" + p.path,
		p.path + "/.well-known/openid-configuration",
		p.path + "/.well-known/oauth-authorization-server",
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (s *Server) serveMetadata(w http.ResponseWriter, _ *http.Request, c *call) {
	writePublicJSON(w, c.policy.metadata)
}

func (s *Server) serveJWKS(w http.ResponseWriter, _ *http.Request, _ *call) {
	writePublicJSON(w, s.keys.JWKS())
}

// writePublicJSON writes a document that is the same for everybody.
func writePublicJSON(w http.ResponseWriter, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age=60")
	h.Set("Access-Control-Allow-Origin", "*")
	_, _ = w.Write(body) // the client may have gone
}
