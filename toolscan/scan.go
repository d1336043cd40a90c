package toolscan

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"

	"github.com/kidoban/kidoban"
)

// Scanner judges definitions and texts. It is safe for concurrent use. The first
// judgement compiles the rules, which costs tens of milliseconds and some
// megabytes, so make one Scanner and keep it.
type Scanner struct {
	compiled func() *ruleset
	defs     *model // definitions
	texts    *model // sentences of contents
	pool     sync.Pool
}

// ruleset is what does not depend on weights.
type ruleset struct {
	lexer     *lexer
	rules     []compiled
	paramHint *automaton
}

func compileRuleset() *ruleset {
	l := newLexer()
	return &ruleset{lexer: l, rules: compileRules(l), paramHint: newAutomaton(paramHints)}
}

// New loads the weights; the rules are compiled when they are first needed.
func New() *Scanner {
	sc := &Scanner{compiled: sync.OnceValue(compileRuleset)}
	sc.defs, sc.texts = embeddedModels()
	sc.pool.New = func() any { return new(scratch) }
	return sc
}

// WithWeights returns a scanner with the same rules and other trained weights,
// as Encode writes them.
func (sc *Scanner) WithWeights(weights []byte) (*Scanner, error) {
	other := &Scanner{compiled: sc.compiled}
	var err error
	if other.defs, other.texts, err = readModels(weights); err != nil {
		return nil, err
	}
	other.pool.New = sc.pool.New
	return other, nil
}

// Context is what is known around an item.
type Context struct {
	siblings map[string]struct{}
	foreign  map[string]string
	hosts    []string
}

// NewContext prepares the surroundings of self's items: the names of its own
// tools, and the tools of the user's other servers.
func NewContext(self Server, others []Server) *Context {
	c := &Context{siblings: map[string]struct{}{}, foreign: map[string]string{}, hosts: self.Hosts}
	for _, it := range self.Items {
		if it.Kind == KindTool {
			c.siblings[foldName(it.Name)] = struct{}{}
		}
	}
	for _, o := range others {
		for _, it := range o.Items {
			if f := foldName(it.Name); it.Kind == KindTool && len(f) > 2 {
				if _, own := c.siblings[f]; !own {
					c.foreign[f] = o.Name
				}
			}
		}
	}
	return c
}

var noContext = &Context{}

// Item judges one definition. ctx may be nil. The cost is linear in len(it.Raw).
func (sc *Scanner) Item(ctx *Context, it Item) Verdict {
	if it.Kind == KindContent {
		return sc.Content(string(it.Raw))
	}
	if ctx == nil {
		ctx = noContext
	}
	s := sc.pool.Get().(*scratch)
	defer sc.pool.Put(s)
	s.reset()
	if it.Kind == KindInstructions && len(it.Raw) > 0 && it.Raw[0] == '"' {
		w := walker{in: it.Raw, s: s}
		w.value(ctxMeta, -1, posDescription, -1)
	} else {
		s.walk(it.Raw, ctxTop)
	}
	c := &itemContext{name: it.Name, siblings: ctx.siblings, foreign: ctx.foreign, hosts: ctx.hosts, s: s, lexer: sc.compiled().lexer}
	found := sc.sentences(c, nil)
	if it.Kind == KindTool {
		found = sc.paramFindings(c, found)
		found = c.lyingAnnotation(found)
	}
	found = sc.schemaFindings(c, found)
	found = sc.nameFindings(c, found)
	s.feat.reset()
	c.definition(&s.feat)
	if w := sc.defs.weigh(sc.defs.logit(&s.feat)); w > 0 {
		found = append(found, sc.likeliest(c, w))
	}
	v := decide(found)
	v.Kind, v.Item = it.Kind, it.Name
	if it.Kind == KindTool {
		v.Capabilities = c.capabilities()
	}
	return v
}

