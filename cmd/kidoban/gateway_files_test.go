package main

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestFilesAreReadWhenTheyRest: a file that is emptied and then written is read once,
// with all that was written; one that was changed while the program started is read
// again; the same time does not hide another size.
func TestFilesAreReadWhenTheyRest(t *testing.T) {
	path := putText(t, filepath.Join(t.TempDir(), "kidoban.yaml"), "name: one\n")
	f := followed{read: onDisk(path), last: onDisk(path)}
	look := func(want bool) {
		t.Helper()
		if got := f.changed(onDisk(path)); got != want {
			t.Errorf("to be read: %v, want %v", got, want)
		}
	}
	look(false)
	putText(t, path, "")
	look(false)
	putText(t, path, "name: another\n")
	look(false)
	look(true)
	look(false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look(false)
	look(true)

	putText(t, path, "name: one\n")
	i, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	started := onDisk(path)
	f = followed{read: started, last: started}
	putText(t, path, "name: other\n")
	if err := os.Chtimes(path, i.ModTime(), i.ModTime()); err != nil {
		t.Fatal(err)
	}
	look(false)
	look(true)
	look(false)
}

// TestAllFilesOfTheConfigAreFollowed: what a member names by cert, key, files or
// something_file, anywhere in the config.
func TestAllFilesOfTheConfigAreFollowed(t *testing.T) {
	var want []string
	var fill func(v reflect.Value, name string)
	fill = func(v reflect.Value, name string) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() {
					fill(v.Field(i), name+"."+f.Tag.Get("yaml"))
				}
			}
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), name)
		case reflect.Map:
			v.Set(reflect.MakeMap(v.Type()))
			one := reflect.New(v.Type().Elem()).Elem()
			fill(one, name)
			v.SetMapIndex(reflect.ValueOf("one").Convert(v.Type().Key()), one)
		case reflect.String:
			if strings.HasSuffix(name, "_file") || strings.HasSuffix(name, ".files") || strings.HasPrefix(name, ".tls.") {
				v.SetString(name)
				want = append(want, name)
			}
		}
	}
	var c gatewayConfig
	fill(reflect.ValueOf(&c).Elem(), "")
	got := c.files()
	slices.Sort(want)
	slices.Sort(got)
	if len(want) < 14 || !slices.Equal(got, want) {
		t.Errorf("followed are\n%q, not\n%q", got, want)
	}
}

