package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/sandbox"
	"github.com/kidoban/kidoban/toolscan"
)

// stdioFlags say how a stdio server may be started. Without a word from the
// user none is.
type stdioFlags struct {
	Start   bool     `help:"Start stdio servers without asking (in the sandbox all the same)."`
	Runner  string   `help:"How stdio servers are boxed in: box, docker, podman or none." enum:"box,docker,podman,none" default:"box"`
	Network bool     `help:"Let stdio servers reach the network (npx and uvx fetch their package)."`
	Read    []string `help:"Directories a stdio server may read; repeatable." type:"existingdir" placeholder:"DIR"`
	Image   string   `help:"Image for docker and podman." placeholder:"IMAGE"`
}

// session is a running stdio server.
type session struct {
	in     io.WriteCloser
	out    io.ReadCloser
	closer func() error
	tail   func() []byte // the last of its standard error
}

// starter starts a stdio server; the sandbox is the only one.
type starter interface {
	start(ctx context.Context, en *toolscan.Entry) (*session, error)
}

// boxed starts servers in the sandbox.
type boxed struct {
	host  *sandbox.Host
	flags stdioFlags
}

func (b boxed) start(ctx context.Context, en *toolscan.Entry) (*session, error) {
	net := sandbox.NetworkNone
	if b.flags.Network {
		net = sandbox.NetworkOut
	}
	spec := sandbox.Spec{Name: boxName(en.Name), Runner: sandbox.Runner(b.flags.Runner), Command: en.Command, Args: en.Args,
		Read: b.flags.Read, Network: net, Image: b.flags.Image}
	for k, v := range en.Env {
		spec.Env = append(spec.Env, k+"="+v)
	}
	p, err := b.host.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	return &session{in: p.Stdin, out: p.Stdout, closer: p.Close, tail: func() []byte { return unspoken(p.Tail(), en.Env) }}, nil
}

// boxName makes a name the sandbox takes.
func boxName(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if b.Len() > 0 {
			b.WriteByte('-')
		}
		if b.Len() >= 40 {
			break
		}
	}
	if name := strings.Trim(b.String(), "-"); name != "" {
		return name
	}
	return "server"
}

// stdio asks, starts the server in the sandbox and lists what it offers.
func (c toolSources) stdio(ctx context.Context, e *env, g *gathered, en *toolscan.Entry) (*toolscan.Server, error) {
	if filepath.Base(en.Command) == en.Command {
		if _, err := exec.LookPath(en.Command); errors.Is(err, exec.ErrNotFound) {
			return nil, kidoban.Errorf(kidoban.KindNotFound, "there is no program %.100q on this machine's path, and no file of that name here", en.Command)
		}
	} else if _, err := exec.LookPath(en.Command); errors.Is(err, os.ErrNotExist) {
		return nil, kidoban.Errorf(kidoban.KindNotFound, "there is no program %.200q", en.Command)
	}
	if !c.Start && !g.ask(e, fmt.Sprintf("Start %s in the sandbox?\n  %s\n", toolscan.Visible(en.Name, 60), en.CommandLine())) {
		return nil, kidoban.Errorf(kidoban.KindRefused, "not started, so what it offers was not read; answer y, or give --start")
	}
	host := sandbox.NewHost(sandbox.Options{})
	defer host.Close()
	return listStdio(ctx, boxed{host, c.stdioFlags}, en)
}

// listStdio speaks the session era of MCP over lines, which every stdio server
// knows, and lists everything with all pages.
func listStdio(ctx context.Context, st starter, en *toolscan.Entry) (*toolscan.Server, error) {
	ses, err := st.start(ctx, en)
	if err != nil {
		return nil, err
	}
	defer ses.closer()
	stop := context.AfterFunc(ctx, func() { ses.closer() }) // unblocks the reader
	defer stop()
	p := pipe{ctx: ctx, ses: ses, in: ses.in, out: bufio.NewReaderSize(ses.out, 64<<10)}
	var hello struct {
		Info         json.RawMessage `json:"serverInfo"`
		Instructions json.RawMessage `json:"instructions"`
	}
	err = p.call("initialize", map[string]any{"protocolVersion": "2025-11-25", "capabilities": map[string]any{},
		"clientInfo": map[string]any{"name": "kidoban", "version": kidoban.Version}}, &hello)
	if err != nil {
		return nil, err
	}
	if err := p.send(map[string]any{"jsonrpc": "2.0", "method": "notifications/initialized"}); err != nil {
		return nil, err
	}
	s := &toolscan.Server{Name: en.Name, Version: versionOf(hello.Info)}
	if bytes.HasPrefix(hello.Instructions, []byte(`"`)) {
		s.Add(toolscan.KindInstructions, hello.Instructions)
	}
	for _, l := range lists {
		err := p.list(l.method, l.member, l.kind, s)
		if err == nil || errors.Is(err, errNoMethod) {
			continue // a server need not offer every kind
		}
		if l.kind == toolscan.KindTool || kidoban.KindOf(err) == kidoban.KindUnreachable {
			return nil, err
		}
	}
	return s, nil
}

// unspoken hides the values of a server's variables, which may be secrets, in what
// the server said.
func unspoken(said []byte, env map[string]string) []byte {
	for _, v := range env {
		if len(v) > 3 {
			said = bytes.ReplaceAll(said, []byte(v), []byte("(hidden)"))
		}
	}
	return said
}

