package outbound

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kidoban/kidoban"
)

// harHead and harTail enclose the entries: one entry per line, so that a torn
// file can be cut at a line.
func harHead() string {
	return `{"log":{"version":"1.2","creator":{"name":"kidoban","version":"` + kidoban.Version + `"},"entries":[`
}

const harTail = "\n]}}\n"

// The HAR 1.2 objects we write. Names with an underscore are extensions, as the
// format allows.
type (
	harPair struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	harPost struct {
		MimeType string    `json:"mimeType"`
		Text     string    `json:"text"`
		Params   []harPair `json:"params"`
		Encoding string    `json:"_encoding,omitempty"`
	}
	harContent struct {
		Size     int    `json:"size"`
		MimeType string `json:"mimeType"`
		Text     string `json:"text"`
		Encoding string `json:"encoding,omitempty"`
	}
	harRequest struct {
		Method      string    `json:"method"`
		URL         string    `json:"url"`
		HTTPVersion string    `json:"httpVersion"`
		Cookies     []harPair `json:"cookies"`
		Headers     []harPair `json:"headers"`
		QueryString []harPair `json:"queryString"`
		PostData    *harPost  `json:"postData,omitempty"`
		HeadersSize int       `json:"headersSize"`
		BodySize    int       `json:"bodySize"`
	}
	harResponse struct {
		Status      int        `json:"status"`
		StatusText  string     `json:"statusText"`
		HTTPVersion string     `json:"httpVersion"`
		Cookies     []harPair  `json:"cookies"`
		Headers     []harPair  `json:"headers"`
		Content     harContent `json:"content"`
		RedirectURL string     `json:"redirectURL"`
		HeadersSize int        `json:"headersSize"`
		BodySize    int        `json:"bodySize"`
	}
	harExtra struct {
		ID        int              `json:"id"`
		Probe     string           `json:"probe,omitempty"`
		Note      string           `json:"note,omitempty"`
		Jar       string           `json:"jar,omitempty"`
		Target    string           `json:"target,omitempty"`
		Err       string           `json:"err,omitempty"`
		ErrKind   kidoban.Kind     `json:"errKind,omitempty"`
		Truncated bool             `json:"truncated,omitempty"`
		Addr      string           `json:"addr,omitempty"`
		TLS       *kidoban.TLSInfo `json:"tls,omitempty"`
	}
	harLine struct {
		Started  string         `json:"startedDateTime"`
		Time     float64        `json:"time"` // milliseconds
		Request  harRequest     `json:"request"`
		Response harResponse    `json:"response"`
		Cache    struct{}       `json:"cache"`
		Timings  map[string]int `json:"timings"`
		ServerIP string         `json:"serverIPAddress,omitempty"`
		Kidoban  harExtra       `json:"_kidoban"`
	}
)

// harEntry renders one redacted exchange. Without a response the status is 0,
// as browsers write it. Cookies stand in the headers alone.
func harEntry(x kidoban.Exchange) harLine {
	ms := float64(x.Duration) / float64(time.Millisecond)
	l := harLine{Started: x.Started.UTC().Format(time.RFC3339Nano), Time: ms,
		Timings: map[string]int{"send": 0, "wait": int(ms), "receive": 0},
		Request: harRequest{Method: x.Request.Method, URL: x.Request.URL, HTTPVersion: "HTTP/1.1", Cookies: []harPair{},
			Headers: pairs(x.Request.Header), QueryString: query(x.Request.URL), HeadersSize: -1, BodySize: len(x.Request.Body)},
		Response: harResponse{Cookies: []harPair{}, Headers: []harPair{}, HeadersSize: -1, BodySize: -1},
		Kidoban:  harExtra{ID: x.ID, Probe: x.Probe, Note: x.Note, Jar: x.Jar, Target: x.Request.Target, Err: x.Err, ErrKind: x.ErrKind}}
	if len(x.Request.Body) > 0 {
		text, enc := bodyText(x.Request.Body)
		l.Request.PostData = &harPost{MimeType: x.Request.Header.Get("Content-Type"), Text: text, Encoding: enc, Params: []harPair{}}
	}
	if r := x.Response; r != nil {
		text, enc := bodyText(r.Body)
		l.Request.HTTPVersion = r.Proto
		l.ServerIP, _, _ = net.SplitHostPort(r.Addr)
		l.Kidoban.Truncated, l.Kidoban.Addr, l.Kidoban.TLS = r.Truncated, r.Addr, r.TLS
		l.Response = harResponse{Status: r.Status, StatusText: http.StatusText(r.Status), HTTPVersion: r.Proto, Cookies: []harPair{},
			Headers: pairs(r.Header), RedirectURL: r.Header.Get("Location"), HeadersSize: -1, BodySize: len(r.Body),
			Content: harContent{Size: len(r.Body), MimeType: r.Header.Get("Content-Type"), Text: text, Encoding: enc}}
	}
	return l
}

// bodyText returns text as it is and anything else as base64.
func bodyText(b []byte) (text, encoding string) {
	if utf8.Valid(b) {
		return string(b), ""
	}
	return base64.StdEncoding.EncodeToString(b), "base64"
}

func pairs(f kidoban.Fields) []harPair {
	out := make([]harPair, 0, len(f))
	for _, h := range f {
		out = append(out, harPair(h))
	}
	return out
}

func query(raw string) []harPair {
	out := []harPair{}
	u, err := url.Parse(raw)
	if err != nil || u.RawQuery == "" {
		return out
	}
	for _, pair := range strings.Split(u.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		out = append(out, harPair{unescape(name), unescape(value)})
	}
	return out
}

// RepairHAR makes a HAR file of a Recorder whole again after a process was
// killed in the middle of a write: the torn last line is cut off and the closing
// brackets are set. A whole file is left alone. KindInput when the file is not
// one of a Recorder.
func RepairHAR(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the HAR file cannot be read")
	}
	if json.Valid(b) {
		return nil
	}
	lines := bytes.Split(b, []byte("\n"))
	if !bytes.HasPrefix(lines[0], []byte(`{"log":`)) {
		return kidoban.Errorf(kidoban.KindInput, "the file is not a HAR that kidoban wrote")
	}
	out := bytes.Clone(lines[0])
	sep := "\n"
	for _, l := range lines[1:] {
		l = bytes.TrimSuffix(l, []byte(","))
		if !json.Valid(l) {
			break
		}
		out = append(append(out, sep...), l...)
		sep = ",\n"
	}
	tmp := path + ".repair"
	if err := os.WriteFile(tmp, append(out, harTail...), 0o600); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the repaired HAR file cannot be written")
	}
	return kidoban.Wrap(kidoban.KindInternal, os.Rename(tmp, path), "the repaired HAR file cannot be put in place")
}
