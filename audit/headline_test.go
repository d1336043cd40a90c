package audit_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
)

// meeting is an address that is no server to grade, and what a stranger is told.
type meeting struct {
	target   string
	change   func(*audit.Options)
	headline string
	class    audit.Class
	says     []string // what the sentence holds: what, where, what to do
	cause    string   // what the operator finds besides
}

// certificate signs a certificate for 127.0.0.1 or for names; a nil authority makes
// it sign itself.
func certificate(t *testing.T, from, to time.Time, authority *tls.Certificate, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: strings.Join(append(names, "kidoban test"), " ")}, NotBefore: from, NotAfter: to, DNSNames: names,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if len(names) == 0 {
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	by, signer := c, any(key)
	if authority == nil {
		c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign
	} else {
		by, signer = authority.Leaf, authority.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// over serves a page over TLS with a certificate and returns its MCP address.
func over(t *testing.T, c tls.Certificate) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused certificates are what is tested
	s.TLS = &tls.Config{Certificates: []tls.Certificate{c}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL + "/mcp"
}

// closed is an address on which nothing listens.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String() + "/mcp"
}

func status(t *testing.T, code int, kind, body string, more ...string) string {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		for i := 0; i+1 < len(more); i += 2 {
			w.Header().Set(more[i], more[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, body)
	})
}

// TestStrangersAreToldWhatToDo: whatever somebody meets first in place of a server,
// the headline says in plain words what it is, where, and what to do; what the system
// said is kept for operators.
func TestStrangersAreToldWhatToDo(t *testing.T) {
	hour := time.Now().Add(time.Hour)
	authority := certificate(t, time.Now().Add(-time.Hour), hour, nil, "authority")
	trust := func(c tls.Certificate) func(*audit.Options) {
		return func(o *audit.Options) {
			o.RootCAs = x509.NewCertPool()
			o.RootCAs.AddCert(c.Leaf)
		}
	}
	resolve := func(f func() ([]netip.Addr, error)) func(*audit.Options) {
		return func(o *audit.Options) {
			o.Lab, o.Resolve = false, func(context.Context, string) ([]netip.Addr, error) { return f() }
			o.Spacing = time.Nanosecond
		}
	}
	plain := status(t, 200, "text/html", "<h1>hello</h1>")
	redirect := func(to string) string {
		return serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) })
	}
	for name, m := range map[string]meeting{
		"nothing listens": {closed(t), nil, kidoban.HeadlineUnreachable, audit.Dead, []string{"127.0.0.1 did not accept a connection on port ", "nothing listens there; start the server"}, "connection refused"},
		"no such name": {"https://mcp.example.com/mcp", resolve(func() ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "mcp.example.com", IsNotFound: true}
		}), kidoban.HeadlineUnreachable, audit.Dead, []string{"mcp.example.com could not be resolved", "no such host; check the spelling"}, "no such host"},
		"no name server": {"https://mcp.example.com/mcp", resolve(func() ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "i/o timeout", Name: "mcp.example.com", IsTimeout: true}
		}), kidoban.HeadlineUnreachable, audit.Dead, []string{"no name server answers this machine", "network"}, "timeout"},
		"a private address": {"https://mcp.example.com/mcp", resolve(func() ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("10.0.0.7")}, nil
		}), kidoban.HeadlineUnreachable, audit.Dead, []string{"private"}, "10.0.0.7"},

		"expired":            {over(t, certificate(t, hour.AddDate(-1, 0, 0), hour.AddDate(0, 0, -2), &authority)), trust(authority), kidoban.HeadlineUnreachable, audit.Dead, []string{"certificate of 127.0.0.1 expired on 20", "renew it"}, "expired"},
		"not yet good":       {over(t, certificate(t, hour.AddDate(0, 0, 2), hour.AddDate(1, 0, 0), &authority)), trust(authority), kidoban.HeadlineUnreachable, audit.Dead, []string{"is good from 20", "clock"}, "x509"},
		"another host":       {over(t, certificate(t, time.Now().Add(-time.Hour), hour, &authority, "other.example")), trust(authority), kidoban.HeadlineUnreachable, audit.Dead, []string{"certificate that 127.0.0.1 shows is for other.example", "check the host name"}, "x509"},
		"signed by itself":   {over(t, certificate(t, time.Now().Add(-time.Hour), hour, nil)), nil, kidoban.HeadlineUnreachable, audit.Dead, []string{"signed by itself", "name it as trusted"}, "x509"},
		"a strange issuer":   {over(t, certificate(t, time.Now().Add(-time.Hour), hour, &authority)), nil, kidoban.HeadlineUnreachable, audit.Dead, []string{"nobody whom this machine trusts", "authority is yours"}, "x509"},
		"TLS to plain http":  {strings.Replace(plain, "http:", "https:", 1), nil, kidoban.HeadlineUnreachable, audit.Dead, []string{"does not speak TLS on this port", "http://"}, "tls"},
		"plain http to TLS":  {strings.Replace(over(t, authority), "https:", "http:", 1), nil, kidoban.HeadlineNotMCP, audit.NotMCP, []string{"this port speaks TLS", "write https://"}, ""},
		"something not HTTP": {greeter(t), nil, kidoban.HeadlineUnreachable, audit.Dead, []string{"something that is not HTTP", "check the port"}, "malformed"},

		"a page":        {plain, nil, kidoban.HeadlineNotMCP, audit.NotMCP, []string{"a web page for people", "check the path"}, ""},
		"nothing there": {status(t, 404, "text/plain", "no"), nil, kidoban.HeadlineNotMCP, audit.NotMCP, []string{"nothing at this path (status 404)", "/mcp"}, ""},
		"a login":       {redirect("https://sso.example/login?next=/mcp"), nil, kidoban.HeadlineMoved, audit.NotMCP, []string{"login for people", "status 401"}, ""},
		"elsewhere":     {redirect("https://new.example/mcp"), nil, kidoban.HeadlineMoved, audit.NotMCP, []string{"audit it at that address"}, ""},
		"a proxy":       {status(t, 407, "text/html", "who are you?", "Proxy-Authenticate", "Basic"), nil, kidoban.HeadlineNotMCP, audit.NotMCP, []string{"proxy on the way wants a login", "407"}, ""},
		"bad gateway":   {status(t, 502, "text/html", "<h1>502 Bad Gateway</h1>"), nil, kidoban.HeadlineUnreachable, audit.Unstable, []string{"the server behind it does not (status 502)", "start that server"}, ""},
		"unavailable":   {status(t, 503, "text/html", "no"), nil, kidoban.HeadlineUnreachable, audit.Unstable, []string{"status 503", "later"}, ""},
		"it fails":      {status(t, 500, "text/plain", "oops"), nil, kidoban.HeadlineUnreachable, audit.Unstable, []string{"fails at whatever it is asked (status 500)", "log"}, ""},
		"limits":        {status(t, 429, "text/plain", "slow down"), nil, kidoban.HeadlineUnreachable, audit.Unstable, []string{"limits its callers (status 429)", "later"}, ""},
		"a firewall":    {status(t, 403, "text/html", "no", "Cf-Mitigated", "challenge"), nil, kidoban.HeadlineUnreachable, audit.OtherAuth, []string{"firewall", "lets through"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := audit.Options{Lab: true, StateDir: t.TempDir()}
			if m.change != nil {
				m.change(&o)
			}
			r, err := audit.Run(t.Context(), o, m.target)
			if err != nil {
				t.Fatal(err)
			}
			x := r.Target
			if x.Headline != m.headline || x.Class != string(m.class) {
				t.Errorf("%s, class %s: %s", x.Headline, x.Class, x.Detail)
			}
			for _, want := range m.says {
				if !strings.Contains(x.Detail, want) {
					t.Errorf("%q lacks %q", x.Detail, want)
				}
			}
			for _, jargon := range []string{"dial tcp", "x509:", "tls:", "lookup ", "EOF", "connection refused"} {
				if strings.Contains(x.Detail, jargon) {
					t.Errorf("%q is for programmers", x.Detail)
				}
			}
			if !strings.Contains(x.Cause, m.cause) || m.cause == "" && x.Cause != "" {
				t.Errorf("the cause is %q, want %q", x.Cause, m.cause)
			}
		})
	}
}

// greeter speaks first, as mail servers do.
func greeter(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			c.Read(buf)
			io.WriteString(c, "220 mail.example ESMTP\r\n")
			c.Close()
		}
	}()
	return "http://" + l.Addr().String() + "/mcp"
}
