package account

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kidoban/kidoban"
)

// identity is the gateway as a client at one issuer.
type identity struct {
	id, secret string
	key        *Key
	method     string // of authentication; "": by the issuer's metadata
	registered bool   // by ourselves, so it can be lost and made again
	server     string // with registered
}

// Methods of client authentication at the token endpoint.
const (
	methodNone  = "none"
	methodBasic = "client_secret_basic"
	methodPost  = "client_secret_post"
	methodKey   = "private_key_jwt"
)

// choose picks the method: the one that was fixed, or what the identity can and
// the issuer takes.
func (id identity) choose(e endpoints) string {
	takes := func(m string) bool { return slices.Contains(e.methods, m) }
	switch {
	case id.method != "":
		return id.method
	case id.key != nil && (id.secret == "" || takes(methodKey)):
		return methodKey
	case id.secret == "":
		return methodNone
	case takes(methodPost) || !takes(methodBasic):
		return methodPost
	}
	return methodBasic
}

// assertionLife is how long a client assertion is good.
const assertionLife = time.Minute

// authenticate puts the client's proof into the form or the header.
func (w *Wallet) authenticate(e endpoints, id identity, form url.Values, h kidoban.Fields) (kidoban.Fields, error) {
	switch m := id.choose(e); m {
	case methodBasic:
		pair := url.QueryEscape(id.id) + ":" + url.QueryEscape(id.secret) // RFC 6749 §2.3.1
		return append(h, kidoban.Field{Name: "Authorization", Value: "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))}), nil
	case methodPost:
		form.Set("client_id", id.id)
		form.Set("client_secret", id.secret)
	case methodKey:
		assertion, err := w.assertion(e, id)
		if err != nil {
			return nil, err
		}
		form.Set("client_id", id.id)
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
	case methodNone:
		form.Set("client_id", id.id)
	default:
		return nil, kidoban.Errorf(kidoban.KindUsage, "the client authentication method %.60q is not known", m)
	}
	return h, nil
}

// assertion signs who we are for one issuer, once (RFC 7523 §3; the audience is
// the issuer alone, as its revision asks, so that it is good nowhere else).
func (w *Wallet) assertion(e endpoints, id identity) (string, error) {
	if id.key == nil {
		return "", kidoban.Errorf(kidoban.KindUsage, "the client at %s authenticates with a key, but the config names none: set oauth.key_file", e.issuer)
	}
	var jti [16]byte
	if _, err := io.ReadFull(w.Rand, jti[:]); err != nil {
		return "", kidoban.Wrap(kidoban.KindInternal, err, "no randomness")
	}
	options := (&jose.SignerOptions{}).WithType("JWT")
	if id.key.ID != "" {
		options = options.WithHeader("kid", id.key.ID)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(id.key.Alg), Key: id.key.Signer}, options)
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindUsage, err, "the key for %s cannot sign", e.issuer)
	}
	now := w.Now()
	out, err := jwt.Signed(signer).Claims(jwt.Claims{Issuer: id.id, Subject: id.id, Audience: jwt.Audience{e.issuer}, ID: hex.EncodeToString(jti[:]),
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(assertionLife))}).Serialize()
	return out, kidoban.Wrap(kidoban.KindInternal, err, "the client assertion for %s cannot be signed", e.issuer)
}

// ParseKey reads a private key in PEM (PKCS #8, SEC 1 or PKCS #1): P-256, P-384,
// Ed25519, or RSA of at least 2048 bits. id becomes the kid.
func ParseKey(text []byte, id string) (*Key, error) {
	bad := func(err error) (*Key, error) {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the key cannot be read: give a PEM file with a private key (P-256, P-384, Ed25519, or RSA of 2048 bits or more)")
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return bad(io.ErrUnexpectedEOF)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if ec, e := x509.ParseECPrivateKey(block.Bytes); e == nil {
			key = ec
		} else if r, e := x509.ParsePKCS1PrivateKey(block.Bytes); e == nil {
			key = r
		} else {
			return bad(err)
		}
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		switch k.Curve {
		case elliptic.P256():
			return &Key{id, "ES256", k}, nil
		case elliptic.P384():
			return &Key{id, "ES384", k}, nil
		}
	case ed25519.PrivateKey:
		return &Key{id, "EdDSA", k}, nil
	case *rsa.PrivateKey:
		if k.N.BitLen() >= 2048 {
			return &Key{id, "RS256", k}, nil
		}
	}
	return bad(io.ErrUnexpectedEOF)
}