// Content judges a text that came back from a server: plain text, or JSON whose
// strings are read. The cost is linear in len(text).
func (sc *Scanner) Content(text string) Verdict {
	s := sc.pool.Get().(*scratch)
	defer sc.pool.Put(s)
	s.reset()
	s.readContent(text)
	c := &itemContext{content: true, s: s, lexer: sc.compiled().lexer}
	found := sc.sentences(c, nil)
	found = sc.secretFindings(c, found)
	found = sc.oddSentence(c, found)
	v := decide(found)
	v.Kind = KindContent
	return v
}

// readContent collects the texts of a result: the strings of a JSON value, or
// the text itself.
func (s *scratch) readContent(text string) {
	trimmed := strings.TrimLeft(text, " \t\r\n")
	if len(trimmed) > 1 && (trimmed[0] == '{' || trimmed[0] == '[') && json.Valid([]byte(text)) {
		s.walk([]byte(text), ctxContent)
		return
	}
	if len(text) > maxItemBytes {
		text, s.overflow = text[:maxItemBytes], true
	}
	s.text = append(s.text, text...)
	s.segs = append(s.segs, segment{0, int32(len(s.text)), posContent, -1})
}

// sentences runs everything that reads text: hidden characters, payloads, and
// the rules sentence by sentence.
func (sc *Scanner) sentences(c *itemContext, out []Finding) []Finding {
	s := c.s
	budget := maxDecoded
	for i := range s.segs {
		seg := s.segs[i]
		t := s.text[seg.start:seg.end]
		for _, h := range concealedIn(t) {
			if c.content && h.rule == "hidden-zero-width" && len(h.decoded) == 0 {
				h.tier, h.weight = Soft, 0.4 // pages and mails are full of them
			}
			out = sc.concealedFinding(c, seg, h, out)
		}
		if len(t) >= 20 {
			for _, p := range payloads(t, budget) {
				budget -= len(p.text)
				out = sc.payloadFinding(c, seg, p, out)
			}
		}
		out = blankWall(c, seg, t, out)
		s.normalise(int32(i), t, seg.start)
	}
	return sc.rulesOn(c, out)
}

// rulesOn applies the sentence rules to s.norm.
func (sc *Scanner) rulesOn(c *itemContext, out []Finding) []Finding {
	s, set := c.s, sc.compiled()
	whole, lines := set.lexer.anchors(s.norm, s.anchors[:0])
	s.anchors = lines
	s.open = s.open[:0]
	for i := range set.rules {
		if set.rules[i].open(&whole) {
			s.open = append(s.open, int32(i))
		}
	}
	rot, rev := whole.has(set.lexer.turned[0]), whole.has(set.lexer.turned[1])
	masked := !c.unmasked && disguised(s.norm)
	if len(s.open) == 0 && !rot && !rev && !masked {
		return out
	}
	for i, ln := range s.lines {
		text := s.norm[ln.start:ln.end]
		have := &lines[i]
		c.line, c.seg = ln, s.segs[ln.seg]
		for _, i := range s.open {
			r := &set.rules[i]
			if !r.applies(c) || !r.open(have) {
				continue
			}
			if f, ok := sc.try(r, c, text); ok {
				out = append(out, f)
				if len(out) > 8*maxFindings {
					return out
				}
			}
		}
		if masked && disguised(text) {
			out = sc.turned(c, text, "disguised letters", undisguised(text), out)
		}
		if rot && have.has(set.lexer.turned[0]) {
			out = sc.turned(c, text, "rot13", rot13(text), out)
		}
		if rev && have.has(set.lexer.turned[1]) {
			out = sc.turned(c, text, "reversed", backwards(text), out)
		}
	}
	return out
}

func (r *compiled) applies(c *itemContext) bool {
	switch r.where {
	case definitions:
		return !c.content
	case contents:
		return c.content
	case values:
		return c.seg.pos == posValue
	case parameters:
		return c.seg.pos == posParamText && !c.content
	}
	return true
}

