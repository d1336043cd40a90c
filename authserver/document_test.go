package authserver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban/authserver"
)

// library is a web server of client documents.
type library struct {
	*httptest.Server
	mu      sync.Mutex
	pages   map[string]http.HandlerFunc
	fetches atomic.Int64
}

func newLibrary(t *testing.T) *library {
	l := &library{pages: map[string]http.HandlerFunc{}}
	l.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.fetches.Add(1)
		l.mu.Lock()
		h := l.pages[r.URL.Path]
		l.mu.Unlock()
		if h == nil {
			http.NotFound(w, r)
			return
		}
		if r.Header.Get("Cookie") != "" || r.Header.Get("Authorization") != "" {
			t.Error("credentials were sent to a document's server")
		}
		h(w, r)
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *library) put(path string, h http.HandlerFunc) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pages[path] = h
	return l.URL + path
}

// doc serves a good document with changes.
func (l *library) doc(path string, pairs ...any) string {
	return l.put(path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(l.good(path, pairs...))
	})
}

func (l *library) good(path string, pairs ...any) map[string]any {
	return with(map[string]any{"client_id": l.URL + path, "client_name": "Document client", "redirect_uris": []string{loopback, "https://app.example/cb"},
		"grant_types": []string{"authorization_code", "refresh_token"}, "token_endpoint_auth_method": "none"}, pairs...)
}

func newLibraryWorld(t *testing.T, change func(*world)) (*world, *library) {
	l := newLibrary(t)
	return newWorld(t, func(w *world) {
		w.roots.AddCert(l.Certificate())
		if change != nil {
			change(w)
		}
	}), l
}

func (w *world) document(id string) *app {
	return &app{w: w, id: id, redirect: loopback, verifier: strings.Repeat("v", 43)}
}

func TestGRG6_DocumentClientWorks(t *testing.T) {
	w, l := newLibraryWorld(t, nil)
	x := w.document(l.doc("/client.json"))
	alice := w.person()
	page := alice.get("/authorize?" + x.params().Encode())
	if !strings.Contains(page.body, "domain proven") || !strings.Contains(page.body, `<strong class="host">127.0.0.1:`) || !strings.Contains(page.body, "Nobody can check") && !strings.Contains(page.body, "program on your own computer") {
		t.Fatal(page.body)
	}
	m := x.tokens(alice)
	if a := x.token(x.refreshForm(m["refresh_token"].(string))); a.StatusCode != 200 {
		t.Fatal(a.body)
	}
	if n := l.fetches.Load(); n != 1 {
		t.Fatalf("%d fetches", n)
	}
	w.clock.forward(11 * time.Minute)
	x.tokens(alice)
	if n := l.fetches.Load(); n != 2 {
		t.Fatalf("%d fetches after the cache's end", n)
	}
	if err := w.s.PurgeDocument(t.Context(), x.id); err != nil {
		t.Fatal(err)
	}
	x.tokens(alice)
	if n := l.fetches.Load(); n != 3 {
		t.Fatalf("%d fetches after a purge", n)
	}
}

