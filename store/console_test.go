package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/console"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/toolscan"
)

// walk reads a list page by page and returns what f says of each row.
func walk[T any](t *testing.T, q console.Query, list func(console.Query) (console.Page[T], error), f func(T) string) (out []string, pages int) {
	t.Helper()
	for pages = 1; pages < 100; pages++ {
		p, err := list(q)
		must(t, err)
		for _, r := range p.Rows {
			out = append(out, f(r))
		}
		if p.Next.At.IsZero() {
			return out, pages
		}
		q.After = p.Next
	}
	t.Fatal("the list does not end")
	return nil, 0
}

// TestContractConsoleLists: lists are whole, newest first, at every size of page,
// also where many rows have one time; a search that stops goes on where it stopped.
func TestContractConsoleLists(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		var want []string
		for i := range 25 {
			id := fmt.Sprintf("c%02d", i)
			kind := authserver.ClientDCR
			if i%5 == 0 {
				kind = authserver.ClientCIMD
			}
			_, err := s.PutClient(ctx, authserver.Client{ID: id, Kind: kind, Metadata: []byte(fmt.Sprintf(`{"client_name":"Name %d 100%%_"}`, i)), Fingerprint: id,
				Created: epoch.Add(time.Duration(i/10) * time.Second), Review: i == 3}) // ten have one time
			must(t, err)
			want = append([]string{id}, want...)
			_, err = s.SeeHosts(ctx, id, []authserver.Host{{Host: fmt.Sprintf("h%d.example", i%7)}}, epoch.Add(time.Duration(i)*time.Second))
			must(t, err)
			must(t, s.CreateGrant(ctx, authserver.Grant{ID: "g" + id, UserID: fmt.Sprintf("u_%d", i%3), ClientID: id, RedirectHost: fmt.Sprintf("h%d.example", i%7), Created: epoch.Add(time.Duration(i) * time.Second), Expires: epoch.Add(time.Hour)}))
			must(t, s.AddAlert(ctx, kidoban.Alert{ID: "a" + id, Kind: kidoban.AlertFirstSeenHost, At: epoch.Add(time.Duration(i) * time.Minute), Subject: id, Text: "Text"}))
		}
		clients := func(q console.Query) (console.Page[authserver.Client], error) {
			return s.PageClients(ctx, console.ClientQuery{Query: q})
		}
		name := func(c authserver.Client) string { return c.ID }
		for _, size := range []int{1, 7, 25, 26} {
			if got, _ := walk(t, console.Query{Limit: size, Look: 100}, clients, name); !cmp.Equal(want, got) {
				t.Errorf("pages of %d: %v", size, got)
			}
		}
		got, pages := walk(t, console.Query{Limit: 3, Look: 4, Text: "NAME 1"}, clients, name)
		if diff := cmp.Diff([]string{"c19", "c18", "c17", "c16", "c15", "c14", "c13", "c12", "c11", "c10", "c01"}, got); diff != "" || pages < 7 {
			t.Errorf("%d pages %s", pages, diff)
		}
		if got, _ := walk(t, console.Query{Limit: 50, Look: 100, Text: "0%_"}, clients, name); len(got) != 25 {
			t.Errorf("signs of a pattern are not taken for text: %v", got)
		}
		if got, _ := walk(t, console.Query{Limit: 50, Look: 100, Text: "1_0"}, clients, name); len(got) != 0 {
			t.Errorf("text is taken for a pattern: %v", got)
		}
		p, err := s.PageClients(ctx, console.ClientQuery{Query: console.Query{Limit: 50}, Kind: authserver.ClientCIMD})
		must(t, err)
		r, err := s.PageClients(ctx, console.ClientQuery{Query: console.Query{Limit: 50}, Review: true})
		must(t, err)
		if len(p.Rows) != 5 || len(r.Rows) != 1 || r.Rows[0].ID != "c03" {
			t.Errorf("%d documents, %d to review", len(p.Rows), len(r.Rows))
		}
		hosts, _ := walk(t, console.Query{Limit: 2}, func(q console.Query) (console.Page[console.Host], error) { return s.PageHosts(ctx, q) },
			func(h console.Host) string {
				return fmt.Sprint(h.Host.Host, h.Clients, h.Users, h.Grants, h.ClientID)
			})
		if len(hosts) != 7 || hosts[0] != "h6.example3 3 3c06" || hosts[6] != "h0.example4 3 4c00" {
			t.Errorf("%v", hosts)
		}
		users, err := s.HostUsers(ctx, "h0.example", "u_0", 10)
		must(t, err)
		cs, err := s.HostClients(ctx, "h0.example", "c07", 10)
		must(t, err)
		if diff := cmp.Diff([]string{"u_1", "u_2"}, users); diff != "" || len(cs) != 2 || cs[0].ID != "c14" {
			t.Errorf("%s %v", diff, cs)
		}
		grants, _ := walk(t, console.Query{Limit: 2}, func(q console.Query) (console.Page[authserver.Grant], error) {
			return s.PageGrants(ctx, console.GrantQuery{Query: q, User: "u_1"})
		}, func(g authserver.Grant) string { return g.ID })
		if len(grants) != 8 || grants[0] != "gc22" || grants[7] != "gc01" {
			t.Errorf("%v", grants)
		}
		alerts, _ := walk(t, console.Query{Limit: 4, Look: 3, Text: "c0"}, func(q console.Query) (console.Page[kidoban.Alert], error) {
			return s.PageAlerts(ctx, console.AlertQuery{Query: q, Kind: kidoban.AlertFirstSeenHost})
		}, func(a kidoban.Alert) string { return a.Subject })
		if len(alerts) != 10 || alerts[0] != "c09" {
			t.Errorf("%v", alerts)
		}
		totals, err := s.Totals(ctx, epoch)
		must(t, err)
		if totals.Clients != 25 || totals.Grants != 25 || totals.Hosts != 7 {
			t.Errorf("%+v", totals)
		}
		if waits, err := s.Waiting(ctx); err != nil || waits.Review != 1 || waits.Held != 0 {
			t.Errorf("%+v %v", waits, err)
		}
		names, err := s.ClientNames(ctx, []string{"c01", "c02", "none"})
		if err != nil || len(names) != 2 || names["c01"].ID != "c01" {
			t.Errorf("%v %v", names, err)
		}
	})
}

