package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kidoban/kidoban/outbound/freeport"
	"github.com/kidoban/kidoban/sandbox/npmtest"
)

// The proofs run the program as a process of its own, and clients made by others
// against it. A witness, a reverse proxy at the public address, notes what goes by.

// program is kidoban gateway as a child process.
type program struct {
	t      *testing.T
	url    string // public, the witness
	listen string
	config string
	data   string
	link   string // set-up
	env    []string
	wrap   []string // what the process is started through
	args   []string // more of the command line
	cmd    *exec.Cmd
	log    *lockedBuffer
	saw    *witness
	beyond []string // hosts of third parties where people log in, too
}

// startProgram runs the gateway with a config, to which the addresses are added.
func startProgram(t *testing.T, config string, env ...string) *program {
	t.Helper()
	p := newProgram(t, config, env...)
	p.start()
	return p
}

// newProgram does everything but the start.
func newProgram(t *testing.T, config string, env ...string) *program {
	t.Helper()
	dir := t.TempDir()
	p := &program{t: t, listen: "127.0.0.1:" + proofPort(t), config: filepath.Join(dir, "kidoban.yaml"), data: filepath.Join(dir, "data"), env: env, log: &lockedBuffer{}}
	p.saw = newWitness(t, p.listen)
	p.url = p.saw.url
	if err := os.WriteFile(p.config, []byte("public_url: "+p.url+"\nlisten: "+p.listen+"\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// start runs the process and waits until it is ready.
func (p *program) start() {
	p.t.Helper()
	args := append(slices.Clone(p.wrap), os.Args[0], "gateway", "--config", p.config, "--data", p.data)
	args = append(args, p.args...)
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "http") && strings.Contains(line, "/setup") {
			p.link = line
		} else if strings.HasPrefix(line, "{\"mcpServers\"") {
			break
		}
	}
	go io.Copy(io.Discard, out)
	if !within(patience, func() bool {
		resp, err := http.Get("http://" + p.listen + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	}) {
		p.t.Fatalf("the gateway is not ready: %s", p.log)
	}
}

// kill is kill -9; it may be called again.
func (p *program) kill() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// rss is the process's resident memory in bytes.
func (p *program) rss() int64 {
	p.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	p.t.Fatal("no VmRSS")
	return 0
}

// disk is the size of the data directory in bytes.
func (p *program) disk() (sum int64) {
	p.t.Helper()
	err := filepath.WalkDir(p.data, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		i, err := d.Info()
		if err == nil {
			sum += i.Size()
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return sum
}

func proofPort(t *testing.T) string {
	t.Helper()
	at, err := freeport.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(int(at.Port()))
}

// noteKey carries a note from the request to its response.
type noteKey struct{}

// witness notes method, path, what a form asks for, and status of each request.
type witness struct {
	url  string
	mu   sync.Mutex
	seen []string
}

func newWitness(t *testing.T, to string) *witness {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{url: "http://" + l.Addr().String()}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: to})
		r.Out.Host = r.In.Host
	}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }}
	proxy.ModifyResponse = func(resp *http.Response) error {
		what, _ := resp.Request.Context().Value(noteKey{}).(string)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = append(w.seen, fmt.Sprintf("%s %d", what, resp.StatusCode))
		return nil
	}
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		what := r.Method + " " + r.URL.Path
		// A server closes the body of a request when its answer begins. If the program
		// answers before the proxy has seen the body's end, the proxy takes that for a
		// fault and closes the connection in the middle of the answer.
		var raw []byte
		if r.ContentLength >= 0 {
			var err error
			if raw, err = io.ReadAll(r.Body); err != nil {
				panic(http.ErrAbortHandler)
			}
			r.Body = http.NoBody
			if len(raw) > 0 {
				r.Body = io.NopCloser(bytes.NewReader(raw))
			}
		}
		if r.Method == http.MethodPost && r.URL.Path == "/token" {
			v, _ := url.ParseQuery(string(raw))
			what += " " + v.Get("grant_type")
		} else if r.URL.Path == "/authorize" {
			what += " " + r.URL.Query().Get("scope")
		}
		proxy.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), noteKey{}, what)))
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return w
}

