package census

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/kidoban/kidoban"
)

// Accounting says what became of every line or entry of a source.
type Accounting struct {
	Source   string         `json:"source"`
	Lines    int            `json:"lines,omitempty"` // of a list or of JSON lines
	Blank    int            `json:"blank,omitempty"` // empty lines and comments among them
	Entries  int            `json:"entries"`         // candidates, one a line in a list
	Targets  int            `json:"targets"`         // new ones
	Rejected map[string]int `json:"rejected"`
}

// Balanced tells whether every entry is accounted for.
func (a Accounting) Balanced() bool {
	n := a.Targets
	for _, c := range a.Rejected {
		n += c
	}
	return n == a.Entries
}

// Rejection is one entry that is no target.
type Rejection struct {
	Source string `json:"source"`
	Entry  int    `json:"entry"` // number of the line or entry, from 1
	Reason string `json:"reason"`
	Text   string `json:"text"` // its beginning; "" where it may hold a credential
}

// found is one candidate inside a source, or why there is none.
type found struct {
	raw    string
	reject string
}

// Bounds of sources. A longer line is one rejected entry; a longer document is
// an error, because it cannot be read in pieces.
const (
	maxLine     = 64 << 10
	maxDocument = 64 << 20
	addBatch    = 1000
)

// Import reads one source into the store. It knows a list of URLs or host names
// (one a line, "#" for comments; Certificate Transparency host lists), JSON
// lines (Shodan, FOFA, crt.sh, or objects with a url), and JSON documents
// (exports of the same, an answer of the registry, the configuration of an MCP
// host). Lists and JSON lines are streamed: memory does not grow with the file.
// rejected is called for every entry that is no target.
func Import(ctx context.Context, store Store, run string, lab bool, name string, r io.Reader, rejected func(Rejection) error) (Accounting, error) {
	im := &importer{ctx: ctx, store: store, run: run, lab: lab, rejected: rejected, acc: Accounting{Source: name, Rejected: map[string]int{}}}
	br := bufio.NewReaderSize(r, 256<<10)
	err := im.read(br)
	if err == nil {
		err = im.flush()
	}
	return im.acc, err
}

type importer struct {
	ctx      context.Context
	store    Store
	run      string
	lab      bool
	rejected func(Rejection) error
	acc      Accounting

	batch []Target
	from  []int // entry numbers of batch
}

func (im *importer) read(br *bufio.Reader) error {
	head, _ := br.Peek(4096) // a shorter source is read below
	first, _, whole := bytes.Cut(bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n"), []byte("\n"))
	if len(first) > 0 && (first[0] == '{' || first[0] == '[') && (!whole || !json.Valid(first)) && !isJSONLine(head, br) {
		doc, err := io.ReadAll(io.LimitReader(br, maxDocument+1))
		switch {
		case err != nil:
			return kidoban.Wrap(kidoban.KindInput, err, "%s cannot be read", im.acc.Source)
		case len(doc) <= maxDocument && json.Valid(bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf"))):
			return im.document(bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf")))
		case len(doc) > maxDocument && beginsDocument(doc):
			return kidoban.Errorf(kidoban.KindInput, "%s is one JSON document of more than 64 MiB: write it as one object a line", im.acc.Source)
		}
		br = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(doc), br), 256<<10) // a list whose first line is broken
	}
	return im.lines(br)
}

// beginsDocument tells whether b is the beginning of one JSON value.
func beginsDocument(b []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(b))
	for depth := 0; ; {
		t, err := dec.Token()
		var wrong *json.SyntaxError
		switch d, _ := t.(json.Delim); {
		case err != nil:
			return !errors.As(err, &wrong)
		case d == '{' || d == '[':
			depth++
		case d == '}' || d == ']':
			if depth--; depth == 0 {
				return false // it ended, and more comes
			}
		}
	}
}

// lines reads a list or JSON lines.
func (im *importer) lines(br *bufio.Reader) error {
	for {
		line, long, err := readLine(br)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return kidoban.Wrap(kidoban.KindInput, err, "%s cannot be read after entry %d", im.acc.Source, im.acc.Entries)
		}
		im.acc.Lines++
		if long {
			err = im.entry(found{string(line[:200]), RejectTooLong})
		} else {
			err = im.line(line)
		}
		if err != nil {
			return err
		}
	}
}

// isJSONLine tells a file of JSON lines whose first line is longer than the
// look ahead from a document.
func isJSONLine(head []byte, br *bufio.Reader) bool {
	if bytes.IndexByte(head, '\n') >= 0 {
		return false
	}
	more, _ := br.Peek(maxLine)
	line, _, found := bytes.Cut(more, []byte("\n"))
	return found && json.Valid(bytes.TrimSpace(line))
}

