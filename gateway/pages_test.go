package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/kidoban/kidoban"
)

// pageRig is a gateway with its pages. Who is logged in stands in a header.
type pageRig struct {
	*rig
	pages *httptest.Server
	clock stoppable

	mu     sync.Mutex
	alerts []kidoban.Alert
}

func newPageRig(t *testing.T, servers []Server, options ...rigOption) *pageRig {
	t.Helper()
	p := &pageRig{}
	var key []byte
	p.rig = newRig(t, servers, append([]rigOption{func(_ *Config, d *Deps) { d.Pages, d.Now, key = true, p.clock.now, d.StateKey }}, options...)...)
	d, err := NewDecisions(DecisionDeps{PublicURL: p.url, StateKey: key, Now: p.clock.now,
		Visitor: func(r *http.Request) (Person, error) {
			who := r.Header.Get("X-Who")
			if who == "" {
				return Person{}, kidoban.Errorf(kidoban.KindNotFound, "nobody is logged in")
			}
			return Person{ID: who, Name: who}, nil
		},
		Login: func(w http.ResponseWriter, _ *http.Request, next string, status int) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "log in, then "+next)
		},
		Client: func(_ context.Context, id string) string { return "The client " + id },
		Alert: func(_ context.Context, a kidoban.Alert) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.alerts = append(p.alerts, a)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.pages = httptest.NewServer(d)
	t.Cleanup(p.pages.Close)
	return p
}

// open opens a link to our page, for somebody.
func (p *pageRig) open(link, who string) (status int, body string) {
	p.t.Helper()
	r, err := http.NewRequest(http.MethodGet, strings.Replace(link, p.url, p.pages.URL, 1), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("X-Who", who)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (p *pageRig) ours(link string) bool { return strings.HasPrefix(link, p.url+"/decisions/page/") }

// link finds the address of our page in an answer.
func (p *pageRig) link(body string) string {
	p.t.Helper()
	_, rest, ok := strings.Cut(body, `"url":"`)
	link, _, _ := strings.Cut(rest, `"`)
	if !ok || !p.ours(link) {
		p.t.Fatalf("no page of ours in %s", body)
	}
	return link
}

const elsewhere = "https://login.partner.example/connect?state=abc&x=1"

// sendsAway is a server whose tool x sends a person to a page first, in one of three
// ways. seen is set when the person has been there.
func sendsAway(t *testing.T, how string, seen *atomic.Bool) Server {
	if how != "by a question" {
		s := at("s", needsPage(t, elsewhere, how == "by an error", seen).URL)
		if s.Era = "modern"; how == "by an error" {
			s.Era = "legacy"
		}
		return s
	}
	up := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	mcp.AddTool(up, &mcp.Tool{Name: "x"}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		a, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Mode: "url", Message: "see this", URL: elsewhere, ElicitationID: "e-1"})
		if err != nil || a.Action != "accept" || !seen.Load() {
			return nil, nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done"}}}, nil, nil
	})
	srv := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return up }, nil))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	s := at("s", srv.URL)
	s.Era = "legacy"
	return s
}

