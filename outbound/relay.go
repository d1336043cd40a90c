package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// RelayOptions are for a proxy that streams to one server which an operator
// named in the config. Loopback and private ranges must be opened by name.
type RelayOptions struct {
	Lab           bool           // the server may live on loopback, http allowed there
	Private       bool           // the server may live in a private range, http allowed there
	Cloud         bool           // the request is for the metadata service of a cloud, http allowed there
	RootCAs       *x509.CertPool // nil = the system's
	MaxHeader     int64          // bytes of a response header; 0 = DefaultMaxHeader
	MaxIdle       int            // idle connections kept; 0 = 128
	HeaderTimeout time.Duration  // until the response head; 0 = none: the request's context decides
	Resolve       func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dialed is given each new connection on which the goroutine that asks reads the
	// answer, and returns what is used in its place. It is of NewDirect alone; may be nil.
	Dialed func(net.Conn) net.Conn
}

// What HTTP/2 may hold of answers that are not read yet, in bytes.
const (
	streamBuffer     = 128 << 10
	connectionBuffer = 32 << 20
)

// Relay returns a transport for streaming through the address guard. It follows
// no redirects (a RoundTripper never does), uses no proxy and decodes nothing.
// plain says that the server's URL is http: only opened ranges are dialled then.
// The caller closes idle connections and bounds bodies itself.
func Relay(plain bool, o RelayOptions) *http.Transport {
	if o.MaxHeader <= 0 {
		o.MaxHeader = DefaultMaxHeader
	}
	if o.MaxIdle <= 0 {
		o.MaxIdle = 128
	}
	d := newDialer(Guard{Lab: o.Lab, Private: o.Private, Cloud: o.Cloud}, o.Resolve)
	return &http.Transport{
		Proxy:                  nil, // a proxy would resolve and dial behind the guard's back
		DialContext:            d.dialer(plain),
		TLSClientConfig:        &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // event streams are passed on as they come
		MaxIdleConns:           o.MaxIdle,
		MaxIdleConnsPerHost:    o.MaxIdle,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  o.HeaderTimeout,
		MaxResponseHeaderBytes: min(o.MaxHeader, HardMaxHeader),
		// What is not read must wait at the server: by itself HTTP/2 would hold 4 MiB
		// of each answer.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: streamBuffer, MaxReceiveBufferPerConnection: connectionBuffer},
	}
}
