// Package vault seals and opens secrets at rest: the tokens users hold at third
// parties, API keys, headers.
//
// Each secret is sealed by a data key of its own (AES-256-GCM), and the data
// key is wrapped by the key-encryption key, which never lies where the secrets
// lie: in a file of mode 0600, in the keychain of the operating system (sources.go),
// or sealed by a key management service (service.go). So a stolen database is worth nothing,
// and changing the key-encryption key means re-wrapping small data keys without
// touching a secret.
//
// A secret is bound to its owner (user, server, issuer) as associated data: a
// row copied onto another user's row does not open.
//
// Misuse to avoid: keeping the key file beside the database's backups; retiring
// old keys before every row was re-wrapped (Rotate, Rewrap all rows, Retire).
package vault

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/kidoban/kidoban"
)

// MaxSecret is the longest secret that is sealed, in bytes.
const MaxSecret = 64 << 10

// maxName bounds each part of an owner, in bytes.
const maxName = 2 << 10

// format is the first byte of everything sealed.
const format = 1

// Owner says whose secret it is. An empty User is a secret that all users of a
// server share; an empty Issuer is one that no authorization server gave out.
type Owner struct {
	User   string // the gateway's own user id
	Server string // the upstream's name in the config
	Issuer string // the authorization server that issued it
}

// associated encodes the owner so that no two owners give the same bytes:
// "a|b" and "c" must not read like "a" and "b|c".
func (o Owner) associated() ([]byte, error) {
	out := []byte("kidoban vault 1")
	for _, part := range []string{o.User, o.Server, o.Issuer} {
		if len(part) > maxName {
			return nil, kidoban.Errorf(kidoban.KindUsage, "vault: a part of the owner is longer than %d bytes", maxName)
		}
		out = binary.BigEndian.AppendUint16(out, uint16(len(part)))
		out = append(out, part...)
	}
	return out, nil
}

// Vault seals and opens. It is safe for concurrent use.
type Vault struct {
	src Source

	mu   sync.RWMutex
	keys Keys // guarded by mu
}

// Open returns a vault over the keys of src, which makes a key when it has none
// and can make one.
func Open(ctx context.Context, src Source) (*Vault, error) {
	k, err := src.Load(ctx)
	if err != nil {
		return nil, err
	}
	return &Vault{src: src, keys: k}, nil
}

func (v *Vault) current() Keys {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.keys
}

// Seal encrypts secret for its owner. Sealing the same secret twice gives
// different bytes.
func (v *Vault) Seal(ctx context.Context, o Owner, secret []byte) ([]byte, error) {
	if len(secret) > MaxSecret {
		return nil, kidoban.Errorf(kidoban.KindLimit, "vault: the secret is longer than %d bytes", MaxSecret)
	}
	ad, err := o.associated()
	if err != nil {
		return nil, err
	}
	env, err := envelope(v.current().KEK)
	if err != nil {
		return nil, err
	}
	body, err := env.EncryptWithContext(ctx, secret, ad)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "vault: the secret cannot be sealed")
	}
	return append([]byte{format}, body...), nil
}

// Unseal decrypts what Seal made for the same owner. KindRefused means that it
// does not open: another owner, a changed byte, or a key that is gone.
func (v *Vault) Unseal(ctx context.Context, o Owner, sealed []byte) ([]byte, error) {
	ad, err := o.associated()
	if err != nil {
		return nil, err
	}
	if err := check(sealed); err != nil {
		return nil, err
	}
	secret, err := v.unseal(ctx, sealed, ad)
	if err == nil {
		return secret, nil
	}
	// Another replica may have rotated the key since it was read here.
	if renewed, rerr := v.renew(ctx, sealed); rerr == nil && renewed {
		if secret, err = v.unseal(ctx, sealed, ad); err == nil {
			return secret, nil
		}
	}
	return nil, kidoban.Wrap(kidoban.KindRefused, err, "vault: the secret does not open for this user and server: connect the account again, or restore the vault's key")
}

