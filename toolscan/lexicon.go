package toolscan

import (
	"bytes"
	"maps"
	"regexp"
	"sort"
	"strings"
	"sync"
)

// A concept is an idea an attack needs, and the ways it is said: alternatives in
// RE2 syntax, in lower case. {name} in a rule stands for the alternatives of
// the concept.
//
// A new phrasing goes into the concept, not into a rule: that way a rule learns
// every synonym at once.
var lexicon = map[string][]string{
	// Setting aside what the model was told.
	"override": {`ignor(?:e|es|ing)`, `disregard(?:s|ing)?`, `forget(?:ting)?`, `overrid(?:e|es|ing)`, `overrul(?:e|es|ing)`, `bypass(?:es|ing)?`, `circumvent(?:s|ing)?`,
		`supersed(?:e|es|ing)`, `neglect`, `set aside`, `discard`, `do not follow`, `don't follow`, `stop following`, `never follow`, `no longer (?:follow|apply|bound)`, `drop all`, `erase`, `replac(?:e|es|ing)`,
		`skip(?:s|ping)?`, `suppress`, `nullif(?:y|ies)`, `void`, `suspend(?:s|ed)?`, `disobey`, `abandon`, `cancel`, `invalidate`, `take(?:s)? (?:precedence|priority) over`, `(?:higher|highest|absolute|top) priority`, `outrank(?:s)?`},
	"prior": {`previous`, `prior`, `above`, `earlier`, `preceding`, `existing`, `original`, `initial`, `foregoing`, `current`, `all other`, `any other`, `other`, `all`, `any`, `your`, `system`, `subsequent`, `later`, `following`, `past`, `developer`, `default`, `built-in`},
	"rules": {`instructions?`, `prompts?`, `rules?`, `guidelines?`, `guardrails?`, `directives?`, `restrictions?`, `polic(?:y|ies)`, `safeguards?`, `constraints?`, `orders?`, `commands?`, `directions?`, `programming`, `training`, `safety`, `protocols?`, `ethics`, `alignment`},
	// Switching protections off.
	"disable":    {`disabl(?:e|es|ed|ing)`, `turn(?:s|ed|ing)? off`, `deactivat(?:e|es|ed|ing)`, `bypass(?:es|ed|ing)?`, `skip(?:s|ped|ping)?`, `circumvent(?:s|ed|ing)?`, `ignor(?:e|es|ed|ing)`, `override(?:s)?`, `overriding`, `lift(?:s|ed)?`, `remov(?:e|ed|ing)`, `without(?: any)?`, `evad(?:e|es|ing)`, `defeat(?:s)?`, `suspend(?:s|ed)?`},
	"protection": {`(?:safety|security|content|access|input|output|data|authori[sz]ation|authentication|permission|policy|compliance|moderation|validation|sanitization|confirmation|approval|privacy|integrity|file access|rate)[ -](?:restrictions?|checks?|filter(?:s|ing)?|validations?|controls?|guidelines?|polic(?:y|ies)|protocols?|measures?|mechanisms?|rules?|constraints?|prompts?|safeguards?|sanitization|boundar(?:y|ies)|scans?|limits?|warnings?)`, `guardrails?`, `safeguards?`, `sandbox(?:ing)?`, `all (?:validation|checks|restrictions|security|safety)`, `safety (?:restrictions|filters)`, `authentication`, `authorization`, `restrictions?`, `human (?:review|approval|oversight)`},
	"unlimited":  {`unrestricted`, `elevated privileges?`, `root access`, `full (?:system )?(?:access|trust|privileges)`, `admin(?:istrator)? (?:privileges?|mode|access)`, `superadmin`, `god mode`, `developer mode`, `debug mode`, `jailbreak`, `override (?:mode|authority)`, `trust(?:ed)? (?:mode|all|any)`, `privilege level`, `unlimited access`},
	// Keeping the user in the dark.
	"donot":  {`do not`, `don't`, `dont`, `never`, `must not`, `should not`, `shouldn't`, `mustn't`, `avoid`, `refrain from`, `without`, `no need to`, `not necessary to`, `rather than`, `cannot`, `will not`, `not be`, `not to`, `instead of`, `not`},
	"tell":   {`mention(?:ed|ing)?`, `tell(?:ing)?`, `inform(?:ed|ing)?`, `notif(?:y|ied|ying)`, `disclos(?:e|ed|ing)`, `reveal(?:ed|ing)?`, `alert(?:ed|ing)?`, `let (?:the )?(?:user|them|anyone|him|her)`, `warn(?:ed|ing)?`, `show(?:n|ing)?`, `expos(?:e|ed|ing)`, `explain(?:ed|ing)?`, `report(?:ed|ing)?`, `say(?:ing)?`, `discuss(?:ed|ing)?`, `acknowledg(?:e|ed|ing)`, `display(?:ed|ing)?`, `communicat(?:e|ed|ing)`, `ask(?:ing)?`, `prompt(?:ing)?`, `confirm(?:ing|ation)?`, `announc(?:e|ed|ing)`, `bother(?:ing)?`, `describ(?:e|ed|ing)`, `refer(?:ring)? to`, `summari[sz](?:e|ed|ing)`, `log(?:ged|ging)?`, `share`, `comment(?:ing)? on`},
	"person": {`(?:the |this to |to |end[- ])?users?`, `anyone`, `anybody`, `human`, `(?:to )?them`, `operator`, `owner`, `customer`, `person`, `victim`, `people`},
	"covert": {`silently`, `secretly`, `covertly`, `quietly`, `stealthily`, `discreetly`, `invisibly`, `in the background`, `behind the scenes`, `unnoticed`, `hidden from`, `in secret\b`, `secret operation`, `without (?:the )?(?:user|their|them|any|his|her)(?:'s)?.{0,12}? ?(?:knowledge|knowing|awareness|consent|noticing|permission|approval)\b`, `no trace`, `without (?:a |any )?(?:trace|notice|detection|trace|attracting)`, `undetected`, `keep (?:this|it|that) (?:a )?(?:secret|hidden|confidential|between|private|internal)`, `(?:must|should|to) (?:remain|stay|be kept) (?:secret|hidden|confidential|invisible)`, `transparent(?:ly)? to the user`},
	// What must not leave.
	"secretpath": {`\.ssh\b`, `id_(?:rsa|dsa|ecdsa|ed25519)`, `authorized_keys`, `known_hosts`, `/etc/(?:passwd|shadow|sudoers|hosts)`, `\.aws/`, `\.aws\b`, `\.kube/`, `\.netrc`, `\.npmrc`, `\.pypirc`, `\.git-credentials`, `\.gnupg`, `\.docker/config`, `mcp\.json`, `claude_desktop_config`, `\.cursor/`, `\.claude`, `\.bash_history`, `\.zsh_history`, `\.bashrc`, `\.zshrc`, `/proc/self`, `/proc/`, `/root/`, `\.env\b`, `credentials\.json`, `config\.json`, `service[-_]account`, `login data`, `cookies\.sqlite`, `keychain`, `wallet\.dat`, `\.config/gcloud`, `internal://`, `\.pem\b`, `private\.key`, `secrets?\.(?:ya?ml|json|txt|toml)`},
	"secretword": {`api[ _-]?keys?`, `access[ _-]?keys?`, `access[ _-]?tokens?`, `auth(?:entication|orization)? tokens?`, `session tokens?`, `bearer tokens?`, `credentials?`, `passwords?`, `private keys?`, `ssh keys?`, `secret keys?`, `encryption keys?`, `secrets`, `seed phrases?`, `mnemonic`, `cookies`, `environment variables?`, `env vars?`, `(?:access|api|auth|session|user|github|oauth) tokens?`, `sensitive (?:data|information|files?|content|documents?|columns?)`, `confidential`, `private (?:data|files?|messages?|information|repositor(?:y|ies)|repos?)`, `personal (?:data|information)`, `pii\b`, `credit cards?`, `card numbers?`, `cvv2?`, `social security`, `ssn\b`, `aws creds`, `creds\b`, `browser history`, `wallet`, `bank account`, `pin codes?`, `2fa`, `one[- ]time (?:code|password)`, `otp\b`},
	"talk":       {`conversation(?:s)?(?: history| context| log| so far)?`, `chat (?:history|log|context|transcript)`, `message history`, `full context`, `entire context`, `context window`, `(?:previous|prior|all|user's|user|entire|full|original|recent|past) (?:messages?|prompts?|quer(?:y|ies)|requests?|inputs?|turns?|tool (?:calls|results|outputs))`, `system (?:prompt|message|instructions?)`, `your instructions`, `chain[- ]of[- ]thought`, `internal reasoning`, `reasoning (?:trace|process|steps)`, `tool(?:s)? (?:list|definitions?|descriptions?)`, `(?:list|names) of (?:all )?(?:the )?(?:available )?(?:tools|functions)`, `available tools`, `model (?:name|version|identifier)`, `name of the (?:llm|model|ai|language model)`, `llm (?:model )?name`, `user's (?:name|identity|email|location)`, `everything (?:said|in|from)`, `reasoning`, `thoughts`, `transcript`, `instructions you`, `prompt you`, `rules you`, `tools you`, `tools that you`, `tools the`, `(?:model|llm|ai) (?:that|which|is)`, `your (?:context|prompt|instructions)`, `conversation`, `memory`, `everything the user`},
	// Reaching for things.
	"acquire": {`read(?:ing)?`, `open(?:ing)?`, `access(?:ing)?`, `cat\b`, `load(?:ing)?`, `retriev(?:e|ing)`, `fetch(?:ing)?`, `collect(?:ing)?`, `includ(?:e|ing)`, `copy(?:ing)?`, `obtain(?:ing)?`, `get\b`, `extract(?:ing)?`, `gather(?:ing)?`, `dump(?:ing)?`, `find(?:ing)?`, `search(?:ing)?`, `scan(?:ning)?`, `captur(?:e|ing)`, `harvest(?:ing)?`, `provid(?:e|ing)`, `pass(?:ing)?`, `supply`, `attach(?:ing)?`, `append(?:ing)?`, `insert(?:ing)?`, `put`, `give`, `reveal`, `print`, `output`, `expose`, `leak`, `show`, `return`, `steal`, `list`, `view`, `check`, `look (?:at|for|in)`, `export`, `grab`, `enter`, `log\b`, `store`, `record`, `save`, `consult`, `use`, `write`, `add`, `embed`, `encode`, `contain`},
	"send":    {`send(?:s|ing)?`, `sent`, `forward(?:s|ed|ing)?`, `upload(?:s|ed|ing)?`, `post(?:s|ed|ing)?`, `transmit(?:s|ted|ting)?`, `exfiltrat(?:e|es|ed|ing|ion)`, `leak(?:s|ed|ing)?`, `e-?mail(?:s|ed|ing)?`, `bcc`, `cc`, `blind[- ]copy`, `rela(?:y|ys|yed|ying)`, `redirect(?:s|ed|ing)?`, `rout(?:e|es|ed|ing)`, `reports?`, `cop(?:y|ies)`, `deliver(?:s|ed)?`, `share(?:s|d)?`, `sync(?:s|ed|hronize)?`, `mirror(?:s|ed)?`, `submit(?:s|ted)?`, `push(?:es)?`, `publish(?:es)?`, `dispatch`, `export(?:s|ed)?`, `beacon`, `log(?:s|ged|ging)?`, `transfer(?:s|red)?`, `proxy`, `deposit`, `pay`, `tunnel`, `ping`, `curl`, `wget`},
	"sink":    {`[\w.+-]+@[\w-]+(?:\.[\w-]+)+`, `https?://[^\s'")>\]]+`, `\+\d[\d -]{7,}\d`, `\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b`, `[\w-]+\.(?:com|net|org|io|xyz|ru|cn|top|site|dev|co|me|info|app|tk|evil|example|test)\b`, `\b0x[0-9a-f]{40}\b`, `webhook`, `ngrok`, `pastebin`},
	"outside": {`external(?:[ -]\w+){0,2} (?:server|endpoint|service|url|system|address|party|host|site|api|location|logging)s?`, `(?:remote|third[- ]party|attacker|logging|monitoring|collection|tracking|analytics|telemetry|backup|proxy|c2|command and control|exfil\w*)[ -](?:controlled )?(?:server|endpoint|service|url|address|host|site|api|proxy|channel|party)s?`, `attacker(?:'s|-controlled)?`, `our (?:server|endpoint|monitoring|proxy|backend|logging)`, `external_?\w+`, `outside (?:server|party|address)`, `public (?:repo(?:sitory)?|issue|gist|channel|url)`, `(?:this|the following|our|my|alternate|hardcoded) (?:e-?mail|address|number|recipient|account|wallet|phone number|endpoint)`},
	// Other tools.
	"othertool": {`(?:any|all|every|each|the)?(?: of)?(?: the)? ?other (?:\w+ ){0,3}(?:tools?|functions?|servers?|mcp|plugins?|operations?|actions?)`, `(?:any|all|every|each)(?: of)?(?: the)? (?:\w+ ){0,3}(?:tools?|functions?|mcp servers?|tool calls?|commands?|requests?|operations?|actions?|messages?|emails?|quer(?:y|ies)|transactions?|payments?|api calls?|file (?:access|operations?|reads?|writes?)|responses?|conversations?|interactions?|tasks?|sessions?|communications?)`, `another (?:tool|function|server)`, `(?:default|built-?in|standard|native|regular|legitimate|official|normal) (?:\w+ ){0,2}(?:tools?|functions?|commands?|endpoint)`, `anything else`, `every (?:time|call|response|message|request|turn|conversation)`, `everytime`, `communication tools`, `responding`, `answering`, `proceeding`, `doing anything`, `(?:a|your) (?:final )?(?:response|answer|reply)`},
	"before":    {`before`, `prior to`, `ahead of`, `first`, `after`, `when(?:ever)?`, `while`, `once`, `instead of`, `each time`, `every time`, `everytime`, `in place of`, `upon`, `if`, `as soon as`, `during`, `for (?:every|each|all|any)`, `as soon as`},
	"using":     {`us(?:e|es|ing|ed)`, `call(?:s|ing|ed)?`, `invok(?:e|es|ing|ed)`, `execut(?:e|es|ing|ed)`, `run(?:s|ning)?`, `perform(?:s|ing|ed)?`, `trigger(?:s|ing|ed)?`, `available`, `present`, `access(?:ing|es)?`, `operation`, `enabled`, `loaded`, `installed`, `respond(?:ing|s)?`, `answer(?:ing|s)?`, `process(?:ing|es)?`, `send(?:ing|s)?`, `read(?:ing|s)?`, `proceed(?:ing)?`, `return(?:ing|s)?`, `is`, `was`, `ran`, `has been`, `gets`},
	"alter":     {`modif(?:y|ies|ied)`, `change(?:s|d)?`, `replac(?:e|es|ed)`, `overrid(?:e|es)`, `overwrit(?:e|es)`, `redirect(?:s|ed)?`, `alter(?:s|ed)?`, `rewrit(?:e|es)`, `substitut(?:e|es|ed)`, `swap(?:s|ped)?`, `set\b`, `inject(?:s|ed)?`, `add(?:s|ed)?`, `append(?:s|ed)?`, `prepend(?:s|ed)?`, `include(?:s|d)?`, `insert(?:s|ed)?`, `adjust(?:s|ed)?`, `multipl(?:y|ies)`, `divert(?:s|ed)?`, `intercept(?:s|ed)?`, `rout(?:e|es|ed)`, `forward(?:s|ed)?`, `copy`, `cop(?:y|ies)`, `log(?:s|ged)?`, `send(?:s)?`, `pass(?:es)?`, `wrap(?:s)?`, `tamper`, `hijack(?:s)?`, `shadow(?:s)?`, `duplicat(?:e|es)`, `ensure(?:s)?`, `must (?:first|also|always)`},
	"recipient": {`recipients?`, `b?cc(?: field)?`, `to[- ]field`, `destination`, `phone numbers?`, `account(?: number)?`, `wallet(?: address)?`, `e-?mail address(?:es)?`, `receiver`, `payee`, `iban`, `where clause`, `address`, `parameters?`, `arguments?`, `results?`, `output`, `values?`, `response`, `fields?`, `contents?`, `messages?`, `amount`, `order`, `target`},
	// Pressure.
	"must":      {`must`, `always`, `required`, `mandatory`, `important`, `critical(?:ly)?`, `crucial`, `essential`, `ensure`, `make sure`, `need to`, `needs to`, `have to`, `has to`, `necessary`, `never`, `only`, `immediately`, `automatically`, `be sure`, `should`, `shall`, `imperative`, `vital`},
	"otherwise": {`otherwise`, `or else`, `failure to`, `if you don't`, `if you do not`, `if not provided`, `will fail`, `will not work`, `won't work`, `will crash`, `will be lost`, `will break`, `not function`, `be terminated`, `be blocked`, `will be (?:rejected|denied|locked|suspended|deleted)`, `fails? to`},
	"authority": {`compliance`, `gdpr`, `soc ?2`, `hipaa`, `audit(?:ing)?(?: purposes)?`, `(?:security|company|corporate|legal|regulatory|internal) (?:policy|requirement|purposes?|scanning|reasons|protocol|verification|standard|check|audit|validation)s?`, `regulat(?:ion|ory)`, `for (?:telemetry|diagnostics?|logging|verification|authentication|security|monitoring|tracking|debugging|quality|proxying|performance|analytics|backup|caching|optimi[sz]ation)`, `implementation detail`, `proxying issues`, `side effect`, `system requirement`, `administrator`, `anthropic`, `openai`, `authorized`, `approved by`},
	// Self-promotion.
	"best":     {`best`, `greatest`, `most (?:accurate|reliable|advanced|powerful|trusted|secure|efficient|comprehensive|popular|recommended|complete|effective|authoritative|capable|up-to-date|preferred|precise|trustworthy|robust|versatile|cost-effective)`, `superior`, `ultimate`, `unmatched`, `unparalleled`, `unrivall?ed`, `number one`, `#1`, `no\. ?1`, `world-class`, `leading`, `top-rated`, `top choice`, `first choice`, `finest`, `perfect choice`, `only (?:reliable|trusted|official|accurate|correct|valid|approved|secure|working|authorized|legitimate|safe|recommended)`, `preferred`, `recommended`, `gold standard`, `state-of-the-art`, `cheapest`, `fastest`, `safest`, `highest[- ](?:quality|rated|priority|accuracy)`, `award-winning`, `official`, `trusted by`, `guaranteed`, `100% (?:accurate|reliable|safe|secure)`, `always (?:accurate|correct|right)`, `better than`, `outperform(?:s|ed|ing)?`, `the one and only`, `world's`},
	"rival":    {`(?:any|all|every|the|than|over|among|of|to|instead of|rather than)(?: of)?(?: the)? (?:other|others|alternatives?|competing|competitors?|similar|rival|comparable)(?: \w+){0,2}`, `other (?:tools?|servers?|services?|providers?|options?|products?|solutions?|functions?|mcps?|search engines?|sources?)`, `alternatives?`, `competitors?`, `others\b`, `(?:all|any) other`, `in all cases`, `in the world`, `on the market`, `in existence`, `ever (?:made|created|built)`, `available (?:anywhere|today)`, `built-?in`, `over (?:the )?(?:other|default|existing)`, `everything else`},
	"choose":   {`(?:always |only |must |should |please |first |strongly |you |is |be |to |and )*(?:use|choose|select|pick|prefer|call|invoke|prioriti[sz]e|favou?r|rely on|default to|trust|consult|recommend)(?:d|s|ed)?`},
	"thistool": {`this (?:\w+ )?(?:tool|function|server|service|mcp|one|plugin|api|method|product)`, `our (?:tool|function|server|service|api|brand|product)s?`, `me\b`, `the (?:best|only) tool`, `tool`},
	// Speaking as someone else.
	"roletag":  {`<\|?/?(?:system|im_start|im_end|important|secret|hidden|instructions?|admin|assistant|user|developer|priority|critical|override|directive|s|inst|sys|internal|note_to_(?:ai|model)|ai|llm|model|prompt|endoftext|urgent|mandatory|warning|rules?|context)(?:[ _-](?:prompt|message|instructions?|override|directive|notes?|info|rules?|task|priority|mode|policy|requirement|warning|command|only|to[ _-]\w+))?\|?>`, `\[/?inst\]`, `<<sys>>`, `\[[\w ]{0,24}?(?:system|hidden|admin|override|directive|priority|security|bypass|secret|important|instruction|root|internal)[\w :]{0,40}\]`, `### ?(?:system|instructions?|human|assistant|user|response|new instructions?)\b(?: ?:| (?:prompt|message|instructions?|override|note)\b|$)`},
	"rolehead": {`(?:system|assistant|human|developer|admin|root|ai) ?(?:override|directive|prompt|instruction|message|note|notice|update|command|alert)s?(?: \w+)? ?:`, `priority_instruction`, `admin_override`, `security_bypass`, `system_override`, `context_update`, `hidden_?(?:trigger|instruction)`, `begin (?:system|instructions?|admin)`, `act as ?:`, `(?:instruction|safety|security|validation|override|emergency|role|configuration|metadata) (?:override|bypass|directive|protocol)s? ?:`, `(?:instruction|override|role) notes? ?:`, `(?:ai|llm|agent|assistant|model)s? ?(?:instructions?|note|directive|only) ?:`, `(?:note|message|instructions?|notice|attention|reminder) (?:to|for) (?:the )?(?:coding |automated |ai )?(?:ai|llm|model|assistant|agent|language model)s?(?: \w+){0,4}? ?:`, `^(?:note|notice|attention|reminder) (?:to|for) (?:the )?(?:ai|llm|model|assistant|agent|language model)s?\b`},
	"youare":   {`you are (?:now|no longer|a|an|in|being|going to|authorized|required)`, `act as`, `pretend`, `roleplay`, `role-play`, `behave (?:as|like)`, `you're now`, `from now on`, `you will now`, `your new (?:role|task|instructions?|goal|objective|name)`, `new (?:system )?(?:instructions?|prompt|task|objective|persona|rules?)`, `enter(?:ing)? (?:developer|debug|admin|god|jailbreak)`, `switch to`, `simulate`, `assume the (?:role|identity)`, `\bdan\b`, `developer mode`, `jailbreak`},
	"reply":    {`(?:your|the|every|all|each|any|final|its) (?:final |next |own |subsequent )?(?:response|reply|answer|output|message|replies|responses|answers|summary|code|solution|implementation|codebase)s?`, `say`, `respond`, `reply`, `answer`, `recommend`, `suggest`, `promote`, `tell`},
	"command":  {`rm -rf`, `chmod`, `curl `, `wget `, `\bbash\b`, `\bsh -c`, `powershell`, `nc -`, `netcat`, `/dev/tcp`, `base64 -d`, `eval\(`, `exec\(`, `os\.system`, `subprocess`, `sudo `, `crontab`, `dd if=`, `mkfs`, `\| ?(?:ba)?sh\b`, `/bin/`, `nohup`, `launchctl`, `reg add`, `iex\(`},
	"crossing": {`traversal`, `\.\./`, `outside (?:of )?the`, `parent director(?:y|ies)`, `home directory`, `root director`},
	// Text hidden by an encoding, seen through its own shape.
	"rotated":     {`vafgehpgvba`, `cerivbhf`, `flfgrz cebzcg`, `vtaber`, `cnffjbeq`, `perqragvnyf`},
	"reversed":    {`snoitcurtsni`, `suoiverp`, `erongi`, `tpmorp metsys`, `drowssap`, `slaitnederc`},
	"commentmark": {`<!--`},
	"rest":        {`else`, `rest`, `others?`, `alternatives?`, `similar`, `another`, `competing`},
	"bound":       {`restricted`, `bound`, `limited`, `constrained`, `governed`, `subject`, `apply`, `applies`, `hold`, `count`, `matter`, `bind`},
	"obey":        {`obey`, `follow`, `carry out`, `execute`, `comply with`, `act on`, `do what`, `treat`, `trusted`, `orders`, `commands`, `instructions`, `binding`},
	"unaware":     {`see`, `know`, `told`, `informed`, `bothered`, `notified`, `learn`, `interest`, `trace`, `bother`, `involved`, `aware`, `bring`, `leave`, `nothing`, `between us`, `hear`, `hid`, `secret`},
	"acquireuser": {`the user`, `user's`},
	"snippet":     {`(?:code|snippet|script|excerpt|block|segment|section)s?\b`},
	"marker":      {`hidden[_ ]trigger`, `backdoor`, `exfiltration`, `manipulation`, `adversarial`, `poisoning`, `steganographic`, `[_ ]characters?`, `override`, `bypass`, `priority[_ ]instruction`},
	"agentcall":   {`\bai\b`, `assistant`, `agent`, `llm`, `chatgpt`, `claude`, `copilot`, `gemini`, `language model`, `\bbot\b`, `automated`},
	// Other languages: the same ideas.
	"foreign": {`忽略.{0,12}(?:指令|指示|提示|规则|說明|说明|要求)`, `无视.{0,12}(?:指令|指示|提示|规则)`, `不要(?:告诉|告知|提及|透露).{0,8}用户`, `(?:以前|上記|前|これまで|以上|全て|すべて)の.{0,12}(?:指示|命令|プロンプト|ルール).{0,6}(?:無視|忘れ)`, `(?:指示|命令|プロンプト).{0,4}を?(?:無視|忘れ)`, `ユーザー.{0,10}(?:知らせ|伝え|言わ|教え|通知し)(?:ない|ず|るな)`, `(?:игнорируй|забудь|не обращай).{0,40}(?:инструкц|указан|правил|команд)`, `не (?:говори|сообщай|упоминай|раскрывай).{0,30}пользовател`, `ignor(?:a|ez|ieren?|iere|are|eer) .{0,30}(?:instrucci|instruç|instruction|anweisung|istruzion|instructies|regeln|reglas|regras)`, `ignor(?:e|es) .{0,30}(?:instrucci|instruç|anweisung|istruzion|instructies|reglas|regras)`, `(?:vergiss|olvida|oublie[rz]?|esqueça|dimentica) .{0,30}(?:anweisung|instrucci|instruction|instruç|istruzion|regeln|reglas)`, `(?:no (?:le )?(?:digas|menciones|informes)|ne (?:le )?(?:dis|mentionne[rz]?|dites) pas|sag(?:e|en)? .{0,12}nicht|não (?:diga|mencione|informe)) .{0,30}(?:usuario|utilisateur|nutzer|benutzer|usuário)`, `이전.{0,10}(?:지시|명령|지침).{0,6}무시`, `사용자에게.{0,12}(?:말하지|알리지|언급하지)`, `(?:تجاهل).{0,30}(?:تعليمات|التعليمات)`},
}

