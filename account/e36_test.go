package account

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/oauth"
)

// The self-test list of E36 at the connector: a hostile server, a hostile
// authorization server and a thief, who must get nothing. The items that need a
// call or a page are tested in gateway and cmd/kidoban under the same names.

// trial is a wallet before a hostile server.
type trial struct {
	*testing.T
	h     *lab.Hostile
	w     *Wallet
	shelf *shelf
	shift atomic.Int64
}

func newTrial(t *testing.T, attack string) *trial {
	t.Helper()
	h, err := lab.OpenHostile(attack)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	x := &trial{T: t, h: h}
	x.w, x.shelf = newWallet(t, nil, func() time.Time { return time.Now().Add(time.Duration(x.shift.Load())) })
	x.w.SetApps(map[string]*App{"s": {URL: h.URL, ClientName: "Kidoban", Loopback: true}})
	return x
}

// connect is a person who says yes to everything.
func (x *trial) connect(user string) error {
	const verifier = "verifier-verifier-verifier-verifier-verifier"
	to, memo, err := x.w.Begin(context.Background(), user, "s", "state-"+user, oauth.S256(verifier), callback)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodGet, to, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		return err
	}
	return x.w.Finish(context.Background(), user, "s", memo, back.Query(), verifier, callback)
}

// refuses fails unless the account cannot be connected, in words that hold
// nothing of the other side, and the thief got nothing.
func (x *trial) refuses(kind kidoban.Kind) {
	x.Helper()
	err := x.connect("alice")
	if err == nil || kidoban.KindOf(err) != kind {
		x.Errorf("%s: %v (%s)", x.Name(), err, kidoban.KindOf(err))
	}
	if err != nil && (strings.Contains(err.Error(), "<script>") || strings.Contains(err.Error(), "hostile-")) {
		x.Errorf("the refusal repeats the other side: %v", err)
	}
	x.untouched()
	for _, r := range x.h.Heard() {
		if strings.HasPrefix(r, "POST /token") && strings.Contains(r, "hostile-code") && kind == kidoban.KindRefused {
			x.Errorf("a code went to the token endpoint:\n%s", r)
		}
	}
}

func (x *trial) untouched() {
	x.Helper()
	if got := x.h.Leaks(); len(got) > 0 {
		x.Errorf("%s: the thief saw %v", x.Name(), got)
	}
}

// TestE36_00_Control: without an attack the same client connects and is served.
func TestE36_00_Control(t *testing.T) {
	x := newTrial(t, "")
	if err := x.connect("alice"); err != nil {
		t.Fatal(err)
	}
	if h, err := x.w.Credential(t.Context(), "alice", "s", false); err != nil || !strings.HasPrefix(h[0].Value, "Bearer hostile-access-") {
		t.Errorf("%v %v", h, err)
	}
	if len(x.h.Stolen()) > 0 {
		t.Error("the thief heard something")
	}
}

func (x *trial) nothingStolen() {
	x.Helper()
	if got := x.h.Stolen(); len(got) > 0 {
		x.Errorf("%s: the thief was asked: %q", x.Name(), got)
	}
}

func TestE36_01_ForeignResourceIsRefused(t *testing.T) {
	x := newTrial(t, "1-resource")
	x.refuses(kidoban.KindRefused)
	x.nothingStolen()
}

func TestE36_02_ForeignIssuerInMetadataIsRefused(t *testing.T) {
	x := newTrial(t, "2-issuer")
	x.refuses(kidoban.KindRefused)
	x.nothingStolen()
}

