package authserver_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
)

// newGroupWorld is a server whose provider names groups in a claim.
func newGroupWorld(t *testing.T, claim string) (*world, *idp) {
	p := newIDP(t)
	w := newWorld(t, func(w *world) {
		w.cfg.Login.Providers = []authserver.Provider{{ID: "corp", Name: "Corp", Issuer: p.URL, ClientID: "rp", ClientSecret: "rp-secret", GroupsClaim: claim}}
	})
	return w, p
}

// says makes the provider lay claims over the good ones.
func (p *idp) says(claims map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims = claims
}

// groups are the user's as rules name them.
func (w *world) groups(name string) []string {
	w.t.Helper()
	u, err := w.store.UserByName(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := w.store.Heard(w.t.Context(), u.ID)
	if err != nil || h.At.IsZero() {
		w.t.Fatal(h, err)
	}
	return h.Names(w.cfg.Login.Providers[0])
}

// TestGTG5_GroupsOfTheProvider: in whichever form providers name groups, they are the
// person's under the provider's name; what is doubtful lets nobody in, and says why.
func TestGTG5_GroupsOfTheProvider(t *testing.T) {
	many := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf("g%03d", i))
		}
		return out
	}
	for name, c := range map[string]struct {
		claim  string
		claims map[string]any
		want   []string
		logged string // of a login that is refused
	}{
		"object ids, Entra":      {claims: map[string]any{"groups": []string{"6b9f5e32-0c3b-4a8e-9a55-2f2a9f1a9c1d", "0f5ab1c2-8f7e-4d0a-b1d5-8f1f2b3c4d5e"}}, want: []string{"corp:0f5ab1c2-8f7e-4d0a-b1d5-8f1f2b3c4d5e", "corp:6b9f5e32-0c3b-4a8e-9a55-2f2a9f1a9c1d"}},
		"paths, Keycloak":        {claims: map[string]any{"groups": []string{"/a/b", "/a"}}, want: []string{"corp:/a", "corp:/a/b"}},
		"none, Google":           {},
		"null":                   {claims: map[string]any{"groups": nil}},
		"an empty list":          {claims: map[string]any{"groups": []string{}}},
		"one text":               {claims: map[string]any{"groups": "staff"}, want: []string{"corp:staff"}},
		"twice":                  {claims: map[string]any{"groups": []string{"b", "a", "b"}}, want: []string{"corp:a", "corp:b"}},
		"another provider's":     {claims: map[string]any{"groups": []string{"other:x"}}, want: []string{"corp:other:x"}},
		"a claim with a URL":     {claim: "https://corp.example/groups", claims: map[string]any{"https://corp.example/groups": []string{"x"}, "groups": []string{"y"}}, want: []string{"corp:x"}},
		"case of the claim":      {claims: map[string]any{"Groups": []string{"x"}}},
		"as many as there may":   {claims: map[string]any{"groups": many(200)}, want: nil},
		"too many":               {claims: map[string]any{"groups": many(201)}, logged: "201 groups, and 200 is the most"},
		"overage":                {claims: map[string]any{"_claim_names": map[string]any{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "https://graph.example/x"}}}, logged: "more groups than the provider puts into a token"},
		"overage, short":         {claims: map[string]any{"hasgroups": true}, logged: "more groups than the provider puts into a token"},
		"overage of other claim": {claims: map[string]any{"_claim_names": map[string]any{"roles": "src1"}, "_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "https://graph.example/x"}}, "groups": []string{"x"}}, want: []string{"corp:x"}},
		"too long":               {claims: map[string]any{"groups": []string{strings.Repeat("x", 257)}}, logged: "longer than 256 bytes"},
		"empty":                  {claims: map[string]any{"groups": []string{""}}, logged: "empty"},
		"a control character":    {claims: map[string]any{"groups": []string{"a\x00b"}}, logged: "not plain text"},
		"a number":               {claims: map[string]any{"groups": 5}, logged: "neither a list"},
		"a list with null":       {claims: map[string]any{"groups": []any{"a", nil}}, logged: "neither a list"},
		"a list of objects":      {claims: map[string]any{"groups": []any{map[string]any{"name": "x"}}}, logged: "neither a list"},
		"an object":              {claims: map[string]any{"groups": map[string]any{"x": true}}, logged: "neither a list"},
		"not text":               {claims: map[string]any{"groups": json.RawMessage(`["\ud800"]`)}, logged: "not plain text"},
	} {
		t.Run(name, func(t *testing.T) {
			claim := c.claim
			if claim == "" {
				claim = "groups"
			}
			w, p := newGroupWorld(t, claim)
			p.says(c.claims)
			b := w.browser()
			a := b.get(b.toProvider(b.get("/login")).String())
			if c.logged != "" {
				if a.StatusCode != 403 || !strings.Contains(a.body, "groups it names for you cannot be used") {
					t.Errorf("%d %s", a.StatusCode, a.body)
				}
				if detail := w.seen.detail(a.Header.Get("X-Request-Id")); !strings.Contains(detail, c.logged) {
					t.Errorf("the audit log has %q", detail)
				}
				if users, err := w.store.Users(t.Context(), "", 10); err != nil || len(users) != 0 {
					t.Error(users, err)
				}
				return
			}
			if a.StatusCode != 303 {
				t.Fatal(a.StatusCode, a.body)
			}
			got := w.groups("dana@corp.example")
			if name == "as many as there may" {
				c.want = got
				if len(got) != 200 {
					t.Errorf("%d groups", len(got))
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("groups %q, want %q", got, c.want)
			}
		})
	}
}

// TestGTG5_ALaterLoginReplacesGroups, also with none, and tells who follows; what was
// heard from another claim or provider counts no more.
func TestGTG5_ALaterLoginReplacesGroups(t *testing.T) {
	w, p := newGroupWorld(t, "groups")
	told := make(chan string, 10)
	w.s.Liveness().OnChange(func(user string) { told <- user })
	login := func() int {
		b := w.browser()
		return b.get(b.toProvider(b.get("/login")).String()).StatusCode
	}
	p.says(map[string]any{"groups": []string{"engineering"}})
	if login() != 303 || !slices.Equal(w.groups("dana@corp.example"), []string{"corp:engineering"}) {
		t.Fatal(w.groups("dana@corp.example"))
	}
	u, err := w.store.UserByName(t.Context(), "dana@corp.example")
	if err != nil || <-told != u.ID {
		t.Fatal(err)
	}
	h, err := w.store.Heard(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []authserver.Provider{
		{ID: "other", Issuer: p.URL, GroupsClaim: "groups"}, {ID: "corp", Issuer: "https://other.example", GroupsClaim: "groups"},
		{ID: "corp", Issuer: p.URL, GroupsClaim: "roles"}, {ID: "corp", Issuer: p.URL},
	} {
		if got := h.Names(x); got != nil {
			t.Errorf("%+v: %q", x, got)
		}
	}
	// A login that is refused leaves what there was.
	p.says(map[string]any{"groups": 5})
	if login() != 403 || len(w.groups("dana@corp.example")) != 1 {
		t.Fatal(w.groups("dana@corp.example"))
	}
	p.says(nil)
	if login() != 303 || len(w.groups("dana@corp.example")) != 0 {
		t.Fatal(w.groups("dana@corp.example"))
	}
	// Who renews a login hears the groups, too.
	p.says(map[string]any{"groups": []string{"sales"}})
	old := authserver.ProviderLogin{User: u.ID, Issuer: p.URL, Subject: "42", IDToken: "old", Refresh: "granted"}
	if _, err := w.s.RenewLogin(t.Context(), old, nil); err != nil || !slices.Equal(w.groups("dana@corp.example"), []string{"corp:sales"}) {
		t.Error(err, w.groups("dana@corp.example"))
	}
	p.says(map[string]any{"groups": []string{"a", ""}})
	if _, err := w.s.RenewLogin(t.Context(), old, nil); kidoban.KindOf(err) != kidoban.KindNotFound || !slices.Equal(w.groups("dana@corp.example"), []string{"corp:sales"}) {
		t.Error(err, w.groups("dana@corp.example"))
	}
}

// TestProvidersAreToldApart: what cannot be promised is said before the start.
func TestProvidersAreToldApart(t *testing.T) {
	for want, ps := range map[string][]authserver.Provider{
		"two login providers have the id": {{ID: "a", Issuer: "https://a", ClientID: "c"}, {ID: "a", Issuer: "https://b", ClientID: "c"}},
		"recheck must be at least 1m0s":   {{ID: "a", Issuer: "https://a", ClientID: "c", Recheck: 1}},
		"no other login provider has":     {{ID: "a", Issuer: "https://a", ClientID: "c", Recheck: 3e12}, {ID: "b", Issuer: "https://a", ClientID: "d"}},
		"groups_claim is the name":        {{ID: "a", Issuer: "https://a", ClientID: "c", GroupsClaim: strings.Repeat("x", 129)}},
	} {
		c := authserver.Config{Issuer: "https://gw.example", Login: authserver.Login{Providers: ps}}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
