package vault

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tink-crypto/tink-go/v2/testing/fakekms"
	"pgregory.net/rapid"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/vault/keychaintest"
)

var alice = Owner{User: "alice", Server: "github", Issuer: "https://github.example"}

func fileVault(t *testing.T) (*Vault, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data", "vault.key")
	v, err := Open(t.Context(), File(path))
	if err != nil {
		t.Fatal(err)
	}
	return v, path
}

// memory is a shelf, as good as its process.
type memory struct {
	mu   sync.Mutex
	ring []byte // guarded by mu
}

func (m *memory) Ring(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ring, nil
}

func (m *memory) SwapRing(_ context.Context, old, fresh []byte) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !bytes.Equal(m.ring, old) {
		return false, nil
	}
	m.ring = fresh
	return true, nil
}

// Every source passes the same tests. The keychain is GNOME's, on a bus of its own.
func sources(t *testing.T) map[string]Source {
	t.Helper()
	keychaintest.Start(t)
	uri, err := fakekms.NewKeyURI()
	if err != nil {
		t.Fatal(err)
	}
	client, err := fakekms.NewClient(uri)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Source{
		"file":     File(filepath.Join(t.TempDir(), "vault.key")),
		"keychain": Keychain("test"),
		"kms":      KMS(client, uri, &memory{}),
	}
}

func TestGVA4_SealAndUnsealOnEverySource(t *testing.T) {
	for name, src := range sources(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			v, err := Open(ctx, src)
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := v.Seal(ctx, alice, []byte("refresh-token"))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(sealed, []byte("refresh-token")) {
				t.Error("the secret stands in what was sealed")
			}
			again, err := Open(ctx, src) // another process
			if err != nil {
				t.Fatal(err)
			}
			got, err := again.Unseal(ctx, alice, sealed)
			if err != nil || string(got) != "refresh-token" {
				t.Errorf("%q, %v", got, err)
			}
			re, _, err := again.Rewrap(ctx, sealed)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := v.Unseal(ctx, alice, re); err != nil || string(got) != "refresh-token" {
				t.Errorf("after re-wrapping: %q, %v", got, err)
			}
		})
	}
}

func TestGVA4_CopiedRowDoesNotOpen(t *testing.T) {
	v, _ := fileVault(t)
	sealed, err := v.Seal(t.Context(), alice, []byte("s"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []Owner{
		{User: "bob", Server: alice.Server, Issuer: alice.Issuer},
		{User: alice.User, Server: "gitlab", Issuer: alice.Issuer},
		{User: alice.User, Server: alice.Server, Issuer: "https://evil.example"},
		{User: "alicegithub", Issuer: alice.Issuer},
		{},
	} {
		if got, err := v.Unseal(t.Context(), o, sealed); kidoban.KindOf(err) != kidoban.KindRefused || got != nil {
			t.Errorf("%+v: %q, %v", o, got, err)
		}
	}
}

func TestGVA4_OwnersNeverShareAssociatedData(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.StringMatching(`[a|:\x00]{0,4}`)
		a := Owner{part.Draw(t, "u1"), part.Draw(t, "s1"), part.Draw(t, "i1")}
		b := Owner{part.Draw(t, "u2"), part.Draw(t, "s2"), part.Draw(t, "i2")}
		x, _ := a.associated()
		y, _ := b.associated()
		if (a == b) != bytes.Equal(x, y) {
			t.Fatalf("%q and %q", a, b)
		}
	})
}

func TestGVA4_ChangedBytesDoNotOpen(t *testing.T) {
	v, _ := fileVault(t)
	sealed, err := v.Seal(t.Context(), alice, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x40
		if got, err := v.Unseal(t.Context(), alice, bad); err == nil {
			t.Errorf("byte %d changed: %q", i, got)
		}
		if got, err := v.Unseal(t.Context(), alice, sealed[:i]); err == nil {
			t.Errorf("cut at %d: %q", i, got)
		}
	}
}