// TestContractConsoleJournal: entries are found by what they say, over all chains.
func TestContractConsoleJournal(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		prev := map[string][]byte{"a": make([]byte, 32), "b": make([]byte, 32)}
		seq := map[string]int64{}
		for i := range 40 {
			chain := []string{"a", "b"}[i%2]
			seq[chain]++
			decision := "allowed"
			if i%10 == 0 {
				decision = "refused"
			}
			body := fmt.Sprintf(`{"id":"R%02d","user":"u_%d","client":"c_%d","server":"s%d","decision":"%s"}`, i, i%3, i%4, i%2, decision)
			e := gateway.Entry{Seq: seq[chain], At: epoch.Add(time.Duration(i/8) * time.Second), Prev: prev[chain], Body: []byte(body)}
			e.Hash = gateway.ChainHash(e.Prev, e.Seq, e.Body)
			prev[chain] = e.Hash
			must(t, s.AppendEntries(ctx, chain, []gateway.Entry{e}))
		}
		for _, c := range []struct {
			name string
			q    console.JournalQuery
			want int
		}{
			{"all", console.JournalQuery{}, 40}, {"user", console.JournalQuery{User: "u_1"}, 13}, {"client", console.JournalQuery{Client: "c_2"}, 10},
			{"server", console.JournalQuery{Server: "s1"}, 20}, {"request", console.JournalQuery{Request: "R07"}, 1}, {"other", console.JournalQuery{Other: true}, 4},
			{"user and server", console.JournalQuery{User: "u_1", Server: "s1"}, 7}, {"time", console.JournalQuery{From: epoch.Add(time.Second), To: epoch.Add(2 * time.Second)}, 8},
			{"text", console.JournalQuery{Query: console.Query{Text: `"r1`}}, 10}, {"nobody", console.JournalQuery{User: "u_9"}, 0},
		} {
			for _, size := range []int{1, 6, 100} {
				c.q.Limit, c.q.Look = size, 5
				seen := map[string]bool{}
				last := epoch.Add(time.Hour)
				rows, _ := walk(t, c.q.Query, func(q console.Query) (console.Page[console.JournalEntry], error) {
					c.q.Query = q
					return s.PageJournal(ctx, c.q)
				},
					func(e console.JournalEntry) string {
						if e.At.After(last) || seen[e.Record.ID] {
							t.Errorf("%s: %s is out of order or twice", c.name, e.Record.ID)
						}
						last, seen[e.Record.ID] = e.At, true
						return e.Record.ID
					})
				c.q.After = console.Place{}
				if len(rows) != c.want {
					t.Errorf("%s, pages of %d: %d, not %d", c.name, size, len(rows), c.want)
				}
			}
		}
	})
}

