package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// operate runs the program and returns its exit code and everything it said.
func operate(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	code := run(&env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &out, stderr: &out, getenv: func(name string) string {
		return map[string]string{"PASSWORD": "correct horse battery staple"}[name]
	}}, args)
	return code, out.String()
}

// TestBackupUnderLoad copies a gateway that registers, logs in and answers calls
// all the while, restores the copy elsewhere, and lets doctor examine it.
func TestBackupUnderLoad(t *testing.T) {
	upstream, _ := echoServer(t)
	config := fmt.Sprintf("servers:\n  echo:\n    url: %s\n    address: loopback\n", upstream)
	g := startGateway(t, config)
	g.setUp()
	before := g.token(g.url+"/s/echo/mcp", "mcp:read mcp:write")
	session := g.connect(g.url+"/s/echo/mcp", before)
	stop := make(chan struct{})
	var load sync.WaitGroup
	for i := range 4 {
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := http.Post(g.url+"/register", "application/json", strings.NewReader(fmt.Sprintf(`{"client_name":"c%d-%d","redirect_uris":["http://127.0.0.1:33418/cb"]}`, i, n)))
				if err == nil {
					resp.Body.Close()
				}
			}
		})
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "kidoban.tar")
	for i := range 5 {
		sayEcho(t, session, "echo", fmt.Sprint("call ", i))
	}
	code, said := operate(t, "gateway", "backup", "--config", g.config, "--data", g.data, "--with-key", "--out", file)
	if code != exitClean {
		t.Fatalf("backup: exit %d, %s", code, said)
	}
	close(stop)
	load.Wait()
	session.Close()
	g.stop()
	if code, said := operate(t, "gateway", "backup", "--config", g.config, "--data", g.data, "--out", file); code != exitUsage || !strings.Contains(said, "exists already") {
		t.Errorf("over an existing file: exit %d, %s", code, said)
	}

	old := g.data
	g.data = filepath.Join(dir, "restored")
	if code, said := operate(t, "gateway", "restore", file, "--config", g.config, "--data", g.data); code != exitClean {
		t.Fatalf("restore: exit %d, %s", code, said)
	}
	if code, said := operate(t, "gateway", "restore", file, "--config", g.config, "--data", old); code != exitUsage || !strings.Contains(said, "a database is here already") || !strings.Contains(said, filepath.Join(old, "kidoban.db")) {
		t.Errorf("over a database: exit %d, %s", code, said)
	}
	left := filepath.Join(dir, "left") // as a killed gateway leaves them, when only the database is moved away
	for _, end := range []string{"-wal", "-shm"} {
		if err := errors.Join(os.MkdirAll(left, 0o700), os.WriteFile(filepath.Join(left, "kidoban.db"+end), []byte("older"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if code, said := operate(t, "gateway", "restore", file, "--config", g.config, "--data", left); code != exitUsage || !strings.Contains(said, "kidoban.db-wal "+filepath.Join(left, "kidoban.db-shm")) {
		t.Errorf("beside what is left of a database: exit %d, %s", code, said)
	}
	u, err := url.Parse(g.url)
	if err != nil {
		t.Fatal(err)
	}
	g.start(u.Host)
	again := g.connect(g.url+"/s/echo/mcp", before)
	sayEcho(t, again, "echo", "a token from before the backup")
	again.Close()
	code, said = operate(t, "doctor", g.url+"/s/echo/mcp", "--login-as", "alice", "--password-env", "PASSWORD", "--no-browser")
	if code != exitClean {
		t.Fatalf("doctor of the restored gateway: exit %d, %s", code, said)
	}
}

func TestRestoreRefusesWhatIsNoWholeBackup(t *testing.T) {
	g := startGateway(t, "")
	file := filepath.Join(t.TempDir(), "b.tar")
	if code, said := operate(t, "gateway", "backup", "--config", g.config, "--data", g.data, "--out", file); code != exitClean || !strings.Contains(said, "holds no key") {
		t.Fatalf("exit %d, %s", code, said)
	}
	g.stop()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(file); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", i.Mode(), err)
	}
	changed := bytes.Clone(whole)
	changed[len(changed)/2] ^= 1
	for name, raw := range map[string][]byte{"empty": nil, "cut off": whole[:len(whole)/2], "changed": changed, "other": []byte("not a tar")} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			bad := filepath.Join(dir, "bad.tar")
			if err := os.WriteFile(bad, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			data := filepath.Join(dir, "data")
			code, said := operate(t, "gateway", "restore", bad, "--data", data)
			if code == exitClean || !strings.Contains(said, "no whole backup") {
				t.Errorf("exit %d, %s", code, said)
			}
			left, err := os.ReadDir(data)
			left = slices.DeleteFunc(left, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), ".lock") }) // of nobody
			if err != nil || len(left) != 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
	if code, said := operate(t, "gateway", "backup", "--config", g.config, "--data", t.TempDir(), "--out", filepath.Join(t.TempDir(), "x.tar")); code != exitUsage || !strings.Contains(said, "there is no database") {
		t.Errorf("without a database: exit %d, %s", code, said)
	}
}
