package lab

import (
	"time"
)

// state is what the authorization server and the MCP server remember. It lives
// under Lab.mu.
type state struct {
	serial    int
	clients   map[string]*client
	txns      map[string]*txn
	browsers  map[string]*browser // by session cookie
	codes     map[string]*code
	tokens    map[string]*token // access and refresh tokens
	grants    map[string]*grant
	tries     map[string][]time.Time // registration attempts by address
	sessions  map[string]*mcpSession
	notes     map[string][]note // by user
	used      map[string]bool   // spent requestState and elicitation ids
	links     map[string]*link  // account connections by handle
	mail      []string
	lastUser  string                 // who called last; only E37-b looks at it
	cachedFor string                 // whose list E31-d shows to all
	wrong     map[string][]time.Time // wrong passwords by user
	reports   map[string]string      // owner by report_id
	docs      map[string]*document
	counter   int
}

// newState is the memory of a lab that has just started.
func newState() state {
	return state{
		clients: map[string]*client{}, txns: map[string]*txn{}, browsers: map[string]*browser{},
		codes: map[string]*code{}, tokens: map[string]*token{}, grants: map[string]*grant{},
		tries: map[string][]time.Time{}, sessions: map[string]*mcpSession{},
		notes: firstNotes(), used: map[string]bool{}, links: map[string]*link{}, docs: map[string]*document{},
		wrong: map[string][]time.Time{}, reports: map[string]string{},
	}
}

// maxEntries bounds each map of the state: a lab that is flooded refuses or forgets
// instead of growing.
const maxEntries = 20_000

// put stores v in a map of the state. A full map forgets some other entry.
func put[V any](m map[string]V, k string, v V) {
	for old := range m {
		if len(m) < maxEntries {
			break
		}
		delete(m, old)
	}
	m[k] = v
}

// client is a registered client. Registrations are immutable once stored: an
// update stores a new value.
type client struct {
	id, secret string
	serial     int
	dynamic    bool // registered over RFC 7591, so it can be deleted
	document   bool // known by its metadata document
	docHash    string
	name       string
	uri, logo  string
	tos, policy,
	software, softwareVersion string
	contacts    []string
	redirects   []string
	grants      []string
	responses   []string
	method      string // token_endpoint_auth_method
	appType     string
	scope       string
	manageToken string
	issued      time.Time
	expires     time.Time         // zero: never
	extra       map[string]any    // members that only E18-c keeps
	fetch       map[string]string // addresses by the switch of E15 that fetches them
}

// txn is one authorization request on its way from /authorize to a code.
type txn struct {
	id        string
	browser   string // binding cookie of the browser that started it
	csrf      string
	raw       string // query as it came, for the profiles that validate late
	clientID  string
	client    *client
	redirect  string
	scope     string
	state     string
	mode      string // response_mode
	response  string // response_type
	challenge string
	method    string
	resource  string
	user      string
	stage     stage
	created   time.Time
	upState   string // state towards the upstream
	upCookie  string
	verifier  string // PKCE towards the upstream
	nonce     string
	dare      string // what a passkey has to sign; "" before one is asked for
}

// stage is where a transaction stands.
type stage int

const (
	stageLogin    stage = iota // waits for the person to log in
	stageConsent               // waits for the decision
	stageUpstream              // waits for the upstream's callback
	stageDone
)

// browser is a login session.
type browser struct {
	user     string
	created  time.Time
	consents map[string]bool // only the switches that remember consent write here
}

// code is an authorization code.
type code struct {
	value     string
	clientID  string
	redirect  string
	scope     string
	challenge string
	method    string
	resource  string
	user      string
	grant     string
	expires   time.Time
	used      bool
	racing    int // requests that have looked the code up; only F9-4 counts
}

// token is an access or a refresh token.
type token struct {
	value    string
	refresh  bool
	clientID string
	user     string
	scope    string
	resource string
	grant    string
	expires  time.Time // zero: never
	spent    bool      // a refresh token that was rotated away
	racing   int       // requests that have looked it up; only E22-2 counts
}

// grant ties the tokens of one authorization together.
type grant struct {
	id      string
	dead    bool
	created time.Time
}

const (
	txnTTL  = 10 * time.Minute
	codeTTL = time.Minute
)
