package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"maps"
	"testing"
	"time"
)

// TestMissedEndsWhatMayBeLost: a replica that hears again names what it knows of. What it
// should know by now and does not is ended; what began a moment ago is on its way, and
// what goes on with others is not its matter.
func TestMissedEndsWhatMayBeLost(t *testing.T) {
	m := replicaNamed(t, "me", time.Now)
	m.boxes, m.served = map[string]*box{}, map[string]*served{}
	ended := map[string]bool{}
	now, old := time.Now(), time.Now().Add(-2*settled)
	for _, c := range []struct {
		id, with string
		since    time.Time
	}{{"known", "a", old}, {"unknown", "a", old}, {"young", "a", now}, {"another's", "b", old}} {
		m.boxes[c.id] = &box{from: c.with, since: c.since, in: make(chan letter)}
		_, cancel := context.WithCancel(t.Context())
		m.served["to-"+c.id] = &served{to: c.with, since: c.since, cancel: func() { cancel(); ended["to-"+c.id] = true }}
	}
	all := maps.Clone(m.boxes)
	from := replicaNamed(t, "a", time.Now)
	if err := from.post(t.Context(), "*", letter{Kind: "back", Text: "known to-known"}); err != nil {
		t.Fatal(err)
	}
	m.arrived(from.to.(*posted).body)
	for id, b := range all {
		select {
		case <-b.in:
			ended[id] = true
		default:
		}
	}
	for _, id := range []string{"known", "unknown", "young", "another's"} {
		if want := id == "unknown"; ended[id] != want {
			t.Errorf("%s: ended is %v", id, ended[id])
		}
	}
	for id, want := range map[string]bool{"to-known": false, "to-unknown": true, "to-young": false, "to-another's": false} {
		if ended[id] != want {
			t.Errorf("%s: ended is %v", id, ended[id])
		}
	}
}

// posted keeps the last letter.
type posted struct {
	Replicas
	body []byte
}

func (p *posted) Post(_ context.Context, _ string, body []byte) error {
	p.body = body
	return nil
}

// replicaNamed writes and reads letters, and does nothing else.
func replicaNamed(t *testing.T, name string, clock func() time.Time) *mail {
	t.Helper()
	seal, err := newSealer(bytes.Repeat([]byte{7}, 32), rand.Reader, clock)
	if err != nil {
		t.Fatal(err)
	}
	return &mail{g: &Gateway{seal: seal}, name: name, to: &posted{}}
}

// TestGPX5_LettersOutliveDifferingClocks: replicas whose clocks are five minutes apart
// read each other's letters; an old one says nothing.
func TestGPX5_LettersOutliveDifferingClocks(t *testing.T) {
	now, ahead := time.Now(), time.Duration(0)
	from := replicaNamed(t, "a", func() time.Time { return now })
	to := replicaNamed(t, "b", func() time.Time { return now.Add(ahead) })
	if err := from.post(t.Context(), "b", letter{Kind: "rates"}); err != nil {
		t.Fatal(err)
	}
	body := from.to.(*posted).body
	for _, c := range []struct {
		ahead time.Duration
		want  bool
	}{{0, true}, {90 * time.Second, true}, {5 * time.Minute, true}, {-5 * time.Minute, true}, {10 * time.Minute, false}} {
		ahead = c.ahead
		if l, ok := to.read(body, "b"); ok != c.want || ok && (l.From != "a" || l.Kind != "rates") {
			t.Errorf("%v ahead: %+v %v", c.ahead, l, ok)
		}
	}
	if _, ok := to.read(body, "c"); ok {
		t.Error("a letter to another is read")
	}
}
