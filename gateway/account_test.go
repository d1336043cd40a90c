package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/account"
	"github.com/kidoban/kidoban/vault"
)

// shelf keeps accounts in memory, with the contract of account.Store.
type shelf struct {
	mu  sync.Mutex
	all map[[2]string]account.Account
}

func (s *shelf) Account(_ context.Context, user, server string) (account.Account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.all[[2]string{user, server}]
	if !ok {
		return a, kidoban.Errorf(kidoban.KindNotFound, "no account")
	}
	return a, nil
}

func (s *shelf) PutAccount(_ context.Context, a account.Account) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := [2]string{a.User, a.Server}
	a.Version = s.all[k].Version + 1
	s.all[k] = a
	return nil
}

func (s *shelf) SwapAccount(_ context.Context, a account.Account) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := [2]string{a.User, a.Server}
	if have, ok := s.all[k]; !ok || have.Version != a.Version || have.Issuer != a.Issuer {
		return kidoban.Errorf(kidoban.KindConflict, "changed")
	}
	a.Version++
	s.all[k] = a
	return nil
}

func (s *shelf) DeleteAccount(_ context.Context, user, server string) (account.Account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.all[[2]string{user, server}]
	delete(s.all, [2]string{user, server})
	return a, nil
}

func (s *shelf) UserAccounts(context.Context, string) ([]account.Account, error) { return nil, nil }

func (s *shelf) AllAccounts(_ context.Context, user, server string, limit int) (out []account.Account, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, a := range s.all {
		if k[0] > user || k[0] == user && k[1] > server {
			out = append(out, a)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].User < out[j].User || out[i].User == out[j].User && out[i].Server < out[j].Server
	})
	return out[:min(limit, len(out))], nil
}

// newWallet is a wallet over a vault of its own.
func newWallet(t testing.TB, apps map[string]*account.App) *account.Wallet {
	t.Helper()
	v, err := vault.Open(context.Background(), vault.File(filepath.Join(t.TempDir(), "vault.key")))
	if err != nil {
		t.Fatal(err)
	}
	w := account.New(account.Options{Store: &shelf{all: map[[2]string]account.Account{}}, Vault: v})
	t.Cleanup(w.Close)
	w.SetApps(apps)
	return w
}

// thirdParty is a third party that gives tokens named after their user: access-N-of-USER.
type thirdParty struct {
	*httptest.Server
	mu    sync.Mutex
	n     int
	ended map[string]bool // refresh tokens
}

