package gateway

import (
	"bytes"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"

	"github.com/kidoban/kidoban/wire"
)

// A task's id is a handle that outlives its request, so possession of it must not
// be enough (RS-14, G-PX5, E37): towards the client it is sealed for this user,
// this client and this server, the same each time it is said, and whatever was
// not sealed so is unknown. The server's own lifetime of a task ends it.

const (
	tasksExtension = "io.modelcontextprotocol/tasks"

	taskMember  = "taskId"
	relatedTask = "io.modelcontextprotocol/related-task"
	maxTaskID   = 4 << 10
)

func (c *call) taskBinding() []byte {
	return binding("task", c.Caller.User, c.Caller.Client, c.target.path)
}

// outTask seals a task's id with the server it belongs to.
func (g *Gateway) outTask(c *call, raw wire.Raw) (wire.Raw, bool) {
	id, ok := wire.String(raw)
	if !ok || c.server == nil || len(id) > maxTaskID {
		return nil, false
	}
	return wire.Quote(g.seal.name(c.server.Name+"\x00"+id, c.taskBinding())), true
}

// inTask opens a task's id. Through the aggregate it also tells the server.
func (g *Gateway) inTask(c *call, sealed string) (id string, ok bool) {
	plain, ok := g.seal.named(sealed, c.taskBinding())
	server, id, cut := strings.Cut(plain, "\x00")
	if !ok || !cut {
		return "", false
	}
	if c.server == nil {
		return id, g.pick(c, server)
	}
	return id, c.server.Name == server
}

// openTask finds the task that a message speaks of.
func (g *Gateway) openTask(c *call) *Refusal {
	if c.Message.Method == wire.MethodTaskList && (c.server == nil || c.server.Account != AccountUser) {
		// Whoever shares an account shares its list: nobody gets it.
		return refuse(http.StatusOK, wire.CodeMethodNotFound, "task:list", "Tasks cannot be listed here. Ask for each by its id.")
	}
	if strings.HasPrefix(c.Message.Method, "tasks/") && c.Params.TaskID != "" {
		id, ok := g.inTask(c, c.Params.TaskID)
		if !ok && c.server == nil {
			return unknownTask()
		} else if !ok {
			id = strangeTask(c.Params.TaskID) // the server says in its own words that there is no such task
		}
		c.Params.TaskID = id
		c.Message.Params = wire.SetMember(c.Message.Params, taskMember, wire.Quote(id))
	}
	if c.Message.Method == wire.MethodListen {
		if filter, ok := wire.Lookup(c.Message.Params, "notifications"); ok {
			if misspelt(filter, "taskIds", "resourceSubscriptions") {
				return unknownTask()
			}
			list, ok := wire.Lookup(filter, "taskIds")
			everybody := c.server == nil
			if ids, all := g.openTasks(c, list); ok && !all {
				return unknownTask()
			} else if ok {
				if everybody && c.server != nil { // one server's now, whose lists are not the aggregate's
					filter = wire.Raw("{}")
				}
				c.Message.Params = wire.SetMember(c.Message.Params, "notifications", wire.SetMember(filter, "taskIds", ids))
			}
		}
	}
	var ok bool
	if c.Message.Params, ok = g.related(c, c.Message.Params, g.opened); !ok {
		return unknownTask()
	}
	// A client's answer may speak of a task of the client's own, whose server knows what
	// it asked about: what we do not know is left out.
	c.Message.Result, _ = g.related(c, c.Message.Result, g.opened)
	return nil
}

func unknownTask() *Refusal {
	return refuse(http.StatusOK, wire.CodeInvalidParams, "task:unknown", "This task is not known.")
}

// strangeTask is an id that no server has given out, in place of one that was not
// sealed for this caller and might be somebody else's.
func strangeTask(id string) string {
	return "unknown-" + hex.EncodeToString(binding("strange task", id))[:32]
}

func (g *Gateway) opened(c *call, raw wire.Raw) (wire.Raw, bool) {
	sealed, _ := wire.String(raw)
	id, ok := g.inTask(c, sealed)
	return wire.Quote(id), ok
}

