package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/kidoban/kidoban/authserver/authtest"
)

// partner is a server that has a person connect an account on a page of its own and, as
// E35 describes it, connects the account of whoever opens that page.
type partner struct {
	*httptest.Server
	mu      sync.Mutex
	visits  int      // guarded by mu
	referer []string // of the visits; guarded by mu
}

func newPartner(t *testing.T) *partner {
	p := &partner{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/connect" {
			p.mu.Lock()
			p.visits++
			p.referer = append(p.referer, r.Header.Get("Referer"))
			p.mu.Unlock()
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, `<main><h1 id="there">Your account is connected</h1></main>`)
			return
		}
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
		}
		_ = json.NewDecoder(r.Body).Decode(&m)
		body := ""
		switch m.Method {
		case "initialize":
			body = `"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`
		case "tools/list":
			body = `"result":{"tools":[{"name":"list_files","description":"Lists the files.","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}]}`
		case "tools/call":
			body = fmt.Sprintf(`"error":{"code":-32042,"message":"connect first","data":{"elicitations":[{"mode":"url","elicitationId":"e","url":"%s/connect?state=of-alice","message":"Connect your account"}]}}`, p.URL)
		default:
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":`+string(m.ID)+`,`+body+`}`)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *partner) seen() (int, []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.visits, p.referer
}

// TestE35_InTheBrowser: Alice's program is sent to a page of a server that asks nobody who
// they are. She hands the link to Bob: he gets to no page of that server. She herself sees
// where it leads before she goes, and it does not hear where she came from.
func TestE35_InTheBrowser(t *testing.T) {
	up := newPartner(t)
	config := "servers:\n  files:\n    title: Partner files\n    url: " + up.URL + "\n    address: loopback\n"
	d := newDecisionRig(t, config)
	alice := d.user("alice", true)
	d.user("bob", false)
	link := ""
	for path, tool := range map[string]string{"/s/files/mcp": "list_files", "/mcp": "files__list_files"} {
		answer := d.post(d.url+path, alice.token(d.url+path, "mcp:read"), toolCall(tool, `{}`), "MCP-Protocol-Version", "2025-11-25")
		_, rest, ok := strings.Cut(answer, `"url":"`)
		link, _, _ = strings.Cut(rest, `"`)
		if !ok || !strings.HasPrefix(link, d.url+"/decisions/page/") || strings.Contains(answer, "of-alice") {
			t.Fatalf("%s: %s", path, answer)
		}
	}
	bob := chromium(t, "en")
	text := browse(t, bob, "page-of-another-en", chromedp.Navigate(link), browserLogin("bob"), chromedp.WaitVisible(`p.strong`))
	if n, _ := up.seen(); n != 0 || !strings.Contains(text, "made for another person") || strings.Contains(text, "127.0.0.1") {
		t.Errorf("Bob, with %d visits: %s", n, text)
	}
	tab := chromium(t, "en")
	host := strings.TrimPrefix(up.URL, "http://")
	text = browse(t, tab, "page-en", chromedp.Navigate(link), browserLogin("alice"), chromedp.WaitVisible(`a.button`))
	for _, want := range []string{host, "Partner files", "a test (", "asked of you, alice"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	for _, lang := range []string{"ja", "zh"} {
		if text := browse(t, tab, "page-"+lang, chromedp.Navigate(link+"?lang="+lang)); !strings.Contains(text, host) || strings.Contains(text, "Go on") {
			t.Errorf("%s: %s", lang, text)
		}
	}
	if n, _ := up.seen(); n != 0 {
		t.Errorf("%d visits before anybody went", n)
	}
	authtest.Run(t, tab, chromedp.Click(`a.button`), chromedp.WaitVisible(`#there`))
	if n, referer := up.seen(); n != 1 || referer[0] != "" || authtest.Read(t, tab, chromedp.Location()) != up.URL+"/connect?state=of-alice" {
		t.Errorf("%d visits from %q", n, referer)
	}

	direct := newDecisionRig(t, config+"    pages: direct\n")
	token := direct.user("alice", true).token(direct.url+"/s/files/mcp", "mcp:read")
	if answer := direct.post(direct.url+"/s/files/mcp", token, toolCall("list_files", `{}`), "MCP-Protocol-Version", "2025-11-25"); !strings.Contains(answer, up.URL+"/connect?state=of-alice") {
		t.Errorf("direct: %s", answer)
	}
	conf, err := parseGatewayConfig("test.yaml", []byte(config+"    pages: sometimes\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conf.gateway(); err == nil || !strings.Contains(err.Error(), "pages must be through or direct") {
		t.Errorf("another word: %v", err)
	}
}
