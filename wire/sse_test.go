package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/kidoban/kidoban"
	"pgregory.net/rapid"
)

func readAll(t *testing.T, r io.Reader, max int) []Event {
	t.Helper()
	var out []Event
	er := NewEventReader(r, max)
	for {
		ev, err := er.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, ev)
	}
}

func TestSSE_Forms(t *testing.T) {
	in := "\ufeff: hello\n\nevent: endpoint\r\ndata: /messages?x=1\r\n\r\nid: 7\rdata:a\rdata: b\rretry: 250\r\r" +
		"data\n\nid\ndata: c\n\nid: x\x00y\ndata: d\n\nevent: e\n\nnothing: 1\ndata: last\n\ndata: cut"
	want := []Event{
		{Type: "endpoint", Data: []byte("/messages?x=1"), Retry: -1},
		{ID: "7", HasID: true, Data: []byte("a\nb"), Retry: 250 * time.Millisecond},
		{ID: "7", Data: []byte(""), Retry: -1},
		{ID: "", HasID: true, Data: []byte("c"), Retry: -1},
		{Data: []byte("d"), Retry: -1},
		{Data: []byte("last"), Retry: -1},
	}
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in))} {
		if d := cmp.Diff(want, readAll(t, r, 0)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestSSE_Bound(t *testing.T) {
	for _, in := range []string{"data: " + strings.Repeat("x", 200) + "\n\n", strings.Repeat("data: x\n", 50), ":" + strings.Repeat("c", 200)} {
		_, err := NewEventReader(strings.NewReader(in), 100).Next()
		if kidoban.KindOf(err) != kidoban.KindLimit {
			t.Errorf("%.20q: %v", in, err)
		}
	}
	if got := readAll(t, strings.NewReader(strings.Repeat("data: x\n\n", 100)), 20); len(got) != 100 {
		t.Errorf("the bound is per event: read %d", len(got))
	}
}

// What is written is read again, however the bytes are cut.
func TestSSE_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := Event{
			Type:  rapid.StringMatching(`[a-z]{0,6}`).Draw(t, "type"),
			HasID: rapid.Bool().Draw(t, "hasID"),
			Data:  []byte(rapid.String().Draw(t, "data")),
			Retry: -1,
		}
		if in.HasID {
			in.ID = rapid.StringMatching(`[ -~]{0,8}`).Draw(t, "id")
		}
		stream := AppendEvent(AppendComment(nil, "x\ny"), in)
		cut := rapid.IntRange(0, len(stream)).Draw(t, "cut")
		p, got := NewEventParser(0), []Event(nil)
		for _, part := range [][]byte{stream[:cut], stream[cut:]} {
			if err := p.Feed(part, func(ev Event) bool { got = append(got, ev); return true }); err != nil {
				t.Fatal(err)
			}
		}
		want := in
		want.Data = bytes.ReplaceAll(bytes.ReplaceAll(in.Data, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
		if len(got) != 1 || !cmp.Equal(got[0], want, cmpopts.EquateEmpty()) {
			t.Fatalf("%q gave %+v, want %+v", stream, got, want)
		}
	})
}

func FuzzSSE(f *testing.F) {
	f.Add([]byte("data: a\r\n\r\nid: 1\ndata: b\n\n"), 3)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		whole, parts := []Event(nil), []Event(nil)
		if err := NewEventParser(1000).Feed(in, func(ev Event) bool { whole = append(whole, ev); return true }); err != nil {
			return
		}
		p := NewEventParser(1000)
		cut = max(0, min(cut, len(in)))
		for _, part := range [][]byte{in[:cut], in[cut:]} {
			if err := p.Feed(part, func(ev Event) bool { parts = append(parts, ev); return true }); err != nil {
				t.Fatal(err)
			}
		}
		if !cmp.Equal(whole, parts) {
			t.Errorf("%q cut at %d: %+v, whole %+v", in, cut, parts, whole)
		}
	})
}

