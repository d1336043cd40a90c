package toolscan

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// foldName folds a tool name so that names which look or read alike are equal:
// compatibility form, look-alike letters (TR39's common part), lower case,
// without separators, without a version suffix.
func foldName(name string) string {
	var b strings.Builder
	for _, r := range norm.NFKD.String(name) {
		if hiddenRune(r) != notHidden || unicode.Is(unicode.Mn, r) {
			continue
		}
		if l, ok := lookalike[r]; ok {
			r = rune(l)
		}
		switch r {
		case '_', '-', '.', ' ', '/', ':':
			continue
		}
		b.WriteRune(unicode.ToLower(r))
		if b.Len() > 256 {
			break
		}
	}
	return b.String()
}

// skeleton goes further than foldName: digits and letters that look alike fall
// together. Two names with one skeleton are confusable.
func skeleton(name string) string {
	return skeletonFold.Replace(foldName(name))
}

var skeletonFold = strings.NewReplacer("0", "o", "1", "l", "i", "l", "rn", "m", "vv", "w", "5", "s", "|", "l", "$", "s", "3", "e")

// wellKnownTools are tools of widely used servers, by folded name, with the
// server they belong to: reference servers and the vendors' own.
var wellKnownTools = map[string]string{
	"readfile": "filesystem", "writefile": "filesystem", "editfile": "filesystem", "listdirectory": "filesystem", "movefile": "filesystem", "readmultiplefiles": "filesystem", "searchfiles": "filesystem", "readtextfile": "filesystem",
	"sendemail": "gmail", "searchemails": "gmail", "reademail": "gmail", "sendmail": "gmail", "gmailsend": "gmail",
	"sendmessage": "whatsapp", "listmessages": "whatsapp", "listchats": "whatsapp", "searchcontacts": "whatsapp", "sendwhatsappmessage": "whatsapp", "getmessagecontext": "whatsapp",
	"createissue": "github", "createpullrequest": "github", "pushfiles": "github", "getfilecontents": "github", "createorupdatefile": "github", "searchrepositories": "github", "listissues": "github", "getissue": "github",
	"slackpostmessage": "slack", "slacklistchannels": "slack", "slackgetchannelhistory": "slack",
	"query": "postgres", "readquery": "sqlite", "writequery": "sqlite", "executesql": "supabase", "databasequery": "database",
	"bravewebsearch": "brave-search", "fetch": "fetch", "puppeteernavigate": "puppeteer", "browsernavigate": "playwright",
	"createentities": "memory", "addobservations": "memory", "readgraph": "memory", "sequentialthinking": "sequential-thinking",
	"runterminalcmd": "cursor", "executecommand": "terminal", "fileread": "filesystem", "filewrite": "filesystem", "bash": "host", "websearch": "host",
	"deletefile": "filesystem", "createdirectory": "filesystem", "getcurrenttime": "time", "getforecast": "weather", "getweather": "weather", "gitpush": "git", "gitcommit": "git", "placeorder": "shop", "transferfunds": "payments", "sendsms": "sms", "posttweet": "twitter", "webfetch": "host",
	"transfermoney": "payments", "sendpayment": "payments", "makepayment": "payments", "createpayment": "payments",
}
