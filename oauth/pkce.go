package oauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"io"

	"github.com/kidoban/kidoban"
)

// S256 returns the code challenge of a verifier: base64url without padding of
// its SHA-256 (RFC 7636 §4.2). Always 43 characters.
func S256(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// NewVerifier returns a code verifier of 256 random bits (43 characters). It
// panics when r fails: a process without randomness must not go on to make
// secrets.
func NewVerifier(r io.Reader) string {
	var b [32]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		panic("oauth: no randomness for a code verifier: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// CheckVerifier checks the syntax of RFC 7636 §4.1: 43 to 128 characters of
// A–Z a–z 0–9 - . _ ~.
func CheckVerifier(verifier string) error {
	if n := len(verifier); n < 43 || n > 128 {
		return kidoban.Errorf(kidoban.KindInput, "The code_verifier has %s; RFC 7636 wants 43 to 128.", kidoban.Count(n, "character", "characters"))
	}
	for i := 0; i < len(verifier); i++ {
		if !isUnreserved(verifier[i]) {
			return kidoban.Errorf(kidoban.KindInput, "The code_verifier holds a character outside A-Z a-z 0-9 - . _ ~ at position %d.", i)
		}
	}
	return nil
}

// CheckChallenge checks the syntax of an S256 code challenge: exactly 43
// characters of base64url that decode to 32 bytes.
func CheckChallenge(challenge string) error {
	b, err := base64.RawURLEncoding.Strict().DecodeString(challenge)
	if err != nil || len(b) != sha256.Size {
		return kidoban.Errorf(kidoban.KindInput, "The code_challenge is not the base64url form of a SHA-256 (43 characters, no padding).")
	}
	return nil
}

// VerifyS256 tells whether verifier belongs to challenge, in constant time.
func VerifyS256(challenge, verifier string) bool {
	return CheckVerifier(verifier) == nil &&
		subtle.ConstantTimeCompare([]byte(S256(verifier)), []byte(challenge)) == 1
}

func isUnreserved(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}
