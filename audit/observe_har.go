package audit

import (
	"context"
	"encoding/base64"
	"io"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/wire"
)

// Bounds of recorded traffic.
const (
	observeEntry = 32 << 20  // bytes of one entry of a file; longer ones are left out and counted
	observeBody  = 256 << 10 // bytes kept of each body
)

// ReadHAR adds the exchanges of a HAR 1.2 file (browsers, proxies, kidoban's
// own --write-har). The file is read once, entry by entry: memory does not grow
// with it. What was read before an error stays observed, and the observation is
// marked as partial.
func (o *Observation) ReadHAR(ctx context.Context, name string, r io.Reader) error {
	n := 0
	end, err := wire.StreamArray(r, observeEntry, func(raw wire.Raw) bool {
		n++
		o.number++
		x := &kidoban.Exchange{ID: o.number}
		if body, ok := harHeads(raw, x); ok {
			if o.wanted(x) {
				harBody(body, x)
				o.add(x)
			}
		} else {
			o.unreadable++
		}
		return n%1024 != 0 || ctx.Err() == nil
	}, "log", "entries")
	if ctx.Err() != nil {
		o.partial("reading %s was interrupted after %s", name, kidoban.Count(n, "entry", "entries"))
		return ctx.Err()
	}
	if end.Skipped > 0 {
		o.partial("%s: left out %s longer than %d MiB", name, kidoban.Count(end.Skipped, "entry", "entries"), observeEntry>>20)
	}
	if err != nil && n == 0 {
		return kidoban.Wrap(kidoban.KindInput, err, "%s is no HAR file: it must hold {\"log\":{\"entries\":[…]}}; save it again from the browser or the proxy", name)
	}
	if err != nil {
		o.partial("%s is cut off or broken after entry %d (%s); save it again to see the rest", name, n, sentence(err))
	}
	return nil
}

// sentence is the part of an error that a stranger may read.
func sentence(err error) string {
	if e, ok := err.(*kidoban.Error); ok {
		return e.Sentence
	}
	return "it cannot be read"
}

// harHeads reads all of an entry but the response's body, which it returns raw:
// most entries are of no interest and their bodies are the bulk.
func harHeads(raw wire.Raw, x *kidoban.Exchange) (content wire.Raw, ok bool) {
	wire.Each(raw, func(name, value wire.Raw) bool {
		switch string(name) {
		case `"startedDateTime"`:
			s, _ := wire.String(value)
			x.Started, _ = time.Parse(time.RFC3339Nano, s) // a HAR without times is still a HAR
		case `"request"`:
			ok = harRequest(value, &x.Request)
		case `"response"`:
			content = harResponse(value, x)
		case `"_kidoban"`:
			x.Probe, x.Note = wire.LookupString(value, "probe"), wire.LookupString(value, "note")
		}
		return true
	})
	return content, ok
}

func harRequest(raw wire.Raw, r *kidoban.Request) bool {
	wire.Each(raw, func(name, value wire.Raw) bool {
		switch string(name) {
		case `"method"`:
			r.Method, _ = wire.String(value)
		case `"url"`:
			if len(value) <= 64<<10 {
				r.URL, _ = wire.String(value)
			}
		case `"headers"`:
			r.Header = harFields(value)
		case `"postData"`:
			r.Body = harText(value, "_encoding")
			if len(r.Body) == 0 { // forms may be written as parameters only
				if list, ok := wire.Lookup(value, "params"); ok {
					r.Body = []byte(formOf(harFields(list)))
				}
			}
		}
		return true
	})
	return r.Method != "" && r.URL != ""
}

func harResponse(raw wire.Raw, x *kidoban.Exchange) (content wire.Raw) {
	resp := &kidoban.Response{}
	wire.Each(raw, func(name, value wire.Raw) bool {
		switch string(name) {
		case `"status"`:
			n, _ := wire.Int(value)
			if n > 0 && n < 1000 {
				resp.Status = int(n)
			}
		case `"httpVersion"`:
			resp.Proto, _ = wire.String(value)
		case `"headers"`:
			resp.Header = harFields(value)
		case `"redirectURL"`:
			if s, _ := wire.String(value); s != "" && resp.Header.Get("Location") == "" {
				resp.Header = append(resp.Header, kidoban.Field{Name: "Location", Value: s})
			}
		case `"content"`:
			content = value
		}
		return true
	})
	if resp.Status > 0 { // browsers write 0 for a request that got no answer
		x.Response = resp
	}
	return content
}

func harBody(content wire.Raw, x *kidoban.Exchange) {
	if x.Response == nil || content == nil {
		return
	}
	b := harText(content, "encoding")
	if len(b) > observeBody {
		b, x.Response.Truncated = b[:observeBody], true
	}
	x.Response.Body = b
	if x.Response.Header.Get("Content-Type") == "" {
		if m := wire.LookupString(content, "mimeType"); m != "" {
			x.Response.Header = append(x.Response.Header, kidoban.Field{Name: "Content-Type", Value: m})
		}
	}
}

// harText reads a text member that may be in base64.
func harText(raw wire.Raw, encoding string) []byte {
	var text wire.Raw
	coded := false
	wire.Each(raw, func(name, value wire.Raw) bool {
		switch n, _ := wire.String(name); n {
		case "text":
			text = value
		case encoding:
			coded = string(value) == `"base64"`
		}
		return true
	})
	s, _ := wire.String(text)
	if coded {
		if b, err := base64.StdEncoding.DecodeString(s); err == nil {
			return b
		}
	}
	return []byte(s)
}

// harFields reads a list of name and value, at most 200.
func harFields(raw wire.Raw) kidoban.Fields {
	var out kidoban.Fields
	wire.Elements(raw, func(e wire.Raw) bool {
		var f kidoban.Field
		wire.Each(e, func(name, value wire.Raw) bool {
			switch string(name) {
			case `"name"`:
				f.Name, _ = wire.String(value)
			case `"value"`:
				f.Value, _ = wire.String(value)
			}
			return true
		})
		if f.Name != "" && f.Name[0] != ':' && len(f.Value) <= 64<<10 { // ":path" and its like belong to HTTP/2
			out = append(out, f)
		}
		return len(out) < 200
	})
	return out
}
