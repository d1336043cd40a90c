package lab

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
)

// open starts the listeners in the order in which they need each other's address.
func (l *Lab) open(ctx context.Context) error {
	var conf *tls.Config
	if l.opt.TLS {
		var err error
		if conf, l.CACert, err = l.certificates(); err != nil {
			return err
		}
	}
	l.fetch = l.fetcher()
	host, _, _ := net.SplitHostPort(l.opt.Addr)
	side := net.JoinHostPort(host, "0")
	// The upstream answers to another host name than the main server: browsers keep
	// cookies by host, not by port.
	sideHost := "localhost"
	if host == "localhost" {
		sideHost = "127.0.0.1"
	}
	main, err := l.listen(l.opt.Addr, conf)
	if err != nil {
		return err
	}
	l.base = l.origin(main, "")
	if l.opt.Passkeys {
		l.base, sideHost = l.origin(main, passkeyHost), "127.0.0.1"
	}
	if l.opt.IssuerPath {
		l.asPath = "/tenant"
	}
	l.Issuer = l.base + l.asPath
	l.MCPURL = l.base + l.mcpPath()
	l.SecondURL = l.base + "/second/mcp"
	type server struct {
		name string
		h    func() http.Handler
		to   *string
		host string
	}
	servers := []server{{"cloud", l.cloudHandler, &l.CloudURL, ""}}
	if l.opt.Upstream {
		servers = append(servers, server{"upstream", l.idpHandler, &l.UpstreamURL, sideHost})
	}
	if l.opt.Profile == profileNoise {
		servers = append(servers, server{"noise", l.noiseHandler, &l.noise, sideHost})
	}
	if l.on("E29-b") {
		servers = append(servers, server{"plain", l.plainHandler, &l.plain, ""})
	}
	for _, s := range servers {
		conf := conf
		if s.name == "plain" {
			conf = nil
		}
		ln, err := l.listen(side, conf)
		if err != nil {
			main.Close()
			return err
		}
		*s.to = l.origin(ln, s.host)
		if conf == nil {
			*s.to = strings.Replace(*s.to, "https://", "http://", 1)
		}
		l.serve(ctx, s.name, ln, s.h())
	}
	l.CloudURL += cloudPath
	l.seedClients()
	l.serve(ctx, "main", main, l.mainHandler())
	return nil
}

// listen opens a listener; with conf it speaks TLS, and plain http only where the
// switch for it is on.
func (l *Lab) listen(addr string, conf *tls.Config) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "cannot listen on %s; choose another --addr", addr)
	}
	if conf == nil {
		return ln, nil
	}
	if l.on("E29-a") {
		return &eitherListener{Listener: ln, conf: conf}, nil
	}
	return tls.NewListener(ln, conf), nil
}

// origin is the scheme, host and port under which ln is reached; host overrides
// the address.
func (l *Lab) origin(ln net.Listener, host string) string {
	ip, port, _ := net.SplitHostPort(ln.Addr().String())
	if host == "" {
		host = ip
	}
	scheme := "http"
	if l.opt.TLS {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// serve runs h on ln until Close or the end of ctx.
func (l *Lab) serve(ctx context.Context, name string, ln net.Listener, h http.Handler) {
	if l.opt.Front != nil {
		h = l.opt.Front(name, h)
	}
	srv := &http.Server{
		Handler:           l.logged(name, h),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // streams lift it for themselves
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          log.New(io.Discard, "", 0), // broken handshakes are what the probes are for
	}
	l.servers = append(l.servers, srv)
	l.wg.Add(2)
	go func() { defer l.wg.Done(); srv.Serve(ln) }()
	go func() { defer l.wg.Done(); <-ctx.Done(); srv.Close() }()
}

// logged notes each request in the access log before it is answered.
func (l *Lab) logged(name string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := Access{Time: l.now(), Server: name, Host: r.Host, Method: r.Method, Path: r.URL.Path, UserAgent: r.UserAgent()}
		l.mu.Lock()
		if len(l.log) >= maxLog {
			l.log = l.log[1:]
		}
		l.log = append(l.log, a)
		l.mu.Unlock()
		h.ServeHTTP(w, r)
	})
}

// certificates makes an authority and one server certificate for loopback names.
func (l *Lab) certificates() (*tls.Config, []byte, error) {
	fail := func(err error) (*tls.Config, []byte, error) {
		return nil, nil, kidoban.Wrap(kidoban.KindInternal, err, "cannot make the lab's certificates")
	}
	caKey, err := newSigningKey()
	if err != nil {
		return fail(err)
	}
	now := l.now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kidoban lab authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return fail(err)
	}
	leafKey, err := newSigningKey()
	if err != nil {
		return fail(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	l.weakenTLS(conf)
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, caKey)
	if err != nil {
		return fail(err)
	}
	conf.Certificates = []tls.Certificate{{Certificate: [][]byte{leafDER, caDER}, PrivateKey: leafKey}}
	return conf, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), nil
}

// weakenTLS applies the switches of the transport to the server's configuration.
func (l *Lab) weakenTLS(conf *tls.Config) {
	if l.on("E29-c") {
		conf.MinVersion = tls.VersionTLS10
	}
}

// newSigningKey makes a P-256 key. Keys come from crypto/rand even where
// Options.Rand is fixed: the standard library mixes its own randomness in.
func newSigningKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return key, kidoban.Wrap(kidoban.KindInternal, err, "cannot make a key")
}

// eitherListener answers TLS and plain http on one port: the first byte of a TLS
// connection is 22.
type eitherListener struct {
	net.Listener
	conf *tls.Config
}

// Accept returns a connection once it has said what it speaks. A silent peer holds
// the next one up for a second, which one switch of a lab can afford.
func (e *eitherListener) Accept() (net.Conn, error) {
	c, err := e.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.SetReadDeadline(time.Now().Add(time.Second))
	br := bufio.NewReader(c)
	first, _ := br.Peek(1)
	c.SetReadDeadline(time.Time{})
	pc := &peeked{Conn: c, r: br}
	if len(first) == 1 && first[0] == 22 {
		return tls.Server(pc, e.conf), nil
	}
	return pc, nil
}

// peeked is a connection whose first byte was looked at and put back.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }
