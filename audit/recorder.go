package audit

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
)

// RecorderOptions of a loopback recorder.
type RecorderOptions struct {
	Addr     string                // loopback address of the MCP server's face; "" is 127.0.0.1:0
	RootCAs  *x509.CertPool        // extra trust
	Recorder *outbound.Recorder    // keeps the redacted exchanges; required
	Seen     func(noteworthy bool) // called after each exchange, one at a time; may be nil
	Now      func() time.Time      // nil: time.Now
}

// LoopbackRecorder stands between a real MCP client and a server without a
// certificate of its own: the client talks to a loopback address, and wherever
// the server's answers name its own or its authorization server's addresses
// (challenges, metadata, redirects, forms), they are rewritten to loopback faces,
// one for each origin. So discovery, registration, authorization and token
// requests pass through it. What is recorded is the traffic with the server, with
// the server's addresses.
//
// A redirect to a third party's login is recorded and then left: the browser is
// sent to the server's own authorization address, because the third party comes
// back there. Such a login ends outside of the recording, and a server that sends
// iss then disagrees with the rewritten issuer.
type LoopbackRecorder struct {
	o      RecorderOptions
	target *url.URL
	lab    bool
	base   context.Context

	mu    sync.Mutex // guards what follows
	faces map[string]*face
	last  string // the latest authorization request, with the server's address
	n     int
	ended bool

	seenMu sync.Mutex // one call of Seen at a time
	wg     sync.WaitGroup
}

// face is the loopback address of one origin.
type face struct {
	rec    *LoopbackRecorder
	origin string // "https://auth.example.com"
	local  string // "http://127.0.0.1:4711"
	srv    *http.Server
	relay  *http.Transport
}

// Bounds of the recorder.
const (
	maxFaces      = 8       // origins of one server
	recorderBody  = 4 << 20 // bytes of a request
	rewrittenBody = 4 << 20 // bytes of an answer that is rewritten; longer ones pass as they are
)

// StartRecorder listens on loopback. The caller ends it with Close. KindUsage
// when the address is not loopback or taken.
func StartRecorder(ctx context.Context, o RecorderOptions, target string) (*LoopbackRecorder, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Seen == nil {
		o.Seen = func(bool) {}
	}
	lab := isLoopbackURL(target)
	target, err := NormalizeTarget(target, lab)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "this is no URL of a server")
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if host, _, err := net.SplitHostPort(o.Addr); err != nil || !isLoopbackURL("http://"+net.JoinHostPort(host, "1")) {
		return nil, kidoban.Errorf(kidoban.KindUsage, "%s is no loopback address: the recorder sees tokens, so it listens on this machine only (127.0.0.1:PORT)", o.Addr)
	}
	r := &LoopbackRecorder{o: o, target: u, lab: lab, base: ctx, faces: map[string]*face{}}
	if _, err := r.face(u.Scheme+"://"+u.Host, o.Addr); err != nil {
		return nil, err
	}
	return r, nil
}

// URL is what the client connects to instead of the server.
func (r *LoopbackRecorder) URL() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.faces[r.target.Scheme+"://"+r.target.Host].local + r.target.RequestURI()
}

// Target is the server's address.
func (r *LoopbackRecorder) Target() string { return r.target.String() }

// enter counts a request in, so that Close waits until it is recorded.
func (r *LoopbackRecorder) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.wg.Add(1)
	}
	return !r.ended
}

// Close ends all listeners, waits for what is on its way, and returns when
// everything is recorded.
func (r *LoopbackRecorder) Close() {
	r.mu.Lock()
	r.ended = true
	for _, f := range r.faces {
		f.srv.Close()
		f.relay.CloseIdleConnections()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// face returns the face of an origin and opens it when it is new.
func (r *LoopbackRecorder) face(origin, addr string) (*face, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.faces[origin]; f != nil {
		return f, nil
	}
	if len(r.faces) >= maxFaces {
		return nil, kidoban.Errorf(kidoban.KindLimit, "the server names more than %d origins", maxFaces)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "cannot listen on %s; choose another address with --addr", addr)
	}
	f := &face{rec: r, origin: origin, local: "http://" + l.Addr().String()}
	f.relay = outbound.Relay(strings.HasPrefix(origin, "http://"), outbound.RelayOptions{Lab: r.lab, RootCAs: r.o.RootCAs, HeaderTimeout: 2 * time.Minute})
	f.srv = &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10, BaseContext: func(net.Listener) context.Context { return r.base }}
	r.faces[origin] = f
	r.wg.Go(func() { _ = f.srv.Serve(l) }) // ends with Close
	return f, nil
}

// learn opens faces for origins that the server's metadata name as its own.
func (r *LoopbackRecorder) learn(urls ...string) {
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(r.lab && u.Scheme == "http" && isLoopbackURL(raw)) || sharedIssuer(u.Host) {
			continue
		}
		if _, err := r.face(u.Scheme+"://"+u.Host, "127.0.0.1:0"); err != nil {
			return // the bound on origins: the others are reached without the recorder
		}
	}
}

// swap replaces origins in text: to the loopback faces, or back to the server's
// addresses. An origin counts only where it ends, so that a longer host or port
// stays as it is.
func (r *LoopbackRecorder) swap(text string, toLocal bool) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faces {
		from, to := f.local, f.origin
		if toLocal {
			from, to = to, from
		}
		for _, form := range []func(string) string{func(s string) string { return s }, url.QueryEscape, func(s string) string { return strings.ReplaceAll(s, "/", `\/`) }} {
			text = replaceOrigin(text, form(from), form(to))
		}
	}
	return text
}

func replaceOrigin(text, from, to string) string {
	if !strings.Contains(text, from) {
		return text
	}
	var b strings.Builder
	for {
		i := strings.Index(text, from)
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		rest := text[i+len(from):]
		b.WriteString(text[:i])
		if rest != "" && (isWord(rest[0]) && rest[0] != '_' || rest[0] == ':' || rest[0] == '.' && len(rest) > 1 && isWord(rest[1]) || strings.HasPrefix(rest, "%3A")) {
			b.WriteString(from)
		} else {
			b.WriteString(to)
		}
		text = rest
	}
}

// hopHeader tells of a header that concerns one connection only (RFC 9110 §7.6.1).
func hopHeader(name string) bool {
	switch strings.ToLower(name) {
	case "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "host", "accept-encoding", "proxy-connection":
		return true
	}
	return false
}

// ServeHTTP passes one request on.
func (f *face) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r := f.rec
	if !r.enter() {
		http.Error(w, "The recording has ended.", http.StatusServiceUnavailable)
		return
	}
	defer r.wg.Done()
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, recorderBody))
	if err != nil {
		http.Error(w, "The request is longer than the recorder passes on.", http.StatusRequestEntityTooLarge)
		return
	}
	out := r.swap(string(body), false)
	to := f.origin + r.swap(req.URL.RequestURI(), false)
	x := &kidoban.Exchange{Started: r.o.Now(), Request: kidoban.Request{Method: req.Method, URL: to, Body: []byte(out)}}
	up, err := http.NewRequestWithContext(req.Context(), req.Method, to, strings.NewReader(out))
	if err != nil {
		http.Error(w, "The recorder cannot pass this address on.", http.StatusBadRequest)
		return
	}
	if req.Method == http.MethodGet || len(out) == 0 {
		up.Body, up.ContentLength = http.NoBody, 0
	}
	names := make([]string, 0, len(req.Header))
	for name := range req.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if hopHeader(name) {
			continue
		}
		for _, v := range req.Header[name] {
			v = r.swap(v, false)
			up.Header.Add(name, v)
			x.Request.Header = append(x.Request.Header, kidoban.Field{Name: name, Value: v})
		}
	}
	if kindOfMessage(x) == askAuthorization {
		r.mu.Lock()
		r.last = to
		r.mu.Unlock()
	}
	resp, err := f.relay.RoundTrip(up)
	if err != nil {
		x.Err, x.ErrKind = "the server did not answer", kidoban.KindUnreachable
		r.keep(x)
		http.Error(w, "The recorder got no answer from "+f.origin+".", http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	f.answer(w, x, resp)
}

// answer records a response and gives the client its rewritten form.
func (f *face) answer(w http.ResponseWriter, x *kidoban.Exchange, resp *http.Response) {
	r := f.rec
	x.Response = &kidoban.Response{Status: resp.StatusCode, Proto: resp.Proto}
	names := make([]string, 0, len(resp.Header))
	for name := range resp.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, v := range resp.Header[name] {
			x.Response.Header = append(x.Response.Header, kidoban.Field{Name: name, Value: v})
		}
	}
	if mediaType(x) == "text/event-stream" {
		f.stream(w, x, resp)
		return
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, rewrittenBody+1))
	if err != nil {
		x.Err, x.ErrKind = "the answer broke off", kidoban.KindUnreachable
	}
	x.Response.Body, x.Response.Truncated = body[:min(len(body), observeBody)], len(body) > observeBody
	r.keep(x)
	f.learnFrom(x)
	for _, h := range x.Response.Header {
		if v, ok := f.header(x, h); ok {
			w.Header().Add(h.Name, v)
		}
	}
	if len(body) > rewrittenBody {
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, io.MultiReader(bytes.NewReader(body), resp.Body)) // the client may go away
		return
	}
	if rewrites(x) {
		body = []byte(r.swap(string(body), true))
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(body) // the client may go away
}

// rewrites tells answers that name addresses for the client to use: metadata,
// registrations and pages. What tools say is passed on as it is.
func rewrites(x *kidoban.Exchange) bool {
	if isMCP(x) {
		return false
	}
	return strings.Contains(x.Request.URL, "/.well-known/") || strings.Contains(mediaType(x), "html") || kindOfMessage(x) == askRegistration
}

// header gives the client's form of a response header; ok is false for those
// that the recorder sets itself.
func (f *face) header(x *kidoban.Exchange, h kidoban.Field) (v string, ok bool) {
	r := f.rec
	switch low := strings.ToLower(h.Name); {
	case hopHeader(low), low == "strict-transport-security", low == "content-encoding":
		return "", false
	case low == "set-cookie":
		parts := strings.Split(h.Value, ";")
		parts = slices.DeleteFunc(parts, func(p string) bool {
			return strings.HasPrefix(strings.ToLower(strings.TrimSpace(p)), "domain=")
		})
		return strings.Join(parts, ";"), true
	case low == "location":
		return f.location(x, h.Value), true
	}
	return r.swap(h.Value, true), true
}

// location rewrites a redirect. One that leads to a third party's login is
// replaced by the server's own authorization address: see LoopbackRecorder.
func (f *face) location(x *kidoban.Exchange, loc string) string {
	r := f.rec
	to := resolve(x.Request.URL, loc)
	u, err := url.Parse(to)
	if err != nil {
		return loc
	}
	r.mu.Lock()
	_, ours := r.faces[u.Scheme+"://"+u.Host]
	last := r.last
	r.mu.Unlock()
	if q := u.Query(); !ours && last != "" && q.Get("client_id") != "" && (q.Get("response_type") != "" || q.Get("request_uri") != "") {
		return last
	}
	return r.swap(loc, true)
}

// learnFrom reads the origins in metadata, before they are rewritten.
func (f *face) learnFrom(x *kidoban.Exchange) {
	if x.Status() == 401 {
		for _, c := range oauth.ParseChallenges(x.Response.Header.Values("WWW-Authenticate")) {
			if u, _ := c.ResourceMetadata(); u != "" && oauth.SameSite(hostname(u), f.rec.target.Hostname()) {
				f.rec.learn(resolve(x.Request.URL, u))
			}
		}
	}
	if x.Status() != 200 || !strings.Contains(x.Request.URL, "/.well-known/") {
		return
	}
	if prm, err := oauth.ParsePRM(x.Response.Body); err == nil {
		f.rec.learn(prm.AuthorizationServers...)
	}
	if m, err := oauth.ParseMetadata(x.Response.Body); err == nil && m.Issuer != "" {
		f.rec.learn(m.AuthorizationEndpoint, m.TokenEndpoint, m.RegistrationEndpoint, m.RevocationEndpoint)
	}
}

// stream passes an event stream on as it comes and keeps its beginning.
func (f *face) stream(w http.ResponseWriter, x *kidoban.Exchange, resp *http.Response) {
	for _, h := range x.Response.Header {
		if v, ok := f.header(x, h); ok {
			w.Header().Add(h.Name, v)
		}
	}
	w.WriteHeader(resp.StatusCode)
	rc := http.NewResponseController(w)
	_ = rc.Flush() // the head goes out at once; a client that went away shows at the first write
	buf := make([]byte, 32<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if room := observeBody - len(x.Response.Body); room > 0 {
				x.Response.Body = append(x.Response.Body, buf[:min(n, room)]...)
			} else {
				x.Response.Truncated = true
			}
			chunk := buf[:n]
			if bytes.Contains(chunk, []byte("event: endpoint")) { // the older transport names its address here
				chunk = []byte(f.rec.swap(string(chunk), true))
			}
			if _, werr := w.Write(chunk); werr != nil {
				break
			}
			_ = rc.Flush()
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				x.Err, x.ErrKind = "the stream broke off", kidoban.KindUnreachable
			}
			break
		}
	}
	f.rec.keep(x)
}

// keep records an exchange.
func (r *LoopbackRecorder) keep(x *kidoban.Exchange) {
	r.seenMu.Lock()
	defer r.seenMu.Unlock()
	r.n++
	x.ID, x.Duration = r.n, r.o.Now().Sub(x.Started)
	r.o.Recorder.Add(*x)
	r.o.Seen(kindOfMessage(x) != notOAuth || x.Status() != 200 || strings.Contains(x.Request.URL, "/.well-known/") || r.n < 20)
}

// Observation judges what has been recorded so far, from the redacted exchanges:
// the file gives the same verdicts.
func (r *LoopbackRecorder) Observation() *Observation {
	o := Observe()
	for _, x := range r.o.Recorder.Exchanges() {
		c := x
		o.Add(&c)
	}
	return o
}
