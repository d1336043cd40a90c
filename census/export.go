package census

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// Names hides whose server a result is about. Third parties' results are
// published without names: a host becomes "h-" and 12 hex digits of a keyed hash,
// so that two results of one host can be told and the host cannot be guessed by
// hashing a list of names without the key.
type Names struct {
	Key     []byte // of this census; kept in its directory
	Publish bool   // leave the names
}

// Hide gives the name under which a host is published.
func (n Names) Hide(host string) string {
	if n.Publish || host == "" {
		return host
	}
	h := sha256.New()
	h.Write(n.Key)
	h.Write([]byte{0})
	h.Write([]byte(strings.ToLower(host)))
	return "h-" + hex.EncodeToString(h.Sum(nil)[:6])
}

// hideURL hides the host of an address and everything after it that could name
// the operator: the path and the query.
func (n Names) hideURL(raw string) string {
	if n.Publish || raw == "" {
		return raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return n.Hide(raw)
	}
	return u.Scheme + "://" + n.Hide(u.Host+u.Path+"?"+u.RawQuery)
}

// Hidden gives a result that may be published.
func (n Names) Hidden(r Result) Result {
	if n.Publish {
		return r
	}
	r.URL, r.Host = n.hideURL(r.URL), n.Hide(r.Host)
	r.Issuer, r.Metadata, r.Upstream = n.hideURL(r.Issuer), "", n.hideURL(r.Upstream)
	for i, iss := range r.Issuers {
		if i == 0 {
			r.Issuers = append([]string(nil), r.Issuers...)
		}
		r.Issuers[i] = n.hideURL(iss)
	}
	r.Software, r.ToolsHash, r.Listener = n.software(r.Software), n.Hide(r.ToolsHash), n.Hide(r.Listener)
	switch strings.ToLower(r.KeyHeader) {
	case "", "authorization", "x-api-key", "api-key", "apikey", "x-auth-token":
	default:
		r.KeyHeader = n.Hide(r.KeyHeader) // a header of one's own names its owner
	}
	return r
}

// software keeps names of frameworks that many use; a name of one's own names
// its owner.
func (n Names) software(s string) string {
	name, _, _ := strings.Cut(s, " ")
	low := strings.ToLower(name)
	for _, known := range []string{"fastmcp", "mcp-typescript", "mcp-go", "spring-ai", "mcp-python", "mcp-server"} {
		if strings.HasPrefix(low, known) {
			return s
		}
	}
	return n.Hide(s)
}

// WriteResults writes one JSON line a target, ordered by its address: the same
// bytes for the same servers.
func WriteResults(ctx context.Context, store Store, run string, w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	err := store.CensusResults(ctx, run, func(o Outcome) error {
		b.Write(o.Result)
		return b.WriteByte('\n')
	})
	if err == nil {
		err = b.Flush()
	}
	return err
}

// WriteTimes writes when and how each target was measured, one JSON line each.
func WriteTimes(ctx context.Context, store Store, run string, w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(b)
	err := store.CensusResults(ctx, run, func(o Outcome) error {
		return enc.Encode(struct {
			URL   string          `json:"url"`
			Times json.RawMessage `json:"times"`
		}{o.URL, o.Times})
	})
	if err == nil {
		err = b.Flush()
	}
	return err
}

// ReadResults reads a file that WriteResults or an export wrote, line by line.
func ReadResults(r io.Reader, each func(Result) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 4<<20)
	for n := 1; sc.Scan(); n++ {
		var x Result
		if err := json.Unmarshal(sc.Bytes(), &x); err != nil || x.URL == "" {
			return kidoban.Errorf(kidoban.KindInput, "line %d is no census result: give a results.jsonl", n)
		}
		if err := each(x); err != nil {
			return err
		}
	}
	return kidoban.Wrap(kidoban.KindInput, sc.Err(), "the results cannot be read")
}

// WritePublic writes the results as they may be published, ordered by the
// published address.
func WritePublic(ctx context.Context, store Store, run string, n Names, w io.Writer) error {
	var lines []string
	err := store.CensusResults(ctx, run, func(o Outcome) error {
		var r Result
		if err := json.Unmarshal(o.Result, &r); err != nil {
			return kidoban.Wrap(kidoban.KindInternal, err, "a stored result cannot be read")
		}
		lines = append(lines, string(outcome(n.Hidden(r), Times{}).Result))
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(lines) // the order of the names would tell about the names
	b := bufio.NewWriter(w)
	for _, l := range lines {
		b.WriteString(l)
		b.WriteByte('\n')
	}
	return b.Flush()
}

// Hide takes the names out of the tables that show any.
func (s *Stats) Hide(n Names) {
	for i := range s.Issuers {
		s.Issuers[i].Word = n.hideURL(s.Issuers[i].Word)
	}
	for i := range s.Keys {
		s.Keys[i].Word = n.Hide(s.Keys[i].Word)
	}
	for i := range s.Software {
		s.Software[i].Word = n.software(s.Software[i].Word)
	}
}
