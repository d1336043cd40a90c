package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestGPX5_AHomeThatLeavesHandsOver: a process that is told to end has a stdio server
// that another uses. The call that is under way gets its answer, and of those that come
// meanwhile and later none is refused: the other starts the server itself. A stream that
// follows the server follows the new one.
func TestGPX5_AHomeThatLeavesHandsOver(t *testing.T) {
	c := newCluster(t, 2, fmt.Sprintf("open: true\nnotice: 0s\n%sservers:\n  local: {command: [%q, roaming-server], runner: none}\n", benchLimits(), os.Args[0]))
	home, other := c.all[0], c.all[1]
	send := func(to *program, method, session, body string) *http.Response {
		t.Helper()
		return c.send(t, to, method, "/s/local/mcp", session, body)
	}
	call := func(to *program, session, method, params string) (string, bool) {
		t.Helper()
		resp := send(to, http.MethodPost, session, `{"jsonrpc":"2.0","id":3,"method":"`+method+`","params":`+params+`}`)
		raw, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", string(raw)), strings.Contains(string(raw), `"result"`)
	}
	must := func(session, method, params string) string {
		t.Helper()
		got, ok := call(other, session, method, params)
		if !ok {
			t.Fatalf("%s\n%s", got, c.logs())
		}
		return got
	}
	session := send(home, http.MethodPost, "", initializeMessage).Header.Get("Mcp-Session-Id")
	const pid = `{"name":"pid","arguments":{"text":"x"}}`
	before, ok := call(home, session, "tools/call", pid)
	if !ok || must(session, "tools/call", pid) != before {
		t.Fatal("the server has no home")
	}
	must(session, "resources/subscribe", `{"uri":"test://note"}`)
	stream := bufio.NewScanner(send(other, http.MethodGet, session, "").Body)
	heard := make(chan string, 1000)
	go func() {
		for stream.Scan() {
			heard <- stream.Text()
		}
		close(heard)
	}()

	nap := bufio.NewReader(send(other, http.MethodPost, session, `{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"nap","arguments":{"text":"x"},"_meta":{"progressToken":"begun"}}}`).Body)
	for line := ""; !strings.Contains(line, "notifications/progress"); {
		var err error
		if line, err = nap.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if err := home.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- home.cmd.Wait() }()
	after := before
	for n, over := 0, false; !over || after == before; n++ {
		select {
		case err := <-ended:
			if over = true; err != nil {
				t.Errorf("the process that was told to end: %v", err)
			}
		default:
		}
		got, ok := call(other, session, "tools/call", pid)
		if after = got; !ok {
			t.Fatalf("call %d beside the end of the home: %s\n%s", n, got, c.logs())
		}
	}
	rest, err := io.ReadAll(nap)
	if err != nil || !strings.Contains(string(rest), "rested") {
		t.Errorf("the call under way: %s %v\n%s", rest, err, c.logs())
	}
	waitFor(t, func() bool {
		must(session, "tools/call", `{"name":"touch","arguments":{"text":"x"}}`)
		for {
			select {
			case line := <-heard:
				if strings.Contains(line, "test://note") {
					return true
				}
			default:
				return false
			}
		}
	})
}
