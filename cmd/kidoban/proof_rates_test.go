package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestGRG5_RegistrationLimitsHoldOverReplicas: two processes on one PostgreSQL are
// asked at once, and give together exactly what one limit says; a process that
// starts anew gives nothing more. Rates by address of the authorization server
// reach the other process within moments.
func TestGRG5_RegistrationLimitsHoldOverReplicas(t *testing.T) {
	t.Parallel()
	limits := benchLimits()
	for name, change := range map[string]string{"registration_per_ip": "{count: 1, per: 10h, burst: 30}", "registration_global": "{count: 1, per: 10h, burst: 12}", "revoke_per_ip": "{count: 1, per: 10h, burst: 60}"} {
		limits = strings.Replace(limits, name+": {count: 1000000, per: 1m, burst: 1000000}", name+": "+change, 1)
	}
	c := newCluster(t, 2, "trusted_proxies: [127.0.0.1/32]\n"+limits)
	web := &http.Client{Timeout: time.Minute, Transport: roaming()}
	post := func(p *program, from, path, kind, body string) (status int, wait string) {
		req, err := http.NewRequest("POST", "http://"+p.listen+path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		req.Host = strings.TrimPrefix(c.url, "http://")
		req.Header.Set("Content-Type", kind)
		req.Header.Set("X-Forwarded-For", from)
		resp, err := web.Do(req)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	register := func(p *program, n int) (status int, wait string) {
		return post(p, "192.0.2.1", "/register", "application/json", fmt.Sprintf(`{"client_name":"client %d","redirect_uris":["http://127.0.0.1:%d/callback"],"token_endpoint_auth_method":"none"}`, n, 20000+n))
	}
	var mu sync.Mutex
	count := map[int]int{}
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			status, wait := register(c.all[i%2], i)
			mu.Lock()
			defer mu.Unlock()
			count[status]++
			if status == http.StatusTooManyRequests && wait == "" {
				t.Error("a refusal does not say how long to wait")
			}
		})
	}
	wg.Wait()
	if count[http.StatusCreated] != 12 || count[http.StatusTooManyRequests] != 48 {
		t.Errorf("of 60 registrations at once, with a limit of 12: %v\n%s", count, c.logs())
	}
	fresh := c.add()
	for i := range 5 {
		if status, _ := register(fresh, 100+i); status != http.StatusTooManyRequests {
			t.Errorf("a process that has just started: %d", status)
		}
	}

	spend := func(p *program, from string, n int) (given int) {
		for range n {
			if status, _ := post(p, from, "/revoke", "application/x-www-form-urlencoded", "token=x&client_id=y"); status != http.StatusTooManyRequests {
				given++
			}
		}
		return given
	}
	// They tell in order: who has heard of what was given later has heard of all. Who
	// has just started is told nothing for a moment, which may end between the two, so
	// that the round counts which follows one in which something was heard.
	const burst = 60
	for i, known := 1, false; ; i++ {
		from, later := fmt.Sprintf("198.51.100.%d", i), fmt.Sprintf("203.0.113.%d", i)
		first := spend(c.all[0], from, burst-10)
		spend(c.all[0], later, burst)
		if !within(4*time.Second, func() bool { time.Sleep(200 * time.Millisecond); return spend(c.all[1], later, 1) == 0 }) {
			if i == 30 {
				t.Fatalf("the processes do not hear of each other\n%s", c.logs())
			}
			known = false
			continue
		}
		if !known {
			known = true
			continue
		}
		if second := spend(c.all[1], from, burst); first != burst-10 || second < 8 || second > 13 {
			t.Errorf("of %d one process gave %d, and the other, asked later, %d\n%s", burst, first, second, c.logs())
		}
		return
	}
}