// Long lines are handed over uncopied: no later event, and no later line, may
// write into one, however the bytes are cut and whatever ends the lines.
func TestSSE_LongLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		end := rapid.SampledFrom([]string{"\n", "\r", "\r\n"}).Draw(t, "end")
		var stream string
		var want []string
		for i := range rapid.IntRange(1, 5).Draw(t, "events") {
			var lines []string
			for range rapid.IntRange(1, 4).Draw(t, "lines") {
				line := strings.Repeat(string(rune('a'+i)), rapid.SampledFrom([]int{0, 1, ownText - 1, ownText, 3 * ownText}).Draw(t, "length"))
				lines = append(lines, line)
				stream += "data: " + line + end
			}
			stream += end
			want = append(want, strings.Join(lines, "\n"))
		}
		p, got := NewEventParser(0), []Event(nil)
		for len(stream) > 0 {
			n := rapid.IntRange(1, len(stream)).Draw(t, "cut")
			if err := p.Feed([]byte(stream[:n]), func(ev Event) bool { got = append(got, ev); return true }); err != nil {
				t.Fatal(err)
			}
			stream = stream[n:]
		}
		if len(got) != len(want) {
			t.Fatalf("%d events, not %d", len(got), len(want))
		}
		for i, ev := range got {
			if string(ev.Data) != want[i] {
				t.Fatalf("event %d: %q, not %q", i, ev.Data, want[i])
			}
		}
	})
}

// Memory that was recycled serves other lines of other streams, and never one of an
// event that somebody still holds.
func TestSSE_Recycle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var readers [2]*EventReader
		var want [2][]string
		for i := range readers {
			var stream strings.Builder
			for n := range rapid.IntRange(1, 6).Draw(t, "events") {
				data := strings.Repeat(string(rune('a'+i*8+n)), rapid.SampledFrom([]int{1, ownText - 1, ownText, 20 * ownText, RoomMost + 1}).Draw(t, "length"))
				want[i] = append(want[i], data)
				stream.WriteString(rapid.SampledFrom([]string{"", "event: message\n", ": " + strings.Repeat("c", 3*ownText) + "\n"}).Draw(t, "before"))
				stream.WriteString("data: " + data + "\n\n")
			}
			readers[i] = NewEventReader(strings.NewReader(stream.String()), 0)
		}
		var held [2]Event
		for len(want[0])+len(want[1]) > 0 {
			i := rapid.IntRange(0, 1).Draw(t, "stream")
			if len(want[i]) == 0 {
				i = 1 - i
			}
			Recycle(held[i])
			var err error
			if held[i], err = readers[i].Next(); err != nil {
				t.Fatal(err)
			}
			was := string(held[1-i].Data)
			if string(held[i].Data) != want[i][0] {
				t.Fatalf("%.20q…, not %.20q…", held[i].Data, want[i][0])
			}
			want[i] = want[i][1:]
			if other := strings.Trim(was, was[:min(1, len(was))]); other != "" {
				t.Fatalf("the event of the other stream was written over: %.20q…", other)
			}
		}
	})
}

// An event with a message reads as the event whose data the message is, of every
// kind, white space with line ends between its tokens included.
func TestSSE_MessageEvent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		space := rapid.SampledFrom([]string{"", " ", "\n", "\r\n", "\r"}).Draw(t, "space")
		value := Raw("{" + space + `"a":` + space + "[1," + space + "2]}")
		id := rapid.SampledFrom([]ID{{}, IntID(1), StringID("x\ny")}).Draw(t, "message id")
		m := rapid.SampledFrom([]Message{
			{Kind: Request, ID: id, Method: "a\"b", Params: value}, {Kind: Request, ID: id, Method: "ping"}, {Kind: Notification, ID: id, Method: "n", Params: value},
			{Kind: Notification, Method: "n"}, {Kind: Result, ID: id, Result: value}, {Kind: ErrorReply, ID: id, Error: value},
		}).Draw(t, "message")
		ev := Event{Type: rapid.SampledFrom([]string{"", "message"}).Draw(t, "type"), Retry: rapid.SampledFrom([]time.Duration{-1, time.Second}).Draw(t, "retry")}
		if ev.HasID = rapid.Bool().Draw(t, "hasID"); ev.HasID {
			ev.ID = "7"
		}
		head, part, tail := SplitMessageEvent([]byte("before"), ev, m)
		if len(part) > 0 && space != "\n" && !bytes.ContainsAny(value, "\r\n") && &part[0] != &value[0] {
			t.Fatal("the value was copied")
		}
		got := append(append(head, part...), tail...)
		ev.Data = AppendMessage(nil, m)
		if want := AppendEvent([]byte("before"), ev); !bytes.Equal(got, want) {
			t.Fatalf("%q, not %q", got, want)
		}
	})
}

