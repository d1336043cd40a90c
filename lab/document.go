package lab

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// document is a fetched client metadata document.
type document struct {
	client  *client
	expires time.Time
}

// Bounds of client documents (draft-ietf-oauth-client-id-metadata-document).
const (
	maxDocument     = 5 << 10
	documentTimeout = 5 * time.Second
	documentTTL     = 30 * time.Second
)

// documentClient fetches the client document at id. Anything that is not exactly a
// good document gives nil; failures are not remembered.
func (l *Lab) documentClient(id string) *client {
	if l.checkDocumentURL(id) != nil {
		return nil
	}
	l.mu.Lock()
	if d := l.st.docs[id]; d != nil && l.now().Before(d.expires) {
		l.mu.Unlock()
		return d.client
	}
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), documentTimeout)
	defer cancel()
	c, err := l.fetchDocument(ctx, id)
	if err != nil && !l.on("E16-i") {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.st.docs) < maxEntries {
		ttl := documentTTL
		if err == nil && l.opt.LoopbackDocuments {
			ttl = 0 // canaries change their documents between two looks
		}
		l.st.docs[id] = &document{c, l.now().Add(ttl)}
	}
	return c
}

// checkDocumentURL applies the rules for client identifier URLs to the raw string,
// before any parser may tidy it up.
func (l *Lab) checkDocumentURL(id string) error {
	if l.on("E16-b") {
		return nil
	}
	if err := plainURI(id); err != nil {
		return err
	}
	u, err := url.Parse(id)
	if err != nil {
		return err
	}
	lower := strings.ToLower(id)
	loopback := l.opt.LoopbackDocuments && u.Scheme == "http" && u.Hostname() != "" && isLoopbackAddr(u.Hostname())
	switch {
	case u.Scheme != "https" && !loopback:
		return errors.New("a client document lives at an https address")
	case u.User != nil || strings.ContainsAny(id, "#@\\"):
		return errors.New("a client document's address has no user information and no fragment")
	case u.Path == "" || u.Path == "/":
		return errors.New("a client document's address has a path")
	case strings.Contains(lower, "%2e") || strings.Contains(u.Path, "/./") || strings.Contains(u.Path, "/../") || strings.HasSuffix(u.Path, "/..") || strings.HasSuffix(u.Path, "/."):
		return errors.New("a client document's address has no dot segments")
	case u.Scheme == "https" && !loopback && l.aliasHost(u):
		return errors.New("a client document's host is written plainly: lower case, no port, no trailing dot, no address")
	}
	return nil
}

// isLoopbackAddr tells whether a URL's host is loopback by name or by number, in any
// spelling that net/netip reads.
func isLoopbackAddr(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// aliasHost tells whether a host is spelt in a way that could slip past a list of
// host names.
func (l *Lab) aliasHost(u *url.URL) bool {
	h := u.Host
	if l.opt.LoopbackDocuments && isLoopbackAddr(u.Hostname()) {
		return false
	}
	_, err := netip.ParseAddr(strings.Trim(u.Hostname(), "[]"))
	return h != strings.ToLower(h) || strings.HasSuffix(h, ".") || strings.Contains(h, "%") || u.Port() != "" || err == nil
}

// fetchDocument gets a document: status 200, a JSON type, at most 5 kB, no
// redirects, no cookies.
func (l *Lab) fetchDocument(ctx context.Context, id string) (*client, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, id, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "kidoban-lab")
	res, err := l.fetch.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK && !l.on("E16-d") {
		return nil, errors.New("the answer is not 200")
	}
	ct, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	ct = strings.ToLower(strings.TrimSpace(ct))
	if ct != "application/json" && !(strings.HasPrefix(ct, "application/") && strings.HasSuffix(ct, "+json")) && !l.on("E16-h") {
		return nil, errors.New("the document is not JSON by its type")
	}
	limit := int64(maxDocument)
	if l.on("E16-e") {
		limit = 4 << 20
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil || int64(len(body)) > limit {
		return nil, errors.New("the document is too large or broke off")
	}
	return l.clientOfDocument(id, body)
}

// clientOfDocument validates a document that was served for id.
func (l *Lab) clientOfDocument(id string, body []byte) (*client, error) {
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil || m == nil {
		return nil, errors.New("the document is not a JSON object")
	}
	if self, _ := m["client_id"].(string); self != id && !l.on("E16-a") {
		return nil, errors.New("the document names another client_id")
	}
	method, _ := m["token_endpoint_auth_method"].(string)
	_, hasSecret := m["client_secret"]
	if (hasSecret || strings.HasPrefix(method, "client_secret")) && !l.on("E16-f") {
		return nil, errors.New("a document cannot hold a secret")
	}
	if !slices.Contains([]string{"", "none"}, method) && !l.on("E16-f") {
		return nil, errors.New("this server knows documents of public clients only")
	}
	m["token_endpoint_auth_method"] = "none"
	if name, _ := m["client_name"].(string); name == "" {
		return nil, errors.New("the document has no client_name")
	}
	uris, ok := stringList(m["redirect_uris"])
	if !ok || len(uris) == 0 || len(uris) > maxRedirects {
		return nil, errors.New("the document has no redirect_uris")
	}
	if !l.documentRedirects(id, uris) {
		return nil, errors.New("a redirect_uri of the document is neither loopback nor on the client's own host")
	}
	if l.on("E16-n") { // kept without a look
		for _, name := range []string{"client_uri", "logo_uri"} {
			delete(m, name)
		}
	}
	m["redirect_uris"] = []any{"http://127.0.0.1/placeholder"} // checked above by the document rule
	c, f := l.clientFrom(m)
	if f != nil {
		return nil, errors.New(f.text)
	}
	sum := sha256.Sum256(body)
	c.id, c.redirects, c.document, c.docHash = id, uris, true, hex.EncodeToString(sum[:])
	return c, nil
}

// documentRedirects accepts loopback redirects, https on the document's own host
// and the trusted hosts: a document speaks for its own host and no other.
func (l *Lab) documentRedirects(id string, uris []string) bool {
	doc, _ := url.Parse(id)
	for _, raw := range uris {
		u, err := url.Parse(raw)
		own := err == nil && plainURI(raw) == nil && u.User == nil && !strings.Contains(raw, "#") && u.Host == doc.Host && u.Scheme == doc.Scheme
		if !own && l.checkRedirect(raw) != nil {
			return false
		}
	}
	return true
}

// fetcher is the HTTP client for strangers' addresses: no redirects, no proxy, and
// a look at the address that is really dialled.
func (l *Lab) fetcher() *http.Client {
	pool, _ := x509.SystemCertPool()
	if pool == nil {
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(l.CACert)
	d := &net.Dialer{Timeout: documentTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		ip, err := netip.ParseAddr(host)
		if err != nil || !l.mayDial(ip.Unmap()) {
			return errors.New("the address is not one that may be dialled for a stranger")
		}
		return nil
	}}
	return &http.Client{
		Timeout:   documentTimeout,
		Transport: &http.Transport{DialContext: d.DialContext, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			if l.on("E16-c") {
				return nil
			}
			return http.ErrUseLastResponse
		},
	}
}

// mayDial tells whether an address may be dialled for a stranger. A lab sends nothing
// beyond loopback; there, the canary's 127.0.0.1 stands for the public internet and
// every other address for one that must not be dialled.
func (l *Lab) mayDial(ip netip.Addr) bool {
	return l.opt.LoopbackDocuments && ip == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || l.on("E16-k") && ip.IsLoopback()
}
