package wire

import (
	"slices"
	"strings"
)

// The revisions of the MCP specification.
const (
	Rev20241105 = "2024-11-05" // HTTP+SSE, two endpoints
	Rev20250326 = "2025-03-26" // streamable HTTP, batches
	Rev20250618 = "2025-06-18" // protected resources, version header
	Rev20251125 = "2025-11-25" // the last legacy revision
	Rev20260728 = "2026-07-28" // the first modern one: stateless

	LatestLegacy = Rev20251125
	LatestModern = Rev20260728
)

// Revisions lists the known revisions, newest first.
func Revisions() []string {
	return []string{Rev20260728, Rev20251125, Rev20250618, Rev20250326, Rev20241105}
}

// Era is one of the two families of revisions: legacy has sessions and
// initialize, modern is stateless (basic/versioning of revision 2026-07-28).
type Era string

// The eras.
const (
	Legacy Era = "legacy"
	Modern Era = "modern"
)

// EraOf returns the era of a revision and whether the revision is one we know.
// Unknown dates are sorted by string order as revisions are; what is no date at
// all is Legacy, unknown.
func EraOf(version string) (era Era, known bool) {
	known = slices.Contains(Revisions(), version)
	if isDate(version) && version >= Rev20260728 {
		return Modern, known
	}
	return Legacy, known
}

func isDate(s string) bool {
	if len(s) != len("2026-07-28") || s[4] != '-' || s[7] != '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if i != 4 && i != 7 && (s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return true
}

// JSON-RPC and MCP error codes.
const (
	CodeParse          = -32700
	CodeInvalidRequest = -32600
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternal       = -32603

	// Modern, and never with another meaning (TR-21).
	CodeHeaderMismatch     = -32020 // a mirrored header differs from the body; HTTP 400
	CodeMissingCapability  = -32021 // the request needs a capability the client did not declare; HTTP 400
	CodeUnsupportedVersion = -32022 // data.supported lists what the server speaks; HTTP 400

	// Legacy only; modern forbids them.
	CodeResourceNotFound    = -32002
	CodeElicitationRequired = -32042
)

// IsModernCode tells whether an error code exists in the modern era alone, so
// that a peer that sends it has shown its era.
func IsModernCode(code int64) bool {
	return code == CodeHeaderMismatch || code == CodeMissingCapability || code == CodeUnsupportedVersion
}

// Members of params._meta that the modern era gives a meaning.
const (
	MetaProtocolVersion    = "io.modelcontextprotocol/protocolVersion"
	MetaClientInfo         = "io.modelcontextprotocol/clientInfo"
	MetaClientCapabilities = "io.modelcontextprotocol/clientCapabilities"
	MetaLogLevel           = "io.modelcontextprotocol/logLevel"
	MetaSubscriptionID     = "io.modelcontextprotocol/subscriptionId"
	MetaProgressToken      = "progressToken"
)

// Methods that the gateway and the audit treat by name.
const (
	MethodInitialize     = "initialize"
	MethodInitialized    = "notifications/initialized"
	MethodCancelled      = "notifications/cancelled"
	MethodPing           = "ping"
	MethodDiscover       = "server/discover"
	MethodTaskGet        = "tasks/get"
	MethodTaskUpdate     = "tasks/update"
	MethodTaskCancel     = "tasks/cancel"
	MethodTaskList       = "tasks/list"   // 2025-11-25 only
	MethodTaskResult     = "tasks/result" // 2025-11-25 only
	MethodToolsList      = "tools/list"
	MethodToolsCall      = "tools/call"
	MethodResourcesList  = "resources/list"
	MethodResourcesRead  = "resources/read"
	MethodTemplatesList  = "resources/templates/list"
	MethodPromptsList    = "prompts/list"
	MethodPromptsGet     = "prompts/get"
	MethodComplete       = "completion/complete"
	MethodListen         = "subscriptions/listen"
	MethodElicit         = "elicitation/create"
	MethodSampling       = "sampling/createMessage"
	MethodRoots          = "roots/list"
	MethodSetLevel       = "logging/setLevel"
	MethodSubscribe      = "resources/subscribe"
	MethodUnsubscribe    = "resources/unsubscribe"
	MethodProgress       = "notifications/progress"
	MethodLogMessage     = "notifications/message"
	MethodToolsChanged   = "notifications/tools/list_changed"
	MethodPromptsChanged = "notifications/prompts/list_changed"
	MethodResChanged     = "notifications/resources/list_changed"
	MethodResUpdated     = "notifications/resources/updated"
	MethodRootsChanged   = "notifications/roots/list_changed" // by clients, up to 2025-11-25
)

// NotificationPrefix begins the name of every notification (basic/index). A message
// without an id under another name is a request in disguise: peers that look at the
// name alone would do what it says, and guards of requests would not have seen it.
const NotificationPrefix = "notifications/"

// Misplaced tells whether m has the form of a notification and the name of something
// else.
func (m *Message) Misplaced() bool {
	return m.Kind == Notification && !strings.HasPrefix(m.Method, NotificationPrefix)
}

var knownMethods = []string{
	MethodToolsCall, MethodToolsList, MethodDiscover, MethodInitialize, MethodInitialized,
	MethodCancelled, MethodPing, MethodResourcesList, MethodResourcesRead, MethodTemplatesList,
	MethodPromptsList, MethodPromptsGet, MethodComplete, MethodListen, MethodElicit,
	MethodSampling, MethodRoots, MethodSetLevel, MethodSubscribe, MethodUnsubscribe,
	MethodProgress, MethodLogMessage, MethodToolsChanged, MethodPromptsChanged,
	MethodResChanged, MethodResUpdated, MethodRootsChanged,
}

// methodName returns the method as a string without allocating for those known.
func methodName(b []byte) string {
	for _, m := range knownMethods {
		if string(b) == m {
			return m
		}
	}
	return string(b)
}
