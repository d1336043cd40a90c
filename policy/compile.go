package policy

import (
	"fmt"
	"regexp"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
)

// Options are what a set is made of. The zero value is the default policy.
type Options struct {
	Default     Effect // of what no rule speaks about: Allow (the default) or Deny
	Destructive Effect // of tools that their server marks destructive: Ask (the default), Allow or Deny
	Flow        Effect // of ways out once a session has read: Ask (the default), Deny, or Allow to have no barrier
	Rules       []Rule
	Files       []File
	Servers     []string // that exist, for Check; nil means unknown
}

// Rule is one line of the simple lists: exactly one of Allow, Ask and Deny holds
// patterns "server/name", with * for any run of characters. A name is that of a
// tool or prompt, or the URI of a resource. Users (by login name or id), Groups
// and Clients narrow whom it is about; empty means everybody.
type Rule struct {
	Allow, Ask, Deny       []string
	Users, Groups, Clients []string
}

// File is a Cedar text.
type File struct {
	Name string // for positions
	Text []byte
}

// Problem is something wrong with the options. Fatal ones keep the set from
// being used.
type Problem struct {
	Where string // file:line:column, or the policy's id
	Text  string
	Fatal bool
}

// String returns where and what.
func (p Problem) String() string { return p.Where + ": " + p.Text }

const (
	maxFile     = 1 << 20
	maxPolicies = 2000
	maxPatterns = 1000
)

// Compile makes a set and lists everything that is wrong. With a fatal problem
// the set is nil.
func Compile(o Options) (*Set, []Problem) {
	c := compiler{set: &Set{groups: map[string]bool{}}, o: o}
	c.defaults()
	for i, r := range o.Rules {
		c.rule(fmt.Sprintf("rule-%d", i+1), r)
	}
	for _, f := range o.Files {
		c.file(f)
	}
	for _, p := range c.problems {
		if p.Fatal {
			return nil, c.problems
		}
	}
	return c.set, c.problems
}

// Default is the set of the zero Options.
func Default() *Set {
	s, _ := Compile(Options{})
	return s
}

type compiler struct {
	set      *Set
	o        Options
	problems []Problem
}

func (c *compiler) bad(where, format string, args ...any) {
	c.problems = append(c.problems, Problem{where, fmt.Sprintf(format, args...), true})
}

func (c *compiler) warn(where, format string, args ...any) {
	c.problems = append(c.problems, Problem{where, fmt.Sprintf(format, args...), false})
}

// put adds a policy of our own making.
func (c *compiler) put(id string, p *ast.Policy) {
	p = p.Annotate("id", types.String(id))
	c.take(id, id, cedar.NewPolicyFromAST(p))
}

// take adds a policy after a look at what it reads.
func (c *compiler) take(id, where string, p *cedar.Policy) {
	switch {
	case c.set.has(id):
		c.bad(where, "two policies have the id %q", id)
		return
	case len(c.set.all) >= maxPolicies:
		c.bad(where, "there are more than %d policies", maxPolicies)
		return
	}
	reads := c.check(where, p)
	for member := range reads {
		c.set.memo.read(member)
	}
	c.set.add(entry{id: cedar.PolicyID(id), policy: p, arguments: reads["arguments"], session: reads["session"]})
}

var (
	approved = func() ast.Node { return ast.Context().Access("approved") }
	labels   = func() ast.Node { return ast.Resource().Access("labels") }
	session  = func() ast.Node { return ast.Context().Access("session") }
)

// defaults are the policies that stand in no file.
func (c *compiler) defaults() {
	switch c.o.Default {
	case "", Allow:
		c.put("default-permit", ast.Permit())
	case Deny:
		c.put("default-connect", ast.Permit().ActionInSet(actionUID(Connect), actionUID(Use)))
	default:
		c.bad("policy", "default must be allow or deny, not %.40q", c.o.Default)
	}
	barrier := func(option, id string, e Effect, p *ast.Policy) {
		switch e {
		case Allow:
			return
		case "", Ask:
			p = p.Unless(approved())
		case Deny:
		default:
			c.bad("policy", "%s must be ask, deny or allow, not %.40q", option, e)
		}
		c.put(id, p)
	}
	destructive := ast.Forbid().ActionEq(actionUID(Call)).When(ast.Resource().Access("class").Equal(ast.String("destroy")))
	for _, r := range c.o.Rules {
		if len(r.Allow) > 0 {
			destructive = destructive.Unless(r.matches(r.Allow))
		}
	}
	barrier("destructive", "default-destructive", c.o.Destructive, destructive)
	// What strangers wrote may steer the model, what is private must not leave:
	// after either, whatever sends needs a yes. Going to an address that the model
	// names can carry data out too, but is also how the web is read: it needs both.
	barrier("flow", "default-flow-send", c.o.Flow, ast.Forbid().ActionEq(actionUID(Call)).
		When(labels().Contains(ast.String(Sends)).And(session().ContainsAny(ast.Set(ast.String(Untrusted), ast.String(Private), ast.String(Injected))))))
	barrier("flow", "default-flow-reach", c.o.Flow, ast.Forbid().ActionEq(actionUID(Call)).
		When(labels().Contains(ast.String(Reaches)).And(session().Contains(ast.String(Private))).And(session().ContainsAny(ast.Set(ast.String(Untrusted), ast.String(Injected))))))
	// A tool that may send fails closed where the barrier is a wall. Where a person
	// is asked, and would be asked all day, it does once text that reads like orders
	// came in.
	after := ast.Set(ast.String(Injected))
	if c.o.Flow == Deny {
		after = ast.Set(ast.String(Untrusted), ast.String(Private), ast.String(Injected))
	}
	barrier("flow", "default-flow-unclear", c.o.Flow, ast.Forbid().ActionEq(actionUID(Call)).
		When(labels().Contains(ast.String(Unclear)).And(session().ContainsAny(after))))
}

