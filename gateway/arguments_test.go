package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/wire"
)

func TestGTG3_PathsStayInsideTheRoots(t *testing.T) {
	base := t.TempDir()
	root := filepath.Join(base, "data")
	for _, d := range []string{root, filepath.Join(root, "sub"), root + "_evil"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out": root + "_evil", "in": filepath.Join(root, "sub"), "gone": filepath.Join(base, "nowhere")} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	roots := []string{root}
	for _, p := range []string{root, root + "/a.txt", root + "/sub/new/deep.txt", root + "/sub/../a", "a.txt", "sub/a", "./a", root + "/in/x", "file://" + root + "/a", root + "/100%", root + "/a..b", ""} {
		if why := badPath(p, roots, ""); why != "" {
			t.Errorf("%q is refused: %s", p, why)
		}
	}
	for _, p := range []string{root + "_evil/x", root + "/../data_evil/x", "/etc/passwd", "../x", "sub/../../x", root + "/out/x", root + "/out", "out/x", root + "/gone", root + "/gone/x",
		"..%2f..%2fetc/passwd", "%252e%252e%252fx", root + "/%2e%2e/data_evil", `..\..\x`, "file:///etc/passwd", "file://localhost/etc/passwd", "~/.ssh/id_rsa", "．．／x", root + "/a\x00.txt", "FILE:///etc/passwd", " ../x", "\t/etc/passwd"} {
		if why := badPath(p, roots, ""); why == "" {
			t.Errorf("%q passes", p)
		}
	}
	for p, ok := range map[string]bool{"src/main.go": true, "/repos/a": true, "a/../../b": false, "%2e%2e/x": false} { // places unknown
		if why := badPath(p, nil, ""); (why == "") != ok {
			t.Errorf("without roots %q: %q", p, why)
		}
	}
}

func TestGTG3_URLsLeadToPublicAddressesOnly(t *testing.T) {
	g := urlGuard{resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
		if host == "rebound.example.com" {
			return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("93.184.215.14")}, nil
	}}
	for _, u := range []string{"https://example.com/x?y=z", "http://example.com", "example.com/a", "docs/readme", "test://note/1", "note://team:alpha/1", "note://42", "issue://7:3/x?y", "task://16777215", "day://2026-01-02", "redis://cache:6379/0", "git+ssh://git@github.com/a/b", "http://127.0.0.1:9999/ok", "mailto:a@example.com", ""} {
		if why := g.bad(t.Context(), u, []string{"127.0.0.1:9999"}); why != "" {
			t.Errorf("%q is refused: %s", u, why)
		}
	}
	for _, u := range []string{"http://127.0.0.1/", "http://localhost:80", "localhost:8080/x", "127.0.0.1", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://169.254.169.254/latest/meta-data/",
		"http://10.1.2.3", "//192.168.0.1/x", "file:///etc/passwd", "FILE:/etc/passwd", "gopher://127.0.0.1:6379/_x", "http://rebound.example.com/", "https://good.example@127.0.0.1/", "http://127.0.0.1:9998/", "http:\\\\127.0.0.1", "ssh://10.0.0.1/x", " http://127.0.0.1", "http:/127.0.0.1/", "http:169.254.169.254/latest", "https:////10.0.0.1/x", "HTTP:/10.0.0.1", "\x01http://127.0.0.1/", "http://127.0.0.1\x0b/", "ht\x1ftp://10.0.0.1/", "url:http://127.0.0.1/", "URL:url:http:/127.0.0.1/", "ws://2130706433/", "redis://0", "ws://16777216/", "ws://0177/", "ws://0x7f000001/", "ws://a@127.0.0.1/", "redis://LOCALHOST:6379", "ws://[::1]:80/", "///10.0.0.1/", "data:text/html,x", "http://a@127.0.0.1:9999@127.0.0.1/"} {
		if why := g.bad(t.Context(), u, []string{"127.0.0.1:9999"}); why == "" {
			t.Errorf("%q passes", u)
		}
	}
}

