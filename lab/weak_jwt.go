package lab

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// hs256 is the signature part of a JWT.
func hs256(key []byte, signed string) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(signed))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func hs256Good(key []byte, raw string) bool {
	i := strings.LastIndexByte(raw, '.')
	return i > 0 && same(hs256(key, raw[:i]), raw[i+1:])
}
