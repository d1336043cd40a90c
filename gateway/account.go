package gateway

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/sandbox"
	"github.com/kidoban/kidoban/wire"
)

// Accounts give the credential with which the gateway goes to a server (G-VA1).
type Accounts interface {
	// Credential returns the headers to send (one Authorization field, say) for
	// the user at the server. renew says that the server refused the last one.
	// KindNotFound means that the user has not connected an account;
	// KindUnreachable that the account cannot be used just now.
	Credential(ctx context.Context, user, server string, renew bool) ([]Header, error)
	// Challenged takes what the server said when it refused a credential: status
	// 401 or 403 and the values of WWW-Authenticate. nil means that a renewed
	// credential may do; KindNotFound that the user must agree again; KindRefused
	// that the account cannot do this.
	Challenged(ctx context.Context, user, server string, status int, challenges []string) error
}

// Header is one header field with a secret value.
type Header = kidoban.Field

// login is how the gateway shows itself to one server for one user.
type login struct {
	g    *Gateway
	s    *server
	user string // "" where all share an account
}

func (g *Gateway) login(c *call, s *server) login {
	if s.Account == AccountUser {
		return login{g, s, c.Caller.User}
	}
	return login{g, s, ""}
}

// fields are the account's; none for a server without one.
func (l login) fields(ctx context.Context, renew bool) ([]Header, error) {
	if l.s.Account == "" {
		return nil, nil
	}
	if l.g.deps.Accounts == nil {
		return nil, kidoban.Errorf(kidoban.KindInternal, "the gateway has no accounts")
	}
	return l.g.deps.Accounts.Credential(ctx, l.user, l.s.Name, renew)
}

// environment puts the account of a stdio server into its environment: each
// field is a variable. A token, which has no variable's name, is refused.
func (l login) environment(ctx context.Context, spec sandbox.Spec) (sandbox.Spec, []Header, error) {
	account, err := l.fields(ctx, false)
	if err != nil {
		return spec, nil, &accountError{cause: err, unasked: true}
	}
	spec.Env = slices.Clone(spec.Env)
	for _, f := range account {
		if strings.EqualFold(f.Name, "Authorization") {
			return spec, nil, &accountError{unasked: true, cause: kidoban.Errorf(kidoban.KindUsage, "a stdio server takes its secret from the environment: store it with kidoban vault set %s --env NAME", l.s.Name)}
		}
		spec.Env = append(spec.Env, f.Name+"="+f.Value)
	}
	return spec, account, nil
}

// refusal tells whether a response is the server's no to the account, and what
// follows from it: nil to try once more with a renewed one, otherwise an
// *accountError. again says that a renewed one was just refused.
func (l login) refusal(ctx context.Context, resp *http.Response, again bool) (no bool, err error) {
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return false, nil
	}
	if l.s.Account == "" || l.g.deps.Accounts == nil {
		return true, &accountError{}
	}
	err = l.g.deps.Accounts.Challenged(ctx, l.user, l.s.Name, resp.StatusCode, resp.Header.Values("WWW-Authenticate"))
	if err == nil && !again {
		return true, nil
	}
	if err == nil {
		err = kidoban.Errorf(kidoban.KindNotFound, "a renewed credential was refused, too")
	}
	return true, &accountError{cause: err}
}

// shortSecret is the length below which a value is no secret to look for.
const shortSecret = 8

// withoutSecrets takes the credential with which a server was asked out of what
// it answers, so that a server that repeats what it hears does not hand an
// account to the client (G-VA1). A server that wants to give its own token away
// can still do so in a code of its own; nothing can prevent that. raw is not
// changed; the copy is as good JSON as raw was.
func withoutSecrets(raw []byte, account []Header) []byte {
	for _, f := range account {
		secret := f.Value
		if _, after, ok := strings.Cut(secret, " "); ok && strings.EqualFold(f.Name, "Authorization") {
			secret = after
		}
		if len(secret) < shortSecret || !bytes.Contains(raw, []byte(secret)) {
			continue
		}
		mask := []byte("[removed]")
		if strings.Trim(secret, "0123456789") == "" {
			mask = bytes.Repeat([]byte("1"), len(secret)) // it may stand as a number
		}
		raw = bytes.ReplaceAll(raw, []byte(secret), mask)
	}
	return raw
}

