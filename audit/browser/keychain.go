package browser

import (
	"errors"

	"github.com/zalando/go-keyring"

	"github.com/kidoban/kidoban"
)

// Secrets of login scripts may live in the keychain of the operating system:
// Keychain on macOS, the Credential Manager on Windows, the Secret Service (GNOME
// Keyring, KWallet) elsewhere. They are entries of the service "kidoban".

const keychainService = "kidoban"

// fromKeychain reads a secret.
func fromKeychain(name string) (string, error) {
	s, err := keyring.Get(keychainService, name)
	if errors.Is(err, keyring.ErrNotFound) {
		return "", kidoban.Errorf(kidoban.KindUsage, "the keychain has no entry %q of kidoban; put one there with: kidoban login keep %s", name, name)
	}
	return s, keychainError(err)
}

// Keep puts a secret into the keychain, in place of an earlier one of that name.
func Keep(name, secret string) error {
	return keychainError(keyring.Set(keychainService, name, secret))
}

func keychainError(err error) error {
	return kidoban.Wrap(kidoban.KindUsage, err, "the keychain of this system does not answer: unlock it, or keep the secret in a variable of the environment and write ${env:VAR}")
}
