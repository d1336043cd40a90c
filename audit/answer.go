package audit

import (
	"bytes"
	"encoding/json"
	"mime"
	"strings"

	"github.com/kidoban/kidoban"
)

// What an answer is, whoever gave it: questions about one exchange that many
// judges ask.

// errBudget is the text in an exchange that was never sent because the run's
// request budget was spent.
const errBudget = "the request budget is spent"

// rateLimited tells whether the answer is a limit: 429, 503 with Retry-After,
// or a refusal that names a rate. A limit is never a refusal (5.11).
func rateLimited(x *kidoban.Exchange) bool {
	switch x.Status() {
	case 429:
		return !challenged(x)
	case 503:
		return x.Header("Retry-After") != ""
	case 400, 403:
		low := bytes.ToLower(head(x.Response.Body, 4096))
		for _, w := range []string{"rate limit", "rate_limit", "ratelimit", "too many", "too_many", "slow_down", "quota exceeded"} {
			if bytes.Contains(low, []byte(w)) {
				return true
			}
		}
	}
	return false
}

// challenged tells whether a content network or firewall answered with a
// challenge of its own instead of passing the request on.
func challenged(x *kidoban.Exchange) bool {
	switch x.Status() {
	case 403, 405, 429, 503, 202:
	default:
		return false
	}
	if x.Header("Cf-Mitigated") != "" || x.Header("X-Amzn-Waf-Action") != "" || x.Header("X-Datadome") != "" ||
		strings.Contains(strings.ToLower(x.Header("X-Sucuri-Block")), "block") {
		return true
	}
	if !strings.Contains(strings.ToLower(x.Header("Content-Type")), "html") {
		return false
	}
	low := bytes.ToLower(head(x.Response.Body, 16<<10))
	for _, w := range []string{
		"just a moment", "cf-chl", "challenge-platform", "checking your browser", "verify you are human", "verify that you are human",
		"captcha", "attention required", "ddos protection", "_incapsula_", "px-captcha", "request unsuccessful. incapsula", "awswafcookiedomainlist",
	} {
		if bytes.Contains(low, []byte(w)) {
			return true
		}
	}
	return false
}

// mediaType returns the answer's media type in lower case, without parameters.
func mediaType(x *kidoban.Exchange) string {
	m, _, err := mime.ParseMediaType(x.Header("Content-Type"))
	if err != nil {
		m, _, _ = strings.Cut(strings.ToLower(x.Header("Content-Type")), ";")
	}
	return strings.TrimSpace(m)
}

// jsonObject returns the members of a JSON object body, or nil.
func jsonObject(body []byte) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if b := bytes.TrimSpace(body); len(b) == 0 || b[0] != '{' || json.Unmarshal(b, &m) != nil {
		return nil
	}
	return m
}

// oauthError returns the OAuth error code of a JSON body, or "".
func oauthError(x *kidoban.Exchange) string {
	if x == nil || x.Response == nil {
		return ""
	}
	var code string
	if m := jsonObject(x.Response.Body); m != nil && json.Unmarshal(m["error"], &code) == nil {
		return code
	}
	return ""
}

func head(b []byte, n int) []byte { return b[:min(n, len(b))] }

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > 160 {
		s = s[:160]
	}
	return s
}

// jsonText returns a member of a JSON object body that is a string, or "".
func jsonText(x *kidoban.Exchange, member string) string {
	var s string
	if x == nil || x.Response == nil || json.Unmarshal(jsonObject(x.Response.Body)[member], &s) != nil {
		return ""
	}
	return s
}

// sameJSON tells whether raw is the JSON form of v, a string, number or boolean.
func sameJSON(raw json.RawMessage, v any) bool {
	want, err := json.Marshal(v)
	return err == nil && bytes.Equal(bytes.TrimSpace(raw), want)
}
