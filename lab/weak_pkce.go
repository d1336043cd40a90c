package lab

import (
	"net/url"
	"strings"
)

// pkceSwitches are the flaws of PKCE (F5).
func pkceSwitches() []Switch {
	return []Switch{
		{Key: "F5-a", Title: "A public client may leave the code_challenge out; its code is then redeemed without a verifier."},
		{Key: "F5-b", Title: "code_challenge_method=plain is accepted and redeemed with the challenge as verifier."},
		{Key: "F5-c", Title: "A code_challenge without a method is accepted and treated as plain."},
		{Key: "F5-d", Title: "An unknown or empty code_challenge_method is accepted and treated as plain."},
		{Key: "F5-e", Title: "The metadata offer plain beside S256; a plain challenge is refused all the same."},
		{Key: "F5-f", Title: "A code that was asked for with a challenge is redeemed without a verifier."},
		{Key: "F5-g", Title: "A wrong verifier is accepted; a missing one is not."},
		{Key: "F5-h", Title: "A code that was asked for without a challenge is redeemed with any verifier.", Needs: Needs{Flaws: []string{"F5-a"}}},
		{Key: "F5-i", Title: "Verifiers of fewer than 43 characters are accepted."},
		{Key: "F5-j", Title: "A confidential client may leave the code_challenge out."},
	}
}

// validatePKCE demands an S256 challenge of every client (RFC 7636 section 4.4.1,
// OAuth 2.1 section 4.1.1).
func (l *Lab) validatePKCE(t *txn, v url.Values) *fault {
	t.challenge, t.method = single(v, "code_challenge"), single(v, "code_challenge_method")
	_, named := v["code_challenge_method"]
	public := t.client.method == "none"
	switch {
	case !strings.Contains(t.response, "code"):
		return nil // a response type of E26 that has no code to protect
	case t.challenge == "" && (t.client.extra["require_pkce"] == false || l.on("F5-a") && public || l.on("F5-j") && !public):
		t.method = ""
		return nil
	case t.challenge == "":
		return &fault{"invalid_request", "The code_challenge is missing.", false}
	case !wellFormed(t.challenge, 43):
		return &fault{"invalid_request", "The code_challenge is malformed.", false}
	case t.method == "S256":
		return nil
	case t.method == "plain" && l.on("F5-b"),
		!named && l.on("F5-c"),
		named && t.method != "plain" && l.on("F5-d"):
		t.method = "plain"
		return nil
	}
	return &fault{"invalid_request", "The transform algorithm is not supported; code_challenge_method must be S256.", false}
}

// wellFormed tells whether s is a verifier or challenge of at least n characters
// (RFC 7636 section 4.1).
func wellFormed(s string, n int) bool {
	if len(s) < n || len(s) > 128 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0) {
			return false
		}
	}
	return true
}

// verifierFits compares the verifier with the challenge of the code.
func (l *Lab) verifierFits(k *code, f url.Values) bool {
	verifier := f.Get("code_verifier")
	if k.challenge == "" {
		return verifier == "" || l.on("F5-h")
	}
	if verifier == "" {
		return l.on("F5-f")
	}
	if l.on("F5-g") {
		return true
	}
	least := 43
	if l.on("F5-i") {
		least = 1
	}
	if !wellFormed(verifier, least) {
		return false
	}
	if k.method == "plain" {
		return same(k.challenge, verifier)
	}
	return same(k.challenge, challengeOf(verifier))
}
