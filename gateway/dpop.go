package gateway

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// dpopJudge checks proofs of possession at the resource (RFC 9449 section 7). A
// token that is bound to a key is worth nothing without its proof; a token that
// is not bound is refused under the DPoP scheme.
type dpopJudge struct {
	now  func() time.Time
	once Once // for all replicas; nil: this process is alone

	mu     sync.Mutex
	young  proofs // used since turned; guarded by mu, as the rest is
	old    proofs // used in the span before
	turned time.Time
}

// proofs are the proofs used in a span of time, and how many were of each user.
type proofs struct {
	seen map[[32]byte]struct{}
	of   map[string]int
}

func newProofs() proofs { return proofs{map[[32]byte]struct{}{}, map[string]int{}} }

// proofAge is how old a proof may be; proofs are remembered at least that long, and
// at most twice that.
const proofAge = 60 * time.Second

// maxProofs bounds the memory of proofs, and maxOfUser the share of one user, who may
// have as many keys as he likes; it is more than a hundred calls a second. Beyond them
// proofs are refused.
const (
	maxProofs = 200_000
	maxOfUser = maxProofs / 10
)

var dpopAlgs = []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256, jose.RS256}

func dpopAlgNames() []string {
	out := make([]string, len(dpopAlgs))
	for i, a := range dpopAlgs {
		out[i] = string(a)
	}
	return out
}

func newDPoP(d Deps) *dpopJudge {
	var once Once
	if d.Replicas != nil {
		once = d.Once
	}
	return &dpopJudge{now: d.Now, once: once, young: newProofs(), old: newProofs()}
}

type proofClaims struct {
	Method string           `json:"htm"`
	URL    string           `json:"htu"`
	Hash   string           `json:"ath"`
	ID     string           `json:"jti"`
	At     *jwt.NumericDate `json:"iat"`
}

const ruleDPoP = "token:dpop"

func (j *dpopJudge) judge(r *http.Request, t *target, token string, dpopScheme bool, c *claims) *Refusal {
	bad := func(why string) *Refusal {
		return unauthorized(ruleDPoP, "invalid_dpop_proof", "The DPoP proof is not valid: "+why+".")
	}
	if c.Confirm == nil || c.Confirm.Key == "" {
		return unauthorized(ruleDPoP, "invalid_token", "The access token is not bound to a key; send it as Bearer.")
	}
	if !dpopScheme {
		return unauthorized(ruleDPoP, "invalid_token", "The access token is bound to a key; send it as DPoP with a proof.")
	}
	proofs := r.Header.Values("DPoP")
	if len(proofs) != 1 || len(proofs[0]) > maxToken {
		return bad("there is not exactly one")
	}
	p, err := jwt.ParseSigned(proofs[0], dpopAlgs)
	if err != nil || len(p.Headers) != 1 {
		return bad("it cannot be read").because(err)
	}
	h := p.Headers[0]
	if typ, _ := h.ExtraHeaders[jose.HeaderType].(string); typ != "dpop+jwt" || h.JSONWebKey == nil || !h.JSONWebKey.IsPublic() {
		return bad("its type or key is wrong")
	}
	print, err := h.JSONWebKey.Thumbprint(crypto.SHA256)
	if err != nil || base64.RawURLEncoding.EncodeToString(print) != c.Confirm.Key {
		return bad("it was made with another key")
	}
	var pc proofClaims
	if err := p.Claims(h.JSONWebKey.Key, &pc); err != nil {
		return bad("its signature does not hold").because(err)
	}
	sum := sha256.Sum256([]byte(token))
	now := j.now()
	switch {
	case pc.Method != r.Method:
		return bad("it is for another method")
	case !sameURL(pc.URL, t.resource):
		return bad("it is for another URL")
	case pc.Hash != base64.RawURLEncoding.EncodeToString(sum[:]):
		return bad("it is for another token")
	case pc.At == nil || now.Sub(pc.At.Time()) > proofAge || pc.At.Time().Sub(now) > leeway:
		return bad("its time is off")
	case pc.ID == "" || len(pc.ID) > 256:
		return bad("it has no id")
	case !j.first(c.Subject, c.Confirm.Key, pc.ID, now):
		return bad("it was used before, or too many were sent within a minute")
	}
	if j.once == nil {
		return nil
	}
	key := sha256.Sum256([]byte(c.Confirm.Key + "\x00" + pc.ID))
	fresh, err := j.once.UseOnce(r.Context(), "dpop:"+base64.RawURLEncoding.EncodeToString(key[:]), now, now.Add(proofAge+leeway))
	if err != nil {
		return (&Refusal{Status: http.StatusServiceUnavailable, Rule: ruleDPoP, Retry: 2, Say: "It cannot be checked just now whether the DPoP proof was used before. Try again in a moment with a new one."}).because(err)
	}
	if !fresh {
		return bad("it was used before")
	}
	return nil
}

// first records a proof and tells whether it is new. Two spans are remembered, so
// that forgetting never goes through what is remembered.
func (j *dpopJudge) first(user, key, id string, now time.Time) bool {
	k := sha256.Sum256([]byte(key + "\x00" + id))
	j.mu.Lock()
	defer j.mu.Unlock()
	if now.Before(j.turned) {
		j.turned = now // the clock was set back: everything is remembered longer
	}
	if since := now.Sub(j.turned); since > proofAge+leeway {
		j.old, j.young, j.turned = j.young, newProofs(), now
		if since > 2*(proofAge+leeway) {
			j.old = newProofs()
		}
	}
	_, young := j.young.seen[k]
	_, old := j.old.seen[k]
	if young || old || len(j.young.seen)+len(j.old.seen) >= maxProofs || j.young.of[user]+j.old.of[user] >= maxOfUser {
		return false
	}
	j.young.seen[k] = struct{}{}
	j.young.of[user]++
	return true
}

// sameURL compares without query and fragment, scheme and host without case
// (RFC 9449 section 4.3).
func sameURL(got, want string) bool {
	a, err1 := url.Parse(got)
	b, err2 := url.Parse(want)
	return err1 == nil && err2 == nil && strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Host, b.Host) &&
		strings.TrimSuffix(a.EscapedPath(), "/") == strings.TrimSuffix(b.EscapedPath(), "/")
}
