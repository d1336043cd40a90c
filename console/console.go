package console

import (
	"crypto/rand"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/toolscan"
)

// Deps are what the console needs from the rest of the house.
type Deps struct {
	Store   Store
	Auth    *authserver.Server // login, deny-list, revocation
	Gateway *gateway.Gateway   // health of servers
	Journal *gateway.Journal   // where acts are recorded
	Meters  *Meters
	Scanner *toolscan.Scanner // grades changes of definitions
	// Endpoints are the addresses that programs connect to, the usual one first.
	Endpoints func() []Endpoint
	// Limits are the rates in force.
	Limits func() limit.Limits
	// Settings is the configuration in force, without secrets.
	Settings func() Settings
	// Pages of other rooms that the navigation leads to.
	Pages []Link
	// Address is the client's address; nil means the connection's.
	Address func(*http.Request) netip.Addr
	Log     *slog.Logger     // nil: silent
	Now     func() time.Time // nil: time.Now
	Rand    io.Reader        // nil: crypto/rand
}

// Link is a page of another room.
type Link struct {
	Path  string            // below the base, such as "/approvals"
	Title map[string]string // by language
	Admin bool              // for administrators only
	Calls bool              // lists the calls that wait for whoever is logged in
}

// Settings are what the page of version and configuration shows.
type Settings struct {
	Version  string
	Started  time.Time
	Database string // "SQLite" or "PostgreSQL"
	CIMDMode string // how domains of client documents are let in
	Config   string // YAML, without secrets
}

// Server answers everything at and below Path. It is safe for concurrent use and
// owns no goroutine.
type Server struct {
	deps   Deps
	base   string // path of the public URL, "" for none
	name   string
	routes map[string]*route
	pages  pages
	totals totals
	live   func() bool // htmx is there
}

// New returns a console for the gateway at the public URL, whose pages carry a name.
func New(publicURL, name string, d Deps) *Server {
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Rand == nil {
		d.Rand = rand.Reader
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Address == nil {
		d.Address = func(r *http.Request) netip.Addr {
			ap, _ := netip.ParseAddrPort(r.RemoteAddr)
			return ap.Addr().Unmap()
		}
	}
	if name == "" {
		name = "Kidoban"
	}
	s := &Server{deps: d, name: name, live: sync.OnceValue(brought)}
	if u, err := url.Parse(publicURL); err == nil {
		s.base = strings.TrimSuffix(u.Path, "/")
	}
	s.routes = s.buildRoutes()
	return s
}

// Path is where the console begins.
func (s *Server) Path() string { return s.base + "/console" }

// Serves tells whether the console answers a path.
func (s *Server) Serves(path string) bool {
	rest, ok := strings.CutPrefix(path, s.Path())
	return ok && (rest == "" || rest[0] == '/')
}

// route is one page.
type route struct {
	page  string // template and, as "title_"+page, its title
	nav   string // which entry of the navigation it belongs to
	admin bool
	get   func(*visit) (any, error)
	acts  map[string]act
	raw   func(*visit) error // answers by itself instead of get
}

// act is what a button does. Its argument is the part of the button's value
// behind the colon; it returns the id of the text that says what was done.
type act struct {
	wide bool // widens access: asks for a fresh login
	do   func(v *visit, arg string) (done string, err error)
}

func (s *Server) buildRoutes() map[string]*route {
	r := map[string]*route{}
	for path, x := range map[string]*route{
		"":         {page: "overview", admin: true, get: s.overview},
		"/servers": {page: "servers", admin: true, get: s.servers},
		"/clients": {page: "clients", admin: true, get: s.clients},
		"/client":  {page: "client", nav: "clients", admin: true, get: s.client, acts: s.clientActs()},
		"/hosts":   {page: "hosts", admin: true, get: s.hosts, acts: s.denyActs()},
		"/host":    {page: "host", nav: "hosts", admin: true, get: s.host, acts: s.denyActs()},
		"/deny":    {page: "deny", admin: true, get: s.deny, acts: s.denyActs()},
		"/domains": {page: "domains", admin: true, get: s.domains, acts: s.domainActs()},
		"/mine":    {page: "mine", get: s.mine, acts: s.mineActs()},
		"/start":   {page: "start", get: s.start},

		"/alerts":      {page: "alerts", admin: true, get: s.alerts},
		"/log":         {page: "log", admin: true, get: s.log},
		"/log.jsonl":   {page: "log", admin: true, raw: s.export},
		"/definitions": {page: "definitions", admin: true, get: s.definitions},
		"/definition":  {page: "definition", nav: "definitions", admin: true, get: s.definition, acts: s.definitionActs()},
		"/grants":      {page: "grants", admin: true, get: s.grants, acts: s.grantActs()},
		"/users":       {page: "users", admin: true, get: s.users, acts: s.userActs()},
		"/user":        {page: "user", nav: "users", admin: true, get: s.user, acts: s.userActs()},
		"/limits":      {page: "limits", admin: true, get: s.limits},
		"/settings":    {page: "settings", admin: true, get: s.settings},
	} {
		if x.nav == "" {
			x.nav = x.page
		}
		r[s.Path()+path] = x
	}
	return r
}

// visit is one request to a page.
type visit struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	route *route
	now   time.Time
	id    string
	langs []string
	self  string
	nonce string
	guest *authserver.Guest
	form  url.Values // of a POST
	query url.Values
	link  string // a one-time link that an act made; shown once, on no address
	done  string // id of the text that tells what was done
	said  string // a sentence about what went wrong
	bad   string // or the id of a text
}

