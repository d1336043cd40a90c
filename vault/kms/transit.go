package kms

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/tink-crypto/tink-go/v2/core/registry"

	"github.com/kidoban/kidoban"
)

const transitScheme = "hcvault://"

// transit is a key of the Transit engine of HashiCorp Vault or OpenBao:
// hcvault://HOST[:PORT]/MOUNT/keys/NAME, https always. Without a host it is that
// of VAULT_ADDR, which may be http on loopback.
//
// VAULT_TOKEN is the credential, or the file that VAULT_TOKEN_FILE names, read
// anew each time, which is where an agent puts the token it renews.
// VAULT_NAMESPACE is sent when it is set.
type transit struct {
	o                 Options
	base, mount, name string
}

func openTransit(uri string, o Options) (registry.KMSClient, error) {
	bad := func(why string) error {
		return kidoban.Errorf(kidoban.KindUsage, "the key %.200q: %s: write hcvault://HOST:PORT/transit/keys/NAME", uri, why)
	}
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, bad("it is not a plain URI")
	}
	mount, name, ok := strings.Cut(strings.Trim(u.Path, "/"), "/keys/")
	if !ok || mount == "" || name == "" || strings.Contains(name, "/") || strings.Contains(u.Path, "..") {
		return nil, bad("its path does not name a key")
	}
	base := "https://" + u.Host
	if u.Host == "" {
		a, err := url.Parse(o.Getenv("VAULT_ADDR"))
		if err != nil || a.Host == "" || a.User != nil || a.Scheme != "https" && a.Scheme != "http" {
			return nil, bad("it has no host, and VAULT_ADDR is not set to an address")
		}
		base = a.Scheme + "://" + a.Host + strings.TrimRight(a.EscapedPath(), "/")
	}
	return one{uri, transit{o, base, mount, name}}, nil
}

func (t transit) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	var out struct {
		Data struct {
			Ciphertext string `json:"ciphertext"`
		} `json:"data"`
	}
	in := map[string]string{"plaintext": base64.StdEncoding.EncodeToString(plaintext)}
	if err := t.ask(ctx, "encrypt", in, ad, &out); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(out.Data.Ciphertext, "vault:v") {
		return nil, kidoban.Errorf(kidoban.KindUnreachable, "the Transit engine answered without a ciphertext")
	}
	return []byte(out.Data.Ciphertext), nil
}

func (t transit) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	var out struct {
		Data struct {
			Plaintext *string `json:"plaintext"`
		} `json:"data"`
	}
	if err := t.ask(ctx, "decrypt", map[string]string{"ciphertext": string(ciphertext)}, ad, &out); err != nil {
		return nil, err
	}
	if out.Data.Plaintext == nil {
		return nil, kidoban.Errorf(kidoban.KindUnreachable, "the Transit engine answered without a plaintext")
	}
	plain, err := base64.StdEncoding.DecodeString(*out.Data.Plaintext)
	return plain, kidoban.Wrap(kidoban.KindUnreachable, err, "the Transit engine's plaintext is not base64")
}

func (t transit) ask(ctx context.Context, verb string, in map[string]string, ad []byte, out any) error {
	if len(ad) > 0 {
		in["associated_data"] = base64.StdEncoding.EncodeToString(ad)
	}
	head, err := t.head()
	if err != nil {
		return err
	}
	return post(ctx, t.o, t.base+"/v1/"+(&url.URL{Path: t.mount + "/" + verb + "/" + t.name}).EscapedPath(), head, in, out, t.refused)
}

func (t transit) head() (http.Header, error) {
	token := t.o.Getenv("VAULT_TOKEN")
	if path := t.o.Getenv("VAULT_TOKEN_FILE"); token == "" && path != "" {
		raw, err := t.o.ReadFile(path)
		if err != nil {
			return nil, kidoban.Wrap(kidoban.KindUsage, err, "the token file %s (VAULT_TOKEN_FILE) cannot be read", path)
		}
		token = strings.TrimSpace(string(raw))
	}
	if token == "" {
		return nil, kidoban.Errorf(kidoban.KindUsage, "there is no token for the Transit engine: set VAULT_TOKEN, or VAULT_TOKEN_FILE to the file of an agent")
	}
	h := http.Header{"X-Vault-Token": {token}, "X-Vault-Request": {"true"}}
	if ns := t.o.Getenv("VAULT_NAMESPACE"); ns != "" {
		h.Set("X-Vault-Namespace", ns)
	}
	return h, nil
}

func (t transit) refused(status int, body []byte) error {
	var said struct {
		Errors []string `json:"errors"`
	}
	_ = json.Unmarshal(body, &said) // a proxy's page says nothing we could show
	why := strings.Join(said.Errors, "; ")
	hint := "check the key's name and the engine's mount"
	switch status {
	case http.StatusForbidden:
		hint = "the token is expired, or its policy lacks update on " + t.mount + "/encrypt/" + t.name + " and " + t.mount + "/decrypt/" + t.name
	case http.StatusServiceUnavailable:
		hint = "it is sealed or in maintenance"
	}
	return kidoban.Errorf(kidoban.KindUnreachable, "the Transit engine answered %d (%.200q): %s", status, why, hint)
}
