package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/toolscan"
)

const wipeTool = `{"name":"wipe","description":"Removes a note.","inputSchema":{"type":"object"},"annotations":{"destructiveHint":true}}`

// TestE30_DestructiveToolsNeedTheirScopeBeforeAnyList: a client that never listed
// calls a tool that destroys with the scope for writing. The gateway lists first
// and asks for more; where the server does not list, the tool is refused.
func TestE30_DestructiveToolsNeedTheirScopeBeforeAnyList(t *testing.T) {
	o := &offer{tools: addTool + "," + wipeTool, instructions: `"x"`}
	r, _, _ := pinRig(t, TrustFirstUse, o)
	a := r.post("s", "alice", callTool("wipe"))
	if a.status != http.StatusForbidden || !strings.Contains(a.header.Get("WWW-Authenticate"), `scope="mcp:destroy"`) || o.count() != 0 {
		t.Errorf("%d %v %s, %d calls", a.status, a.header, a.body, o.count())
	}
	token := r.as.token(t, r.resource("s"), "alice", func(m map[string]any) { m["scope"] = "mcp:destroy"; m["jti"] = "more" })
	if a := r.do(http.MethodPost, r.resource("s"), callTool("wipe"), "Authorization", "Bearer "+token); a.status != http.StatusOK || o.count() != 1 {
		t.Errorf("with the scope: %d %s", a.status, a.body)
	}

	mute := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if strings.Contains(body, "tools/list") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		o.serve(w, r, body)
	})
	before := o.count()
	s := newRig(t, []Server{at("s", mute.URL)}, func(_ *Config, d *Deps) {
		d.Guards.Pins = NewPinGuard(&pinMemory{}, TrustFirstUse, toolscan.New(), nil, nil, time.Now)
	})
	if a := s.post("s", "alice", callTool("wipe")); o.count() != before || strings.Contains(a.body, "ran") {
		t.Errorf("not listed, but run: %d %s", a.status, a.body)
	}
}
