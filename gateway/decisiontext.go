package gateway

import "fmt"

// pageText is one text of the pages in every language they are written in.
// Formats take the same arguments in the same order.
type pageText struct{ en, ja, zh string }

func textIn(lang, id string, args ...any) string {
	t, ok := pageTexts[id]
	if !ok {
		return id
	}
	s := t.en
	switch lang {
	case "ja":
		s = t.ja
	case "zh":
		s = t.zh
	}
	if len(args) > 0 {
		return fmt.Sprintf(s, args...)
	}
	return s
}

// pageTexts are the texts of the decision pages by id.
var pageTexts = map[string]pageText{
	"language":     {"Language", "言語", "语言"},
	"request_id":   {"Request id", "リクエストID", "请求编号"},
	"logged_in_as": {"Logged in as", "ログイン中：", "当前登录："},

	"class_read":    {"read", "読み取り", "读取"},
	"class_write":   {"write", "書き込み", "写入"},
	"class_destroy": {"destructive", "破壊的", "破坏性"},

	"approval_title":     {"Approve a call", "呼び出しの承認", "批准调用"},
	"approval_question":  {"Let the AI agent do this?", "AIエージェントにこの操作を許可しますか？", "是否允许AI代理执行此操作？"},
	"approval_lead":      {"An AI agent that works for you wants to make the call below and waits for you. Text that it read may have led it here: approve only what you wanted yourself.", "あなたのために動作するAIエージェントが次の呼び出しを行おうとしており、あなたの判断を待っています。エージェントが読んだ文章に誘導された可能性があります。ご自身が望んだ操作だけを承認してください。", "为您工作的AI代理想进行以下调用，正在等待您的决定。它可能是被读到的文字引导至此：只批准您自己想要的操作。"},
	"approval_what":      {"What it wants to do", "操作の内容", "要执行的操作"},
	"approval_arguments": {"Exactly these arguments are sent. Hidden characters are spelled out.", "次の引数がこのまま送られます。見えない文字は明示しています。", "将原样发送以下参数。不可见字符已显示出来。"},
	"approval_why":       {"Why you are asked", "確認する理由", "为何询问您"},
	"approval_who":       {"Through which program", "使用するプログラム", "通过哪个程序"},
	"approval_lookalike": {"Words here mix letters of several alphabets and can be taken for other words. Letter by letter:", "複数の文字体系の文字が混ざり、別の語と見間違えるおそれのある語があります。文字ごとの表記：", "有词语混用了多种文字体系的字母，可能被误认为其他词语。逐字写出："},
	"approval_once":      {"A yes is for this one call only. The question stands until %s (minutes left: %d).", "承認はこの1回の呼び出しにのみ有効です。回答期限：%s(残り%d分)", "批准仅对这一次调用有效。请在 %s 之前决定(剩余 %d 分钟)。"},
	"approve_once":       {"Allow this once", "この1回だけ許可", "仅允许这一次"},
	"refuse":             {"Refuse", "拒否", "拒绝"},

	"why_default-destructive":  {"The server says that this tool destroys or overwrites things.", "このツールは削除や上書きを行うとサーバーが示しています。", "服务器标明此工具会删除或覆盖内容。"},
	"why_default-flow-send":    {"The agent has read text of strangers or your private data, and this call sends something out.", "エージェントは他人の書いた文章またはあなたの個人データを読んだ後、外部へ送信しようとしています。", "代理已读取陌生人的文字或您的私人数据，而此调用会向外发送内容。"},
	"why_default-flow-reach":   {"The agent has read text of strangers and your private data, and this call goes to an address of its choice.", "エージェントは他人の書いた文章とあなたの個人データを読んだ後、自ら選んだ宛先に接続しようとしています。", "代理已读取陌生人的文字和您的私人数据，而此调用会访问由它选择的地址。"},
	"why_default-flow-unclear": {"The agent has read text that gave it orders, and nothing says whether this call sends something out.", "エージェントは命令を含む文章を読んでおり、この呼び出しが外部へ送信するかどうかは不明です。", "代理已读取含有指令的文字，而此调用是否会向外发送内容并不明确。"},
	"why_policy":               {"The operator's policy %s asks for your yes.", "管理者のポリシー %s があなたの承認を求めています。", "管理员的策略 %s 要求您批准。"},

	"session_read":        {"In this session the agent has read:", "このセッションでエージェントが読んだもの：", "在本次会话中，代理已读取："},
	"session_warn":        {"Look closely at where it goes and what it carries.", "送り先と送る内容をよく確認してください。", "请仔细查看发送的去向和内容。"},
	"label_untrusted":     {"text that strangers can write", "他人が書ける文章", "陌生人可写的文字"},
	"label_private":       {"your private data", "あなたの個人データ", "您的私人数据"},
	"label_injected":      {"text that gave it orders", "命令を含む文章", "含有指令的文字"},
	"session_title":       {"What your agents have read", "エージェントが読んだもの", "代理读取过的内容"},
	"session_explain":     {"Until this is forgotten, calls that send something out need your approval.", "この記録がある間、外部へ送信する呼び出しには承認が必要です。", "在清除此记录之前，向外发送的调用需要您的批准。"},
	"session_forget_when": {"Only when you have begun a new conversation in your client, so that the agent no longer knows what it read:", "クライアントで新しい会話を始め、エージェントが読んだ内容を保持していない場合にのみ：", "仅当您已在客户端开始新的对话、代理不再记得读过的内容时："},
	"session_forget":      {"Begin anew", "記録を消す", "重新开始"},
	"session_clean":       {"Nothing that would need your attention.", "注意が必要なものはありません。", "没有需要您注意的内容。"},

	"decisions_title": {"Decisions", "承認待ち", "待决定事项"},
	"waiting_calls":   {"Calls that wait for you", "あなたの承認を待つ呼び出し", "等待您批准的调用"},
	"nothing_waits":   {"Nothing waits.", "ありません。", "没有。"},

	"held_title": {"Held definitions", "保留中の定義", "被搁置的定义"},

	"page_title":    {"A page of another service", "外部サービスのページ", "其他服务的页面"},
	"page_question": {"Open a page of another service?", "外部サービスのページを開きますか？", "是否打开其他服务的页面？"},
	"page_lead":     {"A server that your program uses asks you to open the page below. It does not belong to this gateway, and nobody here has checked it.", "お使いのプログラムが利用するサーバーが、次のページを開くよう求めています。このゲートウェイのページではなく、内容は確認されていません。", "您的程序所用的服务器请您打开以下页面。该页面不属于本网关，也未经检查。"},
	"page_where":    {"Where it leads", "移動先", "将前往"},
	"page_foreign":  {"This name is written with characters of other alphabets, which can look like those of a name that you know.", "この名前には他の文字体系の文字が使われており、ご存じの名前に似て見える場合があります。", "该名称使用了其他文字体系的字符，可能与您熟悉的名称看起来相似。"},
	"page_plain":    {"What you enter there is not encrypted on its way.", "そこに入力した内容は暗号化されずに送られます。", "您在该页面输入的内容在传输中不加密。"},
	"page_address":  {"The whole address; hidden characters are spelled out:", "アドレス全体(見えない文字は明示しています)：", "完整地址(不可见字符已显示出来)："},
	"page_who":      {"Who asks", "要求しているのは", "请求方"},
	"page_through":  {"through", "経由：", "通过"},
	"page_for":      {"It was asked of you, %s, and of nobody else. What you agree to there is used for your calls.", "これは %s さんへの依頼であり、他の人へのものではありません。そこで同意した内容はあなたの呼び出しに使われます。", "这是向您(%s)而非他人提出的请求。您在那里同意的内容将用于您的调用。"},
	"page_warn":     {"Go on only if you have just asked for this in your program. If somebody sent you this link, close this page.", "今ご自身のプログラムで依頼した場合にのみ進んでください。誰かからこのリンクを受け取った場合は、このページを閉じてください。", "只有在您刚刚在程序中发起此操作时才继续。如果是别人发给您此链接，请关闭此页面。"},
	"page_go":       {"Go on to %s", "%s へ進む", "前往 %s"},

	"done_approved":      {"Allowed once", "1回だけ許可しました", "已允许一次"},
	"done_approved_text": {"The agent may make exactly this call, once. Go back to your client; it may have to try again.", "エージェントはこの呼び出しを1回だけ行えます。クライアントに戻ってください。再試行が必要な場合があります。", "代理可以进行这一次调用，仅限一次。请返回客户端，可能需要重试。"},
	"done_refused":       {"Refused", "拒否しました", "已拒绝"},
	"done_refused_text":  {"The call is not made.", "呼び出しは行われません。", "不会进行该调用。"},
	"done_forget":        {"Begun anew", "記録を消しました", "已重新开始"},
	"done_forget_text":   {"Your agents count as having read nothing.", "エージェントは何も読んでいないものとして扱われます。", "您的代理现视为未读取任何内容。"},

	"no_title":       {"This cannot be done", "この操作はできません", "无法执行此操作"},
	"no_page_here":   {"There is nothing at this address.", "このアドレスにはページがありません。", "此地址没有页面。"},
	"no_other":       {"This call belongs to another person. Log in as that person, or leave it.", "この呼び出しは別の利用者のものです。", "此调用属于另一位用户。"},
	"no_unknown":     {"There is no such call. It may have been too long ago.", "該当する呼び出しはありません。期限が過ぎた可能性があります。", "没有此调用，可能已过期太久。"},
	"no_page":        {"This link is too old or was changed on the way. Let your program ask again.", "このリンクは古すぎるか、途中で変更されています。プログラムからもう一度実行してください。", "此链接已过期或在途中被更改。请让程序重新请求。"},
	"no_page_other":  {"This page was made for another person. If somebody sent you the link, tell the operator.", "このページは別の利用者のためのものです。リンクが送られてきた場合は管理者に知らせてください。", "此页面是为另一位用户准备的。如果有人向您发送了此链接，请告知管理员。"},
	"no_expired":     {"The time to decide is over. If you want the call, let your client make it again.", "回答期限が過ぎました。必要な場合はクライアントからもう一度実行してください。", "决定的时间已过。如需该调用，请让客户端重新发起。"},
	"no_decided":     {"This was decided before (%s). A decision counts once and is not changed.", "すでに決定済みです(%s)。決定は1回限りで変更できません。", "此前已作出决定(%s)。决定只算一次，不可更改。"},
	"no_form":        {"The form was too old or did not come from this page. Open the page again.", "フォームの有効期限が切れたか、このページから送信されたものではありません。ページを開き直してください。", "表单已过期或并非来自本页面。请重新打开页面。"},
	"no_admin":       {"Only an administrator may do this.", "管理者のみが行えます。", "只有管理员可以执行此操作。"},
	"no_store":       {"It cannot be decided just now. Try again in a moment.", "現在は決定できません。しばらくしてからお試しください。", "暂时无法决定，请稍后再试。"},
	"state_approved": {"allowed", "許可", "已允许"},
	"state_refused":  {"refused", "拒否", "已拒绝"},
	"state_used":     {"allowed, and the call was made", "許可され、実行済み", "已允许并已执行"},
	"state_waiting":  {"waiting", "待機中", "等待中"},
}