// readLine reads a line of any length and keeps the first 64 KiB of it.
func readLine(br *bufio.Reader) (line []byte, long bool, err error) {
	for {
		part, more, err := br.ReadLine()
		if err != nil {
			if errors.Is(err, io.EOF) && (len(line) > 0 || long) {
				err = nil
			}
			return line, long, err
		}
		if len(line)+len(part) > maxLine {
			long = true
			part = part[:max(0, min(len(part), maxLine-len(line)))]
		}
		line = append(line, part...)
		if !more {
			return line, long, nil
		}
	}
}

func (im *importer) line(line []byte) error {
	line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")))
	if len(line) == 0 || line[0] == '#' {
		im.acc.Blank++ // neither is a candidate
		return nil
	}
	if line[0] != '{' && line[0] != '[' {
		return im.entry(found{string(line), ""})
	}
	return im.document(line)
}

func (im *importer) document(doc []byte) error {
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		return im.entry(found{string(doc[:min(len(doc), 200)]), RejectBadJSON})
	}
	all := candidates(v, 0)
	if len(all) == 0 {
		all = []found{{string(doc[:min(len(doc), 200)]), RejectNoRemote}}
	}
	for _, f := range all {
		if err := im.entry(f); err != nil {
			return err
		}
	}
	return nil
}

// entry accounts for one candidate.
func (im *importer) entry(f found) error {
	im.acc.Entries++
	if f.reject == "" {
		t, reject := Normalize(f.raw, im.lab)
		if reject == "" {
			t.Source = im.acc.Source
			im.batch, im.from = append(im.batch, t), append(im.from, im.acc.Entries)
			if len(im.batch) >= addBatch {
				return im.flush()
			}
			return nil
		}
		f.reject = reject
	}
	return im.reject(im.acc.Entries, f.reject, f.raw)
}

func (im *importer) reject(entry int, reason, text string) error {
	im.acc.Rejected[reason]++
	if im.rejected == nil {
		return nil
	}
	if reason == RejectUser || reason == RejectCredential || reason == RejectBadJSON {
		text = ""
	}
	return im.rejected(Rejection{im.acc.Source, entry, reason, strings.ToValidUTF8(text[:min(len(text), 200)], "\uFFFD")})
}

// flush stores the batch. Targets that were there already are duplicates.
func (im *importer) flush() error {
	if len(im.batch) == 0 {
		return nil
	}
	defer func() { im.batch, im.from = im.batch[:0], im.from[:0] }()
	var fresh []Target
	var numbers []int
	seen := map[string]bool{}
	for i, t := range im.batch {
		if seen[t.URL] {
			if err := im.reject(im.from[i], RejectDuplicate, t.URL); err != nil {
				return err
			}
			continue
		}
		seen[t.URL] = true
		fresh, numbers = append(fresh, t), append(numbers, im.from[i])
	}
	isNew, err := im.store.CensusAdd(im.ctx, im.run, fresh)
	if err != nil {
		return err
	}
	for i, t := range fresh {
		if isNew[i] {
			im.acc.Targets++
		} else if err := im.reject(numbers[i], RejectDuplicate, t.URL); err != nil {
			return err
		}
	}
	return nil
}

// candidates reads the shapes that the sources have. It never fails: what it
// does not know has no candidates.
func candidates(v any, depth int) (out []found) {
	if depth > 4 {
		return nil
	}
	switch x := v.(type) {
	case string:
		if depth > 0 {
			return []found{{x, ""}}
		}
	case []any:
		if row, ok := fofaRow(x); ok && depth > 0 {
			return []found{{row, ""}}
		}
		for _, e := range x {
			if some := candidates(e, depth+1); len(some) > 0 {
				out = append(out, some...)
			} else {
				out = append(out, found{"", RejectNoRemote})
			}
		}
	case map[string]any:
		return object(x, depth)
	}
	return out
}

// fofaRow reads one row of a FOFA export: host, ip, port.
func fofaRow(row []any) (string, bool) {
	if len(row) < 2 || len(row) > 12 {
		return "", false
	}
	host, ok := row[0].(string)
	ip, ok2 := row[1].(string)
	if !ok || !ok2 || net.ParseIP(ip) == nil || host == "" {
		return "", false
	}
	return host, true
}

func object(m map[string]any, depth int) []found {
	for _, key := range []string{"servers", "mcpServers", "results", "matches", "context_servers", "mcp"} {
		if inner, ok := m[key]; ok {
			if named, ok := inner.(map[string]any); ok {
				if key == "mcp" { // VS Code nests the list once more
					return object(named, depth+1)
				}
				return configured(named)
			}
			return candidates(inner, depth+1)
		}
	}
	if s, ok := m["server"].(map[string]any); ok {
		return registered(s, m)
	}
	if _, ok := m["remotes"]; ok {
		return registered(m, m)
	}
	if names, ok := m["name_value"].(string); ok { // crt.sh: several names, one a line
		var out []found
		for _, n := range strings.Fields(names) {
			out = append(out, found{n, ""})
		}
		return out
	}
	for _, key := range []string{"url", "serverUrl", "endpoint", "link"} {
		if u, ok := m[key].(string); ok && u != "" {
			if m["template"] == true {
				return []found{{u, RejectTemplate}}
			}
			return []found{{u, ""}}
		}
	}
	return hostAndPort(m)
}

