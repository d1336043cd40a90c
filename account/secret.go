package account

import (
	"context"

	"github.com/kidoban/kidoban"
)

// fixedSecret is the plaintext of an account that is a fixed header.
type fixedSecret struct {
	Kind  string `json:"kind"` // "header"
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Set stores a fixed header as the account of user (empty: of everybody) at
// server (G-VA5). KindUsage for a header that must not be set.
func (w *Wallet) Set(ctx context.Context, user, server string, h kidoban.Field) error {
	if !fieldSafe(h) {
		return kidoban.Errorf(kidoban.KindUsage, "the header %.40q cannot be sent: use a plain name and a value of one line", h.Name)
	}
	acc, err := w.seal(ctx, user, server, "", fixedSecret{"header", h.Name, h.Value})
	if err != nil {
		return err
	}
	w.forget(walletKey{user, server})
	return w.Store.PutAccount(ctx, acc)
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