// TestGRG6_E16Matrix: every faulty document is a page, never a redirect.
func TestGRG6_E16Matrix(t *testing.T) {
	w, l := newLibraryWorld(t, nil)
	alice := w.person()
	reply := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	text := func(path string, pairs ...any) string { b, _ := json.Marshal(l.good(path, pairs...)); return string(b) }
	for name, id := range map[string]string{
		"a another client_id":    l.doc("/a", "client_id", l.URL+"/b"),
		"a client_id by case":    l.doc("/a2", "client_id", strings.ToUpper(l.URL)+"/a2"),
		"a no client_id":         l.doc("/a3", "client_id", nil),
		"c redirect":             l.put("/c", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, l.doc("/c2"), http.StatusFound) }),
		"d 201":                  l.put("/d", reply(201, "application/json", text("/d"))),
		"d 404":                  l.put("/d2", reply(404, "application/json", text("/d2"))),
		"e 6 kB":                 l.put("/e", reply(200, "application/json", text("/e", "client_name", "n", "x", strings.Repeat("x", 6000)))),
		"e 1 MB":                 l.put("/e2", reply(200, "application/json", text("/e2", "x", strings.Repeat("x", 1<<20)))),
		"f client_secret":        l.doc("/f", "client_secret", "s"),
		"f symmetric method":     l.doc("/f2", "token_endpoint_auth_method", "client_secret_basic"),
		"f keys missing":         l.doc("/f3", "token_endpoint_auth_method", "private_key_jwt"),
		"g redirect not in it":   l.doc("/g", "redirect_uris", []string{"https://app.example/cb"}),
		"h HTML":                 l.put("/h", reply(200, "text/html", text("/h"))),
		"h no type":              l.put("/h2", reply(200, "", text("/h2"))),
		"n javascript link":      l.doc("/n", "client_uri", "javascript:void(0)"),
		"n javascript redirect":  l.doc("/n2", "redirect_uris", []string{loopback, "javascript:x"}),
		"broken JSON":            l.put("/j", reply(200, "application/json", "{")),
		"no name":                l.doc("/m", "client_name", nil),
		"bidi name":              l.doc("/m2", "client_name", "a\u202eb"),
		"borrowed name":          l.doc("/m3", "client_name", "Claude"),
		"unreachable":            "https://127.0.0.1:1/x.json",
		"o trailing dot":         "https://localhost./x.json",
		"o upper case":           strings.Replace(l.URL, "https", "HTTPS", 1) + "/client.json",
		"b query without a path": l.URL + "?x",
	} {
		t.Run(name, func(t *testing.T) {
			a := alice.get("/authorize?" + w.document(id).params().Encode())
			wantPage(t, a, 400)
		})
	}
	t.Run("i errors are not kept", func(t *testing.T) {
		var n atomic.Int64
		id := l.put("/i", func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				http.Error(w, "x", 500)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(l.good("/i"))
		})
		wantPage(t, alice.get("/authorize?"+w.document(id).params().Encode()), 400)
		if a := alice.get("/authorize?" + w.document(id).params().Encode()); a.StatusCode != 200 {
			t.Fatal(a.body)
		}
	})
}

// TestGCO5_E16j: a remembered answer falls when the document changes.
func TestGCO5_E16j_ChangedDocumentAsksAgain(t *testing.T) {
	w, l := newLibraryWorld(t, nil)
	id := l.doc("/client.json")
	x := w.document(id)
	x.redirect = "https://app.example/cb"
	alice := w.person()
	page := alice.get("/authorize?" + x.params().Encode())
	alice.approve(page, "remember", "yes")
	if a := alice.get("/authorize?" + x.params().Encode()); a.location(t).Query().Get("code") == "" {
		t.Fatal("the answer was not remembered")
	}
	for name, v := range map[string]struct{ params, page []string }{
		"wider scope":    {params: []string{"scope", "mcp:read mcp:write"}},
		"other resource": {params: []string{"resource", w.url + "/s/files/mcp"}},
		"other redirect": {params: []string{"redirect_uri", loopback}},
		"prompt=consent": {params: []string{"prompt", "consent"}},
		"another user":   {page: []string{"bob"}},
		"prompt=login":   {params: []string{"prompt", "login"}},
	} {
		b, want := alice, "scope_choice"
		switch {
		case len(v.page) > 0:
			b = w.another(v.page[0])
		case v.params[1] == "login":
			want = `name="password"`
		}
		if a := b.get("/authorize?" + set(x.params(), v.params...).Encode()); a.StatusCode != 200 || !strings.Contains(a.body, want) {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.Header.Get("Location"))
		}
	}
	open := alice.get("/authorize?" + set(x.params(), "prompt", "consent").Encode())
	l.doc("/client.json", "client_name", "Something else")
	w.clock.forward(11 * time.Minute)
	if a := alice.get("/authorize?" + x.params().Encode()); a.StatusCode != 200 || !strings.Contains(a.body, "Something else") {
		t.Fatal("the changed client was not asked about")
	}
	// A page that was open shows the client as it was: it asks again.
	if a := alice.approve(open); a.StatusCode != 200 || !strings.Contains(a.body, "changed its description") {
		t.Fatal(a.StatusCode, a.body)
	}
}

