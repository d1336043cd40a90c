package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestGRG4_DenyCommandBesideARunningGateway: blocking a client from the command
// line ends its access at the running gateway, and taking it off the list works.
func TestGRG4_DenyCommandBesideARunningGateway(t *testing.T) {
	g := startGateway(t, "servers: {notes: {url: 'http://127.0.0.1:9/mcp', address: loopback}}\n")
	g.setUp()
	token := g.token(g.url+"/mcp", "mcp:read")
	var claims struct {
		Client string `json:"client_id"`
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err == nil {
		err = json.Unmarshal(raw, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	deny := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs}
		args = append([]string{"gateway", "deny"}, append(args, "--config", g.config, "--data", g.data)...)
		if code := run(e, args); code != exitClean {
			t.Fatalf("%v: exit %d: %s", args, code, errs.String())
		}
		return out.String()
	}
	status := func() int {
		r, err := http.NewRequest("POST", g.url+"/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if s := status(); s == http.StatusUnauthorized {
		t.Fatal("the token was not good to begin with")
	}
	if out := deny("client", claims.Client, "--reason", "a test"); !strings.Contains(out, "1 grant ended") {
		t.Error(out)
	}
	if !within(patience, func() bool { return status() == http.StatusUnauthorized }) {
		t.Fatal("the blocked client still has access")
	}
	list := deny("list")
	if !strings.Contains(list, claims.Client) || !strings.Contains(list, "a test") {
		t.Error(list)
	}
	deny("remove", strings.Fields(list)[0])
	if list := deny("list"); list != "" {
		t.Error(list)
	}
}
