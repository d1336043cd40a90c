package toolscan

import (
	"fmt"
	"sort"
	"strings"

	"github.com/kidoban/kidoban"
)

// Report is the result of a scan over all servers of one user.
type Report struct {
	Verdicts []Verdict `json:"verdicts"` // in the order of the servers and their items
	Cross    []Finding `json:"cross"`    // between servers: collisions, look-alikes
	Flows    []Flow    `json:"flows"`    // tools that together let data out
}

// Flow is a toxic flow: a tool that brings in untrusted text, one that reads
// private data and one that sends out, all within reach of one model. Who plants
// text in the first steers the others.
type Flow struct {
	Untrusted []string `json:"untrusted"` // "server/tool"
	Private   []string `json:"private"`
	Out       []string `json:"out"`
	Reason    string   `json:"reason"`
	Fix       string   `json:"fix"`
}

// Scan judges everything all servers of one user offer: every item in the
// context of its own server and of the others, and the servers against each
// other. The cost is linear in the bytes offered.
func (sc *Scanner) Scan(servers []Server) Report {
	var rep Report
	for i := range servers {
		others := make([]Server, 0, len(servers))
		others = append(append(others, servers[:i]...), servers[i+1:]...)
		ctx := NewContext(servers[i], others)
		for _, it := range servers[i].Items {
			v := sc.Item(ctx, it)
			v.Server = servers[i].Name
			for k := range v.Findings {
				v.Findings[k].Server, v.Findings[k].Kind, v.Findings[k].Item = v.Server, it.Kind, it.Name
			}
			rep.Verdicts = append(rep.Verdicts, v)
		}
	}
	rep.Cross = append(collisions(servers), squatters(servers)...)
	rep.Flows = flows(rep.Verdicts)
	return rep
}

// Flagged returns how many items are flagged, and how many by a hard rule.
func (r *Report) Flagged() (flagged, strict int) {
	for i := range r.Verdicts {
		if r.Verdicts[i].Flagged {
			flagged++
		}
		if r.Verdicts[i].Strict {
			strict++
		}
	}
	return flagged, strict
}

// collisions finds tools of different servers whose names are equal or
// confusable: which of them a model calls is chance, or the attacker's choice.
func collisions(servers []Server) []Finding {
	type owner struct{ server, tool string }
	seen := map[string]owner{}
	var out []Finding
	for i := range servers {
		for _, it := range servers[i].Items {
			if it.Kind != KindTool {
				continue
			}
			k := skeleton(stripVersion(it.Name))
			first, dup := seen[k]
			if !dup {
				seen[k] = owner{servers[i].Name, it.Name}
				continue
			}
			f := Finding{Family: FamilyCollision, Tier: Soft, Server: servers[i].Name, Kind: KindTool, Item: it.Name, Path: "/name", End: len(it.Name), Excerpt: Visible(it.Name, 120),
				Fix: "Prefix the names with their server (the gateway does), or drop one of the tools."}
			switch {
			case first.server == servers[i].Name && first.tool == it.Name:
				continue // listed twice
			case first.tool == it.Name:
				f.Rule, f.Severity, f.Confidence = "name-collision", kidoban.Medium, 0.5
				f.Reason = fmt.Sprintf("%s offers a tool of the same name.", Visible(first.server, 60))
			default:
				f.Rule, f.Severity, f.Confidence = "name-confusable", kidoban.High, 0.7
				f.Reason = fmt.Sprintf("The name is confusable with %s of %s.", Visible(first.tool, 60), Visible(first.server, 60))
				if first.server == servers[i].Name {
					f.Severity, f.Confidence = kidoban.Low, 0.3
				}
			}
			out = append(out, f)
		}
	}
	return out
}

// stripVersion cuts "_v2" and "2" endings that make a copy look like an update.
func stripVersion(name string) string {
	for i := len(name) - 1; i > 0; i-- {
		c := name[i]
		if c >= '0' && c <= '9' {
			continue
		}
		if i+1 < len(name) && (c == 'v' || c == 'V') && i > 0 && (name[i-1] == '_' || name[i-1] == '-' || name[i-1] == '.') {
			return name[:i-1]
		}
		return name
	}
	return name
}

// squatters finds a well-known server's tool name on a server that is not that
// one, when the well-known server is not among the user's.
func squatters(servers []Server) []Finding {
	var out []Finding
	for i := range servers {
		own := foldName(servers[i].Name)
		count := map[string]int{}
		for _, it := range servers[i].Items {
			if home, ok := wellKnownTools[foldName(it.Name)]; ok && it.Kind == KindTool {
				count[home]++
			}
		}
		for _, it := range servers[i].Items {
			home, ok := wellKnownTools[foldName(it.Name)]
			// A server with several of the tools is another implementation.
			if !ok || it.Kind != KindTool || count[home] > 1 || strings.Contains(own, foldName(home)) || len(foldName(it.Name)) < 8 {
				continue
			}
			out = append(out, Finding{Rule: "well-known-name", Family: FamilyCollision, Tier: Label, Severity: kidoban.Low, Confidence: 0.2, Server: servers[i].Name, Kind: KindTool, Item: it.Name,
				Path: "/name", End: len(it.Name), Excerpt: Visible(it.Name, 120), Reason: "The name is known from the " + home + " server; a model may take one for the other.",
				Fix: "Check that the server is meant to offer this."})
		}
	}
	return out
}

// flows looks for the three legs of a toxic flow across all tools.
func flows(vs []Verdict) []Flow {
	var in, private, sending []string
	servers := map[string]bool{}
	for i := range vs {
		v := &vs[i]
		if v.Kind != KindTool {
			continue
		}
		name := v.Server + "/" + v.Item
		has := map[Capability]bool{}
		for _, c := range v.Capabilities {
			has[c] = true
		}
		reads := has[CapRead] && !has[CapWrite]
		if has[CapNetwork] || reads && untrustedSource(v.Item) {
			in = append(in, name)
			servers[v.Server] = true
		}
		if reads && has[CapPrivate] {
			private = append(private, name)
		}
		if has[CapMessage] || has[CapPayment] || has[CapNetwork] && has[CapWrite] {
			sending = append(sending, name)
		}
	}
	if len(in) == 0 || len(private) == 0 || len(sending) == 0 {
		return nil
	}
	return []Flow{{Untrusted: first(in), Private: first(private), Out: first(sending),
		Reason: "Text written by strangers, private data and a way out are within reach of one model: who plants the text can have the data sent.",
		Fix:    "Keep one of the three out of the session, or have policy bar the tools that send once untrusted text was read."}}
}

// untrustedSource says whether what a tool reads is written by strangers.
func untrustedSource(name string) bool {
	for _, p := range nameParts(name) {
		switch p {
		case "issue", "issues", "comment", "comments", "email", "emails", "message", "messages", "inbox", "page", "web", "tweet", "tweets", "review", "reviews", "ticket", "tickets", "pull", "feed", "article", "mail", "thread",
			"mails", "chat", "chats", "sms", "posts", "replies", "threads", "feeds", "articles", "pages", "webpage", "website", "news", "discussion", "discussions", "conversation", "conversations", "inboxes":
			return true
		}
	}
	return false
}

// WrittenByStrangers tells by a tool's name whether what it reads is text that
// strangers can write: issues, mails, messages, web pages.
func WrittenByStrangers(tool string) bool { return untrustedSource(tool) && WriteVerb(tool) == "" }

// first returns up to eight names, sorted.
func first(names []string) []string {
	sort.Strings(names)
	return names[:min(8, len(names))]
}
