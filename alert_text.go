package kidoban

import "strings"

// AlertWords are the words of one alert's own, by the name that stands for them in
// the sentences of its kind: {"host": "evil.example"}.
type AlertWords map[string]string

// AlertMore is the name in AlertWords that says: more alerts of this kind are not
// told for a while. Its value is "yes".
const AlertMore = "more"

// NewAlert words an alert of a kind, in English; ID and At are for whoever raises
// it. A kind's sentences and the names they want are in alertTexts.
func NewAlert(kind AlertKind, subject string, with AlertWords) Alert {
	if with == nil {
		with = AlertWords{}
	}
	a := Alert{Kind: kind, Subject: subject, With: with}
	a.Text, a.Do, _ = a.Told("en")
	return a
}

// Told returns what happened and what to do, in the language asked for where the
// alert knows it, and the language that came of it: en, ja or zh.
func (a Alert) Told(lang string) (text, do, in string) {
	t, known := alertTexts[a.Kind]
	i, in := 0, "en"
	switch lang {
	case "ja":
		i, in = 1, lang
	case "zh":
		i, in = 2, lang
	}
	if a.With == nil || !known {
		return a.Text, a.Do, "en"
	}
	var pairs []string
	for name, value := range a.With {
		if fixed, ok := alertVocabulary[name+"="+value]; ok {
			value = fixed[i]
		}
		pairs = append(pairs, "{"+name+"}", value)
	}
	r := strings.NewReplacer(pairs...)
	text, do = r.Replace(t.text[i]), r.Replace(t.do[i])
	if a.With[AlertMore] != "" {
		text += alertVocabulary[AlertMore+"=yes"][i]
	}
	return text, do, in
}

// alertText is the two sentences of a kind in English, Japanese and Chinese.
// {name} is put in from the alert's words.
type alertText struct{ text, do [3]string }

// alertVocabulary are words of an alert that are ours and so have languages, too.
var alertVocabulary = map[string][3]string{
	"more=yes": {" There are many alerts of this kind: for a while no more of them are told.",
		"この種類の警告が多いため、しばらくは新たに表示しません。",
		"此类警报很多，暂时不再逐条提示。"},
	"user=": {"somebody", "誰か", "某人"},
	"from=": {"a server", "あるサーバー", "某服务器"},
	"then=refused": {"it was refused",
		"この呼び出しは拒否しました", "该调用已被拒绝"},
	"then=waits": {"it waits for that person's yes",
		"この呼び出しは本人の承認を待っています", "该调用正在等待本人批准"},
}

