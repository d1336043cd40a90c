package oauth

import (
	"slices"
	"strings"
)

// PRM is protected resource metadata (RFC 9728 §2).
type PRM struct {
	Document
	Resource                 string
	AuthorizationServers     []string
	JWKSURI                  string
	ScopesSupported          []string
	BearerMethodsSupported   []string
	ResourceName             string
	ResourceDocumentation    string
	DPoPSigningAlgs          []string
	DPoPBoundTokensRequired  bool
	SigningAlgValues         []string
	AuthorizationDetailTypes []string
}

// ParsePRM reads protected resource metadata. It fails only when body is no
// JSON object or is longer than MaxDocument; anything else wrong is in Faults.
// Whether Resource is the right one is CompareResource's question.
func ParsePRM(body []byte) (PRM, error) {
	d, err := parseDocument(body, MaxDocument, "protected resource metadata")
	if err != nil {
		return PRM{}, err
	}
	p := PRM{
		Resource:                 d.str("resource"),
		AuthorizationServers:     d.strs("authorization_servers"),
		JWKSURI:                  d.str("jwks_uri"),
		ScopesSupported:          d.strs("scopes_supported"),
		BearerMethodsSupported:   d.strs("bearer_methods_supported"),
		ResourceName:             d.str("resource_name"),
		ResourceDocumentation:    d.str("resource_documentation"),
		DPoPSigningAlgs:          d.strs("dpop_signing_alg_values_supported"),
		DPoPBoundTokensRequired:  d.boolean("dpop_bound_access_tokens_required"),
		SigningAlgValues:         d.strs("resource_signing_alg_values_supported"),
		AuthorizationDetailTypes: d.strs("authorization_details_types_supported"),
	}
	p.Document = d
	return p, nil
}

// Metadata is authorization server metadata (RFC 8414 §2 and its extensions)
// or an OpenID Provider's configuration: the members are the same.
type Metadata struct {
	Document
	Issuer                          string
	AuthorizationEndpoint           string
	TokenEndpoint                   string
	RegistrationEndpoint            string
	RevocationEndpoint              string
	IntrospectionEndpoint           string
	UserinfoEndpoint                string
	DeviceAuthorizationEndpoint     string
	PushedAuthorizationEndpoint     string
	RequirePushedAuthorization      bool
	EndSessionEndpoint              string
	JWKSURI                         string
	ServiceDocumentation            string
	ScopesSupported                 []string
	ResponseTypesSupported          []string
	ResponseModesSupported          []string
	GrantTypesSupported             []string // nil: absent, see GrantTypes
	TokenAuthMethodsSupported       []string // nil: absent, see TokenAuthMethods
	TokenAuthSigningAlgs            []string
	CodeChallengeMethodsSupported   []string
	DPoPSigningAlgs                 []string
	AuthorizationGrantProfiles      []string
	IssParameterSupported           bool // RFC 9207
	ClientIDMetadataDocumentSupport bool // CIMD draft
	ProtectedResources              []string
	RequestParameterSupported       bool
	RequestURIParameterSupported    bool
	TLSClientCertificateBoundTokens bool
	BackchannelAuthEndpoint         string
}

