package gateway

import (
	"bytes"
	"net/http"
	"strings"

	"github.com/kidoban/kidoban/wire"
)

// traceparent is the caller's W3C trace context: from params._meta, where MCP
// carries it over every transport, or else from the HTTP header. What is not of
// version 00's exact form (55 lower-case characters, no zero ids) is no trace.
// The member itself reaches the server as it came.
func traceparent(meta wire.Raw, header http.Header) string {
	if bytes.Contains(meta, []byte(`"traceparent"`)) {
		found := ""
		wire.Each(meta, func(name, value wire.Raw) bool {
			if string(name) == `"traceparent"` && len(value) == 57 {
				found = string(value[1:56])
			}
			return true
		})
		if validTrace(found) {
			return found
		}
	}
	if h := header.Get("Traceparent"); validTrace(h) {
		return h
	}
	return ""
}

func validTrace(s string) bool {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return false
	}
	id, span, flags := s[3:35], s[36:52], s[53:]
	return lowerHex(id+span+flags) && strings.Trim(id, "0") != "" && strings.Trim(span, "0") != ""
}

func lowerHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }
