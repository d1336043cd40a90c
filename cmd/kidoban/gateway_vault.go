package main

import (
	"context"
	"net/http"
	"os"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/vault"
	"github.com/kidoban/kidoban/vault/kms"
)

// openVault opens the vault with the keys that the config names. db keeps them
// when a key management service seals them.
func openVault(ctx context.Context, conf gatewayConfig, db vault.Shelf) (*vault.Vault, error) {
	src, err := vaultSource(ctx, conf.VaultKey, db)
	if err != nil {
		return nil, err
	}
	return vault.Open(ctx, src)
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