// TestE36_03_CredentialsStayWithTheirIssuer: the server's metadata names the
// thief now. What was got from the old issuer stays there; the user must agree
// anew, and the new issuer sees a new registration and nothing of the old.
func TestE36_03_CredentialsStayWithTheirIssuer(t *testing.T) {
	x := newTrial(t, "")
	if err := x.connect("alice"); err != nil {
		t.Fatal(err)
	}
	x.h.Begin("3-moved")
	for range 3 {
		if err := x.w.Challenged(t.Context(), "alice", "s", 401, []string{`Bearer error="invalid_token"`}); err != nil {
			t.Fatal(err)
		}
		_, _ = x.w.Credential(t.Context(), "alice", "s", true)
	}
	x.nothingStolen()
	if err := x.connect("alice"); err != nil { // she agrees: a new account at another issuer
		t.Fatal(err)
	}
	x.untouched2(x.h.Thief)
	acc, err := x.shelf.Account(t.Context(), "alice", "s")
	if err != nil || acc.Issuer != x.h.Thief {
		t.Errorf("%+v %v", acc, err)
	}
	x.shift.Store(int64(2 * time.Hour))
	if _, err := x.w.Credential(t.Context(), "alice", "s", false); err != nil {
		t.Error(err)
	}
}

// TestE36_03_TokensStayWithTheirServer: the operator gives the server's name to
// another server, or to another issuer; a token that is good for an hour yet is not
// shown there.
func TestE36_03_TokensStayWithTheirServer(t *testing.T) {
	for name, now := range map[string]*App{"server": {URL: "http://127.0.0.2:1/mcp", Loopback: true}, "issuer": {Issuer: "http://127.0.0.2:1", Loopback: true}} {
		t.Run(name, func(t *testing.T) {
			x := newTrial(t, "")
			if err := x.connect("alice"); err != nil {
				t.Fatal(err)
			}
			if now.URL == "" {
				now.URL = x.h.URL
			}
			x.w.SetApps(map[string]*App{"s": now})
			for _, renew := range []bool{false, true} {
				h, err := x.w.Credential(t.Context(), "alice", "s", renew)
				if kidoban.KindOf(err) != kidoban.KindNotFound || len(h) > 0 {
					t.Errorf("%v %v", h, err)
				}
			}
			x.w.SetApps(map[string]*App{"s": {URL: x.h.URL + "/other", Loopback: true}})
			if _, err := x.w.Credential(t.Context(), "alice", "s", false); err != nil {
				t.Errorf("another path of the same host: %v", err)
			}
		})
	}
}

// untouched2 fails when the issuer saw a secret of another one: those that were
// given out before its first request.
func (x *trial) untouched2(issuer string) {
	x.Helper()
	for _, r := range x.h.Stolen() {
		for _, s := range x.h.Secrets()[:5] { // client, secret, code, access, refresh of the first issuer
			if strings.Contains(r, s) {
				x.Errorf("%s saw %s:\n%s", issuer, s, r)
			}
		}
	}
}

func TestE36_04_AnswersOfAnotherIssuerAreRefused(t *testing.T) {
	for _, a := range []string{"4-missing", "4-wrong"} {
		t.Run(a, func(t *testing.T) { newTrial(t, a).refuses(kidoban.KindRefused) })
	}
}

func TestE36_05_AuthorizationEndpointsThatAreNoPageAreRefused(t *testing.T) {
	for _, a := range []string{"5-javascript", "5-file", "5-http", "5-shell"} {
		t.Run(a, func(t *testing.T) {
			x := newTrial(t, a)
			x.refuses(kidoban.KindRefused)
			x.nothingStolen()
		})
	}
}

func TestE36_06_NoFlowWithoutS256(t *testing.T) {
	for _, a := range []string{"6-absent", "6-plain"} {
		t.Run(a, func(t *testing.T) { newTrial(t, a).refuses(kidoban.KindRefused) })
	}
}

// TestE36_07_RedirectsAreNotFollowed: neither documents nor credentials go where
// a redirect leads.
func TestE36_07_RedirectsAreNotFollowed(t *testing.T) {
	for _, a := range []string{"7-prm", "7-metadata", "7-register", "7-token"} {
		t.Run(a, func(t *testing.T) {
			x := newTrial(t, a)
			if err := x.connect("alice"); err == nil {
				t.Error("connected")
			}
			x.nothingStolen()
		})
	}
	t.Run("7-refresh", func(t *testing.T) {
		x := newTrial(t, "")
		if err := x.connect("alice"); err != nil {
			t.Fatal(err)
		}
		x.h.Begin("7-refresh")
		x.shift.Store(int64(2 * time.Hour))
		if h, err := x.w.Credential(t.Context(), "alice", "s", false); err == nil {
			t.Errorf("%v", h)
		}
		x.nothingStolen()
	})
}