func newThirdParty(t *testing.T) *thirdParty {
	t.Helper()
	p := &thirdParty{ended: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token",
			"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"}, "authorization_response_iss_parameter_supported": true})
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		p.mu.Lock()
		defer p.mu.Unlock()
		user := strings.TrimPrefix(r.PostForm.Get("code"), "code-")
		if old := r.PostForm.Get("refresh_token"); old != "" {
			if p.ended[old] {
				w.WriteHeader(400)
				io.WriteString(w, `{"error":"invalid_grant"}`)
				return
			}
			_, user, _ = strings.Cut(old, "-of-")
		}
		p.n++
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"access-%d-of-%s","refresh_token":"refresh-%d-of-%s","token_type":"Bearer","expires_in":3600}`, p.n, user, p.n, user)
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *thirdParty) app() *account.App {
	return &account.App{Issuer: p.URL, ClientID: "kidoban", ClientSecret: "the-secret", Scopes: []string{"files"}, Loopback: true}
}

func (p *thirdParty) connect(t *testing.T, w *account.Wallet, user, server string) {
	t.Helper()
	const callback = "https://gate.example/connect/callback"
	_, memo, err := w.Begin(t.Context(), user, server, "st", "ch", callback)
	if err == nil {
		err = w.Finish(t.Context(), user, server, memo, url.Values{"code": {"code-" + user}, "iss": {p.URL}}, "verifier", callback)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestGVA1_GVA3_AccountsThroughTheGateway: a call without account leads to the
// connect page in each era's way; with one, the server sees the user's own token
// and never the client's; a token that the server refuses is renewed once.
func TestGVA1_GVA3_AccountsThroughTheGateway(t *testing.T) {
	p := newThirdParty(t)
	w := newWallet(t, map[string]*account.App{"drive": p.app()})
	refuse := "access-1-of-alice"
	up := newRaw(t, func(wr http.ResponseWriter, r *http.Request, body string) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if token == refuse || !strings.HasPrefix(token, "access-") {
			wr.Header().Set("WWW-Authenticate", "Bearer")
			wr.WriteHeader(http.StatusUnauthorized)
			return
		}
		result(wr, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"content":[{"type":"text","text":"`+strings.TrimPrefix(token, "access-")+`"}]}`)
	})
	s := at("drive", up.URL)
	s.Account = AccountUser
	r := newRig(t, []Server{s}, func(_ *Config, d *Deps) {
		d.Accounts = w
		d.Connect = func(user, server string) string { return "https://gate.example/connect?for=" + server }
	})
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`
	a := r.post("drive", "alice", call, "MCP-Protocol-Version", "2025-11-25")
	if code, _ := a.rpc(t); a.status != 200 || code != -32042 || !strings.Contains(a.body, `"url":"https://gate.example/connect?for=drive"`) {
		t.Errorf("legacy: %d %s", a.status, a.body)
	}
	a = r.post("drive", "alice", call, "MCP-Protocol-Version", "2025-06-18")
	if code, text := a.rpc(t); code == -32042 || !strings.Contains(text, "https://gate.example/connect") {
		t.Errorf("older: %d %s", a.status, a.body)
	}
	body, header := modern("tools/call", `"name":"x","arguments":{}`, "x")
	a = r.post("drive", "alice", body, header...)
	var m struct {
		Result struct {
			ResultType, RequestState string
			InputRequests            map[string]struct{ Params struct{ Mode, URL string } }
		}
	}
	if err := json.Unmarshal([]byte(a.body), &m); err != nil || m.Result.ResultType != "input_required" || m.Result.InputRequests["kidoban-connect"].Params.URL == "" {
		t.Fatalf("modern: %d %s", a.status, a.body)
	}
	if up.count() != 0 {
		t.Errorf("the server was asked without an account")
	}
	p.connect(t, w, "alice", "drive")
	p.connect(t, w, "bob", "drive")
	body, header = modern("tools/call", `"name":"x","arguments":{},"inputResponses":{"kidoban-connect":{"action":"accept"}},"requestState":"`+m.Result.RequestState+`"`, "x")
	a = r.post("drive", "alice", body, header...)
	if a.status != 200 || !strings.Contains(a.body, `"3-of-alice"`) { // the first was refused and renewed
		t.Errorf("the retry: %d %s", a.status, a.body)
	}
	if a := r.post("drive", "bob", call); !strings.Contains(a.body, `"2-of-bob"`) {
		t.Errorf("bob: %d %s", a.status, a.body)
	}
	for _, x := range up.seen {
		if strings.Contains(fmt.Sprint(x.header)+x.body, "eyJ") {
			t.Error("the client's token went up")
		}
	}
	refuse = "access-3-of-alice"
	p.mu.Lock()
	p.ended["refresh-3-of-alice"] = true
	p.mu.Unlock()
	if a := r.post("drive", "alice", call); a.status == 401 || a.header.Get("WWW-Authenticate") != "" || !strings.Contains(a.body, "connect") {
		t.Errorf("an ended account: %d %s", a.status, a.body)
	}
}

func TestGVA5_FixedSecretsLiveInTheVault(t *testing.T) {
	w := newWallet(t, nil)
	if err := w.Set(t.Context(), "", "api", Header{Name: "X-Api-Key", Value: "hush-hush"}); err != nil {
		t.Fatal(err)
	}
	for _, h := range []Header{{Name: "", Value: "x"}, {Name: "A:b", Value: "x"}, {Name: "A", Value: "x\r\nB: c"}, {Name: "A"}} {
		if err := w.Set(t.Context(), "", "api", h); kidoban.KindOf(err) != kidoban.KindUsage {
			t.Errorf("%q: %v", h, err)
		}
	}
	up := listServer(t)
	srv := at("api", up.URL)
	srv.Account = AccountShared
	r := newRig(t, []Server{srv}, func(_ *Config, d *Deps) { d.Accounts = w })
	if a := r.post("api", "alice", listTools); a.status != 200 || up.last().header.Get("X-Api-Key") != "hush-hush" || strings.Contains(a.body, "hush") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if err := w.Vault.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Rewrap(t.Context()); err != nil || n != 1 {
		t.Errorf("re-wrapped %d, %v", n, err)
	}
	if err := w.Vault.Retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.SetApps(nil) // forgets what is opened
	if h, err := w.Credential(t.Context(), "", "api", false); err != nil || h[0].Value != "hush-hush" {
		t.Errorf("%v %v", h, err)
	}
}

// TestGVA5_StdioServersGetTheirSecretsFromTheVault: as environment variables, of
// everybody or of one user; what the server prints of them is taken out.
func TestGVA5_StdioServersGetTheirSecretsFromTheVault(t *testing.T) {
	w := newWallet(t, nil)
	set := func(user, server, name, value string) {
		t.Helper()
		if err := w.Set(t.Context(), user, server, Header{Name: name, Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	set("", "one", "API_KEY", "of-everybody-1")
	set("", "one", "SECOND_KEY", "of-everybody-2")
	set("alice", "own", "API_KEY", "of-alice")
	set("", "bearer", "Authorization", "Bearer something")
	server := func(name, account string) Server {
		s := stdioServer(t, name)
		s.Account = account
		return s
	}
	r := newRig(t, []Server{server("one", AccountShared), server("own", AccountUser), server("bearer", AccountShared)}, withSandbox(t), func(_ *Config, d *Deps) {
		d.Accounts = w
		d.Connect = func(_, server string) string { return connectMark + server }
	})
	start := func(server, user string) answer { return r.post(server, user, initialize) }
	for _, c := range []struct{ server, user, name, want string }{
		{"one", "bob", "API_KEY", "14 [removed]"}, {"one", "bob", "SECOND_KEY", "14 [removed]"}, {"one", "bob", "HOME_OF_NOBODY", "0 "}, {"own", "alice", "API_KEY", "8 [removed]"},
	} {
		a := start(c.server, c.user)
		body := r.post(c.server, c.user, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"env","arguments":{"text":"`+c.name+`"}}}`, "Mcp-Session-Id", a.header.Get("Mcp-Session-Id")).body
		if !strings.Contains(body, `"`+c.want+`"`) {
			t.Errorf("%+v: %s, %s", c, a.body, body)
		}
	}
	if a := start("own", "bob"); !strings.Contains(a.body, connectMark) {
		t.Errorf("without an account: %d %s", a.status, a.body)
	}
	if a := start("bearer", "bob"); a.status == http.StatusOK {
		t.Errorf("a header for a process: %d %s", a.status, a.body)
	}
}

