package kidoban

import (
	"slices"
	"strings"
)

// Needs is a bit set of what a check needs beyond its tier.
type Needs uint8

// What a check may need.
const (
	NeedsClient   Needs = 1 << iota // a registered client (own registration in T2, or --client-id)
	NeedsCanary                     // a collector of the tester's that the server can reach
	NeedsOwn                        // the tester's own server (rate tests)
	NeedsUpstream                   // the server delegates to an upstream authorization server
	NeedsTool                       // a tool the operator names
	NeedsLegacy                     // only servers of the session era
	NeedsModern                     // only servers of the stateless era (2026-07-28)
	NeedsTLS                        // only meaningful where the target speaks TLS or should
)

// Flaw is one entry of the catalogue.
type Flaw struct {
	ID       string
	Name     string
	Category string // C1 … C4 of the study, or MCP, META, REG, TOK, CLI for the extensions
	CWE      []int
}

// Check is one observable fact about a flaw: what a probe looks for.
type Check struct {
	ID       string // of the flaw
	Variant  string
	Slug     string   // the observed fact
	Tier     Tier     // the lowest tier that can decide it
	Severity Severity // default; a judge may lower or raise it with a reason
	Outcome  Outcome  // what a positive is: Fail or Weak
	Max      Evidence // strongest evidence reachable
	Needs    Needs
	Passive  bool // recorded traffic alone can show it
}

// Key returns "F5-a", or "E06" without a variant.
func (c Check) Key() string { return key(c.ID, c.Variant) }

// Flaws returns the catalogue's entries in catalogue order.
func Flaws() []Flaw {
	return []Flaw{
		{"F1", "Malicious DCR binding", "C1", []int{601, 285}},
		{"F2", "Blind client trust", "C1", []int{287, 345}},
		{"F3", "Layer inconsistency", "C2", []int{757, 358}},
		{"F4", "Nested context pollution", "C2", []int{345, 601}},
		{"F5", "PKCE downgrade", "C3", []int{757}},
		{"F6", "Consent page bypass", "C3", []int{451, 862}},
		{"F7", "Redirect URI matching", "C4", []int{601}},
		{"F8", "Weak state", "C4", []int{352, 330}},
		{"F9", "Code replay", "C4", []int{294}},
		{"E01", "Consent not per client", "C2", []int{441}},
		{"E02", "Callback not bound to the browser", "C2", []int{352, 441}},
		{"E03", "Missing or partial authentication", "MCP", []int{306}},
		{"E04", "Fail-open token validation", "MCP", []int{287, 347}},
		{"E05", "Audience or resource not enforced", "MCP", []int{346, 345}},
		{"E06", "Token passthrough", "MCP", []int{441}},
		{"E07", "Session id or handle used as credential", "MCP", []int{639, 384}},
		{"E08", "requestState tampering", "MCP", []int{345}},
		{"E09", "Origin, Host and CORS", "MCP", []int{346, 352}},
		{"E10", "Protected resource metadata faults", "META", []int{345}},
		{"E11", "Authorization server metadata faults", "META", []int{345}},
		{"E12", "iss missing or wrong", "META", []int{346}},
		{"E13", "Dangerous redirect schemes", "REG", []int{79, 601}},
		{"E14", "Registration metadata injection", "REG", []int{116, 451}},
		{"E15", "SSRF through registration metadata", "REG", []int{918}},
		{"E16", "Client ID metadata document faults", "REG", []int{918, 346}},
		{"E17", "Registration without limits", "REG", []int{770}},
		{"E18", "Privilege by registration", "REG", []int{915, 269}},
		{"E19", "Client authentication confusion", "REG", []int{287}},
		{"E20", "Registration management", "REG", []int{639}},
		{"E21", "Code not bound to client or redirect", "TOK", []int{863, 294}},
		{"E22", "Refresh token handling", "TOK", []int{294, 613}},
		{"E23", "Credentials in URLs", "TOK", []int{598}},
		{"E24", "Token and code quality", "TOK", []int{330, 347, 613}},
		{"E25", "Revocation and logout", "TOK", []int{613}},
		{"E26", "Legacy grants and response types", "TOK", []int{477}},
		{"E27", "Other redirectors", "C4", []int{601}},
		{"E28", "Consent and login page security", "C3", []int{1021, 352, 79}},
		{"E29", "Transport security", "MCP", []int{319}},
		{"E30", "Scope and per-tool authorization", "MCP", []int{863}},
		{"E31", "Cross-user cache leak", "MCP", []int{524}},
		{"E32", "Information disclosure", "MCP", []int{209, 200}},
		{"E33", "Header and body mismatch", "MCP", []int{436, 444}},
		{"E34", "Static or default secrets", "MCP", []int{798, 1392}},
		{"E35", "URL elicitation not bound to the user", "MCP", []int{352}},
		{"E36", "Client checks", "CLI", nil},
		{"E37", "Caller or tenant confusion", "MCP", []int{639, 488}},
	}
}

