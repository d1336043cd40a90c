package toolscan

import "strings"

// A word class is a coarse meaning. The model sees which classes meet in one
// sentence ("negation, telling, user"), which carries over to wordings it was
// never trained on, where single words do not.
type wordClass uint8

const (
	wcSecret wordClass = iota
	wcTalk
	wcUser
	wcModel
	wcOther
	wcTool
	wcCall
	wcWhen
	wcMust
	wcNot
	wcTell
	wcSend
	wcGet
	wcPut
	wcOverride
	wcSafety
	wcPraise
	wcBad
	wcPower
	wcChoose
	wcContent
	wcConsent
	wcRecipient
	wcReply
	wcReason
	wcHide
	wcAlter
	wcCommand
	// Classes of literals.
	wcAddress // e-mail, phone, wallet
	wcHost    // URL, domain, IP
	wcPath    // home or system path
	wcForeign // looks like a tool of another server
	wcParam   // names a parameter of this tool
	wcUpper   // shouted
	wcTag
	wordClasses
)

var classWords = classes(map[wordClass]string{
	wcSecret:    `credential password passwd token secret cookie pin otp ssh env environment kubeconfig netrc private wallet seed mnemonic 2fa apikey key passphrase salary sensitive confidential personal login authentication id_rsa keychain dotenv cvv ssn card phrase keyfile certificate`,
	wcTalk:      `conversation chat history prompt transcript context session dialogue thread memory message typed said wrote instructions reasoning thought thoughts chain monologue`,
	wcUser:      `user human person customer people owner anyone anybody somebody nobody them they their client operator`,
	wcModel:     `assistant model agent ai llm you your yourself chatbot claude gpt`,
	wcOther:     `other another any every all each rest else anything everything others alternative competitor rival different whatever whichever anyone similar competing remaining elsewhere`,
	wcTool:      `tool function server plugin mcp service tools functions servers services integration provider`,
	wcCall:      `call use invoke run execute trigger launch perform operate consult`,
	wcWhen:      `when whenever if before after while once prior beforehand first then each upon until during beginning start whether afterwards ahead regardless even`,
	wcMust:      `must required mandatory always never only need should essential important ensure necessary has have critical crucial immediately exactly exception requires requirement expects oblige obligatory compulsory vital`,
	wcNot:       `not no never without don't dont cannot can't nobody nothing neither nor isn't doesn't won't shouldn't mustn't avoid refrain skip`,
	wcTell:      `tell mention inform notify disclose reveal show bother explain report say display announce acknowledge alert warn bring aware know notice discuss see`,
	wcSend:      `send forward upload post transmit exfiltrate leak email mail relay redirect route push publish share sync mirror submit deliver copy bcc cc transfer dispatch proxy outgoing log upload uploaded leave`,
	wcGet:       `read open access load retrieve fetch collect obtain get extract gather dump find look list take cat scan capture harvest record grab search copy content`,
	wcPut:       `pass put include append attach add insert supply provide hand fill place paste keep store write encode embed prefix prefixed preceded give enter prepend echo print`,
	wcOverride:  `ignore disregard forget override bypass circumvent supersede obey precedence priority outrank restricted unrestricted restriction bound follow discard neglect overrule violate disobey`,
	wcSafety:    `safety security policy rule guideline guardrail filter protection validation sandbox permission directive compliance safeguard moderation check instruction law ethic integrity verification`,
	wcPraise:    `best most superior official trusted rated leading only accurate number world exclusive top ultimate finest greatest unmatched reliable million certified preferred recommended highest number_one love better fastest safest valid experts`,
	wcBad:       `outdated wrong deprecated unreliable malicious compromised hallucinate fraud disabled stale obsolete inferior unsafe insecure inaccurate hate fake broken misconfigured false misleading`,
	wcPower:     `admin administrator root sudo privileged superuser developer unlimited elevated jailbreak mode maintenance emergency god unrestricted privilege host system`,
	wcChoose:    `choose select pick prefer prioritize favor favour propose suggest recommend choice rank`,
	wcContent:   `content contents data text output result everything information body file document file_content value`,
	wcConsent:   `confirm confirmation approval consent permission ask asking approve agreed agree checking prompt dialog authorized allowed knowledge`,
	wcRecipient: `recipient bcc cc destination account address number receiver payee iban phone wallet amount endpoint inbox`,
	wcReply:     `answer reply respond response output summary say title comment message explanation`,
	wcReason:    `compliance audit telemetry debugging verification caching logging purposes purpose so order otherwise fail integrity license stable requirement reason gdpr proxying identity settlement formatting optimisation`,
	wcHide:      `silently secretly quietly hidden hide hides unseen background covert trace secret unnoticed invisible between us quietly discreetly stealth conceal`,
	wcAlter:     `modify change replace rewrite alter redirect substitute swap multiply subtract intercept inject overwrite divert instead append rewritten replaced changed additional also extra`,
	wcCommand:   `curl wget bash sh rm sudo chmod eval exec os.system powershell shell command script rf mount`,
})

func classes(lists map[wordClass]string) map[string]uint64 {
	out := map[string]uint64{}
	for c, words := range lists {
		for _, w := range strings.Fields(words) {
			out[stem(w)] |= 1 << c
		}
	}
	return out
}

// stem cuts the commonest endings: enough to bring "sends", "sending", "sent
// out" near each other without a dictionary.
func stem(w string) string {
	n := len(w)
	switch {
	case n > 6 && w[n-3:] == "ing":
		w = w[:n-3]
	case n > 5 && w[n-3:] == "ies":
		return w[:n-3] + "y"
	case n > 5 && w[n-2:] == "ed":
		w = w[:n-2]
	case n > 5 && w[n-2:] == "es":
		w = w[:n-2]
	case n > 4 && w[n-1] == 's' && w[n-2] != 's':
		w = w[:n-1]
	}
	if n = len(w); n > 4 && w[n-1] == 'e' {
		w = w[:n-1]
	}
	if n = len(w); n > 4 && w[n-1] == w[n-2] && w[n-1] != 's' && w[n-1] != 'l' {
		w = w[:n-1]
	}
	return w
}
