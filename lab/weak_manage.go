package lab

import "net/http"

// manageSwitches are the flaws of registration beyond its redirect URIs, of its
// management and of client documents.
func manageSwitches() []Switch { return nil }

// weakScheme lets a redirect URI with a dangerous scheme be registered.
func (l *Lab) weakScheme(string) bool { return false }

// weakMetadataOfClient keeps members of a registration that nobody should keep.
func (l *Lab) weakMetadataOfClient(*client, map[string]any) {}

// urlsToFetch are the addresses of a registration by the switch that fetches them.
func (l *Lab) urlsToFetch(*client) map[string]string { return nil }

// weakManage lets a request manage a client without that client's token.
func (l *Lab) weakManage(*http.Request, *client, string) bool { return false }

// readUpdate reads the body of a PUT on a registration.
func (l *Lab) readUpdate(r *http.Request, _ *client) (*client, *tokenFault) {
	return l.readRegistration(r)
}

// manageURI is the registration_client_uri of a client.
func (l *Lab) manageURI(c *client) string { return l.Issuer + "/register/" + c.id }

// weakClientCredentials answers the client_credentials grant.
func (l *Lab) weakClientCredentials(http.ResponseWriter, *http.Request, string) bool { return false }
