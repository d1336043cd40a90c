package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kidoban/kidoban/authserver"
)

// invoke runs the program and returns its output and exit code.
func invoke(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(&env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: &o, stderr: &e}, args)
	return o.String(), e.String(), code
}

func putText(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestGTG5_TheGuardPagesExample: the config and the Cedar file of the guide are
// what the program takes, and the rules compile to Cedar.
func TestGTG5_TheGuardPagesExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/guard.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(language string) string {
		_, rest, ok := strings.Cut(string(page), "```"+language+"\n")
		text, _, end := strings.Cut(rest, "```")
		if !ok || !end {
			t.Fatalf("the page has no %s", language)
		}
		return text
	}
	dir := t.TempDir()
	config := putText(t, filepath.Join(dir, "kidoban.yaml"), block("yaml"))
	putText(t, filepath.Join(dir, "policy.cedar"), block("cedar"))
	out, errs, code := invoke(t, "gateway", "check", "-c", config)
	if code != exitClean || strings.Contains(out, "error [") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	for _, want := range []string{`no server "mail"`, `no server "files"`, `no server "bank"`} { // the example is a part of a config
		if !strings.Contains(out, want) {
			t.Errorf("the check does not say %s:\n%s", want, out)
		}
	}
	out, _, code = invoke(t, "gateway", "policy", "-c", config)
	if code != exitClean {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{`@id("default-permit")`, `@id("default-flow-send")`, `@id("rule-1")`, `@id("own-repositories")`, `resource["name"] like "delete_*"`} {
		if !strings.Contains(strings.ReplaceAll(out, "resource.name", `resource["name"]`), want) {
			t.Errorf("the printed policy lacks %s:\n%s", want, out)
		}
	}
}

// TestGTG5_CheckNamesFaultsOfThePolicy with file, line and column.
func TestGTG5_CheckNamesFaultsOfThePolicy(t *testing.T) {
	dir := t.TempDir()
	putText(t, filepath.Join(dir, "bad.cedar"), "permit (principal, action, resource);\n\nforbid (principal, action, resource) when { context.argumnets has x };\n")
	config := putText(t, filepath.Join(dir, "kidoban.yaml"), "policy:\n  files: [bad.cedar]\n  rules:\n    - deny: [shell]\n")
	out, _, code := invoke(t, "gateway", "check", "-c", config)
	if code != exitFindings || !strings.Contains(out, "bad.cedar:3:1: context has no \"argumnets\"") || !strings.Contains(out, `"shell" is no pattern`) {
		t.Errorf("exit %d\n%s", code, out)
	}
	if _, errs, code := invoke(t, "gateway", "policy", "-c", config); code == exitClean || !strings.Contains(errs, "argumnets") {
		t.Errorf("exit %d %s", code, errs)
	}
}

// TestGTG5_ThePolicyIsReloadedWhileItRuns: a changed Cedar file counts within
// seconds; a faulty one leaves the old policy in force.
func TestGTG5_ThePolicyIsReloadedWhileItRuns(t *testing.T) {
	up, _ := echoServer(t)
	dir := t.TempDir()
	own := putText(t, filepath.Join(dir, "own.cedar"), "// nothing yet\n")
	g := startGateway(t, "policy: {files: ["+own+"]}\nservers:\n  echo:\n    url: "+up+"\n    address: loopback\n")
	g.setUp()
	one := g.url + "/s/echo/mcp"
	token := g.token(one, "mcp:write")
	listed := func() int {
		s := g.connect(one, token)
		defer s.Close()
		l, err := s.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(l.Tools)
	}
	if listed() != 1 {
		t.Fatal("the tool is not there")
	}
	putText(t, own, `@id("no-echo") forbid (principal, action, resource == Tool::"echo/echo");`)
	taken := func(n int) func() bool {
		return func() bool { return strings.Count(g.stderr.String(), "the changed config is in force") == n }
	}
	waitFor(t, taken(1))
	if listed() != 0 {
		t.Error("the changed policy is not in force")
	}
	putText(t, own, `@id("no-echo") forbid (principal, action, resource == Tool::"echo/echo"`)
	waitFor(t, func() bool { return strings.Contains(g.stderr.String(), "the old one stays in force") })
	if listed() != 0 {
		t.Error("a faulty policy opened what was closed")
	}
	putText(t, own, "")
	waitFor(t, taken(2))
	if listed() != 1 {
		t.Error("the tool does not come back")
	}
}

// TestGTG1_PinsCommand: list, diff, approve and reject beside a gateway.
func TestGTG1_PinsCommand(t *testing.T) {
	tool := `{"name":"add","description":"Adds two numbers.","inputSchema":{"type":"object"}},{"name":"sub","description":"Subtracts.","inputSchema":{"type":"object"}}`
	up, _ := toolServer(t, func() string { return tool })
	d := newDecisionRig(t, "servers:\n  calc:\n    url: "+up+"\n    address: loopback\n")
	ann := d.user("ann", true)
	calc := d.url + "/s/calc/mcp"
	token := ann.token(calc, "mcp:write")
	list := func() string { return d.post(calc, token, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`) }
	list()
	tool = strings.Replace(tool, "two numbers", "two whole numbers", 1) + `,{"name":"mul","description":"Multiplies.","inputSchema":{"type":"object"}}`
	list()
	pins := func(args ...string) (string, int) {
		out, errs, code := invoke(t, append(append([]string{"gateway", "pins"}, args...), "--data", d.s.conf.Data)...)
		return out + errs, code
	}
	if out, code := pins("list", "--held"); code != exitClean || strings.Count(out, "held") != 2 || !strings.Contains(out, "changed") || !strings.Contains(out, "new") {
		t.Errorf("list: %d\n%s", code, out)
	}
	if out, code := pins("list", "--json"); code != exitClean || strings.Count(out, `"SHA256"`) != 4 {
		t.Errorf("list --json: %d\n%s", code, out)
	}
	if out, code := pins("diff", "calc", "add"); code != exitClean || !strings.Contains(out, "{+whole +}") || !strings.Contains(out, "reworded") {
		t.Errorf("diff: %d\n%s", code, out)
	}
	if out, code := pins("approve", "calc"); code != exitUsage || !strings.Contains(out, "--all") {
		t.Errorf("approve without a name: %d\n%s", code, out)
	}
	if out, code := pins("approve", "calc", "add"); code != exitClean || !strings.Contains(out, "approved: calc tool add") {
		t.Errorf("approve: %d\n%s", code, out)
	}
	waitFor(t, func() bool { return strings.Contains(list(), "two whole numbers") })
	if out, code := pins("reject", "calc", "sub"); code != exitClean || !strings.Contains(out, "rejected: calc tool sub") {
		t.Errorf("reject: %d\n%s", code, out)
	}
	waitFor(t, func() bool { return !strings.Contains(list(), "Subtracts") })
	if out, code := pins("approve", "calc", "--all"); code != exitClean || !strings.Contains(out, "mul") {
		t.Errorf("approve --all: %d\n%s", code, out)
	}
	waitFor(t, func() bool { return strings.Contains(list(), "Multiplies") })
	if out, code := pins("approve", "calc", "nothing"); code == exitClean || !strings.Contains(out, "nothing there waits") {
		t.Errorf("nothing to approve: %d\n%s", code, out)
	}
}

// TestGTG5_TheBarrierHoldsOnAllReplicas: what was read through one process bars
// sending through another.
func TestGTG5_TheBarrierHoldsOnAllReplicas(t *testing.T) {
	up, _ := toolServer(t, func() string {
		return `{"name":"list_mails","description":"Lists the inbox.","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}},{"name":"send_mail","description":"Sends.","inputSchema":{"type":"object"}}`
	})
	database := filepath.Join(t.TempDir(), "shared.db")
	replica := func() func(tool string) bool {
		g, err := openIncidentGateway(t.Context(), map[string]string{"mail": up}, "block", database)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.close)
		d := &decisionRig{t: t, url: g.url}
		return func(tool string) bool {
			return strings.Contains(d.post(g.address("mail"), g.token("mail"), toolCall(tool, `{}`)), `"ran"`)
		}
	}
	a, b := replica(), replica()
	if !b("send_mail") {
		t.Fatal("nothing was read, and sending is barred")
	}
	if !a("list_mails") {
		t.Fatal("reading is barred")
	}
	if b("send_mail") {
		t.Error("the other replica sends")
	}
}

// TestGTG5_NamesThatOthersChooseAreToldOf: gateway check warns of rules that name
// people by what whoever runs a tenant writes, or by what nobody is called.
func TestGTG5_NamesThatOthersChooseAreToldOf(t *testing.T) {
	entra := func(tenant, claim string) authserver.Provider {
		return authserver.Provider{ID: "entra", Issuer: "https://login.microsoftonline.com/" + tenant + "/v2.0", NameClaim: claim}
	}
	byAddress := policyConfig{Groups: map[string][]string{"ops": {"ann@corp.example"}}}
	byObject := policyConfig{Rules: []ruleConfig{{Deny: []string{"*/x"}, Users: []string{"33333333-3333-3333-3333-333333333333@11111111-1111-1111-1111-111111111111"}}}}
	for name, c := range map[string]struct {
		p    policyConfig
		x    authserver.Provider
		want string
	}{
		"addresses at an open issuer":   {byAddress, entra("common", "preferred_username"), "whoever runs a tenant"},
		"e-mail at an open issuer":      {byObject, entra("organizations", "email"), "whoever runs a tenant"},
		"addresses that nobody has":     {byAddress, entra("common", ""), "are called by their object"},
		"objects":                       {byObject, entra("common", ""), ""},
		"addresses in the own tenant":   {byAddress, entra("11111111-1111-1111-1111-111111111111", "preferred_username"), ""},
		"addresses at another provider": {byAddress, authserver.Provider{ID: "corp", Issuer: "https://idp.example"}, ""},
	} {
		got := strings.Join(c.p.nameFaults([]authserver.Provider{c.x}), " ")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestGTG5_CheckKnowsGroupsOfProviders: a group that a provider names is one, one that
// nobody can be in is told of, in rules and in files, and none is filled from two sides.
func TestGTG5_CheckKnowsGroupsOfProviders(t *testing.T) {
	dir := t.TempDir()
	provider := func(more string) string {
		return "login:\n  providers: [{id: corp, name: Corp, issuer: https://idp.example.com, client_id: x" + more + "}]\n"
	}
	const rule = "policy:\n  rules: [{deny: [\"a/*\"], groups: [\"corp:engineering\"]}]\n"
	cedar := putText(t, filepath.Join(dir, "p.cedar"), `forbid (principal in Group::"crop:contractors", action, resource);`)
	for name, c := range map[string]struct {
		config, says string
		code         int
	}{
		"named by the provider": {provider(", groups_claim: groups") + rule, "", exitClean},
		"it reads none":         {provider("") + rule, "nobody is in the group corp:engineering: set groups_claim of login provider corp", exitClean},
		"no such provider":      {rule, "there is no group corp:engineering", exitClean},
		"a typing error":        {provider(", groups_claim: groups") + "policy: {files: [" + cedar + "]}\n", "there is no group crop:contractors", exitClean},
		"from two sides":        {provider(", groups_claim: groups") + "policy:\n  groups: {\"corp:engineering\": [ann]}\n", `the group "corp:engineering" is login provider corp's to fill`, exitFindings},
		"by hand, as ever":      {provider("") + "policy:\n  groups: {\"corp:engineering\": [ann]}\n  rules: [{deny: [\"a/*\"], groups: [\"corp:engineering\"]}]\n", "", exitClean},
	} {
		out, errs, code := invoke(t, "gateway", "check", "-c", putText(t, filepath.Join(dir, "c.yaml"), c.config))
		if code != c.code || !strings.Contains(out+errs, c.says) || c.says == "" && strings.Contains(out, "group") {
			t.Errorf("%s: exit %d\n%s%s", name, code, out, errs)
		}
	}
}