// lastWords is the last line of a server's standard error that says something,
// made safe to print, as the end of a sentence: why a server did not start
// stands there.
func (s *session) lastWords() string {
	if s.tail == nil {
		return ""
	}
	s.closer() // what it said is whole once it is gone
	lines := strings.Split(string(bytes.ToValidUTF8(s.tail(), nil)), "\n")
	for _, l := range slices.Backward(lines) {
		if l = strings.TrimSpace(l); strings.ContainsFunc(l, unicode.IsLetter) {
			return "; its last words: " + toolscan.Visible(l, 240)
		}
	}
	return ""
}

// pipe is a JSON-RPC conversation over lines.
type pipe struct {
	ctx  context.Context
	ses  *session
	in   io.Writer
	out  *bufio.Reader
	next int
	read int64
}

// errNoMethod is the answer of a server that does not have a method.
var errNoMethod = kidoban.Errorf(kidoban.KindNotFound, "the server does not have this method")

// Bounds of one conversation.
const (
	maxStdioLine  = 16 << 20
	maxStdioTotal = 64 << 20
	maxStdioPages = 100
	maxStdioNoise = 10_000 // lines that are not the answer
)

func (p *pipe) send(msg any) error {
	b, err := json.Marshal(msg)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "cannot encode a request")
	}
	if _, err = p.in.Write(append(b, '\n')); err != nil {
		return kidoban.Errorf(kidoban.KindUnreachable, "the server ended before it was asked; packages that must be fetched need --network, files outside its box --read%s", p.ses.lastWords())
	}
	return nil
}

// call sends a request and waits for its answer; other messages are skipped.
func (p *pipe) call(method string, params any, into any) error {
	p.next++
	id := p.next
	if err := p.send(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params}); err != nil {
		return err
	}
	for range maxStdioNoise {
		line, err := p.line()
		if err != nil {
			return err
		}
		var msg struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
			Result json.RawMessage `json:"result"`
			Error  *struct {
				Code int `json:"code"`
			} `json:"error"`
		}
		if json.Unmarshal(line, &msg) != nil || msg.Method == "" && string(msg.ID) != fmt.Sprint(id) {
			continue // a log line, or the answer to something else
		}
		if msg.Method != "" {
			if err := p.answer(msg.Method, msg.ID); err != nil {
				return err
			}
			continue
		}
		switch {
		case msg.Error != nil && msg.Error.Code == -32601:
			return errNoMethod
		case msg.Error != nil:
			return kidoban.Errorf(kidoban.KindInput, "the server answered %s with error %d", method, msg.Error.Code)
		}
		return kidoban.Wrap(kidoban.KindInput, json.Unmarshal(msg.Result, into), "the answer to %s cannot be read", method)
	}
	return kidoban.Errorf(kidoban.KindLimit, "the server talks without answering %s", method)
}

// answer serves what a server asks before it goes on: a ping, and a no to
// everything else. Notifications have no id and get nothing.
func (p *pipe) answer(method string, id json.RawMessage) error {
	switch {
	case len(id) == 0 || string(id) == "null":
		return nil
	case method == "ping":
		return p.send(map[string]any{"jsonrpc": "2.0", "id": id, "result": struct{}{}})
	}
	return p.send(map[string]any{"jsonrpc": "2.0", "id": id, "error": map[string]any{"code": -32601, "message": "the scanner only lists"}})
}

// line reads one line, bounded.
func (p *pipe) line() ([]byte, error) {
	var b []byte
	for {
		part, err := p.out.ReadSlice('\n')
		b = append(b, part...)
		if p.read += int64(len(part)); p.read > maxStdioTotal || len(b) > maxStdioLine {
			return nil, kidoban.Errorf(kidoban.KindLimit, "the server sends more than %d MiB", maxStdioTotal>>20)
		}
		switch {
		case err == nil:
			return b, nil
		case err == bufio.ErrBufferFull:
		case p.ctx.Err() != nil:
			if errors.Is(p.ctx.Err(), context.Canceled) {
				return nil, kidoban.Errorf(kidoban.KindUnreachable, "interrupted")
			}
			return nil, kidoban.Errorf(kidoban.KindUnreachable, "the server did not answer in time; packages that must be fetched need --network and a longer --timeout%s", p.ses.lastWords())
		default:
			return nil, kidoban.Errorf(kidoban.KindUnreachable, "the server ended before it answered; packages that must be fetched need --network, files outside its box --read%s", p.ses.lastWords())
		}
	}
}

// list follows the pages of one list method.
func (p *pipe) list(method, member string, kind toolscan.Kind, s *toolscan.Server) error {
	params := map[string]any{}
	seen := map[string]bool{}
	for range maxStdioPages {
		var res map[string]json.RawMessage
		if err := p.call(method, params, &res); err != nil {
			return err
		}
		var items []json.RawMessage
		if len(res[member]) > 0 {
			if err := json.Unmarshal(res[member], &items); err != nil {
				return kidoban.Wrap(kidoban.KindInput, err, "the answer to %s cannot be read", method)
			}
		}
		for _, it := range items {
			s.Add(kind, it)
		}
		var cursor string
		if len(res["nextCursor"]) == 0 || json.Unmarshal(res["nextCursor"], &cursor) != nil || cursor == "" || seen[cursor] {
			return nil
		}
		seen[cursor] = true
		params = map[string]any{"cursor": cursor}
	}
	return nil
}
