package toolscan

import "github.com/kidoban/kidoban"

// contentRules see what only makes sense in a text that came back from a tool:
// it speaks to the reader's assistant although it is somebody's data.
var contentRules = []rule{
	{id: "reply-order", family: FamilyInstruction, group: "replyorder", weight: 0.8, severity: kidoban.High,
		where: contents,
		re:    `\b(?:in|to|of|with|within|into|on|for) (?:your|the) (?:own |final |next )?(?:response|reply|answer|output)s?\b|\b(?:modify|enhance|augment|render|alter|rewrite|encode|scramble|translate|end|begin|start|provide|write|give|format|reverse|convert|craft|finish|conclude|sprinkle|infuse) (?:your|the) (?:response|reply|answer|output|message)s?\b|\byour (?:response|reply|answer)'s\b|\b(?:your|the) (?:solution|implementation|codebase|algorithm|code|project|script|answer|response|reply|elucidation)\b`,
		check: orderLine,
		why:   "Somebody's data tells the assistant how to answer.", fix: fixHold},
	{id: "code-insertion", family: FamilyInstruction, group: "codeinsert", weight: 1, severity: kidoban.High,
		where: contents,
		re:    `\b(?:following|subsequent|below|next|given)\b(?: \w+){0,2}? (?:code|snippet|script|excerpt|block|segment|section)(?: \w+)?\b`,
		check: insertOrder,
		why:   "Somebody's data has the assistant build a code snippet into its answer.", fix: fixHold},
	{id: "agent-marker", family: FamilyInstruction, group: "marker", weight: 0.8, severity: kidoban.High,
		where:  contents,
		re:     `\b(?:hidden[_ ]trigger|backdoor[_ ]\w+|data[_ ]exfiltration\w*|model[_ ]manipulation|adversarial[_ ]pattern|trigger backdoor|unicode[_ ]poisoning|steganographic (?:encoding|payload|instruct\w*)|(?:zero[_ ]width|invisible)[_ ]characters? (?:encod\w+|pattern\w*|for)|system[_ ]override|security[_ ]bypass|priority[_ ]instruction)\b`,
		unless: defensive,
		why:    "It carries the marks of planted text.", fix: fixHold},
	{id: "asks-the-assistant", family: FamilyInstruction, group: "asks", weight: 0.8, severity: kidoban.High,
		where:  contents,
		re:     `\b(?:dear |hey |hi |attention,? |note to )(?:ai|assistant|agent|llm|chatgpt|claude|copilot|gemini|language model|bot)\b|\b(?:if|when|since|as) you are an? (?:ai|llm|language model|assistant|agent|automated)\b|\b(?:ai|llm) (?:assistant|agent|model)s? (?:reading|processing|summari[sz]ing|parsing|viewing|must|should|please)\b`,
		unless: defensive,
		why:    "Somebody's data speaks to the assistant.", fix: fixHold},
}
