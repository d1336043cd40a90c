package toolscan

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"math"

	"github.com/kidoban/kidoban"
)

// model is a logistic regression over hashed features with 8-bit weights. It is
// trained by `kidoban tools train`; the same corpus gives the same bytes.
type model struct {
	bias    float64
	scale   float64
	weights []int8

	steps    [3]float64 // log-odds, ascending
	weights3 [3]float64 // what they are worth
}

//go:embed weights.bin
var weightsFile []byte

// weightsMagic starts the weights file: two models, definitions then sentences.
const weightsMagic = "KTSW3\n"

func embeddedModels() (defs, texts *model) {
	defs, texts, err := readModels(weightsFile)
	if err != nil {
		panic("toolscan: the embedded weights are damaged: " + err.Error())
	}
	return defs, texts
}

func readModels(b []byte) (defs, texts *model, err error) {
	b, ok := bytes.CutPrefix(b, []byte(weightsMagic))
	const size = 40 + 1<<featureBits
	if !ok || len(b) != 2*size {
		return nil, nil, kidoban.Errorf(kidoban.KindInput, "not a weights file of this version: train again with kidoban tools train")
	}
	defs, texts = readModel(b[:size]), readModel(b[size:])
	defs.weights3, texts.weights3 = definitionWeights, sentenceWeights
	return defs, texts, nil
}

func readModel(b []byte) *model {
	m := &model{bias: math.Float64frombits(binary.LittleEndian.Uint64(b)), scale: math.Float64frombits(binary.LittleEndian.Uint64(b[8:])), weights: make([]int8, 1<<featureBits)}
	for i := range m.steps {
		m.steps[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[16+8*i:]))
	}
	for i, w := range b[40:] {
		m.weights[i] = int8(w)
	}
	return m
}

// logit returns the model's log-odds for the collected features.
func (m *model) logit(f *features) float64 {
	sum := 0
	for _, h := range f.list {
		sum += int(m.weights[h])
	}
	return m.bias + m.scale*float64(sum)
}

// A model's log-odds become a soft weight in three steps. Training puts the
// steps where small, falling shares of honest material from sources left out
// lie above (package corpus); the last step of definitions and the middle one of
// sentences cross the default threshold alone.
var (
	definitionWeights = [3]float64{0.3, 0.45, 0.7}
	sentenceWeights   = [3]float64{0.4, 0.7, 0.9}
)

func (m *model) weigh(logit float64) float64 {
	w := 0.0
	for i, s := range m.steps {
		if logit >= s {
			w = m.weights3[i]
		}
	}
	return w
}

// calibration maps scores to confidence, linear in between: the share of attacks
// among items of that score on the development corpus, taking one item in eleven
// for an attack.
var calibration = [...]struct{ score, confidence float64 }{
	{0, 0}, {0.3, 0.3}, {0.6, 0.5}, {0.9, 0.75}, {1.3, 0.93}, {1.6, 0.98}, {2.5, 0.999},
}

func confidence(score float64) float64 {
	for i := 1; i < len(calibration); i++ {
		a, b := calibration[i-1], calibration[i]
		if score < b.score {
			return round3(a.confidence + (b.confidence-a.confidence)*(score-a.score)/(b.score-a.score))
		}
	}
	return calibration[len(calibration)-1].confidence
}
