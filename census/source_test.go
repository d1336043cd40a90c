package census_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/census"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/store/storetest"
)

func fresh(t testing.TB) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{URL: storetest.SQLite(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func pending(t testing.TB, db *store.DB) (urls []string) {
	t.Helper()
	ts, err := db.CensusPending(t.Context(), "census", -1, 10000)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range ts {
		urls = append(urls, x.URL)
	}
	slices.Sort(urls)
	return urls
}

// TestImportShapes: the shapes of the sources, each with what it gives.
func TestImportShapes(t *testing.T) {
	for name, c := range map[string]struct {
		in       string
		want     []string
		rejected map[string]int
	}{
		"list": {"\ufeff# of today\n\nmcp.example.com\nhttps://a.example/x\n  https://A.example/x#y  \n*.wild.example\nhttp://a.example/x\nhttps://192.168.0.1/mcp\nhttps://0x7f000001/\nlocalhost:3000\n",
			[]string{"https://a.example/x", "https://mcp.example.com/mcp"},
			map[string]int{"duplicate": 1, "wildcard": 1, "plain_http": 1, "private_address": 1, "local_name": 2}},
		"json lines": {"{\"url\":\"https://a.example/mcp\"}\n{\"url\":\"https://${T}.b.example/mcp\",\"template\":true}\n{broken\n",
			[]string{"https://a.example/mcp"}, map[string]int{"unfilled_template": 1, "bad_json": 1}},
		"a list whose first line is broken": {"{\"url\":\nhttps://a.example/mcp\n\nb.example\n",
			[]string{"https://a.example/mcp", "https://b.example/mcp"}, map[string]int{"bad_json": 1}},
		"shodan": {`{"ip_str":"93.184.216.34","port":8443,"hostnames":["s.example"],"data":"mcp-session-id"}` + "\n" + `{"ip_str":"93.184.216.35","port":443,"hostnames":[]}`,
			[]string{"https://93.184.216.35/mcp", "https://s.example:8443/mcp"}, nil},
		"fofa": {`{"error":false,"size":2,"results":[["https://f.example","93.184.216.34","443"],["g.example:8443","93.184.216.36","8443"]]}`,
			[]string{"https://f.example/mcp", "https://g.example:8443/mcp"}, nil},
		"certificates": {"[\n{\"common_name\":\"c.example\",\"name_value\":\"c.example\\n*.c.example\"}]",
			[]string{"https://c.example/mcp"}, map[string]int{"wildcard": 1}},
		"host configuration": {`{
 "mcpServers": {
  "one": {"url": "https://h.example/mcp"},
  "two": {"command": "npx", "args": ["-y", "mcp-remote", "https://r.example/sse"]},
  "three": {"command": "uvx", "args": ["local"]}
 }
}`, []string{"https://h.example/mcp", "https://r.example/sse"}, map[string]int{"no_remote": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			db := fresh(t)
			var told int
			acc, err := census.Import(t.Context(), db, "census", false, name, strings.NewReader(c.in), func(census.Rejection) error { told++; return nil })
			if err != nil {
				t.Fatal(err)
			}
			if got := pending(t, db); !slices.Equal(got, c.want) {
				t.Errorf("targets %v, want %v", got, c.want)
			}
			if !maps.Equal(acc.Rejected, c.rejected) && len(acc.Rejected)+len(c.rejected) > 0 {
				t.Errorf("rejected %v, want %v", acc.Rejected, c.rejected)
			}
			if !acc.Balanced() || told != acc.Entries-acc.Targets {
				t.Errorf("%+v, %d told: not every entry is accounted for", acc, told)
			}
		})
	}
}

// lines makes a long candidate file as it is read: valid, duplicate, private,
// international and broken ones, and lines longer than any bound.
type lines struct{ n, of int }

func (l *lines) Read(p []byte) (int, error) {
	if l.n == l.of {
		return 0, io.EOF
	}
	var s string
	switch l.n % 8 {
	case 0, 1:
		s = fmt.Sprintf("https://h%d.example/mcp", l.n/80)
	case 2:
		s = fmt.Sprintf("https://10.%d.%d.1/mcp", l.n%200, l.n%90)
	case 3:
		s = fmt.Sprintf("https://münchen%d.example/mcp", l.n%50)
	case 4:
		s = "https://\x00\xff"
	case 5:
		s = "ftp://files.example/x"
	case 6:
		s = strings.Repeat("a", 3000)
	default:
		s = "https://u:p@h.example/"
	}
	l.n++
	return copy(p, s+"\n"), nil
}

// TestLongBrokenFileIsAccountedFor: each line of a large bad file has its reason.
func TestLongBrokenFileIsAccountedFor(t *testing.T) {
	const n = 40000
	db, told := fresh(t), 0
	acc, err := census.Import(t.Context(), db, "census", false, "big", &lines{of: n}, func(r census.Rejection) error {
		told++
		if r.Reason == census.RejectUser && r.Text != "" {
			t.Error("a credential was written down")
		}
		return nil
	})
	if err != nil || acc.Entries != n || !acc.Balanced() || told != n-acc.Targets || acc.Targets != n/80+25 {
		t.Errorf("%+v, %d told, %v", acc, told, err)
	}
	for _, k := range []string{census.RejectPrivate, census.RejectBadURL, census.RejectScheme, census.RejectTooLong, census.RejectUser} {
		if acc.Rejected[k] != n/8 {
			t.Errorf("%s: %d, want %d", k, acc.Rejected[k], n/8)
		}
	}
}

// TestRegistryPages: cursors go back as they came; deletions, variables and
// garbage each find their place.
func TestRegistryPages(t *testing.T) {
	pages := map[string]string{"": "page1", "com.example/local:1.0.0 +/=&": "page2", "last": "page3"}
	var asked []string
	busy := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if busy++; busy == 2 {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		if q.Get("version") != "latest" || q.Get("limit") != "100" {
			t.Errorf("asked %s", r.URL)
		}
		asked = append(asked, r.URL.Path+"?"+q.Get("cursor")+" "+q.Get("updated_since"))
		body, err := os.ReadFile("testdata/registry/" + pages[q.Get("cursor")] + ".json")
		if err != nil {
			http.Error(w, "no such page", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}))
	defer srv.Close()
	db, out := fresh(t), outbound.New(outbound.Options{Lab: true})
	defer out.Close()
	since := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	acc, err := census.ImportRegistry(t.Context(), db, "census", false, out, srv.URL+"/", since, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"https://alpha.example.com/mcp", "https://default.example.com/sse", "https://deprecated.example.com/mcp", "https://eu.regions.example.com/mcp", "https://us.regions.example.com/mcp", "https://xn--bcher-kva.example/mcp"}
	if got := pending(t, db); !slices.Equal(got, want) {
		t.Errorf("targets %v", got)
	}
	rejected := map[string]int{"deleted_in_registry": 1, "no_remote": 5, "unfilled_template": 2, "private_address": 1, "duplicate": 1, "bad_json": 2, "credential_in_url": 1, "plain_http": 1}
	if !maps.Equal(acc.Rejected, rejected) || !acc.Balanced() {
		t.Errorf("%+v", acc)
	}
	if len(asked) != 3 || asked[1] != "/v0.1/servers?com.example/local:1.0.0 +/=& 2026-11-01T00:00:00Z" {
		t.Errorf("asked %q", asked)
	}
}

// TestRegistryThatTurnsInCircles ends with an error, as does one that answers nonsense.
func TestRegistryThatTurnsInCircles(t *testing.T) {
	for _, body := range []string{`{"servers":[],"metadata":{"nextCursor":"x"}}`, `<html>`, `{"servers":{}}`} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) }))
		db, out := fresh(t), outbound.New(outbound.Options{Lab: true})
		_, err := census.ImportRegistry(t.Context(), db, "census", false, out, srv.URL, time.Time{}, nil)
		if kidoban.KindOf(err) != kidoban.KindInput || err == nil {
			t.Errorf("%s: %v", body, err)
		}
		out.Close()
		srv.Close()
	}
}

