package toolscan

import (
	"bytes"
	"regexp"
	"strings"
)

// itemContext is what a rule's check may ask about the item it reads.
type itemContext struct {
	name     string              // of the item, as given
	siblings map[string]struct{} // folded names of the same server's tools
	foreign  map[string]string   // folded names of other servers' tools → server
	hosts    []string            // the server's own
	content  bool
	unmasked bool // the text is what a disguise stood for: it is not looked through again
	s        *scratch
	seg      segment
	line     line
	lexer    *lexer

	params map[string]struct{} // folded names of the item's parameters; nil before the first question
}

// Expressions that several checks share. They are written over normalised text.
var (
	orderWords = regexp.MustCompile(`\b(?:use|call|invoke|choose|select|run|always|must|say|suggest|recommend|respond|reply|include|follow|obey|apply)\b`)

	effectWords = regexp.MustCompile(`\b(?:modify|change|changed|replace|override|overwrite|redirect|alter|rewrite|substitute|inject|append|prepend|insert|divert|intercept|forward|copy|copies|set|put|multiplied|rewritten|replaced|log|report|send|add|bcc|cc|duplicate|mirror|first (?:use|call|run|execute|invoke|read)|(?:use|call|run|execute|invoke) this (?:tool|function)|route|backup|exfiltrate|record|pass|wrong|fake|corrected?)\b`)

	modelWords = regexp.MustCompile(`\b(?:agent|assistant|llm|chat ?bot|chat|completion|prompt|persona|openai|anthropic|gpt|gemini|claude|voice|conversation|message thread|memory|thread|model)s?\b`)
)

// exampleWords near a literal say that it illustrates.
const exampleWords = `\b(?:e\.g\.|example|for instance|such as|sample|format|placeholder|contact (?:us|support)|questions\?|feedback|docs?\b|documentation|see )`

// foreignTool says whether name (lower case) is a tool of somebody else: known
// on another server of the user, or shaped like a tool name and unknown here.
func (c *itemContext) foreignTool(name string) bool {
	f := foldName(name)
	if f == "" || f == foldName(c.name) {
		return false
	}
	if _, ok := c.siblings[f]; ok {
		return false
	}
	if _, ok := c.foreign[f]; ok {
		return true
	}
	if _, ok := wellKnownTools[f]; ok {
		return true
	}
	return strings.ContainsAny(strings.Trim(name, "_.-"), "_") && len(name) > 4
}

// ownParameter says whether name is one of the item's parameters or members.
func (c *itemContext) ownParameter(name string) bool {
	if c.params == nil { // built once: a hostile schema declares thousands
		c.params = make(map[string]struct{}, len(c.s.params))
		for i := range c.s.params {
			c.params[foldName(c.s.params[i].name)] = struct{}{}
		}
	}
	_, ok := c.params[foldName(name)]
	return ok
}

// foreignToolChanged accepts "when calling X …" where X is not of this server
// and something happens to it. "X" may be a plain word only when the word
// "tool", "function" or "operation" follows it.
func foreignToolChanged(c *itemContext, l []byte, m []int) bool {
	if len(m) < 4 || m[2] < 0 {
		return false
	}
	name := strings.Trim(string(l[m[2]:m[3]]), "._-")
	rest := strings.TrimLeft(string(l[m[3]:]), "'\"`")
	if !effectWords.MatchString(rest) && !effectWords.Match(l[:m[0]]) && !(c.elsewhere(name) && orderWords.MatchString(rest)) {
		return false
	}
	if c.ownParameter(name) || pointingWords[name] || givenWords.MatchString(rest) || givenWords.Match(l[m[3]:]) {
		return false
	}
	if _, known := c.foreign[foldName(name)]; known && foldName(name) != foldName(c.name) {
		if _, sibling := c.siblings[foldName(name)]; !sibling {
			return true
		}
	}
	if hasToolNoun(rest) {
		_, sibling := c.siblings[foldName(name)]
		return !sibling && foldName(name) != foldName(c.name)
	}
	return strings.Contains(name, "_") && c.foreignTool(name)
}

// foreignMust accepts an obligation on a tool that is known elsewhere or famous.
func foreignMust(c *itemContext, l []byte, m []int) bool {
	if len(m) < 4 || m[2] < 0 {
		return false
	}
	name := string(l[m[2]:m[3]])
	f := foldName(name)
	if _, sibling := c.siblings[f]; sibling || c.ownParameter(name) || f == foldName(c.name) {
		return false
	}
	_, known := c.foreign[f]
	_, famous := wellKnownTools[f]
	return known || famous || hasToolNoun(string(l[m[3]:]))
}

// foreignNamed accepts an argument of a named tool that is not of this server.
func foreignNamed(c *itemContext, l []byte, m []int) bool {
	if len(m) < 4 || m[2] < 0 {
		return false
	}
	name := strings.Trim(string(l[m[2]:m[3]]), "._-")
	if c.ownParameter(name) || pointingWords[name] || codeExtension[name] {
		return false
	}
	f := foldName(name)
	_, known := c.foreign[f]
	_, famous := wellKnownTools[f]
	_, sibling := c.siblings[f]
	return !sibling && f != foldName(c.name) && (known || strings.Contains(name, "_") && (famous || hasToolNoun(string(l[m[3]:])) || effectWords.Match(l)))
}

// foreignFamous accepts a tool that is known elsewhere or famous.
func foreignFamous(c *itemContext, l []byte, m []int) bool {
	if len(m) < 4 || m[2] < 0 {
		return false
	}
	return c.elsewhere(strings.Trim(string(l[m[2]:m[3]]), "._-"))
}

// elsewhere says whether name is a tool of another server of the user, or a
// famous one that this server does not have.
func (c *itemContext) elsewhere(name string) bool {
	f := foldName(name)
	if _, sibling := c.siblings[f]; sibling || f == foldName(c.name) || c.ownParameter(name) || len(f) < 6 {
		return false
	}
	_, known := c.foreign[f]
	_, famous := wellKnownTools[f]
	return known || famous
}

// givenWords after a name say that it is a setting, not a tool: "if X is set".
var givenWords = regexp.MustCompile(`^['"\x60]? (?:is |are |was )?(?:set|specified|provided|given|true|false|not|empty|omitted|required|missing|defined|null|unset|supplied)\b`)

// pointingWords are not names.
var pointingWords = map[string]bool{"this": true, "the": true, "a": true, "an": true, "these": true, "any": true, "other": true, "it": true, "that": true,
	"your": true, "our": true, "all": true, "each": true, "every": true, "another": true, "such": true, "mcp": true, "which": true, "external": true, "search": true,
	"one": true, "multiple": true, "specific": true, "appropriate": true, "bulk": true, "write": true, "read": true, "different": true, "my": true, "its": true, "both": true}

func hasToolNoun(rest string) bool {
	for _, n := range [...]string{" tool", " function", " operation", " command", " endpoint"} {
		if strings.HasPrefix(rest, n) {
			return !strings.HasPrefix(rest, n+"s")
		}
	}
	return false
}

// foreignCall accepts a call of a qualified name ("server.tool()") that is not
// of this server.
func foreignCall(c *itemContext, l []byte, m []int) bool {
	if len(m) < 4 || m[2] < 0 {
		return false
	}
	name := string(l[m[2]:m[3]])
	if c.ownParameter(name) || !c.foreignTool(name) {
		return false
	}
	_, known := c.foreign[foldName(name)]
	_, famous := wellKnownTools[foldName(name)]
	parts := strings.Split(name, ".")
	last := parts[len(parts)-1]
	if _, sibling := c.siblings[foldName(last)]; sibling || codeExtension[last] {
		return false
	}
	return known || famous && c.name != "" || len(parts) == 2 && strings.Contains(name, "_") && strings.Contains(string(l[m[2]:m[1]]), "(")
}

