package telemetry

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func call(server, method, decision, rule string) gateway.Record {
	return gateway.Record{ID: "R1", At: at, Address: netip.MustParseAddr("192.0.2.7"), User: "u1", Client: "c1", Server: server, Method: method, Name: "search",
		Decision: decision, Rule: rule, Status: 200, Micros: 1500, Digest: "abc", Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	s := httptest.NewServer(m.Handler())
	defer s.Close()
	r, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return string(b)
}

func TestMetricsCountTheAuditLog(t *testing.T) {
	n := 0.0
	m := NewMetrics("9.9", Gauge{Name: "waiting", Help: "x", Read: func(add func(string, float64)) { n++; add("", n) }},
		Gauge{Name: "up", Help: "x", Label: "server", Read: func(add func(string, float64)) { add("github", 1); add("notion", 0) }})
	m.Watch(call("github", "tools/call", "allowed", ""))
	m.Watch(call("github", "tools/call", "refused", "scope"))
	m.Watch(gateway.Record{Method: "auth:register", Decision: "ok"})
	m.Watch(gateway.Record{Method: "alert", Name: "code_replay", Decision: "alert"})
	m.Watch(gateway.Record{Method: "flood", Decision: "refused"})
	text := scrape(t, m)
	for _, want := range []string{
		`kidoban_calls_total{decision="allowed",method="tools/call",rule="",server="github"} 1`,
		`kidoban_calls_total{decision="refused",method="tools/call",rule="scope",server="github"} 1`,
		`kidoban_call_duration_seconds_bucket{decision="allowed",server="github",le="0.0025"} 1`,
		`kidoban_auth_events_total{event="register",outcome="ok"} 1`,
		`kidoban_alerts_total{kind="code_replay",severity="critical"} 1`,
		`kidoban_alerts_total{kind="token_burst",severity="medium"} 0`,
		`kidoban_build_info{version="9.9"} 1`, `kidoban_waiting 1`, `kidoban_up{server="notion"} 0`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	if strings.Contains(text, `method="flood"`) || strings.Contains(text, `decision="refused",method="other"`) {
		t.Error("the sum of a flood was counted a second time")
	}
}

// A stranger must not be able to make time series.
func TestNamesOfStrangersAreNoLabels(t *testing.T) {
	m := NewMetrics("1")
	for i := range 1000 {
		r := call("github", "x/"+strings.Repeat("y", i), "refused", "method")
		r.Name, r.Client = "tool-"+strings.Repeat("z", i), "client"
		m.Watch(r)
	}
	text := scrape(t, m)
	if got := strings.Count(text, "kidoban_calls_total{"); got != 1 {
		t.Fatalf("%d series for 1000 invented methods", got)
	}
	if strings.Contains(text, "yyy") || strings.Contains(text, "zzz") {
		t.Fatal("an invented name is in the metrics")
	}
}

// collector is an OTLP receiver.
type collector struct {
	mu    sync.Mutex
	spans []*tracepb.ExportTraceServiceRequest
	logs  []*logspb.ExportLogsServiceRequest
	token []string
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = append(c.token, r.Header.Get("Api-Key"))
	switch r.URL.Path {
	case "/v1/traces":
		m := &tracepb.ExportTraceServiceRequest{}
		if proto.Unmarshal(body, m) == nil {
			c.spans = append(c.spans, m)
		}
	case "/v1/logs":
		m := &logspb.ExportLogsServiceRequest{}
		if proto.Unmarshal(body, m) == nil {
			c.logs = append(c.logs, m)
		}
	}
}

func TestOpenTelemetrySpansAndLogs(t *testing.T) {
	c := &collector{}
	s := httptest.NewServer(c)
	defer s.Close()
	x, err := NewExporter(t.Context(), Export{Endpoint: s.URL, Headers: map[string]string{"Api-Key": "k"}, Instance: "i1", Version: "9.9", Sample: 1, Client: s.Client(), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	x.Watch(call("github", "tools/call", "refused", "scope"))
	x.Watch(gateway.Record{At: at, Method: "auth:token", Decision: "ok"})
	if err := x.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.spans) != 1 || len(c.logs) != 1 || c.token[0] != "k" {
		t.Fatalf("%d trace and %d log exports, headers %q", len(c.spans), len(c.logs), c.token)
	}
	spans := c.spans[0].ResourceSpans[0].ScopeSpans[0].Spans
	if len(spans) != 1 {
		t.Fatalf("%d spans for one call and one event", len(spans))
	}
	span := spans[0]
	if span.Name != "tools/call github" || span.EndTimeUnixNano-span.StartTimeUnixNano != 1_500_000 {
		t.Errorf("span %q of %d ns", span.Name, span.EndTimeUnixNano-span.StartTimeUnixNano)
	}
	if got := hexOf(span.TraceId) + " " + hexOf(span.ParentSpanId); got != "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331" {
		t.Errorf("the span hangs at %s", got)
	}
	var n int
	for _, sl := range c.logs[0].ResourceLogs[0].ScopeLogs {
		n += len(sl.LogRecords)
	}
	if first := c.logs[0].ResourceLogs[0].ScopeLogs[0].LogRecords[0]; n != 2 || hexOf(first.TraceId) != "0af7651916cd43dd8448eb211c80319c" || first.Body.GetStringValue() != "refused tools/call github search scope" {
		t.Errorf("%d log records, the first %v", n, first)
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

// However the receiver fails, Close tells exactly how much it did not take: a record
// given up early, when the SDK's queue has long forgotten it, is not forgotten.
func TestAReceiverThatIsAwayHoldsNothingUp(t *testing.T) {
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a client that leaves is noticed only then
		<-r.Context().Done()
	}))
	defer silent.Close()
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer refusing.Close()
	for name, s := range map[string]*httptest.Server{"away": away, "silent": silent, "refusing": refusing} {
		var said lines
		x, err := NewExporter(t.Context(), Export{Endpoint: s.URL, Sample: 1, Client: s.Client(), Log: slog.New(slog.NewTextHandler(&said, nil)), Now: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		for range queueMax + 512 {
			x.Watch(call("github", "tools/call", "allowed", ""))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err = x.Close(ctx)
		cancel()
		where := host(s.URL)
		for _, want := range []string{"4608 of 4608 spans were not taken by " + where, "4608 of 4608 log records were not taken by " + where} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: Close says %v, not %q", name, err, want)
			}
		}
		if n := said.count("telemetry was not taken"); n > 2 {
			t.Errorf("%s: the log was told %d times in one minute of two queues", name, n)
		}
	}
}

// lines is a log that may be written to while it is read.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func TestWebhooks(t *testing.T) {
	alert := kidoban.Alert{ID: "a1", Kind: kidoban.AlertCodeReplay, At: at, Subject: "client", Text: "A <b> & code", Do: "Look."}
	type got struct{ sign, body string }
	seen := make(chan got, 10)
	fails := 1
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if fails > 0 {
			fails--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		b, _ := io.ReadAll(r.Body)
		seen <- got{r.Header.Get("X-Kidoban-Signature"), string(b)}
	}))
	defer s.Close()
	w := NewWebhooks([]Hook{
		{Name: "json", URL: s.URL, Secret: "s3", Client: s.Client()},
		{Name: "none of this", URL: s.URL, Least: kidoban.Critical, Client: s.Client()},
	}, func() time.Time { return at }, slog.New(slog.DiscardHandler))
	w.Send(kidoban.Alert{ID: "a0", Kind: kidoban.AlertTokenBurst, At: at})
	w.Send(alert)
	w.Close(t.Context())
	close(seen)
	count := map[string]int{}
	for g := range seen {
		var body struct{ ID, Severity string }
		if err := json.Unmarshal([]byte(g.body), &body); err != nil {
			t.Fatal(err)
		}
		count[body.ID]++
		if g.sign != "" && g.sign != Sign("s3", at, []byte(g.body)) {
			t.Errorf("signature %s", g.sign)
		}
		if body.ID == "a1" && body.Severity != "critical" {
			t.Errorf("severity %q", body.Severity)
		}
	}
	if count["a0"] != 1 || count["a1"] != 2 {
		t.Errorf("deliveries: %v; a0 to one hook, a1 to both, after a failure", count)
	}
	text, err := Body(alert, true)
	if err != nil || !strings.Contains(string(text), `A \u0026lt;b\u0026gt; \u0026amp; code`) {
		t.Errorf("Slack text %s, %v", text, err)
	}
}