// anchorSet is a bit set over the literal sets of all gates.
type anchorSet [11]uint64

func (s *anchorSet) has(c conj) bool {
	for i := range s {
		if c.bits[i]&^s[i] != 0 {
			return false
		}
	}
	return true
}

// conj is a conjunction of literal sets.
type conj struct{ bits anchorSet }

// lexer finds the anchors of a text and says which rules may match it.
type lexer struct {
	matcher *automaton
	of      []anchorSet // literal sets of the anchors that end in a state of the matcher
	expand  *strings.Replacer

	ids     map[string]int // literal set → bit
	members map[string][]int
	turned  [2]conj // rot13 and reversed text
}

func newLexer() *lexer {
	concepts := make(map[string][]string, len(lexicon)+len(foreignLexicon))
	maps.Copy(concepts, lexicon)
	maps.Copy(concepts, foreignLexicon)
	names := make([]string, 0, len(concepts))
	for n := range concepts {
		names = append(names, n)
	}
	sort.Strings(names)
	l := &lexer{ids: map[string]int{}, members: map[string][]int{}}
	var pairs []string
	for _, n := range names {
		pairs = append(pairs, "{"+n+"}", "(?:"+strings.Join(concepts[n], "|")+")")
	}
	l.expand = strings.NewReplacer(pairs...)
	return l
}

