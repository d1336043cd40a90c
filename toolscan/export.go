package toolscan

import (
	"encoding/binary"
	"math"

	"github.com/kidoban/kidoban"
)

// Features returns the hashed features of a definition, for training and for
// nothing else. ctx may be nil.
func (sc *Scanner) Features(ctx *Context, it Item) []uint32 {
	if ctx == nil {
		ctx = noContext
	}
	s := sc.pool.Get().(*scratch)
	defer sc.pool.Put(s)
	s.reset()
	s.walk(it.Raw, ctxTop)
	for i, seg := range s.segs {
		s.normalise(int32(i), s.text[seg.start:seg.end], seg.start)
	}
	c := &itemContext{name: it.Name, siblings: ctx.siblings, foreign: ctx.foreign, s: s, lexer: sc.compiled().lexer}
	s.feat.reset()
	c.definition(&s.feat)
	return append([]uint32(nil), s.feat.list...)
}

// FeatureSpace is the number of feature buckets.
const FeatureSpace = 1 << featureBits

// Weights are the trained parameters of one model, before quantisation.
type Weights struct {
	Bias  float64
	Steps [3]float64 // log-odds from which the soft weights hold, ascending
	W     []float64  // FeatureSpace values
}

// Encode quantises two models to the bytes that are embedded: definitions, and
// sentences of contents.
func Encode(defs, texts Weights) ([]byte, error) {
	out := []byte(weightsMagic)
	for _, m := range []Weights{defs, texts} {
		if len(m.W) != FeatureSpace {
			return nil, kidoban.Errorf(kidoban.KindUsage, "a model has %d weights, not %d", len(m.W), FeatureSpace)
		}
		top := 1e-9
		for _, w := range m.W {
			top = math.Max(top, math.Abs(w))
		}
		scale := top / 127
		out = binary.LittleEndian.AppendUint64(out, math.Float64bits(m.Bias))
		out = binary.LittleEndian.AppendUint64(out, math.Float64bits(scale))
		for _, s := range m.Steps {
			out = binary.LittleEndian.AppendUint64(out, math.Float64bits(s))
		}
		for _, w := range m.W {
			out = append(out, byte(int8(math.Round(w/scale))))
		}
	}
	return out, nil
}

// Sentence is one sentence of a returned text, as the sentence model sees it.
type Sentence struct {
	Text     string // normalised
	Features []uint32
}

// Sentences cuts a returned text into sentences with their features, for
// training and for nothing else.
func (sc *Scanner) Sentences(text string) []Sentence {
	s := sc.pool.Get().(*scratch)
	defer sc.pool.Put(s)
	s.reset()
	s.readContent(text)
	c := &itemContext{content: true, s: s, lexer: sc.compiled().lexer}
	var out []Sentence
	sc.eachSentence(c, func(i int, f *features) {
		out = append(out, Sentence{string(s.norm[s.lines[i].start:s.lines[i].end]), append([]uint32(nil), f.list...)})
	})
	return out
}