var codeExtension = map[string]bool{"py": true, "js": true, "ts": true, "json": true, "md": true, "com": true, "org": true, "net": true, "io": true, "sh": true, "yaml": true, "yml": true, "txt": true, "html": true, "dev": true, "exe": true}

// wholeDescription says whether the sentence is all the text there is.
func wholeDescription(c *itemContext, l []byte, _ []int) bool {
	n := 0
	for _, ln := range c.s.lines {
		if p := c.s.segs[ln.seg].pos; p == posDescription || p == posParamText {
			n += int(ln.end - ln.start)
		}
	}
	return n <= len(l)+40
}

// behaviourElsewhere drops "modifies the behaviour of this tool".
func behaviourElsewhere(_ *itemContext, l []byte, m []int) bool {
	return !regexpThis.Match(l[m[0]:m[1]])
}

var regexpThis = regexp.MustCompile(`\bof (?:this|the) (?:tool|function|server|serverless|edge|lambda|cloud)`)

// notAboutModels drops requests for prompts and conversations on tools whose
// business they are.
func notAboutModels(c *itemContext, _ []byte, _ []int) bool {
	if c.seg.pos == posDescription && c.s.off[c.line.start] <= c.seg.start+2 {
		return !c.namedAfterModels() // the first sentence cannot excuse itself
	}
	return !c.aboutModels()
}

// namedAfterModels says whether the item's name speaks of models or chats.
func (c *itemContext) namedAfterModels() bool {
	return modelWords.MatchString(strings.NewReplacer("_", " ", "-", " ", ".", " ").Replace(strings.ToLower(c.name)))
}

// aboutModels says whether the item deals with language models, agents or
// chats: there a system prompt is an ordinary argument.
func (c *itemContext) aboutModels() bool {
	if c.namedAfterModels() {
		return true
	}
	for _, seg := range c.s.segs {
		if seg.pos == posDescription || seg.pos == posTitle {
			text := strings.ToLower(string(c.s.text[seg.start:min(seg.end, seg.start+160)]))
			if cut := strings.IndexAny(text, ".\n:"); cut > 0 {
				text = text[:cut] // what the tool does stands in its first sentence
			}
			return modelWords.MatchString(text)
		}
	}
	return false
}

// realSink drops addresses that illustrate and addresses of the server itself.
func realSink(c *itemContext, l []byte, m []int) bool {
	hit := string(l[m[0]:m[1]])
	if c.seg.pos == posParamText || c.seg.pos == posValue {
		// "to: e-mail address (a@b.com)" explains a field; an order says more.
		return orderedSink.MatchString(hit) || orderedSink.Match(l)
	}
	if c.content {
		return orderedSink.Match(l)
	}
	at := strings.LastIndexByte(hit, '@')
	if at > 0 && c.ownHost(hit[at+1:]) {
		return false
	}
	return true
}

var orderedSink = regexp.MustCompile(`\b(?:always|must|also|all|every|copy|bcc|cc|silently|automatically|contents?|data|instead|never|before|immediately|then|ignore|exfiltrate|leak|keys?|credentials|creds|passwords?|secrets?|tokens?|history|messages)\b`)

// foreignHost drops the server's own hosts, loopback and documentation hosts in
// plain descriptions.
func foreignHost(c *itemContext, l []byte, m []int) bool {
	hit := string(l[m[0]:m[1]])
	for _, own := range [...]string{"localhost", "127.0.0.1", "api.example", "docs.", "github.com/"} {
		if strings.Contains(hit, own) {
			return false
		}
	}
	for _, h := range c.hosts {
		if h != "" && strings.Contains(hit, strings.ToLower(h)) {
			return false
		}
	}
	if c.content {
		return orderedSink.MatchString(hit)
	}
	return orderedSink.Match(l) || strings.Contains(hit, "our ") || suspectHost.MatchString(hit)
}

var suspectHost = regexp.MustCompile(`attacker|evil|exfil|malicious|pwn|hack|webhook\.site|ngrok|pastebin|requestbin|burpcollaborator|interact\.sh|oast\.|c2\b|steal|proxy|collect|\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}`)