// TestContractMeters: counts of several processes add up; old ones go.
func TestContractMeters(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		m := console.Meter{At: epoch, Width: time.Minute, Calls: 2, Refused: 1, Micros: 70}
		m.Latency[3] = 2
		other := console.Meter{At: epoch, Width: time.Minute, Server: "files", Calls: 1}
		must(t, s.AddMeters(ctx, []console.Meter{m, other}))
		must(t, s.AddMeters(ctx, []console.Meter{m}))
		got, err := s.Meters(ctx, time.Minute, "", epoch, epoch.Add(time.Minute))
		must(t, err)
		m.Calls, m.Refused, m.Micros, m.Latency[3] = 4, 2, 140, 4
		if diff := cmp.Diff([]console.Meter{m}, got); diff != "" {
			t.Error(diff)
		}
		sums, err := s.ServerMeters(ctx, time.Minute, epoch, epoch.Add(time.Hour))
		if err != nil || len(sums) != 2 || sums[1].Server != "files" || sums[1].Calls != 1 || sums[0].Calls != 4 {
			t.Errorf("%+v %v", sums, err)
		}
		if n, err := s.DropMeters(ctx, time.Minute, epoch.Add(time.Second), 10); err != nil || n != 2 {
			t.Errorf("%d %v", n, err)
		}
	})
}

// TestContractConsolePins: pins are listed by place and found with their versions.
func TestContractConsolePins(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		for i := range 9 {
			must(t, s.AddPins(ctx, []gateway.Pin{{Server: fmt.Sprintf("s%d", i/5), Kind: toolscan.KindTool, Name: fmt.Sprintf("t%d", i/2), SHA256: fmt.Sprintf("%064d", i), Raw: []byte{byte(i)},
				State: []gateway.PinState{gateway.PinApproved, gateway.PinHeld}[i%2], First: epoch.Add(time.Duration(i) * time.Second)}}))
		}
		n, after := 0, gateway.Pin{}
		for {
			page, err := s.PagePins(ctx, console.PinQuery{After: after, Limit: 2})
			must(t, err)
			if n += len(page); len(page) < 2 {
				break
			}
			after = page[1]
		}
		held, err := s.PagePins(ctx, console.PinQuery{Server: "s0", State: gateway.PinHeld, Limit: 10})
		must(t, err)
		versions, err := s.PinVersions(ctx, gateway.Pin{Server: "s0", Kind: toolscan.KindTool, Name: "t1"})
		must(t, err)
		counts, err := s.PinCounts(ctx)
		must(t, err)
		if n != 9 || len(held) != 2 || len(versions) != 2 || versions[0].Raw[0] != 2 || len(counts) != 4 {
			t.Errorf("%d %v %v %v", n, held, versions, counts)
		}
	})
}

// TestContractAdmissions: domains are let in once.
func TestContractAdmissions(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store.DB) {
		ctx := t.Context()
		a := authserver.Admission{Domain: "agent.example", By: "u_1", Created: epoch}
		must(t, s.AdmitDomain(ctx, a))
		must(t, s.AdmitDomain(ctx, authserver.Admission{Domain: "agent.example", By: "u_2", Created: epoch}))
		got, err := s.Admitted(ctx)
		must(t, err)
		if diff := cmp.Diff([]authserver.Admission{a}, got); diff != "" {
			t.Error(diff)
		}
		must(t, s.DismissDomain(ctx, "agent.example"))
		if err := s.DismissDomain(ctx, "agent.example"); kidoban.KindOf(err) != kidoban.KindNotFound {
			t.Error(err)
		}
	})
}
