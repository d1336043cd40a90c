package keylog

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/cryptobyte"
)

// suite is how a cipher suite protects records.
type suite struct {
	hash     func() hash.Hash
	key      int // bytes
	aead     func(key []byte) (cipher.AEAD, error)
	explicit bool // TLS 1.2 AES-GCM: half of the nonce travels with the record
}

func gcm(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// suiteOf returns the suite with this number; ok is false for those that are not
// read.
func suiteOf(id uint16) (s suite, ok bool) {
	switch id {
	case 0x1301: // TLS 1.3
		return suite{sha256.New, 16, gcm, false}, true
	case 0x1302:
		return suite{sha512.New384, 32, gcm, false}, true
	case 0x1303:
		return suite{sha256.New, 32, chacha20poly1305.New, false}, true
	case 0x009c, 0x009e, 0xc02b, 0xc02f: // RSA, DHE, ECDHE_ECDSA, ECDHE_RSA with AES-128-GCM
		return suite{sha256.New, 16, gcm, true}, true
	case 0x009d, 0x009f, 0xc02c, 0xc030: // the same with AES-256-GCM
		return suite{sha512.New384, 32, gcm, true}, true
	case 0xcca8, 0xcca9, 0xccaa: // ChaCha20-Poly1305
		return suite{sha256.New, 32, chacha20poly1305.New, false}, true
	}
	return suite{}, false
}

// key opens the records of one direction for as long as it is the right one.
type key struct {
	suite  suite
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
	secret []byte // TLS 1.3: of this generation
}

// newKey13 derives a key from a traffic secret (RFC 8446 §7.3). nil when the
// secret is missing or of another length than the suite's.
func newKey13(s suite, secret []byte) *key {
	if len(secret) != s.hash().Size() {
		return nil
	}
	a, err := s.aead(expandLabel(s, secret, "key", s.key))
	if err != nil {
		return nil
	}
	return &key{suite: s, aead: a, iv: expandLabel(s, secret, "iv", a.NonceSize()), secret: secret}
}

// next is the key after a key update (RFC 8446 §7.2).
func (k *key) next() *key {
	return newKey13(k.suite, expandLabel(k.suite, k.secret, "traffic upd", k.suite.hash().Size()))
}

// expandLabel is HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
func expandLabel(s suite, secret []byte, label string, n int) []byte {
	var b cryptobyte.Builder
	b.AddUint16(uint16(n))
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte("tls13 " + label)) })
	b.AddUint8(0)
	out, err := hkdf.Expand(s.hash, secret, string(b.BytesOrPanic()), n)
	if err != nil {
		panic("keylog: a key longer than HKDF gives") // n is one of ours
	}
	return out
}

// open13 opens a TLS 1.3 record: the content and its real type.
func (k *key) open13(r record) (kind byte, plain []byte, ok bool) {
	plain, err := k.aead.Open(nil, k.nonce(), r.body, r.header)
	if err != nil {
		return 0, nil, false
	}
	k.seq++
	i := len(plain) - 1
	for i >= 0 && plain[i] == 0 { // padding (RFC 8446 §5.4)
		i--
	}
	if i < 0 {
		return 0, nil, true
	}
	return plain[i], plain[:i], true
}

// nonce is the sequence number over the static part (RFC 8446 §5.3, RFC 7905 §2).
func (k *key) nonce() []byte {
	n := make([]byte, len(k.iv))
	copy(n, k.iv)
	for i := range 8 {
		n[len(n)-1-i] ^= byte(k.seq >> (8 * i))
	}
	return n
}

// newKeys12 derives both directions' keys from a master secret (RFC 5246 §6.3).
func newKeys12(s suite, master []byte, client, server [32]byte) (c, sv *key) {
	iv := 12
	if s.explicit {
		iv = 4
	}
	seed := append(append([]byte("key expansion"), server[:]...), client[:]...)
	block := prf12(s.hash, master, seed, 2*s.key+2*iv)
	build := func(k, iv []byte) *key {
		a, err := s.aead(k)
		if err != nil {
			return nil
		}
		return &key{suite: s, aead: a, iv: iv}
	}
	ivs := block[2*s.key:]
	return build(block[:s.key], ivs[:iv]), build(block[s.key:2*s.key], ivs[iv:])
}

// prf12 is the pseudorandom function of RFC 5246 §5; seed begins with the label.
func prf12(h func() hash.Hash, secret, seed []byte, n int) []byte {
	sum := func(parts ...[]byte) []byte {
		m := hmac.New(h, secret)
		for _, p := range parts {
			m.Write(p)
		}
		return m.Sum(nil)
	}
	var out []byte
	for a := sum(seed); len(out) < n; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:n]
}

// open12 opens a TLS 1.2 record (RFC 5246 §6.2.3.3, RFC 5288, RFC 7905).
func (k *key) open12(r record) (plain []byte, ok bool) {
	var nonce []byte
	body := r.body
	switch {
	case !k.suite.explicit:
		nonce = k.nonce()
	case len(body) < 8:
		return nil, false
	default:
		nonce, body = append(append([]byte{}, k.iv...), body[:8]...), body[8:]
	}
	if len(body) < k.aead.Overhead() {
		return nil, false
	}
	var aad [13]byte
	binary.BigEndian.PutUint64(aad[:], k.seq)
	copy(aad[8:], r.header[:3])
	binary.BigEndian.PutUint16(aad[11:], uint16(len(body)-k.aead.Overhead()))
	plain, err := k.aead.Open(nil, nonce, body, aad[:])
	if err != nil {
		return nil, false
	}
	k.seq++
	return plain, true
}
