package lab

import (
	"fmt"
	"slices"
	"strings"
)

// rpcFault is a failed method.
type rpcFault struct {
	code  int
	text  string
	scope string // scopes that were missing; the answer is then 403
	data  any
}

// note is a note of a person.
type note struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Text  string `json:"text"`
}

// firstNotes are the notes that people start with. Each text names its owner, so
// that data in the wrong hands can be told.
func firstNotes() map[string][]note {
	return map[string][]note{
		"alice": {{"note-a1", "Alice's list", "alice-secret: buy bread"}, {"note-a2", "Alice's plan", "alice-secret: call Bob"}},
		"bob":   {{"note-b1", "Bob's list", "bob-secret: fix the bicycle"}},
		"carol": {{"note-c1", "Carol's list", "carol-secret: water the plants"}},
	}
}

// method runs a method that both eras have. caps are the client's capabilities.
func (l *Lab) method(c *call, caps map[string]any) (map[string]any, *rpcFault) {
	switch c.msg.Method {
	case "tools/list":
		return l.listed("tools", toolList()), nil
	case "tools/call":
		return l.callTool(c, caps)
	case "resources/list":
		var out []any
		user := l.sharedList(c.user())
		for _, n := range l.notesOf(user) {
			out = append(out, map[string]any{"uri": "note://" + user + "/" + n.ID, "name": n.Title, "mimeType": "text/plain"})
		}
		return l.listed("resources", out), nil
	case "resources/templates/list":
		return l.listed("resourceTemplates", []any{map[string]any{"uriTemplate": "note://{user}/{id}", "name": "A note", "mimeType": "text/plain"}}), nil
	case "resources/read":
		return l.readResource(c)
	case "prompts/list":
		return l.listed("prompts", []any{map[string]any{"name": "summarize", "description": "Sum up all notes."}}), nil
	case "prompts/get":
		if c.msg.Params["name"] != "summarize" {
			return nil, &rpcFault{code: -32602, text: "There is no such prompt."}
		}
		return map[string]any{"messages": []any{map[string]any{"role": "user", "content": map[string]any{"type": "text", "text": "Sum up my notes."}}}}, nil
	case "completion/complete":
		return map[string]any{"completion": map[string]any{"values": []any{}, "hasMore": false}}, nil
	}
	return nil, &rpcFault{code: -32601, text: "There is no such method."}
}

// listed wraps a list with its cache hints: what depends on the person is private.
func (l *Lab) listed(member string, items []any) map[string]any {
	if items == nil {
		items = []any{}
	}
	return map[string]any{member: items, "ttlMs": 60000, "cacheScope": l.cacheScope()}
}

// schema is the input schema of a tool whose arguments are all strings.
func schema(required []string, props map[string]string) map[string]any {
	p := map[string]any{}
	for name, text := range props {
		p[name] = map[string]any{"type": "string", "description": text}
	}
	m := map[string]any{"type": "object", "properties": p, "additionalProperties": false}
	if len(required) > 0 {
		m["required"] = required
	}
	return m
}

// tool is a tool's definition.
func tool(name, description string, in map[string]any, readOnly, destructive bool) any {
	return map[string]any{"name": name, "description": description, "inputSchema": in,
		"annotations": map[string]any{"readOnlyHint": readOnly, "destructiveHint": destructive}}
}

// toolList is what tools/list answers, in a fixed order.
func toolList() []any {
	return []any{
		tool("whoami", "Tells who is logged in.", schema(nil, nil), true, false),
		tool("list_notes", "Lists your notes.", schema(nil, nil), true, false),
		tool("read_note", "Reads one of your notes.", schema([]string{"id"}, map[string]string{"id": "Id of the note."}), true, false),
		tool("start_report", "Starts a report on your notes and gives its report_id.", schema(nil, nil), true, false),
		tool("get_report", "Reads a report.", schema([]string{"report_id"}, map[string]string{"report_id": "Id of the report."}), true, false),
		tool("add_note", "Adds a note.", schema([]string{"title", "text"}, map[string]string{"title": "Title.", "text": "Text."}), false, false),
		tool("send_mail", "Sends a mail in your name.", schema([]string{"to", "text"}, map[string]string{"to": "Receiver.", "text": "Text."}), false, true),
		tool("needs_input", "Pays an amount after asking for confirmation.", schema([]string{"amount"}, map[string]string{"amount": "Amount in euro."}), false, true),
		tool("connect_account", "Connects an account of another service, in the browser.", schema(nil, nil), false, false),
	}
}

// toolScope is the scope that a tool needs; "" for none beyond a valid token.
func toolScope(name string) string {
	switch name {
	case "list_notes", "read_note", "start_report", "get_report":
		return scopeRead
	case "add_note", "needs_input", "connect_account":
		return scopeWrite
	case "send_mail":
		return scopeMail
	}
	return ""
}

