package authserver_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// call sends a form straight to the handler: what is measured is the server and
// its database, not the test's HTTP client.
func (w *world) call(path string, form url.Values, cookies map[string]string) *httptest.ResponseRecorder {
	var r *http.Request
	if form == nil {
		r = httptest.NewRequest("GET", w.url+path, nil)
	} else {
		r = httptest.NewRequest("POST", w.url+path, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for k, v := range cookies {
		r.AddCookie(&http.Cookie{Name: k, Value: v})
	}
	rec := httptest.NewRecorder()
	w.s.ServeHTTP(rec, r)
	return rec
}

func (w *world) callJSON(b *testing.B, path string, form url.Values) map[string]any {
	rec := w.call(path, form, nil)
	a := answer{&http.Response{StatusCode: rec.Code}, rec.Body.String()}
	if rec.Code != 200 {
		b.Fatalf("%d %s", rec.Code, a.body)
	}
	return a.json(b)
}

// BenchmarkRefresh is one refresh with rotation, durable on SQLite, 32 clients at
// once on each core.
func BenchmarkRefresh(b *testing.B) {
	w := newWorld(b, nil)
	alice := w.person()
	x := w.register("Bench", loopback)
	const clients = 64
	tokens := make(chan string, clients)
	for range clients {
		tokens <- x.tokens(alice)["refresh_token"].(string)
	}
	b.SetParallelism(clients / 2)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		token := <-tokens
		for pb.Next() {
			token = w.callJSON(b, "/token", x.refreshForm(token))["refresh_token"].(string)
		}
		tokens <- token
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "refreshes/s")
}

// BenchmarkCodeFlow is a whole flow of a person who is logged in: the consent
// page, the answer, the code, the tokens.
func BenchmarkCodeFlow(b *testing.B) {
	w := newWorld(b, nil)
	alice := w.person()
	x := w.register("Bench", loopback)
	query := "/authorize?" + x.params().Encode()
	b.SetParallelism(16)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			page := answer{&http.Response{}, w.call(query, nil, alice.Cookies).Body.String()}
			v := page.hidden()
			v["scope_choice"] = []string{"mcp:read"}
			v.Set("decision", "approve")
			rec := w.call("/authorize/consent", v, alice.Cookies)
			u, err := url.Parse(rec.Header().Get("Location"))
			if err != nil || u.Query().Get("code") == "" {
				b.Error(rec.Code, rec.Body.String())
				return
			}
			w.callJSON(b, "/token", x.redeemForm(u.Query().Get("code")))
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "flows/s")
}

// BenchmarkRegister is one registration that nobody sent before.
func BenchmarkRegister(b *testing.B) {
	w := newWorld(b, func(w *world) { w.cfg.Registration.MaxPending = 1 << 30 })
	var n atomic.Int64
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			body := fmt.Sprintf(`{"client_name":"c%d","redirect_uris":["http://127.0.0.1/cb"],"token_endpoint_auth_method":"none"}`, n.Add(1))
			r := httptest.NewRequest("POST", w.url+"/register", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			rec := httptest.NewRecorder()
			w.s.ServeHTTP(rec, r)
			if rec.Code != 201 {
				text, _ := io.ReadAll(rec.Body)
				b.Errorf("%d %s", rec.Code, text)
				return
			}
		}
	})
}

// BenchmarkLiveness is the check of the resource server's hot path.
func BenchmarkLiveness(b *testing.B) {
	w := newWorld(b, nil)
	l := w.s.Liveness()
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := l.Live("g", "t"); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
