package browser

import (
	"context"
	"crypto/subtle"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// OwnOptions say how a person's own browser is reached.
type OwnOptions struct {
	Addr    string        // loopback address to listen on; "" is 127.0.0.1 and a free port
	Program string        // opens an address; "" is what the system has for that
	Tell    io.Writer     // gets the address as well, for browsers on another screen
	Timeout time.Duration // of one login; 0 is five minutes
}

// Own is the person's own browser, which a native client opens and waits for on
// loopback (RFC 8252 §7.3). Its pages are the person's: nothing of them is seen, only
// where the server sends the browser at the end. Close ends the listener.
type Own struct {
	o    OwnOptions
	ln   net.Listener
	srv  *http.Server
	wg   sync.WaitGroup
	back chan string

	mu    sync.Mutex
	state string // of the login under way, "" between two
}

// ListenOwn opens the listener.
func ListenOwn(o OwnOptions) (*Own, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if host, _, err := net.SplitHostPort(o.Addr); err != nil || host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return nil, kidoban.Errorf(kidoban.KindUsage, "%q is no loopback address: your own browser can only be waited for on this machine; --login-window opens one that may be sent anywhere", o.Addr)
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Minute
	}
	ln, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "cannot wait for your browser on %s", o.Addr)
	}
	w := &Own{o: o, ln: ln, back: make(chan string, 1)}
	w.srv = &http.Server{Handler: http.HandlerFunc(w.serve), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	w.wg.Add(1)
	go func() { defer w.wg.Done(); _ = w.srv.Serve(ln) }() // ends with Close
	return w, nil
}

// Close ends the listener and waits for it. A nil Own is closed.
func (w *Own) Close() {
	if w == nil {
		return
	}
	w.srv.Close()
	w.wg.Wait()
}

// Base is where redirect URIs may point: an address on loopback that ends in a slash.
func (w *Own) Base() string { return "http://" + w.ln.Addr().String() + "/callback/" }

// serve takes the one answer that the login under way waits for: the state decides,
// and whatever else comes to the port is refused.
func (w *Own) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	state := w.state
	ok := r.Method == http.MethodGet && state != "" && subtle.ConstantTimeCompare([]byte(r.URL.Query().Get("state")), []byte(state)) == 1
	if ok {
		w.state = ""
	}
	w.mu.Unlock()
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	rw.Header().Set("Content-Security-Policy", "default-src 'none'")
	rw.Header().Set("Referrer-Policy", "no-referrer")
	rw.Header().Set("Cache-Control", "no-store")
	if !ok {
		rw.WriteHeader(http.StatusBadRequest)
		io.WriteString(rw, "<!doctype html><title>kidoban</title><p>No login waits for this answer. Start from the terminal.")
		return
	}
	io.WriteString(rw, "<!doctype html><title>kidoban</title><p>The audit has its answer. You can close this page.")
	w.back <- "http://" + r.Host + r.URL.RequestURI()
}

// Visit sends the browser to an authorization request and waits for the answer.
func (w *Own) Visit(ctx context.Context, to string) (string, error) {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Query().Get("state") == "" {
		return "", kidoban.Errorf(kidoban.KindInput, "%s is no address to log in at", place(to))
	}
	w.mu.Lock()
	w.state = u.Query().Get("state")
	w.mu.Unlock()
	if err := w.open(to); err != nil {
		fmt.Fprintf(w.o.Tell, "Your browser cannot be opened from here (%s). Open this address in it:\n  %s\n", err, to)
	} else {
		fmt.Fprintf(w.o.Tell, "Your browser is asked to open this address; log in and allow access there:\n  %s\n", to)
	}
	t := time.NewTimer(w.o.Timeout)
	defer t.Stop()
	select {
	case at := <-w.back:
		return at, nil
	case <-t.C:
		err = kidoban.Errorf(kidoban.KindUnreachable, "nobody came back from the login in %s", w.o.Timeout)
	case <-ctx.Done():
		err = kidoban.Wrap(kidoban.KindUnreachable, ctx.Err(), "the login was interrupted")
	}
	w.mu.Lock()
	w.state = ""
	w.mu.Unlock()
	return "", err
}

// open starts the program; no shell ever sees the address.
func (w *Own) open(to string) error {
	program, args := w.o.Program, []string{to}
	if program == "" {
		switch runtime.GOOS {
		case "darwin":
			program = "open"
		case "windows":
			program, args = "rundll32", []string{"url.dll,FileProtocolHandler", to}
		default:
			program = "xdg-open"
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return kidoban.Errorf(kidoban.KindUsage, "there is no program %s", strings.TrimSpace(program))
	}
	cmd := exec.Command(path, args...)
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release() // the browser outlives the audit
}