// TestWebhooksChange: what waited for a receiver goes where one of its name is then,
// signed with the new secret; what waits for one that is no more holds up nothing; and
// alerts that come meanwhile find one or the other.
func TestWebhooksChange(t *testing.T) {
	seen, tried := make(chan string, 100), make(chan bool, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			tried <- true
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		b, _ := io.ReadAll(r.Body)
		if r.Header.Get("X-Kidoban-Signature") != Sign("new", at, b) {
			t.Error("signed with another secret")
		}
		seen <- r.URL.Path
	}))
	defer s.Close()
	hook := func(name, path, secret string) Hook {
		return Hook{Name: name, URL: s.URL + path, Secret: secret, Client: s.Client()}
	}
	w := NewWebhooks([]Hook{hook("a", "/away", "old"), hook("b", "/away", "old")}, func() time.Time { return at }, slog.New(slog.DiscardHandler))
	alert := kidoban.Alert{ID: "a1", Kind: kidoban.AlertCodeReplay, At: at}
	w.Send(alert)
	<-tried
	<-tried
	w.Change([]Hook{hook("a", "/a", "new"), hook("c", "/c", "new")})
	if got := <-seen; got != "/a" {
		t.Errorf("what waited went to %s", got)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				w.Send(alert)
			}
		})
		wg.Go(func() { w.Change([]Hook{hook("c", "/c", "new"), hook("a", "/a", "new")}) })
	}
	wg.Wait()
	w.Close(t.Context())
	w.Send(alert) // nobody is there, and nothing happens
	count := map[string]int{}
	for range len(seen) {
		count[<-seen]++
	}
	if count["/a"] != 20 || count["/c"] != 20 {
		t.Errorf("alerts arrived: %v, each receiver should have 20", count)
	}
}

