package kms_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	awsapi "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kidoban/kidoban/outbound/freeport"
	"github.com/kidoban/kidoban/sandbox/npmtest"
)

// realEnv, when set, has the tests meet services made by others, too: the Transit
// engine of HashiCorp Vault, built from its module (a minute), and AWS KMS as the
// Python package moto plays it (installed once, 300 MB).
const realEnv = "KIDOBAN_KMS"

// vaultRig runs the Transit engine of Vault.
func vaultRig(t *testing.T) *rig {
	dir := t.TempDir() // a module of its own: nothing of it is part of this one
	parts, err := filepath.Glob("testdata/transit/*.txt")
	must(t, err)
	for _, p := range parts {
		raw, err := os.ReadFile(p)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, strings.TrimSuffix(filepath.Base(p), ".txt")), raw, 0o600))
	}
	bin := filepath.Join(dir, "transit")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	token := "hvs.topsecret"
	cmd := exec.Command(bin)
	cmd.Env = append(os.Environ(), "VAULT_TOKEN="+token)
	base, stop := start(t, cmd)
	ask := func(path, body string) {
		req, _ := http.NewRequest(http.MethodPost, base+"/v1/transit/"+path, strings.NewReader(body))
		req.Header.Set("X-Vault-Token", token)
		res, err := http.DefaultClient.Do(req)
		must(t, err)
		defer res.Body.Close()
		if res.StatusCode/100 != 2 {
			b, _ := io.ReadAll(res.Body)
			t.Fatalf("%s: %s %s", path, res.Status, b)
		}
	}
	for _, k := range []string{"kidoban", "other"} {
		ask("keys/"+k, `{"type":"aes256-gcm96"}`)
	}
	r := &rig{uri: "hcvault:///transit/keys/kidoban", other: "hcvault:///transit/keys/other", secret: token,
		env: map[string]string{"VAULT_ADDR": base, "VAULT_TOKEN": token}, turn: func() { ask("keys/kidoban/rotate", `{}`) }, stop: stop}
	r.spoil = func(*testing.T) { r.env["VAULT_TOKEN"] = token + "-expired" }
	return r
}

// motoRig runs moto's AWS KMS.
func motoRig(t *testing.T) *rig {
	const moto = "moto[server,kms]==5.2.5"
	venv := npmtest.Cached(t, "moto", []string{moto}, func(dir string) *exec.Cmd {
		return exec.Command("sh", "-c", `python3 -m venv "$1" && "$1/bin/pip" install -q "$2"`, "sh", dir, moto)
	})
	at, err := freeport.Loopback()
	must(t, err)
	port := strconv.Itoa(int(at.Port()))
	cmd := exec.Command(filepath.Join(venv, "bin", "moto_server"), "-H", "127.0.0.1", "-p", port)
	must(t, cmd.Start())
	stop := func() { cmd.Process.Kill(); cmd.Wait() }
	t.Cleanup(stop)
	awsEnv(t, "http://127.0.0.1:"+port, "AKIDTEST")
	c, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("eu-central-1"))
	must(t, err)
	client := awsapi.NewFromConfig(c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	arn := func() string {
		for {
			out, err := client.CreateKey(ctx, &awsapi.CreateKeyInput{})
			if err == nil {
				return *out.KeyMetadata.Arn
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond) // it is still starting
		}
	}
	// moto believes every credential, so none can be spoilt.
	r := &rig{uri: "aws-kms://" + arn(), other: "aws-kms://" + arn(), secret: "topsecret", stop: stop}
	id := r.uri[strings.LastIndex(r.uri, "/")+1:]
	r.turn = func() {
		_, err := client.RotateKeyOnDemand(t.Context(), &awsapi.RotateKeyOnDemandInput{KeyId: &id})
		must(t, err)
	}
	return r
}

// start runs a server that prints its address, and ends it with its input.
func start(t *testing.T, cmd *exec.Cmd) (base string, stop func()) {
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	must(t, cmd.Start())
	stop = func() { in.Close(); cmd.Wait() }
	t.Cleanup(stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(fmt.Errorf("%w: %s", err, errs.String()))
	}
	return strings.TrimSpace(line), stop
}