// maxQuery bounds the query of a page.
const maxQuery = 8 << 10

// ServeHTTP answers the pages.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	path := strings.TrimSuffix(r.URL.Path, "/")
	if name, ok := strings.CutPrefix(path, s.Path()+"/assets/"); ok {
		s.asset(w, r, name)
		return
	}
	v := &visit{s: s, w: w, r: r, now: s.deps.Now(), id: s.token(10), route: s.routes[path]}
	h.Set("X-Request-Id", v.id)
	if len(r.URL.RawQuery) > maxQuery {
		http.Error(w, "The address is too long.", http.StatusRequestURITooLong)
		return
	}
	v.query = r.URL.Query()
	v.langs, v.self = s.deps.Auth.Languages(w, r)
	v.nonce = s.token(18)
	var err error
	if v.guest, err = s.deps.Auth.Guest(r); err != nil {
		v.fail(err)
		return
	}
	switch {
	case v.guest == nil:
		next := s.Path()
		if v.route != nil && v.route.raw == nil && r.Method == http.MethodGet {
			next = r.URL.RequestURI()
		}
		s.deps.Auth.ShowLogin(w, r, next, false)
	case v.route == nil:
		v.refuse(http.StatusNotFound, "nothing_here")
	case v.route.admin && !v.guest.Admin:
		if path == s.Path() && r.Method == http.MethodGet { // everybody's way in
			http.Redirect(w, r, s.Path()+"/mine", http.StatusSeeOther)
			return
		}
		v.record("refused", "admin", "")
		v.refuse(http.StatusForbidden, "admins_only")
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		v.serveGet()
	case r.Method == http.MethodPost && v.route.acts != nil:
		v.servePost()
	default:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "Method not allowed.", http.StatusMethodNotAllowed)
	}
}

func (v *visit) serveGet() {
	if v.route.raw != nil {
		if err := v.route.raw(v); err != nil {
			v.fail(err)
		}
		return
	}
	if id := "done_" + v.query.Get("done"); texts[id].en != "" {
		v.done = id
	}
	v.show(http.StatusOK)
}

// show makes the page.
func (v *visit) show(status int) {
	data, err := v.route.get(v)
	if err != nil {
		v.fail(err)
		return
	}
	v.render(status, v.route.page, data)
}

// token returns n random bytes as text.
func (s *Server) token(n int) string {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.deps.Rand, b); err != nil {
		panic("console: no randomness: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// record writes into the audit log who did what here.
func (v *visit) record(decision, rule, detail string) {
	if v.s.deps.Journal == nil {
		return
	}
	r := gateway.Record{ID: v.id, At: v.now, Address: v.s.deps.Address(v.r), Method: "console:" + v.route.page, Decision: decision, Rule: rule, Detail: detail}
	if v.guest != nil {
		r.User = v.guest.ID
	}
	v.s.deps.Journal.Append(v.r.Context(), r)
}
