package audit

import (
	"strings"

	"github.com/kidoban/kidoban"
)

// judgeConsentPages is F6-B, C, D and F on the decision pages that were shown. A
// page belongs to a request that was made before it and not answered yet. Where
// several are open it is held against each, and only what is wrong for all of them
// counts: a page must not be blamed for another browser's request.
func (t *traffic) judgeConsentPages() (out []kidoban.Result) {
	best := map[string]kidoban.Result{}
	for _, x := range t.all {
		if x.Response == nil || !t.ofServer(x) || !strings.Contains(mediaType(x), "html") || x.Status() >= 300 || x.Response.Truncated {
			continue
		}
		p := ParsePage(x.Response.Body)
		fair := map[string]kidoban.Result{}
		for _, fl := range t.open(x) {
			c := t.asked(fl)
			if kind, _ := classifyPage(x, &p, nil, c.Name); kind != Consent {
				continue
			}
			g := *t.f
			g.Client, g.Base = c, &Trail{Kind: Consent, Page: p, Exchanges: []*kidoban.Exchange{x}}
			g.SmallestScope = smallest(strings.Fields(fl.params.Get("scope")))
			for _, r := range judgeF6Static(&g) {
				if old, ok := fair[r.Key()]; !ok || weight(r) < weight(old) {
					fair[r.Key()] = r
				}
			}
		}
		for k, r := range fair {
			if old, ok := best[k]; !ok || heavier(r, old) {
				best[k] = r
			}
		}
	}
	for _, k := range []string{"F6-B", "F6-C", "F6-D", "F6-F"} {
		if r, ok := best[k]; ok {
			out = append(out, r)
		}
	}
	return out
}

// open are the requests that had been made, and not been answered, when x was seen.
func (t *traffic) open(x *kidoban.Exchange) (out []*flow) {
	for _, fl := range t.flows {
		if t.pos[fl.x] <= t.pos[x] && (fl.callback == nil || t.pos[fl.callback] > t.pos[x]) {
			out = append(out, fl)
		}
	}
	return out
}

// asked is the client of a request, with the redirect URI that the request named.
// A client whose registration was not recorded counts as known to the server.
func (t *traffic) asked(fl *flow) *Client {
	c := Client{ID: fl.params.Get("client_id"), Pre: true}
	if known := t.client(c.ID); known != nil {
		c = *known
	}
	if u := fl.params.Get("redirect_uri"); u != "" {
		c.RedirectURI = u
	}
	return &c
}