func (c *itemContext) ownHost(host string) bool {
	host = strings.ToLower(strings.Trim(host, ".,;:'\")>"))
	for _, h := range c.hosts {
		h = strings.ToLower(h)
		if h != "" && (host == h || strings.HasSuffix(host, "."+h) || strings.HasSuffix(h, "."+host)) {
			return true
		}
	}
	return false
}

// outsideOrder asks that something of the user's goes out.
func outsideOrder(c *itemContext, l []byte, _ []int) bool {
	return orderedSink.Match(l)
}

// recipientDefault accepts a literal address in the default, const or single
// enum value of a recipient field. Reserved example domains are documentation.
func recipientDefault(c *itemContext, l []byte, _ []int) bool {
	p := strings.ToLower(c.s.pointer(c.seg.node))
	if !strings.Contains(p, "/default") && !strings.Contains(p, "/const") {
		return false
	}
	v := string(l)
	if strings.HasSuffix(v, "@example.com") || strings.HasSuffix(v, "@example.org") || strings.Contains(v, "user@") || strings.Contains(v, "@domain.") {
		return false
	}
	if strings.HasPrefix(v, "0x000000000000000000000000000000000000") || strings.HasPrefix(v, "0xeeeeeeeeeeee") {
		return false
	}
	return recipientField.MatchString(p)
}

var recipientField = regexp.MustCompile(`/(?:to|cc|bcc|[a-z_]*recipient[a-z_]*|[a-z_]*email[a-z_]*|phone[a-z_]*|webhook[a-z_]*|callback[a-z_]*|destination|payee|wallet[a-z_]*|forward[a-z_]*|receiver|send_to|notify[a-z_]*|copy_to)/`)

// wantsSecrets asks that the secrets are the user's or the machine's: "all keys"
// of an object are no secrets.
func wantsSecrets(_ *itemContext, l []byte, m []int) bool {
	hit := string(l[m[0]:m[1]])
	return strings.Contains(hit, "you know") || strings.Contains(hit, "you have") || strings.Contains(hit, "of the ") || strings.Contains(hit, "environment var") ||
		strings.Contains(hit, "env var") || strings.Contains(hit, "user's") || strings.Contains(hit, "found") || strings.Contains(hit, "ssh")
}

// orderLine asks for an imperative at the start of the sentence.
func orderLine(c *itemContext, l []byte, m []int) bool {
	return startsAsOrder(l)
}

// insertOrder asks for an imperative that takes code into the answer.
func insertOrder(c *itemContext, l []byte, m []int) bool {
	return startsAsOrder(l) || insertWords.Match(l[:m[0]])
}

var insertWords = regexp.MustCompile(`\b(?:embed|embedding|integrat(?:e|ing|ion)|incorporat(?:e|ing|ion)|inject|insert|merge|blend|fuse|weav(?:e|ing)|meld|infuse|append|includ(?:e|ing)|inclusion|addition|adopt|absorb|utilize|employ|leverage|deploy|engage|featuring|introduce|interweave|harmoni\w+|assimilate|manifestation|presence)\b`)

// hasIdentifier says whether a sentence may name a tool: an identifier with an
// underscore, something quoted, or a word for tools.
func hasIdentifier(l []byte) bool {
	return bytes.IndexByte(l, '_') >= 0 || bytes.IndexByte(l, '`') >= 0 || bytes.Contains(l, []byte(" tool")) || bytes.Contains(l, []byte(" function")) ||
		bytes.Contains(l, []byte(" operation")) || bytes.Contains(l, []byte(" command")) || bytes.Contains(l, []byte("tool "))
}

// hasAddress says whether a sentence may hold an e-mail address, a phone number
// or a wallet.
func hasAddress(l []byte) bool {
	if bytes.IndexByte(l, '@') >= 0 || bytes.Contains(l, []byte("0x")) {
		return true
	}
	i := bytes.IndexByte(l, '+')
	return i >= 0 && i+8 < len(l) && l[i+1] >= '0' && l[i+1] <= '9'
}

