package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/telemetry"
)

type telemetryConfig struct {
	Metrics     string `yaml:"metrics" doc:"Address and port where Prometheus finds /metrics, apart from the public listener. Default: nowhere. Whoever reaches it reads the counters."`
	OTLP        string `yaml:"otlp" doc:"Base URL of an OpenTelemetry receiver (OTLP over HTTP), for example https://collector.example:4318. Default: none."`
	HeadersFile string `yaml:"otlp_headers_file" doc:"File with a Name: value line for each header that the receiver wants."`
	Address     string `yaml:"address" enum:"public,loopback,private" doc:"Which addresses the receiver may have. Default public."`
	Sample      *int   `yaml:"sample_percent" doc:"Share of calls without a trace of their own that become spans, in percent. Default 100."`
	Traces      *bool  `yaml:"traces" doc:"Whether calls become spans. Default true."`
	Logs        *bool  `yaml:"logs" doc:"Whether records of the audit log are sent as log records. Default true."`
}

type alertsConfig struct {
	Webhooks []webhookConfig `yaml:"webhooks" doc:"Receivers of alerts."`
}

type webhookConfig struct {
	Name       string `yaml:"name" doc:"For the log."`
	URL        string `yaml:"url" doc:"Where alerts are posted."`
	URLFile    string `yaml:"url_file" doc:"File that holds the URL, when the URL is a secret."`
	SecretFile string `yaml:"secret_file" doc:"File that holds the secret for X-Kidoban-Signature."`
	Format     string `yaml:"format" enum:"json,slack" doc:"The alert as JSON, or a text as Slack and many others read it. Default json."`
	Least      string `yaml:"least" enum:"info,low,medium,high,critical" doc:"Least severity that is sent. Default: all."`
	Address    string `yaml:"address" enum:"public,loopback,private" doc:"Which addresses the receiver may have. Default public."`
}

// wayOut is a client for a receiver that the operator named.
func wayOut(raw, address string) (*http.Client, error) {
	guard := outbound.Guard{Lab: address == "loopback", Private: address == "private"}
	switch address {
	case "", "public", "loopback", "private":
	default:
		return nil, kidoban.Errorf(kidoban.KindUsage, "address must be public, loopback or private, not %.40q", address)
	}
	if err := guard.CheckURL(raw); err != nil {
		return nil, err
	}
	return &http.Client{
		Transport:     outbound.Relay(strings.HasPrefix(raw, "http://"), outbound.RelayOptions{Lab: guard.Lab, Private: guard.Private, MaxIdle: 2}),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       15 * time.Second,
	}, nil
}

