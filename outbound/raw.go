package outbound

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
)

// raw performs the exchange with our own HTTP/1.1 writer and reader on a
// connection of its own, so that what the probe wrote is what the server gets,
// and the response header keeps its case and order.
func (c *Client) raw(ctx context.Context, r Req, u *url.URL, x *kidoban.Exchange, p *progress) error {
	head, err := rawHead(r, u)
	if err != nil {
		return err
	}
	if r.Jar != nil {
		return kidoban.Errorf(kidoban.KindUsage, "a raw request sends its header as given; write the Cookie line instead of a jar")
	}
	conn, state, err := c.rawConn(ctx, u, u.Scheme == "http" && !r.AllowPlain)
	if err != nil {
		return err
	}
	defer conn.Close()
	p.connected.Store(true)
	// A cancelled exchange must wake a blocked read or write.
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	// A server may answer and hang up before it has read everything; its answer
	// counts, so a failed write is told only when no head comes.
	_, werr := conn.Write(append(head, r.Body...))
	br := bufio.NewReader(conn)
	out, err := readHead(br, c.o.MaxHeader)
	if err != nil {
		return errors.Join(err, werr)
	}
	out.Addr = conn.RemoteAddr().String()
	out.TLS = c.tlsInfo(state, tlsName(u))
	x.Response = out
	body, err := rawBody(br, r.Method, out)
	if err != nil || body == nil {
		return err
	}
	out.Body, out.Truncated, err = readBody(body, out.Header.Get("Content-Encoding"), c.bodyLimit(r), r.Stream)
	return err
}

// rawHead renders the request line and header. Only what would make the lines
// something else than they look like is refused.
func rawHead(r Req, u *url.URL) ([]byte, error) {
	target := r.Target
	if target == "" {
		target = u.RequestURI()
	}
	var b strings.Builder
	parts := []string{r.Method, target}
	b.WriteString(r.Method + " " + target + " HTTP/1.1\r\n")
	for _, f := range r.Header {
		parts = append(parts, f.Name, f.Value)
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	b.WriteString("\r\n")
	for _, s := range parts {
		if strings.ContainsAny(s, "\r\n\x00") {
			return nil, kidoban.Errorf(kidoban.KindUsage, "a raw request line or header holds a line break or NUL")
		}
	}
	return []byte(b.String()), nil
}

// tlsName is the name the certificate must carry: an odd IPv4 notation counts
// as the address it means.
func tlsName(u *url.URL) string {
	host, err := asciiHost(u.Hostname())
	if err != nil {
		return u.Hostname()
	}
	if a, _, ok := literal(host); ok {
		return a.String()
	}
	return host
}

func (c *Client) rawConn(ctx context.Context, u *url.URL, loopbackOnly bool) (net.Conn, *tls.ConnectionState, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err := c.dialer.dialer(loopbackOnly)(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil || u.Scheme == "http" {
		return conn, nil, err
	}
	cfg := c.tlsConfig(tlsName(u))
	cfg.NextProtos = []string{"http/1.1"}
	tc := tls.Client(conn, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, nil, err
	}
	state := tc.ConnectionState()
	return tc, &state, nil
}

// readHead reads one final response head of at most limit bytes, interim (1xx)
// heads included. Fields are kept as they stood; a line without a colon is kept
// as a field without a value.
func readHead(br *bufio.Reader, limit int64) (*kidoban.Response, error) {
	left := limit
	line := func() (string, error) {
		var b []byte
		for {
			part, err := br.ReadSlice('\n')
			if left -= int64(len(part)); left < 0 {
				return "", kidoban.Errorf(kidoban.KindLimit, "the response header is larger than %d bytes", limit)
			}
			b = append(b, part...)
			if err == nil {
				return strings.TrimRight(string(b), "\r\n"), nil
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				return "", err
			}
		}
	}
	for {
		status, err := line()
		if err != nil {
			return nil, err
		}
		out, err := parseStatus(status)
		if err != nil {
			return nil, err
		}
		for {
			l, err := line()
			if err != nil {
				return nil, err
			}
			if l == "" {
				break
			}
			if n := len(out.Header); n > 0 && (l[0] == ' ' || l[0] == '\t') { // obs-fold, RFC 9112 §5.2
				out.Header[n-1].Value += " " + strings.TrimSpace(l)
				continue
			}
			name, value, _ := strings.Cut(l, ":")
			out.Header = append(out.Header, kidoban.Field{Name: name, Value: strings.Trim(value, " \t")})
		}
		if out.Status >= 200 || out.Status == 101 {
			return out, nil
		}
	}
}

func parseStatus(line string) (*kidoban.Response, error) {
	proto, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	if !strings.HasPrefix(proto, "HTTP/1.") || len(code) != 3 || err != nil || n < 100 {
		return nil, kidoban.Errorf(kidoban.KindUnreachable, "the server's answer is not HTTP/1")
	}
	return &kidoban.Response{Status: n, Proto: proto}, nil
}

// rawBody frames the body (RFC 9112 §6.3); nil means there is none. Conflicting
// lengths are an error: whoever guesses can be smuggled past.
func rawBody(br *bufio.Reader, method string, out *kidoban.Response) (io.Reader, error) {
	if method == "HEAD" || out.Status == 101 || out.Status == 204 || out.Status == 304 {
		return nil, nil
	}
	if te := strings.Join(out.Header.Values("Transfer-Encoding"), ","); te != "" {
		if !strings.EqualFold(strings.TrimSpace(te), "chunked") {
			return nil, kidoban.Errorf(kidoban.KindInput, "the response has a transfer coding other than chunked")
		}
		return httputil.NewChunkedReader(br), nil
	}
	lengths := out.Header.Values("Content-Length")
	if len(lengths) == 0 {
		return br, nil // until the server closes
	}
	n, err := strconv.ParseUint(lengths[0], 10, 63)
	if err != nil {
		return nil, kidoban.Errorf(kidoban.KindInput, "the response's Content-Length is not a number")
	}
	for _, l := range lengths[1:] {
		if l != lengths[0] {
			return nil, kidoban.Errorf(kidoban.KindInput, "the response has two different Content-Length fields")
		}
	}
	return &exact{r: br, left: int64(n)}, nil
}

// exact reads left bytes and calls an earlier end what it is.
type exact struct {
	r    io.Reader
	left int64
}

func (e *exact) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	if e.left -= int64(n); errors.Is(err, io.EOF) && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
