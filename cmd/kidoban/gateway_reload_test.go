package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kidoban/kidoban/store/storetest"
)

// TestWhatARunningGatewayTakesIn: a config that changes while the database is away is in
// force when it is back, without another change. What takes a restart is named, and
// keeps back nothing that holds without it: a URL that changes in database_file, names.
// With a change of who is let in, nothing of the config is taken.
func TestWhatARunningGatewayTakesIn(t *testing.T) {
	t.Parallel()
	srv, db := storetest.Own(t)
	up, _ := echoServer(t)
	url := putText(t, filepath.Join(t.TempDir(), "url"), db+"\n")
	text := func(rest string, servers ...string) string {
		out := "database_file: " + url + "\n" + rest + "servers:\n"
		for _, name := range servers {
			out += fmt.Sprintf("  %s: {url: %q, address: loopback}\n", name, up)
		}
		return out
	}
	g := startGateway(t, text("", "one"))
	serves := func(name string) bool {
		resp, err := http.Post(g.url+"/s/"+name+"/mcp", "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusUnauthorized
	}
	says := func(what string, times int) {
		t.Helper()
		waitFor(t, func() bool { return strings.Count(g.stderr.String(), what) == times })
	}
	if !serves("one") || serves("two") {
		t.Fatal("the first config is not in force")
	}

	if err := srv.Stop(); err != nil {
		t.Fatal(err)
	}
	g.write(text("", "one", "two"))
	says("it is tried again", 1)
	if serves("two") {
		t.Error("half of a config is in force")
	}
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	says("the changed config is in force\n", 1)
	if !serves("two") {
		t.Error("the config is not in force")
	}

	putText(t, url, db+"&application_name=kidoban\n")
	says("in force, but for what takes a restart: what database_file holds\n", 1)
	g.write(text("name: Another\ninstance: another\n", "one", "two", "three"))
	says("in force, but for what takes a restart: what database_file holds, instance, name\n", 1)
	if !serves("three") {
		t.Error("a new server waits for a restart")
	}

	g.write(text("tools: {trust: review}\n", "one", "two", "three", "four"))
	says("it changes what takes a restart: tools\n", 1)
	if serves("four") {
		t.Error("a server is served without the change beside it")
	}
	if n := strings.Count(g.stderr.String(), "it is tried again"); n != 1 {
		t.Errorf("a database that is away is told of %d times", n)
	}
}
