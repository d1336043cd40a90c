package main

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAuditWithAKey: a key from the environment opens a server without any login, and
// no file, no line and no error of the run holds a part of it.
func TestAuditWithAKey(t *testing.T) {
	const secret = "vk_live_9f83Qm+2/xZ=41"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown := r.Header.Get("X-Corp-Pass")
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-You-Sent", shown)
		if shown != secret && r.URL.Query().Get("api_key") != secret {
			http.Error(w, "unauthorized: "+shown+" is not a key", http.StatusUnauthorized)
			return
		}
		var m struct{ ID any }
		json.Unmarshal(body, &m)
		json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": m.ID, "result": map[string]any{"tools": []any{map[string]any{"name": secret}}}})
	}))
	defer srv.Close()
	state, dir := t.TempDir(), t.TempDir()
	var out, errs bytes.Buffer
	e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(name string) string {
		return map[string]string{"XDG_STATE_HOME": state, "HOME": state, "MY_KEY": secret, "SHORT": "abc"}[name]
	}}
	at := func(name string) string { return filepath.Join(dir, name) }
	code := run(e, []string{"audit", srv.URL + "/mcp", "--lab", "--header-env", "X-Corp-Pass=MY_KEY", "--tool", "echo", "--fail-on", "medium",
		"--json", at("r.json"), "--html", at("r.html"), "--sarif", at("r.sarif"), "--junit", at("r.xml"), "--md", at("r.md"), "--badge", at("r.svg"), "--write-har", at("r.har")})
	if code != exitFindings || !strings.Contains(out.String(), "E23-a") {
		t.Errorf("exit %d\n%s%s", code, out.String(), errs.String())
	}
	for _, wrong := range [][]string{
		{"--token-env", "NOT_THERE"}, {"--token-env", "SHORT"}, {"--header-env", "X-Corp-Pass"}, {"--header-env", "Host=MY_KEY"},
		{"--token-env", "MY_KEY", "--header-env", "X-Corp-Pass=MY_KEY"}, {"--token-env", "MY_KEY", "--login-as", "alice"},
	} {
		if code := run(e, append([]string{"audit", srv.URL + "/mcp", "--lab"}, wrong...)); code != exitUsage {
			t.Errorf("%v: exit %d", wrong, code)
		}
	}
	texts := map[string]string{"stdout": out.String(), "stderr": errs.String()}
	for _, root := range []string{state, dir} {
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			raw, err := os.ReadFile(path)
			texts[path] = string(raw)
			return err
		})
	}
	if len(texts) < 10 {
		t.Errorf("only %d texts to search", len(texts))
	}
	for where, text := range texts {
		for _, part := range []string{"9f83Qm", "vk_live", "xZ=41", "xZ%3D41"} {
			if strings.Contains(text, part) {
				t.Errorf("%s holds %q of the key", where, part)
			}
		}
	}
}
