package vault

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/zalando/go-keyring"

	"github.com/kidoban/kidoban"
)

// maxRing bounds a key file, in bytes.
const maxRing = 1 << 20

type fileSource struct{ path string }

// File keeps the keys in a file of mode 0600, made with the first key when it
// does not exist. Changes are atomic: a crash leaves the old or the new file.
// A file that others can read is refused; one that belongs to root may be readable
// by its group, which is how Kubernetes hands a secret to a process.
func File(path string) Source { return fileSource{path} }

func (s fileSource) String() string { return "file " + s.path }

func (s fileSource) Load(ctx context.Context) (Keys, error) {
	raw, err := s.read()
	if errors.Is(err, fs.ErrNotExist) {
		if raw, err = newRing(); err != nil {
			return Keys{}, err
		}
		if err = s.create(raw); errors.Is(err, fs.ErrExist) { // another process was first
			raw, err = s.read()
		}
	}
	if err != nil {
		return Keys{}, s.wrap(err)
	}
	return ringKeys(raw, s.String())
}

func (s fileSource) wrap(err error) error {
	var k *kidoban.Error
	if errors.As(err, &k) {
		return err
	}
	return kidoban.Wrap(kidoban.KindInternal, err, "vault: the key file %s cannot be used", s.path)
}

func (s fileSource) read() ([]byte, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	i, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !i.Mode().IsRegular() || runtime.GOOS != "windows" && i.Mode().Perm()&othersBits(i) != 0 {
		return nil, kidoban.Errorf(kidoban.KindUsage, "vault: the key file %s has mode %#o, others could read it: chmod 600 it", s.path, i.Mode().Perm())
	}
	return io.ReadAll(io.LimitReader(f, maxRing))
}

// stage writes raw into a new file beside the key file, with the owner of that or
// of the directory, and returns its name.
func (s fileSource) stage(raw []byte) (string, error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), ".vault-*") // mode 0600
	if err != nil {
		return "", err
	}
	like, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		like, err = os.Stat(filepath.Dir(s.path))
	}
	if err == nil {
		err = OwnAs(f, like)
	}
	if err == nil {
		_, err = f.Write(raw)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// create puts raw in place unless a file is there.
func (s fileSource) create(raw []byte) error {
	name, err := s.stage(raw)
	if err != nil {
		return err
	}
	defer os.Remove(name)
	return os.Link(name, s.path)
}

// change replaces the file by f of its content. Two processes that do so at
// once are kept apart by a lock file; the second is told so.
func (s fileSource) change(f func(raw []byte, from string) ([]byte, error)) error {
	lock, err := os.OpenFile(s.path+".lock", os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return kidoban.Errorf(kidoban.KindConflict, "vault: another process changes the key; if none does, remove %s.lock", s.path)
	}
	if err != nil {
		return s.wrap(err)
	}
	lock.Close()
	defer os.Remove(s.path + ".lock")
	raw, err := s.read()
	if err != nil {
		return s.wrap(err)
	}
	if raw, err = f(raw, s.String()); err != nil {
		return err
	}
	name, err := s.stage(raw)
	if err != nil {
		return s.wrap(err)
	}
	if err := os.Rename(name, s.path); err != nil {
		os.Remove(name)
		return s.wrap(err)
	}
	return nil
}

func (s fileSource) Rotate(context.Context) error { return s.change(rotateRing) }
func (s fileSource) Retire(context.Context) error { return s.change(retireRing) }

// export implements Source.
func (s fileSource) export(context.Context) ([]byte, error) {
	raw, err := s.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.wrap(err)
	}
	return raw, nil
}

// adopt implements Source.
func (s fileSource) adopt(ctx context.Context, ring []byte) error {
	err := s.create(ring)
	if !errors.Is(err, fs.ErrExist) {
		if err != nil {
			return s.wrap(err)
		}
		return nil
	}
	return sameRing(ctx, s, ring)
}

// sameRing is nil when the source has just that ring.
func sameRing(ctx context.Context, s Source, ring []byte) error {
	have, err := s.export(ctx)
	if err == nil && !bytes.Equal(have, ring) {
		err = kidoban.Errorf(kidoban.KindConflict, "vault: there are other keys in %s already", s)
	}
	return err
}

// chain is the service name in the operating system's keychain.
const chain = "kidoban vault"

type keychainSource struct{ account string }

// Keychain keeps the keys in the keychain of the operating system (macOS
// Keychain, Windows Credential Manager, Secret Service), under the account,
// which tells several gateways of one user apart.
func Keychain(account string) Source { return keychainSource{account} }

func (s keychainSource) String() string { return "keychain entry " + s.account }

func (s keychainSource) Load(context.Context) (Keys, error) {
	raw, err := s.read()
	if errors.Is(err, keyring.ErrNotFound) {
		if raw, err = newRing(); err == nil {
			err = s.write(raw)
		}
	}
	if err != nil {
		return Keys{}, s.wrap(err)
	}
	return ringKeys(raw, s.String())
}

func (s keychainSource) wrap(err error) error {
	return kidoban.Wrap(kidoban.KindUnreachable, err, "vault: the keychain of the operating system does not answer: unlock it, or keep the key in a file (vault.key)")
}

func (s keychainSource) read() ([]byte, error) {
	text, err := keyring.Get(chain, s.account)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}

func (s keychainSource) write(raw []byte) error {
	return keyring.Set(chain, s.account, base64.StdEncoding.EncodeToString(raw))
}

func (s keychainSource) change(f func([]byte, string) ([]byte, error)) error {
	raw, err := s.read()
	if err != nil {
		return s.wrap(err)
	}
	if raw, err = f(raw, s.String()); err != nil {
		return err
	}
	if err := s.write(raw); err != nil {
		return s.wrap(err)
	}
	return nil
}

func (s keychainSource) Rotate(context.Context) error { return s.change(rotateRing) }
func (s keychainSource) Retire(context.Context) error { return s.change(retireRing) }

// export implements Source.
func (s keychainSource) export(context.Context) ([]byte, error) {
	raw, err := s.read()
	if errors.Is(err, keyring.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, s.wrap(err)
	}
	return raw, nil
}

// adopt implements Source.
func (s keychainSource) adopt(ctx context.Context, ring []byte) error {
	if have, err := s.export(ctx); err != nil || have != nil {
		return errors.Join(err, sameRing(ctx, s, ring))
	}
	if err := s.write(ring); err != nil {
		return s.wrap(err)
	}
	return nil
}
