package authserver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/limit"
)

// addressed lets a test choose the address of each request.
type addressed struct{ from netip.Addr }

func newFlooded(t *testing.T) (*world, *addressed) {
	a := &addressed{from: netip.MustParseAddr("192.0.2.1")}
	w := newWorld(t, func(w *world) {
		w.cfg.Limits = limit.Defaults()
		w.deps.Address = func(r *http.Request) netip.Addr {
			if from := r.Header.Get("X-Test-Address"); from != "" {
				return netip.MustParseAddr(from)
			}
			return a.from
		}
	})
	return w, a
}

func (w *world) registerFrom(addr string, i int) int {
	body := fmt.Sprintf(`{"client_name":"c%d","redirect_uris":["https://h%d.example/cb"],"token_endpoint_auth_method":"none"}`, i, i)
	r := httptest.NewRequest("POST", w.url+"/register", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Test-Address", addr)
	rec := httptest.NewRecorder()
	w.s.ServeHTTP(rec, r)
	return rec.Code
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestGRG5_HundredThousandRegistrations from one address and from ten thousand:
// what is stored and remembered stays small, and people who are known here can
// still register a client.
func TestGRG5_HundredThousandRegistrations(t *testing.T) {
	w, _ := newFlooded(t)
	w.clock.stop()
	x := w.register("Known", loopback)
	x.code(w.person(), nil) // from 192.0.2.1
	before := heap()
	made := 0
	for i := range 100_000 {
		if w.registerFrom("198.51.100.7", i) == http.StatusCreated {
			made++
		}
	}
	if made > limit.Defaults().RegistrationPerIP.Burst+1 {
		t.Fatalf("%d clients from one address", made)
	}
	for i := range 100_000 {
		n := i % 10_000
		if w.registerFrom(fmt.Sprintf("10.%d.%d.7", n/250, n%250), i) == http.StatusCreated {
			made++
		}
	}
	if most := limit.Defaults().RegistrationGlobal.Burst + limit.Defaults().RegistrationPerIP.Burst + 50; made > most {
		t.Fatalf("%d clients in all", made)
	}
	w.seen.forget()
	if grown := int64(heap()) - int64(before); grown > 32<<20 {
		t.Fatalf("the flood left %d MB in memory", grown>>20)
	} else {
		t.Logf("%d of 200,000 registrations made, %d kB of memory", made, grown>>10)
	}
	if code := w.registerFrom("192.0.2.99", 1_000_000); code != http.StatusCreated {
		t.Fatalf("somebody who is known here got %d", code)
	}
	if !w.seen.alerted("registration_burst") || !w.seen.alerted("registration_flood") || len(w.seen.alerts) > 2*made+10 {
		t.Fatalf("%d alerts", len(w.seen.alerts))
	}
}

// TestGRG5_HalfOpenAuthorizationsCostNothing: ten thousand requests that nobody
// logs in for leave no row behind.
func TestGRG5_HalfOpenAuthorizationsCostNothing(t *testing.T) {
	w := newWorld(t, nil)
	x := w.register("Client", loopback)
	w.person()
	query := "/authorize?" + x.params().Encode()
	w.call(query, nil, nil)
	before := heap()
	for range 10_000 {
		if rec := w.call(query, nil, nil); rec.Code != http.StatusOK {
			t.Fatal(rec.Code)
		}
	}
	w.seen.forget()
	if grown := int64(heap()) - int64(before); grown > 16<<20 {
		t.Fatalf("%d MB remembered", grown>>20)
	}
	n, err := w.store.Purge(t.Context(), w.clock.now().Add(48*time.Hour), 0, 100_000)
	if err != nil || n > 10 { // the client, its host, the session and keys
		t.Fatalf("%d rows %v", n, err)
	}
}