func (v *Vault) unseal(ctx context.Context, sealed, ad []byte) ([]byte, error) {
	env, err := envelope(v.current().KEK)
	if err != nil {
		return nil, err
	}
	return env.DecryptWithContext(ctx, sealed[1:], ad)
}

// renew loads the keys again when the wrapped key names one that is not known
// here. A forged row can cost one file read, no more.
func (v *Vault) renew(ctx context.Context, sealed []byte) (bool, error) {
	wrapped, _, err := split(sealed)
	if err != nil || v.current().knows(wrapped) {
		return false, err
	}
	return true, v.Reload(ctx)
}

// Reload reads the keys from their source again.
func (v *Vault) Reload(ctx context.Context) error {
	k, err := v.src.Load(ctx)
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.keys = k
	v.mu.Unlock()
	return nil
}

// Rotate makes a new key-encryption key and uses it from now on. What was
// sealed before still opens; Rewrap brings it to the new key.
func (v *Vault) Rotate(ctx context.Context) error {
	if err := v.src.Rotate(ctx); err != nil {
		return err
	}
	return v.Reload(ctx)
}

// Retire forgets every key-encryption key but the newest. What was not
// re-wrapped is lost: call it only after all rows were.
func (v *Vault) Retire(ctx context.Context) error {
	if err := v.src.Retire(ctx); err != nil {
		return err
	}
	return v.Reload(ctx)
}

// Rewrap wraps the data key of a sealed secret by the newest key-encryption
// key. The secret itself is neither opened nor changed, and the owner need not
// be known. changed is false when the newest key already wraps it.
func (v *Vault) Rewrap(ctx context.Context, sealed []byte) (out []byte, changed bool, err error) {
	wrapped, payload, err := split(sealed)
	if err != nil {
		return nil, false, err
	}
	k := v.current()
	if k.isNewest(wrapped) {
		return sealed, false, nil
	}
	dek, err := k.KEK.DecryptWithContext(ctx, wrapped, nil)
	if err != nil {
		return nil, false, kidoban.Wrap(kidoban.KindRefused, err, "vault: a data key does not open: the key that wrapped it is gone")
	}
	again, err := k.KEK.EncryptWithContext(ctx, dek, nil)
	if err != nil {
		return nil, false, kidoban.Wrap(kidoban.KindUnreachable, err, "vault: a data key cannot be wrapped")
	}
	out = binary.BigEndian.AppendUint32([]byte{format}, uint32(len(again)))
	return append(append(out, again...), payload...), true, nil
}

// Status describes the vault for `kidoban vault status`; it holds no secret.
type Status struct {
	Source string   `json:"source"` // where the key-encryption key lives
	Keys   []string `json:"keys"`   // key ids, newest first; empty when the source does not tell
}

// Status tells where the keys are and how many.
func (v *Vault) Status() Status {
	return Status{Source: v.src.String(), Keys: v.current().names()}
}

func envelope(kek tink.AEADWithContext) (*aead.KMSEnvelopeAEADWithContext, error) {
	env, err := aead.NewKMSEnvelopeAEADWithContext(aead.AES256GCMKeyTemplate(), kek)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "vault: envelope")
	}
	return env, nil
}

func check(sealed []byte) error {
	if len(sealed) < 1 || sealed[0] != format {
		return kidoban.Errorf(kidoban.KindInput, "vault: this is not a sealed secret")
	}
	return nil
}

// split takes a sealed secret apart: format, length of the wrapped key, the
// wrapped key, payload (Tink's envelope layout).
func split(sealed []byte) (wrapped, payload []byte, err error) {
	if err := check(sealed); err != nil {
		return nil, nil, err
	}
	rest := sealed[1:]
	if len(rest) < 4 {
		return nil, nil, kidoban.Errorf(kidoban.KindInput, "vault: a sealed secret is cut short")
	}
	n := binary.BigEndian.Uint32(rest)
	if n == 0 || n > 4096 || int(n) > len(rest)-4 {
		return nil, nil, kidoban.Errorf(kidoban.KindInput, "vault: a sealed secret is cut short")
	}
	return rest[4 : 4+n], rest[4+n:], nil
}