// openTasks finds the tasks that a client wants to hear of; all says that each is known.
// A stream passes from one server: at the aggregate, tasks of others than the first one's
// are left out, and the acknowledgement says so.
func (g *Gateway) openTasks(c *call, list wire.Raw) (out wire.Raw, all bool) {
	out, all = wire.Raw("["), true
	anybody := *c
	wire.Elements(list, func(v wire.Raw) bool {
		id, ok := g.opened(c, v)
		if !ok && anybody.server == nil && c.server != nil {
			other := anybody
			if _, ok = g.opened(&other, v); ok {
				return true
			}
		}
		if all = ok; !ok {
			return false
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, id...)
		return true
	})
	return append(out, ']'), all
}

// misspelt tells whether a member is one of these in other letters. We would not see
// it, and a tolerant server would take it.
func misspelt(obj wire.Raw, known ...string) (found bool) {
	wire.Each(obj, func(member, _ wire.Raw) bool {
		text, _ := wire.String(member)
		found = slices.ContainsFunc(known, func(k string) bool { return text != k && strings.EqualFold(text, k) })
		return !found
	})
	return found
}

// related changes the task that _meta says a message belongs to. False says that it
// cannot be; the message does not speak of it then.
func (g *Gateway) related(c *call, params wire.Raw, change func(*call, wire.Raw) (wire.Raw, bool)) (wire.Raw, bool) {
	meta, ok := wire.Lookup(params, "_meta")
	if !ok {
		return params, true
	}
	about, has := wire.Lookup(meta, relatedTask)
	if misspelt(meta, relatedTask) || misspelt(about, taskMember) {
		return wire.DropMember(params, "_meta"), false
	}
	raw, has2 := wire.Lookup(about, taskMember)
	if !has || !has2 {
		return params, true
	}
	id, ok := change(c, raw)
	if !ok {
		return wire.SetMember(params, "_meta", wire.DropMember(meta, relatedTask)), false
	}
	return wire.SetMember(params, "_meta", wire.SetMember(meta, relatedTask, wire.SetMember(about, taskMember, id))), true
}

// sealTasks seals the ids of tasks in a message on its way to the client. What
// cannot be sealed is left out with what it stands in.
func (g *Gateway) sealTasks(c *call, m wire.Message) wire.Message {
	if !bytes.Contains(m.Result, []byte(taskMember)) && !bytes.Contains(m.Params, []byte(taskMember)) {
		return m
	}
	at := func(obj wire.Raw) wire.Raw {
		raw, ok := wire.Lookup(obj, taskMember)
		if !ok {
			return obj
		}
		if id, ok := g.outTask(c, raw); ok {
			return wire.SetMember(obj, taskMember, id)
		}
		return wire.DropMember(obj, taskMember)
	}
	switch m.Kind {
	case wire.Result:
		if strings.HasPrefix(c.Message.Method, "tasks/") || wire.LookupString(m.Result, "resultType") == "task" {
			m.Result = at(m.Result)
		}
		if task, ok := wire.Lookup(m.Result, "task"); ok && len(task) > 0 && task[0] == '{' { // 2025-11-25
			m.Result = wire.SetMember(m.Result, "task", at(task))
		}
		if list, ok := wire.Lookup(m.Result, "tasks"); ok && c.Message.Method == wire.MethodTaskList {
			var all []wire.Raw
			wire.Elements(list, func(v wire.Raw) bool { all = append(all, at(v)); return true })
			m.Result = wire.SetMember(m.Result, "tasks", slices.Concat(wire.Raw("["), wire.Raw(bytes.Join(raws(all), []byte(","))), wire.Raw("]")))
		}
		m.Result, _ = g.related(c, m.Result, g.outTask)
	case wire.Notification, wire.Request:
		if strings.HasPrefix(m.Method, ofTasks) { // a server that asks by tasks/get means a task of its client's
			m.Params = at(m.Params)
		}
		m.Params, _ = g.related(c, m.Params, g.outTask)
	}
	return m
}

func raws(in []wire.Raw) [][]byte {
	out := make([][]byte, len(in))
	for i, v := range in {
		out[i] = v
	}
	return out
}
