package authserver

import (
	"cmp"
	"context"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/limit"
	"github.com/kidoban/kidoban/oauth"
)

// consentTicket is the hidden field of the consent page. It binds the form to
// the login it was shown to, which is what makes a forged submission impossible,
// and to the client as it was shown.
type consentTicket struct {
	Values      string    `json:"v"`
	Asked       time.Time `json:"a"`
	User        string    `json:"u"`
	Session     string    `json:"s"`
	Fingerprint string    `json:"f"`
	Covers      string    `json:"c"` // hash of what the page named
}

// approval is a person's yes.
type approval struct {
	Scopes   []string `json:"s"`
	Days     int      `json:"d"`
	Remember bool     `json:"r"`
	Covers   string   `json:"c"` // hash of what the page named
}

// grantDays are the durations a person may choose from; the second is chosen
// beforehand.
var grantDays = []int{1, 30, 90}

// rememberedDays is the life of a grant that comes from a remembered answer.
const rememberedDays = 30

// consentPage is what the page says (G-CO2).
type consentPage struct {
	Name        string
	Kind        string // pre, cimd or dcr
	DocHost     string
	Registered  time.Time
	Ago         string
	Redirect    string
	Host        string
	Loopback    bool
	Scheme      bool // a private-use scheme: any app on the device may claim it
	AllLoopback bool
	Remote      bool // anonymous and not loopback: the strongest warning
	Borrowed    bool
	Resource    string
	ResourceURI string
	Behind      []behindView
	Scopes      []scopeChoice
	Days        []int
	Remember    bool
	Ticket      string
	User        string
	Again       string // why the page is shown once more
}

// behindView is one server on the page.
type behindView struct {
	Behind
	Open    bool // few enough to be read at once
	Classes []classTools
	Beyond  []classTools // what the scopes asked for do not open
}

type classTools struct {
	Class Class
	Tools []string
}

// classOrder is from harmless to harmful.
var classOrder = []Class{ClassRead, ClassWrite, ClassDestructive, ClassOther}

// maxOpenTools is how many tools the page shows without a click; more are counted
// by class, and listed on opening.
const maxOpenTools = 24

// behindViews orders the tools by class, and sets those apart that stay shut
// whatever the person answers.
func (s *Server) behindViews(all []Behind, scopes []string) []behindView {
	var out []behindView
	total := 0
	for _, b := range all {
		v := behindView{Behind: b}
		for _, class := range classOrder {
			if tools, need := b.Tools[class], b.Needs[class]; len(tools) == 0 {
				continue
			} else if need != "" && !s.Covers(scopes, need) {
				v.Beyond = append(v.Beyond, classTools{class, tools})
			} else {
				v.Classes = append(v.Classes, classTools{class, tools})
				total += len(tools)
			}
		}
		out = append(out, v)
	}
	for i := range out {
		out[i].Open = total <= maxOpenTools
	}
	return out
}

type scopeChoice struct {
	Name, Text string
	Class      Class
}

// showConsent asks the one question (G-CO1). The page needs no script, and any
// number of copies may be open: nothing is stored for it.
func (s *Server) showConsent(w http.ResponseWriter, r *http.Request, c *call, req *authRequest, v *visitor, again string) {
	c.event.Code = "asked"
	cl := req.client
	named := base64Hash(s.covers(req.resource.URI)) // before the servers are asked: one that comes meanwhile is asked about anew
	t, err := s.box.seal(purposeConsent, consentTicket{req.values.Encode(), req.asked, v.User.ID, base64.RawURLEncoding.EncodeToString(v.Hash), cl.Fingerprint, named}, ticketLife)
	if err != nil {
		s.refuseAuthorize(w, r, c, req, err)
		return
	}
	p := consentPage{Name: cl.meta.In("client_name", c.langs...), Kind: cl.Kind, Registered: cl.Created, Ago: ago(c.langs[0], c.now.Sub(cl.Created)),
		Redirect: req.redirect, Host: req.host, Loopback: req.loopback, Scheme: !req.loopback && len(req.host) > 7 && req.host[:7] == "scheme:",
		Resource: req.resource.nameIn(c.langs[0]), ResourceURI: req.resource.URI, Days: grantDays, Ticket: t, User: v.User.shown(), Again: again,
		Remember: rememberable(req), Borrowed: c.policy.looksBorrowed(cl)}
	if p.Name == "" {
		p.Name = cl.ID
	}
	if cl.Kind == ClientCIMD {
		p.DocHost = documentHost(cl.ID)
		if u, err := url.Parse(cl.ID); err == nil && u.Port() != "" { // loopback only: the port is what tells it apart
			p.DocHost += ":" + u.Port()
		}
	}
	p.AllLoopback = !slices.ContainsFunc(cl.meta.RedirectURIs, func(u string) bool { return !oauth.IsLoopbackRedirect(u) })
	p.Remote = cl.anonymous() && !req.loopback
	if p.Scheme {
		p.Host = p.Host[len("scheme:"):] + "://"
	}
	for _, name := range req.scopes {
		p.Scopes = append(p.Scopes, scopeChoice{name, c.policy.scopeText(name, c.langs[0]), c.policy.scopes[name].Class})
	}
	slices.SortStableFunc(p.Scopes, func(a, b scopeChoice) int {
		return slices.Index(classOrder, a.Class) - slices.Index(classOrder, b.Class)
	})
	if s.deps.Describe != nil {
		p.Behind = s.behindViews(s.deps.Describe(r.Context(), v.User, req.resource.URI), req.scopes)
	}
	s.render(w, c, http.StatusOK, "consent", p)
}

