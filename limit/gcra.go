// Package limit holds one idea: how much is too much. Decide is the generic
// cell rate algorithm (ITU-T I.371) as a pure function of a limit, a state, the
// time and a cost. Defaults names every limit of the product with its key and
// its value; Memory keeps the states of many keys in bounded memory.
//
// The state of a key is one instant, the theoretical arrival time: when the key
// will have its whole burst back. A key never seen has the zero time. Nothing
// has to run in the background: a key recovers by time passing.
//
// Sizing: a limit of Count per Per with Burst allows Burst at once and then one
// each Per/Count; over any span t never more than Burst + Count·t/Per.
package limit

import (
	"time"

	"github.com/kidoban/kidoban"
)

// KeyKind says what a limit counts by.
type KeyKind string

// The kinds of keys. The key texts are made by IPKey, PrefixKey and Key.
const (
	Global    KeyKind = "global"     // one key for all
	PerIP     KeyKind = "ip"         // IPKey: an IPv4 address, an IPv6 /64
	PerPrefix KeyKind = "prefix"     // PrefixKey: IPv4 /24, IPv6 /48
	PerUser   KeyKind = "user"       // Key(user)
	PerClient KeyKind = "client"     // Key(client id)
	PerServer KeyKind = "server"     // Key(server)
	PerTool   KeyKind = "tool"       // Key(user, server, tool)
	PerHost   KeyKind = "host"       // Key(host contacted)
	PerLogin  KeyKind = "login_name" // Key(name as typed, lower case)
)

// Limit is Count per Per with a Burst, counted by a key of kind Key.
type Limit struct {
	Name  string // stable, for configuration, metrics and messages: "registration_per_ip"
	Count int    // tokens that come back each Per
	Per   time.Duration
	Burst int // tokens a rested key has
	Key   KeyKind
}

// Validate tells what is wrong with l in one sentence (KindUsage).
func (l Limit) Validate() error {
	switch {
	case l.Name == "":
		return kidoban.Errorf(kidoban.KindUsage, "a limit has no name")
	case l.Count < 1 || l.Per <= 0 || l.Burst < 1:
		return kidoban.Errorf(kidoban.KindUsage, "limit %s: count, per and burst must be positive", l.Name)
	case l.Burst > 1e6 || l.Count > 1e9 || l.Per > 366*24*time.Hour:
		return kidoban.Errorf(kidoban.KindUsage, "limit %s: at most a burst of 1e6, a count of 1e9 and a period of a year", l.Name)
	case l.interval() > maxSpan/time.Duration(l.Burst):
		return kidoban.Errorf(kidoban.KindUsage, "limit %s: the burst takes more than 100 years to come back", l.Name)
	}
	return nil
}

// maxSpan keeps every sum of durations far from overflow.
const maxSpan = 100 * 366 * 24 * time.Hour

// interval is the time one token takes to come back, rounded up: rounding down
// would allow more than the limit says.
func (l Limit) interval() time.Duration {
	return (l.Per + time.Duration(l.Count) - 1) / time.Duration(l.Count)
}

// Decision is what Decide says.
type Decision struct {
	Limit      string        // name of the limit that decided
	Allowed    bool          // the cost was taken
	Remaining  int           // tokens left after the decision
	RetryAfter time.Duration // when denied: wait this long and the same cost passes; 0 when allowed
	Never      bool          // denied, and waiting does not help: the cost is larger than the burst
}

// Err returns nil when allowed, else a KindLimit error with the time to wait.
func (d Decision) Err() error {
	switch {
	case d.Allowed:
		return nil
	case d.Never:
		return kidoban.Errorf(kidoban.KindLimit, "the request is larger than the limit %s ever allows", d.Limit)
	}
	return kidoban.Errorf(kidoban.KindLimit, "the limit %s is reached; try again in %s", d.Limit, kidoban.Count(d.RetrySeconds(), "second", "seconds"))
}

// RetrySeconds is RetryAfter in whole seconds, rounded up, for a Retry-After
// field; at least 1 when denied.
func (d Decision) RetrySeconds() int {
	if d.Allowed {
		return 0
	}
	return max(1, int((d.RetryAfter+time.Second-1)/time.Second))
}

// Decide judges cost tokens at now for a key in state tat and returns the
// key's new state. Denied requests cost nothing. Cost 0 asks without taking; a
// negative cost counts as 0. A state further ahead than the whole burst can only
// come from a clock that went back: it is pulled in, so no key is locked out
// for longer than its burst takes. l must be valid.
func Decide(l Limit, tat, now time.Time, cost int) (Decision, time.Time) {
	step := l.interval()
	span := step * time.Duration(l.Burst)
	if tat.Before(now) {
		tat = now
	} else if latest := now.Add(span); tat.After(latest) {
		tat = latest
	}
	d := Decision{Limit: l.Name}
	cost = max(cost, 0)
	if cost > l.Burst {
		d.Never, d.Remaining = true, int((span-tat.Sub(now))/step)
		return d, tat
	}
	next := tat.Add(step * time.Duration(cost))
	if over := next.Sub(now) - span; over > 0 {
		d.RetryAfter, d.Remaining = over, int((span-tat.Sub(now))/step)
		return d, tat
	}
	d.Allowed, d.Remaining = true, int((span-next.Sub(now))/step)
	return d, next
}
