package authserver

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kidoban/kidoban"
)

// KeySet is the set of keys that sign access tokens. It is held in memory and
// followed in the background; reading it costs no I/O.
//
// A key is published one overlap before it signs and stays published one overlap
// after it has stopped, so that a verifier that caches the set for less than the
// overlap never meets an unknown key (G-AS6).
type KeySet struct {
	store  Store
	sealer Sealer
	rand   io.Reader
	now    func() time.Time
	alg    jose.SignatureAlgorithm
	period time.Duration
	state  atomic.Pointer[keyState]
}

// keyOverlap is how long a key is published before and after it signs.
const keyOverlap = 24 * time.Hour

type keyState struct {
	public map[string]jose.JSONWebKey
	jwks   []byte
	signer jose.Signer
	kid    string
}

// Lookup returns the public key of a key id.
func (k *KeySet) Lookup(kid string) (jose.JSONWebKey, bool) {
	j, ok := k.state.Load().public[kid]
	return j, ok
}

// JWKS returns the published set as JSON. Callers must not change it.
func (k *KeySet) JWKS() []byte { return k.state.Load().jwks }

// Algorithms lists what the keys sign with; verifiers accept no other.
func (k *KeySet) Algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256}
}

// RefreshKeys makes the keys that are due and reads the set, as the background
// loop does: for an operator who has retired the keys and does not want to wait.
func (s *Server) RefreshKeys(ctx context.Context) error { return s.keys.refresh(ctx) }

// Refresh reads the set at once, because a token names a key that is not in it:
// another replica may have made one in an emergency. The caller bounds how often.
func (k *KeySet) Refresh(ctx context.Context) error { return k.refresh(ctx) }

// refresh makes the keys that are due and reads the set. It is called at start,
// then about every half minute, so that every replica knows a new key long
// before it signs.
func (k *KeySet) refresh(ctx context.Context) error {
	now := k.now()
	keys, err := k.store.SigningKeys(ctx, now)
	if err != nil {
		return err
	}
	current, next := false, false
	for _, key := range keys {
		if key.Alg != string(k.alg) {
			continue
		}
		current = current || !key.Active.After(now) && key.Retire.After(now)
		next = next || key.Active.After(now) || key.Retire.After(now.Add(keyOverlap))
	}
	if !current || !next {
		start := now
		if current { // the successor: published now, signing from the retirement on
			for _, key := range keys {
				if key.Alg == string(k.alg) && key.Retire.After(start) {
					start = key.Retire
				}
			}
		}
		if err := k.add(ctx, start, len(keys)); err != nil {
			return err
		}
		if keys, err = k.store.SigningKeys(ctx, now); err != nil {
			return err
		}
	}
	return k.load(ctx, keys, now)
}

// add makes a key that signs from start for one period. The slot makes replicas
// that do this at the same moment agree on one key.
func (k *KeySet) add(ctx context.Context, start time.Time, known int) error {
	private, err := k.generate()
	if err != nil {
		return err
	}
	kid := newID(k.rand, "k")
	secret, err := json.Marshal(jose.JSONWebKey{Key: private, KeyID: kid, Algorithm: string(k.alg), Use: "sig"})
	if err != nil {
		return err
	}
	public, err := json.Marshal(jose.JSONWebKey{Key: private.Public(), KeyID: kid, Algorithm: string(k.alg), Use: "sig"})
	if err != nil {
		return err
	}
	sealed, err := k.sealer.Seal(ctx, secret, []byte("signing key "+kid))
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the key source cannot seal: check the vault's configuration")
	}
	// Two replicas that find no key within a minute take the same slot; a key that
	// was retired within the minute is one they both know.
	slot := fmt.Sprintf("%s:%d:%d", k.alg, start.Truncate(time.Minute).Unix(), known)
	_, err = k.store.AddKey(ctx, SigningKey{KID: kid, Slot: slot, Alg: string(k.alg), Sealed: sealed, Public: public,
		Active: start, Retire: start.Add(k.period), Expires: start.Add(k.period + keyOverlap)})
	return err
}

func (k *KeySet) generate() (crypto.Signer, error) {
	if k.alg == jose.ES256 {
		return ecdsa.GenerateKey(elliptic.P256(), k.rand)
	}
	_, private, err := ed25519.GenerateKey(k.rand)
	return private, err
}

func (k *KeySet) load(ctx context.Context, keys []SigningKey, now time.Time) error {
	st := &keyState{public: map[string]jose.JSONWebKey{}}
	old := k.state.Load()
	var set jose.JSONWebKeySet
	var signing *SigningKey
	for i, key := range keys {
		var j jose.JSONWebKey
		if err := json.Unmarshal(key.Public, &j); err != nil || !j.IsPublic() || j.KeyID != key.KID {
			return kidoban.Wrap(kidoban.KindInternal, err, "signing key %s in the database is damaged: restore it from a backup or delete its row", key.KID)
		}
		st.public[key.KID] = j
		set.Keys = append(set.Keys, j)
		if key.Alg == string(k.alg) && !key.Active.After(now) && key.Retire.After(now) && (signing == nil || key.Active.After(signing.Active)) {
			signing = &keys[i]
		}
	}
	if signing == nil {
		return kidoban.Errorf(kidoban.KindInternal, "there is no signing key for now: is the clock right?")
	}
	var err error
	if st.jwks, err = json.Marshal(set); err != nil {
		return err
	}
	st.kid = signing.KID
	if old != nil && old.kid == st.kid {
		st.signer = old.signer
	} else if st.signer, err = k.signer(ctx, *signing); err != nil {
		return err
	}
	k.state.Store(st)
	return nil
}

func (k *KeySet) signer(ctx context.Context, key SigningKey) (jose.Signer, error) {
	secret, err := k.sealer.Open(ctx, key.Sealed, []byte("signing key "+key.KID))
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the key source cannot open signing key %s: it is not the key source it was sealed with; restore that one from your backup", key.KID)
	}
	var j jose.JSONWebKey
	if err := json.Unmarshal(secret, &j); err != nil || j.IsPublic() {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "signing key %s in the database is damaged", key.KID)
	}
	return jose.NewSigner(jose.SigningKey{Algorithm: k.alg, Key: j}, (&jose.SignerOptions{}).WithType("at+jwt"))
}

// sign returns claims as a compact at+jwt.
func (k *KeySet) sign(claims any) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	jws, err := k.state.Load().signer.Sign(body)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// parseJWKS reads a set of public asymmetric keys, at most 16.
func parseJWKS(raw []byte) (jose.JSONWebKeySet, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &set); err != nil {
		return set, kidoban.Wrap(kidoban.KindInput, err, "the JWK set cannot be read")
	}
	if len(set.Keys) == 0 || len(set.Keys) > 16 {
		return set, kidoban.Errorf(kidoban.KindInput, "the JWK set must hold 1 to 16 keys")
	}
	for _, j := range set.Keys {
		if !j.Valid() || !j.IsPublic() {
			return set, kidoban.Errorf(kidoban.KindInput, "the JWK set must hold public keys only")
		}
	}
	return set, nil
}

// thumbprint is the RFC 7638 thumbprint of a key in base64url.
func thumbprint(j jose.JSONWebKey) (string, error) {
	t, err := j.Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(t), err
}
