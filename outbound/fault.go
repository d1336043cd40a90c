package outbound

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kidoban/kidoban"
)

// told parts err into the sentence for the person in front and what the system said.
// Addresses are left out of the latter: the local port changes from time to time.
func told(err error) (sentence, cause string) {
	var ke *kidoban.Error
	if !errors.As(err, &ke) {
		return err.Error(), ""
	}
	if ke.Cause == nil {
		return ke.Sentence, ""
	}
	var op *net.OpError
	if errors.As(ke.Cause, &op) && op.Err != nil {
		return ke.Sentence, op.Op + " " + op.Net + ": " + op.Err.Error()
	}
	return ke.Sentence, ke.Cause.Error()
}

// progress knows how far an exchange came, to explain its failure.
type progress struct {
	connected atomic.Bool
	limit     time.Duration
	host      string
}

// explain turns err into a *kidoban.Error. parent and own are the errors of the
// caller's context and of the exchange's.
func (p *progress) explain(err, parent, own error) error {
	var ke *kidoban.Error
	var cert *tls.CertificateVerificationError
	var rec tls.RecordHeaderError
	var alert tls.AlertError
	text := err.Error()
	switch {
	case parent != nil:
		return kidoban.Wrap(kidoban.KindUnreachable, err, "the exchange with %s was cancelled", p.host)
	case own != nil && !p.connected.Load():
		return kidoban.Wrap(kidoban.KindUnreachable, err, "%s did not accept a connection within %s: check host and port; a firewall may be in the way", p.host, p.limit)
	case own != nil:
		return kidoban.Wrap(kidoban.KindLimit, err, "%s did not finish its answer within %s", p.host, p.limit)
	case errors.As(err, &ke):
		return ke
	case errors.As(err, &cert):
		return kidoban.Wrap(kidoban.KindUnreachable, err, "%s", distrust(p.host, cert))
	case errors.As(err, &rec):
		return kidoban.Wrap(kidoban.KindUnreachable, err, "%s does not speak TLS on this port: check the port; a server of this machine may want http:// instead of https://", p.host)
	case errors.As(err, &alert), strings.Contains(text, "remote error: tls:"):
		return kidoban.Wrap(kidoban.KindUnreachable, err, "%s refused the TLS connection: it may want a client certificate, or another name or version of TLS", p.host)
	case strings.Contains(text, "response headers exceeded") || strings.Contains(text, "header list larger"):
		return kidoban.Wrap(kidoban.KindLimit, err, "the response header of %s is larger than the bound", p.host)
	case strings.Contains(text, "malformed HTTP"):
		return kidoban.Wrap(kidoban.KindUnreachable, err, "%s answers on this port with something that is not HTTP: check the port, and whether it wants https://", p.host)
	}
	return kidoban.Wrap(kidoban.KindUnreachable, err, "the exchange with %s broke off", p.host)
}

// distrust says what is wrong with a certificate, and what ends it.
func distrust(host string, err *tls.CertificateVerificationError) string {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err.Err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		c := invalid.Cert
		what := "expired on " + c.NotAfter.UTC().Format(time.DateOnly) + ": renew it"
		if strings.Contains(invalid.Detail, "before") { // "current time … is before …"
			what = "is good from " + c.NotBefore.UTC().Format(time.DateOnly) + " on only: check this machine's clock"
		}
		return "the TLS certificate of " + host + " " + what
	case errors.As(err.Err, &name):
		return "the TLS certificate that " + host + " shows is for " + names(name.Certificate) + ": check the host name, or let the certificate name it"
	case errors.As(err.Err, &authority):
		if c := authority.Cert; c != nil && len(err.UnverifiedCertificates) == 1 && c.CheckSignatureFrom(c) == nil || c != nil && c.Issuer.String() == c.Subject.String() {
			return "the TLS certificate of " + host + " is signed by itself, so anybody could have made it: if it is yours, name it as trusted"
		}
		return "the TLS certificate of " + host + " is signed by nobody whom this machine trusts: if the authority is yours, name its certificate as trusted; else the server may leave out the certificates between"
	}
	return "the TLS certificate of " + host + " was not accepted"
}

// names lists whom a certificate is for: three at most, without what a stranger
// could write there to mislead a reader.
func names(c *x509.Certificate) string {
	var out []string
	for _, n := range c.DNSNames {
		out = append(out, printable(n))
	}
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	switch {
	case len(out) == 0:
		return "no host at all"
	case len(out) > 3:
		return strings.Join(out[:3], ", ") + " and others"
	}
	return strings.Join(out, ", ")
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '!' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), 100)])
}

// unresolved says why a name has no address.
func unresolved(host string, err error) error {
	var dns *net.DNSError
	if err == nil || errors.As(err, &dns) && dns.IsNotFound {
		return &kidoban.Error{Kind: kidoban.KindUnreachable, Sentence: "the name " + host + " could not be resolved: there is no such host; check the spelling", Cause: err}
	}
	return &kidoban.Error{Kind: kidoban.KindUnreachable, Sentence: "the name " + host + " could not be resolved: no name server answers this machine; check its network", Cause: err}
}

// unconnected says why no address of a host took a connection.
func unconnected(host, port string, v6 bool, err error) error {
	why := "check host and port; a firewall may be in the way"
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "nothing listens there; start the server, or check host and port"
	case noRoute(err) && v6:
		why = "it has IPv6 addresses only, and this machine has no IPv6 network"
	case noRoute(err):
		why = "there is no way to it from this machine; check its network"
	}
	return kidoban.Wrap(kidoban.KindUnreachable, err, "%s did not accept a connection on port %s: %s", host, port, why)
}

func noRoute(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL)
}