func TestGTG3_SQLIsOnePlainStatement(t *testing.T) {
	for _, q := range []string{"SELECT 1", "select * from t where a = 'x;y' and b = 'it''s -- fine';", "WITH a AS (SELECT 1) SELECT * FROM a", "explain select 1", `select "end", begin, reset from "t;x"`,
		"select case when a then 1 else 2 end from t", "select data->>'k', data #>> '{a,b}' from t for update", "SELECT count(*) FROM updates WHERE set_id = $1", "(select 1) union (select 2)", "SELECT '--' || '/*' AS x", "pragma table_info(users)", "PRAGMA main.index_list('t')", "pragma journal_mode", `select "into" from t`, `select count(*) from "pg_read_file"`, "select [dbo].[fn](1)", "select u & 1 from t", "SHOW CREATE TABLE users", "show create table `t`;"} {
		if why := badSQL(q, true); why != "" {
			t.Errorf("%q is refused: %s", q, why)
		}
	}
	for _, q := range []string{"COMMIT; DROP TABLE t", "select 1; select 2", "COMMIT", " rollback", "SELECT 1 -- x", "SELECT /* x */ 1", "DELETE FROM t", "with x as (delete from t returning *) select * from x", "explain analyze insert into t values (1)",
		`select 'a\'; drop table t; select '`, "select $$a'$$; drop table t; --$$", "select 'open", "set transaction read write", "select pg_read_file('/etc/passwd')", "select lo_export(1, '/x')", "select 1 into outfile '/x'", "select 1 #>'\n; drop table t; select '", "pragma writable_schema = 1", "pragma writable_schema(1)", "PRAGMA main.journal_mode(delete)", "pragma optimize", "select * into copied from users", "select *\ninto copied from users", "table users into x",
		`select "pg_read_file"('/etc/passwd')`, "select `load_extension` ('x')", "select [load_extension]('x')", `select U&"pg\005fread_file"('/etc/passwd')`, "select setval('s', 1)", "select writefile('/x', 'y')", "select pg_ls_waldir()", "select * from openrowset('x', 'y', 'z')", "select utl_http.request('http://x') from dual", "show create table t; drop table t", "show x union select pg_read_file('/x')", "select `; drop table t; `"} {
		if why := badSQL(q, true); why == "" {
			t.Errorf("%q passes", q)
		}
	}
	if badSQL("insert into t values (1)", false) != "" || badSQL("insert into t values (1); drop table t", false) != "stacked" {
		t.Error("a tool that writes may write, one statement at a time")
	}
}

func TestGTG3_ShellCharactersAreNoNames(t *testing.T) {
	for _, v := range []string{"I5666:180910;1:10515;1:10336", "abc123", "feature/x-1", "user@example.com", "a.b_c-d", "O'Brien", "R&D", "acme/repo", "v1.2.3", "a (b)"} {
		if badToken(v) != "" {
			t.Errorf("%q is refused", v)
		}
	}
	for _, v := range []string{"$(touch x)", "`id`", "a;rm -rf x", "a && b", "a || b", "a|sh", "a > b", `x"; touch y; "`, "a\nb", "${IFS}", "a; /bin/sh", "a'; id; '"} {
		if badToken(v) == "" {
			t.Errorf("%q passes", v)
		}
	}
	if badCommand("ls -la /tmp") != "" || badCommand("ls; id") == "" || badCommand("ls & id") == "" {
		t.Error("command")
	}
}

// argRig is a gateway before one tool with a given schema.
func argRig(t *testing.T, schema string, rules ArgumentRules) (*rig, *raw) {
	s := newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if strings.Contains(body, "tools/list") {
			result(w, body, `{"tools":[{"name":"t","inputSchema":`+schema+`}]}`)
			return
		}
		result(w, body, `{"content":[]}`)
	})
	up := at("s", s.URL)
	up.Arguments = rules
	r := newRig(t, []Server{up}, func(_ *Config, d *Deps) { d.Guards.Arguments = NewArgumentGuard(nil, nil) })
	r.post("s", "alice", listTools)
	return r, s
}

func withArgs(args string) string {
	return `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"t","arguments":` + args + `}}`
}

const argsSchema = `{"type":"object","properties":{"n":{"type":"integer"},"s":{"type":"string"},"tenant":{"type":"string"},"link":{"type":"string","format":"uri"},"list":{"type":"array","items":{"type":"object","properties":{"file_path":{"type":"string"}}}}},"required":["n"]}`

// TestGTG3_ArgumentsFitThePinnedSchema, and go on as the bytes they came in.
func TestGTG3_ArgumentsFitThePinnedSchema(t *testing.T) {
	r, s := argRig(t, argsSchema, ArgumentRules{})
	good := `{ "n": 12345678901234567890, "s":"é\u00e9" }`
	if a := r.post("s", "alice", withArgs(good)); a.status != 200 || !strings.Contains(s.last().body, `"arguments":`+good) {
		t.Errorf("%s: %s", a.body, s.last().body)
	}
	n := s.count()
	for args, want := range map[string]string{`{}`: sayNoFit, `{"n":"1"}`: sayNoFit, `{"n":1.5}`: sayNoFit, `{"n":1,"extra":2}`: sayUndeclared,
		`{"n":1,"link":"http://127.0.0.1/"}`: sayKind[ArgURL], `{"n":1,"list":[{"file_path":"../../x"}]}`: sayKind[ArgPath]} {
		a := r.post("s", "alice", withArgs(args))
		if code, say := a.rpc(t); code != wire.CodeInvalidParams || say != want {
			t.Errorf("%s: %d %q", args, code, say)
		}
	}
	if s.count() != n {
		t.Error("a refused call reached the server")
	}
}

