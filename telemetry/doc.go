// Package telemetry tells an operator's systems what the gateway does: counters
// for Prometheus, spans and log records for OpenTelemetry, alerts for webhooks.
//
// All of it is derived from the records of the audit log as they are appended.
// There is no second account of what happened, so a chart and the audit log
// cannot disagree, and nothing that the audit log does not hold (arguments,
// results, secrets) can get out this way.
//
// Nothing here may slow a call down or hold it up: counters are added to in
// place, and what goes over the network waits in bounded queues that drop the
// newest record when they are full and count what they dropped. The audit log
// itself drops nothing; it is the place to look when a queue was too short.
//
// Labels come from the operator's configuration and from this program's own
// words. Names that a client or a server chooses (tools, methods that MCP does
// not define) never become labels: each would be a new time series, and a
// stranger could make millions of them.
package telemetry
