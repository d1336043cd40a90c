package account

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/vault"
)

// shelf keeps accounts in memory, with the contract of Store.
type shelf struct {
	mu  sync.Mutex
	all map[walletKey]Account
}

func newShelf() *shelf { return &shelf{all: map[walletKey]Account{}} }

func (s *shelf) Account(_ context.Context, user, server string) (Account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.all[walletKey{user, server}]
	if !ok {
		return a, kidoban.Errorf(kidoban.KindNotFound, "no account")
	}
	return a, nil
}

func (s *shelf) PutAccount(_ context.Context, a Account) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.Version = s.all[walletKey{a.User, a.Server}].Version + 1
	s.all[walletKey{a.User, a.Server}] = a
	return nil
}

func (s *shelf) SwapAccount(_ context.Context, a Account) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, ok := s.all[walletKey{a.User, a.Server}]
	if !ok || have.Version != a.Version || have.Issuer != a.Issuer {
		return kidoban.Errorf(kidoban.KindConflict, "changed")
	}
	a.Version++
	s.all[walletKey{a.User, a.Server}] = a
	return nil
}

func (s *shelf) DeleteAccount(_ context.Context, user, server string) (Account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.all[walletKey{user, server}]
	if !ok {
		return a, kidoban.Errorf(kidoban.KindNotFound, "no account")
	}
	delete(s.all, walletKey{user, server})
	return a, nil
}

func (s *shelf) UserAccounts(context.Context, string) ([]Account, error) { return nil, nil }
func (s *shelf) AllAccounts(_ context.Context, user, server string, _ int) (out []Account, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, a := range s.all {
		if user == "" && server == "" {
			out = append(out, a)
		}
		_ = k
	}
	return out, nil
}

// provider is a third party's authorization server. It rotates refresh tokens
// and treats the second use of one as theft.
type provider struct {
	*httptest.Server
	mu        sync.Mutex
	n         int
	owner     map[string]string // refresh or access token → user
	spent     map[string]bool
	refreshes map[string]int
	stolen    bool
	metadata  func(m map[string]any)
	revoked   []string
	life      int
	seen      []string
	during    func() // before a refresh token is answered
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{owner: map[string]string{}, spent: map[string]bool{}, refreshes: map[string]int{}, life: 3600}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, r *http.Request) {
		m := map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "revocation_endpoint": p.URL + "/revoke",
			"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"}, "authorization_response_iss_parameter_supported": true,
			"token_endpoint_auth_methods_supported": []string{"client_secret_post"}}
		if p.metadata != nil {
			p.metadata(m)
		}
		json.NewEncoder(w).Encode(m)
	})
	mux.HandleFunc("/token", p.token)
	mux.HandleFunc("/revoke", func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.revoked = append(p.revoked, r.PostForm.Get("token"))
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(raw))
	if p.during != nil && form.Get("grant_type") == "refresh_token" {
		defer p.during() // it is spent, and nobody knows the next one yet
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, string(raw))
	user := ""
	switch form.Get("grant_type") {
	case "authorization_code":
		user = strings.TrimPrefix(form.Get("code"), "code-")
	case "refresh_token":
		old := form.Get("refresh_token")
		if p.spent[old] || p.owner[old] == "" {
			p.stolen = p.stolen || p.spent[old]
			w.WriteHeader(400)
			io.WriteString(w, `{"error":"invalid_grant"}`)
			return
		}
		p.spent[old], user = true, p.owner[old]
		p.refreshes[user]++
	}
	p.n++
	access, refresh := fmt.Sprintf("access-%d-of-%s", p.n, user), fmt.Sprintf("refresh-%d-of-%s", p.n, user)
	p.owner[access], p.owner[refresh] = user, user
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": p.life})
}

func newWallet(t *testing.T, p *provider, now func() time.Time) (*Wallet, *shelf) {
	t.Helper()
	v, err := vault.Open(t.Context(), vault.File(filepath.Join(t.TempDir(), "vault.key")))
	if err != nil {
		t.Fatal(err)
	}
	s := newShelf()
	w := New(Options{Store: s, Vault: v, Now: now})
	t.Cleanup(w.Close)
	if p != nil {
		w.SetApps(map[string]*App{"drive": {Issuer: p.URL, ClientID: "kidoban", ClientSecret: "the-secret", Scopes: []string{"files"}, Resource: "https://drive.example/mcp", Loopback: true}})
	}
	return w, s
}

const callback = "https://gate.example/connect/callback"

func connectAccount(t *testing.T, w *Wallet, p *provider, user string) {
	t.Helper()
	_, memo, err := w.Begin(t.Context(), user, "drive", "st", "ch", callback)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(t.Context(), user, "drive", memo, url.Values{"code": {"code-" + user}, "iss": {p.URL}}, "verifier", callback); err != nil {
		t.Fatal(err)
	}
}

