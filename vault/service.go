package vault

import (
	"context"
	"errors"

	"github.com/tink-crypto/tink-go/v2/core/registry"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/kidoban/kidoban"
)

// A key management service keeps the one key that opens the ring; the ring, so
// sealed, lies on a shelf beside the secrets (envelope encryption). The service
// is asked when a process starts and when the ring changes, not for each secret:
// its price, its limits and its outages stay off the way of a call.

// Shelf keeps one sealed ring. It needs no secrecy and no integrity of its own.
type Shelf interface {
	// Ring returns the sealed ring, nil when there is none.
	Ring(ctx context.Context) ([]byte, error)
	// SwapRing puts fresh in place of old in one step, or changes nothing and says
	// false when something else than old is there. A nil old means an empty shelf.
	// The ring is durable when it returns.
	SwapRing(ctx context.Context, old, fresh []byte) (bool, error)
}

// ringPurpose binds what the service seals to this use of its key.
const ringPurpose = "kidoban vault ring 1"

type serviceSource struct {
	client registry.KMSClient
	uri    string
	shelf  Shelf
}

// KMS keeps the keys on shelf, sealed by a key of a key management service: any
// client of Tink's interface, and the URI of the key there ("hcvault://…",
// "aws-kms://…", "gcp-kms://…"). Load fails closed with KindUnreachable when the
// service does not open them; it never makes new keys in place of ones that are
// there. Rotate and Retire seal anew, by the service's current version of its key.
func KMS(client registry.KMSClient, uri string, shelf Shelf) Source {
	return serviceSource{client, uri, shelf}
}

func (s serviceSource) String() string { return "key management service " + s.uri }

func (s serviceSource) Load(ctx context.Context) (Keys, error) {
	raw, _, err := s.read(ctx)
	if err == nil && raw == nil {
		if raw, err = newRing(); err != nil {
			return Keys{}, err
		}
		err = s.adopt(ctx, raw)
		if kidoban.KindOf(err) == kidoban.KindConflict { // another process was first
			raw, _, err = s.read(ctx)
		}
	}
	if err != nil {
		return Keys{}, err
	}
	return ringKeys(raw, s.String())
}

// service returns the remote key in an envelope, so that a ring of any length
// fits the few kilobytes that a service takes.
func (s serviceSource) service() (tink.AEADWithContext, error) {
	if !s.client.Supported(s.uri) {
		return nil, kidoban.Errorf(kidoban.KindUsage, "vault: the key management client does not serve %s", s.uri)
	}
	a, err := s.client.GetAEAD(s.uri)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "vault: %s does not name a key", s.uri)
	}
	c, ok := a.(tink.AEADWithContext)
	if !ok {
		c = local{a}
	}
	return envelope(c)
}

func (s serviceSource) seal(ctx context.Context, raw []byte) ([]byte, error) {
	kek, err := s.service()
	if err != nil {
		return nil, err
	}
	sealed, err := kek.EncryptWithContext(ctx, raw, []byte(ringPurpose))
	return sealed, kidoban.Wrap(kidoban.KindUnreachable, err, "vault: the key management service did not seal the vault's keys with %s: check that it is up, and that this process may encrypt with the key", s.uri)
}

// read returns the open ring and the sealed one, nil when the shelf is empty.
func (s serviceSource) read(ctx context.Context) (raw, sealed []byte, err error) {
	if sealed, err = s.shelf.Ring(ctx); err != nil || sealed == nil {
		return nil, nil, err
	}
	kek, err := s.service()
	if err != nil {
		return nil, nil, err
	}
	raw, err = kek.DecryptWithContext(ctx, sealed, []byte(ringPurpose))
	if err != nil {
		return nil, nil, kidoban.Wrap(kidoban.KindUnreachable, err, "vault: the key management service did not open the vault's keys with %s, and without them nothing starts: check that it is up, that this process may decrypt with the key, and that it is the key they were sealed with", s.uri)
	}
	return raw, sealed, nil
}

func (s serviceSource) put(ctx context.Context, old, raw []byte) error {
	sealed, err := s.seal(ctx, raw)
	if err != nil {
		return err
	}
	done, err := s.shelf.SwapRing(ctx, old, sealed)
	if err == nil && !done {
		err = kidoban.Errorf(kidoban.KindConflict, "vault: another process changed the keys meanwhile: run it again")
	}
	return err
}

func (s serviceSource) change(ctx context.Context, f func(raw []byte, from string) ([]byte, error)) error {
	raw, sealed, err := s.read(ctx)
	if err != nil {
		return err
	}
	if raw, err = f(raw, s.String()); err != nil {
		return err
	}
	return s.put(ctx, sealed, raw)
}

func (s serviceSource) Rotate(ctx context.Context) error { return s.change(ctx, rotateRing) }
func (s serviceSource) Retire(ctx context.Context) error { return s.change(ctx, retireRing) }

// export implements Source.
func (s serviceSource) export(ctx context.Context) ([]byte, error) {
	raw, _, err := s.read(ctx)
	return raw, err
}

// adopt implements Source.
func (s serviceSource) adopt(ctx context.Context, raw []byte) error {
	if sealed, err := s.shelf.Ring(ctx); err != nil || sealed != nil {
		return errors.Join(err, sameRing(ctx, s, raw))
	}
	return s.put(ctx, nil, raw)
}
