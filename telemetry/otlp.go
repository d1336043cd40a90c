package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
)

// Export says where OpenTelemetry's data goes.
type Export struct {
	Endpoint string            // base URL of an OTLP/HTTP receiver; /v1/traces and /v1/logs are appended
	Headers  map[string]string // sent with each export; may hold a secret
	Instance string            // service.instance.id
	Version  string            // service.version
	Sample   float64           // share of calls without a traceparent that become spans; 1 is all. A traceparent decides for itself.
	NoTraces bool
	NoLogs   bool
	Client   *http.Client // the guarded way out; never nil
	Log      *slog.Logger // hears once a minute of a receiver that takes nothing
	Now      func() time.Time
}

// queueMax is how many spans, and how many log records, may wait for a slow
// receiver: about 2 MB each.
const queueMax = 4096

// Exporter sends spans and log records. It owns the goroutines of two queues;
// Close ends them. It is safe for concurrent use.
type Exporter struct {
	traces *sdktrace.TracerProvider // nil when off
	tracer trace.Tracer
	spans  *tally
	logs   *sdklog.LoggerProvider // nil when off
	logger log.Logger
	events *tally
	end    context.CancelFunc // of every export under way

	headers atomic.Pointer[map[string]string]
}

// SetHeaders has what is sent from now on carry other headers.
func (x *Exporter) SetHeaders(h map[string]string) { x.headers.Store(&h) }

// headed adds the headers of now to what goes out.
type headed struct {
	headers *atomic.Pointer[map[string]string]
	next    http.RoundTripper // nil is the default
}

// RoundTrip implements http.RoundTripper.
func (h headed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, value := range *h.headers.Load() {
		r.Header.Set(name, value)
	}
	if h.next == nil {
		return http.DefaultTransport.RoundTrip(r)
	}
	return h.next.RoundTrip(r)
}

// NewExporter makes the queues. Nothing is sent before the first record; a
// receiver that is away is tried again until the queue is full.
func NewExporter(ctx context.Context, e Export) (*Exporter, error) {
	base := strings.TrimSuffix(e.Endpoint, "/")
	res := resource.NewSchemaless(attribute.String("service.name", "kidoban"), attribute.String("service.version", e.Version), attribute.String("service.instance.id", e.Instance))
	life, end := context.WithCancel(context.Background())
	x := &Exporter{end: end, spans: &tally{what: "spans", to: host(base), log: e.Log, now: e.Now, life: life},
		events: &tally{what: "log records", to: host(base), log: e.Log, now: e.Now, life: life}}
	x.SetHeaders(e.Headers)
	client := &http.Client{CheckRedirect: e.Client.CheckRedirect, Timeout: e.Client.Timeout, Transport: headed{&x.headers, e.Client.Transport}}
	if !e.NoTraces {
		out, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(base+"/v1/traces"), otlptracehttp.WithHTTPClient(client), otlptracehttp.WithTimeout(10*time.Second))
		if err != nil {
			return nil, kidoban.Wrap(kidoban.KindUsage, err, "telemetry: spans cannot be sent to %s", host(base))
		}
		x.traces = sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(e.Sample))),
			sdktrace.WithBatcher(countedSpans{out, x.spans}, sdktrace.WithMaxQueueSize(queueMax)))
		x.tracer = x.traces.Tracer("github.com/kidoban/kidoban/gateway")
	}
	if !e.NoLogs {
		out, err := otlploghttp.New(ctx, otlploghttp.WithEndpointURL(base+"/v1/logs"), otlploghttp.WithHTTPClient(client), otlploghttp.WithTimeout(10*time.Second))
		if err != nil {
			return nil, errors.Join(kidoban.Wrap(kidoban.KindUsage, err, "telemetry: log records cannot be sent to %s", host(base)), x.Close(ctx))
		}
		x.logs = sdklog.NewLoggerProvider(sdklog.WithResource(res), sdklog.WithProcessor(sdklog.NewBatchProcessor(countedLogs{out, x.events}, sdklog.WithMaxQueueSize(queueMax))))
		x.logger = x.logs.Logger("github.com/kidoban/kidoban/gateway")
	}
	return x, nil
}

