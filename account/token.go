package account

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/oauth"
	"github.com/kidoban/kidoban/outbound"
)

// token is the plaintext of an account that is a token.
type token struct {
	Kind     string    `json:"kind"` // "oauth"
	Access   string    `json:"access"`
	Refresh  string    `json:"refresh,omitempty"`
	Renew    time.Time `json:"renew,omitzero"`   // when to get the next one; zero: never by the clock
	Expires  time.Time `json:"expires,omitzero"` // zero: not said
	Renewed  time.Time `json:"renewed,omitzero"` // when the last renewal was
	Client   string    `json:"client,omitempty"` // the client it was given to
	Resource string    `json:"resource,omitempty"`
	Host     string    `json:"host,omitempty"`  // of the server it is shown to; empty in old rows
	Asked    []string  `json:"asked,omitempty"` // scopes that were asked for
	Want     []string  `json:"want,omitempty"`  // all scopes to ask for next time; empty: nothing new
	Ended    bool      `json:"ended,omitempty"` // the issuer renews it no more, or the server takes it no more
	Trying   time.Time `json:"trying,omitzero"` // when somebody began to renew it; zero: nobody does
	Steps    int       `json:"steps,omitempty"` // times a server wanted more since Stepped
	Stepped  time.Time `json:"stepped,omitzero"`
}

// early is how long before its end a token is renewed, in the background as
// long as it still works; a short-lived one at half its life. slack is how close
// to the end it is not relied on any more. pause is the least time between two
// renewals that a server forces by refusing fresh tokens. wholeTime bounds what is
// not broken off when nobody waits for it any more (whole).
const (
	early     = 5 * time.Minute
	slack     = 10 * time.Second
	pause     = 10 * time.Second
	wholeTime = 20 * time.Second
)

func (t token) fields() []kidoban.Field {
	return []kidoban.Field{{Name: "Authorization", Value: "Bearer " + t.Access}}
}

// until is when the opened token must be looked at again, at most limit.
func (t token) until(now, limit time.Time) time.Time {
	for _, at := range []time.Time{t.Renew, t.Expires} {
		if at.After(now) && at.Before(limit) {
			limit = at
		}
	}
	return limit
}

// take puts a token answer into t. The refresh token stays when the answer has none.
func (t token) take(now time.Time, r oauth.TokenResponse) token {
	t.Kind, t.Access, t.Renew, t.Expires, t.Want, t.Ended = "oauth", r.AccessToken, time.Time{}, time.Time{}, nil, false
	if r.RefreshToken != "" {
		t.Refresh = r.RefreshToken
	}
	if r.ExpiresIn > 0 {
		life := time.Duration(min(r.ExpiresIn, 1<<31)) * time.Second
		t.Renew, t.Expires = now.Add(max(life-early, life/2)), now.Add(life)
	}
	return t
}

func (w *Wallet) token(ctx context.Context, acc Account) (t token, err error) {
	raw, err := w.unseal(ctx, acc)
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return t, kidoban.Wrap(kidoban.KindInternal, err, "the account at %s cannot be read", acc.Server)
	}
	return t, nil
}

// stays tells whether the server's name still stands for the host that the token was
// got for, and for its issuer: the config may name others now, and they get nothing
// of the old one's (E36, 3).
func (t token) stays(a *App, acc Account) bool {
	return (a.Issuer == "" || a.Issuer == acc.Issuer) && (t.Host == "" || a.plainHost(t.Host) == a.host())
}

// fresh gives the token of an account, renewed when it must be. The caller holds
// the account's flight.
func (w *Wallet) fresh(ctx context.Context, acc Account, t token, renew bool) (token, error) {
	a, err := w.app(acc.Server)
	switch {
	case err != nil:
		return t, err
	case t.stays(a, acc):
	case a.Grant != GrantCode:
		return w.grant(ctx, a, acc.User, acc.Server, t)
	default:
		return t, kidoban.Errorf(kidoban.KindNotFound, "the account at %s was connected when that name stood for another server: connect it again", acc.Server)
	}
	now := w.Now()
	if t.Ended && now.Sub(t.Trying).Abs() < pause {
		return t, ended(acc) // it has just been asked for
	}
	due := !t.Renew.IsZero() && !now.Before(t.Renew)
	switch {
	case !renew && !due:
		return t, nil
	case !renew && t.Expires.After(now.Add(slack)):
		w.renewBehind(walletKey{acc.User, acc.Server})
		return t, nil
	case renew && len(t.Want) > 0 && a.Grant != GrantCode: // how fresh it is says nothing
		return w.grant(ctx, a, acc.User, acc.Server, t)
	case renew && now.Sub(t.Renewed) < pause && !t.Ended:
		// The server refused the one before, which a call beside this one or another
		// replica has renewed since. Or it refuses fresh tokens, too: then it gets this
		// one once more, and must not make us ask the issuer for ever more.
		return t, nil
	}
	return w.renew(ctx, acc, t, renew)
}

