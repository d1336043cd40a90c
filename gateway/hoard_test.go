package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"github.com/kidoban/kidoban/wire"
)

// hoardServerOf is a server of which nothing is held.
func hoardServerOf() *server { return &server{hoard: &hoard{}, rooms: &wire.Rooms{}} }

// inFlight is what a hoard counts, and how many pieces somebody has.
func (h *hoard) inFlight() (bytes int64, out int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pieces.mu.Lock()
	defer h.pieces.mu.Unlock()
	return h.all, h.pieces.out
}

// text is n bytes that show when some of them are missing, doubled or elsewhere.
func text(n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = strconv.AppendInt(append(b, ' '), int64(i), 36)
	}
	return b[:n]
}

// ragged hands out what it reads in pieces of the given lengths, over and over.
type ragged struct {
	r       io.Reader
	lengths []int
	turn    int
}

func (r *ragged) Read(p []byte) (int, error) {
	n := r.lengths[r.turn%len(r.lengths)]
	r.turn++
	return r.r.Read(p[:min(n, len(p))])
}

// TestGPX3_AnswersAreReadWholeOrNot: whatever the length, the bound, the announced
// length and the pieces in which it comes, an answer is there as it was sent, or is
// too long; and nothing of it is in use afterwards.
func TestGPX3_AnswersAreReadWholeOrNot(t *testing.T) {
	edges := []int{0, 1, 511, 512, firstRoom - 1, firstRoom, firstRoom + 1, 80<<10 - 1, 80 << 10, 80<<10 + 1, 80<<10 + pieceSize, hoardFree, hoardFree + 1, wire.RoomMost, wire.RoomMost + 1, 1 << 20}
	all := text(3 << 20)
	s := hoardServerOf()
	defer s.hoard.pieces.close()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.SampledFrom(edges), rapid.IntRange(0, 2<<20)).Draw(t, "size")
		bound := max(1, rapid.OneOf(rapid.SampledFrom([]int{size - 1, size, size + 1}), rapid.IntRange(1, 2<<20)).Draw(t, "max"))
		announced := rapid.SampledFrom([]int64{-1, 0, int64(size), int64(size) + 1, int64(bound), 1 << 40}).Draw(t, "announced")
		var r io.Reader = &ragged{r: bytes.NewReader(all[:size]), lengths: rapid.SliceOfN(rapid.IntRange(1, 40<<10), 1, 4).Draw(t, "lengths")}
		if size < 10_000 && rapid.Bool().Draw(t, "end with the data") {
			r = iotest.DataErrReader(bytes.NewReader(all[:size]))
		}
		h := &hoarder{r: r, s: s}
		read := h.whole
		if kept := rapid.Bool().Draw(t, "kept"); kept {
			read = h.kept
		}
		got, err := read(bound, announced)
		switch long := size > bound || announced > int64(bound); {
		case long && !errors.Is(err, errTooLong):
			t.Fatalf("%d bytes, announced as %d, with a bound of %d: %v", size, announced, bound, err)
		case !long && err != nil:
			t.Fatal(err)
		case !long && !bytes.Equal(got, all[:size]):
			t.Fatalf("%d bytes are not what was sent", len(got))
		}
		if _, out := s.hoard.inFlight(); out != 0 {
			t.Fatalf("%d pieces are in use", out)
		}
		if h.taken > 0 && h.taken < int64(len(got)) || err == nil && size > 2*hoardFree && h.taken == 0 {
			t.Fatalf("%d bytes are held, %d counted", len(got), h.taken)
		}
		if err == nil && cap(got) <= wire.RoomMost {
			s.rooms.Give(got) // for the next: nobody else may have it
		}
		h.rest()
		if counted, _ := s.hoard.inFlight(); counted != 0 || s.held != 0 {
			t.Fatalf("%d bytes are counted of all, %d of the server", counted, s.held)
		}
	})
}

