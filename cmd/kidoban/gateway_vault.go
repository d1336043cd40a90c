package main

import (
	"context"
	"net/http"
	"os"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/vault"
	"github.com/kidoban/kidoban/vault/kms"
)

// openVault opens the vault with the keys that the config names. db keeps them
// when a key management service seals them.
func openVault(ctx context.Context, conf gatewayConfig, db *store.DB) (*vault.Vault, error) {
	src, err := vaultSource(ctx, conf.VaultKey, db)
	if err != nil {
		return nil, err
	}
	sealed, err := someSealed(ctx, db)
	if err != nil {
		return nil, err
	}
	if len(sealed) > 0 && !kms.Serves(conf.VaultKey) { // there, keys lie with what they seal
		if has, err := vault.Holds(ctx, src); err != nil {
			return nil, err
		} else if !has {
			return nil, kidoban.Errorf(kidoban.KindUsage, "there is no key in %s, but the database holds secrets that one seals: restore the key from your backup or take it from another replica, or begin with an empty database", src)
		}
	}
	v, err := vault.Open(ctx, src)
	if err != nil {
		return nil, err
	}
	for i, one := range sealed {
		if _, _, err = v.Rewrap(ctx, one); err == nil {
			break
		}
		if i == len(sealed)-1 {
			return nil, kidoban.Wrap(kidoban.KindUsage, err, "the key in %s is not the one that seals the secrets in the database: restore that one from your backup", src)
		}
	}
	return v, nil
}

// someSealed are sealed secrets to try a key on: the gateway's own, which it needs to
// start, or before its first start those of accounts. A key that opens none of them is
// a wrong one; nothing may be sealed with it beside them.
func someSealed(ctx context.Context, db *store.DB) (sealed [][]byte, err error) {
	_, err = db.RewrapSecrets(ctx, func(_ context.Context, one []byte) ([]byte, bool, error) {
		sealed = append(sealed, one)
		return nil, false, nil
	})
	if err != nil || len(sealed) > 0 {
		return sealed, err
	}
	accounts, err := db.AllAccounts(ctx, "", "", 100)
	for _, a := range accounts {
		sealed = append(sealed, a.Sealed)
	}
	return sealed, err
}

// vaultSource reads a vault_key.
func vaultSource(ctx context.Context, name string, db vault.Shelf) (vault.Source, error) {
	kind, rest, _ := strings.Cut(name, ":")
	switch {
	case kind == "file" && rest != "":
		return vault.File(rest), nil
	case kind == "keychain" && rest != "":
		return vault.Keychain(rest), nil
	case kms.Serves(name):
		client, err := kms.Open(ctx, name, kms.Options{TLS: wayToService("https"), Plain: wayToService("http"), Getenv: os.Getenv, ReadFile: os.ReadFile})
		if err != nil {
			return nil, err
		}
		return vault.KMS(client, name, db), nil
	}
	return nil, checkVaultKey(name)
}

// checkVaultKey tells whether a vault_key names one of the places that there are.
func checkVaultKey(name string) error {
	kind, rest, _ := strings.Cut(name, ":")
	if (kind == "file" || kind == "keychain") && rest != "" || kms.Serves(name) {
		return nil
	}
	return kidoban.Errorf(kidoban.KindUsage, "vault_key must be file:PATH, keychain:ACCOUNT, or a key in a key management service (hcvault://…, gcp-kms://…, aws-kms://…), not %.80q", name)
}

// wayToService leads to a key management service, which the operator named, and
// to the place where a cloud gives this machine its credentials. Over http it
// leads to loopback and to the latter alone.
func wayToService(scheme string) *http.Transport {
	return outbound.Relay(scheme == "http", outbound.RelayOptions{Lab: true, Private: scheme == "https", Cloud: true, MaxIdle: 1})
}