func ended(acc Account) error {
	return kidoban.Errorf(kidoban.KindNotFound, "the account at %s has ended: connect it again", acc.Server)
}

// whole gives a context for what must not be broken off half way: an issuer that has
// taken a refresh token or a code gives it no second time, so its answer is waited for
// and stored even when the client has hung up or the gateway ends. The caller calls
// done at the end.
func (w *Wallet) whole(ctx context.Context) (_ context.Context, done func()) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wholeTime)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() != nil { // nobody waits for it
		return ctx, cancel
	}
	w.wg.Add(1)
	return ctx, func() { cancel(); w.wg.Done() }
}

// renewBehind renews an account in the background, once.
func (w *Wallet) renewBehind(k walletKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.behind[k] || w.ctx.Err() != nil {
		return
	}
	w.behind[k] = true
	turn := w.turn
	w.wg.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, backTime)
		defer cancel()
		_, leave, err := w.flight(ctx, k)
		var t token
		if err == nil {
			defer leave()
			t, err = w.renewNow(ctx, k)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.behind, k)
		if err == nil && w.turn == turn { // otherwise the old token serves to its end, and the next call tries
			w.made++
			w.open[k] = opened{fields: t.fields(), made: w.made, until: t.until(w.Now(), w.Now().Add(walletLife))}
		}
	})
}

func (w *Wallet) renewNow(ctx context.Context, k walletKey) (token, error) {
	acc, err := w.Store.Account(ctx, k.user, k.server)
	if err != nil {
		return token{}, err
	}
	t, err := w.token(ctx, acc)
	if err != nil || w.Now().Before(t.Renew) {
		return t, err
	}
	return w.renew(ctx, acc, t, false)
}

// renew gets the next token: one renewal at a time here, and of several replicas
// the store lets one win (E36, 13). Everything goes to the account's own issuer.
func (w *Wallet) renew(ctx context.Context, acc Account, t token, refused bool) (token, error) {
	a, err := w.app(acc.Server)
	if err != nil {
		return t, err
	}
	if !t.stays(a, acc) {
		return t, kidoban.Errorf(kidoban.KindNotFound, "the account at %s was connected when that name stood for another server: connect it again", acc.Server)
	}
	if t.Refresh == "" {
		if a.Grant != GrantCode {
			return w.grant(ctx, a, acc.User, acc.Server, t)
		}
		if refused {
			return w.end(ctx, acc, t, ended(acc))
		}
		return t, nil
	}
	e, err := w.endpoints(ctx, a, acc.Issuer)
	if err != nil {
		return t, err
	}
	id, err := w.identity(ctx, a, acc.Server, acc.Issuer, t.Client)
	if err != nil && kidoban.KindOf(err) == kidoban.KindNotFound {
		return w.end(ctx, acc, t, err)
	}
	if err != nil {
		return t, err
	}
	acc, other, err := claim(ctx, w, acc, t)
	if err != nil || other != nil {
		return a.instead(acc, t, other, err)
	}
	ctx, done := w.whole(ctx)
	defer done()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {t.Refresh}}
	r, err := w.post(ctx, a, e, id, form, t.Resource)
	if err != nil {
		return w.elsewhere(ctx, a, acc, t, err)
	}
	next := t.take(w.Now(), r)
	next.Renewed, next.Want, next.Host, next.Trying = w.Now(), t.Want, a.host(), time.Time{}
	if err = w.swap(ctx, acc, next, t.spent); kidoban.KindOf(err) == kidoban.KindConflict {
		return w.overtaken(ctx, a, acc, next)
	}
	return next, err
}

// end notes that an account is of no use any more, so that pages offer to connect it
// again. It is asked for all the same: an issuer may have been wrong.
func (w *Wallet) end(ctx context.Context, acc Account, t token, cause error) (token, error) {
	t.Ended, t.Trying = true, w.Shared()
	_ = w.swap(ctx, acc, t, nil) // one that came meanwhile stands
	return t, cause
}

// swap stores what an account holds next, a token or a proof. KindConflict: something
// else stands there and stays, or nothing does, unless yields says of its plaintext that
// it makes room; nil says so of nothing. A database that is away for a moment is tried
// again: what it should keep may be the only refresh token that still works.
func (w *Wallet) swap(ctx context.Context, acc Account, secret any, yields func([]byte) bool) error {
	next, err := w.seal(ctx, acc.User, acc.Server, acc.Issuer, secret)
	if err != nil {
		return err
	}
	next.Version = acc.Version
	for {
		err := w.store(ctx, next)
		if kidoban.KindOf(err) != kidoban.KindConflict || err == nil {
			return err
		}
		if yields == nil || !w.outlives(ctx, &next, yields) {
			return err
		}
	}
}

