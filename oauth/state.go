package oauth

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of looking into a state value.
const (
	maxState       = 16 << 10 // bytes of the value; longer ones are not opened
	maxStateLayers = 3        // codings around each other; JSON and forms are not counted
	maxStateLeaves = 512
	maxInflated    = 64 << 10
)

// StateLeaf is a value found inside a state.
type StateLeaf struct {
	Path   string // how it was reached: "base64url.json.redirect_uri"; "" for the state itself
	Value  string // text; numbers as written
	Opened bool   // it was decoded further: what it says stands in the leaves below it
}

// StateReading is what can be read in a state parameter without any key.
type StateReading struct {
	Codings   []string    // codings that were undone, in order of first sight
	Leaves    []StateLeaf // every text and number found; the state itself first
	Signature string      // what looks like protection: "jwt RS256", "jwt none", "mac", "iron", "jwe"; "" when nothing does
	Structure bool        // it holds members or readable text, so it carries data and is no opaque id
}

// ReadState takes a state value apart: percent-encoding, base64 in both
// alphabets, hex, zlib and gzip, JSON, form parameters, the payload of a JWT;
// at most three codings deep. A signature is recognised by its shape only: it
// may be wrong, and the server may not check it (F4 finds out by changing it).
func ReadState(state string) StateReading {
	var r StateReading
	if len(state) > maxState {
		r.Leaves = []StateLeaf{{Value: state[:maxState]}}
		return r
	}
	r.text(state, "", maxStateLayers)
	return r
}

// Protected tells whether something looks like a signature, a MAC or
// encryption. "jwt none" does not.
func (r *StateReading) Protected() bool {
	return r.Signature != "" && r.Signature != "jwt none"
}

func (r *StateReading) coding(path, name string) string {
	seen := false
	for _, c := range r.Codings {
		seen = seen || c == name
	}
	if !seen {
		r.Codings = append(r.Codings, name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// text notes a text and looks into it.
func (r *StateReading) text(s, path string, layers int) {
	if len(r.Leaves) >= maxStateLeaves {
		return
	}
	at := len(r.Leaves)
	r.Leaves = append(r.Leaves, StateLeaf{Path: path, Value: s})
	opened := r.open(s, path, layers) // appends to Leaves: index it only afterwards
	r.Leaves[at].Opened = opened
}

// open tries the codings from the most to the least telling.
func (r *StateReading) open(s, path string, layers int) bool {
	if len(s) < 2 {
		return false
	}
	return r.json([]byte(s), path, layers) || layers > 0 && (r.token(s, path, layers) ||
		r.form(s, path, layers) || strings.Contains(s, "%") && r.percent(s, path, layers) ||
		r.signed(s, path, layers) || r.coded(s, path, layers))
}

// json walks a JSON object or array.
func (r *StateReading) json(b []byte, path string, layers int) bool {
	b = bytes.TrimSpace(b)
	if len(b) < 2 || b[0] != '{' && b[0] != '[' || !json.Valid(b) {
		return false
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return false
	}
	r.Structure = true
	r.walk(v, r.coding(path, "json"), layers)
	return true
}

func (r *StateReading) walk(v any, path string, layers int) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			r.walk(v[name], path+"."+name, layers)
		}
	case []any:
		for i, e := range v {
			r.walk(e, path+"."+strconv.Itoa(i), layers)
		}
	case string:
		r.text(v, path, layers)
	case json.Number:
		if len(r.Leaves) < maxStateLeaves {
			r.Leaves = append(r.Leaves, StateLeaf{Path: path, Value: v.String()})
		}
	}
}

// token recognises JWT, JWE and iron seals.
func (r *StateReading) token(s, path string, layers int) bool {
	if strings.HasPrefix(s, "Fe26.2*") {
		r.Signature = "iron"
		return true
	}
	j, ok := PeekJWT(s)
	switch {
	case !ok:
		return false
	case j.Encrypted:
		r.Signature = "jwe"
		return true
	case strings.EqualFold(j.Alg, "none") || len(j.Signature) == 0:
		r.Signature = "jwt none"
	default:
		r.Signature = "jwt " + clip(j.Alg, 16)
	}
	payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(s, ".")[1])
	r.json(payload, r.coding(path, "jwt"), layers-1)
	return true
}

func (r *StateReading) percent(s, path string, layers int) bool {
	out, err := url.PathUnescape(s)
	if err != nil || out == s {
		return false
	}
	r.text(out, r.coding(path, "percent"), layers-1)
	return true
}

// form reads a=b&c=d when the names are words.
func (r *StateReading) form(s, path string, layers int) bool {
	name, _, ok := strings.Cut(s, "=")
	if !ok || name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-.") != "" || strings.Trim(s[len(name):], "=") == "" {
		return false
	}
	values, err := url.ParseQuery(s)
	if err != nil || len(values) > 64 {
		return false
	}
	r.Structure = true
	path = r.coding(path, "form")
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, v := range values[name] {
			r.text(v, path+"."+name, layers)
		}
	}
	return true
}

