package telemetry

import (
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
)

// Gauge is a value that is read when Prometheus asks.
type Gauge struct {
	Name string // without the kidoban_ prefix
	Help string
	// Read calls add once for each value of the label, or once with "" when
	// Label is empty. It must be quick and safe for concurrent use.
	Label string
	Read  func(add func(label string, value float64))
}

// Metrics counts for Prometheus. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	events   *prometheus.CounterVec
	alerts   *prometheus.CounterVec
}

// NewMetrics makes the counters. version becomes kidoban_build_info.
func NewMetrics(version string, gauges ...Gauge) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "kidoban", Name: "calls_total",
			Help: "MCP requests by server, method, decision (allowed, refused, held, ...) and the rule that decided."}, []string{"server", "method", "decision", "rule"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "kidoban", Name: "call_duration_seconds",
			Help:    "Time from the first byte of an MCP request to the end of its answer; event streams count whole.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}}, []string{"server", "decision"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "kidoban", Name: "auth_events_total",
			Help: "What the authorization server did: registrations, logins, consents, tokens, by outcome (ok, refused, failed)."}, []string{"event", "outcome"}),
		alerts: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "kidoban", Name: "alerts_total",
			Help: "Alerts by kind and severity."}, []string{"kind", "severity"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "kidoban", Name: "build_info", Help: "Always 1; the version is the label.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	m.registry.MustRegister(m.calls, m.duration, m.events, m.alerts, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, g := range gauges {
		m.registry.MustRegister(newGaugeReader(g))
	}
	for _, k := range kidoban.AlertKinds() { // a series that is there can be alerted on before its first alert
		m.alerts.WithLabelValues(string(k.Kind), string(k.Severity))
	}
	return m
}

// Watch counts one record of the audit log.
func (m *Metrics) Watch(r gateway.Record) {
	switch kind, rest, _ := strings.Cut(r.Method, ":"); kind {
	case "auth":
		m.events.WithLabelValues(rest, r.Decision).Inc()
	case "alert":
		m.alerts.WithLabelValues(r.Name, string(kidoban.AlertKind(r.Name).Severity())).Inc()
	case "flood": // a sum of records that were counted one by one
	default:
		m.calls.WithLabelValues(r.Server, method(r.Method), r.Decision, r.Rule).Inc()
		m.duration.WithLabelValues(r.Server, r.Decision).Observe(float64(r.Micros) / 1e6)
	}
}

// Handler answers Prometheus in its text format, and in OpenMetrics when asked.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})
}

// method is the name as a label: one that MCP defines, one of ours, or "other".
func method(name string) string {
	switch name {
	case "", "initialize", "server/discover", "ping", "tools/list", "tools/call", "prompts/list", "prompts/get",
		"resources/list", "resources/read", "resources/templates/list", "resources/subscribe", "resources/unsubscribe",
		"subscriptions/listen", "completion/complete", "logging/setLevel", "tasks/get", "tasks/result", "tasks/list", "tasks/cancel", "tasks/update",
		"notifications/initialized", "notifications/cancelled", "notifications/progress", "notifications/roots/list_changed",
		"pin:tool", "pin:prompt", "pin:resource", "pin:template", "pin:server":
		return name
	}
	return "other"
}

// gaugeReader reads a Gauge at each scrape.
type gaugeReader struct {
	gauge Gauge
	desc  *prometheus.Desc
}

func newGaugeReader(g Gauge) gaugeReader {
	var labels []string
	if g.Label != "" {
		labels = []string{g.Label}
	}
	return gaugeReader{g, prometheus.NewDesc("kidoban_"+g.Name, g.Help, labels, nil)}
}

// Describe implements prometheus.Collector.
func (r gaugeReader) Describe(ch chan<- *prometheus.Desc) { ch <- r.desc }

// Collect implements prometheus.Collector.
func (r gaugeReader) Collect(ch chan<- prometheus.Metric) {
	r.gauge.Read(func(label string, value float64) {
		var labels []string
		if r.gauge.Label != "" {
			labels = []string{label}
		}
		ch <- prometheus.MustNewConstMetric(r.desc, prometheus.GaugeValue, value, labels...)
	})
}
