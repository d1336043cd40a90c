package authserver

import (
	"context"
	"crypto/rand"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kidoban/kidoban/oauth"
)

// TestGRG4_PropertyDisguises: whatever an attacker can change of a URL without
// leaving his host and path stays under the ban.
func TestGRG4_PropertyDisguises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		label := rapid.StringMatching(`[a-z][a-z0-9]{0,8}`)
		host := label.Draw(t, "a") + "." + label.Draw(t, "b") + ".example"
		path := "/" + label.Draw(t, "p") + "/" + label.Draw(t, "q")
		s := &Server{}
		banned, err := canonicalDeny(DenyURL, "https://"+host+path)
		if err != nil {
			t.Fatal(err)
		}
		s.deny.entries.Store(&[]Deny{{ID: "d", Kind: DenyURL, Pattern: banned}})
		escape := func(in string) string {
			var b strings.Builder
			for i := 0; i < len(in); i++ {
				switch rapid.IntRange(0, 4).Draw(t, "how") {
				case 0:
					b.WriteString(strings.ToUpper(in[i : i+1]))
				case 1:
					if in[i] != '/' {
						b.WriteString("%" + strings.ToUpper(hexByte(in[i])))
						continue
					}
					b.WriteByte(in[i])
				default:
					b.WriteByte(in[i])
				}
			}
			return b.String()
		}
		disguise := rapid.SampledFrom([]string{"https://", "http://"}).Draw(t, "scheme") + mixCase(t, host) +
			rapid.SampledFrom([]string{"", ".", ":443", ":8443", ".:1"}).Draw(t, "port") + escape(path) +
			rapid.SampledFrom([]string{"", "/", "/more", "/./x", "?a=b", ";v=1", "//"}).Draw(t, "tail")
		if s.deniedRedirect(disguise) == nil {
			t.Fatalf("%s hides %s", disguise, banned)
		}
		if s.deniedRedirect("https://"+host+path+"x") != nil || s.deniedRedirect("https://x"+host+path) != nil {
			t.Fatal("a neighbour is banned")
		}
	})
}

func hexByte(b byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[b>>4], digits[b&15]})
}

func mixCase(t *rapid.T, s string) string {
	var b strings.Builder
	for _, r := range s {
		if rapid.Bool().Draw(t, "up") {
			b.WriteString(strings.ToUpper(string(r)))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// TestGAS5_PropertySuccessor: only the presented token opens its successor.
func TestGAS5_PropertySuccessor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		token, other := newToken(rand.Reader, prefixRefresh), newToken(rand.Reader, prefixRefresh)
		successor := rapid.StringN(1, 60, 100).Draw(t, "successor")
		sealed, err := sealSuccessor(rand.Reader, token, successor)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := openSuccessor(token, sealed); err != nil || got != successor {
			t.Fatal(got, err)
		}
		if _, err := openSuccessor(other, sealed); err == nil {
			t.Fatal("another token opened it")
		}
		sealed[rapid.IntRange(0, len(sealed)-1).Draw(t, "i")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bit"))
		if _, err := openSuccessor(token, sealed); err == nil {
			t.Fatal("a changed one opened")
		}
	})
}

// TestGAS1_PropertyRedirectURL: the client reads back exactly what it sent and
// what we answer, whatever stands in state and redirect URI.
func TestGAS1_PropertyRedirectURL(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &Server{}
		c := &call{policy: &policy{Config: Config{Issuer: "https://as.example"}}}
		redirect := "http://127.0.0.1:7/cb" + rapid.SampledFrom([]string{"", "?a=b", "?a=b&state=mine", "?"}).Draw(t, "query")
		state := rapid.String().Draw(t, "state")
		u, err := url.Parse(s.redirectURL(c, redirect, url.Values{"code": {"x"}}, state))
		if err != nil || !strings.HasPrefix(u.String(), redirect) {
			t.Fatal(u, err)
		}
		q := u.Query()
		last := q["state"]
		if q.Get("iss") != "https://as.example" || q.Get("code") != "x" || state != "" && last[len(last)-1] != state {
			t.Fatal(q)
		}
	})
}

