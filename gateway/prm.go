package gateway

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// prmPath is where RFC 9728 puts the metadata of a resource: the well-known
// name between host and path.
const prmPath = "/.well-known/oauth-protected-resource"

// resourceMetadata is the document of RFC 9728 as we publish it: no
// offline_access, no catalogue of everything (RS-11, RS-15).
type resourceMetadata struct {
	Resource  string   `json:"resource"`
	Servers   []string `json:"authorization_servers"`
	Scopes    []string `json:"scopes_supported"`
	Methods   []string `json:"bearer_methods_supported"`
	Name      string   `json:"resource_name,omitempty"`
	DPoPAlgs  []string `json:"dpop_signing_alg_values_supported"`
	DPoPBound bool     `json:"dpop_bound_access_tokens_required,omitempty"`
}

// target is one protected resource: a server, or the aggregate of all.
type target struct {
	path      string // below the public URL's path: "/s/github/mcp"
	resource  string // the audience
	metaURL   string // of its metadata
	scopes    []string
	server    *server // nil for the aggregate
	challenge string  // resource_metadata and scope, as they stand in every challenge
	document  []byte
}

func newTarget(c Config, base, basePath, path, title string, scopes []string, s *server) (*target, error) {
	t := &target{path: path, resource: c.PublicURL + path, scopes: scopes, server: s}
	t.metaURL = base + prmPath + basePath + path
	t.challenge = `resource_metadata="` + t.metaURL + `", scope="` + strings.Join(scopes, " ") + `"`
	var err error
	t.document, err = json.Marshal(resourceMetadata{
		Resource: t.resource, Servers: []string{c.Issuer}, Scopes: slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == "offline_access" }),
		Methods: []string{"header"}, Name: title, DPoPAlgs: dpopAlgNames(),
	})
	return t, err
}

// serveMetadata answers GET for the document; it is public.
func (t *target) serveMetadata(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET")
		h.Set("Access-Control-Allow-Headers", "MCP-Protocol-Version")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET")
		http.Error(w, "The metadata is read with GET.", http.StatusMethodNotAllowed)
		return
	}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age=60")
	_, _ = w.Write(t.document)
}