func TestWebhookSecretsStayOutOfTheLog(t *testing.T) {
	var mu sync.Mutex
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(writer(func(p []byte) { mu.Lock(); text.Write(p); mu.Unlock() }), nil))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer s.Close()
	w := NewWebhooks([]Hook{{Name: "chat", URL: s.URL + "/hook/T0P5ECRET", Secret: "s3cr3t", Client: s.Client()}}, time.Now, log)
	w.Send(kidoban.Alert{ID: "a1", Kind: kidoban.AlertCodeReplay})
	w.Close(t.Context())
	mu.Lock()
	defer mu.Unlock()
	if out := text.String(); !strings.Contains(out, "403") || strings.Contains(out, "T0P5ECRET") || strings.Contains(out, "s3cr3t") {
		t.Errorf("the log says %s", out)
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

// The dashboard asks for nothing that is not there.
func TestDashboardAsksForMetricsThatExist(t *testing.T) {
	raw, err := os.ReadFile("../deploy/grafana/kidoban.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &board); err != nil {
		t.Fatal(err)
	}
	m := NewMetrics("1", Gauge{Name: "audit_log_waiting_records", Help: "x", Read: func(add func(string, float64)) { add("", 0) }})
	m.Watch(call("github", "tools/call", "refused", "scope"))
	m.Watch(gateway.Record{Method: "auth:register", Decision: "ok"})
	text := scrape(t, m)
	names := regexp.MustCompile(`\b(kidoban|process|go)_[a-z_]+`)
	asked := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			for _, name := range names.FindAllString(target.Expr, -1) {
				asked++
				if !strings.Contains(text, "\n"+name+"{") && !strings.Contains(text, "\n"+name+" ") {
					t.Errorf("panel %q asks for %s, which is not exported", p.Title, name)
				}
			}
		}
	}
	if asked < 12 {
		t.Errorf("only %d metrics found in the dashboard", asked)
	}
}