// Checks returns every check of the catalogue in catalogue order. The slice is
// fresh on each call.
//
// E36 has no checks here: it is the self-test list of an OAuth client, which the
// gateway runs against hostile lab servers.
func Checks() []Check { return slices.Clone(checks[:]) }

// Short names for the table.
const (
	cl, ca, own, up, tool, leg, mod, tls = NeedsClient, NeedsCanary, NeedsOwn, NeedsUpstream, NeedsTool, NeedsLegacy, NeedsModern, NeedsTLS
)

// checks is the table itself; nothing changes it.
var checks = [...]Check{
	{"F1", "a", "dcr-any-https-redirect", T2, Medium, Weak, Likely, 0, true},
	{"F1", "b", "dcr-plain-http-redirect", T2, High, Fail, Likely, 0, true},
	{"F1", "d", "dcr-allowlist-bypass", T2, High, Fail, Likely, 0, false},
	{"F1", "e", "dcr-code-reaches-stranger", T3, Critical, Fail, Confirmed, 0, false},
	{"F2", "a", "unknown-client-accepted", T1, High, Fail, Confirmed, cl, true},
	{"F2", "b", "unknown-client-with-foreign-redirect", T1, Critical, Fail, Confirmed, cl, false},
	{"F2", "c", "altered-client-id-accepted", T1, High, Fail, Confirmed, cl, false},
	{"F2", "d", "missing-client-id-accepted", T1, High, Fail, Confirmed, cl, false},
	{"F3", "a", "upstream-request-without-pkce", T1, Medium, Weak, Confirmed, cl | up, true},
	{"F3", "b", "upstream-request-with-plain-pkce", T1, Medium, Weak, Confirmed, cl | up, true},
	{"F4", "0", "upstream-state-carries-unprotected-routing", T0, Low, Weak, Signal, up, true},
	{"F4", "1", "tampered-state-redirects-error", T1, Critical, Fail, Confirmed, cl | up, false},
	{"F4", "2", "tampered-state-used-before-check", T1, High, Fail, Likely, cl | up, false},
	{"F4", "3", "tampered-state-delivers-code", T3, Critical, Fail, Confirmed, up, false},
	{"F4", "4", "state-signature-not-checked", T1, Critical, Fail, Confirmed, cl | up, false},
	{"F4", "5", "upstream-state-usable-twice", T1, Medium, Weak, Confirmed, cl | up, false},
	{"F5", "a", "authorize-without-challenge", T1, Medium, Fail, Likely, cl, true},
	{"F5", "b", "authorize-with-plain-challenge", T1, Medium, Fail, Likely, cl, true},
	{"F5", "c", "challenge-without-method-accepted", T1, Medium, Fail, Likely, cl, true},
	{"F5", "d", "unknown-challenge-method-accepted", T1, Medium, Fail, Likely, cl, false},
	{"F5", "e", "pkce-metadata-not-s256-only", T1, Low, Weak, Confirmed, 0, true},
	{"F5", "f", "token-without-verifier", T3, High, Fail, Confirmed, 0, true},
	{"F5", "g", "token-with-wrong-verifier", T3, High, Fail, Confirmed, 0, false},
	{"F5", "h", "verifier-without-challenge-accepted", T3, Medium, Fail, Confirmed, 0, false},
	{"F5", "i", "too-short-verifier-accepted", T3, Medium, Fail, Confirmed, 0, false},
	{"F5", "j", "confidential-client-without-pkce", T2, Info, Weak, Likely, 0, false},
	{"F6", "A", "authorize-without-interaction", T1, Critical, Fail, Confirmed, cl, true},
	{"F6", "B", "consent-hides-redirect-host", T3, Medium, Fail, Confirmed, 0, true},
	{"F6", "C", "consent-hides-client-identity", T3, Low, Weak, Confirmed, 0, true},
	{"F6", "D", "loopback-redirect-without-warning", T3, Low, Weak, Confirmed, 0, true},
	{"F6", "E", "mid-flow-link-skips-consent", T3, High, Fail, Confirmed, 0, false},
	{"F6", "F", "consent-hides-scopes", T3, Low, Weak, Confirmed, 0, true},
	{"F6", "G", "consent-remembered-for-another-client", T3, High, Fail, Confirmed, 0, false},
	{"F6", "H", "deny-delivers-code", T3, High, Fail, Confirmed, 0, false},
	{"F7", "1", "foreign-redirect-accepted", T1, Critical, Fail, Confirmed, cl, true},
	{"F7", "2", "redirect-subpath-accepted", T1, High, Weak, Confirmed, cl, true},
	{"F7", "3", "redirect-path-traversal-accepted", T1, High, Fail, Confirmed, cl, false},
	{"F7", "4", "redirect-query-accepted", T1, Low, Weak, Confirmed, cl, false},
	{"F7", "5", "redirect-fragment-accepted", T1, Medium, Weak, Confirmed, cl, false},
	{"F7", "6", "redirect-path-case-or-slash-accepted", T1, Low, Weak, Confirmed, cl, false},
	{"F7", "7", "redirect-host-affix-accepted", T1, Critical, Fail, Confirmed, cl, false},
	{"F7", "8", "redirect-userinfo-accepted", T1, Critical, Fail, Confirmed, cl, false},
	{"F7", "9", "redirect-scheme-swap-accepted", T1, High, Fail, Confirmed, cl, false},
	{"F7", "10", "redirect-https-port-accepted", T2, Medium, Weak, Confirmed, cl, false},
	{"F7", "11", "redirect-loopback-alias-accepted", T1, Low, Weak, Confirmed, cl, true},
	{"F7", "12", "redirect-duplicate-parameter-accepted", T1, High, Fail, Confirmed, cl, false},
	{"F7", "13", "redirect-array-parameter-accepted", T1, High, Fail, Confirmed, cl, false},
	{"F7", "14", "redirect-unchecked-in-post", T3, High, Fail, Confirmed, 0, false},
	{"F7", "15", "unsafe-response-mode-accepted", T1, Low, Weak, Confirmed, cl, false},
	{"F7", "16", "ambiguous-redirect-omitted-accepted", T2, Low, Weak, Confirmed, 0, false},
	{"F7", "17", "redirect-built-from-host-header", T1, High, Fail, Confirmed, cl, false},
	{"F7", "18", "token-redirect-unchecked", T3, Medium, Weak, Confirmed, 0, false},
	{"F8", "a", "upstream-state-missing", T1, High, Fail, Confirmed, cl | up, true},
	{"F8", "b", "upstream-state-fixed-or-predictable", T1, High, Fail, Confirmed, cl | up, true},
	{"F8", "c", "upstream-callback-ignores-state", T1, High, Fail, Likely, cl | up, false},
	{"F8", "d", "client-state-altered", T1, Low, Weak, Confirmed, cl, true},
	{"F8", "e", "upstream-state-low-entropy", T1, Medium, Weak, Confirmed, cl | up, true},
	{"F9", "2", "code-redeemed-twice", T3, Medium, Fail, Confirmed, 0, true},
	{"F9", "3", "tokens-survive-code-replay", T3, Low, Weak, Confirmed, 0, false},
	{"F9", "4", "code-race-gives-two-tokens", T3, High, Fail, Confirmed, 0, false},
	{"F9", "5", "code-survives-verifier-guessing", T3, Low, Weak, Confirmed, 0, false},
	{"F9", "6", "bad-replay-revokes-tokens", T3, Low, Weak, Confirmed, 0, false},
	{"F9", "7", "code-lives-too-long", T3, Low, Weak, Confirmed, 0, false},
	{"E01", "a", "upstream-reached-without-consent", T1, High, Fail, Likely, cl | up, true},
	{"E01", "b", "second-client-gets-code-silently", T3, Critical, Fail, Confirmed, up, false},
	{"E01", "c", "changed-redirect-keeps-consent", T3, High, Fail, Confirmed, ca, false},
	{"E02", "a", "callback-accepted-from-empty-browser", T1, High, Fail, Likely, cl | up, false},
	{"E02", "b", "consent-here-callback-there", T3, High, Fail, Confirmed, up, false},
	{"E02", "c", "transaction-cookie-weak", T1, Low, Weak, Signal, cl | up, true},
	{"E03", "a", "tools-listed-without-credentials", T1, Medium, Fail, Confirmed, 0, true},
	{"E03", "b", "other-method-open", T1, Medium, Fail, Confirmed, 0, false},
	{"E03", "c", "other-path-open", T1, High, Fail, Confirmed, 0, false},
	{"E03", "d", "header-opens-endpoint", T1, Critical, Fail, Confirmed, 0, false},
	{"E03", "e", "content-type-or-batch-opens-endpoint", T1, High, Fail, Confirmed, 0, false},
	{"E03", "f", "query-token-opens-endpoint", T1, High, Fail, Confirmed, 0, false},
	{"E03", "g", "handshake-without-credentials", T1, Info, Weak, Confirmed, 0, true},
	{"E04", "a", "any-bearer-accepted", T1, Critical, Fail, Confirmed, 0, false},
	{"E04", "b", "empty-bearer-accepted", T1, Critical, Fail, Confirmed, 0, false},
	{"E04", "c", "other-scheme-accepted", T1, Critical, Fail, Confirmed, 0, false},
	{"E04", "d", "second-authorization-header-accepted", T1, High, Fail, Confirmed, 0, false},
	{"E04", "e", "unsigned-jwt-accepted", T1, Critical, Fail, Confirmed, 0, false},
	{"E04", "f", "self-signed-jwt-accepted", T1, Critical, Fail, Confirmed, 0, false},
	{"E04", "g", "hs256-with-public-key-accepted", T1, Critical, Fail, Confirmed, 0, false},
	{"E04", "h", "expired-jwt-accepted", T3, High, Fail, Confirmed, 0, false},
	{"E04", "i", "token-works-after-revocation", T3, Medium, Fail, Confirmed, 0, false},
	{"E04", "j", "tampered-token-accepted", T3, Critical, Fail, Confirmed, 0, false},
	{"E05", "a", "authorize-ignores-foreign-resource", T1, Low, Weak, Likely, cl, false},
	{"E05", "b", "token-for-foreign-resource-issued", T3, Medium, Fail, Confirmed, 0, false},
	{"E05", "c", "token-audience-wrong", T3, Medium, Fail, Confirmed, 0, true},
	{"E05", "d", "token-of-another-server-accepted", T4, High, Fail, Confirmed, 0, false},
	{"E05", "e", "token-request-changes-resource", T3, Medium, Fail, Confirmed, 0, false},
	{"E05", "f", "refresh-widens-resource", T3, Medium, Fail, Confirmed, 0, false},
	{"E06", "a", "metadata-names-upstream-as-own", T1, High, Weak, Signal, 0, true},
	{"E06", "b", "issued-token-works-upstream", T3, High, Fail, Likely, up, true},
	{"E07", "2", "session-id-works-without-token", T3, High, Fail, Confirmed, leg, true},
	{"E07", "3", "session-id-works-for-another-user", T4, High, Fail, Confirmed, leg, false},
	{"E07", "4", "invented-session-id-accepted", T1, Medium, Fail, Confirmed, leg, false},
	{"E07", "5", "session-id-predictable", T1, High, Fail, Confirmed, leg, true},
	{"E07", "6", "handle-works-for-another-user", T4, High, Fail, Confirmed, mod, false},
	{"E07", "7", "sse-session-works-without-token", T1, High, Fail, Confirmed, leg, false},
	{"E08", "a", "request-state-tamperable", T3, High, Fail, Confirmed, mod | tool, false},
	{"E08", "b", "request-state-replayable", T3, Medium, Fail, Confirmed, mod | tool, false},
	{"E08", "c", "request-state-usable-elsewhere", T3, High, Fail, Confirmed, mod | tool, false},
	{"E08", "d", "request-state-readable-without-mac", T3, Medium, Weak, Signal, mod | tool, true},
	{"E08", "e", "request-state-usable-by-another-user", T4, High, Fail, Confirmed, mod | tool, false},
	{"E09", "a", "foreign-origin-accepted", T1, Low, Fail, Confirmed, 0, false},
	{"E09", "b", "null-origin-accepted", T1, Low, Weak, Confirmed, 0, false},
	{"E09", "c", "cors-reflects-any-origin", T1, Medium, Fail, Confirmed, 0, true},
	{"E09", "d", "foreign-host-accepted", T1, Low, Fail, Confirmed, 0, false},
	{"E09", "e", "simple-content-type-accepted", T1, Medium, Fail, Confirmed, 0, false},
	{"E10", "a", "prm-missing", T1, Low, Fail, Confirmed, 0, true},
	{"E10", "b", "challenge-without-resource-metadata", T1, Low, Weak, Confirmed, 0, true},
	{"E10", "c", "prm-resource-differs", T1, Medium, Fail, Confirmed, 0, true},
	{"E10", "d", "resource-metadata-foreign-or-plain", T1, High, Fail, Confirmed, 0, true},
	{"E10", "e", "prm-authorization-servers-unsafe", T1, High, Fail, Confirmed, 0, true},
	{"E10", "f", "prm-several-authorization-servers", T1, Medium, Weak, Confirmed, 0, true},
	{"E10", "g", "prm-allows-query-token", T1, Medium, Fail, Confirmed, 0, true},
	{"E10", "h", "prm-scopes-contradict", T1, Info, Weak, Confirmed, 0, true},
	{"E10", "i", "prm-varies", T1, Low, Weak, Confirmed, 0, false},
	{"E10", "j", "prm-not-json-or-redirected", T1, Low, Weak, Confirmed, 0, true},
	{"E11", "a", "as-issuer-mismatch", T1, High, Fail, Confirmed, 0, true},
	{"E11", "b", "as-endpoint-unsafe", T1, High, Fail, Confirmed, 0, true},
	{"E11", "c", "as-endpoint-on-other-domain", T1, Info, Weak, Confirmed, 0, true},
	{"E11", "d", "as-advertises-implicit-response", T1, Medium, Weak, Confirmed, 0, true},
	{"E11", "e", "as-advertises-legacy-grant", T1, Medium, Weak, Confirmed, 0, true},
	{"E11", "f", "as-registration-without-public-clients", T1, Low, Weak, Confirmed, 0, true},
	{"E11", "g", "as-without-cimd", T1, Info, Weak, Confirmed, 0, true},
	{"E11", "h", "as-documents-contradict", T1, Medium, Weak, Confirmed, 0, true},
	{"E11", "i", "as-document-wrong-type", T1, Low, Weak, Confirmed, 0, true},
	{"E12", "a", "iss-absent", T1, Low, Weak, Confirmed, cl, true},
	{"E12", "b", "iss-advertised-but-absent", T1, Medium, Fail, Confirmed, cl, true},
	{"E12", "c", "iss-differs", T1, Medium, Fail, Confirmed, cl, true},
	{"E13", "a", "dcr-javascript-redirect", T2, High, Fail, Likely, 0, true},
	{"E13", "b", "dcr-data-redirect", T2, High, Fail, Likely, 0, true},
	{"E13", "c", "dcr-single-word-scheme", T2, Low, Weak, Likely, 0, true},
	{"E14", "a", "dcr-script-client-uri-kept", T2, Medium, Fail, Likely, 0, true},
	{"E14", "b", "dcr-oversize-name-kept", T2, Low, Weak, Likely, 0, false},
	{"E14", "c", "dcr-invisible-name-kept", T2, Medium, Fail, Likely, 0, true},
	{"E15", "a", "as-fetches-logo-uri", T2, Medium, Weak, Signal, ca, false},
	{"E15", "b", "as-fetches-jwks-uri-unguarded", T2, Medium, Weak, Signal, ca, false},
	{"E15", "c", "as-fetches-sector-identifier-unguarded", T2, Medium, Weak, Signal, ca, false},
	{"E15", "d", "as-fetches-request-uris-unguarded", T2, Medium, Weak, Signal, ca, false},
	{"E16", "a", "cimd-client-id-mismatch-accepted", T2, High, Fail, Likely, ca, false},
	{"E16", "b", "cimd-bad-url-accepted", T2, Medium, Fail, Likely, ca, false},
	{"E16", "c", "cimd-redirect-followed", T2, High, Fail, Likely, ca, false},
	{"E16", "d", "cimd-non-200-accepted", T2, Low, Fail, Likely, ca, false},
	{"E16", "e", "cimd-large-document-accepted", T2, Medium, Weak, Likely, ca, false},
	{"E16", "f", "cimd-symmetric-secret-accepted", T2, Medium, Fail, Likely, ca, false},
	{"E16", "g", "cimd-unlisted-redirect-accepted", T2, High, Fail, Likely, ca, false},
	{"E16", "h", "cimd-wrong-content-type-accepted", T2, Low, Weak, Likely, ca, false},
	{"E16", "i", "cimd-error-cached", T2, Low, Weak, Likely, ca, false},
	{"E16", "j", "cimd-change-keeps-consent", T3, High, Fail, Confirmed, ca, false},
	{"E16", "k", "cimd-special-address-fetched", T2, High, Fail, Likely, ca | own, false},
	{"E16", "l", "cimd-consent-hides-client-host", T3, Low, Weak, Confirmed, ca, false},
	{"E16", "m", "cimd-loopback-without-warning", T3, Low, Weak, Confirmed, ca, false},
	{"E16", "n", "cimd-script-uri-accepted", T2, Medium, Fail, Likely, ca, false},
	{"E17", "a", "dcr-without-rate-limit", T2, Low, Weak, Confirmed, own, false},
	{"E17", "b", "dcr-unbounded-request", T2, Low, Weak, Confirmed, own, false},
	{"E17", "c", "dcr-client-never-expires", T2, Info, Weak, Signal, 0, true},
	{"E17", "d", "dcr-limit-reset-by-forwarded-header", T2, Low, Weak, Confirmed, own, false},
	{"E18", "a", "dcr-grants-any-scope", T2, High, Fail, Likely, 0, true},
	{"E18", "b", "dcr-grants-any-grant-type", T2, High, Fail, Likely, 0, true},
	{"E18", "c", "dcr-keeps-vendor-switches", T2, High, Fail, Likely, 0, false},
	{"E18", "d", "dcr-client-credentials-token", T2, High, Fail, Confirmed, 0, false},
	{"E19", "a", "wrong-client-secret-accepted", T2, Medium, Fail, Likely, 0, false},
	{"E19", "b", "missing-client-secret-accepted", T2, Medium, Fail, Likely, 0, false},
	{"E19", "c", "auth-method-not-enforced", T2, Low, Weak, Likely, 0, false},
	{"E20", "a", "registration-readable-without-token", T2, High, Fail, Confirmed, 0, false},
	{"E20", "b", "registration-readable-with-foreign-token", T2, High, Fail, Confirmed, 0, false},
	{"E20", "c", "registration-token-in-query", T2, Medium, Fail, Confirmed, 0, false},
	{"E20", "d", "registration-update-bypasses-checks", T2, High, Fail, Confirmed, 0, false},
	{"E20", "e", "deleted-client-still-works", T2, Medium, Fail, Confirmed, 0, false},
	{"E20", "f", "registration-management-not-implemented", T2, Low, Weak, Confirmed, 0, false},
	{"E20", "g", "registration-management-on-foreign-origin", T2, Medium, Fail, Confirmed, 0, true},
	{"E21", "a", "code-redeemed-by-other-client", T3, High, Fail, Confirmed, 0, false},
	{"E21", "b", "code-redeemed-without-client-id", T3, High, Fail, Confirmed, 0, false},
	{"E21", "c", "code-redeemed-with-other-redirect", T3, Medium, Weak, Confirmed, 0, false},
	{"E22", "1", "old-refresh-token-works", T3, Medium, Fail, Confirmed, 0, true},
	{"E22", "2", "refresh-race-forks-family", T3, Medium, Fail, Confirmed, 0, false},
	{"E22", "3", "refresh-by-other-client", T3, High, Fail, Confirmed, 0, false},
	{"E22", "4", "refresh-widens-scope", T3, Medium, Fail, Confirmed, 0, false},
	{"E22", "5", "access-token-as-refresh-token", T3, High, Fail, Confirmed, 0, false},
	{"E22", "6", "refresh-after-revocation", T3, High, Fail, Confirmed, 0, false},
	{"E22", "7", "refresh-token-not-rotated", T3, Medium, Fail, Confirmed, 0, true},
	{"E23", "a", "token-in-query-accepted", T3, Medium, Fail, Confirmed, 0, true},
	{"E23", "b", "token-in-query-examined", T1, Low, Weak, Signal, 0, false},
	{"E23", "c", "credentials-in-urls", T0, Medium, Fail, Signal, 0, true},
	{"E24", "a", "access-token-lives-too-long", T3, Medium, Weak, Confirmed, 0, true},
	{"E24", "b", "token-without-expiry", T3, Low, Weak, Confirmed, 0, true},
	{"E24", "c", "jwt-unsigned-or-weak-key", T3, Critical, Fail, Confirmed, 0, true},
	{"E24", "d", "jwt-claims-missing", T3, Low, Weak, Confirmed, 0, true},
	{"E24", "e", "jwt-type-not-access-token", T3, Info, Weak, Confirmed, 0, true},
	{"E24", "f", "token-carries-personal-data-or-upstream-token", T3, Medium, Fail, Confirmed, 0, true},
	{"E24", "g", "id-token-accepted-as-access-token", T3, High, Fail, Confirmed, 0, false},
	{"E24", "h", "code-or-token-low-entropy", T3, High, Fail, Confirmed, 0, false},
	{"E25", "a", "no-revocation-endpoint", T1, Low, Weak, Confirmed, 0, true},
	{"E25", "b", "revocation-has-no-effect", T3, Medium, Fail, Confirmed, 0, false},
	{"E25", "c", "stranger-can-revoke", T3, Medium, Fail, Confirmed, 0, false},
	{"E26", "a", "response-type-token-accepted", T1, High, Fail, Likely, cl, true},
	{"E26", "b", "hybrid-response-type-accepted", T1, Medium, Fail, Likely, cl, true},
	{"E26", "c", "password-grant-answers", T2, High, Fail, Likely, cl, true},
	{"E27", "a", "error-redirects-to-unvetted-client", T2, Low, Weak, Confirmed, 0, false},
	{"E27", "b", "login-next-redirects-anywhere", T1, Medium, Fail, Confirmed, 0, false},
	{"E28", "a", "page-frameable", T1, Medium, Fail, Confirmed, cl, true},
	{"E28", "b", "approve-form-without-csrf-token", T1, Medium, Weak, Likely, cl, true},
	{"E28", "c", "approve-by-get-or-foreign-session", T3, High, Fail, Confirmed, 0, false},
	{"E28", "d", "page-cacheable", T1, Low, Weak, Confirmed, cl, true},
	{"E28", "e", "client-name-not-escaped", T2, High, Fail, Confirmed, 0, false},
	{"E28", "f", "form-answered-with-307", T3, Medium, Fail, Confirmed, 0, true},
	{"E28", "g", "page-leaks-referrer", T1, Info, Weak, Confirmed, cl, true},
	{"E29", "a", "plain-http-answers", T1, High, Fail, Confirmed, tls, true},
	{"E29", "b", "redirect-chain-leaves-https", T1, High, Fail, Confirmed, tls, true},
	{"E29", "c", "tls-old-or-broken", T1, High, Fail, Confirmed, tls, false},
	{"E29", "d", "cookie-without-secure", T1, Low, Weak, Confirmed, tls, true},
	{"E29", "e", "no-hsts", T1, Info, Weak, Confirmed, tls, true},
	{"E30", "a", "scopes-catch-all", T1, Medium, Weak, Signal, 0, true},
	{"E30", "b", "challenge-without-scope", T1, Info, Weak, Signal, 0, true},
	{"E30", "c", "token-carries-more-scope-than-asked", T3, Medium, Fail, Confirmed, 0, true},
	{"E30", "d", "tool-call-ignores-scope", T3, High, Fail, Confirmed, tool, false},
	{"E31", "a", "user-answer-cacheable-publicly", T3, Medium, Fail, Signal, 0, true},
	{"E31", "b", "secret-answer-without-no-store", T2, Medium, Weak, Confirmed, 0, true},
	{"E31", "c", "endpoint-answers-from-shared-cache", T1, Medium, Weak, Signal, 0, true},
	{"E31", "d", "cached-answer-crosses-users", T4, Medium, Fail, Confirmed, 0, false},
	{"E32", "a", "error-reveals-internals", T1, Low, Weak, Confirmed, 0, true},
	{"E32", "b", "error-reveals-secret", T1, High, Fail, Confirmed, 0, true},
	{"E32", "c", "introspection-without-authentication", T1, Low, Weak, Confirmed, 0, false},
	{"E33", "a", "method-header-mismatch-accepted", T1, High, Fail, Confirmed, mod, false},
	{"E33", "b", "duplicate-json-members-accepted", T1, Medium, Weak, Confirmed, 0, false},
	{"E33", "c", "wrong-case-json-members-accepted", T1, Medium, Weak, Confirmed, 0, false},
	{"E33", "d", "internal-headers-trusted", T1, Critical, Fail, Confirmed, 0, false},
	{"E33", "e", "name-header-mismatch-accepted", T3, High, Fail, Confirmed, mod | tool, false},
	{"E34", "a", "sample-key-accepted", T1, High, Fail, Confirmed, 0, false},
	{"E34", "b", "key-in-query", T0, Medium, Weak, Signal, 0, true},
	{"E34", "c", "no-lockout", T2, Low, Weak, Confirmed, own, false},
	{"E35", "a", "elicitation-points-to-third-party", T3, High, Fail, Signal, tool, true},
	{"E35", "b", "elicitation-url-preauthenticated", T3, High, Fail, Signal, tool, true},
	{"E35", "c", "elicitation-completes-for-another-user", T4, High, Fail, Confirmed, tool, false},
	{"E37", "a", "object-of-another-user-readable", T4, Critical, Fail, Confirmed, tool, false},
	{"E37", "b", "concurrent-calls-mix-users", T4, Critical, Fail, Confirmed, tool, false},
}

// is tells whether k is the check's key or slug.
func (c *Check) is(k string) bool {
	if rest, ok := strings.CutPrefix(k, c.ID); ok {
		if c.Variant == "" && rest == "" || c.Variant != "" && len(rest) > 1 && rest[0] == '-' && rest[1:] == c.Variant {
			return true
		}
	}
	return c.Slug == k
}

// CheckByKey finds a check by its key ("F5-a") or its slug.
func CheckByKey(k string) (Check, bool) {
	for i := range checks {
		if c := checks[i]; c.is(k) {
			return c, true
		}
	}
	return Check{}, false
}

// FlawByID finds a flaw by its id.
func FlawByID(id string) (Flaw, bool) {
	for _, f := range Flaws() {
		if f.ID == id {
			return f, true
		}
	}
	return Flaw{}, false
}
