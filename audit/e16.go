package audit

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// E16: client metadata documents. The authorization server fetches the client's
// identity from an address that a stranger names, so everything about that fetch
// is part of the check: what the address may look like, what is followed, how
// much is read, what is believed. A correct document is the baseline; every
// mutation lives at a path of its own, because servers cache.

// docForm is one mutation of a correct document.
type docForm struct {
	key, what string
	// lay publishes the document at path and returns the client_id to use.
	lay func(s *session, path, redirect string) string
	// request changes the authorization request.
	request func(s *session, r *authRequest)
	// low marks a form that is a lesser finding than the check's first.
	low bool
	// next is a path whose being fetched is the finding itself, whatever comes after.
	next bool
}

// document is a correct one for id, with changes.
func document(id, redirect string, change map[string]any) CanaryDoc {
	m := map[string]any{
		"client_id": id, "client_name": "kidoban security probe", "client_uri": "https://github.com/kidoban/kidoban",
		"redirect_uris": []string{redirect}, "grant_types": []string{"authorization_code"}, "response_types": []string{"code"},
		"token_endpoint_auth_method": "none",
	}
	for k, v := range change {
		m[k] = v
	}
	body, _ := json.Marshal(m) // strings and lists of strings
	return CanaryDoc{Header: map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store"}, Body: body}
}

// changed publishes a document with changed members.
func changed(change map[string]any) func(s *session, path, redirect string) string {
	return served(func(d *CanaryDoc) {}, change)
}

// served publishes a document that is served in another way.
func served(serve func(d *CanaryDoc), change map[string]any) func(s *session, path, redirect string) string {
	return func(s *session, path, redirect string) string {
		id := s.o.Canary.URL(path)
		d := document(id, redirect, change)
		serve(&d)
		s.o.Canary.Publish(path, d)
		return id
	}
}

// spelt publishes a correct document whose address is written in another way.
func spelt(write func(base, path string) (id, served string)) func(s *session, path, redirect string) string {
	return func(s *session, path, redirect string) string {
		id, at := write(s.o.Canary.base, path)
		d := document(id, redirect, nil)
		s.o.Canary.Publish(at, d)
		s.o.Canary.Publish(path, d) // for fetchers that tidy the path up
		return id
	}
}

// docForms are the mutations in the order in which they are sent.
func docForms() []docForm {
	return []docForm{
		{key: "E16-a", what: "a document that names another client_id", lay: changed(map[string]any{"client_id": "https://other" + probeDomain + "/client.json"})},
		{key: "E16-g", what: "a redirect URI that the document does not list", lay: changed(nil), request: func(s *session, r *authRequest) {
			uri := s.foreign()
			r.Targets, r.Params = []string{uri}, r.Params.with("redirect_uri", uri)
		}},
		{key: "E16-c", what: "a document behind a redirect", next: true, lay: func(s *session, path, redirect string) string {
			id := s.o.Canary.URL(path)
			s.o.Canary.Publish(path, CanaryDoc{Status: http.StatusFound, Header: map[string]string{"Location": s.o.Canary.URL(path + "/next")}})
			s.o.Canary.Publish(path+"/next", document(id, redirect, nil))
			return id
		}},
		{key: "E16-f", what: "a document with a client_secret", lay: changed(map[string]any{"client_secret": "kidoban-probe", "client_secret_expires_at": 0})},
		{key: "E16-b", what: "a document's address with a fragment", lay: spelt(func(base, path string) (string, string) { return base + "/" + path + "#x", path })},
		{key: "E16-b", what: "a document's address with dot segments", lay: spelt(func(base, path string) (string, string) { return base + "/a/../" + path, "a/../" + path })},
		{key: "E16-e", what: "a document of 1 MB", lay: changed(map[string]any{"padding": strings.Repeat("x", 1<<20)})},
		{key: "E16-n", what: "a document with a script as client_uri", lay: changed(map[string]any{"client_uri": scriptURI})},
		{key: "E16-d", what: "a document with status 404", lay: served(func(d *CanaryDoc) { d.Status = http.StatusNotFound }, nil)},
		{key: "E16-h", what: "a document with the type text/html", lay: served(func(d *CanaryDoc) { d.Header["Content-Type"] = "text/html" }, nil)},
		{key: "E16-f", what: "a document with a symmetric authentication method", lay: changed(map[string]any{"token_endpoint_auth_method": "client_secret_post"})},
		{key: "E16-e", what: "a document of 6 kB", low: true, lay: changed(map[string]any{"padding": strings.Repeat("x", 6<<10)})},
		{key: "E16-d", what: "a document with status 201", lay: served(func(d *CanaryDoc) { d.Status = http.StatusCreated }, nil)},
		{key: "E16-b", what: "a document's address with user information", lay: spelt(func(base, path string) (string, string) {
			scheme, host, _ := strings.Cut(base, "://")
			return scheme + "://user@" + host + "/" + path, path
		})},
		{key: "E16-b", what: "a document's address without a path", lay: spelt(func(base, path string) (string, string) { return base, "" })},
		{key: "E16-n", what: "a document with a script as logo_uri", lay: changed(map[string]any{"logo_uri": scriptURI})},
	}
}

// docTrial is one form and what came of it.
type docTrial struct {
	form    docForm
	t       Trials
	fetched bool // of form.next: the second path was fetched
}

type e16Evidence struct {
	could bool // there is an authorization endpoint to ask

	base, none *Trail // a correct document, and an address without one
	fetches    int    // of the correct document
	trials     []docTrial

	broken, repaired *Trail // E16-i: an address that fails at first, then is correct
	refetched        bool

	special  *Trail // E16-k
	inside   bool   // the special address was fetched
	canSpeak bool   // there is a special address to lead to
}

func probeE16() probe {
	keys := []string{"E16-a", "E16-b", "E16-c", "E16-d", "E16-e", "E16-f", "E16-g", "E16-h", "E16-i", "E16-k", "E16-n"}
	return define(spec{name: "client metadata documents", keys: keys, tier: kidoban.T2, cost: 8}, collectE16, judgeE16)
}

func collectE16(ctx context.Context, s *session) (ev e16Evidence) {
	if ev.could = s.facts.AS.Meta.AuthorizationEndpoint != ""; !ev.could || !s.recordDocuments() {
		return ev
	}
	redirect := s.loopbackRedirect()
	path := s.docPath()
	ev.base = s.document(ctx, "E16", "B: a correct client document", changed(nil)(s, path, redirect), redirect, nil)
	if ev.fetches = len(s.o.Canary.Seen(path)); ev.base.Kind == ErrorPage {
		return ev // a server that takes no document has nothing to be mutated
	}
	ev.none = s.document(ctx, "E16", "N1: an address without a document", s.o.Canary.URL(s.docPath()), redirect, nil)
	if s.wants("E16-k") {
		ev.reachInside(ctx, s, redirect)
	}
	forms, seen := docForms(), map[string]bool{}
	more := slices.DeleteFunc(slices.Clone(forms), func(d docForm) bool { first := !seen[d.key]; seen[d.key] = true; return first })
	first := slices.DeleteFunc(forms, func(d docForm) bool {
		return slices.ContainsFunc(more, func(m docForm) bool { return m.what == d.what })
	})
	ev.send(ctx, s, first, redirect)
	if s.wants("E16-i") && s.left() > 1 {
		path := s.docPath()
		s.o.Canary.Publish(path, CanaryDoc{Status: http.StatusInternalServerError})
		ev.broken = s.document(ctx, "E16-i", "a document that fails", s.o.Canary.URL(path), redirect, nil)
		before := len(s.o.Canary.Seen(path))
		ev.repaired = s.document(ctx, "E16-i", "the same document, repaired", changed(nil)(s, path, redirect), redirect, nil)
		ev.refetched = len(s.o.Canary.Seen(path)) > before
	}
	ev.send(ctx, s, more, redirect)
	return ev
}

// send sends forms while the budget lasts, and no further form of a finding.
func (ev *e16Evidence) send(ctx context.Context, s *session, forms []docForm, redirect string) {
	found := func(key string) bool {
		return slices.ContainsFunc(ev.trials, func(t docTrial) bool {
			return t.form.key == key && (t.fetched || Decide(t.t).Outcome == kidoban.Fail)
		})
	}
	for _, form := range forms {
		if s.wants(form.key) && !found(form.key) && s.left() > 0 {
			t := docTrial{form: form}
			t.try(ctx, s, ev, redirect)
			ev.trials = append(ev.trials, t)
		}
	}
}

// recordDocuments writes into the ledger that a server may keep what it fetches.
// No interface removes it; the cache forgets it.
func (s *session) recordDocuments() bool {
	as := s.facts.AS
	n, err := s.ledger.Intend(Entry{Probe: "E16", Issuer: as.Issuer, ClientID: s.o.Canary.URL("…"), Time: s.o.Now(), Lab: s.o.Lab})
	if err != nil {
		return false
	}
	return s.ledger.Note(n, "expires", "client documents: expires by cache", s.o.Now()) == nil
}

func (s *session) docPath() string { return s.nonce(10) + "/client.json" }

// document sends an authorization request of the client at id.
func (s *session) document(ctx context.Context, key, note, id, redirect string, change func(*session, *authRequest)) *Trail {
	r := s.baseline(&Client{ID: id, Name: "kidoban security probe", RedirectURI: redirect})
	if change != nil {
		change(s, &r)
	}
	return s.follow(ctx, key, note, r)
}

// try sends a form once, and again at a fresh path when the first run is a finding.
func (t *docTrial) try(ctx context.Context, s *session, ev *e16Evidence, redirect string) {
	t.t = Trials{B: ev.base, N1: ev.none, Redirect: t.form.request != nil}
	run := func(note string) *Trail {
		path := s.docPath()
		m := s.document(ctx, t.form.key, note, t.form.lay(s, path, redirect), redirect, t.form.request)
		t.fetched = t.fetched || t.form.next && len(s.o.Canary.Seen(path+"/next")) > 0
		return m
	}
	t.t.M1 = run(t.form.what)
	if !settles(t.t) {
		if t.t.M2 = run(t.form.what + ", again"); t.t.M2.Budget {
			t.t.M2 = nil
		}
	}
}

// reachInside names a document at an address that must not be dialled. Only a lab
// has one that can be watched.
func (ev *e16Evidence) reachInside(ctx context.Context, s *session, redirect string) {
	special := s.specialCanary(ctx)
	if special == nil {
		return
	}
	defer special.Close()
	ev.canSpeak = true
	path := s.docPath()
	id := special.URL(path)
	special.Publish(path, document(id, redirect, nil))
	ev.special = s.document(ctx, "E16-k", "a document at an address that is not public", id, redirect, nil)
	ev.inside = len(special.Seen(path)) > 0
}

func judgeE16(f *Facts, ev e16Evidence) []kidoban.Result {
	var out []kidoban.Result
	keys := []string{"E16-i", "E16-k"}
	for _, form := range docForms() {
		if !slices.Contains(keys, form.key) {
			keys = append(keys, form.key)
		}
	}
	for _, k := range keys {
		out = append(out, ev.judge(k))
	}
	return out
}

func (ev *e16Evidence) judge(key string) kidoban.Result {
	if ev.base == nil && !ev.could {
		return absent(key, "the metadata name no authorization endpoint")
	}
	if r, ok := blocked(key, ev.base); !ok {
		return r
	}
	if ev.base.Kind == ErrorPage {
		why := "a correct client document is refused: " + trailText(ev.base)
		if ev.fetches == 0 {
			why = "the metadata promise client documents, but the server does not fetch one: " + trailText(ev.base)
		}
		return unclear(key, kidoban.ReasonUnstable, why, ev.base.Last())
	}
	switch key {
	case "E16-i":
		return ev.judgeCache()
	case "E16-k":
		return ev.judgeInside()
	}
	var worst kidoban.Result
	for _, t := range ev.trials {
		if t.form.key != key {
			continue
		}
		r := t.judge()
		if r.Outcome == kidoban.Fail || r.Outcome == kidoban.Weak {
			return r
		}
		if worst.ID == "" || worst.Outcome == kidoban.Pass && r.Outcome != kidoban.NotTested {
			worst = r // a pass needs every form that was sent to pass
		}
	}
	if worst.ID == "" {
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	return worst
}

func (t *docTrial) judge() kidoban.Result {
	key := t.form.key
	if t.fetched {
		return positive(key, kidoban.Likely, "the server follows the redirect of a client document: the second address was fetched", t.t.B.Last(), t.t.M1.Last())
	}
	r := verdict(key, t.form.what, t.t)
	if t.form.low && r.Outcome == kidoban.Weak {
		r.Severity = kidoban.Low // the bound is a recommendation
	}
	return r
}

// judgeCache: a failure must not be remembered. It counts when the repaired
// document is refused without a second look at it.
func (ev *e16Evidence) judgeCache() kidoban.Result {
	const key = "E16-i"
	if r, ok := blocked(key, ev.broken); !ok {
		return r
	}
	if r, ok := blocked(key, ev.repaired); !ok {
		return r
	}
	b, x, y := ev.base.Signature(), ev.broken, ev.repaired
	switch {
	case ev.none != nil && ev.none.Signature() == b:
		return unclear(key, kidoban.ReasonDeferred, "the server shows the same page to everything: what it checks shows after a login", ev.base.Last(), y.Last())
	case x.Kind != ErrorPage:
		return unclear(key, kidoban.ReasonUnstable, "a failing document is not refused, so its failure cannot be remembered", x.Last())
	case y.Signature() == b:
		return passed(key, "a document that failed once is fetched anew", x.Last(), y.Last())
	case y.Kind == ErrorPage && !ev.refetched:
		return positive(key, kidoban.Likely, "a failed fetch is remembered: the repaired document is refused without a second look", ev.base.Last(), x.Last(), y.Last())
	}
	return unclear(key, kidoban.ReasonUnstable, "the repaired document ends with "+trailText(y), x.Last(), y.Last())
}

func (ev *e16Evidence) judgeInside() kidoban.Result {
	const key = "E16-k"
	switch {
	case !ev.canSpeak:
		return untested(key, kidoban.ReasonCanary, "a collector's name that leads to an address that is not public; in a lab --lab --canary-listen 127.0.0.1:0")
	case ev.inside:
		return positive(key, kidoban.Likely, "the server fetches a client document from an address that is not public", ev.base.Last(), ev.special.Last())
	}
	return verdict(key, "a document at an address that is not public", Trials{B: ev.base, N1: ev.none, M1: ev.special})
}
