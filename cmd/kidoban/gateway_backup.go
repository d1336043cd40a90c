package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/store"
)

// The members of a backup, in their order.
const (
	backupManifest = "manifest.json"
	backupDatabase = "kidoban.db"
	backupKey      = "vault.key"
)

// manifest says what is in a backup. It is checked before anything is restored.
type manifest struct {
	Format  int               `json:"format"`
	Version string            `json:"version"`
	At      time.Time         `json:"at"`
	SHA256  map[string]string `json:"sha256"`
}

type gatewayBackupCmd struct {
	gatewayFile
	Out     string `short:"o" required:"" placeholder:"FILE" help:"The backup: a tar file that must not exist yet."`
	WithKey bool   `help:"Put the vault's key file into the backup too. Whoever has such a file has every stored secret."`
}

// Run writes the backup beside a running gateway, whole or not at all.
func (c gatewayBackupCmd) Run(e *env) error {
	conf, err := c.load()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.Out); err == nil {
		return kidoban.Errorf(kidoban.KindUsage, "%s exists already: name a new file", c.Out)
	}
	dir, err := os.MkdirTemp(filepath.Dir(c.Out), ".kidoban-backup-*") // on the same disk, for the rename
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "nothing can be written beside %s", c.Out)
	}
	defer os.RemoveAll(dir)
	if err := store.Snapshot(e.ctx, conf.Database, filepath.Join(dir, backupDatabase)); err != nil {
		return err
	}
	names := []string{backupDatabase}
	if c.WithKey {
		path, ok := strings.CutPrefix(conf.VaultKey, "file:")
		if !ok {
			return kidoban.Errorf(kidoban.KindUsage, "the vault's key is not in a file but in %s: keep it safe there, and make the backup without --with-key", conf.VaultKey)
		}
		if err := copyFile(path, filepath.Join(dir, backupKey)); err != nil {
			return err
		}
		names = append(names, backupKey)
	}
	m := manifest{Format: 1, Version: kidoban.Version, At: time.Now().UTC().Truncate(time.Second), SHA256: map[string]string{}}
	tmp := filepath.Join(dir, "backup.tar")
	if err := writeBackup(tmp, dir, names, m); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the backup cannot be written")
	}
	if err := os.Link(tmp, c.Out); err != nil { // unlike a rename, this never replaces a file
		if errors.Is(err, fs.ErrExist) {
			return kidoban.Errorf(kidoban.KindUsage, "%s exists already: name a new file", c.Out)
		}
		if err := os.Rename(tmp, c.Out); err != nil {
			return kidoban.Wrap(kidoban.KindInternal, err, "the backup cannot be put in place")
		}
	}
	fmt.Fprintf(e.stdout, "Written and checked: %s, from %s\n", c.Out, sqlitePath(conf.Database))
	if !c.WithKey {
		fmt.Fprintf(e.stdout, "It holds no key. Without the key in %s the connected accounts cannot be opened again; keep a copy of it apart.\n", conf.VaultKey)
	}
	return nil
}

func writeBackup(path, dir string, names []string, m manifest) error {
	for _, n := range names {
		sum, err := fileSum(filepath.Join(dir, n))
		if err != nil {
			return err
		}
		m.SHA256[n] = sum
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	t := tar.NewWriter(f)
	head, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: backupManifest, Mode: 0o600, Size: int64(len(head)), ModTime: m.At}); err != nil {
		return err
	}
	if _, err := t.Write(head); err != nil {
		return err
	}
	for _, n := range names {
		if err := addFile(t, filepath.Join(dir, n), n, m.At); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), f.Sync(), f.Close())
}

func addFile(t *tar.Writer, path, name string, at time.Time) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	i, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: i.Size(), ModTime: at}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the file %s cannot be read", from)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the file %s cannot be made", to)
	}
	_, err = io.Copy(out, in)
	return kidoban.Wrap(kidoban.KindInternal, errors.Join(err, out.Sync(), out.Close()), "the file %s cannot be written", to)
}

type gatewayRestoreCmd struct {
	gatewayFile
	File string `arg:"" help:"A backup that kidoban gateway backup wrote."`
}

