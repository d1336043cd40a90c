package toolscan

import (
	"encoding/json"

	"github.com/kidoban/kidoban"
)

// Kind says what an item is.
type Kind string

// The kinds of items a server offers. KindContent is a text that came back.
const (
	KindTool         Kind = "tool"
	KindPrompt       Kind = "prompt"
	KindResource     Kind = "resource"
	KindTemplate     Kind = "template"
	KindInstructions Kind = "instructions"
	KindContent      Kind = "content"
)

// Item is one definition as the server sent it. Raw is the JSON object, or for
// KindInstructions and KindContent a JSON string or any JSON value.
type Item struct {
	Kind Kind
	Name string
	Raw  json.RawMessage
}

// Server is everything one server of the user offers.
type Server struct {
	Name    string // the name the user's configuration gives it
	Version string // as the server says; shown, never trusted
	Hosts   []string
	Items   []Item
}

// Tier says how much a rule's hit is worth.
type Tier string

// The tiers. A label is never malicious by itself.
const (
	Hard  Tier = "hard"
	Soft  Tier = "soft"
	Label Tier = "label"
)

// Family groups rules that see the same reason; soft hits count once per family.
type Family string

// The families of tools.md 2.
const (
	FamilyHidden      Family = "hidden_text"
	FamilyInstruction Family = "instruction_to_model"
	FamilySecrecy     Family = "secrecy"
	FamilySecrets     Family = "reach_for_secrets"
	FamilyShadowing   Family = "shadowing"
	FamilySink        Family = "constant_sink"
	FamilyParameter   Family = "suspicious_parameter"
	FamilyPreference  Family = "preference"
	FamilyCollision   Family = "collision"
	FamilyCapability  Family = "capability"
	FamilySchema      Family = "schema"
	FamilyStatic      Family = "static"
	FamilyModel       Family = "statistical"
)

// Finding is one hit of one rule. Excerpt is safe to print: hidden, control and
// bidirectional characters are spelled out, and it is at most 240 bytes.
type Finding struct {
	Rule       string           `json:"rule"`
	Family     Family           `json:"family"`
	Tier       Tier             `json:"tier"`
	Severity   kidoban.Severity `json:"severity"`
	Confidence float64          `json:"confidence"`
	Server     string           `json:"server,omitempty"`
	Kind       Kind             `json:"kind,omitempty"`
	Item       string           `json:"item,omitempty"`
	Path       string           `json:"path,omitempty"` // JSON pointer into the item
	Start      int              `json:"start"`          // byte span in the decoded string at Path
	End        int              `json:"end"`
	Excerpt    string           `json:"excerpt,omitempty"`
	Hidden     string           `json:"hidden,omitempty"` // how the text was hidden: "unicode-tags", "base64", …
	Reason     string           `json:"reason"`
	Fix        string           `json:"fix"`

	weight float64 // log-odds the hit adds, after discounts
}

// Verdict is the decision about one item.
type Verdict struct {
	Server       string       `json:"server"`
	Kind         Kind         `json:"kind"`
	Item         string       `json:"item"`
	Flagged      bool         `json:"flagged"`    // at the default threshold
	Strict       bool         `json:"strict"`     // a hard rule alone
	Confidence   float64      `json:"confidence"` // that the item is an attack; calibrated on the development corpus
	Score        float64      `json:"score"`      // flagged from Threshold on
	Findings     []Finding    `json:"findings"`
	Capabilities []Capability `json:"capabilities,omitempty"`
}

// Bounds of one scan. What lies beyond is not read and is itself a finding.
const (
	maxItemBytes = 4 << 20   // of one definition or result
	maxDepth     = 64        // of JSON nesting
	maxSegments  = 20_000    // texts in one item
	maxFindings  = 64        // kept per item, strongest first
	maxDecoded   = 256 << 10 // bytes of decoded payloads per item
)
