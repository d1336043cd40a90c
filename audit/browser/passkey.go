package browser

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/kidoban/kidoban"
)

// Passkey is a discoverable credential with its private key (WebAuthn level 2, an
// ECDSA P-256 key in PKCS #8). Byte strings are base64 in its JSON. It is as secret
// as a password, and belongs to a test account.
type Passkey struct {
	ID   []byte `json:"id"`
	Key  []byte `json:"key"`
	RP   string `json:"rp"`             // the site's domain
	User []byte `json:"user,omitempty"` // handle of the account, at most 64 bytes
}

// ParsePasskey reads the JSON form. Errors show nothing of it.
func ParsePasskey(text string) (*Passkey, error) {
	var p Passkey
	if len(text) > 8<<10 || json.Unmarshal([]byte(text), &p) != nil {
		return nil, kidoban.Errorf(kidoban.KindUsage, `the passkey is not JSON of the form {"id":…,"key":…,"rp":…,"user":…}`)
	}
	key, err := x509.ParsePKCS8PrivateKey(p.Key)
	if _, ok := key.(*ecdsa.PrivateKey); err != nil || !ok {
		return nil, kidoban.Errorf(kidoban.KindUsage, "the passkey has no ECDSA key in PKCS #8 form")
	}
	if len(p.ID) == 0 || p.RP == "" || len(p.User) > 64 {
		return nil, kidoban.Errorf(kidoban.KindUsage, "the passkey lacks its id or its site, or its user handle is longer than 64 bytes")
	}
	return &p, nil
}

// authenticator is a tab that can hold passkeys.
type authenticator interface {
	AddPasskey(ctx context.Context, p *Passkey) error
}

// AddPasskey gives the tab a platform authenticator, once, and puts p into it. The
// authenticator confirms by itself that a person is there.
func (t *tab) AddPasskey(ctx context.Context, p *Passkey) error {
	sctx, cancel := t.step(ctx)
	defer cancel()
	id, err := t.platform(sctx)
	if err != nil {
		return err
	}
	add := cdp.Command[addCredential, cdp.Empty]{Method: webauthn.CommandAddCredential}
	if _, err = chromedp.Call(sctx, add, addCredential{id, credential{p.ID, true, p.RP, p.Key, p.User, 1}}); err != nil {
		return kidoban.Wrap(kidoban.KindInput, err, "the browser does not take the passkey for %s", p.RP)
	}
	return nil
}

// addCredential are the parameters of WebAuthn.addCredential without those that
// authenticators without the newest extensions refuse, which the generated type
// always sends.
type addCredential struct {
	AuthenticatorID webauthn.AuthenticatorID `json:"authenticatorId"`
	Credential      credential               `json:"credential"`
}

type credential struct {
	CredentialID         []byte `json:"credentialId"`
	IsResidentCredential bool   `json:"isResidentCredential"`
	RpID                 string `json:"rpId"`
	PrivateKey           []byte `json:"privateKey"`
	UserHandle           []byte `json:"userHandle,omitempty"`
	SignCount            int    `json:"signCount"`
}

// platform is the tab's virtual authenticator, made at its first use.
func (t *tab) platform(ctx context.Context) (webauthn.AuthenticatorID, error) {
	if t.keys != "" {
		return t.keys, nil
	}
	if _, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		return "", kidoban.Wrap(kidoban.KindInternal, err, "the browser has no virtual authenticator")
	}
	res, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true}})
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindInternal, err, "the browser has no virtual authenticator")
	}
	t.keys = res.AuthenticatorID
	return t.keys, nil
}

// passkeys are the credentials that a site has put into the tab's authenticator.
func (t *tab) passkeys(ctx context.Context) ([]Passkey, error) {
	if t.keys == "" {
		return nil, nil
	}
	res, err := chromedp.Call(ctx, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: t.keys})
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the browser does not show its passkeys")
	}
	var out []Passkey
	for _, c := range res.Credentials {
		out = append(out, Passkey{ID: c.CredentialID, Key: c.PrivateKey, RP: c.RpID, User: c.UserHandle})
	}
	return out, nil
}