// mounted puts files where a program reads them as Kubernetes does: each is a link
// into ..data, which is a link to a directory, and another directory is put in its
// place by one rename.
func mounted(t *testing.T, dir string, turn int, files map[string]string) {
	t.Helper()
	set := fmt.Sprintf("..set-%d", turn)
	if err := os.Mkdir(filepath.Join(dir, set), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		putText(t, filepath.Join(dir, set, name), text)
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink(set, filepath.Join(dir, "..new")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

// TestSecretsAreFollowed: a secret that is rotated in its file counts without a
// restart, for a client, a receiver of alerts and the telemetry alike, and also behind
// links that change. An empty file changes nothing, and says so.
func TestSecretsAreFollowed(t *testing.T) {
	t.Parallel()
	hook, otlp := make(chan string, 10), make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/logs":
			select {
			case otlp <- r.Header.Get("Api-Key"):
			default:
			}
		case "/v1/traces":
		default:
			hook <- r.URL.Path
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	t.Cleanup(receiver.Close)
	dir := t.TempDir()
	turn := func(n int) map[string]string {
		return map[string]string{"client": strings.Repeat(fmt.Sprint(n), 40) + "\n", "url": fmt.Sprintf("%s/alert-%d\n", receiver.URL, n), "headers": fmt.Sprintf("Api-Key: k%d\n", n)}
	}
	mounted(t, dir, 1, turn(1))
	up, _ := echoServer(t)
	g := startGateway(t, fmt.Sprintf(`
servers:
  echo: {url: %q, address: loopback}
clients:
  - {id: monitor, auth_method: client_secret_basic, secret_file: %[2]s/client, introspects: true}
registration: {remote_hosts: [one.example, two.example]}
telemetry: {otlp: %[3]q, otlp_headers_file: %[2]s/headers, address: loopback}
alerts:
  webhooks: [{name: ops, url_file: %[2]s/url, address: loopback}]
`, up, dir, receiver.URL))
	takes := func(n int) bool {
		req, _ := http.NewRequest("POST", g.url+"/introspect", strings.NewReader("token=x"))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.SetBasicAuth("monitor", strings.Repeat(fmt.Sprint(n), 40))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("introspection: %d", resp.StatusCode)
		}
		return resp.StatusCode == http.StatusOK
	}
	register := func(host string) {
		resp, err := http.Post(g.url+"/register", "application/json", strings.NewReader(`{"client_name":"x","redirect_uris":["https://`+host+`/cb"]}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	register("one.example")
	if !takes(1) || takes(2) || <-hook != "/alert-1" || <-otlp != "k1" {
		t.Fatal("the first secrets are not in use")
	}

	empty := turn(2)
	empty["client"] = "\n"
	mounted(t, dir, 2, empty)
	waitFor(t, func() bool { return strings.Contains(g.stderr.String(), "client is empty") })
	if !takes(1) {
		t.Error("an empty file took the secret away")
	}
	mounted(t, dir, 3, turn(3))
	waitFor(t, func() bool { return takes(3) })
	if takes(1) {
		t.Error("the old secret is still taken")
	}
	waitFor(t, func() bool { return strings.Count(g.stderr.String(), "the changed config is in force") == 1 })
	register("two.example")
	if got := <-hook; got != "/alert-3" {
		t.Errorf("the alert went to %s", got)
	}
	waitFor(t, func() bool { register("two.example"); return <-otlp == "k3" })
	g.stop()
	if strings.Contains(g.stderr.String(), "3333") {
		t.Error("a secret is in the log")
	}
}

// TestTheCertificateIsFollowed: a renewed certificate is shown without a restart, also
// while the config beside it has a fault; half of a renewal changes nothing.
func TestTheCertificateIsFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	trusted := x509.NewCertPool()
	var leaves [][]byte
	turn := func(n int) map[string]string {
		conf, roots := proofCertificate(t, "localhost")
		pair := conf.Certificates[0]
		key, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(roots)
		if err != nil || !trusted.AppendCertsFromPEM(raw) || len(leaves) != n-1 {
			t.Fatal(err)
		}
		leaves = append(leaves, pair.Certificate[0])
		return map[string]string{"cert.pem": string(raw), "key.pem": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}))}
	}
	one, two, three := turn(1), turn(2), turn(3)
	mounted(t, dir, 1, one)
	up, _ := echoServer(t)
	port := proofPort(t)
	text := fmt.Sprintf("public_url: https://localhost:%s\nlisten: 127.0.0.1:%[1]s\nopen: true\ntls: {cert: %[2]s/cert.pem, key: %[2]s/key.pem}\nservers:\n  tools: {url: %[3]q, address: loopback}\n", port, dir, up)
	config := putText(t, filepath.Join(dir, "kidoban.yaml"), text)
	log := &lockedBuffer{}
	cmd := exec.Command(os.Args[0], "gateway", "--config", config, "--data", filepath.Join(dir, "data"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	shown := func() int {
		conn, err := tls.Dial("tcp", "localhost:"+port, &tls.Config{RootCAs: trusted})
		if err != nil {
			return 0
		}
		defer conn.Close()
		return 1 + slices.IndexFunc(leaves, func(l []byte) bool { return slices.Equal(l, conn.ConnectionState().PeerCertificates[0].Raw) })
	}
	waitFor(t, func() bool { return shown() == 1 })

	mounted(t, dir, 2, map[string]string{"cert.pem": two["cert.pem"], "key.pem": one["key.pem"]})
	waitFor(t, func() bool { return strings.Contains(log.String(), "stays in use") })
	if shown() != 1 {
		t.Error("half of a renewal is in use")
	}
	mounted(t, dir, 3, two)
	waitFor(t, func() bool { return shown() == 2 })

	putText(t, config, text+"nonsense: 1\n")
	waitFor(t, func() bool { return strings.Contains(log.String(), "nonsense") })
	mounted(t, dir, 4, three)
	waitFor(t, func() bool { return shown() == 3 })
	putText(t, config, strings.Replace(text, "tls: ", "telemetry: {metrics: \"127.0.0.1:1\"}\ntls: ", 1))
	waitFor(t, func() bool {
		return strings.Contains(log.String(), "it changes what takes a restart: telemetry but for its headers")
	})
}
