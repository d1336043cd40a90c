package authserver_test

import (
	"testing"
)

// TestGRG2_WhatTheOperatorTookAwayIsInNoNewToken: a client renews its tokens after the
// operator has lowered what such clients may have. What is left is in the next token;
// where nothing is left there is none.
func TestGRG2_WhatTheOperatorTookAwayIsInNoNewToken(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("Client", loopback)
	m := x.token(x.redeemForm(x.code(w.person(), set(x.params(), "scope", "mcp:read mcp:write")))).json(t)
	if m["scope"] != "mcp:read mcp:write" {
		t.Fatal(m)
	}
	reload := func(scopes ...string) {
		t.Helper()
		c := w.cfg
		c.Registration.AnonymousScopes = scopes
		if err := w.s.Reload(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	reload("mcp:read")
	n := x.token(x.refreshForm(m["refresh_token"].(string))).json(t)
	if n["scope"] != "mcp:read" {
		t.Errorf("the next token has %v", n["scope"])
	}
	reload("mcp:destroy")
	wantError(t, x.token(x.refreshForm(n["refresh_token"].(string))), 400, "invalid_scope")
	reload("mcp:read", "mcp:write") // and nothing was spent
	if all := x.token(x.refreshForm(n["refresh_token"].(string))).json(t); all["scope"] != "mcp:read mcp:write" {
		t.Errorf("when it is given back: %v", all)
	}
}
