package census

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// OfficialRegistry is where the official registry answers (API v0.1).
const OfficialRegistry = "https://registry.modelcontextprotocol.io"

// Bounds of a registry's answer.
const (
	registryPages = 5000
	registryBody  = 16 << 20
	registryTries = 4 // of a page, while the registry is busy
)

// ImportRegistry adds the remote servers that a registry lists, page by page.
// since, if not zero, asks for what changed after it, deletions included.
// Cursors are followed as they are; one that comes twice ends the import with an
// error. An entry that cannot be read is a rejection, a page that cannot is an
// error: what was read before it is kept.
func ImportRegistry(ctx context.Context, store Store, run string, lab bool, out *outbound.Client, base string, since time.Time, rejected func(Rejection) error) (Accounting, error) {
	im := &importer{ctx: ctx, store: store, run: run, lab: lab, rejected: rejected, acc: Accounting{Source: "registry", Rejected: map[string]int{}}}
	seen := map[string]bool{}
	for cursor, n := "", 1; n <= registryPages; n++ {
		doc, err := registryDocument(ctx, out, base, cursor, since)
		if err != nil {
			return im.acc, err
		}
		for _, e := range doc.Servers {
			if err := im.registryEntry(e); err != nil {
				return im.acc, err
			}
		}
		if cursor = doc.Metadata.NextCursor; cursor == "" {
			return im.acc, im.flush()
		}
		if seen[cursor] {
			return im.acc, kidoban.Errorf(kidoban.KindInput, "the registry gives the same page again and again (page %d): try later", n)
		}
		seen[cursor] = true
	}
	return im.acc, kidoban.Errorf(kidoban.KindLimit, "the registry has more than %d pages", registryPages)
}

type registryAnswer struct {
	Servers  []json.RawMessage `json:"servers"`
	Metadata struct {
		NextCursor string `json:"nextCursor"`
	} `json:"metadata"`
}

func registryDocument(ctx context.Context, out *outbound.Client, base, cursor string, since time.Time) (doc registryAnswer, err error) {
	q := url.Values{"limit": {"100"}, "version": {"latest"}} // older versions name addresses that their owners have left
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	if !since.IsZero() {
		q.Set("updated_since", since.UTC().Format(time.RFC3339))
	}
	req := outbound.Req{URL: strings.TrimSuffix(base, "/") + "/v0.1/servers?" + q.Encode(), MaxBody: registryBody, Timeout: time.Minute,
		Header: kidoban.Fields{{Name: "Accept", Value: "application/json"}}}
	x, err := out.Do(ctx, req)
	for try := 1; try < registryTries && err == nil && (x.Status() == 429 || x.Status() >= 500); try++ {
		if err = outbound.Sleep(ctx, retryAfter(x.Response.Header.Get("Retry-After"))); err == nil {
			x, err = out.Do(ctx, req)
		}
	}
	if err != nil {
		return doc, err
	}
	if x.Status() != 200 || x.Response.Truncated || json.Unmarshal(x.Response.Body, &doc) != nil {
		return doc, kidoban.Errorf(kidoban.KindInput, "the registry's answer is no page of servers (status %d): try later, or give a file", x.Status())
	}
	return doc, nil
}

// registryEntry reads one entry; remotes alone count.
func (im *importer) registryEntry(raw json.RawMessage) error {
	var entry map[string]any
	if json.Unmarshal(raw, &entry) != nil {
		return im.entry(found{"", RejectBadJSON})
	}
	server, ok := entry["server"].(map[string]any)
	if !ok {
		server = entry
	}
	for _, f := range registered(server, entry) {
		if err := im.entry(f); err != nil {
			return err
		}
	}
	return nil
}