// ParseMetadata reads authorization server metadata. It fails only when body is
// no JSON object or is longer than MaxDocument; anything else wrong is in
// Faults. The caller compares Issuer with the issuer asked for (CL-03), byte
// for byte.
func ParseMetadata(body []byte) (Metadata, error) {
	d, err := parseDocument(body, MaxDocument, "authorization server metadata")
	if err != nil {
		return Metadata{}, err
	}
	m := Metadata{
		Issuer:                          d.str("issuer"),
		AuthorizationEndpoint:           d.str("authorization_endpoint"),
		TokenEndpoint:                   d.str("token_endpoint"),
		RegistrationEndpoint:            d.str("registration_endpoint"),
		RevocationEndpoint:              d.str("revocation_endpoint"),
		IntrospectionEndpoint:           d.str("introspection_endpoint"),
		UserinfoEndpoint:                d.str("userinfo_endpoint"),
		DeviceAuthorizationEndpoint:     d.str("device_authorization_endpoint"),
		PushedAuthorizationEndpoint:     d.str("pushed_authorization_request_endpoint"),
		RequirePushedAuthorization:      d.boolean("require_pushed_authorization_requests"),
		EndSessionEndpoint:              d.str("end_session_endpoint"),
		JWKSURI:                         d.str("jwks_uri"),
		ServiceDocumentation:            d.str("service_documentation"),
		ScopesSupported:                 d.strs("scopes_supported"),
		ResponseTypesSupported:          d.strs("response_types_supported"),
		ResponseModesSupported:          d.strs("response_modes_supported"),
		GrantTypesSupported:             d.strs("grant_types_supported"),
		TokenAuthMethodsSupported:       d.strs("token_endpoint_auth_methods_supported"),
		TokenAuthSigningAlgs:            d.strs("token_endpoint_auth_signing_alg_values_supported"),
		CodeChallengeMethodsSupported:   d.strs("code_challenge_methods_supported"),
		DPoPSigningAlgs:                 d.strs("dpop_signing_alg_values_supported"),
		AuthorizationGrantProfiles:      d.strs("authorization_grant_profiles_supported"),
		IssParameterSupported:           d.boolean("authorization_response_iss_parameter_supported"),
		ClientIDMetadataDocumentSupport: d.boolean("client_id_metadata_document_supported"),
		ProtectedResources:              d.strs("protected_resources"),
		RequestParameterSupported:       d.boolean("request_parameter_supported"),
		RequestURIParameterSupported:    d.boolean("request_uri_parameter_supported"),
		TLSClientCertificateBoundTokens: d.boolean("tls_client_certificate_bound_access_tokens"),
		BackchannelAuthEndpoint:         d.str("backchannel_authentication_endpoint"),
	}
	m.Document = d
	return m, nil
}

// GrantTypes returns the grant types in force: those listed, or the default of
// RFC 8414 §2 (authorization_code, implicit) when the member is absent.
func (m *Metadata) GrantTypes() []string {
	if m.GrantTypesSupported != nil {
		return m.GrantTypesSupported
	}
	return []string{"authorization_code", "implicit"}
}

// TokenAuthMethods returns the client authentication methods of the token
// endpoint: those listed, or the default of RFC 8414 §2 (client_secret_basic).
func (m *Metadata) TokenAuthMethods() []string {
	if m.TokenAuthMethodsSupported != nil {
		return m.TokenAuthMethodsSupported
	}
	return []string{"client_secret_basic"}
}

// SupportsS256 tells whether the server says it can check S256 challenges. A
// client must refuse to go on otherwise (AS-03, CL-05).
func (m *Metadata) SupportsS256() bool {
	return slices.Contains(m.CodeChallengeMethodsSupported, "S256")
}

// Endpoint is one URL of the metadata with the member it stands in.
type Endpoint struct{ Member, URL string }

// Endpoints returns every endpoint that is present, in a fixed order.
func (m *Metadata) Endpoints() []Endpoint {
	all := []Endpoint{
		{"authorization_endpoint", m.AuthorizationEndpoint},
		{"token_endpoint", m.TokenEndpoint},
		{"registration_endpoint", m.RegistrationEndpoint},
		{"revocation_endpoint", m.RevocationEndpoint},
		{"introspection_endpoint", m.IntrospectionEndpoint},
		{"userinfo_endpoint", m.UserinfoEndpoint},
		{"device_authorization_endpoint", m.DeviceAuthorizationEndpoint},
		{"pushed_authorization_request_endpoint", m.PushedAuthorizationEndpoint},
		{"end_session_endpoint", m.EndSessionEndpoint},
		{"jwks_uri", m.JWKSURI},
	}
	return slices.DeleteFunc(all, func(e Endpoint) bool { return strings.TrimSpace(e.URL) == "" })
}