// store is SwapAccount for a database that may be away for a moment.
func (w *Wallet) store(ctx context.Context, next Account) error {
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		err := w.Store.SwapAccount(ctx, next)
		if err == nil || kidoban.KindOf(err) != kidoban.KindUnreachable || wait > maxSwapWait || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// outlives tells whether what stands in the way of next is still what was spent here:
// sealed anew with another key, or with a remark of a replica that came late and heard
// that the account has ended, or that the server wants more scopes. Then next replaces it.
func (w *Wallet) outlives(ctx context.Context, next *Account, yields func([]byte) bool) bool {
	now, err := w.Store.Account(ctx, next.User, next.Server)
	if err != nil || now.Issuer != next.Issuer || now.Version == next.Version {
		return false
	}
	raw, err := w.unseal(ctx, now)
	next.Version = now.Version
	return err == nil && yields(raw)
}

// spent tells whether a plaintext holds what this token gave for the next one.
func (t token) spent(raw []byte) bool {
	var now token
	return json.Unmarshal(raw, &now) == nil && now.Access == t.Access && now.Refresh == t.Refresh
}

// maxSwapWait is the longest of the pauses, six seconds in all.
const maxSwapWait = 3200 * time.Millisecond

// elsewhere looks what became of an account that could not be renewed here: somebody
// may have done it in the meantime all the same.
func (w *Wallet) elsewhere(ctx context.Context, a *App, acc Account, t token, cause error) (token, error) {
	now, err := w.Store.Account(ctx, acc.User, acc.Server)
	if kidoban.KindOf(err) == kidoban.KindNotFound && kidoban.KindOf(cause) != kidoban.KindNotFound {
		w.revoke(ctx, acc, t) // the issuer may have given the next one all the same
		return t, gone(acc)
	}
	if err != nil || now.Issuer != acc.Issuer {
		return t, cause
	}
	other, err := w.token(ctx, now)
	switch {
	case err != nil:
		return t, cause
	case !other.same(t):
		return a.instead(now, t, &other, nil)
	case kidoban.KindOf(cause) == kidoban.KindNotFound:
		return w.end(ctx, now, other, cause)
	}
	other.Trying = time.Time{}
	_ = w.swap(ctx, now, other, nil) // else the next one waits until the claim is too old
	return t, cause
}

// post asks the token endpoint. Redirects are not followed, and the secret goes
// to the issuer's own endpoint only (E36, 3 and 7).
func (w *Wallet) post(ctx context.Context, a *App, e endpoints, id identity, form url.Values, resource string) (oauth.TokenResponse, error) {
	if resource != "" {
		e.quirk.resource(form, resource)
	}
	h := kidoban.Fields{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}, {Name: "Accept", Value: "application/json"}}
	h, err := w.authenticate(e, id, form, h)
	if err != nil {
		return oauth.TokenResponse{}, err
	}
	x, err := w.client(a).Do(ctx, outbound.Req{Method: http.MethodPost, URL: e.token, Header: h, Body: []byte(form.Encode()), Credential: true, CredentialOrigin: e.token})
	if err != nil {
		return oauth.TokenResponse{}, kidoban.Wrap(kidoban.KindUnreachable, err, "the authorization server %s cannot be reached", e.issuer)
	}
	if er, ok := oauth.ParseErrorResponse(x.Response.Body); ok && e.quirk.ends(er.Code) {
		return oauth.TokenResponse{}, kidoban.Errorf(kidoban.KindNotFound, "the account at %s has ended: connect it again", e.issuer)
	} else if ok && er.Code == "invalid_client" && id.registered {
		return oauth.TokenResponse{}, w.lost(ctx, id, e.issuer)
	}
	t, err := oauth.ParseTokenResponse(x.Status(), x.Response.Body)
	if err != nil {
		return t, kidoban.Wrap(kidoban.KindUnreachable, err, "the authorization server %s gave no token", e.issuer)
	}
	bearer := t.TokenType == "" || strings.EqualFold(t.TokenType, "Bearer") || strings.EqualFold(t.TokenType, "N_A")
	if !bearer || !fieldSafe(kidoban.Field{Name: "Authorization", Value: t.AccessToken}) {
		return t, kidoban.Errorf(kidoban.KindInput, "the authorization server %s gave a token that cannot be used", e.issuer)
	}
	return t, nil
}