// count is the number of requests whose note begins so.
func (w *witness) count(prefix string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seen {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

func (w *witness) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(slices.Clone(w.seen), "\n")
}

const proofPassword = "correct horse battery staple"

// person is somebody with a browser: cookies, forms, no scripts.
type person struct {
	p    *program
	http *http.Client
}

func newPerson(p *program) *person {
	p.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return &person{p: p, http: &http.Client{Jar: loopbackJar{jar}, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// firstAccount uses the set-up link; the browser is logged in afterwards.
func (b *person) firstAccount() {
	b.p.t.Helper()
	body, _, err := b.open(b.p.link, nil)
	if err != nil {
		b.p.t.Fatal(err)
	}
	v := fields(body)
	v.Set("name", "alice")
	v.Set("password", proofPassword)
	v.Set("again", proofPassword)
	if _, resp, err := b.open(b.p.url+"/setup", v); err != nil || resp.StatusCode != http.StatusSeeOther {
		b.p.t.Fatalf("set-up: %v %v", resp, err)
	}
}

func (b *person) open(target string, form url.Values) (string, *http.Response, error) {
	var resp *http.Response
	var err error
	if form == nil {
		resp, err = b.http.Get(target)
	} else {
		resp, err = b.http.PostForm(target, form)
	}
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return string(raw), resp, err
}

var (
	formAction    = regexp.MustCompile(`action="([^"]+)"`)
	connectButton = regexp.MustCompile(`name="account" value="([^"]+)" class="approve"`) // of an account that is missing
)

// visit goes where a link leads: logs in when asked, approves when asked, and
// follows redirects to the end, which is a client's callback. With stop the
// callback is returned and not visited.
func (b *person) visit(target string, stop bool) (*url.URL, error) {
	at, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	var form url.Values
	for range 30 {
		there := slices.Contains(b.p.beyond, at.Host)
		if stop && !there && at.Host != strings.TrimPrefix(b.p.url, "http://") {
			return at, nil
		}
		body, resp, err := b.open(at.String(), form)
		if err != nil {
			return nil, err
		}
		if to := resp.Header.Get("Location"); to != "" {
			if at, err = at.Parse(to); err != nil {
				return nil, err
			}
			form = nil
			continue
		}
		switch form = fields(body); {
		case there: // oidc-provider's own pages: login, then consent
			form.Set("login", "alice-at-the-provider")
			form.Set("password", "x")
			m := formAction.FindStringSubmatch(body)
			if m == nil {
				return nil, fmt.Errorf("%s: %.600s", at, body)
			}
			at, _ = at.Parse(m[1])
		case connectButton.MatchString(body):
			form.Set("account", connectButton.FindStringSubmatch(body)[1])
			at, _ = at.Parse("/connect")
		case strings.Contains(body, `name="password"`):
			form.Set("name", "alice")
			form.Set("password", proofPassword)
			at, _ = at.Parse("/login")
		case strings.Contains(body, `value="approve"`):
			for _, m := range choices.FindAllStringSubmatch(body, -1) {
				form.Add("scope_choice", m[1])
			}
			form.Set("decision", "approve")
			at, _ = at.Parse("/authorize/consent")
		case at.Host != strings.TrimPrefix(b.p.url, "http://") && resp.StatusCode == http.StatusOK:
			return at, nil
		default:
			return nil, fmt.Errorf("%s ends with %d: %.600s", at.Path, resp.StatusCode, body)
		}
	}
	return nil, fmt.Errorf("%s leads round in circles", target)
}

// browserScript is a program for $BROWSER: it hands the link to a person whose
// browser is fresh, so that each visit begins with a login.
func (p *program) browserScript() string {
	p.t.Helper()
	dir := p.t.TempDir()
	script := filepath.Join(dir, "browser.sh")
	text := "#!/bin/sh\nf=$(mktemp " + dir + "/open.XXXXXX)\nprintf %s \"$1\" > \"$f\"\nmv \"$f\" \"$f.url\"\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		p.t.Fatal(err)
	}
	end := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(30 * time.Millisecond):
			}
			links, _ := filepath.Glob(dir + "/*.url")
			for _, f := range links {
				raw, err := os.ReadFile(f)
				if err != nil {
					continue
				}
				_ = os.Remove(f)
				if to, err := newPerson(p).visit(string(raw), false); err != nil {
					p.t.Errorf("the browser: %v", err)
				} else if to.Query().Get("iss") != p.url {
					p.t.Errorf("the answer's issuer is %q", to.Query().Get("iss"))
				}
			}
		}
	})
	p.t.Cleanup(func() { close(end); done.Wait() })
	return script
}

// proofNPM installs a package of an exact version and returns Node and node_modules.
func proofNPM(t *testing.T, spec string) (node, modules string) {
	t.Helper()
	return npmtest.Node(t), npmtest.Install(t, spec)
}

// proofCertificate makes a certificate for host that is its own authority, and
// the PEM file that makes a process trust it (SSL_CERT_FILE).
func proofCertificate(t *testing.T, host string) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, file
}
