package wire

import (
	"bytes"
	"encoding/base64"
	"strings"

	"github.com/kidoban/kidoban"
)

// Names of the headers that mirror a modern message.
const (
	HeaderVersion     = "MCP-Protocol-Version"
	HeaderMethod      = "Mcp-Method"
	HeaderName        = "Mcp-Name"
	HeaderParamPrefix = "Mcp-Param-"
	HeaderSession     = "Mcp-Session-Id" // legacy
)

const (
	sentinelHead = "=?base64?"
	sentinelTail = "?="
)

// EncodeHeader returns the form of a value in a mirrored header: the value
// itself when it is plain ASCII without space at its ends, else
// =?base64?…?= around its UTF-8 bytes. A value that looks like the sentinel is
// encoded too.
func EncodeHeader(value string) string {
	if plainHeader(value) && !isSentinel(value) {
		return value
	}
	return sentinelHead + base64.StdEncoding.EncodeToString([]byte(value)) + sentinelTail
}

// DecodeHeader undoes EncodeHeader. ok is false for a value with characters a
// header must not have, or with a sentinel around something that is not
// base64 of valid UTF-8.
func DecodeHeader(value string) (text string, ok bool) {
	if !isSentinel(value) {
		return value, plainHeader(value)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(value[len(sentinelHead) : len(value)-len(sentinelTail)])
	return string(b), err == nil && strings.ToValidUTF8(string(b), "") == string(b)
}

func isSentinel(v string) bool {
	return len(v) >= len(sentinelHead)+len(sentinelTail) && strings.HasPrefix(v, sentinelHead) && strings.HasSuffix(v, sentinelTail)
}

func plainHeader(v string) bool {
	if v != strings.Trim(v, " \t") {
		return false
	}
	for i := 0; i < len(v); i++ {
		if v[i] != '\t' && (v[i] < ' ' || v[i] > '~') {
			return false
		}
	}
	return true
}

// MirroredName returns what Mcp-Name must say for a request, and whether the
// method has the header at all: params.uri for resources/read, params.name for
// tools/call and prompts/get.
func MirroredName(method string, p Params) (string, bool) {
	switch method {
	case MethodToolsCall, MethodPromptsGet:
		return p.Name, true
	case MethodResourcesRead:
		return p.URI, true
	case MethodTaskGet, MethodTaskUpdate, MethodTaskCancel: // of the tasks extension
		return p.TaskID, p.TaskID != ""
	}
	return "", false
}

// MirrorHeaders returns the headers of a modern request, computed from its
// body (TR-04, TR-06, TR-07). params are the annotated parameters of the tool
// being called, nil for other methods.
func MirrorHeaders(method string, p Params, params []HeaderParam) kidoban.Fields {
	h := kidoban.Fields{{Name: HeaderVersion, Value: p.ProtocolVersion}, {Name: HeaderMethod, Value: EncodeHeader(method)}}
	if name, ok := MirroredName(method, p); ok {
		h = append(h, kidoban.Field{Name: HeaderName, Value: EncodeHeader(name)})
	}
	for _, hp := range params {
		if text, ok := hp.value(p.Arguments); ok {
			h = append(h, kidoban.Field{Name: HeaderParamPrefix + hp.Header, Value: EncodeHeader(text)})
		}
	}
	return h
}

// CheckMirror compares the headers of a modern request with its body and
// returns a *Refusal with CodeHeaderMismatch for the first that is missing,
// repeated, badly encoded or different. Mcp-Param headers that no annotation
// names are left to the server behind (TR-07).
func CheckMirror(h kidoban.Fields, method string, p Params, params []HeaderParam) error {
	if err := checkOne(h, HeaderVersion, p.ProtocolVersion, false, false); err != nil {
		return err
	}
	if err := checkOne(h, HeaderMethod, method, true, false); err != nil {
		return err
	}
	if name, ok := MirroredName(method, p); ok {
		if name == p.TaskID && len(h.Values(HeaderName)) == 0 {
			return nil // an extension's: compared when it is there
		}
		if err := checkOne(h, HeaderName, name, true, false); err != nil {
			return err
		}
	}
	for _, hp := range params {
		name := HeaderParamPrefix + hp.Header
		text, ok := hp.value(p.Arguments)
		if !ok {
			if len(h.Values(name)) > 0 {
				return mismatch("The header %s is there, but the argument it mirrors is not.", name)
			}
			continue
		}
		if err := checkOne(h, name, text, true, hp.Type == "integer"); err != nil {
			return err
		}
	}
	return nil
}

func checkOne(h kidoban.Fields, name, want string, encoded, number bool) error {
	values := h.Values(name)
	switch {
	case len(values) == 0:
		return mismatch("The header %s is missing.", name)
	case len(values) > 1:
		return mismatch("The header %s is there more than once.", name)
	}
	got, ok := strings.Trim(values[0], " \t"), true
	if encoded {
		got, ok = DecodeHeader(got)
	}
	if !ok {
		return mismatch("The header %s is not plain ASCII and not well encoded.", name)
	}
	if number {
		a, ok1 := Int(Raw(got))
		b, ok2 := Int(Raw(want))
		if ok1 && ok2 && a == b {
			return nil
		}
	}
	if got != want {
		return mismatch("The header %s differs from the body.", name)
	}
	return nil
}

func mismatch(format string, args ...any) error {
	return refuse(WhyHeaderMismatch, CodeHeaderMismatch, kidoban.KindInput, format, args...)
}

// WhyHeaderMismatch is the machine code of CheckMirror's refusals.
const WhyHeaderMismatch = "header_mismatch"

// HeaderParam is one parameter that a tool's schema annotates with
// x-mcp-header.
type HeaderParam struct {
	Header string   // the name after Mcp-Param-
	Path   []string // property names from the root of the arguments
	Type   string   // string, integer or boolean
}

// value returns the header text of the argument at the path; ok is false when
// it is absent or null.
func (hp HeaderParam) value(arguments Raw) (string, bool) {
	v, ok := Lookup(arguments, hp.Path...)
	if !ok || len(v) == 0 || string(v) == "null" {
		return "", false
	}
	if v[0] == '"' {
		s, _ := String(v)
		return s, true
	}
	return string(v), true
}

// Codes of HeaderParams' refusals.
const (
	WhyHeaderName        = "x_mcp_header_name"
	WhyHeaderDuplicate   = "x_mcp_header_duplicate"
	WhyHeaderType        = "x_mcp_header_type"
	WhyHeaderUnreachable = "x_mcp_header_unreachable"
)

// maxSchema bounds a schema that is searched: the search visits the bytes of
// each level again.
const maxSchema = 256 << 10

// HeaderParams finds the x-mcp-header annotations of a tool's inputSchema and
// checks their rules: a token as name, unique without case, on a string,
// integer or boolean property that is reached by properties alone. A client
// must leave out a tool that breaks them (CL-16). The schema must be an
// accepted value; nothing is dereferenced.
func HeaderParams(schema Raw) ([]HeaderParam, error) {
	// Nearly all schemas have none; an escape could hide one.
	if !bytes.Contains(schema, []byte("x-mcp-header")) && !bytes.Contains(schema, []byte(`\u`)) {
		return nil, nil
	}
	if len(schema) > maxSchema {
		return nil, malformed(WhyTooLarge, "The schema is longer than %d bytes.", maxSchema)
	}
	var out []HeaderParam
	if err := collectHeaders(schema, nil, &out); err != nil {
		return nil, err
	}
	if n := countAnnotations(schema); n != len(out) {
		return nil, malformed(WhyHeaderUnreachable, "An x-mcp-header annotation stands where plain properties do not lead.")
	}
	seen := map[string]bool{}
	for _, hp := range out {
		if key := strings.ToLower(hp.Header); seen[key] {
			return nil, malformed(WhyHeaderDuplicate, "Two parameters have the same x-mcp-header.")
		} else {
			seen[key] = true
		}
	}
	return out, nil
}

// collectHeaders follows properties only.
func collectHeaders(schema Raw, path []string, out *[]HeaderParam) error {
	if len(path) > 0 {
		if v, ok := Lookup(schema, "x-mcp-header"); ok {
			hp := HeaderParam{Path: append([]string(nil), path...), Type: LookupString(schema, "type")}
			hp.Header, _ = String(v)
			if !isToken(hp.Header) {
				return malformed(WhyHeaderName, "An x-mcp-header is not a header name.")
			}
			if hp.Type != "string" && hp.Type != "integer" && hp.Type != "boolean" {
				return malformed(WhyHeaderType, "An x-mcp-header stands on a parameter that is no string, integer or boolean.")
			}
			*out = append(*out, hp)
		}
	}
	props, ok := Lookup(schema, "properties")
	if !ok {
		return nil
	}
	var err error
	Each(props, func(name, sub Raw) bool {
		text, ok := String(name)
		if ok && sub[0] == '{' {
			err = collectHeaders(sub, append(path, text), out)
		}
		return err == nil
	})
	return err
}

// countAnnotations counts the x-mcp-header members of all schemas in the
// value. A property that happens to be called x-mcp-header is not one.
func countAnnotations(v Raw) int { return countIn(v, false) }

func countIn(v Raw, names bool) int {
	n := 0
	if len(v) == 0 {
		return 0
	}
	if v[0] == '[' {
		Elements(v, func(e Raw) bool { n += countIn(e, false); return true })
		return n
	}
	Each(v, func(name, value Raw) bool {
		text, _ := String(name)
		switch {
		case names: // a map from property names to schemas
			n += countIn(value, false)
		case text == "x-mcp-header":
			n++
		case text == "default" || text == "const" || text == "enum" || text == "examples": // data, not schema
		default:
			n += countIn(value, text == "properties" || text == "patternProperties" || text == "$defs" || text == "definitions" || text == "dependentSchemas")
		}
		return true
	})
	return n
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
