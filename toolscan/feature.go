package toolscan

import (
	"bytes"
	"math/bits"
)

// featureBits is the size of a model's weight table: 2^15 buckets. Two features
// in one bucket share a weight; the training sees the same buckets, so it is
// part of the model and no error.
const featureBits = 15

// features collects the hashed features of one text, each once.
type features struct {
	seen [1 << featureBits / 64]uint64
	list []uint32
}

func (f *features) reset() {
	for _, h := range f.list {
		f.seen[h/64] = 0
	}
	f.list = f.list[:0]
}

func (f *features) add(h uint64) {
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 32
	i := uint32(h) & (1<<featureBits - 1)
	if f.seen[i/64]&(1<<(i%64)) == 0 {
		f.seen[i/64] |= 1 << (i % 64)
		f.list = append(f.list, i)
	}
}

// hash is FNV-1a with a seed for the kind of feature.
func hash(seed uint64, b []byte) uint64 {
	h := 14695981039346656037 ^ seed*0x9e3779b97f4a7c15
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// Kinds of features.
const (
	fWord = iota + 1
	fPair
	fClass
	fClassPair
	fParam
	fParamClass
	fShape
	fFirst
	fLast
)

// token is one word of a normalised line.
type token struct{ start, end int }

// words splits a line into words: letters, digits and the signs that hold
// identifiers, paths and addresses together.
func words(l []byte, buf []token) []token {
	buf = buf[:0]
	start := -1
	for i := 0; i <= len(l); i++ {
		in := i < len(l) && (isLetter(l[i]) || l[i] >= '0' && l[i] <= '9' || l[i] >= 0x80 || l[i] == '_' || l[i] == '\'' || l[i] == '@' || l[i] == '/' || l[i] == '~' || l[i] == '.' || l[i] == '+')
		switch {
		case in && start < 0:
			start = i
		case !in && start >= 0:
			s, e := start, i
			for e > s && (l[e-1] == '.' || l[e-1] == '\'' || l[e-1] == '/') {
				e--
			}
			for s < e && l[s] == '\'' {
				s++
			}
			if e > s {
				buf = append(buf, token{s, e})
			}
			start = -1
			if len(buf) >= 200 {
				return buf
			}
		}
	}
	return buf
}

// classesOf returns the classes of a word, literals included.
func (c *itemContext) classesOf(w []byte) uint64 {
	set := classWords[stem(string(w))]
	if bytes.IndexByte(w, '@') > 0 && bytes.IndexByte(w, '.') > 0 {
		set |= 1 << wcAddress
	} else if w[0] == '~' || w[0] == '/' && len(w) > 4 || w[0] == '.' && len(w) > 3 {
		set |= 1 << wcPath
	} else if looksLikeHost(w) {
		set |= 1 << wcHost
	} else if bytes.IndexByte(w, '_') > 0 {
		if c.ownParameter(string(w)) {
			set |= 1 << wcParam
		} else if c.foreignTool(string(w)) {
			set |= 1 << wcForeign
		}
	} else if w[0] == '+' && len(w) > 8 {
		set |= 1 << wcAddress
	}
	return set
}

func looksLikeHost(w []byte) bool {
	i := bytes.LastIndexByte(w, '.')
	if i <= 0 || len(w)-i < 3 {
		return false
	}
	digits := true
	for _, ch := range w {
		if (ch < '0' || ch > '9') && ch != '.' {
			digits = false
		}
	}
	if digits {
		return bytes.Count(w, []byte{'.'}) == 3
	}
	tail := w[i+1:]
	if codeExtension[string(tail)] && string(tail) != "com" && string(tail) != "org" && string(tail) != "net" && string(tail) != "io" && string(tail) != "dev" {
		return false
	}
	return len(tail) <= 6 && len(tail) >= 2 && tail[0] >= 'a'
}

// sentence adds the features of one line and returns its words, which are good until
// the next line.
func (c *itemContext) sentence(f *features, l []byte, seed uint64) []token {
	c.s.words = words(l, c.s.words)
	var set uint64
	prev := uint64(0)
	for _, t := range c.s.words {
		w := l[t.start:t.end]
		if len(w) > 40 {
			continue
		}
		set |= c.classesOf(w)
		h := hash(fWord+seed, []byte(stem(string(w))))
		f.add(h)
		if prev != 0 {
			f.add(h*31 + prev)
		}
		prev = h
	}
	f.classes(set, seed)
	return c.s.words
}

// classes adds a set of classes, singly and in pairs.
func (f *features) classes(set, seed uint64) {
	for a := set; a != 0; a &= a - 1 {
		i := uint64(bits.TrailingZeros64(a))
		f.add((seed<<20 | fClass<<16 | i) * 0x9e3779b97f4a7c15)
		for b := a & (a - 1); b != 0; b &= b - 1 {
			j := uint64(bits.TrailingZeros64(b))
			f.add((seed<<20 | fClassPair<<16 | i<<8 | j) * 0x9e3779b97f4a7c15)
		}
	}
}

// definition collects the features of a whole definition: its sentences, and
// its parameter names apart from them.
func (c *itemContext) definition(f *features) {
	n := 0
	for _, ln := range c.s.lines {
		seg := c.s.segs[ln.seg]
		l := c.s.norm[ln.start:ln.end]
		switch seg.pos {
		case posName, posTitle:
			continue // what a tool is called says what it is, not whether it attacks
		case posParamName:
			for _, part := range nameParts(string(l)) {
				f.add(hash(fParam, []byte(stem(part))))
				f.classes(classWords[stem(part)], fParamClass)
			}
			continue
		}
		c.sentence(f, l, 0)
		if n++; n > 400 {
			return
		}
	}
}