// hostAndPort reads a banner of Shodan or a record of FOFA: the first host name,
// else the address, with its port.
func hostAndPort(m map[string]any) []found {
	host := ""
	if names, ok := m["hostnames"].([]any); ok && len(names) > 0 {
		host, _ = names[0].(string)
	}
	for _, key := range []string{"host", "domain", "hostname", "ip_str", "ip", "common_name"} {
		if s, ok := m[key].(string); ok && host == "" {
			host = s
		}
	}
	if host == "" {
		return nil
	}
	if strings.Contains(host, "://") || strings.Contains(host, "/") {
		return []found{{host, ""}}
	}
	port := ""
	switch p := m["port"].(type) {
	case float64:
		port = strconv.Itoa(int(p))
	case string:
		port = p
	}
	_, _, split := net.SplitHostPort(host)
	if port != "" && port != "443" && split != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), port)
	}
	return []found{{"https://" + host, ""}}
}

// configured reads the servers of an MCP host's configuration; local ones are
// started as programs and have no address.
func configured(named map[string]any) (out []found) {
	names := make([]string, 0, len(named))
	for n := range named {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		f := found{n, RejectNoRemote}
		if m, ok := named[n].(map[string]any); ok {
			if some := object(m, 3); len(some) == 1 {
				f = some[0]
			} else if u := remoteArgument(m); u != "" {
				f = found{u, ""}
			}
		}
		out = append(out, f)
	}
	return out
}

// remoteArgument finds the address in the arguments of mcp-remote, which bridges
// a remote server to a host that knows local ones only.
func remoteArgument(m map[string]any) string {
	args, _ := m["args"].([]any)
	bridge := slices.ContainsFunc(args, func(a any) bool { s, _ := a.(string); return strings.Contains(s, "mcp-remote") })
	for _, a := range args {
		if s, _ := a.(string); bridge && (strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")) {
			return s
		}
	}
	return ""
}

// registered reads one entry of the official registry: its remotes, with
// variables filled from their defaults or choices, at most eight ways each.
func registered(server, entry map[string]any) (out []found) {
	if deletedEntry(server, entry) {
		name, _ := server["name"].(string)
		return []found{{name, RejectDeleted}}
	}
	remotes, _ := server["remotes"].([]any)
	for _, r := range remotes {
		m, _ := r.(map[string]any)
		u, _ := m["url"].(string)
		if u == "" {
			out = append(out, found{"", RejectNoRemote})
			continue
		}
		vars, _ := m["variables"].(map[string]any)
		for _, filled := range fill(u, vars) {
			out = append(out, found{filled, ""})
		}
	}
	if len(out) == 0 {
		name, _ := server["name"].(string)
		out = []found{{name, RejectNoRemote}}
	}
	return out
}

func deletedEntry(server, entry map[string]any) bool {
	status, _ := server["status"].(string)
	if meta, ok := entry["_meta"].(map[string]any); ok {
		if own, ok := meta["io.modelcontextprotocol.registry/official"].(map[string]any); ok {
			if s, ok := own["status"].(string); ok {
				status = s
			}
		}
	}
	return status == "deleted"
}

// fill replaces {name} by the variable's default or each of its choices. What
// has neither stays and is rejected as an unfilled template.
func fill(u string, vars map[string]any) []string {
	out := []string{u}
	names := make([]string, 0, len(vars))
	for n := range vars {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		v, _ := vars[n].(map[string]any)
		var values []string
		if d := text(v["default"]); d != "" {
			values = []string{d}
		} else if cs, ok := v["choices"].([]any); ok {
			for _, c := range cs {
				if s := text(c); s != "" {
					values = append(values, s)
				}
			}
		}
		if secret, _ := v["isSecret"].(bool); secret || len(values) == 0 {
			continue
		}
		var next []string
		for _, o := range out {
			if !strings.Contains(o, "{"+n+"}") {
				next = append(next, o)
				continue
			}
			for _, val := range values {
				next = append(next, strings.ReplaceAll(o, "{"+n+"}", val))
			}
		}
		out = next[:min(len(next), 8)]
	}
	return out
}

func text(v any) string {
	switch x := v.(type) {
	case string:
		return x
	case float64, bool:
		return fmt.Sprint(x)
	}
	return ""
}
