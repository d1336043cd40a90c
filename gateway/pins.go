package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/toolscan"
	"github.com/kidoban/kidoban/wire"
)

// Pin is one definition as its server sent it, and what was decided about it.
// SHA256 is over the raw bytes, so that nothing changes unseen (G-TG1). A name
// may have several pins: each version that was ever offered.
type Pin struct {
	Server  string
	Kind    toolscan.Kind
	Name    string // of the tool or prompt; the URI of a resource; "instructions"
	SHA256  string // hex
	Raw     []byte // for the diff; hostile text
	State   PinState
	Reason  string // why it is held: a word of ours, never of the server
	First   time.Time
	Decided time.Time
	By      string // who decided; ByFirstUse for what the first list held
}

// ByFirstUse stands as By where nobody decided: the first list of a server is approved.
const ByFirstUse = "first use"

// PinState says what was decided.
type PinState string

// The states of a pin. Only what is approved reaches a client.
const (
	PinHeld     PinState = "held"
	PinApproved PinState = "approved"
	PinRejected PinState = "rejected"
)

// PinStore keeps pins.
type PinStore interface {
	// Pins lists a server's pins, "" those of all servers, in order of server,
	// kind, name and time of first sight; Raw only when whole.
	Pins(ctx context.Context, server string, whole bool) ([]Pin, error)
	// AddPins stores those that are not there yet by (server, kind, name,
	// sha256), all or none; a pin that is there stays as it was decided.
	AddPins(ctx context.Context, pins []Pin) error
	// DecidePin sets state, by and time of a pin. KindNotFound when there is none.
	DecidePin(ctx context.Context, p Pin) error
}

// Trust says what happens to the first list of a server.
type Trust string

// The ways to trust. What appears later is held with both.
const (
	TrustFirstUse Trust = "first-use" // the first list is approved but for what the scanner flags
	TrustReview   Trust = "review"    // everything waits for a person
)

// PinGuard implements Pins. It is safe for concurrent use and holds no
// goroutine. Decisions made beside a running gateway count within two seconds;
// when the store does not answer for half a minute, nothing passes.
type PinGuard struct {
	store   PinStore
	trust   Trust
	scanner *toolscan.Scanner
	journal *Journal // may be nil
	log     *slog.Logger
	now     func() time.Time

	// Alert is told when definitions are held, once for each list; nil: nobody is.
	// It is set before the first use.
	Alert func(context.Context, kidoban.Alert)

	mu      sync.Mutex
	servers map[string]*pinIndex // guarded by mu
}

