package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
)

// burpItem is one entry of Burp's XML export.
type burpItem struct {
	Time     string      `xml:"time"`
	URL      string      `xml:"url"`
	Request  burpMessage `xml:"request"`
	Response burpMessage `xml:"response"`
}

type burpMessage struct {
	Base64 bool   `xml:"base64,attr"`
	Text   string `xml:",chardata"`
}

// ReadBurp adds the exchanges of a Burp history saved as XML ("Save items"),
// with or without base64. Binary bodies are fine with base64; without it XML
// cannot hold them, and the observation says where reading ended.
func (o *Observation) ReadBurp(ctx context.Context, name string, r io.Reader) error {
	dec := xml.NewDecoder(bufio.NewReaderSize(r, 1<<20))
	dec.Strict = true
	n, any := 0, false
	for {
		if ctx.Err() != nil {
			o.partial("reading %s was interrupted after %s", name, kidoban.Count(n, "item", "items"))
			return ctx.Err()
		}
		tok, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return o.burpBroken(name, n, any, dec, err)
		}
		el, ok := tok.(xml.StartElement)
		if !ok {
			continue
		}
		any = any || el.Name.Local == "items"
		if el.Name.Local != "item" {
			continue
		}
		var it burpItem
		if err := dec.DecodeElement(&it, &el); err != nil {
			return o.burpBroken(name, n, true, dec, err)
		}
		n++
		o.number++
		x, ok := it.exchange()
		if !ok {
			o.unreadable++
			continue
		}
		x.ID = o.number
		if o.wanted(x) {
			o.add(x)
		}
	}
	if !any {
		return o.burpBroken(name, 0, false, dec, io.ErrUnexpectedEOF)
	}
	return nil
}

func (o *Observation) burpBroken(name string, n int, any bool, dec *xml.Decoder, err error) error {
	if !any {
		return kidoban.Wrap(kidoban.KindInput, err, "%s is no Burp export: in Burp's history choose Save items, with base64", name)
	}
	line, _ := dec.InputPos()
	o.partial("%s cannot be read beyond item %d (line %d): save it again with base64 encoding, which keeps binary bodies whole", name, n, line)
	return nil
}

func (it *burpItem) exchange() (*kidoban.Exchange, bool) {
	x := &kidoban.Exchange{}
	x.Started, _ = time.Parse("Mon Jan 02 15:04:05 MST 2006", it.Time) // a missing time is no fault
	req, ok := it.Request.bytes()
	if !ok || len(req) == 0 {
		return nil, false
	}
	head, body, ok := splitHTTP(req)
	if !ok {
		return nil, false
	}
	first, fields := headLines(head)
	method, _, _ := strings.Cut(first, " ")
	x.Request = kidoban.Request{Method: method, URL: strings.TrimSpace(it.URL), Header: fields, Body: body}
	if resp, ok := it.Response.bytes(); ok && len(resp) > 0 {
		if r, ok := readResponse(resp, method); ok {
			x.Response = r
		}
	}
	return x, x.Request.URL != "" && method != ""
}

func (m *burpMessage) bytes() ([]byte, bool) {
	text := strings.TrimSpace(m.Text)
	if !m.Base64 {
		return []byte(text), true
	}
	b, err := base64.StdEncoding.DecodeString(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == ' ' || r == '\t' {
			return -1
		}
		return r
	}, text))
	return b, err == nil
}

// splitHTTP parts a message at its empty line; proxies sometimes save bare line
// feeds.
func splitHTTP(b []byte) (head, body []byte, ok bool) {
	if h, rest, found := bytes.Cut(b, []byte("\r\n\r\n")); found {
		return h, rest, true
	}
	if h, rest, found := bytes.Cut(b, []byte("\n\n")); found {
		return h, rest, true
	}
	return b, nil, len(b) > 0
}

func headLines(head []byte) (first string, out kidoban.Fields) {
	for i, line := range strings.Split(string(head), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if i == 0 {
			first = line
			continue
		}
		if name, value, ok := strings.Cut(line, ":"); ok && len(out) < 200 && name != "" {
			out = append(out, kidoban.Field{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
		}
	}
	return first, out
}

// readResponse reads a response as it went over the wire, chunks and content
// coding undone. What cannot be undone stays as it was.
func readResponse(b []byte, method string) (*kidoban.Response, bool) {
	head, body, ok := splitHTTP(b)
	if !ok {
		return nil, false
	}
	first, fields := headLines(head)
	proto, rest, _ := strings.Cut(first, " ")
	code, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	status := 0
	for _, c := range code {
		if c < '0' || c > '9' || status > 99 {
			return nil, false
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || !strings.HasPrefix(proto, "HTTP/") {
		return nil, false
	}
	r := &kidoban.Response{Status: status, Proto: proto, Header: fields}
	if strings.EqualFold(fields.Get("Transfer-Encoding"), "chunked") {
		req := &http.Request{Method: method}
		if resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), req); err == nil {
			if whole, err := io.ReadAll(io.LimitReader(resp.Body, observeBody+1)); err == nil {
				body = whole
			}
			resp.Body.Close()
		}
	}
	r.Body, r.Truncated = decoded(body, fields.Get("Content-Encoding"))
	return r, true
}
