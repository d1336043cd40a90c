package audit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
)

// approver is a server as examples of SDKs have it: it approves at once, ignores
// parameters it does not know, puts the redirect URI together anew, and has no
// client management.
type approver struct {
	mu      sync.Mutex
	clients map[string][]string
	n       int
}

func (a *approver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	base := "http://" + r.Host
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/mcp":
		w.Header().Set("WWW-Authenticate", `Bearer resource_metadata=`+base+`/.well-known/oauth-protected-resource/mcp`)
		w.WriteHeader(http.StatusUnauthorized)
	case "/.well-known/oauth-protected-resource/mcp":
		fmt.Fprintf(w, `{"resource":"%s/mcp","authorization_servers":["%s/"]}`, base, base)
	case "/.well-known/oauth-authorization-server":
		fmt.Fprintf(w, `{"issuer":"%s/","authorization_endpoint":"%s/authorize","token_endpoint":"%s/token","registration_endpoint":"%s/register","code_challenge_methods_supported":["S256"]}`, base, base, base, base)
	case "/register":
		var m struct {
			RedirectURIs []string `json:"redirect_uris"`
		}
		if json.NewDecoder(r.Body).Decode(&m) != nil || len(m.RedirectURIs) == 0 {
			w.WriteHeader(400)
			fmt.Fprint(w, `{"error":"invalid_client_metadata"}`)
			return
		}
		a.mu.Lock()
		a.n++
		id := fmt.Sprintf("client-%d-%s", a.n, strings.Repeat("x", 20))
		a.clients[id] = m.RedirectURIs
		a.mu.Unlock()
		w.WriteHeader(201)
		json.NewEncoder(w).Encode(map[string]any{"client_id": id, "redirect_uris": m.RedirectURIs})
	case "/authorize":
		a.authorize(w, r)
	default:
		w.WriteHeader(404)
	}
}

func (a *approver) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	a.mu.Lock()
	uris := a.clients[q.Get("client_id")]
	a.mu.Unlock()
	u, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		u = &url.URL{}
	}
	bare := *u
	bare.Fragment = ""
	if err != nil || !slices.Contains(uris, bare.String()) || len(q["redirect_uri"]) > 1 {
		w.WriteHeader(400)
		fmt.Fprint(w, `{"error":"invalid_request"}`)
		return
	}
	v := u.Query()
	if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" {
		v.Set("error", "invalid_request")
	} else {
		v.Set("code", "abcdefghijklmnop")
	}
	v.Set("state", q.Get("state"))
	u.RawQuery = v.Encode()
	w.Header().Set("Location", u.String())
	w.WriteHeader(302)
}

// TestServersOfOthers: what an example server does wrong is found, what it
// ignores is no finding, and what cannot be deleted is named.
func TestServersOfOthers(t *testing.T) {
	srv := httptest.NewServer(&approver{clients: map[string][]string{}})
	defer srv.Close()
	r, err := audit.Run(context.Background(), audit.Options{Lab: true, OwnServer: true, Tiers: activeTiers, StateDir: t.TempDir(), MaxRequests: 400}, srv.URL+"/mcp")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]kidoban.Outcome{
		"F6-A": kidoban.Fail, "F1-a": kidoban.Weak, "F1-b": kidoban.Fail, "F1-e": kidoban.Fail, "F7-5": kidoban.Weak, "E27-a": kidoban.Weak, "E12-a": kidoban.Weak, "E05-a": kidoban.Weak,
		"F7-15": kidoban.Pass, "F7-13": kidoban.Pass, "F7-17": kidoban.Pass, "F7-2": kidoban.Pass, "F5-a": kidoban.Pass, "F2-a": kidoban.Pass, "E28-a": kidoban.NotApplicable,
		"F3-a": kidoban.NotApplicable, "E01-a": kidoban.NotApplicable,
	}
	for key, outcome := range want {
		if x := result(t, r, key); x.Outcome != outcome {
			t.Errorf("%s: %s %s %s", key, x.Outcome, x.Reason, x.Summary)
		}
	}
	if r.Grade.Letter != "F" || len(r.Chains) == 0 || r.Chains[0].ID != "F1+F6" {
		t.Errorf("grade %+v, chains %+v", r.Grade, r.Chains)
	}
	if r.Residue.Registered == 0 || len(r.Residue.LeftBehind) != r.Residue.Registered || r.Residue.Deleted != 0 {
		t.Errorf("residue %+v", r.Residue)
	}
}
