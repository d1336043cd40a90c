package authtest

import (
	"html"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// Browser keeps cookies, Secure ones on loopback too, as real browsers do, and
// follows no redirect by itself. It is used from one goroutine.
type Browser struct {
	Cookies map[string]string // by name
	Header  http.Header       // goes with every request

	t    testing.TB
	base string
	http *http.Client
}

// NewBrowser returns a browser without cookies. base is put before targets that
// begin with "/".
func NewBrowser(t testing.TB, base string) *Browser {
	return &Browser{Cookies: map[string]string{}, Header: http.Header{}, t: t, base: base, http: &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Clone returns a browser with the same cookies.
func (b *Browser) Clone() *Browser {
	n := NewBrowser(b.t, b.base)
	maps.Copy(n.Cookies, b.Cookies)
	return n
}

// Do sends one request, with a form unless that is nil, and returns the answer and
// its text. header is name, value, name, value. A text of a page that was not made
// right fails the test.
func (b *Browser) Do(method, target string, form url.Values, header ...string) (*http.Response, string) {
	b.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = b.base + target
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequest(method, target, body)
	if err != nil {
		b.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	maps.Copy(r.Header, b.Header)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	for k, v := range b.Cookies {
		r.AddCookie(&http.Cookie{Name: k, Value: v})
	}
	resp, err := b.http.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if strings.Contains(string(text), "%!") || strings.Contains(string(text), "ZgotmplZ") {
		b.t.Errorf("%s %s: a text of the page was not made right: %s", method, target, text)
	}
	for _, k := range resp.Cookies() {
		if k.MaxAge < 0 {
			delete(b.Cookies, k.Name)
		} else {
			b.Cookies[k.Name] = k.Value
		}
	}
	return resp, string(text)
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)

// Hidden returns the hidden fields of a page.
func Hidden(page string) url.Values {
	v := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(page, -1) {
		v.Set(m[1], html.UnescapeString(m[2]))
	}
	return v
}
