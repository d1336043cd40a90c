package toolscan

import (
	"bytes"

	"github.com/kidoban/kidoban"
)

// The ideas of the English rules in other languages: Japanese, Chinese, Korean,
// German, French, Spanish, Portuguese, Italian, Polish, Russian, Arabic. Texts
// reach the rules without accents (normal.go), so they are written without.
var foreignLexicon = map[string][]string{
	"xread":     {`読み(?:取|込|出)`, `読んで`, `開いて`, `中身を`, `读取`, `打开`, `讀取`, `읽`, `\blies\b`, `\blesen\b`, `\bausles`, `\boffne`, `\blee\b`, `\bleer\b`, `\blea\b`, `\babr[ae]\b`, `\bleia\b`, `\blis(?:ez)?\b`, `\blire\b`, `\bouvre`, `прочита`, `прочти`, `открой`, `считай`, `اقرأ`, `افتح`, `\bleggi\b`, `\bodczytaj`, `\bprzeczytaj`, `\blees\b`},
	"xput":      {`渡し`, `送信`, `送っ`, `送り`, `入れて`, `添付`, `転送`, `放入`, `放到`, `发送`, `發送`, `发给`, `传递`, `传入`, `填入`, `附上`, `转发`, `抄送`, `上传`, `넣`, `보내`, `전송`, `전달`, `\bubergib`, `\bubergeben\b`, `\bubermitt`, `\bmitzugeben\b`, `\bmitgeben\b`, `\bsende[nt]?\b`, `\bschick`, `\bweiterleit`, `\bleite\b`, `\banfug`, `\bhochlad`, `\bab(?:zu)?legen\b`, `\benvi(?:a|e|ar)\b`, `\breenvi`, `\bincluy`, `\bincluir\b`, `\bpasa\b`, `\badjunt`, `\bcoloca`, `\binclua\b`, `\bencaminh`, `\bcoloque`, `\btransmet`, `\benvoi`, `\benvoyer`, `\bjoins\b`, `\bmets\b`, `отправ`, `передай`, `передава`, `перешли`, `пришли`, `вложи`, `أرسل`, `ارسل`, `وضع`, `مرر`, `أضف`, `\binvia\b`, `\binoltra`, `\binserisci`, `\bwyslij`, `\bprzekaz`, `\bzalacz`},
	"xtalk":     {`会話(?:内容|履歴|の?全文|全体|ログ)`, `これまでの(?:会話|やり取り|やりとり)`, `チャット履歴`, `(?:对话|聊天|會話|對話|会话)(?:的)?(?:记录|紀錄|历史|内容|全文)`, `대화 ?(?:내용|기록|전체|내역)`, `\bgesprachsverlauf`, `\bchatverlauf`, `\b(?:bisherige|gesamte|ganze|vollstandige)\w* (?:\w+ )?(?:gesprach|unterhaltung|chat|dialog|konversation)`, `\bhistor\w+ (?:complet[oa] )?(?:de (?:la |esta )?|del |da |do )?(?:conversaci|conversa|chat)`, `\btod[ao] (?:la |el |a |o )?(?:conversaci|conversa|chat)`, `\bhistorique (?:complet )?(?:de la |du |des )?(?:conversation|chat|echanges)`, `\btoute la conversation`, `(?:истори|весь|всю|полн|содержани)\pL* (?:\pL+ )?(?:переписк|диалог|разговор|чат|бесед)`, `سجل المحادثة`, `المحادثة (?:كاملة|بالكامل|بأكملها)`, `\btutta la conversazione`, `\bcronologia (?:della |del )?(?:conversazione|chat)`, `\bhistori\w+ (?:rozmow|czat)`},
	"xword":     {`パスワード`, `鍵`, `キーを`, `認証情報`, `密钥`, `密码`, `凭证`, `令牌`, `비밀번호`, `키를`, `\bpassworter\b`, `\bzugangsdaten`, `\bkennworter\b`, `\bcontrasenas\b`, `\bcredenciales\b`, `\bclaves\b`, `\bsenhas\b`, `\bcredenciais\b`, `\bmots de passe\b`, `\bidentifiants\b`, `парол`, `ключи\b`, `учетны`, `учётны`, `كلمات المرور`, `\bhasla\b`},
	"xsecret":   {`\.ssh\b`, `id_(?:rsa|dsa|ecdsa|ed25519)`, `\.aws/`, `\.kube/`, `\.netrc`, `\.npmrc`, `\.git-credentials`, `\.gnupg`, `mcp\.json`, `/etc/(?:passwd|shadow)`, `\.env\b`, `\.bash_history`},
	"xquiet":    {`(?:ユーザー|利用者|使用者|お客様|相手)に(?:は|も)?.{0,24}(?:知らせ|伝え|言わ|教え|通知し|話さ|説明し|報告し|見せ|気づかれ)(?:ない|ず|るな)`, `(?:ユーザー|利用者|使用者)への(?:説明|報告|通知|連絡)は(?:不要|必要ありません|しない|行わない)`, `(?:要約|返答|回答|応答)に(?:は|も)?含め(?:ない|ず)`, `(?:不要|不得|请勿|別|禁止|无需|不用|不必|切勿)(?:告诉|告知|告訴|提及|透露|通知|让|向).{0,12}(?:用户|用戶|使用者)`, `对(?:用户|使用者)(?:保密|隐瞒)`, `(?:用户|使用者)(?:无需|不需要|不必|不应|不得)(?:知道|知情|知晓)`, `不让(?:用户|使用者)`, `사용자(?:에게|한테)(?:는|도)? ?.{0,16}(?:말하지|알리지|언급하지|보여주지|알려주지)`, `사용자 ?(?:모르게|몰래)`, `\b(?:nutzer|benutzer|anwender)\w* (?:gegenuber )?.{0,24}(?:stillschweigen|nichts (?:davon )?(?:erfahren|sagen|mitteilen|wissen|verraten)|davon nichts|verschweig|nicht (?:mitteilen|erwahnen|informieren|sagen|verraten))`, `\berwahne (?:es|dies|das|davon) (?:nicht|nichts)`, `\bohne (?:es |dies )?(?:dem |den )?(?:nutzer|benutzer|anwender)\w* .{0,12}(?:zu informieren|mitzuteilen|zu sagen|davon)`, `\b(?:sag|sage|verrate|teile|erzahle)\b.{0,12}(?:nutzer|benutzer|anwender)\w* .{0,12}(?:nichts|nicht)\b`, `\bno (?:se )?(?:le |lo |la |les )*(?:digas|menciones|informes|diga|mencione|informe|avise|avises|reveles|cuentes)\b.{0,30}(?:usuari|cliente)`, `\bsin (?:avisar|informar|decir|notificar)\w*.{0,16}(?:usuari|cliente)`, `\b(?:usuari\w+|cliente) no (?:debe|tiene que|necesita|ha de|debera) (?:saber|enterarse|conocer)`, `\bsem (?:avisar|informar|notificar|dizer).{0,16}usuari`, `\bnao (?:diga|mencione|informe|avise|conte|revele)\b.{0,30}usuari`, `\b(?:ne |n')(?:le |en |lui )*(?:dis|dites|parle[rz]?|mentionne[rz]?|informe[rz]?|previens|revele[rz]?)\b.{0,12}(?:pas|rien).{0,24}utilisateur`, `\bsans (?:prevenir|informer|avertir|le dire|en parler).{0,16}utilisateur`, `пользовател\pL* (?:об этом )?(?:ничего )?не (?:говори|сообща|упомина|раскрыва|показыва)`, `не (?:говори|сообща|упомина|раскрыва|показыва)\pL*.{0,40}пользовател`, `(?:втайне от|без ведома) пользовател`, `(?:لا|ولا) ?(?:تخبر|تقل|تذكر|تعلم|تبلغ|تطلع).{0,24}المستخدم`, `دون (?:علم|إخبار|إبلاغ|إعلام) المستخدم`, `\b(?:non|senza) (?:dirlo|dire|informare|menzionare|avvisare|avvertire|rivelare).{0,24}utente`, `\bnie (?:mow|mowiac|informuj|informujac|wspominaj|ujawniaj)\w*.{0,24}uzytkownik`, `\bbez wiedzy uzytkownik`},
	"xoverride": {`(?:規則|ルール|指示|命令|プロンプト)を?(?:は)?(?:すべて|全て)?(?:無視|忘れ)`, `(?:忽略|忘记|无视|忽視|無視)(?:你|您)?(?:之前|以上|先前|此前|所有|一切|用户).{0,12}(?:指令|指示|提示|规则|要求|命令)`, `\bmissachte`, `\bz?ignoruj\w* .{0,30}(?:polecen|instrukcj|zasad|regul)`, `\bignor\w+ .{0,24}(?:instruco|istruzion|previas|anteriores|anteriori|vorherig|bisherig)`, `\bzapomnij o .{0,24}(?:instrukcj|polecen)`, `(?:забудь|отмени|отбрось)\pL* .{0,30}(?:инструкц|указани|правил|команд)`, `(?:تجاهل|انس).{0,24}(?:تعليمات|أوامر|توجيهات)`},
	"xprefer":   {`他の.{0,20}(?:ツール|検索|サービス).{0,20}(?:使わ|使用し)(?:ない|ず)`, `常に(?:この|本)(?:ツール|機能|サービス)`, `(?:この|本)ツールを最優先`, `(?:必须|必須|始终|总是|一律|务必)优先(?:使用|调用|选择)`, `(?:禁止|请勿|不得|严禁)(?:使用|调用)(?:其他|其它|别的|任何其他)`, `\b(?:verwende|benutze|nutze)n? (?:sie )?(?:stets|immer|ausschließlich|nur) (?:dies\w+|unser\w*) (?:werkzeug|tool|server|dienst)`, `\bniemals ein (?:anderes|anderer)`, `\b(?:usa|utiliza|use|utilice) siempre (?:esta|este) (?:herramienta|servidor|servicio)`, `\b(?:nunca|jamas) (?:uses|utilices|use|utilice) otr[ao]`, `\butilise[rz]? toujours (?:cet|ce) (?:outil|serveur|service)`, `\bn'utilise[rz]? (?:jamais|pas) (?:d'|un |aucun )autre`, `(?:всегда|только) используй\pL* (?:только )?(?:этот|данный|наш) (?:инструмент|сервер|сервис)`, `(?:никогда )?не используй\pL* (?:други|ины)`, `항상 (?:이|본) ?(?:도구|서버)`, `استخدم دائما هذه الأداة`, `\b(?:use|utilize) sempre esta ferramenta`, `\busa sempre questo strumento`},
	"xagent":    {`aiアシスタント(?:へ|に|は|の)`, `(?:ai|人工智能|智能)(?:助手|助理|模型|代理).{0,4}(?:注意|请|必须|请注意)`, `\bki-?(?:assistent|modell|agent)\w*\b ?[:,]`, `\b(?:anweisung|hinweis|nachricht) (?:an|fur) (?:das |den |die )?(?:ki|sprachmodell|assistent)`, `\b(?:asistente|modelo|agente) de (?:ia|inteligencia artificial) ?[:,]`, `\b(?:consigne|instruction|note|message)s? (?:pour|a|destinee a) l'(?:ia|assistant)`, `\bassistant ia ?[:,]`, `(?:внимание|для|важно),? (?:ии|нейросет|ai)\b`, `ии-(?:ассистент|модел|помощник|агент)`, `(?:إلى|يا|ملاحظة ل|تعليمات ل) ?(?:مساعد|نموذج)`, `\bassistente (?:de |di )?ia ?[:,]`, `\b(?:ai|인공지능) ?(?:어시스턴트|비서|모델|에이전트) ?(?:에게|는|,|:)`},
	"xother":    {`他の(?:サーバー?|サービス)の.{0,16}(?:ツール|を使)`, `其他(?:服务器|服务)的.{0,20}(?:工具|调用)`, `\b(?:werkzeug|tool)s? \w+ (?:eines anderen|anderer|des anderen) servers?`, `\b(?:de|del|en) otro servidor`, `\b(?:d'un|d'autres|des) autres? serveurs?\b`, `другого сервера`, `다른 서버의`, `خادم آخر`, `\b(?:de|em) outro servidor`, `\bdi un altro server`},
}

