package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kidoban/kidoban/vault/keychaintest"
	"github.com/kidoban/kidoban/vault/kms/kmstest"
)

// vaultRun runs kidoban with the config of dir.
func vaultRun(t *testing.T, dir, stdin string, args ...string) (string, int) {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(&env{ctx: t.Context(), stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs}, append(args, "--config", filepath.Join(dir, "kidoban.yaml")))
	return out.String() + errs.String(), code
}

func writeVaultConfig(t *testing.T, dir, key string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "kidoban.yaml"), []byte("data: "+dir+"\nvault_key: "+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestGVA4_VaultCommandsOnEverySource: the commands do the same wherever the key
// lives, and what is stored is where they say it is.
func TestGVA4_VaultCommandsOnEverySource(t *testing.T) {
	keychaintest.Start(t)
	service := kmstest.New("hvs.topsecret")
	service.Turn("kidoban")
	srv := httptest.NewServer(service.Transit())
	defer srv.Close()
	t.Setenv("VAULT_ADDR", srv.URL)
	t.Setenv("VAULT_TOKEN", service.Token)
	for _, c := range []struct{ key, says string }{
		{"keychain:gateway", "Key: keychain entry gateway, 1 key,"},
		{"hcvault:///transit/keys/kidoban", "Key: key management service hcvault:///transit/keys/kidoban, 1 key,"},
	} {
		t.Run(c.key, func(t *testing.T) {
			dir := t.TempDir()
			writeVaultConfig(t, dir, "file:"+filepath.Join(dir, "vault.key"))
			for _, step := range []struct {
				want string
				args []string
			}{
				{"Stored.", []string{"vault", "set", "github"}},
				{"The keys are in", []string{"vault", "move", c.key}},
			} {
				if out, code := vaultRun(t, dir, "ghp_topsecret\n", step.args...); code != exitClean || !strings.Contains(out, step.want) || strings.Contains(out, "topsecret") {
					t.Fatalf("%v: %d %s", step.args, code, out)
				}
			}
			writeVaultConfig(t, dir, c.key)
			if err := os.Remove(filepath.Join(dir, "vault.key")); err != nil {
				t.Fatal(err)
			}
			for _, step := range []struct {
				want string
				args []string
			}{
				{c.says, []string{"vault", "status"}},
				{"1 account and", []string{"vault", "rotate"}},
				{", 2 keys", []string{"vault", "status"}},
				{"1 earlier key is", []string{"vault", "retire"}},
				{"nothing to forget", []string{"vault", "retire"}},
				{c.says, []string{"vault", "status"}},
				{"Forgotten", []string{"vault", "remove", "github"}},
			} {
				if out, code := vaultRun(t, dir, "", step.args...); code != exitClean || !strings.Contains(out, step.want) || strings.Contains(out, "topsecret") {
					t.Errorf("%v: %d %s", step.args, code, out)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "vault.key")); err == nil {
				t.Error("a key file was made")
			}
			raw, err := os.ReadFile(filepath.Join(dir, "kidoban.db"))
			if err != nil || bytes.Contains(raw, []byte("primaryKeyId")) || bytes.Contains(raw, []byte("topsecret")) {
				t.Errorf("the database holds a key or a secret (%v)", err)
			}
		})
	}
}

// TestGVA4_NothingStartsWithoutTheService: no page, no new keys, one clear sentence.
func TestGVA4_NothingStartsWithoutTheService(t *testing.T) {
	service := kmstest.New("hvs.topsecret")
	service.Turn("kidoban")
	srv := httptest.NewServer(service.Transit())
	t.Setenv("VAULT_ADDR", srv.URL)
	t.Setenv("VAULT_TOKEN", service.Token)
	dir := t.TempDir()
	writeVaultConfig(t, dir, "hcvault:///transit/keys/kidoban")
	if out, code := vaultRun(t, dir, "x\n", "vault", "set", "github"); code != exitClean {
		t.Fatalf("%d %s", code, out)
	}
	srv.Close()
	for _, args := range [][]string{{"gateway", "run"}, {"vault", "status"}, {"vault", "rotate"}, {"vault", "retire"}} {
		out, code := vaultRun(t, dir, "", args...)
		if code == exitClean || !strings.Contains(out, "did not open the vault's keys with hcvault:///transit/keys/kidoban, and without them nothing starts") || strings.Contains(out, "topsecret") {
			t.Errorf("%v: %d %s", args, code, out)
		}
	}
	writeVaultConfig(t, dir, "azure-kms://x")
	if out, code := vaultRun(t, dir, "", "gateway", "run"); code != exitUsage || !strings.Contains(out, "vault_key must be") {
		t.Errorf("%d %s", code, out)
	}
}

// TestGVA4_AnotherKeyIsRefused: where the database holds secrets, a key file that is
// gone is not made anew and another one is not taken, by any command; with the right
// one back, everything is as it was.
func TestGVA4_AnotherKeyIsRefused(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "vault.key")
	writeVaultConfig(t, dir, "file:"+key)
	if out, code := vaultRun(t, dir, "ghp_topsecret\n", "vault", "set", "github"); code != exitClean {
		t.Fatalf("%d %s", code, out)
	}
	right, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	all := [][]string{{"vault", "set", "notes"}, {"vault", "status"}, {"vault", "rotate"}, {"vault", "retire"}, {"gateway", "run"}}
	refused := func(want string) {
		t.Helper()
		for _, args := range all {
			if out, code := vaultRun(t, dir, "x\n", args...); code != exitUsage || !strings.Contains(out, want) || !strings.Contains(out, "restore") {
				t.Errorf("%v: %d %s", args, code, out)
			}
		}
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	refused("there is no key in file " + key)
	if _, err := os.Stat(key); err == nil {
		t.Fatal("a key was made")
	}
	if code, out, said := command(t, dir, "vault", "key", key); code != exitClean {
		t.Fatalf("%d %s%s", code, out, said)
	}
	refused("is not the one that seals the secrets in the database")
	if err := os.WriteFile(key, right, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := vaultRun(t, dir, "", "vault", "rotate"); code != exitClean || !strings.Contains(out, "1 account and") {
		t.Errorf("with the right key: %d %s", code, out)
	}
}
