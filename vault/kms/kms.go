// Package kms speaks to key management services, as clients of Tink's interface
// (registry.KMSClient): HashiCorp Vault's and OpenBao's Transit engine, Google
// Cloud KMS and AWS KMS. A key is named by the URI that Tink's own integrations
// use, so that what one of them sealed can be opened by the other.
//
// Transit and Cloud KMS are two small requests each and written here: Tink's
// modules for them bring 40 and 180 modules of their own along. AWS, whose
// credentials come in a dozen ways, is Tink's module over the AWS SDK.
//
// All of them go out through the transports they are given. Credentials come from
// the environment variables that the service's own tools use; none is in a
// config file, and none is ever part of an error.
package kms

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/core/registry"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/kidoban/kidoban"
)

// Bounds of one question to a service.
const (
	maxAnswer = 256 << 10
	patience  = 15 * time.Second
)

// Options are what a client needs from outside.
type Options struct {
	TLS      *http.Transport     // for https; required
	Plain    *http.Transport     // for http, which is for loopback and a cloud's metadata service; required
	Getenv   func(string) string // for credentials (the AWS SDK reads the process's environment itself); required
	ReadFile func(path string) ([]byte, error)
}

// RoundTrip implements http.RoundTripper.
func (o Options) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "https" {
		return o.TLS.RoundTrip(req)
	}
	return o.Plain.RoundTrip(req)
}

// schemes are the beginnings of the URIs that Open understands.
var schemes = []string{transitScheme, gcpScheme, awsScheme}

// Serves tells whether a URI names a key of a service that Open knows.
func Serves(uri string) bool {
	for _, s := range schemes {
		if strings.HasPrefix(uri, s) {
			return true
		}
	}
	return false
}

// Open returns the client for a key. It asks nothing of the service yet.
// KindUsage says what is wrong with the URI or missing in the environment.
func Open(ctx context.Context, uri string, o Options) (registry.KMSClient, error) {
	switch {
	case strings.HasPrefix(uri, transitScheme):
		return openTransit(uri, o)
	case strings.HasPrefix(uri, gcpScheme):
		return openGCP(uri, o)
	case strings.HasPrefix(uri, awsScheme):
		return openAWS(ctx, uri, o)
	}
	return nil, kidoban.Errorf(kidoban.KindUsage, "the key %.80q is in no known key management service: it must begin with %s", uri, strings.Join(schemes, ", "))
}

// one is a client for a single key.
type one struct {
	uri string
	key key
}

// key seals and opens with one remote key.
type key interface {
	EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error)
	DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error)
}

// Supported implements registry.KMSClient.
func (c one) Supported(uri string) bool { return uri == c.uri }

// GetAEAD implements registry.KMSClient.
func (c one) GetAEAD(uri string) (tink.AEAD, error) {
	if !c.Supported(uri) {
		return nil, kidoban.Errorf(kidoban.KindUsage, "this client is for %s alone", c.uri)
	}
	return withBoth{c.key}, nil
}

// withBoth is Tink's interface without a context, and the one with it.
type withBoth struct{ key }

func (k withBoth) Encrypt(plaintext, ad []byte) ([]byte, error) {
	return k.EncryptWithContext(context.Background(), plaintext, ad)
}

func (k withBoth) Decrypt(ciphertext, ad []byte) ([]byte, error) {
	return k.DecryptWithContext(context.Background(), ciphertext, ad)
}

// post sends in as JSON and reads the answer into out. refused makes the sentence
// for an answer that is not 200 from its body, which may be empty.
func post(ctx context.Context, o Options, url string, head http.Header, in, out any, refused func(status int, body []byte) error) error {
	body, err := json.Marshal(in)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "key management service")
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the address of the key management service")
	}
	req.Header = head.Clone()
	req.Header.Set("Content-Type", "application/json")
	raw, status, err := do(o, req)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return refused(status, raw)
	}
	return kidoban.Wrap(kidoban.KindUnreachable, json.Unmarshal(raw, out), "%s did not answer like a key management service", req.URL.Host)
}

// do sends one request and reads the bounded answer. It follows no redirect: a
// credential goes to the host it is for, or nowhere.
func do(o Options, req *http.Request) (body []byte, status int, err error) {
	res, err := o.RoundTrip(req)
	if err != nil {
		return nil, 0, unreachable(req, err)
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = errors.New("the answer is too long")
	}
	if err != nil {
		return nil, 0, unreachable(req, err)
	}
	return body, res.StatusCode, nil
}

func unreachable(req *http.Request, err error) error {
	var k *kidoban.Error
	if errors.As(err, &k) && k.Kind == kidoban.KindRefused { // by the address guard, which says why
		return err
	}
	return kidoban.Wrap(kidoban.KindUnreachable, err, "%s did not answer", req.URL.Host)
}
