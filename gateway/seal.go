package gateway

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"io"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
)

// sealer wraps what a client carries for us between requests: the server's
// session id, the server's requestState. Sealed under AES-256-GCM and bound, as
// associated data, to whom and what it was made for, it opens for nobody else
// (RS-14, TR-17, E07, E08, E37). Possession of it is never a credential: the
// token is judged first, every time.
type sealer struct {
	aead cipher.AEAD
	mac  []byte // of names
	rand io.Reader
	now  func() time.Time
}

func newSealer(key []byte, rand io.Reader, now func() time.Time) (*sealer, error) {
	if len(key) != 32 {
		return nil, kidoban.Errorf(kidoban.KindUsage, "the key for sessions must have 32 bytes")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the key for sessions cannot be used")
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the key for sessions cannot be used")
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("kidoban names"))
	return &sealer{aead: aead, mac: mac.Sum(nil), rand: rand, now: now}, nil
}

// binding hashes the parts that something is sealed for; parts cannot run into
// each other.
func binding(parts ...string) []byte {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		io.WriteString(h, p)
	}
	return h.Sum(nil)
}

// seal returns plain in a form of visible ASCII that opens until life is over.
func (s *sealer) seal(plain, bound []byte, life time.Duration) (string, error) {
	raw, err := s.close(plain, bound, life)
	return base64.RawURLEncoding.EncodeToString(raw), err
}

// close is seal in bytes; undo opens it.
func (s *sealer) close(plain, bound []byte, life time.Duration) ([]byte, error) {
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+8+len(plain)+s.aead.Overhead())
	if _, err := io.ReadFull(s.rand, nonce); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "no randomness")
	}
	text := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(plain)), uint64(s.now().Add(life).Unix()))
	return s.aead.Seal(nonce, nonce, append(text, plain...), bound), nil
}

// name seals what must read the same each time it is said: the nonce is a hash
// under a key of its own over all that goes in, so it repeats only with it.
func (s *sealer) name(plain string, bound []byte) string {
	mac := hmac.New(sha256.New, s.mac)
	mac.Write(binding(string(bound), plain))
	nonce := mac.Sum(nil)[:s.aead.NonceSize()]
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nonce, nonce, []byte(plain), binding("name", string(bound))))
}

// named undoes name; ok is false for whatever was not named here for the same
// binding.
func (s *sealer) named(sealed string, bound []byte) (plain string, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	n := s.aead.NonceSize()
	if err != nil || len(raw) < n || len(raw) > 8<<10 {
		return "", false
	}
	text, err := s.aead.Open(nil, raw[:n], raw[n:], binding("name", string(bound)))
	return string(text), err == nil
}

// open undoes seal; ok is false for whatever was not sealed here for the same
// binding, or has expired.
func (s *sealer) open(sealed string, bound []byte) (plain []byte, ok bool) {
	if len(sealed) > 96<<10 {
		return nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil {
		return nil, false
	}
	return s.undo(raw, bound)
}

func (s *sealer) undo(raw, bound []byte) (plain []byte, ok bool) {
	n := s.aead.NonceSize()
	if len(raw) < n {
		return nil, false
	}
	text, err := s.aead.Open(nil, raw[:n], raw[n:], bound)
	if err != nil || len(text) < 8 || s.now().Unix() >= int64(binary.BigEndian.Uint64(text)) {
		return nil, false
	}
	return text[8:], true
}

// usedHere is Once for a single process. When its memory is full, states are
// refused until some have expired: a flood makes itself wait, and nothing is
// usable twice.
type usedHere struct {
	mu  sync.Mutex
	ids map[string]time.Time
}

// maxUsed bounds the states remembered.
const maxUsed = 100_000

// UseOnce implements Once.
func (u *usedHere) UseOnce(_ context.Context, id string, now, expires time.Time) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, used := u.ids[id]; used {
		return false, nil
	}
	if len(u.ids) >= maxUsed {
		for old, end := range u.ids {
			if now.After(end) {
				delete(u.ids, old)
			}
		}
		if len(u.ids) >= maxUsed {
			return false, kidoban.Errorf(kidoban.KindLimit, "too many states were used lately")
		}
	}
	u.ids[id] = expires
	return true, nil
}

// spend uses a sealed state up (TR-17, E08).
func (g *Gateway) spend(ctx context.Context, st *state, sealed string) (bool, error) {
	now := g.deps.Now()
	return g.deps.Once.UseOnce(ctx, "state:"+hex.EncodeToString(binding(sealed)), now, now.Add(st.config.StateLife))
}