func TestGRG6_Modes(t *testing.T) {
	t.Run("allowlist", func(t *testing.T) {
		w, l := newLibraryWorld(t, func(w *world) { w.cfg.Registration.CIMDMode = "allowlist" })
		wantPage(t, w.browser().get("/authorize?"+w.document(l.doc("/c")).params().Encode()), 403)
		if l.fetches.Load() != 0 {
			t.Fatal("a document outside the list was fetched")
		}
	})
	t.Run("deny-list", func(t *testing.T) {
		w, l := newLibraryWorld(t, func(w *world) {
			w.cfg.Registration.Deny = []authserver.DenyRule{{Kind: "cimd", Pattern: "evil.example"}}
		})
		wantPage(t, w.browser().get("/authorize?"+w.document("https://a.EVIL.example/c.json").params().Encode()), 400) // not canonical
		wantPage(t, w.browser().get("/authorize?"+w.document("https://a.evil.example/c.json").params().Encode()), 403)
		_ = l
	})
	t.Run("open-with-review", func(t *testing.T) {
		w, l := newLibraryWorld(t, func(w *world) { w.cfg.Registration.CIMDMode = "open-with-review" })
		x := w.document(l.doc("/c"))
		alice := w.person()
		a := alice.get("/authorize?" + x.params().Encode())
		wantPage(t, a, 403)
		if !w.seen.alerted("document_review") {
			t.Fatal("no alert")
		}
		if err := w.store.SetReview(t.Context(), x.id, false); err != nil {
			t.Fatal(err)
		}
		x.tokens(alice)
	})
	t.Run("admitted domain", func(t *testing.T) {
		w, l := newLibraryWorld(t, func(w *world) { w.cfg.Registration.CIMDMode = "open-with-review" })
		one, two, three := w.document(l.doc("/one")), w.document(l.doc("/two")), w.document(l.doc("/three"))
		alice := w.person()
		wantPage(t, alice.get("/authorize?"+one.params().Encode()), 403)
		wantPage(t, alice.get("/authorize?"+two.params().Encode()), 403)
		if n, err := w.s.AdmitDomain(t.Context(), authserver.DocumentHost(one.id), "u_admin"); err != nil || n != 2 {
			t.Fatalf("%d waited, %v", n, err)
		}
		one.tokens(alice)
		two.tokens(alice)
		three.tokens(alice) // of the same domain, never seen before
		if err := w.s.DismissDomain(t.Context(), authserver.DocumentHost(one.id)); err != nil {
			t.Fatal(err)
		}
		wantPage(t, alice.get("/authorize?"+w.document(l.doc("/four")).params().Encode()), 403)
		one.tokens(alice) // who was let in stays
	})
	t.Run("scope ceiling", func(t *testing.T) {
		w, l := newLibraryWorld(t, func(w *world) {
			w.cfg.Registration.CIMDScopes = map[string][]string{"127.0.0.1": {"mcp:read"}}
		})
		page := w.person().get("/authorize?" + set(w.document(l.doc("/c")).params(), "scope", "mcp:read mcp:write").Encode())
		if got := strings.Join(scopesOf(page), " "); got != "mcp:read" {
			t.Fatal(got)
		}
	})
	t.Run("one fetch for many", func(t *testing.T) {
		w, l := newLibraryWorld(t, nil)
		x := w.document(l.doc("/c"))
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { w.browser().get("/authorize?" + x.params().Encode()) })
		}
		wg.Wait()
		if n := l.fetches.Load(); n != 1 {
			t.Fatalf("%d fetches", n)
		}
	})
}

// TestGRG6_RefreshOutlivesAnOutage: a client does not lose its login because its
// web server is down; a document that is gone counts at once.
func TestGRG6_RefreshOutlivesAnOutage(t *testing.T) {
	w, l := newLibraryWorld(t, nil)
	x := w.document(l.doc("/c"))
	alice := w.person()
	r := x.tokens(alice)["refresh_token"].(string)
	l.put("/c", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) })
	w.clock.forward(11 * time.Minute)
	a := x.token(x.refreshForm(r))
	if a.StatusCode != 200 {
		t.Fatal(a.body)
	}
	wantPage(t, alice.get("/authorize?"+x.params().Encode()), 400)
	l.put("/c", http.NotFound)
	wantError(t, x.token(x.refreshForm(a.json(t)["refresh_token"].(string))), 400, "invalid_client")
}
