package toolscan

import "strings"

// DiffOp is one piece of a word-level diff.
type DiffOp struct {
	Op   string `json:"op"` // "=", "-", "+"
	Text string `json:"text"`
}

// maxDiffWords bounds the exact diff; longer middles are replaced whole.
const maxDiffWords = 800

// WordDiff compares two texts word by word. The result joins back to both
// texts. Time and memory are bounded: common beginnings and ends are cut off,
// and a middle of more than maxDiffWords words on either side is one removal and
// one addition.
func WordDiff(a, b string) []DiffOp {
	x, y := splitWords(a), splitWords(b)
	head := 0
	for head < len(x) && head < len(y) && x[head] == y[head] {
		head++
	}
	tail := 0
	for tail < len(x)-head && tail < len(y)-head && x[len(x)-1-tail] == y[len(y)-1-tail] {
		tail++
	}
	var out []DiffOp
	push := func(op string, words []string) {
		if len(words) == 0 {
			return
		}
		text := strings.Join(words, "")
		if n := len(out); n > 0 && out[n-1].Op == op {
			out[n-1].Text += text
			return
		}
		out = append(out, DiffOp{op, text})
	}
	push("=", x[:head])
	mx, my := x[head:len(x)-tail], y[head:len(y)-tail]
	if len(mx) > maxDiffWords || len(my) > maxDiffWords {
		push("-", mx)
		push("+", my)
	} else {
		lcs(mx, my, push)
	}
	push("=", x[len(x)-tail:])
	return out
}

// lcs emits a shortest edit script by dynamic programming over word indices.
func lcs(x, y []string, push func(string, []string)) {
	w := len(y) + 1
	table := make([]uint16, (len(x)+1)*w)
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				table[i*w+j] = table[(i+1)*w+j+1] + 1
			} else {
				table[i*w+j] = max(table[(i+1)*w+j], table[i*w+j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(x) && j < len(y) {
		switch {
		case x[i] == y[j]:
			push("=", x[i:i+1])
			i++
			j++
		case table[(i+1)*w+j] >= table[i*w+j+1]:
			push("-", x[i:i+1])
			i++
		default:
			push("+", y[j:j+1])
			j++
		}
	}
	push("-", x[i:])
	push("+", y[j:])
}

// splitWords cuts a text into words with the white space after them.
func splitWords(s string) []string {
	var out []string
	start := 0
	for i := 1; i <= len(s); i++ {
		if i == len(s) || isSpace(s[i-1]) && !isSpace(s[i]) {
			out = append(out, s[start:i])
			start = i
		}
	}
	return out
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }
