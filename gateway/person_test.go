package gateway

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/kidoban/kidoban/policy"
	"github.com/kidoban/kidoban/toolscan"
)

// directory knows people whose groups change. before, when not nil, is called after
// somebody was read and before the answer goes back.
type directory struct {
	mu     sync.Mutex
	groups map[string][]string
	asked  int
	before func()
}

func (d *directory) Person(_ context.Context, id string) (Person, error) {
	d.mu.Lock()
	p := Person{ID: id, Name: id, Groups: d.groups[id]}
	d.asked++
	before := d.before
	d.before = nil
	d.mu.Unlock()
	if before != nil {
		before()
	}
	return p, nil
}

func (d *directory) set(id string, groups ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.groups[id] = groups
}

// TestGTG5_GroupsThatChange: a list and a call know the groups that a person has now,
// once it was said that they changed, and what was read just before is not remembered.
func TestGTG5_GroupsThatChange(t *testing.T) {
	d := &directory{groups: map[string][]string{"alice": {"corp:engineering", "corp:other"}}}
	o := policy.Options{Default: policy.Deny, Flow: policy.Allow, Rules: []policy.Rule{{Allow: []string{"s/*"}, Groups: []string{"corp:engineering"}}}}
	var guard *PolicyGuard
	p := newPolicyRig(t, o, map[string]string{"s": readIssue}, func(_ *Config, deps *Deps) {
		set, _ := policy.Compile(o)
		guard = NewPolicyGuard(nil, d, toolscan.New(), nil, deps.Guards.Policy.(*PolicyGuard).now)
		guard.SetRules(PolicyRules{Set: set})
		deps.Guards.Policy = guard
	})
	may := func(want bool, what string) {
		t.Helper()
		if listed := strings.Contains(p.post("s", "alice", listTools).body, "get_issue"); listed != want {
			t.Errorf("%s: listed %v", what, listed)
		}
		if say := p.call("s", "alice", "get_issue", `{}`); (say == "") != want {
			t.Errorf("%s: called, %q", what, say)
		}
	}
	may(true, "in the group")
	d.set("alice", "corp:other")
	may(true, "remembered for a while")
	guard.Changed("bob")
	may(true, "somebody else changed")
	guard.Changed("alice")
	may(false, "out of the group")
	d.set("alice", "corp:engineering")
	guard.Changed("")
	may(true, "in again")
	// Somebody is read, then changes and that is told, then the answer arrives.
	d.before = func() { d.set("alice"); guard.Changed("alice") }
	guard.Changed("alice")
	p.post("s", "alice", listTools)
	may(false, "changed while it was read")
	asked := d.asked
	may(false, "still")
	if d.asked != asked {
		t.Errorf("asked %d times more for whom is known", d.asked-asked)
	}
}
