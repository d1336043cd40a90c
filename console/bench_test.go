package console_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/store/storetest"
)

// The size that the console is made for.
const (
	manyClients = 100_000
	manyEntries = 1_000_000
	manyUsers   = 20_000
	manyGrants  = 200_000
	manyHosts   = 20_000
)

// flood fills a database by SQL that both engines take: a hundred thousand clients
// at twenty thousand hosts, half of them at one, and a million audit entries.
var flood = []string{
	numbers(manyUsers) + `INSERT INTO users(id, name, name_key, display, password_hash, admin, disabled, created_ms)
		SELECT 'u_' || i, 'user' || i, 'user' || i, 'User ' || i, '', FALSE, FALSE, 1700000000000 + i FROM n`,
	numbers(manyClients) + `INSERT INTO clients(id, kind, metadata, fingerprint, shared, review, created_ms, consented_ms, used_ms, expires_ms, fresh_ms)
		SELECT CASE WHEN i % 10 = 0 THEN 'https://agent' || (i % 20000) || '.example/client-' || i || '.json' ELSE 'c_' || i END, CASE WHEN i % 10 = 0 THEN 'cimd' ELSE 'dcr' END,
		'{"client_name":"Desk assistant ' || i || '","redirect_uris":["https://h' || (i % 20000) || '.example/oauth/callback","http://127.0.0.1:33418/callback"],"scope":"mcp:read mcp:write","grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none","client_uri":"https://h' || (i % 20000) || '.example/about","software_id":"4NRB1-0XZABZI9E6-5SM3R","contacts":["someone' || i || '@h.example"]}',
		'f' || i, FALSE, i % 1000 = 0, 1700000000000 + i * 1000, 1700000000000 + i * 1000, 1700000000000 + i * 1000, 0, 0 FROM n`,
	numbers(manyHosts) + `INSERT INTO hosts(host, loopback, first_ms, last_ms) SELECT 'h' || (i - 1) || '.example', FALSE, 1700000000000 + i * 1000, 1700000000000 + i * 2000 FROM n`,
	`INSERT INTO hosts(host, loopback, first_ms, last_ms) VALUES ('127.0.0.1', TRUE, 1790000000000, 1790000000000)`,
	numbers(manyClients) + `INSERT INTO client_hosts(client_id, host) SELECT CASE WHEN i % 10 = 0 THEN 'https://agent' || (i % 20000) || '.example/client-' || i || '.json' ELSE 'c_' || i END, 'h' || (i % 20000) || '.example' FROM n`,
	numbers(manyClients) + `INSERT INTO client_hosts(client_id, host) SELECT CASE WHEN i % 10 = 0 THEN 'https://agent' || (i % 20000) || '.example/client-' || i || '.json' ELSE 'c_' || i END, '127.0.0.1' FROM n`,
	numbers(manyGrants) + `INSERT INTO grants(id, user_id, client_id, redirect_uri, redirect_host, resource, scopes, dpop_key, created_ms, used_ms, expires_ms, reason)
		SELECT 'g' || i, 'u_' || (i % 20000 + 1), 'c_' || (i % 100000 + 1), '', CASE WHEN i % 2 = 0 THEN '127.0.0.1' ELSE 'h' || (i % 20000) || '.example' END, 'http://127.0.0.1/mcp', 'mcp:read mcp:write', '', 1700000000000 + i * 500, 0, 2000000000000, '' FROM n`,
	numbers(10_000) + `INSERT INTO alerts(id, kind, at_ms, subject, text, do_text) SELECT 'a' || i, 'first_seen_host', 1700000000000 + i * 60000, 'h' || i || '.example', 'A client registered a callback at a host never seen here before.', 'Find out whose host it is.' FROM n`,
	numbers(5_000) + `INSERT INTO denies(id, kind, pattern, reason, by_whom, created_ms) SELECT 'd' || i, 'host', 'bad' || i || '.example', 'phishing', 'u_1', 1700000000000 + i FROM n`,
	numbers(2_000) + `INSERT INTO pins(server, kind, name, sha256, raw, state, reason, first_ms, decided_ms, decided_by) SELECT 'files', 'tool', 'tool' || (i / 2), 'h' || i, '{}', CASE WHEN i % 2 = 0 THEN 'approved' ELSE 'held' END, 'changed', 1700000000000 + i, 0, '' FROM n`,
	numbers(manyEntries) + `INSERT INTO journal(chain, seq, at_ms, prev, hash, body, request, user_id, client_id, server, decision)
		SELECT 'bench', i, 1700000000000 + i * 100, '', '', '{"id":"REQ' || i || '","at":"2026-01-01T00:00:00Z","address":"198.51.100.' || (i % 200) || '","user":"u_' || (i % 20000 + 1) || '","client":"c_' || (i % 100000 + 1) || '","grant":"g' || i || '","server":"' || CASE WHEN i % 100000 = 0 THEN 'rare' ELSE 'files' END || '","method":"tools/call","name":"read_file","era":"modern","decision":"' || CASE WHEN i % 50 = 0 THEN 'refused' ELSE 'allowed' END || '","rule":"pin:held","status":200,"digest":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","us":1234}',
		'REQ' || i, 'u_' || (i % 20000 + 1), 'c_' || (i % 100000 + 1), CASE WHEN i % 100000 = 0 THEN 'rare' ELSE 'files' END, CASE WHEN i % 50 = 0 THEN 'refused' ELSE 'allowed' END FROM n`,
	`INSERT INTO journal_seen(word, at_ms) SELECT DISTINCT 'u:' || user_id, at_ms - at_ms % 100 FROM journal`,
	`INSERT INTO journal_seen(word, at_ms) SELECT DISTINCT 'c:' || client_id, at_ms - at_ms % 100 FROM journal`,
	`INSERT INTO journal_seen(word, at_ms) SELECT DISTINCT 's:' || server, at_ms - at_ms % 100 FROM journal`,
	numbers(2_880) + `INSERT INTO meters SELECT 60, '', $NOW - i * 60000, 100, 3, 1, 1, 1, 1, 0, 90000, 10, 20, 30, 20, 10, 5, 5, 0, 0, 0, 0, 0 FROM n`,
	numbers(2_160) + `INSERT INTO meters SELECT 3600, '', $NOW - i * 3600000, 6000, 180, 60, 60, 60, 60, 2, 5400000, 600, 1200, 1800, 1200, 600, 300, 300, 0, 0, 0, 0, 0 FROM n`,
	numbers(2_160) + `INSERT INTO meters SELECT 3600, 'files', $NOW - i * 3600000, 6000, 180, 60, 0, 0, 0, 0, 5400000, 600, 1200, 1800, 1200, 600, 300, 300, 0, 0, 0, 0, 0 FROM n`,
	`ANALYZE`,
}