// TestGVA3_OnePageForAllThroughTheAggregate: a call through the aggregate leads to
// the page of all missing accounts, one at a server to that server's.
func TestGVA3_OnePageForAllThroughTheAggregate(t *testing.T) {
	up := listServer(t)
	one, two := at("one", up.URL), at("two", up.URL)
	one.Account, two.Account = AccountUser, AccountUser
	r := newRig(t, []Server{one, two}, func(_ *Config, d *Deps) {
		d.Accounts = newWallet(t, nil)
		d.Connect = func(_, server string) string { return connectMark + "[" + server + "]" }
	})
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__x","arguments":{}}}`
	token := r.as.token(t, r.url+"/mcp", "alice", nil)
	session := r.do(http.MethodPost, r.url+"/mcp", initialize, "Authorization", "Bearer "+token).header.Get("Mcp-Session-Id")
	if a := r.do(http.MethodPost, r.url+"/mcp", call, "Authorization", "Bearer "+token, "Mcp-Session-Id", session, "MCP-Protocol-Version", "2025-11-25"); !strings.Contains(a.body, connectMark+"[]") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := r.post("one", "alice", strings.Replace(call, "one__x", "x", 1), "MCP-Protocol-Version", "2025-11-25"); !strings.Contains(a.body, connectMark+"[one]") {
		t.Errorf("%d %s", a.status, a.body)
	}
}