// TestE35_PagesOfServersLeadThroughOurs: however a server of either era sends a person to
// a page, and whatever era the client speaks, the client is given the address of our page;
// and the call goes on as before.
func TestE35_PagesOfServersLeadThroughOurs(t *testing.T) {
	for _, how := range []string{"by a result", "by a question", "by an error"} {
		for _, era := range []string{"modern", "legacy"} {
			for _, name := range []string{"s", ""} {
				if how == "by an error" && era == "legacy" {
					continue // below: what the SDK's client does then is its own
				}
				t.Run(how+" to a "+era+" client at "+name, func(t *testing.T) {
					var seen atomic.Bool
					server := sendsAway(t, how, &seen)
					server.Title = "The partner"
					r := newPageRig(t, []Server{server})
					var links []string
					options := &mcp.ClientOptions{Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{Form: &mcp.FormElicitationCapabilities{}, URL: &mcp.URLElicitationCapabilities{}}},
						ElicitationHandler: func(_ context.Context, q *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
							links = append(links, q.Params.URL)
							if q.Params.Mode != "url" || q.Params.Message != "see this" {
								t.Errorf("%+v", q.Params)
							}
							seen.Store(true)
							return &mcp.ElicitResult{Action: "accept"}, nil
						}}
					tool := "x"
					if name == "" {
						tool = "s__x"
					}
					if got := callText(t, connect(t, r.rig, name, "alice", era, options), tool, nil, nil); got != "done" {
						t.Errorf("the call says %q", got)
					}
					if len(links) != 1 || !r.ours(links[0]) {
						t.Fatalf("the client was sent to %v", links)
					}
					status, body := r.open(links[0], "alice")
					for _, want := range []string{"login.partner.example", "https://login.partner.example/connect?state=abc&amp;x=1", "The partner", "The client ", "asked of you, alice"} {
						if status != http.StatusOK || !strings.Contains(body, want) {
							t.Errorf("%q is not on the page: %d %s", want, status, body)
						}
					}
				})
			}
		}
	}
}

// TestE35_PagesInTheErrorOfTheEarlierEra: a legacy client gets the error as it was, with
// our address in each of its pages.
func TestE35_PagesInTheErrorOfTheEarlierEra(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, _ *http.Request, body string) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":`+idOf(body)+`,"error":{"code":-32042,"message":"first","data":{"more":12345678901234567890,"elicitations":[`+
			`{"mode":"url","elicitationId":"a","url":"https://one.example/","message":"1"},{"mode":"form","url":"kept"},{"mode":"url","elicitationId":"b","url":"https://two.example/","message":"2"}]}}}`)
	})
	s := at("s", up.URL)
	s.Era = "legacy"
	r := newPageRig(t, []Server{s})
	a := r.post("s", "alice", tell, "MCP-Protocol-Version", "2025-11-25")
	var m struct {
		Error struct {
			Code int
			Data struct {
				More         json.Number
				Elicitations []struct{ Mode, URL, ElicitationID, Message string }
			}
		}
	}
	if err := json.Unmarshal([]byte(a.body), &m); err != nil || m.Error.Code != -32042 || m.Error.Data.More != "12345678901234567890" || len(m.Error.Data.Elicitations) != 3 {
		t.Fatalf("%v %s", err, a.body)
	}
	e := m.Error.Data.Elicitations
	if e[0].ElicitationID != "a" || e[2].ElicitationID != "b" || e[2].Message != "2" || e[1].URL != "kept" {
		t.Errorf("%+v", e)
	}
	for i, host := range map[int]string{0: "one.example", 2: "two.example"} {
		if status, body := r.open(e[i].URL, "alice"); !r.ours(e[i].URL) || status != http.StatusOK || !strings.Contains(body, host) {
			t.Errorf("%s: %d %s", host, status, body)
		}
	}
}

