// Package authtest is how tests look at pages: as a browser that keeps cookies and
// follows nothing, and as a real Chromium. It knows no page of its own, so that the
// authorization server, the console and the whole program are looked at in the same
// way.
package authtest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"testing"
)

// Sealer is a key source with one AES key, the same in every test.
type Sealer struct{ aead cipher.AEAD }

// NewSealer returns it.
func NewSealer(t testing.TB) Sealer {
	t.Helper()
	b, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		t.Fatal(err)
	}
	return Sealer{a}
}

// Seal implements authserver.Sealer.
func (s Sealer) Seal(_ context.Context, plain, ad []byte) ([]byte, error) {
	nonce := make([]byte, 12)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return s.aead.Seal(nonce, nonce, plain, ad), nil
}

// Open implements authserver.Sealer.
func (s Sealer) Open(_ context.Context, sealed, ad []byte) ([]byte, error) {
	return s.aead.Open(nil, sealed[:12], sealed[12:], ad)
}
