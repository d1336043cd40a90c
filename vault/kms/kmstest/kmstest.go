// Package kmstest gives tests a key management service on loopback that really
// seals, with the faces of three services made by others. Those themselves are met
// when the tests of package kms are told to.
package kmstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Service seals with AES-256-GCM, by a key for each name and version. Its faces
// follow the services' public references.
type Service struct {
	// Token is the credential that Transit and Cloud KMS want, and the access key id
	// of AWS.
	Token string

	mu   sync.Mutex
	keys map[string][]cipher.AEAD // guarded by mu; by name, the newest last
	asks int                      // guarded by mu
}

// New returns a service without a key.
func New(token string) *Service {
	return &Service{Token: token, keys: map[string][]cipher.AEAD{}}
}

// Asked tells how many questions there were.
func (s *Service) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asks
}

// Turn makes a new version of a key, and the first.
func (s *Service) Turn(name string) {
	key := make([]byte, 32)
	rand.Read(key)
	b, _ := aes.NewCipher(key)
	a, _ := cipher.NewGCMWithRandomNonce(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name] = append(s.keys[name], a)
}

func (s *Service) versions(name string) []cipher.AEAD {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks++
	return s.keys[name]
}

func (s *Service) seal(name string, plain, ad []byte) (version int, sealed []byte, err error) {
	all := s.versions(name)
	if len(all) == 0 {
		return 0, nil, errors.New("no such key")
	}
	return len(all), all[len(all)-1].Seal(nil, nil, plain, ad), nil
}

func (s *Service) open(name string, version int, sealed, ad []byte) ([]byte, error) {
	all := s.versions(name)
	if version < 1 || version > len(all) {
		return nil, errors.New("no such key")
	}
	return all[version-1].Open(nil, nil, sealed, ad)
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// Transit is the face of the Transit engine, at /v1/transit.
func (s *Service) Transit() http.Handler {
	fail := func(w http.ResponseWriter, status int, why string) {
		reply(w, status, map[string]any{"errors": []string{why}})
	}
	m := http.NewServeMux()
	m.HandleFunc("POST /v1/transit/{verb}/{name}", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Plain  []byte `json:"plaintext"`
			Sealed string `json:"ciphertext"`
			AD     []byte `json:"associated_data"`
		}
		if r.Header.Get("X-Vault-Token") != s.Token {
			fail(w, http.StatusForbidden, "permission denied")
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
		switch r.PathValue("verb") {
		case "encrypt":
			v, sealed, err := s.seal(r.PathValue("name"), in.Plain, in.AD)
			if err != nil {
				fail(w, http.StatusBadRequest, err.Error())
				return
			}
			reply(w, 200, map[string]any{"data": map[string]any{"ciphertext": fmt.Sprintf("vault:v%d:%s", v, base64.StdEncoding.EncodeToString(sealed))}})
		case "decrypt":
			part := strings.SplitN(in.Sealed, ":", 3)
			if len(part) != 3 {
				fail(w, http.StatusBadRequest, "invalid ciphertext: no prefix")
				return
			}
			v, _ := strconv.Atoi(strings.TrimPrefix(part[1], "v"))
			raw, _ := base64.StdEncoding.DecodeString(part[2])
			plain, err := s.open(r.PathValue("name"), v, raw, in.AD)
			if err != nil {
				fail(w, http.StatusBadRequest, err.Error())
				return
			}
			reply(w, 200, map[string]any{"data": map[string]any{"plaintext": plain}})
		}
	})
	return m
}

func crc(b []byte) string {
	return strconv.FormatUint(uint64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))), 10)
}

// GCP is the face of Cloud KMS.
func (s *Service) GCP() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail := func(status int, why string) {
			reply(w, status, map[string]any{"error": map[string]any{"code": status, "message": why}})
		}
		if r.Header.Get("Authorization") != "Bearer "+s.Token {
			fail(http.StatusUnauthorized, "Request had invalid authentication credentials.")
			return
		}
		name, verb, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/"), ":")
		var in struct {
			Plain     []byte `json:"plaintext"`
			Sealed    []byte `json:"ciphertext"`
			AD        []byte `json:"additionalAuthenticatedData"`
			PlainSum  string `json:"plaintextCrc32c"`
			SealedSum string `json:"ciphertextCrc32c"`
			ADSum     string `json:"additionalAuthenticatedDataCrc32c"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.ADSum != crc(in.AD) {
			fail(http.StatusBadRequest, "bad request")
			return
		}
		switch verb {
		case "encrypt":
			v, sealed, err := s.seal(name, in.Plain, in.AD)
			if err != nil || in.PlainSum != crc(in.Plain) {
				fail(http.StatusForbidden, "Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' denied")
				return
			}
			sealed = append([]byte{byte(v)}, sealed...)
			reply(w, 200, map[string]any{"name": name, "ciphertext": sealed, "ciphertextCrc32c": crc(sealed), "verifiedPlaintextCrc32c": true})
		case "decrypt":
			plain, err := s.open(name, int(in.Sealed[0]), in.Sealed[1:], in.AD)
			if err != nil || in.SealedSum != crc(in.Sealed) {
				fail(http.StatusBadRequest, "Decryption failed: verify that 'name' refers to the correct CryptoKey.")
				return
			}
			reply(w, 200, map[string]any{"plaintext": plain, "plaintextCrc32c": crc(plain)})
		}
	})
}

// AWS is the face of AWS KMS.
func (s *Service) AWS() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail := func(kind string) { reply(w, http.StatusBadRequest, map[string]any{"__type": kind, "message": "no"}) }
		if !strings.Contains(r.Header.Get("Authorization"), "Credential="+s.Token+"/") {
			fail("UnrecognizedClientException")
			return
		}
		var in struct {
			KeyId             string
			Plaintext         []byte
			CiphertextBlob    []byte
			EncryptionContext map[string]string
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			fail("SerializationException")
			return
		}
		ad := []byte(fmt.Sprint(in.EncryptionContext))
		switch strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.") {
		case "Encrypt":
			v, sealed, err := s.seal(in.KeyId, in.Plaintext, ad)
			if err != nil {
				fail("NotFoundException")
				return
			}
			reply(w, 200, map[string]any{"KeyId": in.KeyId, "CiphertextBlob": append([]byte{byte(v)}, sealed...)})
		case "Decrypt":
			plain, err := s.open(in.KeyId, int(in.CiphertextBlob[0]), in.CiphertextBlob[1:], ad)
			if err != nil {
				fail("InvalidCiphertextException")
				return
			}
			reply(w, 200, map[string]any{"KeyId": in.KeyId, "Plaintext": plain})
		}
	})
}