// TestGTG3_UndeclaredAreDroppedAndFixedAreSet by config.
func TestGTG3_UndeclaredAreDroppedAndFixedAreSet(t *testing.T) {
	r, s := argRig(t, argsSchema, ArgumentRules{Undeclared: UndeclaredDrop, Fixed: map[string]wire.Raw{"t.tenant": wire.Raw(`"acme"`)}})
	r.post("s", "alice", withArgs(`{"n":1,"tenant":"evil","cc":"x@example.com"}`))
	if b := s.last().body; !strings.Contains(b, `"arguments":{"n":1,"tenant":"acme"}`) {
		t.Error(b)
	}
	r.post("s", "alice", withArgs(`{"n":1,`+manyMembers(3000)+`"cc":"x@example.com"}`))
	if b := s.last().body; !strings.Contains(b, `"arguments":{"n":1,"tenant":"acme"}`) {
		t.Errorf("behind 3000 others some pass: %.200s", b)
	}
}

// TestTR17_StatesOfArgumentsThatGuardsChange: a question is answered by the same call as
// the client made it, whatever became of its arguments on the way.
func TestTR17_StatesOfArgumentsThatGuardsChange(t *testing.T) {
	s := newRaw(t, func(w http.ResponseWriter, _ *http.Request, body string) {
		switch {
		case strings.Contains(body, "tools/list"):
			result(w, body, `{"resultType":"complete","tools":[{"name":"t","inputSchema":`+argsSchema+`}],"ttlMs":0,"cacheScope":"private"}`)
		case strings.Contains(body, "inputResponses"):
			result(w, body, `{"resultType":"complete","content":[]}`)
		default:
			result(w, body, `{"resultType":"input_required","supportedVersions":["2026-07-28"],"inputRequests":{"a":{"method":"elicitation/create","params":{}}},"requestState":"its-own"}`)
		}
	})
	up := at("s", s.URL)
	up.Era, up.Arguments = "modern", ArgumentRules{Undeclared: UndeclaredDrop, Fixed: map[string]wire.Raw{"t.tenant": wire.Raw(`"acme"`)}}
	r := newRig(t, []Server{up}, func(_ *Config, d *Deps) { d.Guards.Arguments = NewArgumentGuard(nil, nil) })
	body, header := modern("tools/list", "", "")
	r.post("s", "alice", body, header...)
	call := func(more string) answer {
		body, header := modern("tools/call", `"name":"t","arguments":{"n":1,"tenant":"evil","cc":"x@example.com"}`+more, "t")
		return r.post("s", "alice", body, header...)
	}
	var m struct{ Result struct{ RequestState string } }
	if a := call(""); json.Unmarshal([]byte(a.body), &m) != nil || m.Result.RequestState == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := call(`,"inputResponses":{"a":{"action":"accept"}},"requestState":"` + m.Result.RequestState + `"`); a.status != http.StatusOK || !strings.Contains(a.body, "content") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if b := s.last().body; !strings.Contains(b, `"arguments":{"n":1,"tenant":"acme"}`) || !strings.Contains(b, `"requestState":"its-own"`) {
		t.Error(b)
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"m%d":0,`, i)
	}
	return b.String()
}

// TestGTG3_FixedParametersHaveOneSpelling: servers that do not mind the case of a
// member would take the model's value where the operator fixed one.
func TestGTG3_FixedParametersHaveOneSpelling(t *testing.T) {
	r, s := argRig(t, `{"type":"object","additionalProperties":true}`, ArgumentRules{Fixed: map[string]wire.Raw{"t.tenant": wire.Raw(`"acme"`)}})
	n := s.count()
	for _, args := range []string{`{"tenant":"x","TENANT":"evil"}`, `{"Tenant":"evil"}`, `{"t\u0045nant":"evil"}`} {
		if code, say := r.post("s", "alice", withArgs(args)).rpc(t); code != wire.CodeInvalidParams || say != sayUndeclared {
			t.Errorf("%s: %d %q", args, code, say)
		}
	}
	if s.count() != n {
		t.Error("a refused call reached the server")
	}
	if r.post("s", "alice", withArgs(`{"t\u0065nant":"evil","x":1}`)); !strings.Contains(s.last().body, `:"acme","x":1}`) {
		t.Error(s.last().body)
	}
}

// TestGTG3_KeysOfMapsAreArguments: "files": {path: content} names files in its keys.
func TestGTG3_KeysOfMapsAreArguments(t *testing.T) {
	r, s := argRig(t, `{"type":"object","properties":{"files":{"type":"object","additionalProperties":{"type":"string"}},"labels":{"type":"object"}}}`, ArgumentRules{})
	if a := r.post("s", "alice", withArgs(`{"files":{"src/a.go":"package a"},"labels":{"../x":"y"}}`)); a.status != 200 || !strings.Contains(s.last().body, "package a") {
		t.Errorf("%s", a.body)
	}
	if _, say := r.post("s", "alice", withArgs(`{"files":{"../../etc/cron.d/x":"* * * * *"}}`)).rpc(t); say != sayKind[ArgPath] {
		t.Errorf("%q", say)
	}
}

// TestGTG3_ModesAndKindsAreTheOperators: off, flag, and another kind.
func TestGTG3_ModesAndKindsAreTheOperators(t *testing.T) {
	for name, rules := range map[string]ArgumentRules{"off": {Modes: map[ArgKind]Mode{ArgURL: ModeOff}}, "flag": {Modes: map[ArgKind]Mode{ArgURL: ModeFlag}}, "text": {Kinds: map[string]ArgKind{"t.link": ArgText}}, "host": {Hosts: []string{"127.0.0.1"}}} {
		r, s := argRig(t, argsSchema, rules)
		if r.post("s", "alice", withArgs(`{"n":1,"link":"http://127.0.0.1/"}`)); !strings.Contains(s.last().body, "127.0.0.1") {
			t.Errorf("%s: %s", name, s.last().body)
		}
	}
	r, _ := argRig(t, argsSchema, ArgumentRules{Kinds: map[string]ArgKind{"s": ArgCommand}})
	if _, say := r.post("s", "alice", withArgs(`{"n":1,"s":"a|b"}`)).rpc(t); say != sayKind[ArgCommand] {
		t.Error(say)
	}
}

// TestGTG3_HostileSchemasAreBounded: references outwards, to themselves, and
// ones that double.
func TestGTG3_HostileSchemasAreBounded(t *testing.T) {
	double := `{"$ref":"#/$defs/d0","$defs":{"end":{}`
	for i := range 40 {
		next := `"#/$defs/end"`
		if i < 39 {
			next = `"#/$defs/d` + string(rune('0'+(i+1)/10)) + string(rune('0'+(i+1)%10)) + `"`
		}
		name := "d" + string(rune('0'+i/10)) + string(rune('0'+i%10))
		if i == 0 {
			name = "d0"
		}
		double += `,"` + name + `":{"allOf":[{"$ref":` + next + `},{"$ref":` + next + `}]}`
	}
	double += `}}`
	for name, schema := range map[string]string{"self": `{"$ref":"#"}`, "network": `{"$ref":"https://127.0.0.1:1/x"}`, "file": `{"$ref":"file:///etc/passwd"}`, "double": double,
		"tree": `{"properties":{"a":{"allOf":[{"$ref":"#"},{"$ref":"#"}]}}}`} {
		started := time.Now()
		args := `{}`
		if name == "tree" {
			args = strings.Repeat(`{"a":`, 60) + `{}` + strings.Repeat(`}`, 60)
		}
		s, err := newArgSchema(wire.Raw(schema))
		if err == nil {
			v := any(map[string]any{})
			for range 60 {
				v = map[string]any{"a": v}
			}
			err = s.validate(v)
		}
		if err == nil {
			t.Errorf("%s: accepted %s", name, args)
		}
		if d := time.Since(started); d > 20*time.Second {
			t.Errorf("%s took %v", name, d)
		}
	}
	if s, err := newArgSchema(wire.Raw(`{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"a":{"type":"string","pattern":"^(?!x)"}}}`)); err != nil || s.validate(map[string]any{"a": "b"}) != nil {
		t.Errorf("an honest older schema: %v", err)
	}
}

func FuzzGTG3Guards(f *testing.F) {
	for _, s := range []string{"../x", "http://127.0.0.1", "select 1; drop", "%2e%2e", "file:", "a:b", "//", "'", "\\", "#>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		g := urlGuard{resolve: func(context.Context, string) ([]netip.Addr, error) { return nil, nil }}
		g.bad(t.Context(), s, nil)
		badSQL(s, true)
		badToken(s)
		root := "/srv/data"
		if badPath(s, []string{root}, root) == "" && filepath.IsAbs(s) && !within(filepath.Clean(s), []string{root}) {
			t.Errorf("%q leads out of the root", s)
		}
	})
}