// TestE35_PagesThatTasksWaitFor: a task asks for input in what it is asked about itself.
// What is no page is refused there, too (CL-14).
func TestE35_PagesThatTasksWaitFor(t *testing.T) {
	for page, good := range map[string]bool{elsewhere: true, "javascript:alert(1)": false} {
		waits := `{"resultType":"complete","taskId":"t-1","status":"input_required","ttlMs":60000,"inputRequests":{"a \"b\"":{"method":"elicitation/create","params":{"mode":"url","message":"see this","url":"` + page + `"}},"c":{"method":"roots/list"}}}`
		up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
			switch r.Header.Get("Mcp-Method") {
			case "server/discover":
				result(w, body, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}},"ttlMs":0,"cacheScope":"private"}`)
			case "tools/call":
				result(w, body, `{"resultType":"task","taskId":"t-1","status":"working","ttlMs":60000}`)
			case "tools/list": // and says so by itself
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, `data: {"jsonrpc":"2.0","method":"notifications/tasks","params":`+waits+"}\n\n")
			default:
				result(w, body, waits)
			}
		})
		s := at("s", up.URL)
		s.Era = "modern"
		r := newPageRig(t, []Server{s})
		body, header := modern("tools/call", `"name":"x","arguments":{}`, "x")
		a := r.post("s", "alice", body, header...)
		_, rest, ok := strings.Cut(a.body, `"taskId":"`)
		id, _, _ := strings.Cut(rest, `"`)
		if !ok {
			t.Fatal(a.body)
		}
		body, header = modern("tasks/get", `"taskId":"`+id+`"`, id)
		a = r.post("s", "alice", body, header...)
		body, header = modern("tools/list", "", "")
		told := r.post("s", "alice", body, header...)
		if !good {
			for _, a := range []answer{a, told} {
				if strings.Contains(a.body, "javascript") || !strings.Contains(a.body, "not a page") {
					t.Errorf("%s: %s", page, a.body)
				}
			}
			continue
		}
		if status, text := r.open(r.link(told.body), "alice"); status != http.StatusOK || !strings.Contains(text, "login.partner.example") || strings.Contains(told.body, "partner.example") {
			t.Errorf("%d %s", status, told.body)
		}
		if status, text := r.open(r.link(a.body), "alice"); status != http.StatusOK || !strings.Contains(text, "login.partner.example") || strings.Contains(a.body, "partner.example") ||
			!strings.Contains(a.body, `"a \"b\"":{`) || !strings.Contains(a.body, `"c":{"method":"roots/list"}`) {
			t.Errorf("%d %s", status, a.body)
		}
	}
}

