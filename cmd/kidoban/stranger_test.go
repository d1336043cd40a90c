package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
)

// goSpeech is what the library says and a person at a terminal need not read.
var goSpeech = []string{"open /", "stat /", "mkdir /", "read /", "dial tcp", "listen tcp", "invalid character", "looking for beginning", "goroutine", ".go:"}

// capturedOn is a packet capture with one packet that says nothing.
func capturedOn(link uint32) string {
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0)
	for _, n := range []uint32{link, 0, 0, 60, 60} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return string(append(b, make([]byte, 60)...))
}

// TestStrangerIsToldWhatToDo: wrong use and wrong surroundings end with the code
// that the README names and a sentence that says what, where and what to do.
func TestStrangerIsToldWhatToDo(t *testing.T) {
	state := t.TempDir()
	data := filepath.Join(state, "data")
	write := func(name, text string) string {
		path := filepath.Join(state, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	none, fresh := filepath.Join(state, "none"), filepath.Join(state, "fresh")
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{exitUsage, "did you mean \"gateway\"?", []string{"gatewya"}},
		{exitUsage, "kidoban gateway user --help", []string{"gateway", "user"}},
		{exitUsage, "did you mean \"user\"?\nkidoban gateway --help lists its commands", []string{"gateway", "usr"}},
		{exitUsage, "unexpected argument something\nkidoban gateway --help lists its commands", []string{"gateway", "something"}},
		{exitUsage, "there is no database at " + filepath.Join(fresh, "kidoban.db"), []string{"gateway", "backup", "--data", fresh, "--out", filepath.Join(state, "no.tar")}},
		{exitClean, filepath.Join(fresh, "kidoban.db") + " is new and empty", []string{"gateway", "user", "list", "--data", fresh}},
		{exitClean, "from " + filepath.Join(fresh, "kidoban.db"), []string{"gateway", "backup", "--data", fresh, "--out", filepath.Join(state, "yes.tar")}},
		{exitUsage, "Usage: kidoban explain <check>", []string{"explain"}},
		{exitUsage, "did you mean address?", []string{"gateway", "-c", write("typo.yaml", "servers:\n  a:\n    url: http://127.0.0.1:1/mcp\n    adress: loopback\n")}},
		{exitUsage, "docs/config.md", []string{"gateway", "-c", write("strange.yaml", "zzzzzzzz: 1\n")}},
		{exitUsage, "address: loopback", []string{"gateway", "-c", write("plain.yaml", "servers:\n  a:\n    url: http://127.0.0.1:1/mcp\n")}},
		{exitUsage, "a port up to 65535", []string{"gateway", "--data", data, "--listen", "127.0.0.1:99999"}},
		{exitUsage, "public_url", []string{"gateway", "--data", data, "--listen", "0.0.0.0:8787"}},
		{exitUsage, "no such file", []string{"gateway", "-c", none}},
		{exitUsage, "is a directory", []string{"gateway", "-c", state}},
		{exitUsage, "--listen", []string{"gateway", "--data", data, "--listen", taken.Addr().String()}},
		{exitFindings, "nobody.pem with the key " + none + " cannot be used: no such file", []string{"gateway", "check", "-c", write("tls.yaml", "tls: {cert: "+filepath.Join(state, "nobody.pem")+", key: "+none+"}\n")}},
		{exitClean, "the command \"no-such-program\" is not found here", []string{"gateway", "check", "-c", write("cmd.yaml", "servers:\n  a: {command: [no-such-program]}\n")}},
		{exitUsage, "needs a login name", []string{"gateway", "user", "add", " ", "--data", data}},
		{exitUsage, "there is no secret", []string{"vault", "set", "a", "--data", data}},
		{exitUsage, "neither a URL nor a file", []string{"tools", "scan", none}},
		{exitIncomplete, "there is no program \"no-such-program\"", []string{"tools", "scan", "no-such-program"}},
		{exitUsage, "garbage.json is not JSON (line 1, column 1)", []string{"tools", "scan", write("garbage.json", "garbage")}},
		{exitUsage, "cannot read " + none + ": no such file", []string{"tools", "diff", none, none}},
		{exitUsage, "cannot read " + state + ": is a directory", []string{"tools", "diff", state, state}},
		{exitUsage, "there is no lock file " + none + ": make one with kidoban tools pin\n", []string{"tools", "verify", none, "--lock", none}},
		{exitIncomplete, "add --lab", []string{"tools", "scan", "http://127.0.0.1:1/mcp"}},
		{exitUsage, "none of these hosts has a configuration", []string{"tools", "scan"}},
		{exitUsage, "no census", []string{"census", "report", "--dir", none}},
		{exitUsage, "not JSON", []string{"report", write("bad.json", "garbage")}},
		{exitUsage, "foreign.json cannot be read as a run", []string{"report", write("foreign.json", "{}")}},
		{exitUsage, "list.json cannot be read as a run: this is not the JSON of an audit run: array stands", []string{"diff", write("list.json", "[]"), none}},
		{exitUsage, "holds no run.json", []string{"report", state}},
		{exitUsage, "there is no directory " + none, []string{"audit", "http://127.0.0.1:1/mcp", "--lab", "--html", filepath.Join(none, "x.html")}},
		{exitUsage, "there is no directory " + none, []string{"doctor", "--self", "--html", filepath.Join(none, "x.html")}},
		{exitUsage, "is a directory", []string{"audit", "http://127.0.0.1:1/mcp", "--lab", "--json", state}},
		{exitUsage, "is a directory", []string{"audit", "--har", state}},
		{exitUsage, "it is empty", []string{"audit", "--pcap", write("empty.pcap", "")}},
		{exitUsage, "Wi-Fi in monitor mode, link type 127", []string{"audit", "--pcap", write("wifi.pcap", capturedOn(127))}},
		{exitUsage, "nothing recorded is an HTTP exchange", []string{"audit", "--pcap", write("ether.pcap", capturedOn(1))}},
		{exitUsage, "none.txt cannot be read: no such file", []string{"census", "plan", filepath.Join(state, "none.txt")}},
		{exitUsage, "give candidates", []string{"census", "plan"}},
		{exitUsage, "is a directory", []string{"census", "plan", state}},
		{exitUsage, "census plan with the same candidates", []string{"census", "run", write("no-list", "not a url\n"), "--contact", "a@b.example", "--dir", filepath.Join(state, "census")}},
		{exitUsage, "the later results: line 1", []string{"census", "diff", write("none.jsonl", ""), write("bad.jsonl", "{}")}},
		{exitIncomplete, "", []string{"doctor", "http://127.0.0.1:1/mcp"}},
	} {
		t.Run(strings.ReplaceAll(strings.Join(c.args, " "), state, "DIR"), func(t *testing.T) {
			t.Setenv("XDG_CONFIG_HOME", state)
			code, out, said := command(t, state, c.args...)
			said += out
			if code != c.code || !strings.Contains(said, c.says) {
				t.Errorf("exit %d, want %d and %q:\n%s", code, c.code, c.says, said)
			}
			for _, w := range goSpeech {
				if strings.Contains(strings.ReplaceAll(said, state, "DIR"), w) {
					t.Errorf("%q is Go's word:\n%s", w, said)
				}
			}
		})
	}
}

// TestFirstScreen: without arguments the program says what it is for, and every
// command that it names is one.
func TestFirstScreen(t *testing.T) {
	code, out, _ := command(t, t.TempDir())
	if code != exitClean || !strings.Contains(out, "kidoban gateway") || !strings.Contains(out, kidoban.Version) {
		t.Fatalf("exit %d\n%s", code, out)
	}
	for _, args := range [][]string{{"--version"}, {"version"}} {
		if code, out, _ := command(t, t.TempDir(), args...); code != exitClean || out != "kidoban "+kidoban.Version+"\n" {
			t.Errorf("%v: exit %d %q", args, code, out)
		}
	}
	code, out, _ = command(t, t.TempDir(), "gateway", "--help")
	if code != exitClean || !strings.Contains(out, "kidoban gateway -c kidoban.yaml") {
		t.Errorf("the help of the gateway does not say how to give it a config:\n%s", out)
	}
}

// TestOneGatewayOnOneDatabase: while one runs, a second is refused, and commands
// beside it are not.
func TestOneGatewayOnOneDatabase(t *testing.T) {
	conf := gatewayConfig{Data: filepath.Join(t.TempDir(), "data")}
	conf, err := conf.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	release, err := holdData(conf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holdData(conf); kidoban.KindOf(err) != kidoban.KindUsage || !strings.Contains(fmt.Sprint(err), "another gateway") {
		t.Fatalf("a second gateway: %v", err)
	}
	if code, _, said := command(t, t.TempDir(), "gateway", "user", "list", "--data", conf.Data); code != exitClean {
		t.Errorf("beside a running gateway: exit %d %s", code, said)
	}
	link := conf
	link.Data = filepath.Join(t.TempDir(), "link")
	link.Database = filepath.Join(link.Data, "kidoban.db")
	if err := errors.Join(os.WriteFile(conf.Database, nil, 0o600), os.Mkdir(link.Data, 0o700), os.Symlink(conf.Database, link.Database)); err != nil {
		t.Fatal(err)
	}
	if _, err := holdData(link); kidoban.KindOf(err) != kidoban.KindUsage {
		t.Errorf("a second gateway by another name of the file: %v", err)
	}
	if err := os.Remove(conf.Database); err != nil { // and moved away under the first
		t.Fatal(err)
	}
	if code, _, said := command(t, t.TempDir(), "gateway", "restore", "--data", conf.Data, "backup.tar"); code != exitUsage || !strings.Contains(said, "another gateway") {
		t.Errorf("a restore under a running gateway: exit %d %s", code, said)
	}
	release()
	again, err := holdData(conf)
	if err != nil {
		t.Fatalf("after the end of the first: %v", err)
	}
	again()
	conf.Database = filepath.Join(conf.Data, "made", "by", "nobody.db")
	again, err = holdData(conf)
	if err != nil {
		t.Fatalf("a database in a directory of its own: %v", err)
	}
	again()
	conf.Database = "postgres://127.0.0.1/kidoban"
	for range 2 {
		if _, err := holdData(conf); err != nil {
			t.Errorf("gateways on PostgreSQL are several: %v", err)
		}
	}
}

// TestBashCompletes: the script that is printed completes commands and flags in a
// real shell.
func TestBashCompletes(t *testing.T) {
	_, script, _ := command(t, t.TempDir(), "completion", "bash")
	for words, want := range map[string]string{
		"kidoban ga":                   "gateway",
		"kidoban gateway us":           "user",
		"kidoban gateway --conf":       "--config",
		"kidoban gateway user ad":      "add",
		"kidoban audit https://x --au": "--authorized",
		"kidoban completion ":          "",
	} {
		ask := script + fmt.Sprintf("\nIFS=' ' read -ra COMP_WORDS <<<'%s'; [[ '%s' != *' ' ]] || COMP_WORDS+=('')\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1)); cd \"$1\"; _kidoban; echo \"${COMPREPLY[*]}\"", words, words)
		out, err := exec.Command("bash", "--norc", "-c", ask, "bash", t.TempDir()).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%q: %v\n%s", words, err, out)
		}
	}
	for _, shell := range []string{"zsh", "fish"} {
		code, out, _ := command(t, t.TempDir(), "completion", shell)
		if code != exitClean || !strings.Contains(out, "--authorized") && !strings.Contains(out, "-l 'authorized'") {
			t.Errorf("%s: exit %d\n%.300s", shell, code, out)
		}
	}
}

// TestServerThatDoesNotStartSaysWhy: the person who scans a stdio server reads what
// it said before it ended, but not the secrets of its configuration.
func TestServerThatDoesNotStartSaysWhy(t *testing.T) {
	state := t.TempDir()
	file := filepath.Join(state, "mcp.json")
	if err := os.WriteFile(file, []byte(`{"mcpServers":{"broken":{"command":"sh","args":["-c","echo cannot find module >&2; echo key $KEY >&2; exit 1"],"env":{"KEY":"very-secret-value"}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, state, "tools", "scan", "--start", file)
	if said := out + errs; code != exitIncomplete || !strings.Contains(said, "key (hidden)") || strings.Contains(said, "very-secret-value") {
		t.Errorf("exit %d\n%s", code, said)
	}
}

// TestDocsCommandsAreUnderstood: every command in a block of code of the pages is
// taken by the command line as it is printed.
func TestDocsCommandsAreUnderstood(t *testing.T) {
	var pages []string
	for _, p := range []string{"../../README*.md", "../../docs/*.md", "../../docs/*/*.md"} {
		found, err := filepath.Glob(p)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	tried := 0
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range strings.Split(string(raw), "```") {
			if i%2 == 0 {
				continue
			}
			for line := range strings.Lines(block) {
				line = strings.TrimPrefix(strings.TrimSpace(line), "bin/")
				if !strings.HasPrefix(line, "kidoban ") {
					continue
				}
				if said := understood(t, line); said != "" {
					t.Errorf("%s: %s\n%s", page, line, said)
				}
				tried++
			}
		}
	}
	if tried < 40 {
		t.Errorf("%d commands were found", tried)
	}
}

// understood parses a command line as it stands in a page; "…" stands for what the
// page leaves out.
func understood(t *testing.T, line string) string {
	t.Helper()
	line, _, _ = strings.Cut(line, " #")
	line, _, _ = strings.Cut(line, " | ")
	line, _, _ = strings.Cut(line, " >")
	line, _, _ = strings.Cut(line, " <")
	line = regexp.MustCompile(`\$\([^)]*\)`).ReplaceAllString(line, "X") // what the shell puts in
	var args []string
	for i, part := range strings.Split(strings.ReplaceAll(line, "'", `"`), `"`) {
		if i%2 == 1 {
			args = append(args, part)
			continue
		}
		args = append(args, strings.Fields(part)...)
	}
	for len(args) > 0 && args[len(args)-1] == "&" {
		args = args[:len(args)-1]
	}
	e := &env{ctx: t.Context(), stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
	var c cli
	parser, err := newParser(e, &c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args[1:]); err != nil && !strings.Contains(err.Error(), "no such file") && !strings.Contains(line, "…") {
		return err.Error()
	}
	return ""
}
