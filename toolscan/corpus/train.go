package corpus

import (
	"encoding/json"
	"math/rand/v2"
	"strings"

	"github.com/kidoban/kidoban/toolscan"
)

// sample is one training example.
type sample struct {
	group string // what is left out together: a source, a kind of attack, a carrier text
	class string // what recall is reported by
	unit  string // the item a sample belongs to: the strongest sample decides
	x     []uint32
	y     bool
}

// definitionSamples reads the tools of dir.
func definitionSamples(sc *toolscan.Scanner, dir string) ([]sample, error) {
	var out []sample
	for _, file := range []string{"malicious_tools.jsonl", "benign_tools.jsonl"} {
		recs, err := Read(dir, file)
		if err != nil {
			return nil, err
		}
		ctx := Contexts(recs)
		seen := map[string]bool{}
		for i := range recs {
			r := &recs[i]
			bad := r.Label == "malicious"
			if bad && (r.Detectable != "yes" || r.Class == "overt_capability") {
				continue
			}
			x := sc.Features(ctx(r), toolscan.Item{Kind: toolscan.KindTool, Name: r.Name(), Raw: r.Tool})
			key := fingerprint(x)
			if bad && seen[key] {
				continue
			}
			seen[key] = true
			out = append(out, sample{group: r.Source, class: r.Source, unit: r.ID, x: x, y: bad})
		}
	}
	return out, nil
}

// synthetic plants sentences of the grammar in honest definitions: n examples
// whose only difference from honest tools is the attack.
func synthetic(sc *toolscan.Scanner, honest []Record, n int) []sample {
	if len(honest) == 0 {
		return nil
	}
	rng := rand.New(rand.NewPCG(3, 5))
	ctx := Contexts(honest)
	var out []sample
	for len(out) < n {
		r := &honest[rng.IntN(len(honest))]
		var tool map[string]json.RawMessage
		var text string
		if json.Unmarshal(r.Tool, &tool) != nil || json.Unmarshal(tool["description"], &text) != nil {
			return out // the corpus is read, so this is a corpus of something else
		}
		if len(text) > 600 {
			text = text[:strings.LastIndexByte(text[:600], ' ')+1]
		}
		attack := expand(rng, "attack", 0)
		if rng.IntN(3) == 0 {
			attack += " " + expand(rng, "attack", 0)
		}
		switch rng.IntN(4) {
		case 0:
			text = attack + " " + text
		case 1:
			text += "\n\n<IMPORTANT>" + attack + "</IMPORTANT>"
		default:
			text += " " + attack
		}
		tool["description"], _ = json.Marshal(text)
		raw, _ := json.Marshal(tool)
		out = append(out, sample{group: "planted", class: "planted", x: sc.Features(ctx(r), toolscan.Item{Kind: toolscan.KindTool, Name: r.Name(), Raw: raw}), y: true})
	}
	return out
}

func fingerprint(x []uint32) string {
	b := make([]byte, 0, len(x)*4)
	for _, h := range x {
		b = append(b, byte(h), byte(h>>8), byte(h>>16), byte(h>>24))
	}
	return string(b)
}
