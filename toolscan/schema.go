package toolscan

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/kidoban/kidoban"
)

// Bounds beyond which a schema is a burden for clients, not a description.
const (
	wideSchema = 200 // parameters
	deepSchema = 24
)

// schemaFindings judges schemas: what they fetch, how they nest, what they
// send in headers. These are weaknesses, not attacks: labels.
func (sc *Scanner) schemaFindings(c *itemContext, out []Finding) []Finding {
	add := func(id string, sev kidoban.Severity, path, excerpt, why, fix string) {
		out = append(out, Finding{Rule: id, Family: FamilySchema, Tier: Label, Severity: sev, Path: path, Excerpt: Visible(excerpt, 120), Reason: why, Fix: fix})
	}
	for _, r := range c.s.refs {
		path := c.s.pointer(r.path)
		switch {
		case strings.Contains(r.value, "://") || strings.HasPrefix(r.value, "//"):
			add("schema-network-ref", kidoban.High, path, r.value, "The schema refers to a document on the network, which a validator would fetch.", "Inline the definition.")
		case r.value == "#" || r.value == "":
			add("schema-recursion", kidoban.Low, path, r.value, "The schema refers to itself; some validators do not end.", "Bound the recursion or describe the value in words.")
		}
	}
	if c.s.depth > deepSchema {
		add("schema-deep", kidoban.Low, "", fmt.Sprintf("%d levels", c.s.depth), "The definition nests deeper than clients handle.", "Flatten the schema.")
	}
	if len(c.s.params) > wideSchema {
		add("schema-huge", kidoban.Low, "", fmt.Sprintf("%d parameters", len(c.s.params)), "The definition crowds out the model's context.", "Split the tool.")
	}
	if c.s.overflow {
		add("beyond-bounds", kidoban.Medium, "", "", "The definition is larger or deeper than the scan reads; what lies beyond is unread.", "Refuse the item.")
	}
	if c.s.broken {
		add("not-json", kidoban.Low, "", "", "The definition is not well-formed JSON to its end.", "Refuse the item.")
	}
	return sc.headerFindings(c, out)
}

// headerFindings judges x-mcp-header (SEP-2243 mirrors a parameter into an HTTP
// header): the name must be a token, and a secret must not travel there.
func (sc *Scanner) headerFindings(c *itemContext, out []Finding) []Finding {
	if !bytes.Contains(c.s.keys, []byte("x-mcp-header")) {
		return out
	}
	for _, seg := range c.s.segs {
		if seg.pos != posMeta && seg.pos != posValue {
			continue
		}
		path := c.s.pointer(seg.node)
		if !strings.HasSuffix(path, "/x-mcp-header") {
			continue
		}
		v := string(c.s.text[seg.start:seg.end])
		if v == "x-mcp-header" { // the member's name, not its value
			continue
		}
		if !headerToken(v) {
			out = append(out, Finding{Rule: "schema-header-name", Family: FamilySchema, Tier: Label, Severity: kidoban.Medium, Path: path, Excerpt: Visible(v, 80),
				Reason: "x-mcp-header is not a header name (RFC 9110, 5.1).", Fix: "Use letters, digits and hyphens."})
		}
		if owner := strings.ToLower(path); strings.Contains(owner, "password") || strings.Contains(owner, "token") || strings.Contains(owner, "secret") || strings.Contains(owner, "apikey") || strings.Contains(owner, "api_key") {
			out = append(out, Finding{Rule: "schema-secret-header", Family: FamilySchema, Tier: Label, Severity: kidoban.High, Path: path, Excerpt: Visible(v, 80),
				Reason: "A secret is mirrored into an HTTP header, where proxies log it.", Fix: "Do not mirror the parameter."})
		}
	}
	return out
}

func headerToken(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isLetter(c) && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
