package toolscan

import (
	"bytes"
	"regexp"
	"sort"
	"strings"

	"github.com/kidoban/kidoban"
)

// Span is a stretch of text, in bytes.
type Span struct {
	Start, End int
	Kind       string // "github-token", "private-key", …
}

// secretShapes are credentials that show by their form. A prefix decides
// whether the expression runs.
var secretShapes = []struct {
	kind, prefix string
	re           *regexp.Regexp
}{
	{"private-key", "-----BEGIN", regexp.MustCompile(`-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s:,.-]*?-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----)?`)},
	{"github-token", "gh", regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{30,255}\b`)},
	{"github-token", "github_pat_", regexp.MustCompile(`\bgithub_pat_[A-Za-z0-9_]{40,255}\b`)},
	{"gitlab-token", "glpat-", regexp.MustCompile(`\bglpat-[A-Za-z0-9_-]{20,64}\b`)},
	{"aws-key", "AKIA", regexp.MustCompile(`\bAKIA[A-Z2-7]{16}\b`)},
	{"aws-key", "ASIA", regexp.MustCompile(`\bASIA[A-Z2-7]{16}\b`)},
	{"slack-token", "xox", regexp.MustCompile(`\bxox[abeoprs]-[A-Za-z0-9-]{10,255}\b`)},
	{"slack-webhook", "hooks.slack.com", regexp.MustCompile(`https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,100}`)},
	{"google-key", "AIza", regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{35}\b`)},
	{"openai-key", "sk-", regexp.MustCompile(`\bsk-(?:proj-|svcacct-|ant-[a-z0-9]+-|or-v1-)?[A-Za-z0-9_-]{32,255}\b`)},
	{"stripe-key", "k_live_", regexp.MustCompile(`\b[rs]k_live_[A-Za-z0-9]{20,128}\b`)},
	{"npm-token", "npm_", regexp.MustCompile(`\bnpm_[A-Za-z0-9]{36}\b`)},
	{"pypi-token", "pypi-", regexp.MustCompile(`\bpypi-[A-Za-z0-9_-]{50,255}\b`)},
	{"huggingface-token", "hf_", regexp.MustCompile(`\bhf_[A-Za-z0-9]{30,64}\b`)},
	{"sendgrid-key", "SG.", regexp.MustCompile(`\bSG\.[A-Za-z0-9_-]{20,32}\.[A-Za-z0-9_-]{30,64}\b`)},
	{"jwt", "eyJ", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{16,}`)},
}

// Secrets finds credentials in text by their form, in order and without
// overlap. Documented example keys are left out. Linear in len(text).
func Secrets[T ~string | ~[]byte](of T) []Span {
	text := []byte(of) // no copy of bytes
	var out []Span
	for _, s := range secretShapes {
		if !bytes.Contains(text, []byte(s.prefix)) {
			continue
		}
		for _, m := range s.re.FindAllIndex(text, 256) {
			if v := string(text[m[0]:m[1]]); !strings.Contains(v, "EXAMPLE") && !placeholder(v) {
				out = append(out, Span{m[0], m[1], s.kind})
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Start < out[j].Start })
	kept := out[:0]
	for _, s := range out {
		if n := len(kept); n == 0 || s.Start >= kept[n-1].End {
			kept = append(kept, s)
		}
	}
	return kept
}

// placeholder recognises values that stand for a secret: one letter repeated,
// "your-key-here".
func placeholder(v string) bool {
	l := strings.ToLower(v)
	if strings.Contains(l, "xxxx") || strings.Contains(l, "your") || strings.Contains(l, "placeholder") || strings.Contains(l, "0000000000") {
		return true
	}
	return false
}

// Redact replaces every secret in text by its kind and returns how many there
// were.
func Redact(text string) (string, int) {
	spans := Secrets(text)
	if len(spans) == 0 {
		return text, 0
	}
	var b strings.Builder
	at := 0
	for _, s := range spans {
		b.WriteString(text[at:s.Start])
		b.WriteString("[redacted " + s.Kind + "]")
		at = s.End
	}
	b.WriteString(text[at:])
	return b.String(), len(spans)
}

// secretFindings reports credentials in a returned text. The excerpt names the
// kind only.
func (sc *Scanner) secretFindings(c *itemContext, out []Finding) []Finding {
	for _, seg := range c.s.segs {
		for _, s := range Secrets(c.s.text[seg.start:seg.end]) {
			out = append(out, Finding{Rule: "secret-in-result", Family: FamilySecrets, Tier: Hard, Severity: kidoban.High, Path: c.s.pointer(seg.node), Start: s.Start, End: s.End,
				Excerpt: "[" + s.Kind + "]", Reason: ruleWhy["secret-in-result"], Fix: "Redact it before the model sees it, and rotate it.", weight: 1})
			if len(out) > 8*maxFindings {
				return out
			}
		}
	}
	return out
}
