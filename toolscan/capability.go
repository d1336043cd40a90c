package toolscan

import (
	"strings"

	"github.com/kidoban/kidoban"
)

// Capability labels what a tool can do, for policy. None is malicious.
type Capability string

// The capabilities.
const (
	CapRead        Capability = "read"
	CapWrite       Capability = "write"
	CapDestructive Capability = "destructive"
	CapExec        Capability = "code_execution"
	CapMessage     Capability = "messaging"
	CapPayment     Capability = "payment"
	CapNetwork     Capability = "open_world" // fetches or sends to places the caller names
	CapPrivate     Capability = "private_data"
	CapOffensive   Capability = "offensive" // says openly that it attacks something
)

// Words carry bits; a capability is a verb, or a verb with its object.
type wordBits uint16

const (
	wDelete wordBits = 1 << iota
	wRun
	wCode
	wSend
	wMessage
	wPay
	wMoney
	wFetch
	wWeb
	wWrite
	wPrivate
	wRead
	wAttack
)

var capabilityWords = wordLists(map[wordBits]string{
	wDelete:  `delete remove drop destroy purge wipe erase truncate terminate uninstall revoke kill overwrite deletes removes drops`,
	wRun:     `execute run eval evaluate executes runs`,
	wCode:    `command commands code script scripts shell bash python javascript terminal powershell sql`,
	wSend:    `send post publish reply forward message email tweet notify comment sends posts publishes`,
	wMessage: `email emails message messages sms dm channel chat slack tweet notification comment whatsapp telegram issue mail discord`,
	wPay:     `pay transfer charge refund checkout purchase buy swap trade withdraw sell stake`,
	wMoney:   `money funds amount payment card wallet token tokens order usd eth stripe invoice crypto sol`,
	wFetch:   `fetch crawl scrape browse navigate download open visit request http search`,
	wWeb:     `url urls webpage webpages website websites web internet page pages link links http online`,
	wWrite:   `create update write edit set add insert modify upload save put patch append rename move commit push merge install deploy enable disable upsert import assign start stop restart creates updates writes adds`,
	wPrivate: `emails inbox messages calendar contacts file files document documents notes database repository repositories private customer customers orders transactions password secret credentials history drive memory issue issues chats`,
	wRead:    `get list read search fetch query find show describe retrieve view lookup check count gets lists reads retrieves`,
	wAttack:  `exfiltrate exfiltrates exfil exploit exploits backdoor keylogger keylog malware ransomware phishing privesc bruteforce rootkit botnet steal steals crack cracks spoof hijack impersonate poison injection payload persistence c2 cmdi recon evade dumper malicious`,
})

func wordLists(lists map[wordBits]string) map[string]wordBits {
	out := map[string]wordBits{}
	for b, words := range lists {
		for w := range set(words) {
			out[w] |= b
		}
	}
	return out
}

// capabilities reads the item's name and the first words of its description.
func (c *itemContext) capabilities() []Capability {
	var w wordBits
	for _, p := range nameParts(c.name) {
		w |= capabilityWords[p]
	}
	for _, seg := range c.s.segs {
		if seg.pos == posDescription {
			w |= wordsOf(c.s.text[seg.start:min(seg.end, seg.start+200)])
			break
		}
	}
	var out []Capability
	add := func(all wordBits, cap Capability) {
		if w&all == all {
			out = append(out, cap)
		}
	}
	add(wRead, CapRead)
	add(wWrite, CapWrite)
	add(wDelete, CapDestructive)
	add(wRun|wCode, CapExec)
	add(wSend|wMessage, CapMessage)
	add(wPay|wMoney, CapPayment)
	add(wFetch|wWeb, CapNetwork)
	add(wPrivate, CapPrivate)
	add(wAttack, CapOffensive)
	return out
}

func wordsOf(t []byte) wordBits {
	var w wordBits
	var buf [24]byte
	n := 0
	for i := 0; i <= len(t); i++ {
		if i < len(t) && isLetter(t[i]) {
			if n < len(buf) {
				buf[n] = lower(t[i])
			}
			n++
			continue
		}
		if n > 0 && n <= len(buf) {
			w |= capabilityWords[string(buf[:n])]
		}
		n = 0
	}
	return w
}

// lyingAnnotation finds a tool that calls itself read-only, or not destructive,
// and says in its name that it is.
func (c *itemContext) lyingAnnotation(out []Finding) []Finding {
	if c.s.readOnly != 1 && c.s.destructive != 0 {
		return out
	}
	verb := writeVerb(c.name)
	if verb == "" || c.s.readOnly != 1 && !destructiveVerbs[verb] {
		return out
	}
	claim := "readOnlyHint is true"
	if c.s.readOnly != 1 {
		claim = "destructiveHint is false"
	}
	return append(out, Finding{Rule: "annotation-lie", Family: FamilyCapability, Tier: Label, Severity: kidoban.Medium, Path: "/annotations", Excerpt: Visible(c.name, 80),
		Reason: claim + ", but the tool's name says " + verb + ".", Fix: "Correct the annotation; policy that trusts it would let the call through unasked."})
}

// writeVerb returns the changing verb a tool name starts with, if it does.
func writeVerb(name string) string {
	for _, part := range nameParts(name) {
		if writeVerbs[part] || destructiveVerbs[part] {
			return part
		}
		if readVerbs[part] {
			return ""
		}
	}
	return ""
}

// WriteVerb returns the changing verb that a tool's name begins with; "" when it
// begins with a reading one or none that is known.
func WriteVerb(tool string) string { return writeVerb(tool) }

// ReadVerb tells whether the first known verb of a tool's name is a reading one.
func ReadVerb(tool string) bool {
	for _, part := range nameParts(tool) {
		switch {
		case readVerbs[part]:
			return true
		case writeVerbs[part], destructiveVerbs[part]:
			return false
		}
	}
	return false
}

var (
	writeVerbs       = set(`create update write edit add insert upload send post publish push merge deploy install rename move set patch execute run pay transfer purchase`)
	destructiveVerbs = set(`delete remove drop destroy purge wipe erase truncate terminate uninstall revoke kill`)
	readVerbs        = set(`get list read search fetch query find show describe view check is has count can validate preview estimate simulate explain analyze generate calculate`)
)

// nameParts splits snake_case, kebab-case and camelCase.
func nameParts(name string) []string {
	var parts []string
	start := 0
	cut := func(i int) {
		if i > start {
			parts = append(parts, strings.ToLower(name[start:i]))
		}
	}
	for i := 0; i < len(name) && i < 128; i++ {
		switch c := name[i]; {
		case c == '_' || c == '-' || c == '.' || c == '/' || c == ' ':
			cut(i)
			start = i + 1
		case c >= 'A' && c <= 'Z' && i > start && (name[i-1] < 'A' || name[i-1] > 'Z'):
			cut(i)
			start = i
		}
	}
	cut(min(len(name), 128))
	return parts
}