// signed recognises payload and MAC joined by a separator: itsdangerous
// (payload.time.mac), Rails (payload--hex, text--nonce--tag), Express (s:payload.mac).
func (r *StateReading) signed(s, path string, layers int) bool {
	for _, sep := range [...]string{"--", ".", ":", "~", "|"} {
		i := strings.LastIndex(s, sep)
		if i <= 0 || !looksLikeMAC(s[i+len(sep):]) || sep == "--" && !railsMAC(s[:i], s[i+len(sep):]) {
			continue
		}
		if r.Signature == "" {
			r.Signature = "mac"
		}
		path = r.coding(path, "signed")
		for j, part := range strings.Split(s[:i], sep) {
			r.text(part, path+"."+strconv.Itoa(j), layers)
		}
		return true
	}
	return false
}

// railsMAC tells Rails' separator from the two hyphens that every hundredth random
// text in base64url holds: a digest is in hex, and a tag follows a nonce of 12 bytes.
func railsMAC(payload, mac string) bool {
	if _, err := hex.DecodeString(mac); err == nil {
		return true
	}
	i := strings.LastIndex(payload, "--")
	return i > 0 && len(payload)-i-2 == 16 && len(mac) == 24 && strings.HasSuffix(mac, "==")
}

// looksLikeMAC accepts base64 or hex of 16 to 64 bytes that are no text.
func looksLikeMAC(s string) bool {
	b, ok := decodeAny(s)
	return ok && len(b) >= 16 && len(b) <= 64 && !isText(b)
}

func decodeAny(s string) ([]byte, bool) {
	if b, err := hex.DecodeString(s); err == nil {
		return b, true
	}
	for _, e := range [...]*base64.Encoding{base64.RawURLEncoding, base64.RawStdEncoding} {
		if b, err := e.DecodeString(strings.TrimRight(s, "=")); err == nil {
			return b, true
		}
	}
	return nil, false
}

// coded tries hex and base64. What comes out must be text or compressed,
// otherwise the value was no coding of anything we can read. What is hex is not
// base64: one in a thousand random digests would begin with {} then.
func (r *StateReading) coded(s, path string, layers int) bool {
	if b, err := hex.DecodeString(s); err == nil && len(b) >= 8 {
		return r.bytes(b, path, "hex", layers-1)
	}
	trimmed := strings.TrimRight(s, "=")
	if b, err := base64.RawURLEncoding.DecodeString(trimmed); err == nil && len(b) >= 8 && r.bytes(b, path, "base64url", layers-1) {
		return true
	}
	b, err := base64.RawStdEncoding.DecodeString(trimmed)
	return err == nil && len(b) >= 8 && r.bytes(b, path, "base64", layers-1)
}

// bytes goes on with decoded bytes if they mean something.
func (r *StateReading) bytes(b []byte, path, coding string, layers int) bool {
	if isText(b) {
		r.Structure = true
		r.text(string(b), r.coding(path, coding), layers)
		return true
	}
	if out, name := inflate(b); name != "" {
		path = r.coding(path, coding)
		if layers > 0 && isText(out) {
			r.Structure = true
			r.text(string(out), r.coding(path, name), layers-1)
		}
		return true
	}
	// A JSON text with 16 to 64 random bytes behind it: payload and MAC.
	if b[0] == '{' {
		dec := json.NewDecoder(bytes.NewReader(b))
		var raw json.RawMessage
		if dec.Decode(&raw) == nil && len(raw) > len("{}") {
			if rest := len(b) - int(dec.InputOffset()); rest >= 16 && rest <= 64 {
				if r.Signature == "" {
					r.Signature = "mac"
				}
				return r.json(raw, r.coding(path, coding), layers)
			}
		}
	}
	return false
}

func inflate(b []byte) ([]byte, string) {
	var rd io.Reader
	name := ""
	switch {
	case len(b) > 2 && b[0] == 0x78:
		if z, err := zlib.NewReader(bytes.NewReader(b)); err == nil {
			rd, name = z, "zlib"
		}
	case len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b:
		if z, err := gzip.NewReader(bytes.NewReader(b)); err == nil {
			rd, name = z, "gzip"
		}
	}
	if rd == nil {
		return nil, ""
	}
	out, err := io.ReadAll(io.LimitReader(rd, maxInflated))
	if err != nil { // random bytes may begin like a stream, and do not end with its checksum
		return nil, ""
	}
	return out, name
}

// isText accepts UTF-8 without control characters.
func isText(b []byte) bool {
	if len(b) == 0 || !utf8.Valid(b) {
		return false
	}
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