// nameIn is the resource's name for a person who reads lang.
func (r Resource) nameIn(lang string) string { return cmp.Or(r.Names[lang], r.Name) }

func (p *policy) scopeText(name, lang string) string {
	sc := p.scopes[name]
	if sc == nil {
		return name
	}
	if t := sc.Text[lang]; t != "" {
		return t
	}
	return sc.Text["en"]
}

// serveConsent takes the answer. Everything is checked anew: the client, the
// redirect URI, the deny-list, and that it is the login the page was shown to.
func (s *Server) serveConsent(w http.ResponseWriter, r *http.Request, c *call) {
	c.event.Name = "consent"
	v, err := form(r)
	if err != nil {
		s.refuseAuthorize(w, r, c, nil, err)
		return
	}
	var t consentTicket
	if err := s.box.open(purposeConsent, v.Get("t"), &t); err != nil {
		s.refuseAuthorize(w, r, c, nil, oauthErr(http.StatusBadRequest, "expired_request", "The page is too old."))
		return
	}
	who, err := s.visitor(r, c)
	if err != nil || who == nil || base64.RawURLEncoding.EncodeToString(who.Hash) != t.Session {
		if err == nil {
			err = oauthErr(http.StatusForbidden, "other_session", "The page belongs to another login.")
			if who != nil && who.User.ID != t.User {
				s.alert(r.Context(), kidoban.AlertForgedConsent, who.User.ID, nil)
			}
		}
		s.refuseAuthorize(w, r, c, nil, err)
		return
	}
	values, err := url.ParseQuery(t.Values)
	if err != nil {
		s.refuseAuthorize(w, r, c, nil, err)
		return
	}
	req, err := s.checkAuthorize(r.Context(), c, values)
	if err != nil {
		s.refuseAuthorize(w, r, c, req, err)
		return
	}
	req.asked = t.Asked
	switch {
	case req.client.Review:
		s.refuseAuthorize(w, r, c, req, &OAuthError{http.StatusForbidden, "review_pending", "", nil})
	case v.Get("decision") == "deny":
		s.denied(w, r, c, req)
	case v.Get("decision") != "approve":
		s.showConsent(w, r, c, req, who, "")
	case req.client.Fingerprint != t.Fingerprint:
		s.showConsent(w, r, c, req, who, "changed")
	case base64Hash(s.covers(req.resource.URI)) != t.Covers:
		s.showConsent(w, r, c, req, who, "servers")
	default:
		s.approved(w, r, c, req, who, v, t.Covers)
	}
}

// denied carries the no to the client, through a link where nobody vouches for
// the callback: even a no is a redirect (AS-10).
func (s *Server) denied(w http.ResponseWriter, r *http.Request, c *call, req *authRequest) {
	c.event.Outcome, c.event.Code = "refused", "access_denied"
	back := s.redirectURL(c, req.redirect, url.Values{"error": {"access_denied"}, "error_description": {"The person said no."}}, req.state)
	if req.trusted() {
		http.Redirect(w, r, back, http.StatusSeeOther)
		return
	}
	s.render(w, c, http.StatusOK, "denied", errorPage{Back: template.URL(back), Host: req.host})
}