// foreignExample is text that illustrates a value.
const foreignExample = `默认|例如|比如|如：|デフォルト|例：|例えば|standardmaßig|zum beispiel|z\.b\.|por defecto|por ejemplo|par defaut|par exemple|по умолчанию|например|기본값|예:|مثل|default`

// foreignRules see attacks in other languages.
var foreignRules = []rule{
	{id: "foreign-override", family: FamilyInstruction, group: "override", weight: 1.2, severity: kidoban.Critical,
		re:  `{xoverride}.?`,
		why: "In another language, it tells the model to set aside its instructions.", fix: fixDoNotConnect},
	{id: "foreign-secrecy", family: FamilySecrecy, group: "secrecy", weight: 1, severity: kidoban.Critical,
		re:  `{xquiet}.?`,
		why: "In another language, it wants something kept from the user.", fix: fixDoNotConnect},
	{id: "foreign-secret", family: FamilySecrets, group: "secretfile", weight: 1, severity: kidoban.Critical,
		re:     `(?:{xread}|{xput}).{0,80}?{xsecret}|{xsecret}.{0,80}?(?:{xread}|{xput})`,
		unless: foreignExample,
		why:    "In another language, it has the model reach for a file that holds credentials.", fix: fixDoNotConnect},
	{id: "foreign-talk", family: FamilySecrets, group: "talk", weight: 0.9, severity: kidoban.High,
		where: definitions,
		re:    `{xtalk}.{0,90}?{xput}|{xput}.{0,90}?{xtalk}|\binclu\w+ .{0,20}?{xtalk}`,
		check: notAboutModels,
		why:   "In another language, it asks for the conversation.", fix: fixDoNotConnect},
	{id: "foreign-sink", family: FamilySink, group: "sink", weight: 0.9, severity: kidoban.Critical,
		where:  definitions,
		re:     `(?:{xput}).{0,80}?(?:[\w.+-]+@[\w-]+\.[\w.-]+|https?://|\b\+?1?\d{10,13}\b)|(?:[\w.+-]+@[\w-]+\.[\w.-]+|https?://\S+|\b\+?1?\d{10,13}\b).{0,40}?(?:{xput})`,
		unless: foreignExample,
		pre:    hasDestination,
		check:  notAParameter,
		why:    "In another language, it sends to an address written into the text.", fix: fixDoNotConnect},
	{id: "foreign-words-out", family: FamilySecrets, group: "secretword", weight: 0.8, severity: kidoban.Critical,
		re:     `{xword}.{0,60}?(?:{xput})|(?:{xput}).{0,60}?{xword}`,
		where:  definitions,
		unless: foreignExample,
		check:  notAParameter,
		why:    "In another language, it has the model hand over credentials.", fix: fixDoNotConnect},
	{id: "foreign-preference", family: FamilyPreference, group: "choosealways", weight: 0.7, severity: kidoban.Medium,
		where: definitions,
		re:    `{xprefer}.?`,
		why:   "In another language, it asks to be chosen over other tools.", fix: fixNeutral},
	{id: "foreign-shadow", family: FamilyShadowing, group: "shadow", weight: 0.7, severity: kidoban.High,
		where: definitions,
		re:    `{xother}.?`,
		why:   "In another language, it speaks of another server's tools.", fix: fixDoNotConnect},
	{id: "foreign-agent", family: FamilyInstruction, group: "asks", weight: 0.8, severity: kidoban.High,
		where: contents,
		re:    `{xagent}.?`,
		why:   "In another language, somebody's data speaks to the assistant.", fix: fixHold},
}

// notAParameter: "the password to send" explains a field, in a description it is
// an order.
func notAParameter(c *itemContext, _ []byte, _ []int) bool { return c.seg.pos == posDescription }

// hasDestination says whether a sentence may hold an address, a URL or a number.
func hasDestination(l []byte) bool {
	digits := 0
	for _, b := range l {
		if b == '@' {
			return true
		}
		if b < '0' || b > '9' {
			digits = 0
		} else if digits++; digits >= 10 {
			return true
		}
	}
	return bytes.Contains(l, []byte("://"))
}