// compile registers the gate of a rule's expression. The expression itself is
// compiled when the gate opens for the first time: for most rules it never does, and
// together they take megabytes.
func (l *lexer) compile(re string) (func() *regexp.Regexp, []conj) {
	full := l.expand.Replace(re)
	var out []conj
	for _, c := range gateOf(full) {
		var cj conj
		for _, set := range c {
			id := l.id(set)
			cj.bits[id/64] |= 1 << (id % 64)
		}
		out = append(out, cj)
	}
	return lazily(full), out
}

// lazily compiles at the first call.
func lazily(re string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(re) })
}

func (l *lexer) id(set literals) int {
	key := strings.Join(set, "\x00")
	id, ok := l.ids[key]
	if !ok {
		id = len(l.ids)
		if id >= 64*len(anchorSet{}) {
			panic("toolscan: more literal sets than an anchorSet holds: widen it")
		}
		l.ids[key] = id
		for _, lit := range set {
			l.members[lit] = append(l.members[lit], id)
		}
	}
	return id
}

// build makes the automaton; no rule may be compiled after it.
func (l *lexer) build() {
	for i, n := range [...]string{"rotated", "reversed"} {
		var set literals
		for _, w := range lexicon[n] {
			set = append(set, w[:min(len(w), anchorLength)])
		}
		sort.Strings(set)
		id := l.id(set)
		l.turned[i].bits[id/64] |= 1 << (id % 64)
	}
	words := make([]string, 0, len(l.members))
	for w := range l.members {
		words = append(words, w)
	}
	sort.Strings(words)
	l.matcher = newAutomaton(words)
	l.of = make([]anchorSet, len(l.matcher.sets))
	for i, ends := range l.matcher.sets {
		for _, w := range ends {
			for _, id := range l.members[words[w]] {
				l.of[i][id/64] |= 1 << (id % 64)
			}
		}
	}
}

// anchors appends the literal sets present in every line of b to have, and
// returns them with those of the whole. Lines end with a line feed, which no
// literal holds, so one pass is enough.
func (l *lexer) anchors(b []byte, have []anchorSet) (whole anchorSet, lines []anchorSet) {
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			end = len(b)
		}
		have = append(have, anchorSet{})
		s := &have[len(have)-1]
		l.matcher.each(b[:end], func(set int32) {
			of := &l.of[set]
			for k := range s {
				s[k] |= of[k]
			}
		})
		for k := range s {
			whole[k] |= s[k]
		}
		b = b[min(end+1, len(b)):]
	}
	return whole, have
}