func numbers(n int) string {
	return fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < %d) `, n)
}

func fill(b *testing.B, driver, database string) {
	b.Helper()
	db, err := store.Open(b.Context(), store.Options{URL: database}) // makes the schema
	must(b, err)
	must(b, db.Close())
	if driver == "sqlite" {
		database = "file:" + database + "?_pragma=busy_timeout(60000)&_pragma=synchronous(0)"
	}
	raw, err := sql.Open(driver, database)
	must(b, err)
	defer raw.Close()
	raw.SetMaxOpenConns(1)
	now := fmt.Sprint(time.Now().Truncate(time.Hour).UnixMilli())
	for _, q := range flood {
		if driver == "sqlite" { // bodies are bytes there and here
			q = strings.ReplaceAll(q, ", '{}',", ", x'7b7d',")
		}
		if _, err := raw.ExecContext(b.Context(), insertable(strings.ReplaceAll(q, "$NOW", now))); err != nil {
			b.Fatalf("%.80s: %v", q, err)
		}
	}
}

// insertable puts the INSERT before the WITH, which both engines take.
func insertable(q string) string {
	with, rest, ok := strings.Cut(q, "INSERT INTO ")
	if !ok || with == "" {
		return q
	}
	into, body, _ := strings.Cut(rest, "SELECT")
	return "INSERT INTO " + into + with + "SELECT" + body
}

// BenchmarkConsole measures every page at the size that the console is made for,
// from request to last byte, as an administrator, and prints the median and the
// worst of twenty in milliseconds, with the processor time of one. Filling takes a minute or two on each engine.
func BenchmarkConsole(b *testing.B) {
	if os.Getenv("KIDOBAN_BENCH_CONSOLE") == "" {
		b.Log("set KIDOBAN_BENCH_CONSOLE=1 (make bench does) to measure with a million audit entries")
		return
	}
	for _, engine := range []string{"sqlite", "pgx"} {
		b.Run(engine, func(b *testing.B) {
			database := ""
			if engine == "pgx" {
				database = cluster.Postgres(b)
			} else {
				database = storetest.SQLite(b)
			}
			began := time.Now()
			fill(b, engine, database)
			w := newWorld(b, database)
			link, err := w.as.AddUser(b.Context(), "alice", true)
			must(b, err)
			p := w.browser()
			v := p.get(link).fields()
			v.Set("name", "alice")
			v.Set("password", password)
			v.Set("again", password)
			p.post("/setup", v)
			fmt.Printf("console %-6s filled in %.0f s: %d clients, %d audit entries\n", engine, time.Since(began).Seconds(), manyClients, manyEntries)
			worst := time.Duration(0)
			for _, path := range benchPages(b, p) {
				var took []time.Duration
				size, spent := 0, cpu()
				for range 20 {
					began := time.Now()
					a := p.get(path)
					took = append(took, time.Since(began))
					if size = len(a.body); a.StatusCode != http.StatusOK {
						b.Fatalf("%s: %d %s", path, a.StatusCode, a.body)
					}
				}
				slices.Sort(took)
				worst = max(worst, took[19])
				fmt.Printf("console %-6s %-66.66s median %6.1f ms  worst %6.1f ms  cpu %5.1f ms  %4d kB\n", engine, path, ms(took[10]), ms(took[19]), ms((cpu()-spent)/20), size>>10)
			}
			fmt.Printf("console %-6s the slowest request of all took %.1f ms\n", engine, ms(worst))
			b.ReportMetric(ms(worst), "worst-ms")
		})
	}
}

// cpu is what this process has used, which a busy machine does not change much;
// of PostgreSQL it sees only our side.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// benchPages are all pages, lists also deep inside, searches also for what is rare
// and what there is not.
func benchPages(b *testing.B, p *browser) []string {
	at := func(path, key string, ms int64) string {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		return path + sep + "after=" + url.QueryEscape(fmt.Sprintf("%d.%s", ms, key))
	}
	return []string{
		"/console", "/console?span=1h", "/console?span=7d", "/console?span=30d", "/console/servers",
		"/console/clients", at("/console/clients", "c_50000", 1700000000000+50_000_000), "/console/clients?kind=cimd", "/console/clients?q=c_77777", "/console/clients?q=nobody+has+this", "/console/clients?q=assistant+99",
		"/console/client?id=c_5", "/console/hosts", at("/console/hosts", "h5000.example", 1700000000000+5_000_000), "/console/hosts?q=h777", "/console/hosts?q=nothing", "/console/host?name=127.0.0.1", "/console/host?name=h5.example",
		"/console/domains", "/console/deny", "/console/deny?q=bad1", "/console/grants", at("/console/grants", "g100000", 1700000000000+50_000_000), "/console/grants?user=user7", "/console/grants?client=c_7",
		"/console/users", "/console/users?after=user5", "/console/users?q=user19", "/console/user?id=u_77", "/console/alerts", "/console/alerts?q=nothing",
		"/console/log", at("/console/log", "500000 bench", 1700000000000+50_000_000), "/console/log?user=user77", "/console/log?client=c_77", "/console/log?server=files", "/console/log?server=rare", "/console/log?request=REQ777777",
		"/console/log?other=1", at("/console/log?other=1", "500000 bench", 1700000000000+50_000_000), "/console/log?q=nothing+like+this", "/console/log?q=read_file", "/console/log?q=REQ99999", "/console/log?user=user77&other=1&q=refused", "/console/log?from=2023-11-15&to=2023-11-15",
		"/console/definitions", "/console/definitions?state=held", "/console/definition?server=files&kind=tool&name=tool77", "/console/limits", "/console/settings", "/console/mine",
	}
}
