package outbound

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/kidoban/kidoban"
)

func TestRelayDialsWhatIsOpenedAndNothingElse(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	defer s.Close()
	get := func(o RelayOptions) error {
		tr := Relay(true, o)
		defer tr.CloseIdleConnections()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
		resp, err := tr.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := get(RelayOptions{Lab: true}); err != nil {
		t.Error(err)
	}
	for _, o := range []RelayOptions{{}, {Private: true}} {
		if err := get(o); kidoban.KindOf(err) != kidoban.KindRefused {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestE15PrivateOpensPrivateRangesAlone(t *testing.T) {
	g := Guard{Private: true}
	for addr, open := range map[string]bool{"10.1.2.3": true, "172.16.0.1": true, "192.168.1.1": true, "100.64.0.1": true, "fd00::1": true, "8.8.8.8": true,
		"127.0.0.1": false, "169.254.169.254": false, "::1": false, "fe80::1": false, "64:ff9b::a00:1": false, "0.0.0.0": false} {
		a := netip.MustParseAddr(addr)
		if err := g.CheckAddr(a); (err == nil) != open {
			t.Errorf("%s: %v", addr, err)
		}
		var err error
		if a.Is6() {
			err = g.control()("tcp6", net.JoinHostPort(addr, "80"), nil)
		} else {
			err = g.control()("tcp4", net.JoinHostPort(addr, "80"), nil)
		}
		if (err == nil) != open {
			t.Errorf("control %s: %v", addr, err)
		}
		// Plain http never goes to a public address.
		d := newDialer(g, func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{a}, nil })
		_, err = d.addresses(t.Context(), "mcp.example", true)
		if want := open && addr != "8.8.8.8"; (err == nil) != want {
			t.Errorf("plain %s: %v", addr, err)
		}
	}
}

// TestE15CloudOpensTheMetadataServicesAlone: what hands out a machine's own
// credentials is closed to everybody but the one who asks for it by name.
func TestE15CloudOpensTheMetadataServicesAlone(t *testing.T) {
	g := Guard{Cloud: true}
	for _, a := range []string{"169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254"} {
		a := netip.MustParseAddr(a)
		if err := g.CheckAddr(a); err != nil {
			t.Errorf("%s: %v", a, err)
		}
		if err := g.control()(map[bool]string{true: "tcp4", false: "tcp6"}[a.Is4()], netip.AddrPortFrom(a, 80).String(), nil); err != nil {
			t.Errorf("at the dial, %s: %v", a, err)
		}
		if _, err := newDialer(g, nil).addresses(t.Context(), a.String(), true); err != nil {
			t.Errorf("over http, %s: %v", a, err)
		}
		for _, closed := range []Guard{{}, {Lab: true}} {
			if err := closed.CheckAddr(a); kidoban.KindOf(err) != kidoban.KindRefused {
				t.Errorf("%+v lets %s through: %v", closed, a, err)
			}
		}
	}
	for _, a := range []string{"169.254.169.253", "169.254.0.1", "127.0.0.1", "10.0.0.1", "fd00:ec2::253", "fe80::1"} {
		if err := g.CheckAddr(netip.MustParseAddr(a)); kidoban.KindOf(err) != kidoban.KindRefused {
			t.Errorf("%s passes: %v", a, err)
		}
	}
}

// TestGPX3_UnreadAnswersWaitAtTheServer: over HTTP/2 one answer that is not read
// takes little room here, and other answers on the same connection arrive.
func TestGPX3_UnreadAnswersWaitAtTheServer(t *testing.T) {
	var written atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("%s", r.Proto)
		}
		for piece := make([]byte, 16<<10); r.URL.Path == "/long" && written.Load() < 16<<20; {
			n, err := w.Write(piece)
			if written.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	tr := Relay(false, RelayOptions{Lab: true, RootCAs: roots})
	defer tr.CloseIdleConnections()
	get := func(path string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	defer get("/long").Body.Close()
	for range 200 {
		get("/").Body.Close()
	}
	if n := written.Load(); n > streamBuffer+64<<10 {
		t.Errorf("the server could write %d bytes that nobody read", n)
	}
}
