package outbound

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"

	"github.com/kidoban/kidoban"
)

// tlsConfig returns the configuration for a connection to host; "" leaves the
// name to the transport.
func (c *Client) tlsConfig(host string) *tls.Config {
	cfg := &tls.Config{ServerName: host, RootCAs: c.o.RootCAs, MinVersion: tls.VersionTLS12}
	if c.o.InsecureTLSProbe {
		cfg.InsecureSkipVerify = true
		cfg.MinVersion = tls.VersionTLS10
		cfg.MaxVersion = c.o.ProbeTLSMax
	}
	return cfg
}

// tlsInfo keeps what the audit needs of a connection to host; nil without TLS.
func (c *Client) tlsInfo(s *tls.ConnectionState, host string) *kidoban.TLSInfo {
	if s == nil {
		return nil
	}
	info := &kidoban.TLSInfo{Version: s.Version, Verified: len(s.VerifiedChains) > 0}
	if len(s.PeerCertificates) == 0 {
		return info
	}
	leaf := s.PeerCertificates[0]
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	info.SPKI = hex.EncodeToString(sum[:])
	if c.o.InsecureTLSProbe {
		inter := x509.NewCertPool()
		for _, cert := range s.PeerCertificates[1:] {
			inter.AddCert(cert)
		}
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: c.o.RootCAs, Intermediates: inter, CurrentTime: c.o.Now()})
		info.Verified = err == nil
	}
	return info
}
