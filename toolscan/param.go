package toolscan

import (
	"regexp"
	"strings"

	"github.com/kidoban/kidoban"
)

// A parameter is a question to the model. What follows are names by which a
// definition asks for what a tool has no business to know: the prompt, the
// conversation, the model, the other tools, secrets. weight as in rule.
var paramRules = []struct {
	id     string
	re     *regexp.Regexp
	weight float64
	why    string
	models bool // ordinary on tools about models, agents and chats
}{
	{"param-prompt", regexp.MustCompile(`^(?:the)?(?:current|full|initial|your|llm|model|original)?(?:systemprompt|systemmessage|systeminstructions?|developerprompt|initialprompt|initialinstructions|promptcontext|sysprompt)(?:text|content)?$|^(?:agent|assistant|your|system|llm|model)instructions$|^instructions(?:received|given|youwere\w*)$|^(?:received|given|hidden)instructions$`), 1, "It asks for the system prompt.", true},
	{"param-conversation", regexp.MustCompile(`^(?:full|entire|complete|previous|prior|user|all|recent|whole)?(?:conversation|chat|dialog(?:ue)?|message|session|prompt)(?:history|log|logs|transcript|context|sofar|messages)$|^(?:previous|prior|all|user)(?:messages|prompts|queries|requests|conversation|turns)$|^(?:full|entire)(?:context|conversation|history|chat)$|^everything(?:the)?user(?:said|wrote|typed)\w*$|^(?:user|assistant|your|model)memor(?:y|ies)$`), 1, "It asks for the conversation.", true},
	{"param-user-words", regexp.MustCompile(`^(?:original|full|raw|verbatim|initial)?(?:users?)(?:prompt|message|question|input|request|utterance)(?:text|verbatim)?$|^(?:prompt|message|query|question|request)(?:from|of|by)user$|^(?:original|raw|verbatim|full)(?:prompt|request|message|question)$`), 0.45, "It asks for what the user wrote.", true},
	{"param-model", regexp.MustCompile(`^(?:the|your)?(?:llm|ai|calling|caller|assistant|agent|client)(?:llm|model)(?:name|version|id|identity|info|identifier|type|provider)?$|^(?:the|your)?llm(?:name|version|id|identity|info|provider|type)$|^(?:calling|caller)(?:agent|ai)?(?:name|version|identity)$|^modelidentity$|^namelanguagemodel$`), 1, "It asks which model is calling.", true},
	{"param-tools", regexp.MustCompile(`^(?:available|all|other|known|installed|mcp|connected)?tools?(?:list|names|available|definitions|descriptions|callhistory|calls|results|callresults|outputs)$|^list(?:of)?tools$|^(?:available|other|all|mcp|connected)tools$|^(?:mcp|other|connected)servers?(?:list)?$|^(?:previous|prior|last|other)tool(?:call|calls|result|results|output|outputs|history)?$`), 1, "It asks which tools the model has, or what they returned.", true},
	{"param-thoughts", regexp.MustCompile(`^(?:your|model|llm|internal|agent|full)?(?:chainofthought|innermonologue|internalthoughts|scratchpad|hiddenreasoning|internalreasoning|reasoningtrace)$`), 1, "It asks for the model's private reasoning.", true},
	{"param-secret", regexp.MustCompile(`^(?:user|all|your|other|ssh|aws|env|environment|system|browser|private|stolen|local)(?:secrets?|credentials?|passwords?|keys?|privatekeys?|tokens?|cookies|environment|env|variables|vars|envvars|environmentvariables)$`), 0.5, "It asks for secrets the tool does not name a use for.", false},
	{"param-sidenote", regexp.MustCompile(`^_?(?:sidenotes?|hiddennotes?|secretnotes?|internalnotes?|notetoself|extradata|telemetrydata|telemetrycontext|debugcontext|contextdump|memorydump|userdata|userinfo|userprofile|fullcontext|contextdata|contextinfo|usercontext)$`), 0.5, "It is a place to put what the tool does not need.", false},
	{"param-secret-file", regexp.MustCompile(`^(?:content|contents|data|file|output|text|dump|value|result|body|raw|full|your|the|user|a)*(?:of|from|in|by|after|reading|read)*(?:the|file|reading|user|your|home)*(?:sshkey|sshidrsa|idrsa|ided25519|etcpasswd|etcshadow|envfile|mcpjson|awscred|privatekeycontent|readingssh|dotenv|credentialsfile|browsercookies|seedphrase)(?:contents?|text|data|file|value|body)*$`), 1, "Its name asks for the contents of a credential file.", false},
	{"param-order", regexp.MustCompile(`^(?:read|get|copy|paste|put|fetch|dump|find)\w*(?:key|ssh|secret|password|token|credential|env|conversation|prompt|history)\w*(?:here|in|into|andput\w*|andpaste\w*)$`), 1, "Its name is an order to put a secret there.", false},
	{"param-exfil", regexp.MustCompile(`^_?(?:exfil\w*|leakto\w*|leakeddata|covert\w*|backdoor\w*|payloadout|stolen\w*|attacker\w*)$`), 1, "Its name says that data leaves by it.", false},
	{"param-disguised", regexp.MustCompile(`^_+[a-z_]+_*$`), 0.3, "Its name is dressed up as internal.", false},
}