// FuzzTicket: no sealed value of one purpose opens for another, and nothing made
// up opens at all.
func FuzzTicket(f *testing.F) {
	now := func() time.Time { return time.Unix(1_800_000_000, 0) }
	// A fixed nonce: every process of the fuzzer makes the same good ticket.
	b, err := newBox(make([]byte, 32), strings.NewReader(strings.Repeat("n", 12)), now)
	if err != nil {
		f.Fatal(err)
	}
	good, err := b.seal(purposeConsent, consentTicket{Values: "a=b"}, time.Minute)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, sealed string) {
		var v consentTicket
		if b.open(purposeLogin, sealed, &v) == nil {
			t.Fatal("a ticket opened for another purpose")
		}
		if err := b.open(purposeConsent, sealed, &v); err == nil && sealed != good {
			t.Fatal("a made-up ticket opened")
		}
	})
}

// FuzzForm: whatever is sent, a parameter stands there once and holds no NUL.
func FuzzForm(f *testing.F) {
	f.Add("a=1&b=2")
	f.Add("a=1&a=2")
	f.Add("%zz")
	f.Add("a=%00")
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.RawQuery = query
		v, err := form(r)
		if err != nil {
			return
		}
		for name, values := range v {
			if len(values) > 1 && name != "resource" && name != "scope_choice" {
				t.Fatalf("%q stands there %d times", name, len(values))
			}
			for _, x := range values {
				if strings.ContainsRune(x, 0) {
					t.Fatal("a NUL")
				}
			}
		}
	})
}

// FuzzRegistration: no registration that is accepted has a redirect URI, a name
// or a grant that policy forbids.
func FuzzRegistration(f *testing.F) {
	f.Add(`{"redirect_uris":["http://127.0.0.1/cb"],"client_name":"x"}`)
	f.Add(`{"redirect_uris":["https://a.example/cb","javascript:x"],"client_name":"\u202e"}`)
	f.Add(`{"redirect_uris":["cursor://x/y"],"grant_types":["authorization_code","password"],"jwks":{"keys":[]}}`)
	s := &Server{}
	s.deny.entries.Store(&[]Deny{{ID: "d", Kind: DenyHost, Pattern: "evil.example"}})
	p := &policy{Config: Config{Issuer: "https://as.example", Registration: Registration{RemoteHosts: []string{"*"}}}.withDefaults()}
	f.Fuzz(func(t *testing.T, body string) {
		m, err := oauth.ParseClientMetadata([]byte(body))
		if err != nil || s.checkMetadata(p, &m, ClientDCR, "") != nil {
			return
		}
		for _, u := range m.RedirectURIs {
			parsed, err := url.Parse(u)
			if err != nil || parsed.Fragment != "" || parsed.User != nil || oauth.IsDangerousScheme(parsed.Scheme) || under(canonicalHost(parsed.Hostname()), "evil.example") ||
				parsed.Scheme == "http" && !isLoopbackName(parsed.Hostname()) {
				t.Fatalf("accepted %q", u)
			}
		}
		if len(m.RedirectURIs) == 0 || len(m.RedirectURIs) > maxRedirects || !plainText(m.ClientName) || m.Extra != nil {
			t.Fatal("a bound was passed")
		}
		for _, g := range m.GrantTypes {
			if g != grantCode && g != grantRefresh {
				t.Fatalf("grant %q", g)
			}
		}
	})
}

// TestPasswordHash: the same password verifies, others do not, and nobody's
// password takes the same way.
func TestPasswordHash(t *testing.T) {
	h := &hasher{slots: make(chan struct{}, 1)}
	phc, err := h.hash(context.Background(), rand.Reader, "pässword pässword")
	if err != nil || !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatal(phc, err)
	}
	for password, want := range map[string]bool{"pässword pässword": true, "pa\u0308ssword pa\u0308ssword": true, "passwort": false, "": false} {
		if ok, err := h.verify(context.Background(), phc, password); ok != want || err != nil {
			t.Errorf("%q: %v %v", password, ok, err)
		}
	}
	if ok, err := h.verify(context.Background(), "", ""); ok || err != nil {
		t.Fatal("nobody logged in")
	}
	for _, broken := range []string{"x", "$argon2id$v=19$m=99999999,t=2,p=1$AAAA$AAAA", "$argon2id$v=19$m=1,t=2,p=1$AAAA$"} {
		if ok, err := h.verify(context.Background(), broken, "x"); ok || err == nil {
			t.Errorf("%q passed", broken)
		}
	}
}
