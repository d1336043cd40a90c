package toolscan

import "bytes"

// A text that came back from a tool has one voice: a mail, a table, a listing.
// An injected sentence has another: it orders or asks the reader for something.
// The sentence model scores every sentence by its words, its word classes and
// its place among its neighbours; the oddest one speaks for the text.

// place is what the model knows about the surroundings of a sentence.
type place struct {
	table, email, fenced bool // most lines are table rows; it has mail headers; it has code fences
	first, last          bool
	alone                bool // the sentence is the whole physical line
}

// Shape features, hashed like words.
const (
	shapeOrder = iota + 1
	shapeQuestion
	shapeFirst
	shapeLast
	shapeAlien // prose among table rows
	shapeAlone
	shapeShort
	shapeLong
	shapeYourReply
	shapeColonEnd
	shapeOrderAlone
	shapeQuestionAlone
	shapeSnippet
	shapeDigits
)

// maxSentences bounds the model's work on one text.
const maxSentences = 4000

// oddSentence adds a finding for the oddest sentence, when it is odd enough.
func (sc *Scanner) oddSentence(c *itemContext, out []Finding) []Finding {
	best, at := -1e9, -1
	sc.eachSentence(c, func(i int, f *features) {
		if z := sc.texts.logit(f); z > best {
			best, at = z, i
		}
	})
	if at < 0 {
		return out
	}
	w := sc.texts.weigh(best)
	if w == 0 {
		return out
	}
	s := c.s
	ln := s.lines[at]
	seg := s.segs[ln.seg]
	from, to := s.off[ln.start], s.off[ln.end-1]+1
	return append(out, Finding{Rule: "odd-sentence", Family: FamilyModel, Tier: Soft, Severity: "medium", Path: s.pointer(seg.node),
		Start: int(from - seg.start), End: int(to - seg.start), Excerpt: Visible(string(bytes.ToValidUTF8(s.text[from:to], nil)), 240),
		Reason: ruleWhy["odd-sentence"], Fix: fixHold, weight: w})
}

// eachSentence cuts the text anew, every line break ending a sentence, and calls
// fn with the features of each. Lines inside code fences are code, not speech.
func (sc *Scanner) eachSentence(c *itemContext, fn func(i int, f *features)) {
	s := c.s
	s.norm, s.off, s.lines = s.norm[:0], s.off[:0], s.lines[:0]
	s.hardLines = true
	for i, seg := range s.segs {
		s.normalise(int32(i), s.text[seg.start:seg.end], seg.start)
	}
	p := place{}
	rows := 0
	for _, ln := range s.lines {
		l := s.norm[ln.start:ln.end]
		if bytes.Count(l, []byte("|")) >= 2 {
			rows++
		}
		p.email = p.email || bytes.HasPrefix(l, []byte("subject:")) || bytes.Contains(l, []byte("email_from:"))
		p.fenced = p.fenced || bytes.HasPrefix(l, []byte("```"))
	}
	p.table = rows*2 > len(s.lines)
	inside := false
	for i, ln := range s.lines {
		if i >= maxSentences {
			return
		}
		l := s.norm[ln.start:ln.end]
		if bytes.HasPrefix(l, []byte("```")) {
			inside = !inside
			continue
		}
		if inside || len(l) < 8 {
			continue
		}
		p.first, p.last = i == 0, i == len(s.lines)-1
		p.alone = s.aloneOnLine(ln)
		s.feat.reset()
		c.spoken(&s.feat, l, p)
		fn(i, &s.feat)
	}
}

// aloneOnLine says whether nothing but white space stands beside the sentence.
func (s *scratch) aloneOnLine(ln line) bool {
	seg := s.segs[ln.seg]
	for i := s.off[ln.start] - 1; i >= seg.start && s.text[i] != '\n'; i-- {
		if s.text[i] != ' ' && s.text[i] != '\t' {
			return false
		}
	}
	for i := s.off[ln.end-1] + 1; i < seg.end && s.text[i] != '\n'; i++ {
		if s.text[i] != ' ' && s.text[i] != '\t' && s.text[i] != '\r' {
			return false
		}
	}
	return true
}

// spoken collects the features of one sentence of a text.
func (c *itemContext) spoken(f *features, l []byte, p place) {
	row := bytes.Count(l, []byte("|")) >= 2
	if row {
		// Rows hold data. Only their shape is of interest, so that a column of
		// film titles does not read as orders.
		f.shape(shapeDigits)
		return
	}
	said := c.sentence(f, l, 1)
	order, question := startsAsOrder(l), l[len(l)-1] == '?'
	add := func(on bool, k uint64) {
		if on {
			f.shape(k)
		}
	}
	add(order, shapeOrder)
	add(question, shapeQuestion)
	add(p.first, shapeFirst)
	add(p.last, shapeLast)
	add(p.table, shapeAlien)
	add(p.alone, shapeAlone)
	add(len(said) <= 4, shapeShort)
	add(len(said) > 25, shapeLong)
	add(order && p.alone, shapeOrderAlone)
	add(question && p.alone, shapeQuestionAlone)
	add(l[len(l)-1] == ':', shapeColonEnd)
	add(yourReply(l), shapeYourReply)
	add(bytes.Contains(l, []byte(" code ")) || bytes.Contains(l, []byte("snippet")), shapeSnippet)
	if len(said) > 0 {
		w := l[said[0].start:said[0].end]
		f.add(hash(fFirst, w))
		e := said[len(said)-1]
		f.add(hash(fLast, l[e.start:e.end]))
	}
}

func (f *features) shape(k uint64) { f.add((fShape<<32 | k) * 0x9e3779b97f4a7c15) }

// yourReply says whether the sentence names the reader's own answer.
func yourReply(l []byte) bool {
	for _, w := range [...]string{"your response", "your reply", "your answer", "the response", "the reply", "the answer", "your message", "your output"} {
		if bytes.Contains(l, []byte(w)) {
			return true
		}
	}
	return false
}