// export builds what OpenTelemetry needs; wanted tells whether it is wanted.
func (c telemetryConfig) export(instance string) (e telemetry.Export, wanted bool, err error) {
	if c.Metrics != "" {
		if _, _, err := net.SplitHostPort(c.Metrics); err != nil {
			return e, false, kidoban.Errorf(kidoban.KindUsage, "telemetry: metrics must be address:port, not %.80q", c.Metrics)
		}
	}
	if c.OTLP == "" {
		return e, false, nil
	}
	client, err := wayOut(c.OTLP, c.Address)
	if err != nil {
		return e, false, kidoban.Wrap(kidoban.KindUsage, err, "telemetry: otlp")
	}
	e = telemetry.Export{Endpoint: c.OTLP, Instance: instance, Version: kidoban.Version, Sample: 1, NoTraces: !on(c.Traces), NoLogs: !on(c.Logs), Client: client, Headers: map[string]string{}}
	if c.Sample != nil {
		if *c.Sample < 0 || *c.Sample > 100 {
			return e, false, kidoban.Errorf(kidoban.KindUsage, "telemetry: sample_percent must be 0 to 100, not %d", *c.Sample)
		}
		e.Sample = float64(*c.Sample) / 100
	}
	if c.HeadersFile != "" {
		text, err := readSecret(c.HeadersFile)
		if err != nil {
			return e, false, err
		}
		for i, line := range strings.Split(text, "\n") {
			name, value, ok := strings.Cut(line, ":")
			if strings.TrimSpace(line) == "" {
				continue
			}
			if !ok {
				return e, false, kidoban.Errorf(kidoban.KindUsage, "telemetry: line %d of %s is no header like Name: value", i+1, c.HeadersFile)
			}
			e.Headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return e, true, nil
}

// sameWays tells whether two differ in nothing but the file of headers.
func (c telemetryConfig) sameWays(d telemetryConfig) bool {
	c.HeadersFile, d.HeadersFile = "", ""
	return reflect.DeepEqual(c, d)
}

// hooks builds the receivers of alerts, or lists everything that is wrong.
func (c alertsConfig) hooks() (out []telemetry.Hook, err error) {
	var bad []error
	for i, w := range c.Webhooks {
		h := telemetry.Hook{Name: w.Name, URL: w.URL, Slack: w.Format == "slack", Least: kidoban.Severity(w.Least)}
		if h.Name == "" {
			h.Name = fmt.Sprintf("number %d", i+1)
		}
		say := func(err error) {
			if err != nil {
				bad = append(bad, kidoban.Wrap(kidoban.KindUsage, err, "alerts: webhook %s", h.Name))
			}
		}
		if w.URLFile != "" {
			h.URL, err = readSecret(w.URLFile)
			say(err)
		}
		if w.SecretFile != "" {
			h.Secret, err = readSecret(w.SecretFile)
			say(err)
		}
		if w.Format != "" && w.Format != "json" && w.Format != "slack" {
			say(kidoban.Errorf(kidoban.KindUsage, "format must be json or slack, not %.40q", w.Format))
		}
		if w.Least != "" && h.Least.Rank() < 0 {
			say(kidoban.Errorf(kidoban.KindUsage, "least must be a severity (info, low, medium, high, critical), not %.40q", w.Least))
		}
		h.Client, err = wayOut(h.URL, w.Address)
		say(err)
		out = append(out, h)
	}
	return out, errors.Join(bad...)
}

// outlets are the ways on which the gateway tells others what it does.
type outlets struct {
	log      *slog.Logger
	metrics  *telemetry.Metrics  // nil when off
	exporter *telemetry.Exporter // nil when off
	hooks    *telemetry.Webhooks // nil before there can be any
	listener net.Listener
	server   *http.Server
	waiting  atomic.Pointer[gateway.Journal] // for the gauge; set when the journal is open
	clock    atomic.Pointer[clockWatch]      // likewise; set when the clock is watched
}

// openOutlets starts what the config asks for. On an error nothing stays open.
func openOutlets(ctx context.Context, conf gatewayConfig, log *slog.Logger) (o *outlets, err error) {
	o = &outlets{log: log}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	export, wanted, err := conf.Telemetry.export(conf.Instance)
	if err != nil {
		return o, err
	}
	if wanted {
		export.Log, export.Now = log, time.Now
		if o.exporter, err = telemetry.NewExporter(ctx, export); err != nil {
			return o, err
		}
	}
	hooks, err := conf.Alerts.hooks()
	if err != nil {
		return o, err
	}
	o.hooks = telemetry.NewWebhooks(hooks, time.Now, log)
	if conf.Telemetry.Metrics == "" {
		return o, nil
	}
	o.metrics = telemetry.NewMetrics(kidoban.Version, telemetry.Gauge{Name: "audit_log_waiting_records", Help: "Records of the audit log that are not durable yet; calls are refused when 16384 wait.",
		Read: func(add func(string, float64)) {
			if j := o.waiting.Load(); j != nil {
				add("", float64(j.Waiting()))
			}
		}}, telemetry.Gauge{Name: "clock_ahead_seconds", Help: "How far this machine's clock is ahead of PostgreSQL's; below zero when it is behind.",
		Read: func(add func(string, float64)) {
			if c := o.clock.Load(); c != nil {
				if ahead := c.ahead.Load(); ahead != nil {
					add("", ahead.Seconds())
				}
			}
		}})
	if o.listener, err = net.Listen("tcp", conf.Telemetry.Metrics); err != nil {
		return o, kidoban.Wrap(kidoban.KindUsage, err, "nobody can listen on %s for metrics", conf.Telemetry.Metrics)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", o.metrics.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	o.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	go func() { _ = o.server.Serve(o.listener) }() // ended by close
	return o, nil
}

// watchers are called for every record of the audit log.
func (o *outlets) watchers() (out []func(gateway.Record)) {
	if o.metrics != nil {
		out = append(out, o.metrics.Watch)
	}
	if o.exporter != nil {
		out = append(out, o.exporter.Watch)
	}
	return out
}

// change puts other headers and other receivers of alerts in the place of those that
// there are.
func (o *outlets) change(e telemetry.Export, hooks []telemetry.Hook) {
	if o.exporter != nil {
		o.exporter.SetHeaders(e.Headers)
	}
	o.hooks.Change(hooks)
}

// alert passes an alert on to the webhooks.
func (o *outlets) alert(a kidoban.Alert) {
	o.hooks.Send(a)
}

// close sends what waits, for ten seconds at most.
func (o *outlets) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if o.server != nil {
		_ = o.server.Close()
	}
	if o.hooks != nil {
		o.hooks.Close(ctx)
	}
	if o.exporter != nil {
		if err := o.exporter.Close(ctx); err != nil {
			o.log.Warn("not all telemetry was sent; the audit log has it", "error", err)
		}
	}
}