// Close sends what waits and ends the queues. ctx bounds the wait. The error says how
// much of what was given to Watch no receiver took, since the start: each record of it
// is in the audit log.
func (x *Exporter) Close(ctx context.Context) error {
	defer x.end()
	defer context.AfterFunc(ctx, x.end)()
	var errs []error
	if x.traces != nil {
		errs = append(errs, x.traces.Shutdown(ctx))
	}
	if x.logs != nil {
		errs = append(errs, x.logs.Shutdown(ctx))
	}
	for _, t := range []*tally{x.spans, x.events} {
		if n, reason := t.lost(); n > 0 {
			errs = append(errs, kidoban.Wrap(kidoban.KindUnreachable, reason, "telemetry: %d of %d %s were not taken by %s", n, t.in.Load(), t.what, t.to))
		}
	}
	return errors.Join(errs...)
}

// Watch turns one record of the audit log into a log record, and a call into a
// span that ends now and began when the call did.
func (x *Exporter) Watch(r gateway.Record) {
	ctx := parent(r.Trace)
	attrs := attributes(r)
	if x.tracer != nil && !strings.Contains(r.Method, ":") && r.Method != "alert" && r.Method != "flood" {
		name := method(r.Method)
		if name == "" {
			name = "request"
		}
		var span trace.Span
		ctx, span = x.tracer.Start(ctx, strings.TrimSpace(name+" "+r.Server), trace.WithTimestamp(r.At), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attrs...))
		if r.Decision != "allowed" {
			span.SetStatus(codes.Error, r.Decision+": "+r.Rule)
		}
		if span.SpanContext().IsSampled() {
			x.spans.in.Add(1)
		}
		span.End(trace.WithTimestamp(r.At.Add(time.Duration(r.Micros) * time.Microsecond)))
	}
	if x.logger == nil {
		return
	}
	var rec log.Record
	rec.SetTimestamp(r.At)
	rec.SetEventName("kidoban.audit")
	rec.SetBody(attribute.StringValue(sentence(r)))
	rec.SetSeverity(log.SeverityInfo)
	if r.Decision != "allowed" && r.Decision != "ok" {
		rec.SetSeverity(log.SeverityWarn)
	}
	rec.AddAttributes(attrs...)
	x.events.in.Add(1)
	x.logger.Emit(ctx, rec)
}

// sentence is what a person reads in a list of log records.
func sentence(r gateway.Record) string {
	return strings.Join(strings.Fields(r.Decision+" "+r.Method+" "+r.Server+" "+r.Name+" "+r.Rule), " ")
}

// attributes uses the names of OpenTelemetry's semantic conventions where there
// are any, and our own below kidoban.
func attributes(r gateway.Record) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, 14)
	add := func(key, value string) {
		if value != "" {
			out = append(out, attribute.String(key, value))
		}
	}
	add("kidoban.request.id", r.ID)
	add("mcp.method.name", r.Method)
	if r.Method == "tools/call" {
		add("gen_ai.tool.name", r.Name)
	} else {
		add("kidoban.name", r.Name)
	}
	add("kidoban.server", r.Server)
	add("kidoban.user", r.User)
	add("kidoban.client", r.Client)
	add("kidoban.grant", r.Grant)
	add("kidoban.era", r.Era)
	add("kidoban.decision", r.Decision)
	add("kidoban.rule", r.Rule)
	add("kidoban.arguments.sha256", r.Digest)
	add("kidoban.detail", r.Detail)
	if r.Address.IsValid() {
		add("client.address", r.Address.String())
	}
	if r.Status != 0 {
		out = append(out, attribute.Int("http.response.status_code", r.Status))
	}
	return out
}

// parent is the caller's span, from a traceparent that the gateway has checked
// (W3C Trace Context, version 00); without one, none.
func parent(traceparent string) context.Context {
	ctx := context.Background()
	parts := strings.Split(traceparent, "-")
	if len(parts) != 4 {
		return ctx
	}
	id, err1 := trace.TraceIDFromHex(parts[1])
	span, err2 := trace.SpanIDFromHex(parts[2])
	flags, err3 := strconv.ParseUint(parts[3], 16, 8)
	if errors.Join(err1, err2, err3) != nil {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(flags) & trace.FlagsSampled, Remote: true}))
}

// host is the part of a URL that may stand in an error.
func host(raw string) string {
	if u, err := url.Parse(raw); err == nil && u.Host != "" {
		return u.Host
	}
	return "its endpoint"
}