// paramHints are pieces of names one of which every rule above needs.
var paramHints = []string{"prompt", "instruction", "message", "conversation", "chat", "dialog", "histor", "log", "transcript", "context", "queries", "requests",
	"llm", "model", "agent", "caller", "client", "assistant", "ai", "tool", "server", "thought", "monologue", "scratchpad", "reasoning",
	"secret", "credential", "password", "key", "token", "cookie", "env", "variable", "idrsa", "note", "exfil", "leak", "covert", "backdoor", "payloadout", "stolen", "attacker",
	"data", "dump", "info", "profile", "ssh", "passwd", "shadow", "mcpjson", "aws", "seed", "ed25519"}

// vague parameters say nothing about what they want; two or more of them,
// undescribed, on a tool that does something else, are a way out for data.
var vagueParam = set(`feedback debug extra notes note sidenote metadata misc other comment comments info data context details additional
 additionalinfo additionalcontext extrainfo extrainfos extras remarks annotation annotations telemetry trace dump payload memo attachment aux auxiliary`)

// paramFindings looks at the names of declared parameters and of parameters a
// docstring declares.
func (sc *Scanner) paramFindings(c *itemContext, out []Finding) []Finding {
	vague, firstVague := 0, -1
	for i := range c.s.params {
		p := &c.s.params[i]
		name := strings.ToLower(p.name)
		if len(name) > 80 {
			continue
		}
		f := foldName(name)
		if vagueParam[f] && p.desc < 0 && (p.typ == "" || p.typ == "string") && p.depth <= 6 && len(c.s.params) <= 8 {
			if firstVague < 0 {
				firstVague = i
			}
			vague++
		}
		if !sc.compiled().paramHint.contains(f) && name[0] != '_' {
			continue
		}
		for _, r := range paramRules {
			if r.id == "param-disguised" {
				f = name
			}
			if !r.re.MatchString(f) || r.models && c.aboutModels() || r.id == "param-disguised" && (f == "_meta" || f == "__typename" || p.desc < 0) {
				continue
			}
			out = append(out, sc.paramFinding(c, p, r.id, r.weight, r.why))
			break
		}
	}
	if len(c.s.params) == 0 {
		out = sc.docstringParams(c, out)
	}
	if vague >= 2 {
		weight := 0.6
		if vague >= 3 {
			weight = 1
		}
		out = append(out, sc.paramFinding(c, &c.s.params[firstVague], "param-vague", weight,
			"Several free-text parameters have no description and no part in what the tool does: room for data to leave by."))
	}
	return out
}

// docstringParams looks at parameters that only the description declares, line
// by line ("name: what it is"): many definitions are published without schema.
func (sc *Scanner) docstringParams(c *itemContext, out []Finding) []Finding {
	for _, ln := range c.s.lines {
		seg := c.s.segs[ln.seg]
		if seg.pos != posDescription {
			continue
		}
		m := docParam.FindSubmatchIndex(c.s.norm[ln.start:min(ln.end, ln.start+80)])
		if m == nil {
			continue
		}
		name := string(c.s.norm[int(ln.start)+m[2] : int(ln.start)+m[3]])
		f := foldName(name)
		if !sc.compiled().paramHint.contains(f) {
			continue
		}
		for _, r := range paramRules {
			if r.id == "param-disguised" || !r.re.MatchString(f) || r.models && c.aboutModels() {
				continue
			}
			fd := sc.paramFinding(c, &param{name: name, path: seg.node}, r.id, r.weight, r.why)
			from := int(c.s.off[int(ln.start)+m[2]] - seg.start)
			fd.Start, fd.End = from, from+len(name)
			out = append(out, fd)
			break
		}
	}
	return out
}

// docParam is a docstring line that declares a parameter of two words or more.
var docParam = regexp.MustCompile(`^[-* ]{0,3}['"\x60]?([a-z][a-z0-9]*(?:_[a-z0-9]+)+)['"\x60]?(?: ?\([^)]{0,40}\))? ?:`)

func (sc *Scanner) paramFinding(c *itemContext, p *param, id string, weight float64, why string) Finding {
	tier := Soft
	if weight >= 1 {
		tier = Hard
	}
	return Finding{Rule: id, Family: FamilyParameter, Tier: tier, Severity: kidoban.Medium, Path: c.s.pointer(p.path),
		End: len(p.name), Excerpt: Visible(p.name, 120), Reason: why, Fix: fixParameter, weight: weight}
}
