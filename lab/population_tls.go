package lab

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"strconv"
	"strings"
	"time"
)

// A population over TLS: every server has a certificate of the population's own
// authority, made when it is asked for. Second instances of a server have its
// key, as real ones often do, so a census can tell that they are one deployment.

// key is the key of everything named what in this population. It follows from
// the seed, so that the truth can name it and nothing is kept.
func (p *Population) key(what string) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Appendf(nil, "population %d %s", p.opts.Seed, what))
	return ed25519.NewKeyFromSeed(seed[:])
}

// serverKey is the key of a server: that of the one it is an instance of.
func (p *Population) serverKey(s popServer) ed25519.PrivateKey {
	return p.key("server " + strconv.Itoa(s.twin))
}

// certKey is what a census calls the key of a server: SHA-256 of its
// SubjectPublicKeyInfo, "" without TLS.
func (p *Population) certKey(s popServer) string {
	if !p.opts.TLS {
		return ""
	}
	spki, err := x509.MarshalPKIXPublicKey(p.serverKey(s).Public())
	if err != nil {
		panic("lab: an ed25519 key cannot be encoded: " + err.Error()) // it always can
	}
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

func (p *Population) authority() *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "population of the lab"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 1, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
}

// WriteCA writes the certificate of the population's authority as PEM.
func (p *Population) WriteCA(w io.Writer) error {
	ca, key := p.authority(), p.key("authority")
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return err
	}
	return pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// secure wraps the listener. HTTP/1.1 alone: some servers break connections off.
func (p *Population) secure(l net.Listener) net.Listener {
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return p.certificate(h.ServerName) }})
}

// certificate makes the certificate for a name of the population.
func (p *Population) certificate(name string) (*tls.Certificate, error) {
	label, rest, _ := strings.Cut(strings.ToLower(name), ".")
	if rest != "pop.localhost" {
		return nil, fmt.Errorf("no certificate for %q", name)
	}
	key := p.key("issuer " + label)
	if n, err := strconv.Atoi(strings.TrimPrefix(label, "s")); err == nil && label[0] == 's' && n >= 0 && n < p.opts.N {
		key = p.serverKey(p.server(n))
	}
	ca := p.authority()
	leaf := &x509.Certificate{SerialNumber: new(big.Int).SetBytes([]byte(label)), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), p.key("authority"))
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// CA is the authority's certificate as PEM, for those who keep it in memory.
func (p *Population) CA() ([]byte, error) {
	var b bytes.Buffer
	err := p.WriteCA(&b)
	return b.Bytes(), err
}