// try runs one rule on one sentence.
func (sc *Scanner) try(r *compiled, c *itemContext, text []byte) (Finding, bool) {
	if r.pre != nil && !r.pre(text) {
		return Finding{}, false
	}
	if !r.re().Match(text) { // cheaper than a search that keeps positions
		return Finding{}, false
	}
	m := r.re().FindSubmatchIndex(text)
	if r.unless != nil && r.unless().Match(text) {
		return Finding{}, false
	}
	if r.check != nil && !r.check(c, text, m) {
		return Finding{}, false
	}
	s := c.s
	from := s.off[int(c.line.start)+m[0]]
	to := s.off[int(c.line.start)+m[1]-1] + 1
	f := Finding{Rule: r.id, Family: r.family, Tier: r.tier(), Severity: r.severity, Path: s.pointer(c.seg.node),
		Start: int(from - c.seg.start), End: int(to - c.seg.start), Reason: r.why, Fix: r.fix,
		weight: r.weight * discount(c.seg.pos, text, m)}
	lo, hi := max(from-24, c.seg.start), min(to+24, c.seg.end)
	f.Excerpt = Visible(string(bytes.ToValidUTF8(s.text[lo:hi], nil)), 240)
	return f, true
}

// discount weighs a hit by where it stands: an example illustrates, a quoted
// phrase may be spoken of.
func discount(pos position, text []byte, m []int) float64 {
	d := 1.0
	switch pos {
	case posValue:
		d = 0.8
	case posName, posTitle, posParamName:
		d = 0.9
	}
	if m[0] > 0 && m[1] < len(text) {
		a, b := text[m[0]-1], text[m[1]]
		if (a == '\'' || a == '"' || a == '`') && a == b {
			d *= 0.5
		}
	}
	return d
}

func (sc *Scanner) concealedFinding(c *itemContext, seg segment, h concealed, out []Finding) []Finding {
	f := Finding{Rule: h.rule, Family: FamilyHidden, Tier: h.tier, Severity: kidoban.High, Path: c.s.pointer(seg.node), Start: h.start, End: h.end,
		Hidden: h.how, weight: h.weight, Reason: ruleWhy[h.rule], Fix: "Remove the hidden characters."}
	lo, hi := max(h.start-20, 0), min(h.end+20, int(seg.end-seg.start))
	f.Excerpt = Visible(string(bytes.ToValidUTF8(c.s.text[int(seg.start)+lo:int(seg.start)+hi], nil)), 240)
	out = append(out, f)
	if h.decoded != "" {
		out = sc.decoded(c, seg, h.decoded, h.how, h.start, h.end, 1, out)
	}
	return out
}

func (sc *Scanner) payloadFinding(c *itemContext, seg segment, p payload, out []Finding) []Finding {
	return sc.decoded(c, seg, p.text, p.how, p.start, p.end, 0.3, out)
}

// decoded scans a text that was hidden. Each of its hits weighs at least floor
// more than in the open: who hides an order means it.
func (sc *Scanner) decoded(c *itemContext, seg segment, text, how string, start, end int, floor float64, out []Finding) []Finding {
	s := sc.pool.Get().(*scratch)
	defer sc.pool.Put(s)
	s.reset()
	s.text = append(s.text, text...)
	pos := posDescription
	if c.content {
		pos = posContent
	}
	s.segs = append(s.segs, segment{0, int32(len(s.text)), pos, -1})
	s.normalise(0, s.text, 0)
	sub := &itemContext{name: c.name, siblings: c.siblings, foreign: c.foreign, hosts: c.hosts, content: c.content, unmasked: true, s: s, lexer: sc.compiled().lexer}
	path := c.s.pointer(seg.node)
	for _, f := range sc.rulesOn(sub, nil) {
		f.Path, f.Start, f.End, f.Hidden = path, start, end, how
		f.weight = max(f.weight+floor, 0.6)
		f.Excerpt = Visible(text, 200)
		if f.weight >= 1 {
			f.Tier = Hard
		}
		out = append(out, f)
	}
	return out
}

