package corpus

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/kidoban/kidoban/toolscan"
)

func TestDev(t *testing.T) {
	rep, err := Evaluate(toolscan.New(), os.Getenv("CORPUS"))
	if err != nil {
		t.Fatal(err)
	}
	j := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	fmt.Println("macro", rep.MacroRecall, "strict", rep.StrictRecall, "fa", rep.Benign, "strictfa", rep.BenignStrict, "us", rep.MicrosPerTool)
	fmt.Println(j(rep.Sources))
	fmt.Println(j(rep.Classes))
	fmt.Println(j(rep.Apart))
	fmt.Println(j(rep.BenignSources))
	fmt.Println(j(rep.Contents))
	fmt.Println(j(rep.Drift))
	fmt.Println(j(rep.DirectInjection))
	for _, c := range rep.WorstMissed {
		fmt.Println("MISS", c.Score, c.Rules, c.ID, c.Class, c.Text)
	}
	for _, c := range rep.WorstFalseAlarms {
		fmt.Println("FA", c.Score, c.Rules, c.ID, c.Text)
	}
	for _, c := range rep.WorstContents {
		fmt.Println("CM", c.Score, c.Rules, c.ID, c.Text)
	}
	for _, c := range rep.WorstContentFalse {
		fmt.Println("CF", c.Score, c.Rules, c.ID, c.Text)
	}
	for k, v := range rep.RuleHits {
		fmt.Println("RULE", k, v)
	}
}
