package toolscan

import (
	"regexp/syntax"
	"sort"
)

// anchorsOf returns literals one of which is in every text the expression
// matches: the condition under which running it makes sense. It panics on an
// expression without such a set (the lexicon is a constant; a test runs it).
func anchorsOf(expr string) []string {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		panic("toolscan: lexicon: " + expr + ": " + err.Error())
	}
	set := required(re.Simplify())
	if len(set) == 0 {
		panic("toolscan: lexicon: no literal in every match of " + expr)
	}
	sort.Strings(set)
	return set
}

// required returns a set of literals of which every match holds at least one;
// nil when there is none. Longer literals are preferred: they occur less often.
func required(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		return []string{string(re.Rune)}
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0])
		}
	case syntax.OpCharClass:
		var out []string
		for i := 0; i+1 < len(re.Rune); i += 2 {
			if re.Rune[i+1]-re.Rune[i] > 4 || len(out) > 8 {
				return nil
			}
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				out = append(out, string(r))
			}
		}
		return out
	case syntax.OpAlternate:
		var out []string
		for _, sub := range re.Sub {
			s := required(sub)
			if s == nil {
				return nil
			}
			out = append(out, s...)
		}
		return out
	case syntax.OpConcat:
		return best(re.Sub)
	}
	return nil
}

// best picks, among the parts of a concatenation, the set whose shortest
// literal is longest, and joins a literal with what must follow it directly.
func best(subs []*syntax.Regexp) []string {
	var win []string
	for i := 0; i < len(subs); i++ {
		set := required(subs[i])
		if set == nil {
			continue
		}
		for i+1 < len(subs) && len(set) <= 8 && exact(subs[i]) && exact(subs[i+1]) {
			set = product(set, required(subs[i+1]))
			i++
		}
		if win == nil || shortest(set) > shortest(win) {
			win = set
		}
	}
	return win
}

// exact says whether required(re) is re's whole language.
func exact(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpLiteral:
		return true
	case syntax.OpCharClass:
		return required(re) != nil
	case syntax.OpCapture:
		return exact(re.Sub[0])
	case syntax.OpAlternate:
		for _, s := range re.Sub {
			if !exact(s) {
				return false
			}
		}
		return true
	case syntax.OpConcat:
		return false
	}
	return false
}

func product(a, b []string) []string {
	if len(a)*len(b) > 64 || len(b) == 0 {
		return a
	}
	out := make([]string, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			out = append(out, x+y)
		}
	}
	return out
}

func shortest(set []string) int {
	n := 1 << 20
	for _, s := range set {
		n = min(n, len(s))
	}
	return n
}
