package lab

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// Numbers of redirects of the deep-chain profile: without a choice, and at most.
const (
	deepHops     = 8
	maxDepthHops = 18
)

// sealStep carries the request and the number of the hop through the chain, with a
// MAC so that nobody shortens it.
func (l *Lab) sealStep(n int, raw string) string {
	body, _ := json.Marshal(struct {
		N int    `json:"n"`
		Q string `json:"q"`
	}{n, raw})
	return base64.RawURLEncoding.EncodeToString(body) + "." + l.mac(body)
}

// mac is the HMAC of body under the lab's sealing key, as base64url.
func (l *Lab) mac(body []byte) string {
	m := hmac.New(sha256.New, l.seal)
	m.Write(body)
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// step is one hop of the deep chain.
func (l *Lab) step(w http.ResponseWriter, r *http.Request) {
	if raw, ok := strings.CutPrefix(r.URL.RawQuery, "spa=1&"); ok && l.opt.Profile == profileSPA {
		l.begin(w, r, raw)
		return
	}
	body64, mac, _ := strings.Cut(r.URL.Query().Get("s"), ".")
	body, err := base64.RawURLEncoding.DecodeString(body64)
	var s struct {
		N int    `json:"n"`
		Q string `json:"q"`
	}
	if r.Method != http.MethodGet || err != nil || !same(mac, l.mac(body)) || json.Unmarshal(body, &s) != nil {
		l.errorPage(w, http.StatusBadRequest, "invalid_request", "This step does not belong to a login.")
		return
	}
	if s.N < l.opt.Depth {
		l.redirect(w, r, l.asPath+"/step?"+url.Values{"s": {l.sealStep(s.N+1, s.Q)}}.Encode())
		return
	}
	l.begin(w, r, s.Q)
}

// challengePage is what a content network shows to something it does not take for
// a browser.
func (l *Lab) challengePage(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Server", "edge")
	h.Set("cf-mitigated", "challenge")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusForbidden)
	w.Write([]byte(`<!doctype html><html><head><title>Just a moment...</title><meta name="robots" content="noindex"></head><body><noscript>Enable JavaScript and cookies to continue</noscript><div id="challenge-running">Checking if the site connection is secure</div></body></html>`))
}

// scriptPage is the page of the spa-consent profile: nothing without its script.
func (l *Lab) scriptPage(w http.ResponseWriter) {
	l.pageHeaders(w)
	w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'")
	l.pages.render(w, http.StatusOK, "app", l.asPath+"/app.js")
}

// script is the application of scriptPage: it starts the real flow in the browser.
func (l *Lab) script(w http.ResponseWriter, r *http.Request) {
	if l.opt.Profile != profileSPA {
		http.Error(w, "There is nothing here.", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	if l.opt.ScriptPosts {
		w.Write([]byte(`var r=document.getElementById("root"),b=document.createElement("button");b.textContent="Continue to the lab";` +
			`b.onclick=function(){var f=document.createElement("form");f.method="post";f.action=location.pathname;` +
			`new URLSearchParams(location.search).forEach(function(v,k){var i=document.createElement("input");i.type="hidden";i.name=k;i.value=v;f.appendChild(i)});` +
			`document.body.appendChild(f);f.submit()};r.appendChild(b);` + "\n"))
		return
	}
	w.Write([]byte(`var r=document.getElementById("root"),b=document.createElement("button");b.textContent="Continue to the lab";` +
		`b.onclick=function(){location.replace("` + l.asPath + `/step?spa=1&"+location.search.slice(1))};r.appendChild(b);` + "\n"))
}

// cloudPath is the path of the cloud client's callback.
const cloudPath = "/oauth/callback"

// cloudHandler is the callback of a cloud client: it shows that a code came, and
// keeps none.
func (l *Lab) cloudHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, ok := strings.CutPrefix(r.URL.Path, "/register/"); ok && l.on("E20-g") {
			l.manage(w, r, id)
			return
		}
		if l.on("E10-d") && r.URL.Path == "/.well-known/oauth-protected-resource"+l.mcpPath() {
			l.prm(l.MCPURL)(w, r)
			return
		}
		if r.URL.Path != cloudPath {
			http.Error(w, "There is nothing here.", http.StatusNotFound)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if r.URL.Query().Get("code") != "" {
			w.Write([]byte("The cloud client received a code.\n"))
			return
		}
		w.Write([]byte("The cloud client received no code.\n"))
	})
}
