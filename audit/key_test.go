package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
)

var keyTiers = []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T3}

// labToken starts a lab and gives it with an access token of its first account that
// nobody revokes.
func labToken(t *testing.T, lo lab.Options) (*lab.Lab, string) {
	t.Helper()
	var mu sync.Mutex
	token := ""
	lo.Front = func(_ string, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "revoke") || r.Method == http.MethodDelete && r.Header.Get("Mcp-Session-Id") == "" { // the client keeps its tokens
				return
			}
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			var answer struct {
				Token string `json:"access_token"`
			}
			if json.Unmarshal(rec.Body.Bytes(), &answer) == nil && answer.Token != "" {
				mu.Lock()
				token = answer.Token
				mu.Unlock()
			}
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.WriteHeader(rec.Code)
			w.Write(rec.Body.Bytes())
		})
	}
	l, err := lab.Start(context.Background(), lo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	o := audit.Options{Lab: true, OwnServer: true, StateDir: t.TempDir(), Only: []string{"E08-a"}, Tools: labTools, Login: tester(l, 0, nil), // of every scope
		Tiers: []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T2, kidoban.T3}}
	if _, err := audit.Run(t.Context(), o, l.MCPURL); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if token == "" {
		t.Fatal("the lab gave no token")
	}
	return l, token
}

func bearerKey(t *testing.T, token string) *audit.Key {
	t.Helper()
	k, err := audit.NewKey("Authorization", "Bearer "+token)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeyStandsInForALogin: a token that was handed over is enough for what needs
// nothing else; what needs a login says so, and a safe server stays without findings.
func TestKeyStandsInForALogin(t *testing.T) {
	for _, flaw := range []string{"", "E04-j", "E05-c", "E07-2", "E08-a", "E09-a", "E23-a", "E24-c", "E24-f", "E31-a", "E33-b", "E33-e", "E35-b"} {
		t.Run(flaw, func(t *testing.T) {
			lo, want := lab.Options{JWT: true}, []string{}
			for _, sw := range lab.Switches() {
				if sw.Key == flaw {
					lo, _ = sw.Options(lab.Options{JWT: sw.Needs.JWT})
					want = slices.Sorted(slices.Values(sw.Expect))
				}
			}
			l, token := labToken(t, lo)
			r, err := audit.Run(t.Context(), audit.Options{Lab: true, OwnServer: true, Tiers: keyTiers, StateDir: t.TempDir(), MaxRequests: 300, Key: bearerKey(t, token), Tools: labTools}, l.MCPURL)
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Sorted(slices.Values(findings(r))); !slices.Equal(got, want) {
				t.Errorf("found %v, want %v", got, want)
				for _, k := range append(got, want...) {
					x := result(t, r, k)
					t.Logf("%s %s(%s): %s", k, x.Outcome, x.Reason, x.Summary)
				}
			}
			for _, k := range []string{"E04-j", "E07-2", "E23-a", "E09-a", "E33-e"} {
				if x := result(t, r, k); x.Outcome != kidoban.Pass && x.Outcome != kidoban.Fail && x.Outcome != kidoban.Weak {
					t.Errorf("%s is %s(%s): %s", k, x.Outcome, x.Reason, x.Summary)
				}
			}
			for _, k := range []string{"F9-2", "E22-1", "E25-b", "F6-H"} {
				if x := result(t, r, k); x.Outcome != kidoban.NotTested || x.Reason != kidoban.ReasonLogin {
					t.Errorf("%s is %s(%s) with a key: %s", k, x.Outcome, x.Reason, x.Summary)
				}
			}
		})
	}
}

// TestKeyThatDoesNotOpen: a key that the server refuses decides nothing.
func TestKeyThatDoesNotOpen(t *testing.T) {
	l, err := lab.Start(t.Context(), lab.Options{Flaws: []string{"E23-a"}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := audit.Run(t.Context(), audit.Options{Lab: true, Tiers: keyTiers, StateDir: t.TempDir(), Key: bearerKey(t, "not-a-token-of-this-server"), Tools: labTools}, l.MCPURL)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"E04-j", "E23-a", "E07-2", "E31-a", "E33-e", "E08-a", "E35-b"} {
		if x := result(t, r, k); x.Outcome != kidoban.Inconclusive || !strings.Contains(x.Summary, "does not open") {
			t.Errorf("%s is %s(%s): %s", k, x.Outcome, x.Reason, x.Summary)
		}
	}
}

// keyServer is a server behind a static key, with a careless habit: it repeats the key
// that it is shown, and takes it from the query too. elsewhere is where its challenge
// and its stream point.
func keyServer(t *testing.T, header, key, elsewhere string) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown := r.Header.Get(header)
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-You-Sent", shown)
		if strings.HasPrefix(r.URL.Path, "/.well-known/") {
			http.NotFound(w, r)
			return
		}
		if shown != key && r.URL.Query().Get("api_key") != key {
			w.Header().Set("WWW-Authenticate", `ApiKey, Bearer resource_metadata="`+elsewhere+`/prm"`)
			w.WriteHeader(401)
			json.NewEncoder(w).Encode(map[string]any{"error": "the key " + shown + " is not known; the header is " + header})
			return
		}
		var m struct {
			ID     any
			Method string
		}
		json.Unmarshal(body, &m)
		if m.ID == nil {
			w.WriteHeader(202)
			return
		}
		result := map[string]any{"tools": []any{map[string]any{"name": "echo", "description": key, "inputSchema": map[string]any{"type": "object"}}}}
		if m.Method == "initialize" {
			result = map[string]any{"protocolVersion": "2025-11-25", "capabilities": map[string]any{}, "serverInfo": map[string]any{"name": "for " + key, "version": "1"}}
		}
		json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": m.ID, "result": result})
	}))
	t.Cleanup(srv.Close)
	return srv
}

// TestKeyOfAStaticServer: a server with a key in a header of its own is tested without
// any login; the key reaches its origin only, and nothing of it is in the report.
func TestKeyOfAStaticServer(t *testing.T) {
	const secret = "corp/4f+9\"harbour-Zq" // no part of it is hex, as nonces and fingerprints are
	var mu sync.Mutex
	var other bytes.Buffer
	asked := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		r.Write(&other)
		http.NotFound(w, r)
	}))
	defer elsewhere.Close()
	srv := keyServer(t, "X-Corp-Pass", secret, elsewhere.URL)
	k, err := audit.NewKey("X-Corp-Pass", secret)
	if err != nil {
		t.Fatal(err)
	}
	r, err := audit.Run(t.Context(), audit.Options{Lab: true, OwnServer: true, Tiers: keyTiers, StateDir: t.TempDir(), Key: k, Tools: []string{"echo"}}, srv.URL+"/mcp")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]kidoban.Outcome{"E23-a": kidoban.Fail, "E04-j": kidoban.Pass, "E07-2": kidoban.NotApplicable, "F9-2": kidoban.NotApplicable, "E24-c": kidoban.NotApplicable, "E22-1": kidoban.NotApplicable} {
		if x := result(t, r, key); x.Outcome != want {
			t.Errorf("%s is %s(%s): %s", key, x.Outcome, x.Reason, x.Summary)
		}
	}
	var har strings.Builder
	if err := r.WriteHAR(&har); err != nil {
		t.Fatal(err)
	}
	whole, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, trace := range []string{"4f+9", "harbour", "4f%2B9", "corp/4"} {
		if strings.Contains(har.String(), trace) || strings.Contains(string(whole), trace) {
			t.Errorf("%q of the key is in the evidence", trace)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if asked == 0 || strings.Contains(other.String(), "harbour") {
		t.Errorf("another origin was asked %d times and sent %s", asked, other.String())
	}
}

// TestKeyIsNotInTheReportOfAServerThatKnowsIt: a hostile server knows the key from an
// earlier run and puts it into all that it says from the first answer on.
func TestKeyIsNotInTheReportOfAServerThatKnowsIt(t *testing.T) {
	const secret = "c7e1-Zq-known"
	var base string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.Contains(r.URL.Path, "oauth-protected-resource"):
			json.NewEncoder(w).Encode(map[string]any{"resource": base + "/mcp", "authorization_servers": []string{base + "/" + secret}, "resource_name": secret})
		case strings.Contains(r.URL.Path, ".well-known/"):
			issuer := base + "/" + secret
			json.NewEncoder(w).Encode(map[string]any{"issuer": issuer, "authorization_endpoint": issuer + "/a", "token_endpoint": issuer + "/t", "registration_endpoint": issuer + "/r",
				"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"}})
		default:
			w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+base+`/.well-known/oauth-protected-resource/`+secret+`"`)
			w.WriteHeader(401)
		}
	}))
	defer srv.Close()
	base = srv.URL
	k, err := audit.NewKey("X-Corp-Pass", secret)
	if err != nil {
		t.Fatal(err)
	}
	r, err := audit.Run(t.Context(), audit.Options{Lab: true, OwnServer: true, Tiers: keyTiers, StateDir: t.TempDir(), Key: k}, srv.URL+"/mcp")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Meta.Metadata) == 0 || r.Target.Issuer == "" {
		t.Fatalf("nothing was read: %+v", r.Target)
	}
	whole, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(whole)) {
		if strings.Contains(line, "Zq-known") {
			t.Errorf("the key is in the report: %s", line)
		}
	}
}

// TestKeyIsChecked: what cannot be sent or kept out of the report is refused, without
// being repeated.
func TestKeyIsChecked(t *testing.T) {
	for header, value := range map[string]string{"": "long-enough-key", "X Key": "long-enough-key", "Host": "long-enough-key", "mcp-session-id": "long-enough-key",
		"X-Api-Key": "shortie", "X-Key": "with\nline-break-in-it", "Authorization": "Bearer abc", "X-Big": strings.Repeat("k", 17<<10)} {
		_, err := audit.NewKey(header, value)
		if kidoban.KindOf(err) != kidoban.KindUsage || strings.Contains(err.Error(), value) {
			t.Errorf("%q: %v", header, err)
		}
	}
}
