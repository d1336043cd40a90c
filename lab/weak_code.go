package lab

import (
	"fmt"
	"time"
)

// codeSwitches are the flaws of authorization codes (F9, E21).
func codeSwitches() []Switch {
	return []Switch{
		{Key: "F9-2", Title: "A code is good more than once; each use gives new tokens."},
		{Key: "F9-3", Title: "A second use is refused, but the tokens of the first stay good."},
		{Key: "F9-4", Title: "A code is looked up and spent in two steps: two requests at once both get tokens. One after the other, the second is refused."},
		{Key: "F9-5", Title: "A wrong verifier does not spend the code: it can be guessed without limit."},
		{Key: "F9-6", Title: "A second use with a wrong verifier ends the tokens of the first: whoever saw a code can log its owner out."},
		{Key: "F9-7", Title: "A code lives for an hour."},
		{Key: "E21-a", Title: "A code of one client is redeemed by another that knows the verifier."},
		{Key: "E21-b", Title: "A code is redeemed without a client_id."},
		{Key: "E21-c", Title: "Any redirect_uri of the same client is accepted at the token endpoint."},
	}
}

// codeTTL is how long a code lives.
func (l *Lab) codeTTL() time.Duration {
	if l.on("F9-7") {
		return time.Hour
	}
	return codeTTL
}

// newCode makes a code. Lab.mu is held.
func (l *Lab) newCode() string {
	if l.on("E24-h") {
		l.st.counter++
		return fmt.Sprintf("code-%06d", 100000+l.st.counter)
	}
	return l.random(32)
}

// weakReplay tells whether a spent code is honoured again. Lab.mu is held.
func (l *Lab) weakReplay(*code) bool { return l.on("F9-2") }

// clientOfCode is whose code it is, for the switch that asks nobody for a client_id.
func (l *Lab) clientOfCode(value string) *client {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.st.codes[value]
	if k == nil {
		return nil
	}
	return l.st.clients[k.clientID]
}
