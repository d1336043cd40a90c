package store

import (
	"context"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/account"
)

var _ account.Store = (*DB)(nil)

const accountColumns = `user_id, server, issuer, sealed, version, updated_ms`

func scanAccount(a *account.Account) func(row) error {
	return func(r row) error {
		return r.Scan(&a.User, &a.Server, &a.Issuer, &a.Sealed, &a.Version, at(&a.Updated))
	}
}

// Account implements account.Store.
func (d *DB) Account(ctx context.Context, user, server string) (a account.Account, err error) {
	err = d.readOne(ctx, "account", `SELECT `+accountColumns+` FROM accounts WHERE user_id = $1 AND server = $2`, scanAccount(&a), user, server)
	return a, err
}

// PutAccount implements account.Store. An account's first version is its time, so that
// no renewal that began before an account was taken out is stored over the next one.
func (d *DB) PutAccount(ctx context.Context, a account.Account) error {
	return d.write(ctx, func(t tx) error {
		_, err := t.exec(`INSERT INTO accounts(`+accountColumns+`) VALUES ($1, $2, $3, $4, $6, $5)
			ON CONFLICT (user_id, server) DO UPDATE SET issuer = excluded.issuer, sealed = excluded.sealed,
				version = accounts.version + 1, updated_ms = excluded.updated_ms`,
			a.User, a.Server, a.Issuer, a.Sealed, ms(a.Updated), a.Updated.UnixMilli())
		return err
	})
}

// SwapAccount implements account.Store.
func (d *DB) SwapAccount(ctx context.Context, a account.Account) error {
	return d.write(ctx, func(t tx) error {
		n, err := t.exec(`UPDATE accounts SET sealed = $1, version = version + 1, updated_ms = $2
			WHERE user_id = $3 AND server = $4 AND issuer = $5 AND version = $6`, a.Sealed, ms(a.Updated), a.User, a.Server, a.Issuer, a.Version)
		if err == nil && n == 0 {
			return kidoban.Errorf(kidoban.KindConflict, "the account was changed in the meantime")
		}
		return err
	})
}

// DeleteAccount implements account.Store.
func (d *DB) DeleteAccount(ctx context.Context, user, server string) (a account.Account, err error) {
	err = d.write(ctx, func(t tx) error {
		a = account.Account{}
		err := t.query(`DELETE FROM accounts WHERE user_id = $1 AND server = $2 RETURNING `+accountColumns, scanAccount(&a), user, server)
		if err == nil && a.Server == "" {
			return notFound("account")
		}
		return err
	})
	return a, err
}

// UserAccounts implements account.Store.
func (d *DB) UserAccounts(ctx context.Context, user string) ([]account.Account, error) {
	return d.accounts(ctx, `SELECT `+accountColumns+` FROM accounts WHERE user_id = $1 ORDER BY server`, user)
}

// AllAccounts implements account.Store.
func (d *DB) AllAccounts(ctx context.Context, afterUser, afterServer string, limit int) ([]account.Account, error) {
	return d.accounts(ctx, `SELECT `+accountColumns+` FROM accounts WHERE user_id > $1 OR user_id = $2 AND server > $3 ORDER BY user_id, server LIMIT $4`,
		afterUser, afterUser, afterServer, limit)
}

func (d *DB) accounts(ctx context.Context, q string, args ...any) (out []account.Account, err error) {
	err = d.read(ctx, q, func(r row) error {
		var a account.Account
		err := scanAccount(&a)(r)
		out = append(out, a)
		return err
	}, args...)
	return out, err
}
