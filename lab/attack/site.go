package attack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"html/template"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// site is a web site on loopback that takes OAuth callbacks: the attacker's, or
// that of the victim's own program.
type site struct {
	addr   string // 127.0.0.1:port
	server *http.Server
	done   chan struct{}

	mu  sync.Mutex
	got []url.Values // queries that held a code; guarded by mu
}

var landedPage = template.Must(template.New("landed").Parse(`<!doctype html><meta charset="utf-8"><title>{{.Title}}</title>
<body style="font:18px system-ui;margin:3rem auto;max-width:36rem"><h1 id="landed">{{.Title}}</h1><p>{{.Text}}</p>`))

// openSite listens. title and text are what its page says to somebody who lands
// there. With tls it is https under a certificate nobody knows.
func openSite(title, text string, secure bool) (*site, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the attack's web site cannot listen on loopback")
	}
	s := &site{addr: l.Addr().String(), done: make(chan struct{})}
	if secure {
		cert, err := certificate()
		if err != nil {
			l.Close()
			return nil, err
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	}
	s.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("code") != "" {
			s.mu.Lock()
			s.got = append(s.got, r.URL.Query())
			s.mu.Unlock()
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = landedPage.Execute(w, map[string]string{"Title": title, "Text": text}) // the browser may have gone
	})}
	go func() { defer close(s.done); _ = s.server.Serve(l) }()
	return s, nil
}

func (s *site) close() {
	_ = s.server.Close()
	<-s.done
}

// codes returns the callbacks with a code that have come so far.
func (s *site) codes() []url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]url.Values(nil), s.got...)
}

func certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, kidoban.Wrap(kidoban.KindInternal, err, "no key for the attack's web site")
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "attack"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), DNSNames: []string{"*.example"}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, kidoban.Wrap(kidoban.KindInternal, err, "no certificate for the attack's web site")
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
