package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/lab"
)

// hostileRegistration audits a server whose metadata name another registration
// endpoint, which answers with h.
func hostileRegistration(t *testing.T, h http.HandlerFunc) *audit.Report {
	t.Helper()
	var front *httptest.Server
	l, err := lab.Start(t.Context(), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	behind, _ := url.Parse(l.Issuer)
	proxy := httputil.NewSingleHostReverseProxy(behind)
	proxy.ModifyResponse = func(res *http.Response) error { return rewrite(res, l.Issuer, front.URL) }
	front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/register") {
			h(w, r)
			return
		}
		r.Host = behind.Host
		r.Header.Del("Accept-Encoding")
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	canary := watched(t)
	o := audit.Options{Lab: true, OwnServer: true, Tiers: activeTiers, StateDir: t.TempDir(), MaxRequests: 300}
	canary(&o)
	r, err := audit.Run(t.Context(), o, front.URL+"/mcp")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestHostileRegistration: whatever a registration endpoint answers, the run ends,
// finds nothing that was not shown, and sends nothing where it must not.
func TestHostileRegistration(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"huge": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(201)
			w.Write([]byte(`{"client_id":"k","x":"`))
			for range 1 << 10 {
				if _, err := w.Write([]byte(strings.Repeat("x", 16<<10))); err != nil {
					return
				}
			}
		},
		"wrong types": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(201)
			w.Write([]byte(`{"client_id":{"a":1},"redirect_uris":"x","client_secret":[],"registration_client_uri":7}`))
		},
		"wrong types beside an id": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(201)
			w.Write([]byte(`{"client_id":"k","redirect_uris":{"0":"javascript:void(0)"},"scope":["admin"],"grant_types":{"password":true},"client_name":9,"client_secret_expires_at":"never"}`))
		},
		"a page": func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte("<html><body>client_id: k</body></html>"))
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/register", http.StatusTemporaryRedirect)
		},
		"a management address inside": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(201)
			w.Write([]byte(`{"client_id":"k","registration_client_uri":"http://169.254.169.254/register/k","registration_access_token":"management-token-of-k"}`))
		},
		"a limit": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
	} {
		t.Run(name, func(t *testing.T) {
			r := hostileRegistration(t, h)
			for _, x := range r.Exchanges {
				if strings.Contains(x.Request.URL, "169.254") {
					t.Errorf("#%d went to %s", x.ID, x.Request.URL)
				}
			}
			for _, x := range r.Results {
				if x.Outcome != kidoban.Fail && x.Outcome != kidoban.Weak || !strings.HasPrefix(x.ID, "E1") && x.ID != "E20" {
					continue
				}
				switch {
				case x.Key() == "E20-g" && name == "a management address inside": // that is what it is
				case x.Key() == "E17-b": // nothing was too large for it
				case x.Key() == "E17-c" && x.Evidence == kidoban.Signal: // no answer names an end
				case x.ID == "E10" || x.ID == "E11" || x.ID == "E12": // the rewritten metadata are not this test's
				default:
					t.Errorf("%s %s: %s", x.Key(), x.Outcome, x.Summary)
				}
			}
			if name == "a limit" {
				for _, k := range []string{"E13-a", "E14-b", "E18-a", "E19-a", "E20-a"} {
					if x := result(t, r, k); x.Outcome != kidoban.Inconclusive || x.Reason != kidoban.ReasonRateLimit {
						t.Errorf("%s is %s %s: %s", k, x.Outcome, x.Reason, x.Summary)
					}
				}
			}
		})
	}
}

// TestE20gNothingIsSent: a management address on another origin gets no request.
func TestE20gNothingIsSent(t *testing.T) {
	r, l := runLab(t, lab.Options{Flaws: []string{"E20-g"}}, nil)
	cloud, _ := url.Parse(l.CloudURL)
	for _, x := range r.Exchanges {
		if strings.Contains(x.Request.URL, "//"+cloud.Host) {
			t.Errorf("#%d %s %s", x.ID, x.Request.Method, x.Request.URL)
		}
	}
	if x := result(t, r, "E20-g"); x.Outcome != kidoban.Fail || len(r.Residue.LeftBehind) == 0 {
		t.Errorf("%s %s, residue %+v", x.Outcome, x.Summary, r.Residue)
	}
}

// rewrite replaces an origin in an answer's headers and body.
func rewrite(res *http.Response, from, to string) error {
	for _, vs := range res.Header {
		for i := range vs {
			vs[i] = strings.ReplaceAll(vs[i], from, to)
		}
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	body = bytes.ReplaceAll(body, []byte(from), []byte(to))
	res.Body = io.NopCloser(bytes.NewReader(body))
	res.ContentLength = int64(len(body))
	res.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// TestE17cNeedsTheAnswerToASecret: where clients with a secret are kept out by a limit
// or a fault, the silence of the answers to public clients is no finding.
func TestE17cNeedsTheAnswerToASecret(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInternalServerError} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			var n atomic.Int64
			r := hostileRegistration(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				body, _ := io.ReadAll(r.Body)
				var m map[string]any
				if json.Unmarshal(body, &m) != nil || m["token_endpoint_auth_method"] != "none" {
					w.WriteHeader(status)
					w.Write([]byte(`{"error":"temporarily_unavailable"}`))
					return
				}
				m["client_id"] = fmt.Sprint("c", n.Add(1))
				w.WriteHeader(http.StatusCreated)
				json.NewEncoder(w).Encode(m)
			})
			if x := result(t, r, "E17-c"); x.Outcome != kidoban.Inconclusive {
				t.Errorf("%s: %s", x.Outcome, x.Summary)
			}
			if n.Load() == 0 {
				t.Error("no public client was registered: the test shows nothing")
			}
		})
	}
}
