package authserver

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
)

// newToken returns prefix and 256 random bits in base64url. The prefix lets a
// secret scanner recognise a leaked token. It panics when randomness fails: a
// process without it must not go on to make secrets.
func newToken(r io.Reader, prefix string) string {
	var b [32]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		panic("authserver: no randomness: " + err.Error())
	}
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// newID returns prefix and 128 random bits: an identifier, not a secret.
func newID(r io.Reader, prefix string) string {
	var b [16]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		panic("authserver: no randomness: " + err.Error())
	}
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// hashToken is the only form in which tokens, codes and cookies are stored. They
// have 256 random bits, so a plain hash cannot be searched.
func hashToken(token string) []byte { h := sha256.Sum256([]byte(token)); return h[:] }

// box seals short messages that travel through strangers' hands: tickets,
// cookies' contents, request_uri values. The purpose is bound to the ciphertext,
// so that one sort cannot pass for another.
type box struct {
	aead cipher.AEAD
	rand io.Reader
	now  func() time.Time
}

func newBox(key []byte, r io.Reader, now func() time.Time) (*box, error) {
	a, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return &box{a, r, now}, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// envelope is what is inside a sealed message.
type envelope struct {
	Until int64           `json:"u"` // unix seconds
	Body  json.RawMessage `json:"b"`
}

// seal returns v as base64url, readable by this server only and until then.
func (b *box) seal(purpose string, v any, life time.Duration) (string, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(envelope{b.now().Add(life).Unix(), body})
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(sealWith(b.aead, b.rand, plain, purpose)), nil
}

// open reads a sealed message. Every failure is the same error: who sends a bad
// one learns nothing.
func (b *box) open(purpose, sealed string, v any) error {
	bad := kidoban.Errorf(kidoban.KindInput, "the form is too old or was changed on the way")
	if len(sealed) > 16<<10 {
		return bad
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || strings.ContainsAny(sealed, "\r\n") { // which the decoder would skip
		return bad
	}
	plain, err := openWith(b.aead, raw, purpose)
	if err != nil {
		return bad
	}
	var e envelope
	if json.Unmarshal(plain, &e) != nil || b.now().Unix() >= e.Until || json.Unmarshal(e.Body, v) != nil {
		return bad
	}
	return nil
}

func sealWith(a cipher.AEAD, r io.Reader, plain []byte, ad string) []byte {
	nonce := make([]byte, a.NonceSize(), a.NonceSize()+len(plain)+a.Overhead())
	if _, err := io.ReadFull(r, nonce); err != nil {
		panic("authserver: no randomness: " + err.Error())
	}
	return a.Seal(nonce, nonce, plain, []byte(ad))
}

func openWith(a cipher.AEAD, sealed []byte, ad string) ([]byte, error) {
	if len(sealed) < a.NonceSize() {
		return nil, kidoban.Errorf(kidoban.KindInput, "the sealed value is too short")
	}
	return a.Open(nil, sealed[:a.NonceSize()], sealed[a.NonceSize():], []byte(ad))
}

// sealSuccessor seals the successor of a refresh token under a key that only the
// holder of the presented token has: the database alone cannot open it (G-AS5).
func sealSuccessor(r io.Reader, presented, successor string) ([]byte, error) {
	a, err := successorAEAD(presented)
	if err != nil {
		return nil, err
	}
	return sealWith(a, r, []byte(successor), "refresh successor"), nil
}

func openSuccessor(presented string, sealed []byte) (string, error) {
	a, err := successorAEAD(presented)
	if err != nil {
		return "", err
	}
	plain, err := openWith(a, sealed, "refresh successor")
	return string(plain), err
}

func successorAEAD(presented string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(presented), nil, "kidoban refresh successor", 32)
	if err != nil {
		return nil, err
	}
	return newAEAD(key)
}

// serverSecret returns the 32 bytes stored under name, making them at first use.
// All replicas get the same.
func serverSecret(ctx context.Context, s Store, sealer Sealer, r io.Reader, name string) ([]byte, error) {
	fresh := make([]byte, 32)
	if _, err := io.ReadFull(r, fresh); err != nil {
		return nil, err
	}
	sealed, err := sealer.Seal(ctx, fresh, []byte("authserver secret "+name))
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the key source cannot seal: check the vault's configuration")
	}
	stored, err := s.Secret(ctx, name, sealed)
	if err != nil {
		return nil, err
	}
	plain, err := sealer.Open(ctx, stored, []byte("authserver secret "+name))
	if err != nil || len(plain) != 32 {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the key source cannot open the secrets in the database: it is not the key source they were sealed with; restore that one from your backup")
	}
	return plain, nil
}