var alertTexts = map[AlertKind]alertText{
	AlertFirstSeenHost: {
		[3]string{"A client registered a callback at {host}, a host never seen here before.",
			"これまで見たことのないホスト {host} をコールバック先とするクライアントが登録されました。",
			"有客户端以从未见过的主机 {host} 作为回调地址进行了注册。"},
		[3]string{"Find out whose host it is. If nobody here uses it, block it: kidoban gateway deny host {host}",
			"誰のホストか確認してください。使う人がいなければブロックします：kidoban gateway deny host {host}",
			"请查明该主机属于谁。若这里无人使用，请将其拒绝：kidoban gateway deny host {host}"}},
	AlertDeniedRegistration: {
		[3]string{"A client with a blocked callback tried to register.",
			"ブロック中のコールバック先を持つクライアントが登録を試みました。",
			"回调地址已被拒绝的客户端试图注册。"},
		[3]string{"Nothing was registered. No action is needed.",
			"登録はされていません。対処は不要です。",
			"没有注册任何内容，无需处理。"}},
	AlertDeniedClient: {
		[3]string{"Somebody was sent here by a client that is on the deny-list.",
			"拒否リストにあるクライアントから、誰かがここへ誘導されました。",
			"有人被拒绝名单上的客户端引导到了这里。"},
		[3]string{"Nothing was delivered. Ask who sent the link, if you can.",
			"何も渡していません。可能であれば、リンクの送り主を尋ねてください。",
			"没有交付任何内容。如果可以，请询问链接是谁发的。"}},
	AlertImpersonation: {
		[3]string{"A client that returns to {host} tried to register under a well-known client's name.",
			"{host} へ戻るクライアントが、有名なクライアントの名前で登録を試みました。",
			"回调到 {host} 的客户端试图以知名客户端的名称注册。"},
		[3]string{"Nothing was registered. If people here are sent to that host, block it: kidoban gateway deny host {host}",
			"登録はされていません。利用者がそのホストへ誘導されている場合はブロックします：kidoban gateway deny host {host}",
			"没有注册任何内容。若这里有人被引导到该主机，请将其拒绝：kidoban gateway deny host {host}"}},
	AlertRegistrationBurst: {
		[3]string{"Many clients are being registered from the network {network}.",
			"ネットワーク {network} から多数のクライアントが登録されています。",
			"来自网络 {network} 的客户端正在大量注册。"},
		[3]string{"Nothing has to be done: the limit holds. If it goes on, look whose network it is.",
			"上限が働いているため対処は不要です。続く場合は、誰のネットワークか確認してください。",
			"限额有效，无需处理。若持续发生，请查明该网络属于谁。"}},
	AlertRegistrationFlood: {
		[3]string{"Strangers register clients from many networks at once.",
			"見知らぬ相手が、多数のネットワークから同時にクライアントを登録しています。",
			"陌生人正从许多网络同时注册客户端。"},
		[3]string{"The limit holds, and networks from which people gave consent lately are not held up. Look at the hosts in the console.",
			"上限が働いており、最近同意が行われたネットワークは妨げられません。コンソールでコールバック先ホストを確認してください。",
			"限额有效，近期有人给予同意的网络不受影响。请在控制台查看回调主机。"}},
	AlertRegistrationsFull: {
		[3]string{"As many unused registrations wait as the configuration allows.",
			"未使用の登録が、設定で許された数に達しています。",
			"未使用的注册已达到配置允许的数量。"},
		[3]string{"Clients with a client document and existing clients are not touched. Look at the console for where the registrations come from.",
			"クライアント文書を持つクライアントと既存のクライアントには影響しません。登録がどこから来ているかをコンソールで確認してください。",
			"拥有客户端文档的客户端与现有客户端不受影响。请在控制台查看注册来自何处。"}},
	AlertDocumentReview: {
		[3]string{"A client document of a new domain, {host}, waits for a decision.",
			"新しいドメイン {host} のクライアント文書が承認を待っています。",
			"新域名 {host} 的客户端文档正在等待决定。"},
		[3]string{"Look at the client in the console and admit it or block its domain.",
			"コンソールでクライアントを確認し、承認するかドメインをブロックしてください。",
			"请在控制台查看该客户端，准入或拒绝其域名。"}},
	AlertConsentCampaign: {
		[3]string{"Within 15 minutes several people gave access to one new client whose callback is at {host}.",
			"15分以内に複数の人が、コールバック先が {host} である同じ新しいクライアントにアクセスを許可しました。",
			"15分钟内有多人向同一个新客户端(回调主机 {host})授予了访问权限。"},
		[3]string{"Ask them whether they meant to. If not, block the client and its host: every grant ends at once.",
			"意図したものか本人に確認してください。違う場合はクライアントとホストをブロックします。すべての許可が直ちに終了します。",
			"请询问他们是否有意为之。若不是，请拒绝该客户端及其主机，所有授权会立即终止。"}},
	AlertCallbackElsewhere: {
		[3]string{"A third party's answer arrived in another browser than the one that agreed.",
			"外部サービスからの応答が、同意したものとは別のブラウザーに届きました。",
			"第三方的应答到达了与同意者不同的浏览器。"},
		[3]string{"Nothing was delivered. Somebody may have sent a colleague a prepared link: ask who opened it.",
			"何も渡していません。誰かが細工したリンクを同僚に送った可能性があります。開いた人に尋ねてください。",
			"没有交付任何内容。可能有人向同事发送了预先准备的链接，请询问是谁打开的。"}},
	AlertConnectOtherUser: {
		[3]string{"A connect page made for one user was opened by another.",
			"あるユーザー用の接続ページを、別のユーザーが開きました。",
			"为某用户生成的连接页面被另一用户打开。"},
		[3]string{"Nothing was connected. Ask the second person where the link came from: it may be phishing.",
			"何も接続していません。フィッシングの可能性があるため、開いた人にリンクの入手元を尋ねてください。",
			"没有建立任何连接。请询问打开者链接的来源：可能是钓鱼。"}},
	AlertForgedConsent: {
		[3]string{"A consent form that was shown to one user came from the browser of another.",
			"あるユーザーに表示した同意フォームが、別のユーザーのブラウザーから送られました。",
			"展示给某用户的同意表单来自另一用户的浏览器。"},
		[3]string{"Nothing was granted. Ask the second person which page or link sent the form: it may be phishing.",
			"何も許可していません。フィッシングの可能性があるため、送った人にどのページやリンクだったか尋ねてください。",
			"没有授予任何权限。请询问提交者是哪个页面或链接发送的表单：可能是钓鱼。"}},
	AlertCodeReplay: {
		[3]string{"An authorization code was redeemed twice with the right verifier: somebody has a copy.",
			"認可コードが正しい検証子とともに二度使われました。誰かが複製を持っています。",
			"授权码以正确的校验值被使用了两次：有人持有副本。"},
		[3]string{"The access it gave has ended. If it repeats, look at the client's machine.",
			"そのアクセスは終了しました。繰り返される場合は、クライアントの端末を調べてください。",
			"由此获得的访问已终止。若再次发生，请检查客户端所在的机器。"}},
	AlertRefreshReuse: {
		[3]string{"A refresh token that was replaced long ago was used again: somebody has a copy.",
			"かなり前に更新されたトークンが再び使われました。誰かが複製を持っています。",
			"早已被替换的刷新令牌再次被使用：有人持有副本。"},
		[3]string{"The access has ended and the person must connect anew. If it repeats, look at the client's machine.",
			"アクセスは終了し、本人は接続し直す必要があります。繰り返される場合は、クライアントの端末を調べてください。",
			"访问已终止，本人须重新连接。若再次发生，请检查客户端所在的机器。"}},
	AlertTokenBurst: {
		[3]string{"The access of client {client} made more than {calls} calls within ten minutes; its user never made more than {most}.",
			"クライアント {client} のアクセスによる呼び出しが10分間に {calls} 回を超えました。このユーザーのこれまでの最大は {most} 回です。",
			"客户端 {client} 的访问在十分钟内调用超过 {calls} 次；其用户此前最多为 {most} 次。"},
		[3]string{"Look at the calls in the audit log. If nobody meant them, revoke the grant.",
			"監査ログで呼び出しを確認してください。誰も意図していなければ、許可を取り消してください。",
			"请在审计日志中查看这些调用。若无人有意为之，请收回授权。"}},
	AlertTokenElsewhere: {
		[3]string{"Within minutes of a person's consent the access of client {client} was used from {network}, where this person was never seen.",
			"同意から数分以内に、クライアント {client} のアクセスが、本人がこれまで現れたことのない {network} から使われました。",
			"在某人同意后数分钟内，客户端 {client} 的访问从 {network} 被使用，而此人从未在该处出现过。"},
		[3]string{"Ask the person whether the program runs there. If not, revoke the grant, and block the client.",
			"プログラムがそこで動いているか本人に尋ねてください。違う場合は許可を取り消し、クライアントをブロックしてください。",
			"请询问本人该程序是否在那里运行。若不是，请收回授权并拒绝该客户端。"}},
	AlertLoginGuessing: {
		[3]string{"Many wrong logins come from the network {network}.",
			"ネットワーク {network} から、失敗したログインが多数来ています。",
			"来自网络 {network} 的错误登录很多。"},
		[3]string{"The limit holds. If a name is the target, tell its owner to add a passkey.",
			"上限が働いています。特定の名前が狙われている場合は、その人にパスキーの追加を勧めてください。",
			"限额有效。若某个用户名成为目标，请通知其本人添加通行密钥。"}},
	AlertClonedPasskey: {
		[3]string{"A passkey's counter went backwards: there may be a copy of it.",
			"パスキーのカウンターが逆行しました。複製が存在する可能性があります。",
			"通行密钥的计数器倒退：可能存在副本。"},
		[3]string{"Ask its owner, and remove the passkey if in doubt.",
			"持ち主に確認し、疑わしい場合はパスキーを削除してください。",
			"请询问其所有者，如有疑问请移除该通行密钥。"}},
	AlertServerDown: {
		[3]string{"The server {server} does not answer; calls to it are refused until it does.",
			"サーバー {server} が応答しません。応答するまで呼び出しを拒否します。",
			"服务器 {server} 没有应答；在恢复之前，对它的调用会被拒绝。"},
		[3]string{"Look whether it runs. The gateway tries again by itself.",
			"動作しているか確認してください。ゲートウェイは自動で再試行します。",
			"请检查它是否在运行。网关会自行重试。"}},
	AlertDefinitionHeld: {
		[3]string{"The server {server} offers definitions that are not approved and are held: {count}.",
			"サーバー {server} が未承認の定義を {count} 件提供しています。保留中です。",
			"服务器 {server} 提供了 {count} 个未批准的定义，已被搁置。"},
		[3]string{"Look at them under Definitions in the console, or with kidoban gateway pins diff {server}.",
			"コンソールの「ツール定義」か、kidoban gateway pins diff {server} で確認してください。",
			"请在控制台的“工具定义”中查看，或使用 kidoban gateway pins diff {server}。"}},
	AlertFlowBarred: {
		[3]string{"An agent of {user} read text at {from} that reads like orders, and then called a tool of {server} that may send something out; {then}.",
			"{user} のエージェントが {from} で命令のように読める文章を読んだ後、外部へ送信しうる {server} のツールを呼び出しました。{then}。",
			"{user} 的代理在 {from} 读取了类似指令的文本，随后调用了 {server} 上可能向外发送内容的工具；{then}。"},
		[3]string{"Ask that person not to approve what they did not want themselves and to begin a new conversation, look at the calls in the audit log, and find out who wrote the text at {from}.",
			"自分が望まない操作は承認せず、新しい会話を始めるよう本人に伝えてください。監査ログで呼び出しを確認し、{from} の文章を誰が書いたか調べてください。",
			"请告知本人不要批准并非自己意愿的操作，并重新开始对话；在审计日志中查看这些调用，并查明 {from} 的文本由谁编写。"}},
}
