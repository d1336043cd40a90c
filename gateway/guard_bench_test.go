package gateway

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

// BenchmarkGuards is what the guards add to one call with 2 KB either way.
func BenchmarkGuards(b *testing.B) {
	tool := wire.Raw(`{"name":"t","inputSchema":{"type":"object","properties":{"text":{"type":"string"},"path":{"type":"string"}}}}`)
	args := wire.Raw(`{"path":"notes/a.txt","text":"` + strings.Repeat("kidoban ", 240) + `"}`)
	c := &Call{Server: "s", Upstream: &Server{Name: "s", Transport: TransportStdio}, Tool: tool,
		Message: wire.Message{Kind: wire.Request, Method: wire.MethodToolsCall, Params: wire.Raw(`{"name":"t","arguments":` + string(args) + `}`)},
		Params:  wire.Params{Name: "t", Arguments: args}}
	answer := wire.Message{Kind: wire.Result, Result: wire.Raw(`{"content":[{"type":"text","text":"` + strings.Repeat("kidoban ", 240) + `"}]}`)}
	pins := NewPinGuard(&pinMemory{pins: []Pin{{Server: "s", Kind: toolscan.KindTool, Name: "t", SHA256: toolscan.Fingerprint(tool), State: PinApproved}}}, "", toolscan.New(), nil, nil, time.Now)
	arguments, results := NewArgumentGuard(nil, nil), NewResultGuard(toolscan.New(), nil)
	decides := NewPolicyGuard(nil, nil, toolscan.New(), nil, time.Now)
	for name, f := range map[string]func(context.Context) *Refusal{
		"policy":    func(ctx context.Context) *Refusal { return decides.Decide(ctx, c) },
		"pin":       func(ctx context.Context) *Refusal { return pins.Check(ctx, c) },
		"arguments": func(ctx context.Context) *Refusal { _, r := arguments.Guard(ctx, c); return r },
		"result":    func(ctx context.Context) *Refusal { _, r := results.Guard(ctx, c, answer); return r },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r := f(b.Context()); r != nil {
					b.Fatal(r.Say)
				}
			}
		})
	}
}
