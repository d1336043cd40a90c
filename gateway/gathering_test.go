package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kidoban/kidoban/toolscan"
)

// twoPages is a legacy server of tools alone, whose list has two pages. The second one
// comes as how says: "whole", "error" for a refusal, "broken" for a fault. asked hears of
// each question for the first one.
type twoPages struct {
	*raw
	how atomic.Value
}

func newTwoPages(t *testing.T, asked ...func(*http.Request)) *twoPages {
	p := &twoPages{}
	p.how.Store("whole")
	p.raw = newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case strings.Contains(body, `"initialize"`):
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`)
		case strings.Contains(body, `"cursor":"2"`):
			switch p.how.Load() {
			case "whole":
				result(w, body, `{"tools":[{"name":"late","inputSchema":{"type":"object"}}]}`)
			case "error":
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"no more"}}`, idOf(body))
			default:
				w.WriteHeader(http.StatusInternalServerError)
			}
		case strings.Contains(body, "tools/list"):
			for _, tell := range asked {
				tell(r)
			}
			result(w, body, `{"tools":[{"name":"early","inputSchema":{"type":"object"}}],"nextCursor":"2"}`)
		case strings.Contains(body, "tools/call"):
			result(w, body, `{"content":[{"type":"text","text":"ran"}]}`)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	return p
}

// asked counts the requests whose body holds a text.
func (s *raw) asked(text string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.seen {
		if strings.Contains(x.body, text) {
			n++
		}
	}
	return n
}

// all asks the aggregate for a list.
func (r *rig) all(method string, change func(map[string]any)) string {
	r.t.Helper()
	return r.do(http.MethodPost, r.url+"/mcp", `{"jsonrpc":"2.0","id":2,"method":"`+method+`","params":{}}`, "Authorization", "Bearer "+r.as.token(r.t, r.url+"/mcp", "alice", change)).body
}

// TestGPX3_APartOfAListNamesItsServer: of a server that ends in the middle of its list
// the aggregate lists what came and says so. Until that is over it alone is asked again,
// and what the others listed gets no younger by that.
func TestGPX3_APartOfAListNamesItsServer(t *testing.T) {
	half, whole := newTwoPages(t), newTwoPages(t)
	one, two := at("half", half.URL), at("whole", whole.URL)
	one.Era, two.Era, one.Failures = "legacy", "legacy", 100
	var ck stoppable
	r := newRig(t, []Server{one, two}, generous, func(_ *Config, d *Deps) { d.Now = ck.now })
	ck.stop()
	for i, step := range []struct {
		how         string
		later       time.Duration
		half, whole int // how often each was asked for its first page
	}{
		{"error", 0, 1, 1},
		{"error", listFresh / 2, 2, 1},
		{"whole", 0, 3, 1},
		{"whole", 0, 3, 1},
		{"whole", listFresh - listFresh/2, 4, 2},
		{"whole", listFresh - 1, 4, 2},
		{"whole", 1, 5, 3},
		{"broken", listFresh, 6, 4},
	} {
		half.how.Store(step.how)
		ck.advance(step.later)
		list := r.all("tools/list", nil)
		if !strings.Contains(list, `"half__early"`) || strings.Contains(list, `"half__late"`) != (step.how == "whole") || !strings.Contains(list, `"whole__early"`) || !strings.Contains(list, `"whole__late"`) ||
			strings.Contains(list, `"kidoban/missing":["half"]`) != (step.how != "whole") {
			t.Errorf("%d, %s: %s", i, step.how, list)
		}
		if a, b := half.asked(`"tools/list","params":{}`), whole.asked(`"tools/list","params":{}`); a != step.half || b != step.whole {
			t.Errorf("%d, %s: the servers were asked %d and %d times", i, step.how, a, b)
		}
	}
	if list := r.all("prompts/list", nil); !strings.Contains(list, `"prompts":[]`) || strings.Contains(list, "missing") || half.asked("prompts/list") != 0 {
		t.Errorf("what no server has: %s", list)
	}
}

