package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"github.com/kidoban/kidoban"
)

// exchangeView is one exchange as the page shows it.
type exchangeView struct {
	ID               int
	Probe, Note, Jar string
	Line             template.HTML // request line
	Request          template.HTML // header and body
	Status           template.HTML
	Response         template.HTML
	Location         template.HTML
	Excerpt          []template.HTML // lines of the bodies that hold a marked or hidden part
	Err              string
	Curl             string
}

// isControl reports whether an exchange is the valid request a mutation is
// compared with.
func isControl(x kidoban.Exchange) bool {
	note := strings.ToLower(x.Note)
	return (strings.Contains(note, "control") || strings.Contains(note, "baseline")) && !strings.Contains(note, "mutation") || x.Probe == "baseline"
}

// viewExchange renders one exchange. words nil marks nothing.
func viewExchange(x kidoban.Exchange, words []string) exchangeView {
	v := exchangeView{ID: x.ID, Probe: Clean(x.Probe, 40), Note: Clean(x.Note, maxWord), Jar: Clean(x.Jar, 40), Err: Clean(x.Err, maxSummary), Curl: Curl(x)}
	v.Line = markup(x.Request.Method+" "+x.Request.URL, words)
	v.Excerpt = excerpt(x, words)
	v.Request = message(x.Request.Header, x.Request.Body, words)
	if x.Response == nil {
		v.Status = markup("no answer", nil)
		return v
	}
	v.Status = markup(fmt.Sprintf("%s %d %s", x.Response.Proto, x.Response.Status, http.StatusText(x.Response.Status)), nil)
	v.Response = message(x.Response.Header, x.Response.Body, words)
	if l := x.Response.Header.Get("Location"); l != "" {
		v.Location = markup(l, words)
	}
	return v
}

// maxExcerpt bounds the lines that the short view shows of a body.
const maxExcerpt = 6

// excerpt returns the telling lines of an exchange: header fields and body lines
// with a marked or hidden part, of the request first.
func excerpt(x kidoban.Exchange, words []string) []template.HTML {
	var out []template.HTML
	add := func(prefix, line string) {
		if len(out) == maxExcerpt || len(line) > maxLine {
			return
		}
		m := markup(strings.TrimRight(line, " \r"), words)
		if strings.Contains(string(m), "<mark>") || strings.Contains(string(m), `<span class="h">`) {
			out = append(out, markup(prefix, nil)+m)
		}
	}
	if words == nil {
		return nil
	}
	for _, line := range strings.Split(clip(pretty(x.Request.Header, x.Request.Body)), "\n") {
		add("> ", line)
	}
	if x.Response == nil {
		return out
	}
	for _, f := range x.Response.Header {
		if !strings.EqualFold(f.Name, "Location") {
			add("< ", f.Name+": "+f.Value)
		}
	}
	for _, line := range strings.Split(clip(pretty(x.Response.Header, x.Response.Body)), "\n") {
		add("< ", strings.ReplaceAll(line, "\t", "    "))
	}
	return out
}

func clip(s string) string { return s[:min(len(s), maxBlock)] }

// message renders header and body. Bodies that are no text are summed up.
func message(h kidoban.Fields, body []byte, words []string) template.HTML {
	var b strings.Builder
	for i, f := range h {
		if i == 60 {
			fmt.Fprintf(&b, "… %d more header fields\n", len(h)-i)
			break
		}
		w := words
		if w != nil && strings.EqualFold(f.Name, "Location") {
			w = append([]string{f.Value}, words...) // where a redirect goes always decides
		}
		b.WriteString(string(markup(f.Name+": "+f.Value, w)) + "\n")
	}
	if len(body) > 0 {
		b.WriteString("\n" + string(block(pretty(h, body), words)))
	}
	return template.HTML(b.String()) // escaped above
}

// pretty indents JSON bodies of reasonable size.
func pretty(h kidoban.Fields, body []byte) string {
	if len(body) <= maxBlock && strings.Contains(h.Get("Content-Type"), "json") {
		var b bytes.Buffer
		if json.Indent(&b, bytes.TrimSpace(body), "", "  ") == nil {
			return b.String()
		}
	}
	return string(body)
}