// TestE35_OnlyWhoWasAskedSeesThePage: Alice's link in Bob's hands tells him nothing and
// is told to the operator; a link that was changed, is of another gateway, or is old leads
// nowhere; without a login there is no page.
func TestE35_OnlyWhoWasAskedSeesThePage(t *testing.T) {
	var seen atomic.Bool
	r := newPageRig(t, []Server{sendsAway(t, "by a result", &seen)})
	body, header := modern("tools/call", `"name":"x","arguments":{}`, "x")
	a := r.post("s", "alice", body, header...)
	link := r.link(a.body)
	if strings.Contains(a.body, "partner.example") {
		t.Errorf("the client is told the server's address: %s", a.body)
	}
	if status, body := r.open(link, "bob"); status != http.StatusForbidden || strings.Contains(body, "partner") || !strings.Contains(body, "another person") {
		t.Errorf("Bob: %d %s", status, body)
	}
	if len(r.alerts) != 1 || r.alerts[0].Kind != kidoban.AlertConnectOtherUser || r.alerts[0].Subject != "alice" || r.alerts[0].Text == "" {
		t.Errorf("alerts: %+v", r.alerts)
	}
	if _, body := r.open(link, ""); body != "log in, then "+strings.TrimPrefix(link, r.url) {
		t.Errorf("nobody: %s", body)
	}
	other := newPageRig(t, []Server{sendsAway(t, "by a result", &seen)}, func(_ *Config, d *Deps) { d.StateKey = bytes.Repeat([]byte{9}, 32) })
	foreign := strings.Replace(other.link(other.post("s", "alice", body, header...).body), other.url, r.url, 1)
	state := strings.Index(a.body, `"requestState":"`) + len(`"requestState":"`)
	for what, bad := range map[string]string{"changed": link[:len(link)-4] + "AAAA", "cut": link[:len(link)-9], "empty": r.url + "/decisions/page/", "of another gateway": foreign,
		"a sealed state": r.url + "/decisions/page/" + a.body[state:strings.Index(a.body[state:], `"`)+state]} {
		if status, body := r.open(bad, "alice"); status != http.StatusGone || strings.Contains(body, "partner") {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	r.clock.stop()
	r.clock.advance(pageLife - time.Minute)
	if status, _ := r.open(link, "alice"); status != http.StatusOK {
		t.Errorf("before its end: %d", status)
	}
	r.clock.advance(time.Minute)
	if status, body := r.open(link, "alice"); status != http.StatusGone || strings.Contains(body, "partner") {
		t.Errorf("too late: %d %s", status, body)
	}
}

// TestE35_ThePageHidesNothing: names of other alphabets and hidden characters are spelled
// out, the way on is a link that says nothing of where it was, and the page does nothing
// by itself.
func TestE35_ThePageHidesNothing(t *testing.T) {
	var never atomic.Bool
	for page, want := range map[string][]string{
		"https://pаypal.example/\u202eabc?<script>alert(1)</script>": {`<p class="redirect-host" dir="ltr">xn--pypal-4ve.example</p>`, "other alphabets", "U&#43;202E", "&lt;script&gt;"},
		"https://XN--PYPAL-4VE.example:8443/":                        {`dir="ltr">xn--pypal-4ve.example:8443</p>`, "other alphabets"},
		"http://127.0.0.1:9/x":                                       {`dir="ltr">127.0.0.1:9</p>`, "not encrypted"},
		"https://accounts.bank.example.evil.test/login":              {`dir="ltr">accounts.bank.example.evil.test</p>`},
	} {
		s := at("s", needsPage(t, page, false, &never).URL)
		s.Era, s.Title = "modern", "The <b>bank</b>"
		r := newPageRig(t, []Server{s})
		body, header := modern("tools/call", `"name":"x","arguments":{}`, "x")
		status, text := r.open(r.link(r.post("s", "alice", body, header...).body), "alice")
		for _, want := range append(want, `rel="noreferrer noopener"`, "The &lt;b&gt;bank&lt;/b&gt;", "Go on only if you have just asked") {
			if status != http.StatusOK || !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing: %d %s", page, want, status, text)
			}
		}
		if strings.Contains(text, "ZgotmplZ") || strings.Contains(text, "<script") || strings.Contains(text, "refresh") || strings.Contains(text, "<form") {
			t.Errorf("%s: %s", page, text)
		}
	}
}

// TestE35_WhenAddressesGoAsTheyAre: by config, without users, without pages. One that is
// too long to be sealed into a link is refused.
func TestE35_WhenAddressesGoAsTheyAre(t *testing.T) {
	var seen atomic.Bool
	direct := sendsAway(t, "by a result", &seen)
	direct.DirectPages = true
	body, header := modern("tools/call", `"name":"x","arguments":{}`, "x")
	for name, r := range map[string]*rig{
		"by config":     newPageRig(t, []Server{direct}).rig,
		"without users": newPageRig(t, []Server{sendsAway(t, "by a result", &seen)}, func(c *Config, _ *Deps) { c.Open = true }).rig,
		"without pages": newRig(t, []Server{sendsAway(t, "by a result", &seen)}),
	} {
		if a := r.post("s", "alice", body, header...); !strings.Contains(a.body, `"url":"`+elsewhere+`"`) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	for _, n := range []int{maxPage, maxPage + 1} {
		s := at("s", needsPage(t, "https://long.example/"+strings.Repeat("x", n-len("https://long.example/")), false, &seen).URL)
		s.Era = "modern"
		r := newPageRig(t, []Server{s})
		a := r.post("s", "alice", body, header...)
		if n > maxPage {
			if strings.Contains(a.body, "decisions/page") || !strings.Contains(a.body, "too long") {
				t.Errorf("%d bytes: %d %s", n, a.status, a.body)
			}
			continue
		}
		if status, _ := r.open(r.link(a.body), "alice"); status != http.StatusOK {
			t.Errorf("%d bytes: %d", n, status)
		}
	}
}