// TestE36_08_ClosedAddressesAreNotAsked: whatever a server names. Names that
// resolve to closed addresses, at once or later, are refused by the one dialler
// that all requests go through (package outbound).
func TestE36_08_ClosedAddressesAreNotAsked(t *testing.T) {
	for _, a := range []string{"8-document", "8-issuer", "8-token", "8-nat64", "8-mapped"} {
		t.Run(a, func(t *testing.T) { newTrial(t, a).refuses(kidoban.KindRefused) })
	}
	t.Run("loopback that was not opened", func(t *testing.T) {
		x := newTrial(t, "")
		for _, u := range []string{x.h.URL, strings.Replace(x.h.URL, "127.0.0.1", "localhost", 1), strings.Replace(x.h.URL, "http://127.0.0.1", "https://localtest.localhost", 1)} {
			x.w.SetApps(map[string]*App{"s": {URL: u}})
			if err := x.connect("alice"); err == nil {
				t.Errorf("%s was asked", u)
			}
		}
		if len(x.h.Heard()) > 0 {
			t.Error("the server was asked")
		}
	})
}

func TestE36_10_ErrorsOfTheOtherSideAreNotRepeated(t *testing.T) {
	newTrial(t, "10-error").refuses(kidoban.KindRefused)
	x := newTrial(t, "")
	x.w.SetApps(map[string]*App{"s": {URL: x.h.URL, Issuer: x.h.Issuer, ClientID: "fixed", Loopback: true}})
	x.h.Begin("10-error")
	x.refuses(kidoban.KindRefused)
}

// TestE36_12_StepUpsAreBounded: a server that always wants one scope more is
// refused after a few, one that wants what it has at once.
func TestE36_12_StepUpsAreBounded(t *testing.T) {
	x := newTrial(t, "")
	if err := x.connect("alice"); err != nil {
		t.Fatal(err)
	}
	challenge := func(scope string) error {
		return x.w.Challenged(t.Context(), "alice", "s", 403, []string{`Bearer error="insufficient_scope", scope="` + scope + `"`})
	}
	if err := challenge("read"); kidoban.KindOf(err) != kidoban.KindRefused {
		t.Errorf("a scope that was asked for: %v", err)
	}
	if err := challenge(""); kidoban.KindOf(err) != kidoban.KindRefused {
		t.Errorf("no scope: %v", err)
	}
	rounds := 0
	for i := range 50 {
		if err := challenge(fmt.Sprintf("more-%d", i)); kidoban.KindOf(err) != kidoban.KindNotFound {
			break
		}
		if st, err := x.w.State(t.Context(), "alice", "s"); err != nil || st.Connected || len(st.Scopes) != i+2 {
			t.Fatalf("%+v %v", st, err)
		}
		rounds++
		if err := x.connect("alice"); err != nil {
			t.Fatal(err)
		}
	}
	if asked := x.h.Asked(); rounds != MaxStepUps || asked[2] != "read more-0 more-1" {
		t.Errorf("%d rounds, asked %q", rounds, asked)
	}
	many := strings.Repeat("x ", 1) + strings.Join(manyScopes(200), " ")
	y := newTrial(t, "")
	if err := y.connect("alice"); err != nil {
		t.Fatal(err)
	}
	if err := y.w.Challenged(t.Context(), "alice", "s", 403, []string{`Bearer error="insufficient_scope", scope="` + many + `"`}); kidoban.KindOf(err) != kidoban.KindRefused {
		t.Errorf("200 scopes: %v", err)
	}
	x.nothingStolen()
}

func manyScopes(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("s", i))
	}
	return out
}

