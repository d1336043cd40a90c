package vault

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/kidoban/kidoban"
)

// Source is where key-encryption keys live.
type Source interface {
	// Load returns the keys. A source that can make a key makes the first one.
	Load(ctx context.Context) (Keys, error)
	// Rotate adds a key and makes it the newest; the others stay for reading.
	Rotate(ctx context.Context) error
	// Retire removes all but the newest.
	Retire(ctx context.Context) error
	// String names the place, without a secret.
	String() string

	// export returns the ring in the clear, nil when there is none yet.
	export(ctx context.Context) ([]byte, error)
	// adopt takes a ring over. KindConflict when there is another one already.
	adopt(ctx context.Context, ring []byte) error
}

// Holds tells whether a source has keys. It makes none.
func Holds(ctx context.Context, src Source) (bool, error) {
	ring, err := src.export(ctx)
	return ring != nil, err
}

// Move copies the keys of one source to another that has none yet, so that
// everything that was sealed under the first opens under the second. The first
// keeps its copy: who moves removes it when the second has proved itself.
// KindConflict when the second has other keys.
func Move(ctx context.Context, from, to Source) error {
	ring, err := from.export(ctx)
	if err != nil {
		return err
	}
	if ring == nil {
		return kidoban.Errorf(kidoban.KindUsage, "vault: there are no keys in %s", from)
	}
	if _, err := ringKeys(ring, from.String()); err != nil {
		return err
	}
	return to.adopt(ctx, ring)
}

// Keys are the key-encryption keys of a source at one moment.
type Keys struct {
	KEK tink.AEADWithContext // wraps with the newest, unwraps with any
	ids []uint32             // newest first
}

// Tink puts 0x01 and the key id before what a key of its keysets encrypted.
const tinkPrefix = 1

func wrappedBy(wrapped []byte) (uint32, bool) {
	if len(wrapped) < 5 || wrapped[0] != tinkPrefix {
		return 0, false
	}
	return binary.BigEndian.Uint32(wrapped[1:]), true
}

func (k Keys) knows(wrapped []byte) bool {
	id, ok := wrappedBy(wrapped)
	if !ok {
		return true
	}
	for _, have := range k.ids {
		if have == id {
			return true
		}
	}
	return false
}

func (k Keys) isNewest(wrapped []byte) bool {
	id, ok := wrappedBy(wrapped)
	return ok && len(k.ids) > 0 && k.ids[0] == id
}

func (k Keys) names() []string {
	out := make([]string, len(k.ids))
	for i, id := range k.ids {
		out[i] = fmt.Sprintf("%08x", id)
	}
	return out
}

// A ring is a Tink keyset of AES-256-GCM keys as bytes (Tink's JSON form).

// newRing makes a ring with one key.
func newRing() ([]byte, error) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "vault: a key cannot be made")
	}
	return writeRing(h)
}

func writeRing(h *keyset.Handle) ([]byte, error) {
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&b)); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "vault: a key cannot be written")
	}
	return b.Bytes(), nil
}

func readRing(raw []byte, from string) (*keyset.Handle, error) {
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInput, err, "vault: %s does not hold a key: restore it from your backup", from)
	}
	return h, nil
}

func ringKeys(raw []byte, from string) (Keys, error) {
	h, err := readRing(raw, from)
	if err != nil {
		return Keys{}, err
	}
	a, err := aead.New(h)
	if err != nil {
		return Keys{}, kidoban.Wrap(kidoban.KindInput, err, "vault: %s holds a key of another kind", from)
	}
	info := h.KeysetInfo()
	k := Keys{KEK: local{a}, ids: []uint32{info.GetPrimaryKeyId()}}
	for _, i := range info.GetKeyInfo() {
		if i.GetKeyId() != k.ids[0] {
			k.ids = append(k.ids, i.GetKeyId())
		}
	}
	return k, nil
}

// rotateRing adds a key and makes it the newest.
func rotateRing(raw []byte, from string) ([]byte, error) {
	h, err := readRing(raw, from)
	if err != nil {
		return nil, err
	}
	m := keyset.NewManagerFromHandle(h)
	id, err := m.Add(aead.AES256GCMKeyTemplate())
	if err == nil {
		err = m.SetPrimary(id)
	}
	if err == nil {
		h, err = m.Handle()
	}
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "vault: a key cannot be added")
	}
	return writeRing(h)
}

// retireRing keeps the newest key alone.
func retireRing(raw []byte, from string) ([]byte, error) {
	h, err := readRing(raw, from)
	if err != nil {
		return nil, err
	}
	m, newest := keyset.NewManagerFromHandle(h), h.KeysetInfo().GetPrimaryKeyId()
	for _, i := range h.KeysetInfo().GetKeyInfo() {
		if i.GetKeyId() != newest {
			if err := m.Delete(i.GetKeyId()); err != nil {
				return nil, kidoban.Wrap(kidoban.KindInternal, err, "vault: a key cannot be removed")
			}
		}
	}
	if h, err = m.Handle(); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "vault: a key cannot be removed")
	}
	return writeRing(h)
}

// local lends a context to a key that needs none.
type local struct{ a tink.AEAD }

func (l local) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return l.a.Encrypt(plaintext, ad)
}

func (l local) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return l.a.Decrypt(ciphertext, ad)
}