var patternRule = regexp.MustCompile(`^[a-z0-9*-]+/.+$`)

// rule compiles one line of the simple lists.
func (c *compiler) rule(id string, r Rule) {
	var patterns []string
	n := 0
	for _, list := range [][]string{r.Allow, r.Ask, r.Deny} {
		if len(list) > 0 {
			n, patterns = n+1, list
		}
	}
	if n != 1 || len(patterns) > maxPatterns {
		c.bad(id, "a rule needs exactly one of allow, ask and deny, with at most %d patterns", maxPatterns)
		return
	}
	for _, p := range patterns {
		if !patternRule.MatchString(p) || len(p) > 2048 {
			c.bad(id, "%.80q is no pattern: write server/name, such as github/delete_* or */shell", p)
			return
		}
		server, _, _ := strings.Cut(p, "/")
		c.knownServer(id, server)
	}
	all := []types.EntityUID{actionUID(List), actionUID(Call), actionUID(Get), actionUID(Read)}
	permit := func(id string) { c.put(id, ast.Permit().ActionInSet(all...).When(r.matches(patterns))) }
	switch {
	case len(r.Allow) > 0:
		permit(id)
	case len(r.Ask) > 0:
		if c.o.Default == Deny {
			permit(id + "-permit")
		}
		c.put(id, ast.Forbid().ActionInSet(all[1:]...).When(r.matches(patterns)).Unless(approved()))
	default:
		c.put(id, ast.Forbid().ActionInSet(all...).When(r.matches(patterns)))
		var whole []string // servers of which nothing is left: no session with them either
		for _, p := range patterns {
			if strings.HasSuffix(p, "/*") {
				whole = append(whole, p)
			}
		}
		if len(whole) > 0 {
			c.put(id+"-connect", ast.Forbid().ActionInSet(actionUID(Connect), actionUID(Use)).When(r.matches(whole)))
		}
	}
}

// matches is the condition of a rule.
func (r Rule) matches(patterns []string) ast.Node {
	var what ast.Node
	for i, p := range patterns {
		server, name, _ := strings.Cut(p, "/")
		n := like("server", server).And(like("name", name))
		if i == 0 {
			what = n
		} else {
			what = what.Or(n)
		}
	}
	if len(r.Users)+len(r.Groups) > 0 {
		who := ast.Set(nodes(r.Users)...).Contains(ast.Principal().Access("name")).Or(ast.Principal().In(ast.Set(uids(r.Users, userUID)...))).
			Or(ast.Principal().In(ast.Set(uids(r.Groups, groupUID)...)))
		what = what.And(who)
	}
	if len(r.Clients) > 0 {
		what = what.And(ast.Set(nodes(r.Clients)...).Contains(ast.Context().Access("client")))
	}
	return what
}

func nodes(list []string) []ast.Node {
	out := make([]ast.Node, len(list))
	for i, s := range list {
		out[i] = ast.String(types.String(s))
	}
	return out
}

func uids(list []string, make func(string) types.EntityUID) []ast.Node {
	var out []ast.Node
	for _, s := range list {
		out = append(out, ast.Value(make(s)))
	}
	return out
}

// like matches an attribute against a pattern with *.
func like(attribute types.String, pattern string) ast.Node {
	var parts []any
	for i, piece := range strings.Split(pattern, "*") {
		if i > 0 {
			parts = append(parts, types.Wildcard{})
		}
		if piece != "" {
			parts = append(parts, types.String(piece))
		}
	}
	return ast.Resource().Access(attribute).Like(types.NewPattern(parts...))
}

// file compiles the operator's own text.
func (c *compiler) file(f File) {
	if len(f.Text) > maxFile {
		c.bad(f.Name, "the file is longer than %d bytes", maxFile)
		return
	}
	list, err := cedar.NewPolicyListFromBytes(f.Name, f.Text)
	if err != nil {
		c.bad(f.Name, "%s", strings.TrimPrefix(err.Error(), "parser error: "))
		return
	}
	for i, p := range list {
		at := p.Position()
		where := fmt.Sprintf("%s:%d:%d", f.Name, at.Line, at.Column)
		id := string(p.Annotations()["id"])
		if id == "" {
			id = fmt.Sprintf("%s-%d", strings.TrimSuffix(f.Name[strings.LastIndexByte(f.Name, '/')+1:], ".cedar"), i+1)
		}
		if len(id) > 80 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) || strings.HasPrefix(id, "error:") {
			c.bad(where, "the id must be at most 80 visible ASCII characters without a space")
			continue
		}
		c.take(id, where, p)
	}
}