// TestE36_13_RefreshesAreSerialised: many calls and two replicas at the moment a
// token runs out; each refresh token is used once.
func TestE36_13_RefreshesAreSerialised(t *testing.T) {
	x := newTrial(t, "")
	if err := x.connect("alice"); err != nil {
		t.Fatal(err)
	}
	x.shift.Store(int64(2 * time.Hour))
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := x.w.Credential(context.Background(), "alice", "s", false); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	for _, r := range x.h.Heard() {
		if strings.HasPrefix(r, "POST /token") && strings.Contains(r, "grant_type=refresh_token") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d refreshes", n)
	}
}

// TestGVA2_RenewalInTheBackground: in the last minutes of a token's life a call
// gets the old one at once, and the next one a while later; a server that
// refuses fresh tokens does not make the gateway hammer the issuer.
func TestGVA2_RenewalInTheBackground(t *testing.T) {
	x := newTrial(t, "")
	if err := x.connect("alice"); err != nil {
		t.Fatal(err)
	}
	get := func(renew bool) string {
		h, err := x.w.Credential(t.Context(), "alice", "s", renew)
		if err != nil {
			return err.Error()
		}
		return h[0].Value
	}
	first := get(false)
	x.shift.Store(int64(56 * time.Minute))
	if got := get(false); got != first {
		t.Errorf("the call waited for the renewal: %s", got)
	}
	for deadline := time.Now().Add(time.Minute); get(false) == first && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	second := get(false)
	if second == first {
		t.Fatal("no renewal")
	}
	if got := get(true); got != second {
		t.Errorf("a fresh token was refused, and the answer was %s", got)
	}
	n := 0
	for _, r := range x.h.Heard() {
		if strings.HasPrefix(r, "POST /token") && strings.Contains(r, "grant_type=refresh_token") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d renewals", n)
	}
	x.untouched()
}

// TestCL09_RegistrationIsSealedAndKept: one registration serves all users, lies
// sealed, moves with rotation, and is made anew when its issuer lost it.
func TestCL09_RegistrationIsSealedAndKept(t *testing.T) {
	x := newTrial(t, "")
	for _, user := range []string{"alice", "bob"} {
		if err := x.connect(user); err != nil {
			t.Fatal(err)
		}
	}
	registered := func() (n int) {
		for _, r := range x.h.Heard() {
			if strings.HasPrefix(r, "POST /register") {
				n++
			}
		}
		return n
	}
	if n := registered(); n != 1 {
		t.Errorf("%d registrations", n)
	}
	for _, a := range x.shelf.all {
		for _, s := range x.h.Secrets() {
			if strings.Contains(string(a.Sealed), s) {
				t.Errorf("%s lies open", s)
			}
		}
	}
	if err := x.w.Vault.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := x.w.Rewrap(t.Context()); err != nil || n != 3 {
		t.Errorf("%d re-wrapped, %v", n, err)
	}
	if err := x.w.Vault.Retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := x.connect("carol"); err != nil || registered() != 1 {
		t.Errorf("after rotation: %v, %d registrations", err, registered())
	}
	held, err := x.w.registration(t.Context(), "s", x.h.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.w.lost(t.Context(), identity{id: held.ID, server: "s", registered: true}, x.h.Issuer); kidoban.KindOf(err) != kidoban.KindNotFound {
		t.Error(err)
	}
	if err := x.connect("alice"); err != nil || registered() != 2 {
		t.Errorf("after the loss: %v, %d registrations", err, registered())
	}
}

// TestE36_08_PrivateRangesOpenByName: an authorization server in a private range
// is asked only where the operator opened them, and never in clear text.
func TestE36_08_PrivateRangesOpenByName(t *testing.T) {
	w, _ := newWallet(t, nil, time.Now)
	for _, c := range []struct {
		issuer string
		opened bool
		closed bool // by its text
	}{{"https://10.0.0.1", false, true}, {"https://10.0.0.1", true, false}, {"http://10.0.0.1", true, true}, {"https://127.0.0.1", true, true}, {"https://169.254.169.254", true, true}, {"https://login.internal", false, true}, {"https://login.internal", true, false}} {
		if err := w.client(&App{Private: c.opened}).CheckURL(c.issuer); (err != nil) != c.closed {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
