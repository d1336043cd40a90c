package audit

import (
	"context"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/browser"
)

// Clients that are described by a document, behind a login: what the decision page
// says of them (E16-l, E16-m), and whether a decision survives a change (E01-c,
// E16-j).

type documentTrials struct {
	first, approved, moved, renamed walked
	host                            string
	redirect                        string
	ok                              bool
	none                            kidoban.Result
}

func probeDocumentConsent() probe {
	keys := []string{"E16-j", "E16-l", "E16-m", "E01-c"}
	return define(spec{name: "the decision about a client document", keys: keys, tier: kidoban.T3}, collectDocumentConsent, func(f *Facts, e documentTrials) []kidoban.Result {
		if !e.ok {
			return everyone(keys, func(k string) kidoban.Result {
				if !f.AS.Meta.ClientIDMetadataDocumentSupport {
					return absent(k, "the authorization server does not take client metadata documents", f.AS.X)
				}
				return rekey(e.none, k)
			})
		}
		return judgeDocumentConsent(&e)
	})
}

func collectDocumentConsent(ctx context.Context, s *session) (e documentTrials) {
	f := s.facts
	if s.o.Canary == nil || !f.AS.Meta.ClientIDMetadataDocumentSupport {
		e.none = untested("E16-j", kidoban.ReasonCanary, detailFor(kidoban.ReasonCanary))
		return e
	}
	path := "/client/" + s.nonce(12) + ".json"
	id := s.o.Canary.URL(path)
	e.host = hostOf(id)
	one, two := s.loopbackRedirect(), s.loopbackRedirect()
	e.redirect = one
	publish := func(name string) {
		s.o.Canary.Publish(path, CanaryDoc{Header: map[string]string{"Content-Type": "application/json"}, Body: mustJSON(map[string]any{
			"client_id": id, "client_name": name, "redirect_uris": []string{one, two}, "grant_types": []string{"authorization_code"}, "response_types": []string{"code"}, "token_endpoint_auth_method": "none"})})
	}
	name := "kidoban document client " + s.runID
	publish(name)
	c := &Client{ID: id, Name: name, RedirectURI: one, Redirects: []string{one, two}}
	p, err := s.person(ctx, s.o.Login, "the person and a client document", !s.o.Login.Fast || s.needsScripts)
	if err != nil {
		e.none = unclear("E16-j", kidoban.ReasonUnstable, firstLine(err.Error()))
		return e
	}
	defer p.close()
	walk := func(key, note string, c *Client, d browser.Decision) walked {
		r, start := s.start(c)
		return p.walk(ctx, errand{key: key, note: note, start: start, decision: d, marker: r.Marker, capture: s.toCallback(r)})
	}
	e.first = walk("E16-l", "a client with a document", c, browser.Look)
	if e.first.Why != browser.EndLook {
		if r, bad := e.first.failed("E16-j"); bad {
			e.none = r
		} else {
			e.none = unclear("E16-j", kidoban.ReasonUnstable, "a correct client document is not taken", e.first.last())
		}
		return e
	}
	e.ok = true
	e.approved = walk("E01-c", "the client with a document, approved", c, browser.Approve)
	other := *c
	other.RedirectURI = two
	e.moved = walk("E01-c", "the same client with its other redirect URI", &other, browser.Look)
	publish("kidoban renamed client " + s.runID)
	renamed := *c
	renamed.Name = "kidoban renamed client " + s.runID
	e.renamed = walk("E16-j", "the same client under another name", &renamed, browser.Look)
	return e
}

func judgeDocumentConsent(e *documentTrials) []kidoban.Result {
	page, x := e.first.Consents()[0], e.first.consentX()
	text := strings.ToLower(page.Text)
	var out []kidoban.Result
	// The redirect URI is loopback too: the document's host has to stand there with
	// its port.
	if strings.Contains(text, strings.ToLower(e.host)) {
		out = append(out, passed("E16-l", "the decision page says where the client's document lives", x))
	} else {
		out = append(out, positive("E16-l", kidoban.Confirmed, "the decision page does not say where the client's document lives", x))
	}
	if warnsLocal(text) {
		out = append(out, passed("E16-m", "the decision page warns of a local redirect", x))
	} else {
		out = append(out, positive("E16-m", kidoban.Confirmed, "the decision page for a client with a document gives no warning that any program on this computer may listen", x))
	}
	say := func(key, finding, fine string, w walked) {
		switch {
		case e.approved.code() == "":
			out = append(out, e.approved.noCode(key))
		case w.silent():
			out = append(out, positive(key, kidoban.Confirmed, finding, e.approved.last(), w.last()))
		case len(w.Consents()) > 0:
			out = append(out, passed(key, fine, w.ends()...))
		default:
			out = append(out, w.noCode(key))
		}
	}
	say("E01-c", "a decision for one redirect URI of a client counts for another", "another redirect URI of the same client is asked about anew", e.moved)
	say("E16-j", "a decision survives a change of the client's document", "a changed client document is asked about anew", e.renamed)
	return out
}

// warnsLocal tells whether a text says that any program on the computer may listen.
func warnsLocal(text string) bool {
	return containsWord(text, []string{"this computer", "your computer", "own computer", "own device", "any program", "which program", "this device", "your device", "local program", "local application", "localhost redirect", "running locally", "on this machine"})
}
