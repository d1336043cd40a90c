package kms_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/store/storetest"
	"github.com/kidoban/kidoban/vault"
	"github.com/kidoban/kidoban/vault/kms"
	"github.com/kidoban/kidoban/vault/kms/kmstest"
)

// rig is one service as the tests see it.
type rig struct {
	uri, other string // a key, and another key of the same service
	env        map[string]string
	turn       func()             // the service makes a new version of the key
	spoil      func(t *testing.T) // the credential is no longer good
	secret     string             // which no error may show
	asked      func() int         // questions so far; nil where nobody counts
	stop       func()             // the service is gone
}

func (r *rig) source(t *testing.T, uri string, db *store.DB) vault.Source {
	t.Helper()
	c, err := kms.Open(t.Context(), uri, kms.Options{
		TLS:      outbound.Relay(false, outbound.RelayOptions{Lab: true}),
		Plain:    outbound.Relay(true, outbound.RelayOptions{Lab: true}),
		Getenv:   func(name string) string { return r.env[name] },
		ReadFile: os.ReadFile,
	})
	if err != nil {
		t.Fatal(err)
	}
	return vault.KMS(c, uri, db)
}

func openDB(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{URL: storetest.SQLite(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func transitRig(t *testing.T) *rig {
	s := kmstest.New("hvs.topsecret")
	s.Turn("kidoban")
	s.Turn("other")
	srv := httptest.NewServer(s.Transit())
	t.Cleanup(srv.Close)
	r := &rig{uri: "hcvault:///transit/keys/kidoban", other: "hcvault:///transit/keys/other", secret: s.Token,
		env: map[string]string{"VAULT_ADDR": srv.URL, "VAULT_TOKEN": s.Token}, turn: func() { s.Turn("kidoban") }, asked: s.Asked, stop: srv.Close}
	r.spoil = func(*testing.T) { r.env["VAULT_TOKEN"] = "hvs.topsecret-expired" }
	return r
}

const gcpKey = "projects/p/locations/global/keyRings/r/cryptoKeys/"

// gcpRig is Cloud KMS, with Google's token endpoint for service accounts, which
// takes an assertion of the account's own key and nothing else.
func gcpRig(t *testing.T) *rig {
	s := kmstest.New("ya29.topsecret")
	s.Turn(gcpKey + "kidoban")
	s.Turn(gcpKey + "other")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	m := http.NewServeMux()
	m.Handle("/v1/", s.GCP())
	m.HandleFunc("POST /token", func(w http.ResponseWriter, q *http.Request) {
		tok, err := jwt.ParseSigned(q.PostFormValue("assertion"), []jose.SignatureAlgorithm{jose.RS256})
		var c jwt.Claims
		if err != nil || tok.Claims(&key.PublicKey, &c) != nil || c.Issuer != "gateway@p.iam" || q.PostFormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"access_token": s.Token, "token_type": "Bearer", "expires_in": 3600})
	})
	m.HandleFunc("GET /computeMetadata/v1/instance/service-accounts/default/token", func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Metadata-Flavor") != "Google" {
			http.Error(w, "Missing Metadata-Flavor:Google header.", http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"access_token": s.Token, "token_type": "Bearer", "expires_in": 3600})
	})
	srv := httptest.NewServer(m)
	t.Cleanup(srv.Close)
	der, _ := x509.MarshalPKCS8PrivateKey(key)
	account, _ := json.Marshal(map[string]string{"type": "service_account", "client_email": "gateway@p.iam", "private_key_id": "1", "token_uri": srv.URL + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	path := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(path, account, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &rig{uri: "gcp-kms://" + gcpKey + "kidoban", other: "gcp-kms://" + gcpKey + "other", secret: s.Token,
		env:  map[string]string{"CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS": srv.URL, "GOOGLE_APPLICATION_CREDENTIALS": path, "GCE_METADATA_HOST": strings.TrimPrefix(srv.URL, "http://")},
		turn: func() { s.Turn(gcpKey + "kidoban") }, asked: s.Asked, stop: srv.Close}
	r.spoil = func(t *testing.T) {
		if err := os.WriteFile(path, bytes.Replace(account, []byte("gateway@"), []byte("mallory@"), 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

const awsKey = "arn:aws:kms:eu-central-1:111122223333:key/"

func awsRig(t *testing.T) *rig {
	s := kmstest.New("AKIDTEST")
	s.Turn(awsKey + "kidoban")
	s.Turn(awsKey + "other")
	srv := httptest.NewServer(s.AWS())
	t.Cleanup(srv.Close)
	awsEnv(t, srv.URL, s.Token)
	r := &rig{uri: "aws-kms://" + awsKey + "kidoban", other: "aws-kms://" + awsKey + "other", secret: "topsecret", turn: func() { s.Turn(awsKey + "kidoban") }, asked: s.Asked, stop: srv.Close}
	r.spoil = func(t *testing.T) { t.Setenv("AWS_ACCESS_KEY_ID", "AKIDGONE") }
	return r
}

func awsEnv(t *testing.T, url, id string) {
	none := filepath.Join(t.TempDir(), "none")
	for k, v := range map[string]string{"AWS_ENDPOINT_URL_KMS": url, "AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": "topsecret", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_MAX_ATTEMPTS": "1"} {
		t.Setenv(k, v)
	}
}

// onEach runs a test on every service.
func onEach(t *testing.T, test func(t *testing.T, r *rig)) {
	for name, make := range rigs() {
		t.Run(name, func(t *testing.T) { test(t, make(t)) })
	}
}

func rigs() map[string]func(*testing.T) *rig {
	all := map[string]func(*testing.T) *rig{"transit": transitRig, "gcp": gcpRig, "aws": awsRig}
	if os.Getenv(realEnv) != "" {
		all["transit of Vault"], all["aws of moto"] = vaultRig, motoRig
	}
	return all
}

var alice = vault.Owner{User: "alice", Server: "github", Issuer: "https://github.example"}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestGVA4_KMSSealsTheRingAndRotates: what one process seals another opens; the
// keys turn here and at the service, and no secret is lost.
func TestGVA4_KMSSealsTheRingAndRotates(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		ctx, db := t.Context(), openDB(t)
		v, err := vault.Open(ctx, r.source(t, r.uri, db))
		must(t, err)
		sealed, err := v.Seal(ctx, alice, []byte("refresh-token"))
		must(t, err)
		ring, err := db.Ring(ctx)
		must(t, err)
		if len(ring) == 0 || bytes.Contains(ring, []byte("primaryKeyId")) {
			t.Fatalf("the ring is not sealed: %q", ring)
		}
		before := 0
		if r.asked != nil {
			before = r.asked()
		}
		for range 20 {
			if got, err := v.Unseal(ctx, alice, sealed); err != nil || string(got) != "refresh-token" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if r.asked != nil && r.asked() != before {
			t.Errorf("opening 20 secrets asked the service %d times", r.asked()-before)
		}
		replica, err := vault.Open(ctx, r.source(t, r.uri, db))
		must(t, err)
		must(t, v.Rotate(ctx))
		r.turn()
		must(t, v.Rotate(ctx))
		rewrapped, changed, err := v.Rewrap(ctx, sealed)
		if err != nil || !changed {
			t.Fatalf("%v %v", changed, err)
		}
		if got, err := replica.Unseal(ctx, alice, rewrapped); err != nil || string(got) != "refresh-token" {
			t.Errorf("a process that did not rotate: %q, %v", got, err)
		}
		must(t, v.Retire(ctx))
		if s := v.Status(); len(s.Keys) != 1 || s.Source != "key management service "+r.uri {
			t.Errorf("%+v", s)
		}
		last, err := vault.Open(ctx, r.source(t, r.uri, db))
		must(t, err)
		if got, err := last.Unseal(ctx, alice, rewrapped); err != nil || string(got) != "refresh-token" {
			t.Errorf("after retiring: %q, %v", got, err)
		}
	})
}

// TestGVA4_KMSFailsClosed: without the service, with another credential or another
// key, nothing opens, nothing is made anew, and the sentence shows no credential.
func TestGVA4_KMSFailsClosed(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, r *rig)
	}{
		{"credential", func(t *testing.T, r *rig) {
			if r.spoil == nil { // a service that believes every credential
				r.stop()
				return
			}
			r.spoil(t)
		}},
		{"other key", func(_ *testing.T, r *rig) { r.uri = r.other }},
		{"gone", func(_ *testing.T, r *rig) { r.stop() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, r *rig) {
				ctx, db := t.Context(), openDB(t)
				v, err := vault.Open(ctx, r.source(t, r.uri, db))
				must(t, err)
				before, err := db.Ring(ctx)
				must(t, err)
				c.spoil(t, r)
				_, err = vault.Open(ctx, r.source(t, r.uri, db))
				if kidoban.KindOf(err) != kidoban.KindUnreachable || !strings.Contains(err.Error(), "did not open the vault's keys") {
					t.Fatalf("%v", err)
				}
				if r.secret != "" && strings.Contains(err.Error(), r.secret) {
					t.Errorf("the credential stands in the error: %v", err)
				}
				if err := vault.Move(ctx, vault.File(filepath.Join(t.TempDir(), "k")), r.source(t, r.uri, db)); err == nil {
					t.Error("an empty source was moved")
				}
				after, err := db.Ring(ctx)
				must(t, err)
				if !bytes.Equal(before, after) {
					t.Error("the ring changed")
				}
				// A running process needs the service for nothing that it has already.
				if _, err := v.Seal(ctx, alice, []byte("x")); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestGVA4_KMSFirstStartsAgree(t *testing.T) {
	r, db := transitRig(t), openDB(t)
	var wg sync.WaitGroup
	all := make([]*vault.Vault, 8)
	for i := range all {
		src := r.source(t, r.uri, db)
		wg.Go(func() {
			v, err := vault.Open(t.Context(), src)
			if err != nil {
				t.Error(err)
			}
			all[i] = v
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	sealed, err := all[0].Seal(t.Context(), alice, []byte("x"))
	must(t, err)
	for i, v := range all {
		if _, err := v.Unseal(t.Context(), alice, sealed); err != nil {
			t.Errorf("process %d has other keys: %v", i, err)
		}
	}
}

// TestGVA4_MoveKeepsEverySecret: from a file to a service and back.
func TestGVA4_MoveKeepsEverySecret(t *testing.T) {
	ctx, r, db := t.Context(), transitRig(t), openDB(t)
	file, remote := vault.File(filepath.Join(t.TempDir(), "vault.key")), r.source(t, r.uri, db)
	v, err := vault.Open(ctx, file)
	must(t, err)
	sealed, err := v.Seal(ctx, alice, []byte("kept"))
	must(t, err)
	must(t, vault.Move(ctx, file, remote))
	must(t, vault.Move(ctx, file, remote)) // once more changes nothing
	moved, err := vault.Open(ctx, remote)
	must(t, err)
	if got, err := moved.Unseal(ctx, alice, sealed); err != nil || string(got) != "kept" {
		t.Fatalf("%q, %v", got, err)
	}
	must(t, moved.Rotate(ctx))
	if err := vault.Move(ctx, file, remote); kidoban.KindOf(err) != kidoban.KindConflict {
		t.Errorf("other keys were overwritten: %v", err)
	}
	back := vault.File(filepath.Join(t.TempDir(), "back.key"))
	must(t, vault.Move(ctx, remote, back))
	again, err := vault.Open(ctx, back)
	must(t, err)
	if got, err := again.Unseal(ctx, alice, sealed); err != nil || string(got) != "kept" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestKMSCredentialsByOtherWays(t *testing.T) {
	t.Run("an agent's token file", func(t *testing.T) {
		r, db := transitRig(t), openDB(t)
		path := filepath.Join(t.TempDir(), "token")
		must(t, os.WriteFile(path, []byte(r.env["VAULT_TOKEN"]+"\n"), 0o600))
		r.env["VAULT_TOKEN"], r.env["VAULT_TOKEN_FILE"] = "", path
		_, err := vault.Open(t.Context(), r.source(t, r.uri, db))
		must(t, err)
		must(t, os.WriteFile(path, nil, 0o600))
		if _, err := vault.Open(t.Context(), r.source(t, r.uri, db)); err == nil || !strings.Contains(err.Error()+cause(err), "VAULT_TOKEN") {
			t.Errorf("%v", err)
		}
	})
	t.Run("the machine's Google account", func(t *testing.T) {
		r, db := gcpRig(t), openDB(t)
		delete(r.env, "GOOGLE_APPLICATION_CREDENTIALS")
		_, err := vault.Open(t.Context(), r.source(t, r.uri, db))
		must(t, err)
	})
}

func cause(err error) string {
	var k *kidoban.Error
	if e, ok := err.(*kidoban.Error); ok {
		k = e
	}
	if k == nil || k.Cause == nil {
		return ""
	}
	return " " + k.Cause.Error()
}

func TestKMSNamesAreChecked(t *testing.T) {
	for _, uri := range []string{"", "hcvault://", "hcvault://h/transit/kidoban", "hcvault://h/transit/keys/", "hcvault://u:p@h/transit/keys/k", "hcvault://h/a/../keys/k", "hcvault://h/t/keys/k?x=1",
		"hcvault:///transit/keys/k", "gcp-kms://projects/p", "gcp-kms://" + gcpKey + "k/cryptoKeyVersions/1", "gcp-kms://" + gcpKey + "k?x", "aws-kms://arn:aws:s3:::x", "aws-kms://alias/x", "azure-kms://x"} {
		if _, err := kms.Open(t.Context(), uri, kms.Options{Getenv: func(string) string { return "" }}); kidoban.KindOf(err) != kidoban.KindUsage {
			t.Errorf("%q: %v", uri, err)
		}
	}
	c, err := kms.Open(t.Context(), "hcvault://h:1/transit/keys/k", kms.Options{Getenv: func(string) string { return "" }})
	must(t, err)
	if _, err := c.GetAEAD("hcvault://h:1/transit/keys/other"); err == nil {
		t.Error("a client gave out another key")
	}
	if u, err := url.Parse("hcvault://h:1/transit/keys/k"); err != nil || !c.Supported(u.String()) {
		t.Error("a client does not know its key")
	}
}
