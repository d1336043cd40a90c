package lab

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/kidoban/kidoban"
)

// Passkeys: one account logs in with a credential of a platform authenticator
// (WebAuthn level 2) and has no password. The private half is public, like every
// password of the lab: a tester puts it into a virtual authenticator.

// passkeyUser is the account that has one.
const passkeyUser = "dora"

// passkeyHost is the relying party: browsers take no address for one.
const passkeyHost = "localhost"

// passkey is a credential in the form that a virtual authenticator takes.
type passkey struct {
	ID   []byte `json:"id"`
	Key  []byte `json:"key"` // PKCS #8
	RP   string `json:"rp"`
	User []byte `json:"user"`

	public *ecdsa.PublicKey
}

// addPasskey makes the credential and the account of passkeyUser.
func (l *Lab) addPasskey() error {
	key, err := newSigningKey()
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "cannot write the passkey")
	}
	p := &passkey{ID: []byte(l.random(16)), Key: der, RP: passkeyHost, User: []byte(passkeyUser), public: &key.PublicKey}
	text, err := json.Marshal(p)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "cannot write the passkey")
	}
	l.pass = p
	l.Accounts = append(l.Accounts, Account{User: passkeyUser, Passkey: string(text)})
	return nil
}

const passkeyScript = `const bytes = s => Uint8Array.from(atob(s.replace(/-/g, "+").replace(/_/g, "/")), c => c.charCodeAt(0));
const text = b => btoa(String.fromCharCode(...new Uint8Array(b))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
document.getElementById("use").addEventListener("click", async () => {
  const form = document.forms[0];
  const c = await navigator.credentials.get({publicKey: {challenge: bytes(form.dataset.challenge), rpId: "localhost", userVerification: "required"}});
  form.elements.assertion.value = JSON.stringify({id: text(c.rawId), client: text(c.response.clientDataJSON), data: text(c.response.authenticatorData), signature: text(c.response.signature)});
  form.submit();
});
`

// passkeyLogin shows the page that asks for the passkey, and takes the answer.
func (l *Lab) passkeyLogin(w http.ResponseWriter, r *http.Request) {
	if l.pass == nil {
		http.NotFound(w, r)
		return
	}
	if r.URL.Query().Has("script") {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		w.Write([]byte(passkeyScript))
		return
	}
	t := l.txnOf(w, r)
	if t == nil {
		return
	}
	if r.Method == http.MethodPost {
		if !l.sameOrigin(r) || !isForm(r) || !same(t.csrf, r.PostFormValue("csrf")) || !l.asserted(t, r.PostFormValue("assertion")) {
			l.errorPage(w, http.StatusUnauthorized, "access_denied", "This passkey is not known here.")
			return
		}
		t.dare = "" // one challenge, one answer
		l.loggedIn(w, r, t, passkeyUser)
		return
	}
	t.dare = base64.RawURLEncoding.EncodeToString([]byte(l.random(32)))
	at := l.asPath + "/login/passkey"
	l.pageHeaders(w)
	w.Header().Set("Content-Security-Policy", l.pagePolicy("frame-ancestors 'none'")+"; script-src 'self'")
	l.pages.render(w, http.StatusOK, "passkey", map[string]string{"Action": at, "Tx": t.id, "CSRF": t.csrf, "Challenge": t.dare, "Script": at + "?script"})
}

// passkeyLink is where the login page sends who has a passkey, "" without them.
func (l *Lab) passkeyLink(t *txn) string {
	if l.pass == nil {
		return ""
	}
	return l.asPath + "/login/passkey?" + url.Values{"tx": {t.id}}.Encode()
}

// asserted checks an assertion (WebAuthn §7.2, the steps that a lab needs): the
// credential, the challenge, the origin, the relying party, that a person was there
// and was verified, and the signature.
func (l *Lab) asserted(t *txn, raw string) bool {
	var a struct{ ID, Client, Data, Signature string }
	if t.dare == "" || len(raw) > 8<<10 || json.Unmarshal([]byte(raw), &a) != nil {
		return false
	}
	bytes := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			return nil
		}
		return b
	}
	var client struct{ Type, Challenge, Origin string }
	raws, data, sig := bytes(a.Client), bytes(a.Data), bytes(a.Signature)
	if string(bytes(a.ID)) != string(l.pass.ID) || json.Unmarshal(raws, &client) != nil || len(data) < 37 {
		return false
	}
	rp := sha256.Sum256([]byte(passkeyHost))
	const present, verified = 1, 4
	if client.Type != "webauthn.get" || !same(client.Challenge, t.dare) || client.Origin != l.base ||
		string(data[:32]) != string(rp[:]) || data[32]&present == 0 || data[32]&verified == 0 {
		return false
	}
	hash := sha256.Sum256(raws)
	digest := sha256.Sum256(append(data, hash[:]...))
	return ecdsa.VerifyASN1(l.pass.public, digest[:], sig)
}
