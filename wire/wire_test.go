package wire

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/kidoban/kidoban"
	"pgregory.net/rapid"
)

func TestStrict_Refusals(t *testing.T) {
	r := NewReader(Limits{MaxBytes: 4096, MaxDepth: 8})
	for msg, why := range map[string]string{
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`:                           "",
		` {"jsonrpc":"2.0","id":"a\"b","method":"x/y","params":{}} ` + "\n":  "",
		`{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"m"}`: "",
		`{"jsonrpc":"2.0","id":-7,"method":"m"}`:                             "",
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`:             "",
		`{"jsonrpc":"2.0","id":1,"result":null}`:                             "",
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}`:  "",
		`{"jsonrpc":"2.0","error":{"code":-32700,"message":"x","data":[1]}}`: "",
		`{"jsonrpc":"2.0","id":1,"method":"m","traceparent":"x"}`:            "",
		``:     WhyNotJSON,
		`{`:    WhyNotJSON,
		`nul`:  WhyNotJSON,
		`"x"`:  WhyNotObject,
		`1`:    WhyNotObject,
		`null`: WhyNotObject,
		`[]`:   WhyBatch,
		` [{"jsonrpc":"2.0","id":1,"method":"ping"}]`:                                                                 WhyBatch,
		`{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}`:                                                          WhyDuplicate,
		`{"jsonrpc":"2.0","id":1,"method":"a","m\u0065thod":"b"}`:                                                     WhyDuplicate,
		`{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":{"y":1,"y":2}}}`:                                          WhyDuplicate,
		`{"jsonrpc":"2.0","id":1,"result":[{"a":1,"a":1}]}`:                                                           WhyDuplicate,
		`{"jsonrpc":"2.0","id":1,"method":"a","Method":"b"}`:                                                          WhyCase,
		`{"jsonrpc":"2.0","id":1,"m\u0065thod":"b"}`:                                                                  WhyCase,
		`{"jsonrpc":"2.0","id":1,"method":"a","PARAMS":{}}`:                                                           WhyCase,
		`{"jsonrpc":"2.0","id":1,"method":"a","paramſ":{}}`:                                                           WhyCase,
		`{"JSONRPC":"2.0","id":1,"method":"a"}`:                                                                       WhyCase,
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\xff\"}":                                                         WhyUTF8,
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"params\":{\"x\":\"\xc0\xaf\"}}":                             WhyUTF8,
		`{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":"\ud800"}}`:                                               WhyUTF8,
		`{"jsonrpc":"2.0","id":1,"method":"a"}{}`:                                                                     WhyTrailing,
		`{"jsonrpc":"2.0","id":1,"method":"a"} x`:                                                                     WhyTrailing,
		`{"jsonrpc":"1.0","id":1,"method":"a"}`:                                                                       WhyVersion,
		`{"jsonrpc":2.0,"id":1,"method":"a"}`:                                                                         WhyVersion,
		`{"id":1,"method":"a"}`:                                                                                       WhyVersion,
		`{"jsonrpc":"2.0","id":1.5,"method":"a"}`:                                                                     WhyID,
		`{"jsonrpc":"2.0","id":1e3,"method":"a"}`:                                                                     WhyID,
		`{"jsonrpc":"2.0","id":true,"method":"a"}`:                                                                    WhyID,
		`{"jsonrpc":"2.0","id":null,"method":"a"}`:                                                                    WhyID,
		`{"jsonrpc":"2.0","id":{},"method":"a"}`:                                                                      WhyID,
		`{"jsonrpc":"2.0","result":{}}`:                                                                               WhyID,
		`{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 600) + `","method":"a"}`:                                      WhyID,
		`{"jsonrpc":"2.0","id":1,"method":5}`:                                                                         WhyMethod,
		`{"jsonrpc":"2.0","id":1,"method":""}`:                                                                        WhyMethod,
		`{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}`:                                                          WhyParams,
		`{"jsonrpc":"2.0","id":1,"method":"a","params":null}`:                                                         WhyParams,
		`{"jsonrpc":"2.0","id":1}`:                                                                                    WhyShape,
		`{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}`:                                        WhyShape,
		`{"jsonrpc":"2.0","id":1,"method":"a","result":{}}`:                                                           WhyShape,
		`{"jsonrpc":"2.0","id":1,"error":"x"}`:                                                                        WhyErrorObject,
		`{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":""}}`:                                                  WhyErrorObject,
		`{"jsonrpc":"2.0","id":1,"method":"a","params":` + strings.Repeat(`{"a":`, 9) + `1` + strings.Repeat("}", 10): WhyTooDeep,
		`{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("a", 5000) + `"}`:                                       WhyTooLarge,
		`{"jsonrpc":"2.0","id":01,"method":"a"}`:                                                                      WhyNotJSON,
		`{"jsonrpc":"2.0","id":1,"method":"a",}`:                                                                      WhyNotJSON,
		`{"jsonrpc":"2.0","id":1,/**/"method":"a"}`:                                                                   WhyNotJSON,
	} {
		_, err := r.Read([]byte(msg))
		if WhyOf(err) != why || (err == nil) != (why == "") {
			t.Errorf("%s: %q, want %q (%v)", msg[:min(len(msg), 90)], WhyOf(err), why, err)
		}
		if err != nil && kidoban.KindOf(err) == kidoban.KindInternal {
			t.Errorf("%s: error without a kind: %v", msg[:min(len(msg), 90)], err)
		}
	}
}

func TestStrict_RawTextIsKept(t *testing.T) {
	in := `{ "jsonrpc" : "2.0", "id" : 98765432109876543210 , "method":"tools/call", "params": {"name":"t\u0041", "arguments":{"n":9007199254740993, "x": [ 1 ,2]},"_meta":{"new":1}} , "extra":1 }`
	m, err := NewReader(Limits{}).Read([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	const params = `{"name":"t\u0041", "arguments":{"n":9007199254740993, "x": [ 1 ,2]},"_meta":{"new":1}}`
	if string(m.ID.Raw) != "98765432109876543210" || string(m.Params) != params || m.Method != MethodToolsCall || !m.Extra || m.Kind != Request {
		t.Errorf("%+v", m)
	}
	want := `{"jsonrpc":"2.0","id":98765432109876543210,"method":"tools/call","params":` + params + `}`
	if got := string(AppendMessage(nil, m)); got != want {
		t.Errorf("%s", got)
	}
	p, err := PeekParams(m.Params)
	if err != nil || p.Name != "tA" || string(p.Arguments) != `{"n":9007199254740993, "x": [ 1 ,2]}` {
		t.Errorf("%+v %v", p, err)
	}
	renamed := SetMember(m.Params, "name", Quote("b"))
	if string(renamed) != strings.Replace(params, `"t\u0041"`, `"b"`, 1) {
		t.Errorf("%s", renamed)
	}
	if got := SetMember(Raw(`{}`), "a", Raw(`1`)); string(got) != `{"a":1}` {
		t.Errorf("%s", got)
	}
	if got := SetMember(Raw(`{"b":2}`), "a", Raw(`1`)); string(got) != `{"b":2,"a":1}` {
		t.Errorf("%s", got)
	}
	if got := DropMember(Raw(`{"b":2, "a":[1, 2],"c":3}`), "a"); string(got) != `{"b":2,"c":3}` {
		t.Errorf("%s", got)
	}
}

func TestPeekParams_RefusesOtherCase(t *testing.T) {
	for raw, why := range map[string]string{
		`{"name":"a"}`:            "",
		`{"Name":"a"}`:            WhyCase,
		`{"name":"a","NAME":"b"}`: WhyCase,
		`{"Arguments":{}}`:        WhyCase,
		`{"_Meta":{}}`:            WhyCase,
		`{"Ref":{}}`:              WhyCase,
		`{"Notifications":{}}`:    WhyCase,
		`{"name":1}`:              WhyParams,
		`{"arguments":[]}`:        WhyParams,
		`{"arguments":null}`:      "",
		`{"_meta":"x"}`:           WhyParams,
		`{"_meta":{"io.modelcontextprotocol/protocolVersion":1}}`:            WhyParams,
		`{"_meta":{"io.modelcontextprotocol/ProtocolVersion":"2026-07-28"}}`: WhyCase,
		`{"arguments":{"Name":1,"name":2}}`:                                  "",
	} {
		_, err := PeekParams(Raw(raw))
		if WhyOf(err) != why || (err == nil) != (why == "") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestEraOf(t *testing.T) {
	for v, want := range map[string]struct {
		e Era
		k bool
	}{
		Rev20260728: {Modern, true}, Rev20251125: {Legacy, true}, Rev20241105: {Legacy, true},
		"2027-01-01": {Modern, false}, "2026-07-27": {Legacy, false}, "": {Legacy, false},
		"DRAFT": {Legacy, false}, "9999": {Legacy, false}, "2026-07-28x": {Legacy, false},
	} {
		if e, k := EraOf(v); e != want.e || k != want.k {
			t.Errorf("%q: %v %v", v, e, k)
		}
	}
	if !IsModernCode(-32020) || !IsModernCode(-32022) || IsModernCode(-32002) || IsModernCode(-32019) || IsModernCode(-32023) {
		t.Error("modern codes")
	}
}

func TestReadLenient(t *testing.T) {
	l, ok := ReadLenient([]byte(`{"jsonrpc":"2.0","id":1,"method":"a","Method":"b"} tail`), Limits{})
	if !ok || len(l.Messages) != 1 || l.Messages[0].Method != "b" || len(l.Objections) != 1 || l.Objections[0] != WhyCase {
		t.Errorf("%+v %v", l, ok)
	}
	l, ok = ReadLenient([]byte(`[{"id":1,"result":{}},{"method":"n"},7]`), Limits{})
	if !ok || !l.Batch || len(l.Messages) != 2 || l.Messages[0].Kind != Result || l.Messages[1].Kind != Notification {
		t.Errorf("%+v %v", l, ok)
	}
	if l, ok := ReadLenient([]byte("{\"id\":1,\"error\":{\"message\":\"\xff\"}}"), Limits{}); !ok || l.Messages[0].Kind != ErrorReply {
		t.Errorf("%+v %v", l, ok)
	}
	for _, bad := range []string{"", "<html>", "1", "{"} {
		if _, ok := ReadLenient([]byte(bad), Limits{}); ok {
			t.Error(bad)
		}
	}
}

// A message with any params survives reading and writing with its raw values
// byte for byte.
func TestStrict_RoundTrip(t *testing.T) {
	value := rapid.StringMatching(`("[a-z\\\\/]{0,0}"|-?[1-9][0-9]{0,30}|\[ ?1 ?, ?"é" ?\]|\{ ?"a b" ?: ?null ?\}|true)`)
	r := NewReader(Limits{})
	rapid.Check(t, func(t *rapid.T) {
		v := value.Draw(t, "value")
		id := rapid.SampledFrom([]string{`1`, `"x"`, `-99999999999999999999`, `"\u00e9"`}).Draw(t, "id")
		in := `{"jsonrpc":"2.0","id":` + id + `,"result":{"v":` + v + `}}`
		m, err := r.Read([]byte(in))
		if err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		if got := string(AppendMessage(nil, m)); got != in {
			t.Fatalf("%s became %s", in, got)
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":[1,{"b":"\u00e9"}]}}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":"a","error":{"code":-32601,"message":"x"}}`))
	f.Add([]byte("[{\"jsonrpc\":\"2.0\"}]"))
	r := NewReader(Limits{MaxBytes: 1 << 16, MaxDepth: 32})
	f.Fuzz(func(t *testing.T, in []byte) {
		keep := bytes.Clone(in)
		ReadLenient(in, Limits{MaxBytes: 1 << 16, MaxDepth: 32})
		m, err := r.Read(in)
		if !bytes.Equal(keep, in) {
			t.Fatal("the reader changed the message")
		}
		if err != nil {
			if WhyOf(err) == "" {
				t.Fatalf("no code: %v", err)
			}
			return
		}
		out := AppendMessage(nil, m)
		m2, err := r.Read(out)
		if err != nil {
			t.Fatalf("own envelope refused: %s: %v", out, err)
		}
		if m2.Kind != m.Kind || m2.Method != m.Method || !bytes.Equal(m2.Params, m.Params) || !bytes.Equal(m2.Result, m.Result) || !bytes.Equal(m2.Error, m.Error) {
			t.Fatalf("%s became %s", in, out)
		}
		if _, err := PeekParams(m.Params); err == nil && m.Params != nil {
			set := SetMember(m.Params, "name", Quote("n"))
			if got := LookupString(set, "name"); got != "n" {
				t.Fatalf("SetMember on %s gave %s", m.Params, set)
			}
		}
		_, _ = HeaderParams(m.Params)
	})
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{200, 4 << 10, 256 << 10} {
		msg := []byte(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"read_file","arguments":{"path":"/a","text":"` +
			strings.Repeat("lorem ipsum ", size/12) + `"},"_meta":{"progressToken":1}}}`)
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			r := NewReader(Limits{})
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Read(msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEnvelope(b *testing.B) {
	msg := []byte(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"read_file","arguments":{"path":"/a"}}}`)
	m, err := NewReader(Limits{}).Read(msg)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendMessage(buf[:0], m)
	}
}
