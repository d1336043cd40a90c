package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestGPX1_TLSAndHTTP2AtTheDoor: the gateway with a certificate of its own, open on
// loopback. HTTP/2 and HTTP/1.1 are served alike: calls of one connection beside each
// other, a standing stream among them, and what one does not read holds up no other.
func TestGPX1_TLSAndHTTP2AtTheDoor(t *testing.T) {
	t.Parallel()
	server := mcp.NewServer(&mcp.Implementation{Name: "tools", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "say"}, func(_ context.Context, r *mcp.CallToolRequest, in struct {
		Text string `json:"text"`
	}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "you said " + in.Text}}}, nil, nil
	})
	up := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	t.Cleanup(func() { up.CloseClientConnections(); up.Close() })

	conf, roots := proofCertificate(t, "localhost")
	dir := t.TempDir()
	pair := conf.Certificates[0]
	key, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	keyFile := write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}))
	port := proofPort(t)
	base := "https://localhost:" + port
	config := write("kidoban.yaml", fmt.Appendf(nil, "public_url: %s\nlisten: 127.0.0.1:%s\nopen: true\ntls: {cert: %s, key: %s}\nservers:\n  tools: {url: %q, address: loopback}\n", base, port, roots, keyFile, up.URL))
	log := &lockedBuffer{}
	cmd := exec.Command(os.Args[0], "gateway", "--config", config, "--data", filepath.Join(dir, "data"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })

	trusted := x509.NewCertPool()
	raw, err := os.ReadFile(roots)
	if err != nil || !trusted.AppendCertsFromPEM(raw) {
		t.Fatal(err)
	}
	for _, two := range []bool{true, false} {
		proto := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[two]
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, ForceAttemptHTTP2: two}
		t.Cleanup(tr.CloseIdleConnections)
		if !two {
			tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
		}
		client := &http.Client{Transport: tr, Timeout: patience}
		if !within(patience, func() bool {
			resp, err := client.Get(base + "/readyz")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK && resp.Proto == proto
		}) {
			t.Fatalf("%s: the gateway is not ready: %s", proto, log)
		}
		post := func(body, session string) (*http.Response, error) {
			q, err := http.NewRequest(http.MethodPost, base+"/s/tools/mcp", strings.NewReader(body))
			if err != nil {
				return nil, err
			}
			q.Header.Set("Content-Type", "application/json")
			q.Header.Set("Accept", "application/json, text/event-stream")
			if session != "" {
				q.Header.Set("Mcp-Session-Id", session)
			}
			return client.Do(q)
		}
		resp, err := post(initializeMessage, "")
		if err != nil {
			t.Fatal(err)
		}
		session := resp.Header.Get("Mcp-Session-Id")
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || session == "" || resp.Proto != proto {
			t.Fatalf("%s: %d %s", proto, resp.StatusCode, resp.Proto)
		}
		note, err := post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`, session)
		if err != nil || note.StatusCode != http.StatusAccepted {
			t.Fatal(note, err)
		}
		note.Body.Close()

		// A standing stream that is never read to its end.
		q, err := http.NewRequest(http.MethodGet, base+"/s/tools/mcp", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Accept", "text/event-stream")
		q.Header.Set("Mcp-Session-Id", session)
		standing, err := tr.RoundTrip(q)
		if err != nil || standing.StatusCode != http.StatusOK {
			t.Fatal(standing, err)
		}
		changed := make(chan string, 1)
		go func() {
			for in := bufio.NewScanner(standing.Body); in.Scan(); {
				if strings.Contains(in.Text(), "list_changed") {
					changed <- in.Text()
					return
				}
			}
		}()

		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				text := fmt.Sprint(i, strings.Repeat("x", i*100)) // none so long that it must wait for its turn
				resp, err := post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"say","arguments":{"text":%q}}}`, 100+i, text), session)
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != http.StatusOK || resp.Proto != proto || !bytes.Contains(body, []byte("you said "+text)) {
					t.Errorf("%s, call %d: %d %s %v %.300s", proto, i, resp.StatusCode, resp.Proto, err, body)
				}
			})
		}
		wg.Wait()
		mcp.AddTool(server, &mcp.Tool{Name: "more" + strings.Trim(proto, "HTP/.")}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return nil, nil, nil
		})
		select {
		case <-changed:
		case <-time.After(patience):
			t.Errorf("%s: the standing stream tells nothing", proto)
		}
		standing.Body.Close()
		var list struct{ Result struct{ Tools []any } }
		resp, err = post(`{"jsonrpc":"2.0","id":9,"method":"tools/list","params":{}}`, session)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if _, data, ok := bytes.Cut(body, []byte("data: ")); ok {
			body = data
		}
		if err := json.Unmarshal(bytes.TrimSpace(body), &list); err != nil || len(list.Result.Tools) == 0 {
			t.Errorf("%s: %s %v", proto, body, err)
		}
	}
	// Plain HTTP at the same port is refused, and so is an earlier TLS.
	if resp, err := http.Post("http://127.0.0.1:"+port+"/s/tools/mcp", "application/json", strings.NewReader(initializeMessage)); err == nil {
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("plain http: %d", resp.StatusCode)
		}
		resp.Body.Close()
	}
	if c, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{RootCAs: trusted, ServerName: "localhost", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		c.Close()
		t.Error("TLS 1.1 is spoken")
	}
}
