package browser

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// proxy is the only way out of Chromium: it resolves and dials by the rules of
// package outbound, so that no page sends the browser to an address that the audit
// itself would refuse. It listens on loopback and ends with Close.
type proxy struct {
	srv   *http.Server
	addr  string
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	plain *httputil.ReverseProxy
	wg    sync.WaitGroup
	stop  context.CancelFunc
}

func newProxy(o outbound.RelayOptions) (*proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the browser's way out cannot listen on loopback")
	}
	ctx, stop := context.WithCancel(context.Background())
	over := outbound.Relay(true, o) // http reaches opened ranges only
	p := &proxy{addr: ln.Addr().String(), dial: outbound.Relay(false, o).DialContext, stop: stop}
	p.plain = &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: over, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
		w.WriteHeader(http.StatusBadGateway)
	}}
	p.srv = &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		_ = p.srv.Serve(ln) // ends with Close
		over.CloseIdleConnections()
	}()
	return p, nil
}

func (p *proxy) Close() {
	p.stop()
	p.srv.Close()
	p.wg.Wait()
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		if !r.URL.IsAbs() || r.URL.Scheme != "http" {
			http.Error(w, "This is a proxy.", http.StatusBadRequest)
			return
		}
		p.plain.ServeHTTP(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 15*time.Second)
	out, err := p.dial(ctx, "tcp", r.Host)
	cancel()
	if err != nil {
		http.Error(w, "That address is not contacted.", http.StatusBadGateway)
		return
	}
	defer out.Close()
	in, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	// The connection is no longer the server's: it ends with the proxy all the same.
	end := context.AfterFunc(r.Context(), func() { in.Close(); out.Close() })
	defer end()
	if _, err := in.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n")); err != nil {
		return
	}
	done := make(chan struct{})
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		defer close(done)
		_, _ = io.Copy(out, buf)
		out.Close()
	}()
	_, _ = io.Copy(in, out)
	in.Close()
	<-done
}