// The parts of a message are the message as it was written before: what is in it,
// and nothing else.
func TestSplitMessage(t *testing.T) {
	for want, m := range map[string]Message{
		`{"jsonrpc":"2.0","id":1,"method":"m","params":{}}`: {Kind: Request, ID: IntID(1), Method: "m", Params: Raw("{}")},
		`{"jsonrpc":"2.0","id":1,"method":"m"}`:             {Kind: Request, ID: IntID(1), Method: "m"},
		`{"jsonrpc":"2.0","method":"m","params":{}}`:        {Kind: Notification, ID: IntID(1), Method: "m", Params: Raw("{}"), Raw: Raw(`{"x":1}`)},
		`{"jsonrpc":"2.0","id":"a","result":[]}`:            {Kind: Result, ID: StringID("a"), Result: Raw("[]"), Extra: true},
		`{"jsonrpc":"2.0","id":null,"error":{}}`:            {Kind: ErrorReply, Error: Raw("{}")},
		`{"jsonrpc":"2.0","id":2,"error":{}}`:               {Kind: ErrorReply, ID: IntID(2), Error: Raw("{}")},
	} {
		head, value, tail := SplitMessage([]byte("before "), m)
		if got := string(head) + string(value) + tail; got != "before "+want {
			t.Errorf("%s, not %s", got, want)
		}
		if got := string(AppendMessage(nil, m)); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

// Whoever has a room has it alone until it is given back, and it holds as much as
// was asked for.
func TestRooms(t *testing.T) {
	var rooms Rooms
	rapid.Check(t, func(t *rapid.T) {
		type held struct {
			b    []byte
			mark byte
		}
		var all []held
		size := rapid.OneOf(rapid.IntRange(0, 10_000), rapid.SampledFrom([]int{roomLeast, roomLeast + 1, RoomMost, RoomMost + 1}))
		for i := range rapid.IntRange(1, 30).Draw(t, "steps") {
			at := rapid.IntRange(0, len(all)).Draw(t, "which")
			switch n := size.Draw(t, "size"); {
			case at == len(all):
				b := rooms.Take(n)
				if len(b) != 0 || cap(b) < n || n > RoomMost && cap(b) != n {
					t.Fatalf("a room of %d, %d of it taken, for %d", cap(b), len(b), n)
				}
				all = append(all, held{append(b, bytes.Repeat([]byte{byte(i)}, n)...), byte(i)})
			case rapid.Bool().Draw(t, "enlarge"):
				if all[at].b = rooms.Enlarge(all[at].b, max(n, len(all[at].b))); cap(all[at].b) < n {
					t.Fatalf("enlarged to %d for %d", cap(all[at].b), n)
				}
			default:
				rooms.Give(all[at].b)
				all = append(all[:at], all[at+1:]...)
			}
			for _, h := range all {
				if len(bytes.Trim(h.b, string([]byte{h.mark}))) > 0 {
					t.Fatal("somebody else wrote into a room")
				}
			}
		}
	})
}

// Lines in every room, and data that grows through them all, arrive as they were
// sent, while their memory serves again.
func TestSSE_RoomsOfLines(t *testing.T) {
	var stream strings.Builder
	var want []string
	for i := range 3 {
		for n := roomLeast - 7; n < 4*RoomMost; n *= 2 {
			for _, n := range []int{n, n + 1, n + 7} {
				data := strings.Repeat(string(rune('a'+i+n%7)), n)
				stream.WriteString(": " + data + "\ndata: " + data + "\ndata: " + data[:n/2] + "\ndata:" + data + "\n\n")
				want = append(want, data+"\n"+data[:n/2]+"\n"+data)
			}
		}
	}
	in := NewEventReader(strings.NewReader(stream.String()), 32*RoomMost)
	for i, w := range want {
		ev, err := in.Next()
		if err != nil || string(ev.Data) != w {
			t.Fatalf("event %d: %d bytes, not %d, %v", i, len(ev.Data), len(w), err)
		}
		Recycle(ev)
	}
}

// What is too long, or cut, leaves nothing behind that would be taken for the
// beginning of something else.
func TestSSE_LongLinesGivenUp(t *testing.T) {
	long := strings.Repeat("x", 5*RoomMost)
	for _, in := range []string{"data: " + long, "data: a\ndata: " + long, strings.Repeat("data: "+long[:2*RoomMost]+"\n", 3), "data: " + long[:3*RoomMost]} {
		r := NewEventReader(strings.NewReader(in), 4*RoomMost)
		if ev, err := r.Next(); err == nil {
			t.Errorf("an event of %d bytes", len(ev.Data))
		}
		if r.parser.line.n+r.parser.data.n > 0 || len(r.parser.line.full)+len(r.parser.data.full) > 0 {
			t.Errorf("%d and %d bytes are held", r.parser.line.n, r.parser.data.n)
		}
	}
	in := "data: " + long + "\ndata: " + long + "\n\n"
	if got := readAll(t, strings.NewReader(in), 11*RoomMost); len(got) != 1 || string(got[0].Data) != long+"\n"+long {
		t.Errorf("%d events", len(got))
	}
}
