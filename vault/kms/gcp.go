package kms

import (
	"context"
	"encoding/json"
	"hash/crc32"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/tink-crypto/tink-go/v2/core/registry"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"

	"github.com/kidoban/kidoban"
)

const gcpScheme = "gcp-kms://"

// Where Google's services are.
const (
	gcpHost     = "https://cloudkms.googleapis.com"
	gcpScope    = "https://www.googleapis.com/auth/cloudkms"
	gcpMetadata = "169.254.169.254"
)

var gcpName = regexp.MustCompile(`^projects/[a-zA-Z0-9:._-]+/locations/[a-z0-9-]+/keyRings/[a-zA-Z0-9_-]+/cryptoKeys/[a-zA-Z0-9_-]+$`)

// gcp is a key of Google Cloud KMS: gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K.
//
// The credential is the service account key in the file that
// GOOGLE_APPLICATION_CREDENTIALS names, or the account of the machine or pod
// (the metadata service, elsewhere with GCE_METADATA_HOST). CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS
// names another endpoint, as it does for Google's own tool.
type gcp struct {
	o          Options
	host, name string
}

func openGCP(uri string, o Options) (registry.KMSClient, error) {
	name := strings.TrimPrefix(uri, gcpScheme)
	if !gcpName.MatchString(name) {
		return nil, kidoban.Errorf(kidoban.KindUsage, "the key %.200q is not gcp-kms://projects/…/locations/…/keyRings/…/cryptoKeys/…", uri)
	}
	host := strings.TrimRight(o.Getenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS"), "/")
	if host == "" {
		host = gcpHost
	}
	return one{uri, gcp{o, host, name}}, nil
}

// sum is the checksum the service is asked to compare (CRC32C, int64 as a string).
type sum string

func sumOf(b []byte) sum {
	return sum(strconv.FormatUint(uint64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))), 10))
}

func (g gcp) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	in := struct {
		Plaintext    []byte `json:"plaintext"`
		AD           []byte `json:"additionalAuthenticatedData,omitempty"`
		PlaintextSum sum    `json:"plaintextCrc32c"`
		ADSum        sum    `json:"additionalAuthenticatedDataCrc32c"`
	}{plaintext, ad, sumOf(plaintext), sumOf(ad)}
	var out struct {
		Ciphertext []byte `json:"ciphertext"`
		Sum        sum    `json:"ciphertextCrc32c"`
		Plain      bool   `json:"verifiedPlaintextCrc32c"`
	}
	if err := g.ask(ctx, "encrypt", in, &out); err != nil {
		return nil, err
	}
	if !out.Plain || len(out.Ciphertext) == 0 || out.Sum != sumOf(out.Ciphertext) {
		return nil, kidoban.Errorf(kidoban.KindUnreachable, "what Cloud KMS sealed was damaged on the way: its checksum does not match")
	}
	return out.Ciphertext, nil
}

func (g gcp) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	in := struct {
		Ciphertext    []byte `json:"ciphertext"`
		AD            []byte `json:"additionalAuthenticatedData,omitempty"`
		CiphertextSum sum    `json:"ciphertextCrc32c"`
		ADSum         sum    `json:"additionalAuthenticatedDataCrc32c"`
	}{ciphertext, ad, sumOf(ciphertext), sumOf(ad)}
	var out struct {
		Plaintext []byte `json:"plaintext"`
		Sum       sum    `json:"plaintextCrc32c"`
	}
	if err := g.ask(ctx, "decrypt", in, &out); err != nil {
		return nil, err
	}
	if out.Sum != sumOf(out.Plaintext) {
		return nil, kidoban.Errorf(kidoban.KindUnreachable, "what Cloud KMS opened was damaged on the way: its checksum does not match")
	}
	return out.Plaintext, nil
}

func (g gcp) ask(ctx context.Context, verb string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	token, err := g.token(ctx)
	if err != nil {
		return err
	}
	head := http.Header{"Authorization": {"Bearer " + token}}
	return post(ctx, g.o, g.host+"/v1/"+g.name+":"+verb, head, in, out, func(status int, body []byte) error {
		var said struct {
			Error struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		_ = json.Unmarshal(body, &said) // what is no JSON says nothing we could show
		return kidoban.Errorf(kidoban.KindUnreachable, "Cloud KMS answered %d (%.300q): the account needs the role Cloud KMS CryptoKey Encrypter/Decrypter on the key", status, said.Error.Message)
	})
}

// token gets an access token. It is asked for so rarely that none is kept.
func (g gcp) token(ctx context.Context) (string, error) {
	path := g.o.Getenv("GOOGLE_APPLICATION_CREDENTIALS")
	if path == "" {
		return g.machineToken(ctx)
	}
	raw, err := g.o.ReadFile(path)
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindUsage, err, "the file %s (GOOGLE_APPLICATION_CREDENTIALS) cannot be read", path)
	}
	var f struct {
		Type  string `json:"type"`
		Email string `json:"client_email"`
		Key   string `json:"private_key"`
		ID    string `json:"private_key_id"`
		URL   string `json:"token_uri"`
	}
	if err := json.Unmarshal(raw, &f); err != nil || f.Type != "service_account" || f.URL == "" {
		return "", kidoban.Errorf(kidoban.KindUsage, "%s is not the key of a service account: use one, or run on a machine or pod with an account of its own", path)
	}
	c := jwt.Config{Email: f.Email, PrivateKey: []byte(f.Key), PrivateKeyID: f.ID, TokenURL: f.URL, Scopes: []string{gcpScope}}
	t, err := c.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: g.o, CheckRedirect: noRedirect})).Token()
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindUnreachable, err, "Google gave no token for the service account %.100q", f.Email)
	}
	return t.AccessToken, nil
}

// machineToken asks the metadata service for the machine's own account.
func (g gcp) machineToken(ctx context.Context) (string, error) {
	host := g.o.Getenv("GCE_METADATA_HOST")
	if host == "" {
		host = gcpMetadata
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/computeMetadata/v1/instance/service-accounts/default/token", nil)
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindUsage, err, "GCE_METADATA_HOST is not a host")
	}
	req.Header.Set("Metadata-Flavor", "Google")
	body, status, err := do(g.o, req)
	var t struct {
		Token string `json:"access_token"`
	}
	if err == nil && (status != http.StatusOK || json.Unmarshal(body, &t) != nil || t.Token == "") {
		err = kidoban.Errorf(kidoban.KindUnreachable, "the metadata service answered %d without a token", status)
	}
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindUnreachable, err, "there is no Google account to ask Cloud KMS with: set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account, or run on a machine or pod that has one")
	}
	return t.Token, nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
