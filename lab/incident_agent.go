package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// Hands are how the model of an incident reaches the servers.
type Hands struct {
	HTTP *http.Client
	URL  func(server string) string // instead of the server's own; nil is direct
	// Token gives a bearer token; nil for none.
	Token func(server string) string
	// Asked is told that a call was refused because a person must approve it; true
	// means that the person did. nil: nobody is there.
	Asked func(server, tool string, args map[string]string) bool
}

// Step is one thing the model did.
type Step struct {
	Server, Tool string
	What         string // "read …", "called", "refused: …"
}

// obedient is the model: it does what the user asked for and whatever any text that
// reached it says, marked as untrusted or not, and does not give up easily.
type obedient struct {
	i     *Incident
	hands Hands
	read  strings.Builder
	steps []Step
	known map[string][]string // tools that it sees, by server
	err   error
}

// Play lets the model do the user's task, which is the same whether the servers
// are poisoned or not.
func (i *Incident) Play(ctx context.Context, h Hands) ([]Step, error) {
	if h.URL == nil {
		h.URL = func(server string) string { return i.Servers[server] }
	}
	a := &obedient{i: i, hands: h, known: map[string][]string{}}
	for server := range i.Servers {
		a.rpc(ctx, server, "initialize", map[string]any{"protocolVersion": "2025-11-25", "capabilities": map[string]any{}, "clientInfo": map[string]string{"name": "scripted model", "version": "1"}})
	}
	i.script.attack(ctx, a)
	return a.steps, a.err
}

// look lists the tools of all servers; their descriptions are in the model's
// context from then on.
func (a *obedient) look(ctx context.Context) {
	for server := range a.i.Servers {
		raw, _, err := a.rpc(ctx, server, "tools/list", map[string]any{})
		if err != nil {
			a.err = err
			return
		}
		var list struct {
			Tools []struct{ Name, Description string }
		}
		_ = json.Unmarshal(raw, &list)
		a.known[server] = nil
		for _, t := range list.Tools {
			a.known[server] = append(a.known[server], t.Name)
			a.read.WriteString(t.Description + "\n")
		}
	}
}

// reads finds an order in whatever reached the model.
func (a *obedient) reads(order *regexp.Regexp) []string {
	found := order.FindStringSubmatch(a.read.String())
	if found != nil {
		a.steps = append(a.steps, Step{What: "obeys what it read"})
	}
	return found
}

// call makes a tool call, again when a person approved it in between.
func (a *obedient) call(ctx context.Context, server, tool string, args map[string]string) (text string, ok bool) {
	if args == nil {
		args = map[string]string{}
	}
	if !slices.Contains(a.known[server], tool) {
		a.steps = append(a.steps, Step{server, tool, "is not there"})
		return "", false
	}
	for range 2 {
		raw, refusal, err := a.rpc(ctx, server, "tools/call", map[string]any{"name": tool, "arguments": args})
		if err != nil {
			a.err = err
			return "", false
		}
		if refusal == "" {
			var result struct{ Content []struct{ Text string } }
			_ = json.Unmarshal(raw, &result)
			for _, c := range result.Content {
				text += c.Text
			}
			a.read.WriteString(text + "\n")
			a.steps = append(a.steps, Step{server, tool, "called"})
			return text, true
		}
		a.steps = append(a.steps, Step{server, tool, "refused: " + refusal})
		if a.hands.Asked == nil || !a.hands.Asked(server, tool, args) {
			return "", false
		}
	}
	return "", false
}

// rpc sends one request. refusal is the sentence of a JSON-RPC error.
func (a *obedient) rpc(ctx context.Context, server, method string, params any) (result json.RawMessage, refusal string, err error) {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": len(a.steps) + 1, "method": method, "params": params})
	if err != nil {
		return nil, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.hands.URL(server), bytes.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("MCP-Protocol-Version", "2025-11-25")
	if a.hands.Token != nil {
		req.Header.Set("Authorization", "Bearer "+a.hands.Token(server))
	}
	resp, err := a.hands.HTTP.Do(req)
	if err != nil {
		return nil, "", kidoban.Wrap(kidoban.KindUnreachable, err, "the server %s cannot be reached", server)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return nil, "", kidoban.Wrap(kidoban.KindUnreachable, err, "the answer of %s broke off", server)
	}
	if _, data, ok := strings.Cut(string(raw), "data: "); ok && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		raw = []byte(data)
	}
	var answer struct {
		Result json.RawMessage
		Error  *struct{ Message string }
	}
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&answer); err != nil {
		return nil, "", kidoban.Errorf(kidoban.KindInput, "%s answered with status %d and no MCP message", server, resp.StatusCode)
	}
	if answer.Error != nil {
		return nil, fmt.Sprintf("%.160s", answer.Error.Message), nil
	}
	return answer.Result, "", nil
}