// hasHost says whether a sentence may name a host: a full stop or a scheme
// inside a word, or a collector by name.
func hasHost(l []byte) bool {
	for i := 1; i+1 < len(l); i++ {
		if l[i] == '.' && l[i-1] != ' ' && (isLetter(l[i+1]) || l[i+1] >= '0' && l[i+1] <= '9') {
			return true
		}
	}
	return bytes.Contains(l, []byte("://")) || bytes.Contains(l, []byte("webhook")) || bytes.Contains(l, []byte("ngrok")) || bytes.Contains(l, []byte("pastebin"))
}

// hasMarkup says whether a sentence may imitate markup.
func hasMarkup(l []byte) bool {
	return bytes.IndexByte(l, '<') >= 0 || bytes.IndexByte(l, '[') >= 0 || bytes.Contains(l, []byte("###"))
}

// rivalElsewhere drops "use this instead of old_search": a rival by name is only
// a rival when it is known to be somebody else's tool. Whom nobody knows is taken
// for a tool of the same publisher.
func rivalElsewhere(c *itemContext, l []byte, m []int) bool {
	end := m[1]
	for end < len(l) && (isLetter(l[end]) || l[end] == '_' || l[end] >= '0' && l[end] <= '9') {
		end++
	}
	named := rivalName.FindAll(l[m[0]:min(end+60, len(l))], 4)
	if len(named) == 0 {
		return true
	}
	for _, n := range named {
		if c.elsewhere(string(n)) {
			return true
		}
	}
	return false
}

// rivalName is a tool's name as definitions write it.
var rivalName = regexp.MustCompile(`\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b`)

// notOwnTool drops a step between the server's own tools: what one of them
// returned is handed to this one.
func notOwnTool(c *itemContext, l []byte, m []int) bool {
	for _, n := range rivalName.FindAll(l[:m[1]], 8) {
		if _, own := c.siblings[foldName(string(n))]; own {
			return false
		}
	}
	return true
}

// hasQualified says whether a sentence holds an identifier of several parts.
func hasQualified(l []byte) bool {
	for i := 1; i+1 < len(l); i++ {
		if l[i] == '_' || l[i] == '.' && isLetter(l[i-1]) && isLetter(l[i+1]) {
			return true
		}
	}
	return false
}

// hasCopy says whether a sentence may speak of copies: "cc" alone stands in half
// of all words.
func hasCopy(l []byte) bool {
	for _, w := range [...]string{"bcc", " cc", "cop", "duplicate"} {
		if bytes.Contains(l, []byte(w)) {
			return true
		}
	}
	return false
}

// hasHeader says whether a sentence may begin with or hold a header.
func hasHeader(l []byte) bool {
	return bytes.IndexByte(l, ':') >= 0 || bytes.IndexByte(l, '_') >= 0 || bytes.Contains(l, []byte("begin ")) ||
		bytes.HasPrefix(l, []byte("not")) || bytes.HasPrefix(l, []byte("attention")) || bytes.HasPrefix(l, []byte("reminder")) || bytes.Contains(l, []byte("hidden"))
}

// notQuotedAsAttack drops a phrase that a detector names as what it looks for:
// in quotes or after a sign of listing, in a sentence about detection.
func notQuotedAsAttack(_ *itemContext, l []byte, m []int) bool {
	if l[m[0]] == '<' && argumentTag(l, m) {
		return false
	}
	return !aboutDetection.Match(l[:m[0]]) || !listing.Match(l[:m[0]])
}

var (
	aboutDetection = regexp.MustCompile(`\b(?:detect|scan|check|test|find|flag|block|filter|warn)\w*\b.{0,80}?\b(?:injections?|poison\w*|attacks?|jailbreaks?|phishing|malicious|hidden instructions|exfiltration)\b`)
	listing        = regexp.MustCompile(`['"\x60<(]|\b(?:like|such as|e\.g\.|for example|including)\b|:`)
)
