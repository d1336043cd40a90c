package authserver

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/kidoban/kidoban"
)

// Parameters of argon2id for new hashes: 19 MiB and two passes, about 30 ms. Old
// hashes carry their own.
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonLanes  = 1
)

// hasher runs argon2id, at most as many at a time as it has slots: each takes
// argonMemory, and strangers can ask for it.
type hasher struct{ slots chan struct{} }

// hash makes a PHC string of a password.
func (h *hasher) hash(ctx context.Context, r io.Reader, password string) (string, error) {
	salt := make([]byte, 16)
	if _, err := io.ReadFull(r, salt); err != nil {
		return "", err
	}
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	sum := argon2.IDKey(normalPassword(password), salt, argonTime, argonMemory, argonLanes, 32)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes, b64.EncodeToString(salt), b64.EncodeToString(sum)), nil
}

// verify compares in the same time whether or not there is such a user: phc is
// "" for nobody, and the work is done all the same.
func (h *hasher) verify(ctx context.Context, phc, password string) (bool, error) {
	memory, passes, lanes := uint32(argonMemory), uint32(argonTime), uint8(argonLanes)
	salt, want := make([]byte, 16), make([]byte, 32)
	real := phc != ""
	if real {
		parts := strings.Split(phc, "$")
		if len(parts) != 6 || parts[1] != "argon2id" {
			return false, kidoban.Errorf(kidoban.KindInternal, "a stored password hash is damaged: reset the user's password")
		}
		_, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &lanes)
		var err1, err2 error
		salt, err1 = base64.RawStdEncoding.DecodeString(parts[4])
		want, err2 = base64.RawStdEncoding.DecodeString(parts[5])
		if err != nil || err1 != nil || err2 != nil || memory > 1<<20 || passes > 20 || len(want) == 0 {
			return false, kidoban.Errorf(kidoban.KindInternal, "a stored password hash is damaged: reset the user's password")
		}
	}
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer h.leave()
	got := argon2.IDKey(normalPassword(password), salt, passes, memory, lanes, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1 && real, nil
}

func (h *hasher) enter(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return kidoban.Wrap(kidoban.KindUnreachable, ctx.Err(), "the request ended while it waited its turn")
	}
}

func (h *hasher) leave() { <-h.slots }

// normalPassword makes the same password typed on two keyboards the same bytes.
func normalPassword(p string) []byte { return norm.NFC.Bytes([]byte(p)) }

// checkPassword is the rule for new passwords: long, and not the name. The word
// returned names a text of the pages; "" is good.
func checkPassword(name, password string) string {
	n := utf8.RuneCountInString(password)
	switch {
	case n < 12:
		return "password_short"
	case len(password) > 512:
		return "password_long"
	case strings.Contains(strings.ToLower(password), strings.ToLower(name)) && len(name) > 3,
		strings.Count(password, password[:1]) == len(password):
		return "password_weak"
	}
	return ""
}

// loginName brings a typed name into the form it is stored and looked up in.
func loginName(typed string) string {
	return strings.ToLower(strings.TrimSpace(norm.NFKC.String(typed)))
}

// goodName is the rule for names that people choose.
func goodName(name string) bool {
	return utf8.RuneCountInString(name) <= 64 && goodProviderName(name)
}

// goodProviderName is the rule for names that a provider gives.
func goodProviderName(name string) bool {
	return name != "" && utf8.RuneCountInString(name) <= maxProviderName && plainText(name) && !strings.ContainsAny(name, " <>&\"'/\\#")
}