// turned scans a sentence that was written in rot13 or backwards.
func (sc *Scanner) turned(c *itemContext, text []byte, how, plain string, out []Finding) []Finding {
	start, end := int(c.s.off[c.line.start]-c.seg.start), int(c.s.off[c.line.end-1]-c.seg.start)+1
	return sc.decoded(c, c.seg, plain, how, start, end, 0.3, out)
}

// blankWall finds text pushed out of sight: far to the right or far below.
func blankWall(c *itemContext, seg segment, t []byte, out []Finding) []Finding {
	spaces, lines, start := 0, 0, 0
	for i, b := range t {
		switch b {
		case ' ', '\t':
			if spaces == 0 && lines == 0 {
				start = i
			}
			spaces++
		case '\n', '\r':
			if lines == 0 && spaces == 0 {
				start = i
			}
			lines++
			if spaces < 100 {
				spaces = 0
			}
		default:
			if spaces >= 100 && i > spaces+1 || lines >= 25 {
				return append(out, Finding{Rule: "blank-wall", Family: FamilyHidden, Tier: Soft, Severity: kidoban.High, Path: c.s.pointer(seg.node), Start: start, End: i,
					Hidden: "white-space", Excerpt: Visible(string(bytes.ToValidUTF8(t[i:min(len(t), i+160)], nil)), 200), Reason: ruleWhy["blank-wall"], Fix: "Remove the white space.", weight: wallWeight(c)})
			}
			spaces, lines = 0, 0
		}
	}
	return out
}

// wallWeight: tables and code in contents are full of white space.
func wallWeight(c *itemContext) float64 {
	if c.content {
		return 0
	}
	return 0.6
}

// nameFindings looks at the item's own name.
func (sc *Scanner) nameFindings(c *itemContext, out []Finding) []Finding {
	mixed := func(name, path string) {
		if homoglyphs(name) {
			out = append(out, Finding{Rule: "name-homoglyph", Family: FamilyHidden, Tier: Hard, Severity: kidoban.High, Path: path, End: len(name),
				Excerpt: Visible(name, 120), Reason: ruleWhy["name-homoglyph"], Fix: "Use the letters of one script.", weight: 1.2})
		}
	}
	mixed(c.name, "/name")
	for i := range c.s.params {
		mixed(c.s.params[i].name, c.s.pointer(c.s.params[i].path))
	}
	return out
}

// homoglyphs says whether a name writes Latin with look-alikes of other scripts.
func homoglyphs(name string) bool {
	latin, fake := false, false
	for _, r := range name {
		if r < 0x80 {
			latin = latin || isLetter(byte(r))
		} else if _, ok := lookalike[r]; ok {
			fake = true
		} else {
			return false // a real word of another script
		}
	}
	return latin && fake
}

// likeliest is the model's finding: its span is the sentence that weighs most.
func (sc *Scanner) likeliest(c *itemContext, weight float64) Finding {
	f := Finding{Rule: "model", Family: FamilyModel, Tier: Soft, Severity: kidoban.Medium, Reason: ruleWhy["model"], Fix: fixHold, weight: weight}
	s := c.s
	best, at := -1e9, -1
	for i, ln := range s.lines {
		if p := s.segs[ln.seg].pos; p == posName || p == posTitle || p == posParamName || i > 400 {
			continue
		}
		s.feat.reset()
		c.sentence(&s.feat, s.norm[ln.start:ln.end], 0)
		if z := sc.defs.logit(&s.feat); z > best {
			best, at = z, i
		}
	}
	if at >= 0 {
		ln := s.lines[at]
		seg := s.segs[ln.seg]
		from, to := s.off[ln.start], s.off[ln.end-1]+1
		f.Path, f.Start, f.End = s.pointer(seg.node), int(from-seg.start), int(to-seg.start)
		f.Excerpt = Visible(string(bytes.ToValidUTF8(s.text[from:to], nil)), 240)
	}
	return f
}