// line is the way to a server in a relationship that lasts longer than one
// credential.
type line struct {
	login
	who  string // the user whose relationship it is; "" when it is everybody's
	mu   sync.Mutex
	last []Header // guarded by mu
}

// send makes a request around the account's header as it is now, and once more
// when the server wants a renewed one. The error is an *accountError when it is
// the server's no.
func (l *line) send(ctx context.Context, build func(http.Header) *http.Request) (*http.Response, error) {
	for again := false; ; again = true {
		head, err := l.header(ctx, again)
		if err != nil {
			return nil, err
		}
		resp, err := l.s.http.RoundTrip(build(head))
		if err != nil {
			return nil, kidoban.Wrap(kidoban.KindUnreachable, err, "The server cannot be reached.")
		}
		no, err := l.refusal(ctx, resp, again)
		if !no {
			return resp, nil
		}
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
	}
}

// clean takes the credential out of what the server sent.
func (l *line) clean(raw []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return withoutSecrets(raw, l.last)
}

// header is fixed fields and the account's. When the account cannot be read just
// now, the last credential may still do.
func (l *line) header(ctx context.Context, renew bool) (http.Header, error) {
	now, err := l.fields(ctx, renew)
	if err != nil && (renew || kidoban.KindOf(err) == kidoban.KindNotFound) {
		return nil, &accountError{cause: err, unasked: !renew}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.last = now
	}
	return l.s.ownHeader(l.last), nil
}

// accountError says that the server did not accept our account, and why as far
// as it is known.
type accountError struct {
	cause   error
	unasked bool // there was nothing to show, so the server was not asked
}

func (*accountError) Error() string   { return "the server did not accept the account" }
func (e *accountError) Unwrap() error { return e.cause }

// unasked tells of an error that it says nothing of the server.
func unasked(err error) bool {
	var no *accountError
	return errors.As(err, &no) && no.unasked || errors.As(err, new(*refusedError))
}

// credential fetches the headers of the caller's account at the server.
func (g *Gateway) credential(ctx context.Context, c *call, renew bool) ([]Header, *Refusal) {
	h, err := g.login(c, c.server).fields(ctx, renew)
	if err != nil {
		return nil, g.unaccepted(c, err)
	}
	return h, nil
}

// unaccepted answers for an account that is missing, or that the server does not
// take. Nothing the server said of it is repeated (G-VA1, G-TG7).
func (g *Gateway) unaccepted(c *call, err error) *Refusal {
	var no *accountError
	kind := kidoban.KindOf(err)
	if errors.As(err, &no) {
		if kind = kidoban.KindRefused; no.cause != nil {
			kind = kidoban.KindOf(no.cause)
		}
	}
	name := c.server.Name
	switch {
	case kind == kidoban.KindNotFound && c.server.Account == AccountUser:
		return g.connect(c).because(err)
	case kind == kidoban.KindNotFound || no != nil && no.cause == nil:
		return refuse(http.StatusBadGateway, wire.CodeInternal, "upstream:account", "The server "+name+" did not accept the gateway's account. Ask the gateway's operator.").because(err)
	case kind == kidoban.KindRefused:
		return refuse(http.StatusOK, wire.CodeInternal, "upstream:forbidden", "The server "+name+" does not let this account do that.").because(err)
	}
	return unusable().because(err)
}

func unusable() *Refusal {
	return refuse(http.StatusBadGateway, wire.CodeInternal, "account:unusable", "The account at this server cannot be used just now. Try again, or connect it anew.")
}
