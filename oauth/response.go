package oauth

import (
	"github.com/kidoban/kidoban"
)

// ErrorResponse is an OAuth error (RFC 6749 §5.2, RFC 7591 §3.2.2): the JSON
// body of a token or registration refusal.
type ErrorResponse struct {
	Document
	Code        string // invalid_grant, invalid_redirect_uri, …
	Description string // from the peer; hostile text, escape it
	URI         string
}

// ParseErrorResponse reads an error body. ok is false when body is no JSON
// object with a non-empty error member that is a string. An object in error
// (some frameworks nest {code, message} there) is not an OAuth error.
func ParseErrorResponse(body []byte) (e ErrorResponse, ok bool) {
	d, err := parseDocument(body, MaxDocument, "error response")
	if err != nil {
		return ErrorResponse{}, false
	}
	e = ErrorResponse{Code: d.str("error"), Description: d.str("error_description"), URI: d.str("error_uri")}
	e.Document = d
	return e, e.Code != ""
}

// TokenResponse is a successful answer of a token endpoint (RFC 6749 §5.1).
type TokenResponse struct {
	Document
	AccessToken  string
	TokenType    string
	ExpiresIn    int64 // seconds; -1 when absent
	RefreshToken string
	Scope        string // "" when absent: the scope asked for was granted
	IDToken      string
}

// ParseTokenResponse reads a token endpoint's answer. Success is HTTP 200, a
// JSON object, access_token a non-empty string, and no error member; anything
// else is an error, however friendly the status line looks.
func ParseTokenResponse(status int, body []byte) (TokenResponse, error) {
	if status != 200 {
		return TokenResponse{}, kidoban.Errorf(kidoban.KindRefused, "The token endpoint answered with status %d.", status)
	}
	d, err := parseDocument(body, MaxDocument, "token response")
	if err != nil {
		return TokenResponse{}, err
	}
	t := TokenResponse{
		AccessToken:  d.str("access_token"),
		TokenType:    d.str("token_type"),
		ExpiresIn:    -1,
		RefreshToken: d.str("refresh_token"),
		Scope:        d.str("scope"),
		IDToken:      d.str("id_token"),
	}
	if n, ok := d.integer("expires_in"); ok && n >= 0 {
		t.ExpiresIn = n
	}
	t.Document = d
	if d.Has("error") {
		return t, kidoban.Errorf(kidoban.KindRefused, "The token endpoint answered 200 with an error in the body.")
	}
	if t.AccessToken == "" {
		return t, kidoban.Errorf(kidoban.KindInput, "The token endpoint answered 200 without an access_token.")
	}
	return t, nil
}

// IssVerdict is what a client must do with an authorization response by its
// iss parameter (RFC 9207 §2.4, CL-04).
type IssVerdict string

// The verdicts.
const (
	IssOK       IssVerdict = "ok"       // present and equal
	IssAbsent   IssVerdict = "absent"   // absent and not advertised: go on
	IssMissing  IssVerdict = "missing"  // advertised but absent: reject
	IssMismatch IssVerdict = "mismatch" // present and not equal: reject, and do not show the response's error text
)

// Accept tells whether the client may go on with the response.
func (v IssVerdict) Accept() bool { return v == IssOK || v == IssAbsent }

// CheckIss applies the table of CL-04 to success and error responses alike.
// recorded is the issuer noted before the redirect, advertised the metadata's
// authorization_response_iss_parameter_supported. The comparison is exact:
// nothing is normalised. More than one iss never matches.
func CheckIss(recorded string, advertised bool, iss []string) IssVerdict {
	switch {
	case len(iss) == 0 && advertised:
		return IssMissing
	case len(iss) == 0:
		return IssAbsent
	case len(iss) == 1 && iss[0] == recorded && recorded != "":
		return IssOK
	}
	return IssMismatch
}
