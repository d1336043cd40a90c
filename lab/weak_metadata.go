package lab

import (
	"net/http"
)

// metadataSwitches are the flaws of the metadata and of the transport.
func metadataSwitches() []Switch { return nil }

// weakPRM changes the protected resource metadata; true means that it has answered.
func (l *Lab) weakPRM(_ http.ResponseWriter, _ *http.Request, _ string, _ map[string]any) bool {
	return false
}

// weakMetadata changes the authorization server's metadata; true means that it has
// answered.
func (l *Lab) weakMetadata(_ http.ResponseWriter, _ *http.Request, _ string, doc map[string]any) bool {
	if l.on("E12-a") {
		delete(doc, "authorization_response_iss_parameter_supported")
	}
	if l.on("E25-a") {
		delete(doc, "revocation_endpoint")
		delete(doc, "revocation_endpoint_auth_methods_supported")
	}
	return false
}
