package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestGatewayConfigReadsScopesInFlowLists: a colon without a space is part of the
// word, in every way to write a list.
func TestGatewayConfigReadsScopesInFlowLists(t *testing.T) {
	for _, text := range []string{
		"registration: {anonymous_scopes: [mcp:read, mcp:write]}",
		"registration: {anonymous_scopes: ['mcp:read', \"mcp:write\"]}",
		"registration:\n  anonymous_scopes: [mcp:read,mcp:write]",
		"registration:\n  anonymous_scopes:\n    - mcp:read\n    - mcp:write",
		"# a comment\nregistration:\n  anonymous_scopes: [ mcp:read , # another\n    mcp:write ]",
	} {
		c, err := parseGatewayConfig("c.yaml", []byte(text))
		if err != nil || fmt.Sprint(c.Registration.AnonymousScopes) != "[mcp:read mcp:write]" {
			t.Errorf("%s\n%v %q", text, err, c.Registration.AnonymousScopes)
		}
	}
	c, err := parseGatewayConfig("c.yaml", []byte("trusted_proxies: [2001:db8:1::/48, fe80::1/128, 10.0.0.0/8]\norigins: [https://a.example:8443, http://127.0.0.1:1]"))
	if err != nil || fmt.Sprint(c.Proxies, c.Origins) != "[2001:db8:1::/48 fe80::1/128 10.0.0.0/8] [https://a.example:8443 http://127.0.0.1:1]" {
		t.Errorf("%v %q %q", err, c.Proxies, c.Origins)
	}
	// What is a map stays one, and is refused where a word belongs, with its place.
	for _, text := range []string{"registration: {anonymous_scopes: [mcp: read, mcp:write]}", "registration: {anonymous_scopes: [mcp:write, {mcp: read}]}"} {
		if _, err := parseGatewayConfig("c.yaml", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), "c.yaml:1:") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := parseGatewayConfig("c.yaml", []byte("registration: {anonymous_scopes: [mcp:read], nonsense: 1}")); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("strictness is lost: %v", err)
	}
}

// FuzzDecodeYAML: no file makes the reader panic.
func FuzzDecodeYAML(f *testing.F) {
	f.Add("a: [b:c, d:e:f, {g:h}]")
	f.Add("registration: {anonymous_scopes: [mcp:read, 'x':y, ? z]}")
	f.Add("servers: &a {x: *a}")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = parseGatewayConfig("c.yaml", []byte(text)) // an error is an answer
	})
}
