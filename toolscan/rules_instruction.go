package toolscan

import (
	"bytes"

	"github.com/kidoban/kidoban"
)

// defensive is text about attacks: detectors, documentation, warnings.
const defensive = `\b(?:check(?:s|ing)? for|patterns?\b|attempts?\b|attackers? \w+|educational|detect(?:s|ed|ing|ion)?|scan(?:s|ner|ning)?|prevent(?:s|ion|ing)?|protect(?:s|ion|ing)?|defen[dcs]\w*|mitigat\w+|attackers? (?:may|might|can|could|often)|malicious (?:users?|prompts?|content|instructions?)|prompt[- ]injections?|injection attempts?|tests? (?:a |an |the |your )?(?:guardrails?|filters?|defen[cs]es?)|list of attacks|red[- ]?team\w*|tool poisoning|for poisoning|jailbreak (?:attempts?|detection)|may contain|might contain|such as '|best practices|never trust|don't blindly)`

// forbidding is a sentence that forbids what the rule looks for.
const forbidding = `|\b(?:never|do not|don't|must not|mustn't|cannot|can't|should not|not possible to|no way to|impossible to|without being able to)\b(?: \w+)? (?:bypass|disable|skip|ignore|circumvent|override|turn off|remove|suspend|lift)`

// instructionRules: imperatives addressed to the model about things outside the
// tool they stand in.
var instructionRules = []rule{
	{id: "override-instructions", family: FamilyInstruction, group: "override", weight: 1.4, severity: kidoban.Critical,
		re:     `\b(?:ignor(?:e|es|ing)|disregard(?:s|ing)?|forget(?:ting)?|overrid(?:e|es|ing)|bypass(?:es|ing)?|do(?: no|n')t follow|never follow|stop following|set aside|supersed(?:e|es|ing)|abandon|disobey|overrul(?:e|es)|discard|erase|nullify|invalidate|cancel)\b.{0,30}?\b{prior}\b.{0,30}?\b(?:instructions?|prompts?|guidelines?|guardrails?|directives?|programming|orders|safety|training data|system (?:message|prompt)|ethics|alignment|what you were told)\b`,
		unless: defensive,
		why:    "It tells the model to set aside what it was told before.", fix: fixDoNotConnect},
	{id: "override-rules", family: FamilyInstruction, group: "override", weight: 0.5, severity: kidoban.High,
		re:     `\b(?:ignor(?:e|ing)|disregard(?:ing)?|forget(?:ting)?|overrid(?:e|es|ing)|bypass(?:es|ing)?|stop following|circumvent(?:s|ing)?|supersedes?|supersed(?:e|ing)|takes? (?:precedence|priority) over|(?:higher|highest|absolute|top) priority)\b.{0,60}?\b(?:instructions?|guidelines?|guardrails?|directives?|restrictions?|policies|constraints?|safety|protocols?|rules)\b`,
		unless: defensive,
		why:    "It claims to stand above rules the model was given.", fix: fixRemoveInstruction},
	{id: "precedence-claim", family: FamilyInstruction, group: "override", weight: 1, severity: kidoban.High,
		re:     `\b(?:this|these|the following)\b.{0,40}?\b(?:takes? (?:absolute )?(?:precedence|priority) over|overrides?|supersedes?|outranks?|has (?:higher|the highest|absolute|top) priority)\b.{0,60}?\b(?:instructions?|rules?|polic(?:y|ies)|directives?|guidelines|prompts?|safety|security)\b`,
		unless: defensive + `|\bconfig(?:uration)?\b|\bcss\b|\bfirewall\b`,
		why:    "It claims precedence over other instructions.", fix: fixRemoveInstruction},
	{id: "protection-off", family: FamilyInstruction, group: "protection", weight: 0.6, severity: kidoban.High,
		re:     `\b{disable}\b.{0,30}?\b{protection}\b`,
		unless: defensive + forbidding + `|\b(?:returns?|fails?|error|rejected|denied) .{0,20}without\b|\bno authentication (?:is )?(?:required|needed)\b|\bwithout (?:requiring )?(?:authentication|authorization)\b`,
		why:    "It speaks of switching a protection off.", fix: fixRemoveInstruction},
	{id: "protection-off-all", family: FamilyInstruction, group: "protection", weight: 1, severity: kidoban.High,
		re:     `\b(?:bypass|disable|ignore|override|suspend|turn off|deactivate|lift)(?:es|s|d|ed|ing)?\b(?: \w+){0,3}? (?:(?:all|any|every|previous|the|content|subsequent|all subsequent|its|your) )*(?:safety|security|content|access|moderation|sanitization|human|ethical)[ -](?:restrictions?|checks?|filter(?:s|ing)?|validations?|controls?|guidelines?|polic(?:y|ies)|protocols?|measures?|rules?|constraints?|safeguards?|sanitization|approval|review)\b`,
		unless: defensive + forbidding,
		why:    "It tells the model or the tool to drop a safety or security control.", fix: fixDoNotConnect},
	{id: "protection-gone", family: FamilyInstruction, group: "protection", weight: 0.7, severity: kidoban.High,
		re:     `\b{protection}\b.{0,30}?\b(?:(?:is|are|has been|have been|now|temporarily)\s)*(?:disabled|suspended|lifted|deactivated|off|bypassed|removed|not apply|no longer apply)\b|\bvalidation mode: ?disabled\b`,
		unless: defensive,
		why:    "It says a protection no longer holds.", fix: fixRemoveInstruction},
	{id: "unlimited-power", family: FamilyInstruction, group: "unlimited", weight: 0.4, severity: kidoban.Medium,
		re:     `\b{unlimited}\b`,
		unless: defensive + `|\brequires?\b|\bmust (?:have|be)\b|\bneeds?\b|\bonly\b`,
		why:    "It grants powers in words: elevated, unrestricted, trusted without checks.", fix: fixRemoveInstruction},
	{id: "role-tag", family: FamilyInstruction, group: "roletag", weight: 0.6, severity: kidoban.High,
		pre:    hasMarkup,
		re:     `{roletag}`,
		unless: defensive,
		check:  suspiciousTag,
		why:    "It imitates the markup of a chat template or a system message.", fix: fixDoNotConnect},
	{id: "role-header", family: FamilyInstruction, group: "roletag", weight: 0.6, severity: kidoban.High,
		pre:    hasHeader,
		re:     `{rolehead}`,
		unless: defensive,
		why:    "It imitates a system message or addresses the model by a header.", fix: fixDoNotConnect},
	{id: "chat-template", family: FamilyInstruction, group: "roletag", weight: 1.1, severity: kidoban.Critical,
		re:  `<\|/?(?:system|im_start|im_end|assistant|user|developer|priority|endoftext)\|>|\[/?inst\]|<</?sys>>|</?system(?:[ _-](?:prompt|message|instructions?|override))?>|### ?(?:system|instruction)s?:`,
		why: "It carries the control tokens of a chat template, which no description needs.", fix: fixDoNotConnect},
	{id: "new-identity", family: FamilyInstruction, group: "identity", weight: 0.5, severity: kidoban.High,
		re:     `\b(?:you are (?:now|no longer)|you're now|from now on|act as ?:|your new (?:role|task|instructions?|goal|objective)|new (?:system )?instructions?|enter(?:ing)? (?:developer|debug|admin|god|jailbreak) mode|jailbreak[_ ]?mode|developer mode|you will now|assume the (?:role|identity)|pretend (?:to be|you)|you are dan|do anything now)\b`,
		unless: defensive,
		why:    "It gives the model another role or a new task.", fix: fixRemoveInstruction},
	{id: "comment-order", family: FamilyHidden, group: "comment", weight: 1, severity: kidoban.High,
		re:     `(?:<!--|\[//\]: ?# ?\().{0,400}?\b(?:system|ignore|always|never|must|read|send|do not|don't|override|bypass|instruction|execute|reveal|exfiltrate|forward|include|respond|say|call|trigger|priority|admin|when (?:the )?user)\b`,
		unless: defensive,
		why:    "An HTML comment, which a page does not show, gives orders.", fix: fixDoNotConnect},
	{id: "run-first", family: FamilyInstruction, group: "precedence", weight: 0.4, severity: kidoban.Medium,
		where:  definitions,
		unless: `\bof this (?:server|service|session|mcp)\b`,
		re:     `\b(?:must|always|required|mandatory|needs? to|has to|should)\b.{0,40}?\b(?:call|us|invok|run|execut|consult)(?:e|ed|ing|led|s)?\b.{0,40}?\b(?:first|immediately|at the (?:start|beginning)|before (?:any|every|all|other|each|using any|calling any|responding|answering|proceeding|anything)|on every|for every|every time|each time)\b`,
		why:    "It demands to be called before or with everything else.", fix: fixNeutral},
	{id: "before-everything", family: FamilyInstruction, group: "precedence", weight: 0.55, severity: kidoban.High,
		where:  definitions,
		re:     `\b(?:before|prior to|ahead of|in advance of)\b(?: \w+){0,2}? (?:us|call|invok|execut|run|perform|access|mak|process|do|send|writ|read|modify|creat|delet)\w*(?: \w+){0,1}? {othertool}|\bbefore (?:any|every|all) (?:other )?(?:file |tool |database |network |system |user |write |read )*(?:tools?|operations?|actions?|requests?|calls?|commands?|quer(?:y|ies)|messages?|responses?|access)\b`,
		unless: `\b(?:ask|gather|collect|obtain|get|confirm|check|verify)\b.{0,60}?\b(?:from|with|by) (?:the )?users?\b|\bask (?:the )?users?\b|\bof this (?:server|service|session|mcp)\b`,
		why:    "It puts itself before other tools' calls.", fix: fixNeutral},
	{id: "read-then-pass", family: FamilyInstruction, group: "readpass", weight: 0.8, severity: kidoban.High,
		where: definitions,
		re:    `\b(?:read|open|access|load|retrieve|fetch|cat|get|collect|find|copy)\b.{0,60}?\b(?:and|then)\b.{0,20}?\b(?:pass|include|put|send|provide|place|append|attach|insert|supply|add|encode|store|write|use)\b.{0,30}?\b(?:its|the|their|all)? ?(?:contents?|data|values?|text|output|results?)\b.{0,40}?\b(?:as|in|into|to|with|via|through)\b`,
		check: notOwnTool,
		why:   "It has the model read something and hand it over.", fix: fixDoNotConnect},
	{id: "command-prefix", family: FamilyInstruction, group: "command", weight: 0.9, severity: kidoban.Critical,
		where: definitions,
		re:    `\b(?:prefix(?:ed)?|prepend(?:ed)?|append(?:ed)?|include|always run|first run|must run|also run|then run|execute|before .{0,30}run|precede[sd]?|start(?:s|ed)? with)\b.{0,60}?{command}`,
		why:   "It has the model add or run a shell command.", fix: fixDoNotConnect},
	{id: "code-demand", family: FamilyInstruction, group: "command", weight: 0.8, severity: kidoban.High,
		where: definitions,
		re:    `\b(?:code|scripts?|files?|commands?|programs?|output) (?:you|that you|the (?:assistant|model|agent))\b.{0,30}?\b(?:write|generate|produce|create|run|output)\w*.{0,40}?\b(?:must|should|has to|always|needs? to)\b.{0,20}?\b(?:contain|include|start|begin|end|import|use|call)`,
		why:   "It dictates what the code or the commands of the assistant contain.", fix: fixDoNotConnect},
	{id: "every-command", family: FamilyInstruction, group: "command", weight: 0.8, severity: kidoban.High,
		re:    `\b(?:all|every|each|any)\b(?: \w+){0,2} commands?\b.{0,40}?\b(?:must|should|need to|have to)\b.{0,30}?\b(?:include|start|begin|contain|use|be prefixed|be preceded|run)`,
		where: definitions,
		why:   "It lays down what every command of the user must contain.", fix: fixDoNotConnect},
	{id: "reply-tampering", family: FamilyInstruction, group: "reply", weight: 0.5, severity: kidoban.Medium,
		where: definitions,
		re:    `\b(?:always|must|every time|never fail to|be sure to|make sure to|in every)\b.{0,30}?\b(?:say|respond (?:with|by)|reply with|answer with|tell (?:the )?users?|end (?:your|every|each)|begin (?:your|every|each)|append .{0,30}to (?:your|every|each|all)|include .{0,40}in (?:your|every|each|all) (?:response|repl|answer|output|message|summar))`,
		why:   "It dictates what the model says to the user.", fix: fixRemoveInstruction},
	{id: "unconditional", family: FamilyInstruction, group: "unconditional", weight: 0.6, severity: kidoban.Medium,
		where:  definitions,
		re:     `\b(?:no matter (?:what|how|which)|regardless of|irrespective of|whatever the (?:user|input|question)|even (?:if|when|without) (?:the user|not asked|it is not|irrelevant|unrelated|calling))`,
		unless: `\b(?:returns?|works?|behaves?|applies|includ(?:es|ed)|shown|listed|sorted|counted)\b.{0,60}?\b(?:regardless of|irrespective of|no matter)\b`,
		check:  unconditionalOrder,
		why:    "It wants to be obeyed whatever the user asked.", fix: fixNeutral},
	{id: "even-without-calling", family: FamilyInstruction, group: "unconditional", weight: 1, severity: kidoban.High,
		where: definitions,
		re:    `\beven (?:if|when|without) (?:this tool (?:is|was) |ever |actually |the tool is )?(?:not |never )?(?:calling|invoking|using|called|invoked|used)\b|\binstructions?\b.{0,40}\bwithout (?:calling|invoking|using) (?:this|the) (?:tool|function)\b|\b(?:apply|applies|follow|obey)\b.{0,40}\b(?:even (?:when|if)|whether or not)\b.{0,20}\btool\b`,
		why:   "It wants its text obeyed without the tool being called: a line jump.", fix: fixDoNotConnect},
	{id: "inert-tool", family: FamilyInstruction, group: "inert", weight: 0.5, severity: kidoban.Medium,
		where:  definitions,
		re:     `\b(?:do not|don't|never|should not|should never|must not|must never|not to|never needs? to)\b.{0,8}?\b(?:use|call|invoke|run|be (?:used|called|invoked|run))\b(?: this (?:tool|function)|[.!]?$| directly by users?| by users?| during normal)`,
		unless: `deprecat|for other|unless|if |when |twice|more than|multiple|this (?:tool|function) (?:to|for|with|as|in|on)\b`,
		why:    "A tool that must not be called is there only to be read.", fix: "Remove the tool, or say what it is for."},
	{id: "inert-only", family: FamilyInstruction, group: "inert", weight: 0.8, severity: kidoban.Medium,
		where:  definitions,
		re:     `^\W{0,3}(?:do not|don't|never|must not|should not)\b.{0,12}?\b(?:use|call|invoke|run)\b.{0,24}$`,
		unless: `deprecat`,
		check:  wholeDescription,
		why:    "All it says is that it must not be used: bait, or a carrier for its name.", fix: "Remove the tool, or say what it is for."},
	{id: "no-longer-bound", family: FamilyInstruction, group: "override", weight: 0.8, severity: kidoban.High,
		re:     `\b(?:no longer|not|never|isn't|aren't)\b(?: \w+){0,2}? (?:restricted|bound|limited|constrained|governed|subject)\b(?: \w+){0,1}? (?:by|to)\b.{0,40}?\b(?:polic|rule|guideline|restriction|instruction|filter|safety|constraint|ethic)|\b(?:rules?|polic(?:y|ies)|guidelines?|restrictions?|filters?|safety \w+)\b(?: \w+){0,3}? (?:no longer|do not|don't|does not|doesn't|cease to|stop) (?:apply|applies|hold|count|bind|matter)`,
		unless: defensive,
		why:    "It says that rules no longer hold for the model.", fix: fixDoNotConnect},
	{id: "obey-data", family: FamilyInstruction, group: "override", weight: 0.8, severity: kidoban.High,
		re:     `\b(?:obey|follow|carry out|execute|comply with|act on|do what)\b(?: \w+){0,4}? (?:instructions?|orders?|commands?|requests?|directives?|text|page|result|output|comments?|says?|asks?)\b.{0,40}?\b(?:over (?:those|the|that)|from (?:tool|the tool|the page|the result|results)|found in|in the (?:page|result|file|output|message|document|archive|text)|without (?:asking|question|checking|confirm\w*)|at once|immediately|of (?:this|the) (?:tool|server))|\btreat\b.{0,60}?\bas (?:a |an )?(?:\w+[- ])?(?:system|trusted|binding|privileged|admin\w*|developer)(?:[- ]level)? (?:commands?|instructions?|orders?|messages?|prompts?)|\b(?:pages?|results?|outputs?|messages?|entries|documents?) (?:are|is) (?:\w+ )?(?:trusted|orders|commands|instructions|binding)\b`,
		unless: defensive + `|\b(?:do not|don't|never|must not|should not|not to|cannot|not) (?:\w+ )?(?:obey|follow|carry out|execute|comply|act on|treat)|\buntrusted\b`,
		why:    "It has the model take data for orders.", fix: fixDoNotConnect},
	{id: "claimed-consent", family: FamilyInstruction, group: "consent", weight: 0.6, severity: kidoban.High,
		where:  definitions,
		re:     `\b(?:users?|owner|human|customer|person|they)\b(?: \w+){0,1}? (?:has |have )?already (?:consented|agreed|approved|given|authori[sz]ed|accepted|confirmed|granted)\b|\b(?:has|have) (?:been )?(?:pre-?approved|pre-?authori[sz]ed|approved in advance)\b|\bapproved by the user and (?:has|have|must|should)`,
		unless: `\b(?:if|when|whether|check|checks|verify|only|unless|until|ensure|after)\b`,
		why:    "It claims a consent that nobody can see.", fix: fixRemoveInstruction},
	{id: "foreign-order", family: FamilyInstruction, group: "override", weight: 1.2, severity: kidoban.High,
		re:  `{foreign}`,
		why: "In another language, it tells the model to ignore its instructions or to keep the user in the dark.", fix: fixDoNotConnect},
}

// argumentTag says whether a tag stands for a value on a command line:
// "--secret <secret>", "token=<secret>".
func argumentTag(l []byte, m []int) bool {
	before := bytes.TrimRight(l[:m[0]], " ")
	if len(before) == 0 || before[len(before)-1] == '=' {
		return len(before) > 0
	}
	word := before[bytes.LastIndexByte(before, ' ')+1:]
	return len(word) > 2 && word[0] == '-' && word[1] == '-' && isLetter(word[2])
}

// suspiciousTag drops tags that honest markup uses.
func suspiciousTag(c *itemContext, l []byte, m []int) bool {
	if argumentTag(l, m) {
		return false
	}
	switch tag := string(l[m[0]:m[1]]); {
	case c.content && (len(tag) < 4 || tag == "<user>" || tag == "<s>" || tag == "</s>"):
		return false
	case tag == "<s>" || tag == "</s>" || tag == "<user>" || tag == "<model>" || tag == "<rule>" || tag == "<rules>" || tag == "<context>" || tag == "<prompt>" || tag == "<admin>" || tag == "<internal>":
		return false
	}
	return true
}

// unconditionalOrder asks for an order about this tool or the reply beside
// "no matter": "works regardless of case" is no order.
func unconditionalOrder(_ *itemContext, l []byte, _ []int) bool {
	return orderWords.Match(l)
}