func TestGVA4_RotateRewrapRetireWithoutDowntime(t *testing.T) {
	ctx := t.Context()
	v, path := fileVault(t)
	replica, err := Open(ctx, File(path))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[Owner][]byte{}
	for _, u := range []string{"a", "b", "c"} {
		o := Owner{User: u, Server: "s"}
		if rows[o], err = v.Seal(ctx, o, []byte("token of "+u)); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	fresh, err := v.Seal(ctx, alice, []byte("new"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := replica.Unseal(ctx, alice, fresh); err != nil || string(got) != "new" {
		t.Errorf("the other replica does not follow the rotation: %v", err)
	}
	for o, sealed := range rows {
		if _, err := v.Unseal(ctx, o, sealed); err != nil {
			t.Errorf("an old row after rotation: %v", err)
		}
		re, changed, err := v.Rewrap(ctx, sealed)
		if err != nil || !changed {
			t.Fatalf("changed %v, %v", changed, err)
		}
		if _, changed, _ := v.Rewrap(ctx, re); changed {
			t.Error("re-wrapped twice")
		}
		rows[o] = re
	}
	old := v.Status().Keys
	if err := v.Retire(ctx); err != nil {
		t.Fatal(err)
	}
	if n := v.Status().Keys; len(n) != 1 || len(old) != 2 || n[0] != old[0] {
		t.Errorf("keys %v, then %v", old, n)
	}
	for o, sealed := range rows {
		if got, err := v.Unseal(ctx, o, sealed); err != nil || string(got) != "token of "+o.User {
			t.Errorf("%s after retiring: %q, %v", o.User, got, err)
		}
	}
}

// TestGVA4_EverySourceRotatesRetiresAndMoves: and never loses a secret.
func TestGVA4_EverySourceRotatesRetiresAndMoves(t *testing.T) {
	all := sources(t)
	for name, src := range all {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			v, err := Open(ctx, src)
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := v.Seal(ctx, alice, []byte("kept"))
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Rotate(ctx); err != nil {
				t.Fatal(err)
			}
			if sealed, _, err = v.Rewrap(ctx, sealed); err != nil {
				t.Fatal(err)
			}
			if err := v.Retire(ctx); err != nil || len(v.Status().Keys) != 1 {
				t.Fatalf("%v %v", err, v.Status())
			}
			to := File(filepath.Join(t.TempDir(), "moved.key"))
			if err := Move(ctx, src, to); err != nil {
				t.Fatal(err)
			}
			moved, err := Open(ctx, to)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := moved.Unseal(ctx, alice, sealed); err != nil || string(got) != "kept" {
				t.Errorf("%q, %v", got, err)
			}
			other := File(filepath.Join(t.TempDir(), "other.key"))
			if _, err := Open(ctx, other); err != nil {
				t.Fatal(err)
			}
			if err := Move(ctx, other, src); kidoban.KindOf(err) != kidoban.KindConflict {
				t.Errorf("keys were overwritten: %v", err)
			}
		})
	}
}

func TestGVA4_KeyFileIsPrivate(t *testing.T) {
	v, path := fileVault(t)
	i, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if i.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", i.Mode())
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := v.Reload(t.Context()); kidoban.KindOf(err) != kidoban.KindUsage || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("%v", err)
	}
	os.Chmod(path, 0o600)
	os.WriteFile(path, []byte("{}"), 0o600)
	if err := v.Reload(t.Context()); kidoban.KindOf(err) != kidoban.KindInput {
		t.Errorf("%v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left beside the key: %v", entries)
	}
}

func TestGVA4_OneKeyWhenManyStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vault.key")
	var wg sync.WaitGroup
	ids := make(chan string, 16)
	for range 16 {
		wg.Go(func() {
			v, err := Open(context.Background(), File(path))
			if err != nil {
				t.Error(err)
				return
			}
			ids <- v.Status().Keys[0]
		})
	}
	wg.Wait()
	close(ids)
	first := ""
	for id := range ids {
		if first == "" {
			first = id
		}
		if id != first {
			t.Errorf("two keys: %s and %s", first, id)
		}
	}
}

func TestVaultBounds(t *testing.T) {
	v, _ := fileVault(t)
	if _, err := v.Seal(t.Context(), alice, make([]byte, MaxSecret+1)); kidoban.KindOf(err) != kidoban.KindLimit {
		t.Error(err)
	}
	if _, err := v.Seal(t.Context(), Owner{User: strings.Repeat("x", maxName+1)}, nil); kidoban.KindOf(err) != kidoban.KindUsage {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Seal(ctx, alice, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzUnseal(f *testing.F) {
	path := filepath.Join(f.TempDir(), "vault.key")
	v, err := Open(context.Background(), File(path))
	if err != nil {
		f.Fatal(err)
	}
	good, _ := v.Seal(context.Background(), alice, []byte("x"))
	f.Add(good)
	f.Add([]byte{1, 0, 0, 0, 1, 0})
	f.Add([]byte{1, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := v.Unseal(context.Background(), alice, b); err == nil && !bytes.Equal(b, good) {
			t.Fatalf("%x opened to %q", b, got)
		}
		_, _, _ = v.Rewrap(context.Background(), b)
	})
}
