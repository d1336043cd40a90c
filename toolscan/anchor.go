package toolscan

import (
	"regexp/syntax"
	"sort"
	"strings"
)

// A gate says when running a regular expression makes sense: it is a choice of
// conjunctions, each a list of sets of literals, of which every match holds at
// least one literal from every set. Gates are computed from the expression, so
// they cannot disagree with it.
type gate [][]literals

// literals is a set of literals, sorted; the text must hold one of them.
type literals []string

// gateOf computes the gate of an expression. It panics on an expression that
// can match without any literal (rules are constants; a test compiles them).
func gateOf(expr string) gate {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		panic("toolscan: rule expression " + expr + ": " + err.Error())
	}
	var g gate
	for _, branch := range branches(re.Simplify()) {
		c := conjunction(branch)
		if len(c) == 0 {
			panic("toolscan: no literal in every match of " + branch.String())
		}
		g = append(g, c)
	}
	return g
}

// branches returns the alternatives at the top of an expression.
func branches(re *syntax.Regexp) []*syntax.Regexp {
	switch re.Op {
	case syntax.OpAlternate:
		var out []*syntax.Regexp
		for _, s := range re.Sub {
			out = append(out, branches(s)...)
		}
		return out
	case syntax.OpCapture:
		return branches(re.Sub[0])
	case syntax.OpConcat:
		// \b(?:a|b)\b: the alternatives are one level down.
		at := -1
		for i, s := range re.Sub {
			if s.Op == syntax.OpWordBoundary || s.Op == syntax.OpBeginText || s.Op == syntax.OpEndText || s.Op == syntax.OpEmptyMatch {
				continue
			}
			if at >= 0 {
				return []*syntax.Regexp{re}
			}
			at = i
		}
		if at >= 0 {
			return branches(re.Sub[at])
		}
	}
	return []*syntax.Regexp{re}
}

// most is how many sets one conjunction keeps: the most telling ones.
const most = 3

// conjunction lists the literal sets that every match of re needs.
func conjunction(re *syntax.Regexp) []literals {
	var sets []literals
	var collect func(re *syntax.Regexp)
	collect = func(re *syntax.Regexp) {
		switch re.Op {
		case syntax.OpCapture, syntax.OpPlus:
			collect(re.Sub[0])
		case syntax.OpRepeat:
			if re.Min > 0 {
				collect(re.Sub[0])
			}
		case syntax.OpConcat:
			for _, r := range joined(re.Sub) {
				if r.set != nil {
					sets = append(sets, r.set)
				} else {
					collect(r.re)
				}
			}
		default:
			if s := required(re); s != nil {
				sets = append(sets, s)
			}
		}
	}
	collect(re)
	var kept []literals
	seen := map[string]bool{}
	for _, s := range sets {
		s = tidy(s)
		if key := strings.Join(s, "\x00"); s != nil && shortest(s) >= 2 && !seen[key] {
			seen[key] = true
			kept = append(kept, s)
		}
	}
	for i := 0; len(kept) == 0 && i < len(sets); i++ {
		if s := tidy(sets[i]); s != nil {
			kept = append(kept, s) // single characters such as "@" are better than nothing
		}
	}
	sort.SliceStable(kept, func(i, j int) bool { return telling(kept[i]) > telling(kept[j]) })
	return kept[:min(most, len(kept))]
}

// telling estimates how rarely a set is met: long literals, few of them.
func telling(s literals) float64 {
	p := 0.0
	for _, l := range s {
		x := 1.0
		for range min(len(l), 8) {
			x /= 3
		}
		p += x
	}
	return -p
}

// anchorLength is where literals are cut: a prefix is still necessary, and the
// automaton stays small.
const anchorLength = 7

func tidy(s literals) literals {
	m := map[string]bool{}
	for _, l := range s {
		l = strings.TrimSpace(l[:min(len(l), anchorLength)])
		if l == "" {
			return nil // a set that white space satisfies says nothing
		}
		m[l] = true
	}
	var out literals
	for l := range m {
		out = append(out, l)
	}
	sort.Strings(out)
	return out
}

// part is a piece of a concatenation: a literal set, or an expression to look
// into.
type part struct {
	set literals
	re  *syntax.Regexp
}

// joined walks a concatenation and joins literals that follow each other.
func joined(subs []*syntax.Regexp) []part {
	var out []part
	for i := 0; i < len(subs); i++ {
		set := required(subs[i])
		if set == nil {
			out = append(out, part{re: subs[i]})
			continue
		}
		for i+1 < len(subs) && len(set) <= 8 && exact(subs[i]) && exact(subs[i+1]) {
			set = product(set, required(subs[i+1]))
			i++
		}
		out = append(out, part{set: set})
	}
	return out
}

// required returns a set of literals of which every match holds at least one;
// nil when there is none.
func required(re *syntax.Regexp) literals {
	switch re.Op {
	case syntax.OpLiteral:
		return literals{string(re.Rune)}
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0])
		}
	case syntax.OpCharClass:
		return classLiterals(re)
	case syntax.OpAlternate:
		var out literals
		for _, sub := range re.Sub {
			s := required(sub)
			if s == nil {
				return nil
			}
			out = append(out, s...)
		}
		return out
	case syntax.OpConcat:
		var win literals
		for _, p := range joined(re.Sub) {
			if p.set != nil && (win == nil || shortest(p.set) > shortest(win)) {
				win = p.set
			}
		}
		return win
	}
	return nil
}

func classLiterals(re *syntax.Regexp) literals {
	var out literals
	for i := 0; i+1 < len(re.Rune); i += 2 {
		if re.Rune[i+1]-re.Rune[i] > 4 || len(out) > 8 {
			return nil
		}
		for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
			out = append(out, string(r))
		}
	}
	return out
}

// exact says whether required(re) is re's whole language.
func exact(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpLiteral:
		return true
	case syntax.OpCharClass:
		return classLiterals(re) != nil
	case syntax.OpCapture:
		return exact(re.Sub[0])
	case syntax.OpAlternate:
		for _, s := range re.Sub {
			if !exact(s) {
				return false
			}
		}
		return true
	}
	return false
}

func product(a, b literals) literals {
	if len(a)*len(b) > 64 || len(b) == 0 {
		return a
	}
	out := make(literals, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			out = append(out, x+y)
		}
	}
	return out
}

func shortest(set literals) int {
	n := 1 << 20
	for _, s := range set {
		n = min(n, len(s))
	}
	return n
}