// approved takes the yes of a page that named the servers whose hash is named.
func (s *Server) approved(w http.ResponseWriter, r *http.Request, c *call, req *authRequest, who *visitor, v url.Values, named string) {
	if err := s.take(w, limit.Ask{Limit: c.policy.Limits.ConsentPerUser, Key: limit.Key(who.User.ID), Cost: 1}); err != nil {
		s.refuseAuthorize(w, r, c, nil, err)
		return
	}
	a := approval{Scopes: oauth.IntersectScopes(req.scopes, v["scope_choice"]), Remember: v.Get("remember") == "yes" && rememberable(req), Covers: named}
	if len(a.Scopes) == 0 || len(a.Scopes) == 1 && a.Scopes[0] == ScopeOffline {
		s.showConsent(w, r, c, req, who, "nothing_chosen")
		return
	}
	a.Days, _ = strconv.Atoi(v.Get("days")) // anything else is not in the list
	if !slices.Contains(grantDays, a.Days) {
		a.Days = grantDays[1]
	}
	s.proceed(w, r, c, req, who, a)
}

// proceed goes on after a yes: first the accounts at third parties that are still
// missing, then the code. No request goes to a third party before this point.
func (s *Server) proceed(w http.ResponseWriter, r *http.Request, c *call, req *authRequest, who *visitor, a approval) {
	if s.deps.Upstream != nil {
		missing, err := s.missing(r.Context(), who.User.ID, req.resource.URI)
		if err != nil {
			s.refuseAuthorize(w, r, c, nil, err)
			return
		}
		if len(missing) > 0 {
			s.askToConnect(w, r, c, req, who, a)
			return
		}
	}
	s.deliver(w, r, c, req, who, a)
}

// deliver makes the code and sends it.
func (s *Server) deliver(w http.ResponseWriter, r *http.Request, c *call, req *authRequest, who *visitor, a approval) {
	covers := s.covers(req.resource.URI)
	if base64Hash(covers) != a.Covers { // while accounts were being connected
		s.showConsent(w, r, c, req, who, "servers")
		return
	}
	code, err := s.issueCode(r.Context(), c, req, who, a, covers)
	if err != nil {
		s.refuseAuthorize(w, r, c, req, err)
		return
	}
	c.event.Scopes = a.Scopes
	http.Redirect(w, r, s.redirectURL(c, req.redirect, url.Values{"code": {code}}, req.state), http.StatusSeeOther)
}

func (s *Server) issueCode(ctx context.Context, c *call, req *authRequest, who *visitor, a approval, covers string) (string, error) {
	cl := req.client
	// The first consent gives the registration its long life; later ones extend it
	// at most once an hour.
	if cl.Kind != ClientPre && (cl.Consented.IsZero() || c.now.Sub(cl.LastUsed) > time.Hour) {
		if err := s.deps.Store.MarkConsented(ctx, cl.ID, c.now, c.policy.clientExpiry(cl, c.now)); err != nil {
			return "", err
		}
	}
	code := newToken(s.deps.Rand, prefixCode)
	life := min(time.Duration(a.Days)*24*time.Hour, c.policy.Tokens.Grant)
	record := Code{Hash: hashToken(code), GrantID: newID(s.deps.Rand, "g"), UserID: who.User.ID, ClientID: cl.ID, RedirectURI: req.redirect,
		Resource: req.resource.URI, Scopes: a.Scopes, Challenge: req.challenge, DPoPKey: req.dpopKey, Remember: a.Remember,
		AuthTime: who.Created, Created: c.now, Expires: c.now.Add(c.policy.Tokens.Code), GrantEnds: c.now.Add(life), Covers: covers}
	if err := s.deps.Store.CreateCode(ctx, record); err != nil {
		return "", err
	}
	c.event.GrantID = record.GrantID
	s.known.add(limit.PrefixKey(c.addr), c.now)
	s.present(who.User.ID, c.addr, c.now)
	if a.Remember {
		err := s.deps.Store.PutConsent(ctx, Consent{UserID: who.User.ID, ClientID: cl.ID, RedirectURI: req.redirect, Resource: req.resource.URI,
			Scopes: a.Scopes, Fingerprint: cl.Fingerprint, Created: c.now, Expires: c.now.Add(life), Covers: covers})
		if err != nil {
			return "", err
		}
	}
	s.watchCampaign(ctx, cl, who.User.ID, req.host)
	return code, nil
}

// clientExpiry is when a client that is used now ends if it is not used again. A
// secret does not outlive what its registration response said.
func (p *policy) clientExpiry(cl *client, now time.Time) time.Time {
	end := now.Add(p.Registration.Idle)
	if cl.SecretHash != nil && cl.Kind == ClientDCR {
		if fixed := cl.Created.Add(p.Registration.Idle); fixed.Before(end) {
			return fixed
		}
	}
	return end
}