// Run puts a backup where the config wants its database, and only if nothing is
// there.
func (c gatewayRestoreCmd) Run(e *env) error {
	conf, err := c.load()
	if err != nil {
		return err
	}
	if strings.Contains(conf.Database, "://") {
		return kidoban.Errorf(kidoban.KindUsage, "the database is PostgreSQL: restore it with pg_restore")
	}
	release, err := holdData(conf) // also against one that runs on, whose file was moved away
	if err != nil {
		return err
	}
	defer release()
	places := map[string]string{backupDatabase: strings.TrimPrefix(conf.Database, "sqlite:")}
	if p, ok := strings.CutPrefix(conf.VaultKey, "file:"); ok {
		places[backupKey] = p
	}
	var there []string // the files of one database: what was written last may stand in the second
	for _, end := range []string{"", "-wal", "-shm"} {
		p := places[backupDatabase] + end
		if _, err := os.Lstat(p); err == nil {
			there = append(there, p)
		}
	}
	if len(there) > 0 {
		return kidoban.Errorf(kidoban.KindUsage, "a database is here already: move its files away together first: %s", strings.Join(there, " "))
	}
	dir, err := os.MkdirTemp(filepath.Dir(places[backupDatabase]), ".kidoban-restore-*")
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "nothing can be written beside %s", places[backupDatabase])
	}
	defer os.RemoveAll(dir)
	m, err := unpack(c.File, dir)
	if err != nil {
		return err
	}
	if err := store.CheckFile(e.ctx, filepath.Join(dir, backupDatabase)); err != nil {
		return err
	}
	if err := place(dir, m, places); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "Restored the state of %s (%s) into %s.\n", m.At.Format(time.RFC3339), m.Version, places[backupDatabase])
	fmt.Fprintln(e.stdout, "What was revoked or denied after that moment is in force again: go through the clients and the deny-list before you open the gateway.")
	return nil
}

// maxManifest bounds the manifest, in bytes.
const maxManifest = 64 << 10

// unpack reads a backup into dir and checks every sum.
func unpack(path, dir string) (m manifest, err error) {
	bad := func(err error, what string) (manifest, error) {
		return m, kidoban.Wrap(kidoban.KindInput, errorOrText(err, what), "%s is no whole backup: %s", path, what)
	}
	f, err := os.Open(path)
	if err != nil {
		return m, kidoban.Wrap(kidoban.KindUsage, err, "the backup %s cannot be read", path)
	}
	defer f.Close()
	t := tar.NewReader(f)
	head, err := t.Next()
	if err != nil || head.Name != backupManifest || head.Size > maxManifest {
		return bad(err, "its first part must be "+backupManifest)
	}
	if err := json.NewDecoder(io.LimitReader(t, maxManifest)).Decode(&m); err != nil || m.Format != 1 {
		return bad(err, "its manifest is unknown to this version")
	}
	seen := map[string]bool{}
	for {
		head, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return bad(err, "it is cut off or damaged")
		}
		want, known := m.SHA256[head.Name]
		if !known || seen[head.Name] || (head.Name != backupDatabase && head.Name != backupKey) || head.Typeflag != tar.TypeReg {
			return bad(nil, fmt.Sprintf("it has a part %.40q that does not belong", head.Name))
		}
		seen[head.Name] = true
		out, err := os.OpenFile(filepath.Join(dir, head.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return m, kidoban.Wrap(kidoban.KindInternal, err, "nothing can be written to %s", dir)
		}
		h := sha256.New()
		_, err = io.Copy(io.MultiWriter(out, h), t)
		if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
			return bad(err, "it is cut off, or the disk is full")
		}
		if hex.EncodeToString(h.Sum(nil)) != want {
			return bad(nil, head.Name+" differs from its checksum")
		}
	}
	for n := range m.SHA256 {
		if !seen[n] {
			return bad(nil, "it lacks "+n)
		}
	}
	if !seen[backupDatabase] {
		return bad(nil, "it lacks "+backupDatabase)
	}
	return m, nil
}

// place moves the parts in, the key first: a database without its key would
// start as if nobody had connected an account. An existing key is kept when it
// is the same, and refused when it is another.
func place(dir string, m manifest, places map[string]string) error {
	if sum, ok := m.SHA256[backupKey]; ok {
		to, known := places[backupKey]
		if !known {
			return kidoban.Errorf(kidoban.KindUsage, "the backup has a key file, and the config keeps the key elsewhere: set vault_key to file:PATH")
		}
		have, err := fileSum(to)
		switch {
		case err == nil && have != sum:
			return kidoban.Errorf(kidoban.KindUsage, "%s is another key than the backup's: move it away first", to)
		case errors.Is(err, fs.ErrNotExist):
			if err := moveIn(filepath.Join(dir, backupKey), to); err != nil {
				return kidoban.Wrap(kidoban.KindInternal, err, "the key cannot be put in place")
			}
		case err != nil:
			return kidoban.Wrap(kidoban.KindUsage, err, "%s cannot be read", to)
		}
	}
	return kidoban.Wrap(kidoban.KindInternal, moveIn(filepath.Join(dir, backupDatabase), places[backupDatabase]), "the database cannot be put in place")
}

// moveIn moves a restored file in, as a file of the user to whom the directory
// belongs: root restores for a gateway that is not root.
func moveIn(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	err = ownAs(f, filepath.Dir(to))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func errorOrText(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}