// TestGPX3_WhatIsHeldIsCounted: an answer that is read in pieces has its pieces
// counted, not more than a step beyond them, and gives up when there is no room.
func TestGPX3_WhatIsHeldIsCounted(t *testing.T) {
	s := hoardServerOf()
	defer s.hoard.pieces.close()
	all := text(4 << 20)
	read := 0
	h := &hoarder{s: s}
	h.r = readFunc(func(p []byte) (int, error) {
		counted, out := s.hoard.inFlight()
		if holds := int64(out * pieceSize); counted > holds+firstRoom*2+hoardStep || holds > hoardFree && counted < holds {
			t.Fatalf("%d bytes in pieces, %d counted", holds, counted)
		}
		n := copy(p[:min(len(p), 10_000)], all[read:])
		if read += n; n == 0 {
			return 0, io.EOF
		}
		return n, nil
	})
	got, err := h.whole(len(all), -1)
	if err != nil || !bytes.Equal(got, all) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if counted, out := s.hoard.inFlight(); out != 0 || counted < int64(len(all)) || counted > int64(len(all))+2*hoardStep {
		t.Errorf("of %d bytes, %d are counted; %d pieces", len(all), counted, out)
	}
	// Beside it an answer fits that needs no more than is left, while it is joined too.
	left := hoardServer - int(h.taken)
	for _, size := range []int{left/2 - 2*hoardStep, left/2 + 2*hoardStep, left + hoardStep} {
		other := &hoarder{r: bytes.NewReader(text(size)), s: s}
		_, err := other.whole(hoardServer, int64(size))
		if fits := size < left/2; fits != (err == nil) || !fits && !errors.Is(err, errCrowded) {
			t.Errorf("%d bytes where %d are left: %v", size, left, err)
		}
		other.rest()
		if counted, out := s.hoard.inFlight(); counted != h.taken || out != 0 {
			t.Errorf("afterwards %d bytes are counted, %d pieces in use", counted, out)
		}
	}
	h.rest()
	if counted, _ := s.hoard.inFlight(); counted != 0 {
		t.Errorf("at the end %d bytes are counted", counted)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// TestGPX3_PiecesServeAgainAndGo: what is given back is what is taken next; so many
// are kept, and those that nobody takes go.
func TestGPX3_PiecesServeAgainAndGo(t *testing.T) {
	var p pieces
	defer p.close()
	take := func(n int) (some []*piece) {
		for range n {
			some = append(some, p.take())
		}
		return some
	}
	free := func() int { p.mu.Lock(); defer p.mu.Unlock(); return len(p.free) }
	some := take(piecesFree + 3)
	p.give(some)
	if n := free(); n != piecesFree || p.out != 0 {
		t.Errorf("%d are kept, %d in use", n, p.out)
	}
	if again := p.take(); again != some[piecesFree-1] {
		t.Error("a new piece, though some were free")
	} else {
		p.give([]*piece{again})
	}
	p.sweep.Stop() // the test has its own time
	p.shrink()     // all but one were not taken since they came
	p.sweep.Stop()
	busy := take(1)
	if n := free(); n != 0 {
		t.Errorf("%d are kept that nobody took", n+1)
	}
	p.give(busy)
	for range 2 {
		p.shrink()
	}
	if n := free(); n != 0 || p.sweep != nil {
		t.Errorf("%d are kept for ever", n)
	}
	some = take(2)
	p.give(some[:1])
	p.close()
	p.give(some[1:])
	p.shrink()
	if n := free(); n != 0 || p.out != 0 {
		t.Errorf("after the end %d are kept, %d in use", n, p.out)
	}
}

// TestGPX3_LongLinesOfProcesses: a line is there as it was printed, or too long.
func TestGPX3_LongLinesOfProcesses(t *testing.T) {
	var from pieces
	defer from.close()
	var in bytes.Buffer
	sizes := []int{0, 10, 32<<10 - 1, 32 << 10, 32<<10 + 1, pieceSize - 1, pieceSize, 1 << 20, 10, 1<<20 + 1}
	for _, n := range sizes {
		in.Write(append(text(n)[:max(0, n-1)], '\n'))
	}
	s := &stdioPipe{in: bufio.NewReaderSize(&in, 32<<10), max: 1 << 20, pieces: &from}
	for _, n := range sizes {
		line, err := s.recv()
		if want := append(text(n)[:max(0, n-1)], '\n'); n <= s.max && (err != nil || !bytes.Equal(line, want)) {
			t.Errorf("a line of %d bytes: %d, %v", n, len(line), err)
		} else if n > s.max && !errors.Is(err, errLineTooLong) {
			t.Errorf("a line of %d bytes: %v", n, err)
		}
		if from.out != 0 {
			t.Errorf("%d pieces are in use after %d bytes", from.out, n)
		}
	}
}

// callServer is a server whose answer to a call is what f writes; what else it is
// asked it answers in order.
func callServer(t *testing.T, f func(w http.ResponseWriter, r *http.Request, id string)) *raw {
	return newRaw(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case strings.Contains(body, `"tools/call"`):
			w.Header().Set("Content-Type", "application/json")
			f(w, r, idOf(body))
		case idOf(body) == "":
			w.WriteHeader(http.StatusAccepted)
		default:
			result(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"},"tools":[{"name":"x","inputSchema":{"type":"object"}}]}`)
		}
	})
}

// TestGPX3_LongAnswersEndInOrder: at the bound and beyond it, announced or not, cut,
// crowded, silent and left alone, at the server's own endpoint and in the aggregate:
// the answer is whole or a clear error, and nothing of it stays in use.
func TestGPX3_LongAnswersEndInOrder(t *testing.T) {
	const bound = 600 << 10
	body := func(id string, n int) string { // n bytes in all
		head, tail := `{"jsonrpc":"2.0","id":`+id+`,"result":{"content":[{"type":"text","text":"`, `"}]}}`
		return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
	}
	type ending struct {
		serve  func(w http.ResponseWriter, r *http.Request, id string)
		status int
		rule   string // a word of what is said
	}
	chunked := func(n int) func(http.ResponseWriter, *http.Request, string) {
		return func(w http.ResponseWriter, _ *http.Request, id string) {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			io.WriteString(w, body(id, n))
		}
	}
	announced := func(n int) func(http.ResponseWriter, *http.Request, string) {
		return func(w http.ResponseWriter, _ *http.Request, id string) {
			w.Header().Set("Content-Length", strconv.Itoa(n))
			io.WriteString(w, body(id, n))
		}
	}
	endings := map[string]ending{
		"one room":            {chunked(firstRoom), 200, ""},
		"one room, announced": {announced(firstRoom), 200, ""},
		"at the bound":        {chunked(bound), 200, ""},
		"announced, at bound": {announced(bound), 200, ""},
		"beyond the bound":    {chunked(bound + 1), 502, "longer"},
		"announced beyond it": {announced(bound + 1), 502, "longer"},
		"far beyond it":       {chunked(8 * bound), 502, "longer"},
		"cut": {func(w http.ResponseWriter, _ *http.Request, id string) {
			w.Header().Set("Content-Length", strconv.Itoa(bound))
			io.WriteString(w, body(id, bound)[:bound/2])
		}, 502, "not a valid message"},
		"cut at the first room": {func(w http.ResponseWriter, _ *http.Request, id string) {
			w.Header().Set("Content-Length", strconv.Itoa(bound))
			io.WriteString(w, body(id, bound)[:1000])
		}, 502, "not a valid message"},
		"cut in a chunk": {func(w http.ResponseWriter, _ *http.Request, id string) {
			io.WriteString(w, body(id, bound)[:bound/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, 502, "not a valid message"},
		"half, announced so": {func(w http.ResponseWriter, _ *http.Request, id string) {
			w.Header().Set("Content-Length", strconv.Itoa(bound/2))
			io.WriteString(w, body(id, bound)[:bound/2])
		}, 502, "not a valid message"},
		"brackets": {func(w http.ResponseWriter, _ *http.Request, id string) {
			io.WriteString(w, `{"jsonrpc":"2.0","id":`+id+`,"result":`+strings.Repeat("[", bound/2))
		}, 502, "not a valid message"},
	}
	for name, e := range endings {
		t.Run(name, func(t *testing.T) {
			up := callServer(t, e.serve)
			s := at("one", up.URL)
			s.Rate, s.Failures, s.Era = 1<<40, 1000, "legacy"
			r := newRig(t, []Server{s}, generous, func(c *Config, _ *Deps) { c.MaxResponse = bound })
			for path, tool := range map[string]string{r.resource("one"): "x", r.url + "/mcp": "one__x"} {
				call := `{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"` + tool + `","arguments":{}}}`
				a := r.do("POST", path, call, "Authorization", "Bearer "+r.as.token(t, path, "alice", nil))
				switch {
				case e.status == 200 && (a.status != 200 || !strings.Contains(a.body, `"id":17`) || strings.Count(a.body, "x") < bound/10-100):
					t.Errorf("%s: %d, %d bytes: %.200s", path, a.status, len(a.body), a.body)
				case e.status != 200 && tool == "x" && (a.status != e.status || !strings.Contains(a.body, e.rule)):
					t.Errorf("%s: %d %.200s", path, a.status, a.body)
				case e.status != 200 && !strings.Contains(a.body, `"error"`):
					t.Errorf("%s: %d %.200s", path, a.status, a.body)
				}
				r.nothingInFlight()
			}
		})
	}
}

// nothingInFlight waits until no answer is read any more, and looks at what is left.
func (r *rig) nothingInFlight() {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		r.g.places.mu.Lock()
		calls := r.g.places.all
		r.g.places.mu.Unlock()
		counted, out := r.g.hoard.inFlight()
		if calls == 0 && counted == 0 && out == 0 {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%d calls, %d bytes and %d pieces are in use still", calls, counted, out)
		}
	}
}

// TestGPX3_AbandonedAnswersLetGo: a client that leaves, a server that falls silent,
// and too many answers at once end in the middle of an answer; its memory is free.
func TestGPX3_AbandonedAnswersLetGo(t *testing.T) {
	begun := make(chan struct{}, 64)
	part := `{"jsonrpc":"2.0","id":1,"result":{"text":"` + strings.Repeat("x", 1<<20)
	up := callServer(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		io.WriteString(w, part)
		w.(http.Flusher).Flush()
		begun <- struct{}{}
		<-r.Context().Done()
	})
	s := at("one", up.URL)
	s.Rate, s.Failures = 1<<40, 1000
	silence := time.Hour
	for _, name := range []string{"the client leaves", "the server is silent", "crowded"} {
		t.Run(name, func(t *testing.T) {
			if silence = time.Hour; name == "the server is silent" {
				silence = 50 * time.Millisecond
			}
			r := newRig(t, []Server{s}, generous, func(c *Config, _ *Deps) { c.IdleWait = silence })
			ctx, leave := context.WithCancel(context.Background())
			defer leave()
			statuses, n := make(chan int, 64), 1
			if name == "crowded" {
				n = 44
			}
			for i := range n {
				go func() {
					req, err := http.NewRequestWithContext(ctx, "POST", r.resource("one"), strings.NewReader(callEcho))
					if err != nil {
						panic(err)
					}
					req.Header.Set("Content-Type", "application/json")
					req.Header.Set("Authorization", "Bearer "+r.token("one", fmt.Sprint("user", i)))
					resp, err := r.http.Client().Do(req)
					if err != nil {
						statuses <- 0
						return
					}
					resp.Body.Close()
					statuses <- resp.StatusCode
				}()
			}
			for range n {
				<-begun
			}
			switch name {
			case "the server is silent":
				if status := <-statuses; status != http.StatusBadGateway && status != http.StatusGatewayTimeout {
					t.Errorf("%d", status)
				}
			case "crowded": // 40 MiB of 44 fit
				if status := <-statuses; status != http.StatusServiceUnavailable {
					t.Errorf("%d", status)
				}
			}
			leave()
			r.nothingInFlight()
		})
	}
}

// FuzzWhole: an answer in whatever pieces is there as it was sent, or is too long.
func FuzzWhole(f *testing.F) {
	f.Add(uint32(1<<20), uint32(1<<20), int64(-1), []byte{1, 255, 7})
	f.Add(uint32(firstRoom+1), uint32(firstRoom), int64(firstRoom+1), []byte{200})
	all, s := text(1<<20), hoardServerOf()
	f.Fuzz(func(t *testing.T, size, bound uint32, announced int64, cuts []byte) {
		n, most := int(size)%len(all), 1+int(bound)%len(all)
		lengths := []int{1 << 15}
		for _, c := range cuts[:min(len(cuts), 100)] {
			lengths = append(lengths, 1+int(c)*128)
		}
		h := &hoarder{r: &ragged{r: bytes.NewReader(all[:n]), lengths: lengths}, s: s}
		defer h.rest()
		got, err := h.whole(most, announced)
		if long := n > most || announced > int64(most); long != errors.Is(err, errTooLong) || !long && (err != nil || !bytes.Equal(got, all[:n])) {
			t.Errorf("%d bytes, announced as %d, with a bound of %d: %d, %v", n, announced, most, len(got), err)
		}
		if err == nil {
			s.rooms.Give(got)
		}
		if _, out := s.hoard.inFlight(); out != 0 {
			t.Errorf("%d pieces are in use", out)
		}
	})
}
