package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"
)

// The normal client of the hostile load is a process of its own: it does not wait
// for a processor behind the attackers' own work.

// normalTask is what the client is told, normalSeen what it tells at the end.
type normalTask struct{ URL, Listen, Resource, Client, Access, Refresh string }

type normalSeen struct {
	Calls, Refreshes []time.Duration
	Access, Refresh  string // the newest
	Fault            string // a refusal
}

// beNormal is that process: 50 calls and one refresh a second until stdin ends.
func beNormal() int {
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	var task normalTask
	if err == nil {
		err = json.Unmarshal(line, &task)
	}
	if err != nil {
		return 1
	}
	stop := make(chan struct{})
	go func() { defer close(stop); io.Copy(io.Discard, in) }()
	client := &http.Client{Timeout: 30 * time.Second, Transport: straight{task.Listen, &http.Transport{}}}
	seen := task.run(client, stop)
	return map[bool]int{true: 0, false: 1}[json.NewEncoder(os.Stdout).Encode(seen) == nil]
}

func (task normalTask) run(client *http.Client, stop <-chan struct{}) normalSeen {
	seen := normalSeen{Access: task.Access, Refresh: task.Refresh}
	send := func(to, kind, body, token string) (int, []byte) {
		r, err := http.NewRequest("POST", to, strings.NewReader(body))
		if err != nil {
			return 0, nil
		}
		r.Header.Set("Content-Type", kind)
		r.Header.Set("Accept", "application/json, text/event-stream")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := client.Do(r)
		if err != nil {
			return 0, []byte(err.Error())
		}
		defer resp.Body.Close()
		raw, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, raw
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-stop:
			return seen
		case <-tick.C:
		}
		begin := time.Now()
		status, text := send(task.Resource, "application/json", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`, seen.Access)
		if status != http.StatusOK {
			seen.Fault = fmt.Sprintf("call: %d %.200s", status, text)
			return seen
		}
		seen.Calls = append(seen.Calls, time.Since(begin))
		if n%50 != 0 {
			continue
		}
		begin = time.Now()
		status, text = send(task.URL+"/token", "application/x-www-form-urlencoded", url.Values{"grant_type": {"refresh_token"}, "client_id": {task.Client}, "refresh_token": {seen.Refresh}}.Encode(), "")
		var got tokens
		if err := json.Unmarshal(text, &got); err != nil || status != http.StatusOK {
			seen.Fault = fmt.Sprintf("refresh: %d %.200s", status, text)
			return seen
		}
		seen.Access, seen.Refresh = got.Access, got.Refresh
		seen.Refreshes = append(seen.Refreshes, time.Since(begin))
	}
}

// normal lets the normal client work while do runs. Any refusal fails the test.
func (s *siege) normal(do func()) normalSeen {
	s.t.Helper()
	cmd := exec.Command(os.Args[0], "normal-client")
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if err := json.NewEncoder(in).Encode(normalTask{s.p.url, s.p.listen, s.app.resource, s.app.id, s.last.Access, s.last.Refresh}); err != nil {
		s.t.Fatal(err)
	}
	do()
	in.Close()
	var seen normalSeen
	if err := cmd.Wait(); err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out.String()), &seen); err != nil {
		s.t.Fatal(err)
	}
	if seen.Fault != "" {
		s.t.Errorf("the normal client was refused: %s", seen.Fault)
	}
	s.last = tokens{Access: seen.Access, Refresh: seen.Refresh}
	return seen
}
