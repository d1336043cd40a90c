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
	limits := proofUnlimited()
	for name, change := range map[string]string{"registration_per_ip": "{count: 1, per: 10h, burst: 30}", "registration_global": "{count: 1, per: 10h, burst: 12}", "revoke_per_ip": "{count: 1, per: 10h, burst: 60}"} {
		limits = strings.Replace(limits, name+": {count: 1000000, per: 1m, burst: 1000000}", name+": "+change, 1)
	}
	c := newCluster(t, 2, limits)
	web := &http.Client{Timeout: time.Minute, Transport: roaming()}
	post := func(p *program, path, kind, body string) (status int, wait string) {
		req, err := http.NewRequest("POST", "http://"+p.listen+path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		req.Host = strings.TrimPrefix(c.url, "http://")
		req.Header.Set("Content-Type", kind)
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
		return post(p, "/register", "application/json", fmt.Sprintf(`{"client_name":"client %d","redirect_uris":["http://127.0.0.1:%d/callback"],"token_endpoint_auth_method":"none"}`, n, 20000+n))
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

	revoke := func(p *program) int {
		status, _ := post(p, "/revoke", "application/x-www-form-urlencoded", "token=x&client_id=y")
		return status
	}
	// Each process alone would give 60. They hear of each other within a second or two
	// of their start; from then on what one gives the other does not.
	given, spent := 0, 0
	for i := 0; spent < 2; i++ {
		if i == 200 {
			t.Fatalf("after %d the limit is not reached", given)
		}
		spent = 0
		for _, p := range c.all[:2] {
			if revoke(p) == http.StatusTooManyRequests {
				spent++
			} else {
				given++
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	if given < 60 || given > 110 {
		t.Errorf("two processes gave %d where one would have given 60", given)
	}
}
