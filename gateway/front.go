package gateway

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/kidoban/kidoban/wire"
)

// front judges where a request says it comes from and whom it says it wants:
// the two headers that a browser page on a foreign site cannot forge (E09,
// TR-01). It is asked before anything else.
type front struct {
	hosts   map[string]bool
	origins map[string]bool
}

func newFront(c Config) front {
	f := front{hosts: map[string]bool{}, origins: map[string]bool{}}
	u, err := url.Parse(c.PublicURL)
	if err == nil {
		f.add(u)
		if loopbackName(u.Hostname()) { // one machine, three names
			for _, h := range []string{"localhost", "127.0.0.1", "[::1]"} {
				alias := *u
				alias.Host = h
				if p := u.Port(); p != "" {
					alias.Host += ":" + p
				}
				f.add(&alias)
			}
		}
	}
	for _, h := range c.Hosts {
		f.hosts[strings.ToLower(h)] = true
	}
	for _, o := range c.Origins {
		f.origins[strings.ToLower(o)] = true
	}
	return f
}

// add accepts a URL's host, with and without its default port, and its origin.
func (f front) add(u *url.URL) {
	host := strings.ToLower(u.Host)
	f.hosts[host] = true
	f.origins[strings.ToLower(u.Scheme)+"://"+host] = true
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if u.Port() == "" {
		f.hosts[net.JoinHostPort(strings.Trim(u.Hostname(), "[]"), port)] = true
	} else if u.Port() == port {
		f.hosts[strings.TrimSuffix(host, ":"+port)] = true
	}
}

// check refuses foreign hosts and origins with 403.
func (f front) check(r *http.Request) *Refusal {
	if !f.hosts[strings.ToLower(r.Host)] {
		return refuse(http.StatusForbidden, 0, "host", "This host name is not served here. Use the gateway's public URL.")
	}
	switch o := r.Header.Values("Origin"); {
	case len(o) == 0:
	case len(o) > 1 || !f.origins[strings.ToLower(o[0])]:
		return refuse(http.StatusForbidden, 0, "origin", "Requests from this origin are not accepted. The operator can allow it under origins.")
	}
	return nil
}

// Protect puts the same judgement before other handlers of the process. Pages
// that a browser opens and posts to carry the gateway's own origin, or none.
func (g *Gateway) Protect(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := g.state.Load().front
		if !f.hosts[strings.ToLower(r.Host)] {
			http.Error(w, "This host name is not served here. Use the gateway's public URL.", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// cors lets the pages of allowed origins read answers.
func (f front) cors(w http.ResponseWriter, r *http.Request) {
	o := r.Header.Get("Origin")
	if o == "" {
		return
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", o)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Expose-Headers", "Mcp-Session-Id, WWW-Authenticate, X-Request-Id, Retry-After")
}

// preflight answers OPTIONS of an origin that passed check.
func (f front) preflight(w http.ResponseWriter, r *http.Request) {
	f.cors(w, r)
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "POST, GET, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, DPoP, Content-Type, Accept, Last-Event-ID, Mcp-Session-Id, MCP-Protocol-Version, Mcp-Method, Mcp-Name"+mirrors(r))
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}

// mirrors are the headers of mirrored arguments (SEP-2243) that a page asks for: tools
// name them, so they cannot be listed beforehand.
func mirrors(r *http.Request) string {
	var out strings.Builder
	for i, name := range strings.Split(strings.Join(r.Header.Values("Access-Control-Request-Headers"), ","), ",") {
		name = strings.TrimSpace(name)
		if i < maxMirrors && len(name) <= 128 && len(name) > len(wire.HeaderParamPrefix) && strings.EqualFold(name[:len(wire.HeaderParamPrefix)], wire.HeaderParamPrefix) && httpguts.ValidHeaderFieldName(name) {
			out.WriteString(", " + name)
		}
	}
	return out.String()
}

// maxMirrors bounds the headers that one preflight may ask for.
const maxMirrors = 64