// current is the account of alice and the token that it holds.
func current(t *testing.T, w *Wallet, s *shelf) (Account, token) {
	t.Helper()
	acc, err := s.Account(t.Context(), "alice", "drive")
	if err != nil {
		t.Fatal(err)
	}
	held, err := w.token(t.Context(), acc)
	if err != nil {
		t.Fatal(err)
	}
	return acc, held
}

func TestGVA2_ConnectUseAndDisconnect(t *testing.T) {
	p := newProvider(t)
	w, s := newWallet(t, p, time.Now)
	to, _, err := w.Begin(t.Context(), "alice", "drive", "st", "ch", callback)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(to)
	q := u.Query()
	for k, want := range map[string]string{"response_type": "code", "client_id": "kidoban", "redirect_uri": callback, "state": "st", "code_challenge": "ch", "code_challenge_method": "S256", "scope": "files", "resource": "https://drive.example/mcp"} {
		if q.Get(k) != want {
			t.Errorf("%s = %q", k, q.Get(k))
		}
	}
	if strings.Contains(to, "the-secret") {
		t.Error("the secret stands in a URL")
	}
	if _, err := w.Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Errorf("before: %v", err)
	}
	connectAccount(t, w, p, "alice")
	h, err := w.Credential(t.Context(), "alice", "drive", false)
	if err != nil || h[0].Value != "Bearer access-1-of-alice" {
		t.Errorf("%v %v", h, err)
	}
	if _, err := w.Credential(t.Context(), "bob", "drive", false); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Errorf("another user: %v", err)
	}
	for _, a := range s.all {
		if strings.Contains(string(a.Sealed), "access") || strings.Contains(string(a.Sealed), "refresh") {
			t.Error("a token lies in the open")
		}
	}
	if err := w.Disconnect(t.Context(), "alice", "drive"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Errorf("afterwards: %v", err)
	}
	if fmt.Sprint(p.revoked) != "[refresh-1-of-alice access-1-of-alice]" {
		t.Errorf("revoked %v", p.revoked)
	}
}

// TestGVA2_E36_OneRefreshPerAccount: 100 users with 100 calls each at the moment
// their tokens run out; one refresh each, nobody gets another's token, and the
// provider never sees a refresh token twice.
func TestGVA2_E36_OneRefreshPerAccount(t *testing.T) {
	p := newProvider(t)
	var shift atomic.Int64
	w, _ := newWallet(t, p, func() time.Time { return time.Now().Add(time.Duration(shift.Load())) })
	const users, calls = 100, 100
	for i := range users {
		connectAccount(t, w, p, fmt.Sprint("u", i))
	}
	shift.Store(int64(2 * time.Hour))
	var wg sync.WaitGroup
	for i := range users {
		user := fmt.Sprint("u", i)
		for range calls {
			wg.Go(func() {
				h, err := w.Credential(context.Background(), user, "drive", false)
				if err != nil || !strings.HasSuffix(h[0].Value, "-of-"+user) {
					t.Errorf("%s: %v %v", user, h, err)
				}
			})
		}
	}
	wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range users {
		if n := p.refreshes[fmt.Sprint("u", i)]; n != 1 {
			t.Errorf("u%d was refreshed %d times", i, n)
		}
	}
	if p.stolen {
		t.Error("a refresh token was used twice")
	}
}

func TestGVA2_FailureOfOneAccountLeavesTheOthers(t *testing.T) {
	p := newProvider(t)
	var shift atomic.Int64
	w, _ := newWallet(t, p, func() time.Time { return time.Now().Add(time.Duration(shift.Load())) })
	connectAccount(t, w, p, "alice")
	connectAccount(t, w, p, "bob")
	p.mu.Lock()
	p.owner["refresh-1-of-alice"] = "" // ended by the third party
	p.mu.Unlock()
	shift.Store(int64(2 * time.Hour))
	if _, err := w.Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Errorf("alice: %v", err)
	}
	if h, err := w.Credential(t.Context(), "bob", "drive", false); err != nil || h[0].Value != "Bearer access-3-of-bob" {
		t.Errorf("bob: %v %v", h, err)
	}
}