// TestGPX3_ACursorThatComesTwiceEndsTheList: a server whose pages go round is asked for
// no page twice.
func TestGPX3_ACursorThatComesTwiceEndsTheList(t *testing.T) {
	up := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		next := "a"
		switch {
		case strings.Contains(body, `"initialize"`):
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`)
			return
		case strings.Contains(body, `"cursor":"a"`):
			next = "b"
		case !strings.Contains(body, "tools/list"):
			w.WriteHeader(http.StatusAccepted)
			return
		}
		result(w, body, `{"tools":[{"name":"before_`+next+`","inputSchema":{"type":"object"}}],"nextCursor":"`+next+`"}`)
	})
	s := at("s", up.URL)
	s.Era = "legacy"
	r := newRig(t, []Server{s})
	list := r.all("tools/list", nil)
	if !strings.Contains(list, `"s__before_a"`) || !strings.Contains(list, `"s__before_b"`) || !strings.Contains(list, `"kidoban/missing":["s"]`) {
		t.Error(list)
	}
	if n := up.asked("tools/list"); n != 3 {
		t.Errorf("the server was asked %d times", n)
	}
}

// TestGPX5_AListIsOfWhatTheTokenReaches: two tokens of one user and client with other
// scopes have other lists, however young the list of the other is.
func TestGPX5_AListIsOfWhatTheTokenReaches(t *testing.T) {
	up := newTwoPages(t)
	open, closed := at("open", up.URL), at("closed", up.URL)
	open.Era, closed.Era, closed.Scopes = "legacy", "legacy", []string{"mcp:destroy"}
	r := newRig(t, []Server{open, closed})
	for i, scope := range []string{"mcp:write", "mcp:destroy", "mcp:write"} {
		list := r.all("tools/list", func(m map[string]any) { m["scope"] = scope })
		if !strings.Contains(list, `"open__early"`) || strings.Contains(list, `"closed__early"`) != (scope == "mcp:destroy") {
			t.Errorf("%d, %s: %s", i, scope, list)
		}
	}
}

// TestGTG1_ToolsOfEveryPageCanBeCalled: the aggregate reads a list page by page, and
// what an earlier page defined is not forgotten with the last.
func TestGTG1_ToolsOfEveryPageCanBeCalled(t *testing.T) {
	up := newTwoPages(t)
	s := at("s", up.URL)
	s.Era = "legacy"
	r := newRig(t, []Server{s}, func(_ *Config, d *Deps) {
		d.Guards.Pins = NewPinGuard(&pinMemory{}, "", toolscan.New(), nil, nil, time.Now)
	})
	if list := r.all("tools/list", nil); !strings.Contains(list, `"s__early"`) || !strings.Contains(list, `"s__late"`) {
		t.Fatal(list)
	}
	for _, tool := range []string{"early", "late"} {
		if a := r.post("s", "alice", callTool(tool)); !strings.Contains(a.body, "ran") {
			t.Errorf("%s: %d %s", tool, a.status, a.body)
		}
	}
}

// TestTR14_TR15_ListsOfAllInEachEra: the members of the later era are in the lists that
// the gateway gathers for it, and in no others.
func TestTR14_TR15_ListsOfAllInEachEra(t *testing.T) {
	s := at("s", newTwoPages(t).URL)
	s.Era = "legacy"
	r := newRig(t, []Server{s})
	body, header := modern("tools/list", "", "")
	young := r.do(http.MethodPost, r.url+"/mcp", body, append(header, "Authorization", "Bearer "+r.as.token(t, r.url+"/mcp", "alice", nil))...).body
	old := r.all("tools/list", nil)
	for _, member := range []string{`"resultType":"complete"`, `"ttlMs":0`, `"cacheScope":"private"`} {
		if !strings.Contains(young, member) || strings.Contains(old, member) || !strings.Contains(old, `"s__early"`) {
			t.Errorf("%s: %s and %s", member, young, old)
		}
	}
}