// NewPinGuard returns a guard. trust "" means first use; journal and log may be nil.
func NewPinGuard(store PinStore, trust Trust, scanner *toolscan.Scanner, journal *Journal, log *slog.Logger, now func() time.Time) *PinGuard {
	if trust == "" {
		trust = TrustFirstUse
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &PinGuard{store: store, trust: trust, scanner: scanner, journal: journal, log: log, now: now, servers: map[string]*pinIndex{}}
}

// heldBack is the one sentence for whatever is not approved: it tells neither
// the model nor the server why (G-TG7).
const heldBack = "This is not available: its definition is not approved. Ask the gateway's operator."

func heldBy(rule string) *Refusal {
	return refuse(http.StatusOK, wire.CodeInvalidParams, rule, heldBack)
}

// Check implements Pins: the definition the server last listed to this user must
// be an approved one, byte for byte. What was never listed has none.
func (p *PinGuard) Check(ctx context.Context, c *Call) *Refusal {
	kind, name := toolscan.Kind(""), c.Params.Name
	switch c.Message.Method {
	case wire.MethodToolsCall:
		kind = toolscan.KindTool
	case wire.MethodPromptsGet:
		kind = toolscan.KindPrompt
	case wire.MethodResourcesRead, wire.MethodSubscribe:
		kind, name = toolscan.KindResource, c.Params.URI
	default:
		return nil
	}
	x, err := p.index(ctx, c.Server)
	if err != nil {
		return heldBy("pin:unknown").because(err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if kind == toolscan.KindTool {
		if c.Tool == nil {
			return heldBy("pin:never_listed")
		}
		if x.state[pinKey{kind, name, c.fingerprint()}] != PinApproved {
			return heldBy("pin:held")
		}
		return nil
	}
	sum, seen := x.last[pinName{kind, name}]
	switch {
	case seen && x.state[pinKey{kind, name, sum}] != PinApproved:
		return heldBy("pin:held")
	case !seen && kind == toolscan.KindPrompt && !x.known[pinName{kind, name}]:
		return heldBy("pin:never_listed")
	}
	return nil // resources may be read that no list holds: templates make them
}

// pinned are the members of results that hold definitions.
var pinned = map[string]struct {
	member, name string
	kind         toolscan.Kind
}{
	wire.MethodToolsList:     {"tools", "name", toolscan.KindTool},
	wire.MethodPromptsList:   {"prompts", "name", toolscan.KindPrompt},
	wire.MethodResourcesList: {"resources", "uri", toolscan.KindResource},
	wire.MethodTemplatesList: {"resourceTemplates", "uriTemplate", toolscan.KindTemplate},
}

// List implements Pins. A result whose definitions are all approved comes back
// as the same bytes.
func (p *PinGuard) List(ctx context.Context, c *Call, result wire.Raw) (wire.Raw, *Refusal) {
	if c.Server == "" {
		return result, nil
	}
	l, ok := pinned[c.Message.Method]
	if !ok { // initialize, server/discover
		return p.instructions(ctx, c, result)
	}
	list, ok := wire.Lookup(result, l.member)
	if !ok {
		return result, nil
	}
	var items []toolscan.Item
	wire.Elements(list, func(raw wire.Raw) bool {
		items = append(items, toolscan.Item{Kind: l.kind, Name: wire.LookupString(raw, l.name), Raw: []byte(raw)})
		return true
	})
	pass, err := p.judge(ctx, c, l.kind, items, wire.LookupString(result, "nextCursor"))
	if err != nil {
		return nil, refuse(http.StatusOK, wire.CodeInternal, "pin:unknown", "The approved definitions cannot be read at present. Try again later.").because(err)
	}
	kept, n := wire.Raw{'['}, 0
	for i, it := range items {
		if pass[i] {
			if n++; n > 1 {
				kept = append(kept, ',')
			}
			kept = append(kept, it.Raw...)
		}
	}
	if n == len(items) {
		return result, nil
	}
	return wire.SetMember(result, l.member, append(kept, ']')), nil
}

// instructions drops a server's instructions that are not approved.
func (p *PinGuard) instructions(ctx context.Context, c *Call, result wire.Raw) (wire.Raw, *Refusal) {
	text, ok := wire.Lookup(result, "instructions")
	if !ok {
		return result, nil
	}
	pass, err := p.judge(ctx, c, toolscan.KindInstructions, []toolscan.Item{{Kind: toolscan.KindInstructions, Name: "instructions", Raw: []byte(text)}}, "")
	if err != nil || !pass[0] {
		return wire.DropMember(result, "instructions"), nil
	}
	return result, nil
}

// judge says which items are approved, and stores those never seen before.
func (p *PinGuard) judge(ctx context.Context, c *Call, kind toolscan.Kind, items []toolscan.Item, next string) ([]bool, error) {
	x, err := p.index(ctx, c.Server)
	if err != nil {
		return nil, err
	}
	keys := make([]pinKey, len(items))
	for i, it := range items {
		keys[i] = pinKey{it.Kind, it.Name, toolscan.Fingerprint(it.Raw)}
	}
	pass, fresh, _ := x.look(kind, keys, next, p.now())
	if len(fresh) == 0 {
		return pass, nil
	}
	x.deciding.Lock() // two clients that list at once decide one after the other
	defer x.deciding.Unlock()
	pass, fresh, first := x.look(kind, keys, next, p.now())
	if len(fresh) == 0 {
		return pass, nil
	}
	err = p.meet(ctx, c.Server, x, first, items, fresh, pass)
	x.page(kind, first, next, p.now())
	return pass, err
}

// meet decides about definitions that nobody has seen before.
func (p *PinGuard) meet(ctx context.Context, server string, x *pinIndex, first bool, items []toolscan.Item, fresh []int, pass []bool) error {
	self, others, err := p.surroundings(ctx, server, items)
	if err != nil {
		return err
	}
	around := toolscan.NewContext(self, others)
	var add []Pin
	for _, i := range fresh {
		it := items[i]
		pin := Pin{Server: server, Kind: it.Kind, Name: it.Name, SHA256: toolscan.Fingerprint(it.Raw), Raw: it.Raw, First: p.now(), State: PinHeld}
		k := pinKey{pin.Kind, pin.Name, pin.SHA256}
		x.mu.Lock()
		known, room := x.known[pinName{pin.Kind, pin.Name}], x.room()
		x.mu.Unlock()
		if len(it.Raw) > maxPinned || len(it.Name) > 2048 || strings.ContainsRune(it.Name, 0) || !room {
			continue // held, and not worth keeping
		}
		trusted := first || it.Kind == toolscan.KindResource // lists of resources are data that grows
		switch v := p.scanner.Item(around, it); {
		case v.Flagged:
			pin.Reason = "flagged: " + rulesOf(v)
		case known:
			pin.Reason = "changed"
		case p.trust != TrustFirstUse:
			pin.Reason = "review"
		case !trusted:
			pin.Reason = "new"
		default:
			pin.State, pin.By, pin.Decided = PinApproved, ByFirstUse, pin.First
		}
		x.mu.Lock()
		x.take(k, pin.State)
		x.mu.Unlock()
		pass[i] = pin.State == PinApproved
		add = append(add, pin)
	}
	if err := p.store.AddPins(ctx, add); err != nil {
		x.forget() // what is not stored was not decided
		return err
	}
	n := 0
	for _, pin := range add {
		if pin.State == PinHeld {
			n++
			p.tell(ctx, pin)
		}
	}
	if n > 0 && p.Alert != nil {
		a := kidoban.NewAlert(kidoban.AlertDefinitionHeld, server, kidoban.AlertWords{"server": server, "count": strconv.Itoa(n)})
		a.At = p.now()
		p.Alert(ctx, a)
	}
	return nil
}

// maxNamedRules is how many rules the reason of a pin names.
const maxNamedRules = 12

// rulesOf names the rules that flag an item, each once; their names are ours.
func rulesOf(v toolscan.Verdict) string {
	var out []string
	for _, f := range v.Findings {
		if f.Tier != toolscan.Label && len(out) < maxNamedRules && !slices.Contains(out, f.Rule) {
			out = append(out, f.Rule)
		}
	}
	return strings.Join(out, ", ")
}

func (p *PinGuard) tell(ctx context.Context, pin Pin) {
	p.log.Warn("a definition is held", "server", pin.Server, "kind", pin.Kind, "name", toolscan.Visible(pin.Name, 120), "why", pin.Reason, "do", "kidoban gateway pins diff "+pin.Server)
	if p.journal != nil {
		p.journal.Append(ctx, Record{At: pin.First, Server: pin.Server, Method: "pin:" + string(pin.Kind), Name: toolscan.Visible(pin.Name, 120), Decision: "held", Rule: "pin", Digest: pin.SHA256, Detail: pin.Reason})
	}
}

// surroundings are the server's own items and those of all others (G-TG2).
func (p *PinGuard) surroundings(ctx context.Context, server string, items []toolscan.Item) (self toolscan.Server, others []toolscan.Server, err error) {
	all, err := p.store.Pins(ctx, "", true)
	if err != nil {
		return self, nil, err
	}
	self = toolscan.Server{Name: server, Items: items}
	for _, pin := range all {
		it := toolscan.Item{Kind: pin.Kind, Name: pin.Name, Raw: pin.Raw}
		switch {
		case pin.State != PinApproved:
		case pin.Server == server:
			self.Items = append(self.Items, it)
		case len(others) > 0 && others[len(others)-1].Name == pin.Server:
			others[len(others)-1].Items = append(others[len(others)-1].Items, it)
		default:
			others = append(others, toolscan.Server{Name: pin.Server, Items: []toolscan.Item{it}})
		}
	}
	return self, others, nil
}
