package authserver

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// dpopAlgs are the signatures accepted for DPoP proofs.
var dpopAlgs = []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA}

func dpopAlgNames() []string { return algNames(dpopAlgs) }

// dpopWindow is how far a proof's iat may be from our clock, either way.
const dpopWindow = 5 * time.Minute

const purposeNonce = "dpop nonce"

// dpopClaims are the claims of a proof (RFC 9449 §4.2).
type dpopClaims struct {
	ID       string           `json:"jti"`
	Method   string           `json:"htm"`
	URI      string           `json:"htu"`
	IssuedAt *jwt.NumericDate `json:"iat"`
	Nonce    string           `json:"nonce"`
}

// checkDPoP verifies the DPoP header of a request to the token or PAR endpoint
// (RFC 9449 §4.3) and returns the thumbprint of its key; "" without a header. A
// nonce is only looked at when the client sends one: it must then be ours. The
// response always carries a fresh one.
func (s *Server) checkDPoP(w http.ResponseWriter, r *http.Request, c *call) (string, error) {
	proofs := r.Header.Values("DPoP")
	if len(proofs) == 0 {
		return "", nil
	}
	bad := func(text string) error { return oauthErr(http.StatusBadRequest, "invalid_dpop_proof", text) }
	nonce, err := s.box.seal(purposeNonce, true, dpopWindow)
	if err != nil {
		return "", err
	}
	w.Header().Set("DPoP-Nonce", nonce)
	if len(proofs) > 1 || len(proofs[0]) > 8<<10 {
		return "", bad("There must be one DPoP proof.")
	}
	tok, err := jwt.ParseSigned(proofs[0], dpopAlgs)
	if err != nil || len(tok.Headers) != 1 {
		return "", bad("The DPoP proof is not a JWT signed with ES256 or EdDSA.")
	}
	h := tok.Headers[0]
	if typ, _ := h.ExtraHeaders[jose.HeaderType].(string); !strings.EqualFold(typ, "dpop+jwt") {
		return "", bad("The DPoP proof's typ is not dpop+jwt.")
	}
	if h.JSONWebKey == nil || !h.JSONWebKey.Valid() || !h.JSONWebKey.IsPublic() {
		return "", bad("The DPoP proof has no public key in its header.")
	}
	var claims dpopClaims
	if err := tok.Claims(h.JSONWebKey.Key, &claims); err != nil {
		return "", bad("The DPoP proof is not signed by the key in its header.")
	}
	uri, _, _ := strings.Cut(claims.URI, "?")
	uri, _, _ = strings.Cut(uri, "#")
	ours := []string{c.policy.origin + r.URL.Path}
	switch {
	case claims.Method != r.Method || !slices.Contains(ours, uri):
		return "", bad("The DPoP proof is for another request.")
	case claims.IssuedAt == nil || claims.IssuedAt.Time().Sub(c.now).Abs() > dpopWindow:
		return "", bad("The DPoP proof is too old or from the future.")
	case claims.ID == "" || len(claims.ID) > 512:
		return "", bad("The DPoP proof has no usable jti.")
	}
	if claims.Nonce != "" {
		var ok bool
		if s.box.open(purposeNonce, claims.Nonce, &ok) != nil {
			return "", oauthErr(http.StatusBadRequest, "use_dpop_nonce", "The DPoP nonce is too old: use the one in the DPoP-Nonce header.")
		}
	}
	jkt, err := thumbprint(*h.JSONWebKey)
	if err != nil {
		return "", bad("The DPoP proof's key has no thumbprint.")
	}
	fresh, err := s.deps.Store.UseOnce(r.Context(), "dpop:"+base64Hash(jkt+"\x00"+claims.ID), c.now, c.now.Add(2*dpopWindow))
	if err != nil {
		return "", err
	}
	if !fresh {
		return "", bad("The DPoP proof was used before.")
	}
	return jkt, nil
}
