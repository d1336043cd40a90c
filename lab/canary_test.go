package lab

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// canary serves a client document on loopback and counts who fetches it.
type canary struct {
	srv  *httptest.Server
	mu   sync.Mutex
	hits map[string]int

	path   string
	doc    map[string]any // client_id is filled in when absent
	status int
	typ    string
	pad    int
	moved  string // redirect /moved here
}

func newCanary(t *testing.T) *canary {
	c := &canary{
		hits: map[string]int{}, path: "/client.json", status: 200, typ: "application/json",
		doc: map[string]any{"client_name": "Canary client", "redirect_uris": []string{testRedirect}, "grant_types": []string{"authorization_code", "refresh_token"}, "token_endpoint_auth_method": "none"},
	}
	c.srv = httptest.NewServer(c)
	t.Cleanup(c.srv.Close)
	return c
}

func (c *canary) id() string { return c.srv.URL + c.path }

func (c *canary) fetched(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hits[path]
}

// set changes the canary between two fetches.
func (c *canary) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *canary) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hits[r.URL.Path]++
	if c.moved != "" && r.URL.Path == c.path {
		http.Redirect(w, r, c.moved, http.StatusFound)
		return
	}
	doc := map[string]any{"client_id": c.srv.URL + c.path}
	for k, v := range c.doc {
		doc[k] = v
	}
	if c.pad > 0 {
		doc["padding"] = string(make([]byte, c.pad))
	}
	w.Header().Set("Content-Type", c.typ)
	w.WriteHeader(c.status)
	json.NewEncoder(w).Encode(doc)
}