// TestNormalFormIsStable: what is normal stays as it is, and is never a special address.
func TestNormalFormIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.OneOf(rapid.String(), rapid.StringMatching(`(https?://)?[a-zA-Zü.0-9-]{1,20}(:[0-9]{1,5})?(/[a-z?=#%&]{0,12})?`)).Draw(t, "raw")
		x, reject := census.Normalize(raw, false)
		if reject != "" {
			return
		}
		y, again := census.Normalize(x.URL, false)
		if again != "" || y != x {
			t.Fatalf("%q → %q → %q %s", raw, x.URL, y.URL, again)
		}
		if err := outbound.CheckURL(x.URL); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzImport(f *testing.F) {
	page, err := os.ReadFile("testdata/registry/page2.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{string(page), "a.example\n{\"url\":1}\n[[\"a\",\"1.1.1.1\"]]", `{"mcpServers":{"a":{"url":"https://x.example"}}}`, "[", "{\n"} {
		f.Add([]byte(s))
	}
	db := fresh(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		acc, err := census.Import(t.Context(), db, fmt.Sprintf("%x", in[:min(len(in), 8)]), false, "fuzz", bytes.NewReader(in), nil)
		if err == nil && !acc.Balanced() {
			t.Fatalf("%+v", acc)
		}
	})
}