// TestE36_TheClientFailsClosed holds the items of the self-test list that are the
// connector's: each must end without a credential leaving.
func TestE36_TheClientFailsClosed(t *testing.T) {
	evil := newProvider(t)
	finish := func(w *Wallet, params url.Values) error {
		_, memo, err := w.Begin(t.Context(), "alice", "drive", "st", "ch", callback)
		if err != nil {
			return err
		}
		return w.Finish(t.Context(), "alice", "drive", memo, params, "verifier", callback)
	}
	for name, c := range map[string]struct {
		metadata func(p *provider) func(map[string]any)
		params   func(p *provider) url.Values
	}{
		"2 issuer of the metadata": {metadata: func(*provider) func(map[string]any) { return func(m map[string]any) { m["issuer"] = evil.URL } }},
		"4 iss is missing":         {params: func(*provider) url.Values { return url.Values{"code": {"code-alice"}} }},
		"4 iss is another":         {params: func(*provider) url.Values { return url.Values{"code": {"code-alice"}, "iss": {evil.URL}} }},
		"4 iss twice":              {params: func(p *provider) url.Values { return url.Values{"code": {"code-alice"}, "iss": {p.URL, evil.URL}} }},
		"5 javascript": {metadata: func(*provider) func(map[string]any) {
			return func(m map[string]any) { m["authorization_endpoint"] = "javascript:alert(1)" }
		}},
		"5 file": {metadata: func(*provider) func(map[string]any) {
			return func(m map[string]any) { m["authorization_endpoint"] = "file:///etc/passwd" }
		}},
		"5 plain http": {metadata: func(*provider) func(map[string]any) {
			return func(m map[string]any) { m["token_endpoint"] = "http://as.example/token" }
		}},
		"6 no PKCE": {metadata: func(*provider) func(map[string]any) {
			return func(m map[string]any) { delete(m, "code_challenge_methods_supported") }
		}},
		"6 plain only": {metadata: func(*provider) func(map[string]any) {
			return func(m map[string]any) { m["code_challenge_methods_supported"] = []string{"plain"} }
		}},
		"8 metadata service": {metadata: func(*provider) func(map[string]any) {
			return func(m map[string]any) { m["token_endpoint"] = "https://169.254.169.254/token" }
		}},
		"8 NAT64": {metadata: func(*provider) func(map[string]any) {
			return func(m map[string]any) { m["token_endpoint"] = "https://[64:ff9b::a9fe:a9fe]/token" }
		}},
		"9 two codes": {params: func(p *provider) url.Values { return url.Values{"code": {"a", "b"}, "iss": {p.URL}} }},
		"10 error with markup": {params: func(p *provider) url.Values {
			return url.Values{"error": {"<script>"}, "error_description": {"<script>"}, "iss": {p.URL}}
		}},
	} {
		p := newProvider(t)
		if c.metadata != nil {
			p.metadata = c.metadata(p)
		}
		w, _ := newWallet(t, p, time.Now)
		params := url.Values{"code": {"code-alice"}, "iss": {p.URL}}
		if c.params != nil {
			params = c.params(p)
		}
		err := finish(w, params)
		if err == nil || strings.Contains(err.Error(), "<script>") {
			t.Errorf("%s: %v", name, err)
		}
		if len(p.seen) != 0 {
			t.Errorf("%s: the token endpoint was asked", name)
		}
	}
	if len(evil.seen) != 0 {
		t.Error("the other server got something")
	}
}

// TestE36_CredentialsStayWithTheirIssuer: the config names another authorization
// server now (3), the token endpoint redirects (7): nothing of the account goes there.
func TestE36_CredentialsStayWithTheirIssuer(t *testing.T) {
	p, evil := newProvider(t), newProvider(t)
	var shift atomic.Int64
	w, _ := newWallet(t, p, func() time.Time { return time.Now().Add(time.Duration(shift.Load())) })
	connectAccount(t, w, p, "alice")
	shift.Store(int64(2 * time.Hour))
	w.SetApps(map[string]*App{"drive": {Issuer: evil.URL, ClientID: "kidoban", ClientSecret: "the-secret", Loopback: true}})
	if _, err := w.Credential(t.Context(), "alice", "drive", false); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Errorf("%v", err)
	}
	if err := w.Disconnect(t.Context(), "alice", "drive"); err != nil {
		t.Error(err)
	}
	if len(evil.seen)+len(evil.revoked) != 0 {
		t.Errorf("the new server got %v %v", evil.seen, evil.revoked)
	}

	hop := httptest.NewServer(http.RedirectHandler(evil.URL+"/token", http.StatusTemporaryRedirect))
	defer hop.Close()
	p.metadata = func(m map[string]any) { m["token_endpoint"] = hop.URL }
	w2, _ := newWallet(t, p, time.Now)
	_, memo, err := w2.Begin(t.Context(), "alice", "drive", "st", "ch", callback)
	if err != nil {
		t.Fatal(err)
	}
	if err := w2.Finish(t.Context(), "alice", "drive", memo, url.Values{"code": {"code-alice"}, "iss": {p.URL}}, "v", callback); err == nil {
		t.Error("a redirect was followed")
	}
	if len(evil.seen) != 0 {
		t.Errorf("the target of the redirect got %v", evil.seen)
	}
}