// callTool runs a tool: the scope first (403 with the missing one, RFC 6750 section
// 3.1), then the person of this very call.
func (l *Lab) callTool(c *call, caps map[string]any) (map[string]any, *rpcFault) {
	name, _ := c.msg.Params["name"].(string)
	args, _ := c.msg.Params["arguments"].(map[string]any)
	if need := toolScope(name); need != "" && !c.has(need) && !l.on("E30-d") {
		return nil, &rpcFault{code: -32600, text: "The token lacks a scope.", scope: need}
	}
	user := l.caller(c)
	arg := func(k string) string { s, _ := args[k].(string); return s }
	switch name {
	case "whoami":
		return said(user), nil
	case "list_notes":
		var lines []string
		for _, n := range l.notesOf(user) {
			lines = append(lines, n.ID+": "+n.Title)
		}
		return said(strings.Join(lines, "\n")), nil
	case "read_note":
		if n, ok := l.findNote(user, arg("id")); ok {
			return said(n.Text), nil
		}
		return failed("You have no note with this id."), nil
	case "start_report":
		return l.startReport(user), nil
	case "get_report":
		return l.getReport(user, arg("report_id")), nil
	case "add_note":
		return l.addNote(user, arg("title"), arg("text"))
	case "send_mail":
		l.mu.Lock()
		if len(l.st.mail) < 1000 {
			l.st.mail = append(l.st.mail, user+" to "+arg("to"))
		}
		l.mu.Unlock()
		return said("Sent."), nil
	case "needs_input":
		return l.needsInput(c, caps, user, args)
	case "connect_account":
		return l.connectAccount(c, caps, user)
	}
	return nil, &rpcFault{code: -32602, text: "There is no such tool."}
}

// said is a tool result of one text.
func said(text string) map[string]any {
	return map[string]any{"content": []any{map[string]any{"type": "text", "text": text}}, "isError": false}
}

// failed is a tool result that says what went wrong.
func failed(text string) map[string]any {
	m := said(text)
	m["isError"] = true
	return m
}

// notesOf is a copy of a person's notes.
func (l *Lab) notesOf(user string) []note {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.st.notes[user])
}

// findNote looks among the user's own notes only.
func (l *Lab) findNote(user, id string) (note, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for owner, list := range l.st.notes {
		if owner != user && !l.on("E37-a") {
			continue
		}
		for _, n := range list {
			if n.ID == id {
				return n, true
			}
		}
	}
	return note{}, false
}

// startReport hands out a handle. It is random, and it is no credential: getReport
// asks whose it is.
func (l *Lab) startReport(user string) map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.st.reports) >= maxEntries {
		return failed("Too many reports are under way.")
	}
	id := l.random(16)
	l.st.reports[id] = user
	m := said("report_id: " + id)
	m["structuredContent"] = map[string]any{"report_id": id}
	return m
}

// getReport reads a report of the person's own; the handle alone opens nothing.
func (l *Lab) getReport(user, id string) map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	owner := l.st.reports[id]
	if owner == "" || owner != user && !l.on("E07-6") {
		return failed("You have no report with this id.")
	}
	return said(fmt.Sprintf("%s has %d notes.", owner, len(l.st.notes[owner])))
}

// addNote adds a note within the bounds of 200 notes and 4000 bytes.
func (l *Lab) addNote(user, title, text string) (map[string]any, *rpcFault) {
	if len(title) > 200 || len(text) > 4000 {
		return failed("The note is too long."), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.st.notes[user]) >= 200 {
		return failed("You have too many notes."), nil
	}
	l.st.serial++
	id := fmt.Sprintf("note-%d", l.st.serial)
	l.st.notes[user] = append(l.st.notes[user], note{id, title, text})
	return said("Added " + id + "."), nil
}

// readResource reads a note by its address. The person in the address must be the
// caller: an address is not a permission.
func (l *Lab) readResource(c *call) (map[string]any, *rpcFault) {
	uri, _ := c.msg.Params["uri"].(string)
	user := l.caller(c)
	if !c.has(scopeRead) && !l.on("E30-d") {
		return nil, &rpcFault{code: -32600, text: "The token lacks a scope.", scope: scopeRead}
	}
	rest, ok := strings.CutPrefix(uri, "note://")
	owner, id, _ := strings.Cut(rest, "/")
	if n, found := l.findNote(user, id); ok && found && (owner == user || l.on("E37-a")) {
		return map[string]any{"contents": []any{map[string]any{"uri": uri, "mimeType": "text/plain", "text": n.Text}}, "ttlMs": 0, "cacheScope": l.cacheScope()}, nil
	}
	return nil, &rpcFault{code: -32602, text: "There is no such resource."}
}
