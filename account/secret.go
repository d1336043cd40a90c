package account

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// fixedSecret is the plaintext of an account that is fixed: headers of a remote
// server, environment variables of a stdio server.
type fixedSecret struct {
	Kind  string          `json:"kind"` // "header"
	Name  string          `json:"name"`
	Value string          `json:"value"`
	More  []kidoban.Field `json:"more,omitempty"` // further ones
}

// maxFixed bounds the fields of one account.
const maxFixed = 16

func (s fixedSecret) fields() []kidoban.Field {
	return append([]kidoban.Field{{Name: s.Name, Value: s.Value}}, s.More...)
}

// Set stores a fixed header, or for a stdio server an environment variable, as
// the account of user (empty: of everybody) at server (G-VA5), beside those of
// other names that are there. KindUsage for a header that must not be set.
func (w *Wallet) Set(ctx context.Context, user, server string, h kidoban.Field) error {
	if !fieldSafe(h) {
		return kidoban.Errorf(kidoban.KindUsage, "the header %.40q cannot be sent: use a plain name and a value of one line", h.Name)
	}
	s := fixedSecret{Kind: "header", Name: h.Name, Value: h.Value}
	if old, err := w.Store.Account(ctx, user, server); err == nil {
		var have fixedSecret
		if raw, err := w.unseal(ctx, old); err == nil && json.Unmarshal(raw, &have) == nil && have.Kind == "header" {
			s.More = slices.DeleteFunc(have.fields(), func(f kidoban.Field) bool { return strings.EqualFold(f.Name, h.Name) })
		}
	}
	if len(s.More) >= maxFixed {
		return kidoban.Errorf(kidoban.KindLimit, "%s has %d secrets already: kidoban vault remove %s forgets them", server, maxFixed, server)
	}
	if err := w.put(ctx, user, server, "", s); err != nil {
		return err
	}
	w.replaced(walletKey{user, server})
	return nil
}

func fieldSafe(h kidoban.Field) bool {
	for i := 0; i < len(h.Name); i++ {
		if c := h.Name[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	for i := 0; i < len(h.Value); i++ {
		if c := h.Value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return h.Name != "" && h.Value != "" && len(h.Value) <= 16<<10
}

// Rewrap brings every account, and the gateway's own registrations, to the
// vault's newest key and returns how many it changed. It works in small steps
// beside a running gateway.
func (w *Wallet) Rewrap(ctx context.Context) (n int, err error) {
	user, server := "", ""
	for {
		page, err := w.Store.AllAccounts(ctx, user, server, 100)
		if err != nil || len(page) == 0 {
			return n, err
		}
		for _, a := range page {
			user, server = a.User, a.Server
			sealed, changed, err := w.Vault.Rewrap(ctx, a.Sealed)
			if err != nil {
				return n, err
			}
			if !changed {
				continue
			}
			a.Sealed = sealed
			switch err := w.Store.SwapAccount(ctx, a); {
			case err == nil:
				n++
			case kidoban.KindOf(err) != kidoban.KindConflict: // changed meanwhile: sealed by the newest key
				return n, err
			}
		}
	}
}
