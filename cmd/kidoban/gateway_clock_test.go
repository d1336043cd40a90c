package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/store/storetest"
)

// TestAClockThatIsWrongIsToldOf: a replica compares its clock with the database's, warns
// when they are apart in either direction, and is silent when they are not.
func TestAClockThatIsWrongIsToldOf(t *testing.T) {
	t.Parallel()
	_, url := storetest.Own(t)
	db, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, off := range []time.Duration{0, 3 * time.Second, 90 * time.Second, -90 * time.Second} {
		said := &lockedBuffer{}
		c := &clockWatch{db: db, now: func() time.Time { return time.Now().Add(off) }, log: slog.New(slog.NewTextHandler(said, nil))}
		c.look(t.Context())
		if ahead := c.ahead.Load(); ahead == nil || (*ahead-off).Abs() > 2*time.Second {
			t.Errorf("%v: the clock is %v ahead", off, ahead)
		}
		if d := time.Since(c.shared()).Abs(); d > 2*time.Second {
			t.Errorf("%v: the clock that all share is %v off", off, d)
		}
		if strings.Contains(said.String(), "level=WARN") != (off.Abs() > time.Minute) {
			t.Errorf("%v: the log says %q", off, said)
		}
	}

	at := proofPort(t)
	startGateway(t, fmt.Sprintf("database: %s\ntelemetry: {metrics: \"127.0.0.1:%s\"}\n", url, at))
	waitFor(t, func() bool {
		resp, err := http.Get("http://127.0.0.1:" + at + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(text), "\nkidoban_clock_ahead_seconds ")
	})
}
