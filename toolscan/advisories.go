package toolscan

import (
	"strconv"
	"strings"

	"github.com/kidoban/kidoban"
)

// Advisory is a known incident, or a known flaw of a package an MCP user may
// run. Classes are those of the OWASP MCP Top 10 (MCP01 … MCP10). Every fact has
// a source that was read for this list, or stands in Unconfirmed; where no fixed
// version exists the remedy says what to do instead.
type Advisory struct {
	ID        string           `json:"id"` // CVE where there is one, otherwise a short name
	Title     string           `json:"title"`
	Summary   string           `json:"summary"`
	Severity  kidoban.Severity `json:"severity"`
	Owasp     []string         `json:"owasp_mcp"`
	Kind      string           `json:"kind"`                // vulnerability, malicious_package, incident
	Ecosystem string           `json:"ecosystem,omitempty"` // npm, pypi, or "" for products
	Package   string           `json:"package,omitempty"`
	From      string           `json:"from,omitempty"`  // first affected version; "" is the first of all
	Fixed     string           `json:"fixed,omitempty"` // first version that is not affected; "" when there is none
	Instead   string           `json:"instead,omitempty"`
	Sources   []string         `json:"sources"`            // pages that were read and say so
	See       []string         `json:"see_also,omitempty"` // where the finders and registries write about it; not read for this list
	// Unconfirmed is what no source that was read says.
	Unconfirmed string `json:"unconfirmed,omitempty"`
}

// Affects says whether version is affected. An unknown version ("", "latest", a
// range) is affected only where no fix exists, and then certain is false when
// the package is merely unpinned.
func (a *Advisory) Affects(version string) (hit, certain bool) {
	if !exactVersion(version) {
		return a.Fixed == "", a.Fixed == "" && a.From == ""
	}
	if a.From != "" && compareVersions(version, a.From) < 0 {
		return false, true
	}
	return a.Fixed == "" || compareVersions(version, a.Fixed) < 0, true
}

// Remedy says what to do.
func (a *Advisory) Remedy() string {
	switch {
	case a.Instead != "":
		return a.Instead
	case a.Fixed != "":
		return "Use " + a.Fixed + " or later."
	}
	return "There is no fixed version: stop using it."
}

// Says is the summary, with what no source confirms.
func (a *Advisory) Says() string {
	if a.Unconfirmed == "" {
		return a.Summary
	}
	return a.Summary + " (Not confirmed: " + a.Unconfirmed + ".)"
}

func exactVersion(v string) bool {
	return v != "" && v[0] >= '0' && v[0] <= '9' && !strings.ContainsAny(v, "^~*><|x ")
}

// compareVersions compares dotted numbers; a pre-release is before its release.
func compareVersions(a, b string) int {
	na, preA := numbers(a)
	nb, preB := numbers(b)
	for i := 0; i < len(na) || i < len(nb); i++ {
		x, y := 0, 0
		if i < len(na) {
			x = na[i]
		}
		if i < len(nb) {
			y = nb[i]
		}
		if x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	switch {
	case preA == preB:
		return 0
	case preA != "" && (preB == "" || preA < preB):
		return -1
	}
	return 1
}

func numbers(v string) ([]int, string) {
	v, _, _ = strings.Cut(v, "+")
	v, pre, _ := strings.Cut(v, "-")
	var out []int
	for _, p := range strings.Split(v, ".") {
		n, err := strconv.Atoi(p)
		if err != nil {
			break
		}
		out = append(out, n)
	}
	return out, pre
}

// Advisories returns the list, newest knowledge last in no order that matters.
// It is small and kept by hand; the sources say where to look for more.
func Advisories() []Advisory { return advisories }

var advisories = []Advisory{
	{ID: "CVE-2025-6514", Title: "mcp-remote: command injection by the authorization endpoint", Severity: kidoban.Critical, Owasp: []string{"MCP05", "MCP04"}, Kind: "vulnerability",
		Summary:   "A server's authorization_endpoint reaches the operating system's URL opener unchecked and runs commands on the client.",
		Ecosystem: "npm", Package: "mcp-remote", From: "0.0.5", Fixed: "0.1.16",
		Sources: []string{"https://mcpowered.com/mcp-remote/"},
		See:     []string{"https://nvd.nist.gov/vuln/detail/CVE-2025-6514", "https://jfrog.com/blog/2025-6514-critical-mcp-remote-rce-vulnerability/"}},
	{ID: "CVE-2025-49596", Title: "MCP Inspector: commands from any web page", Severity: kidoban.Critical, Owasp: []string{"MCP07", "MCP05"}, Kind: "vulnerability",
		Summary:   "The local proxy starts programs for anyone who reaches it, without authentication; a web page is enough.",
		Ecosystem: "npm", Package: "@modelcontextprotocol/inspector", Fixed: "0.14.1",
		Sources: []string{"https://www.zealynx.io/glossary/mcp-inspector"},
		See:     []string{"https://nvd.nist.gov/vuln/detail/CVE-2025-49596", "https://www.oligo.security/blog/critical-rce-vulnerability-in-anthropic-mcp-inspector-cve-2025-49596"}},
	{ID: "CVE-2025-53110", Title: "server-filesystem: sibling directories by prefix", Severity: kidoban.High, Owasp: []string{"MCP02"}, Kind: "vulnerability",
		Summary:   "Allowed directories are compared as string prefixes, so /srv/data admits /srv/data-private.",
		Ecosystem: "npm", Package: "@modelcontextprotocol/server-filesystem", Fixed: "2025.7.1",
		Sources:     []string{"https://www.zealynx.io/glossary/path-prefix-bypass", "https://github.com/Agent-Threat-Rule/agent-threat-rules/pull/271"},
		See:         []string{"https://nvd.nist.gov/vuln/detail/CVE-2025-53110", "https://cymulate.com/blog/cve-2025-53109-53110-escaperoute-anthropic/"},
		Unconfirmed: "that 2025.7.1 is the first version with the fix"},
	{ID: "CVE-2025-53109", Title: "server-filesystem: symbolic links lead out", Severity: kidoban.High, Owasp: []string{"MCP02"}, Kind: "vulnerability",
		Summary:   "A symbolic link inside an allowed directory is followed to any file.",
		Ecosystem: "npm", Package: "@modelcontextprotocol/server-filesystem", Fixed: "2025.7.1",
		Sources:     []string{"https://github.com/Agent-Threat-Rule/agent-threat-rules/pull/271"},
		See:         []string{"https://nvd.nist.gov/vuln/detail/CVE-2025-53109", "https://cymulate.com/blog/cve-2025-53109-53110-escaperoute-anthropic/"},
		Unconfirmed: "that 2025.7.1 is the first version with the fix"},
	{ID: "CVE-2025-53967", Title: "figma-developer-mcp: command injection", Severity: kidoban.High, Owasp: []string{"MCP05"}, Kind: "vulnerability",
		Summary:   "A file key from the model is put into a curl command line and run by a shell.",
		Ecosystem: "npm", Package: "figma-developer-mcp", Fixed: "0.6.3",
		Sources:     []string{"https://dev.to/manveer_chawla_64a7283d5a/mcp-supply-chain-attack-vector-2gf1", "https://github.com/GLips/Figma-Context-MCP/pull/150", "https://www.permissionprotocol.com/agent-incident-tracker/framelink-figma-mcp-rce-cve-2025-53967"},
		See:         []string{"https://nvd.nist.gov/vuln/detail/CVE-2025-53967"},
		Unconfirmed: "that 0.6.3 is the first version with the fix"},
	{ID: "server-postgres-sql", Title: "server-postgres: stacked SQL leaves the read-only transaction", Severity: kidoban.High, Owasp: []string{"MCP05", "MCP02"}, Kind: "vulnerability",
		Summary:   "A query may hold several statements; COMMIT ends the read-only transaction and what follows writes.",
		Ecosystem: "npm", Package: "@modelcontextprotocol/server-postgres", Instead: "The package is archived: use another server, or a database role that can only read.",
		Sources:     []string{"https://zozo123.github.io/databases-in-the-ai-era/course/week-12.html", "https://al-ice.ai/posts/2026/05/trendmicro-return-to-tool-rtt-ai-agent-exploitation/"},
		See:         []string{"https://securitylabs.datadoghq.com/articles/mcp-vulnerability-case-study-SQL-injection-in-the-postgresql-mcp-server/"},
		Unconfirmed: "that no version on npm has a fix"},
	{ID: "server-sqlite-sql", Title: "mcp-server-sqlite: SQL injection", Severity: kidoban.High, Owasp: []string{"MCP05", "MCP06"}, Kind: "vulnerability",
		Summary:   "Names are put into SQL text unescaped; stored text can carry instructions to the model that reads it later.",
		Ecosystem: "pypi", Package: "mcp-server-sqlite", Instead: "The package is archived without a fix: use another server.",
		Sources: []string{"https://www.trendmicro.com/de_de/research/25/g/mcp-server-schwachstelle-unterwandert-ki-agenten.html", "https://www.trendmicro.com/zh_tw/research/25/f/why-a-classic-mcp-server-vulnerability-can-undermine-your-entire-ai-agent.html"},
		See:     []string{"https://www.trendmicro.com/en_us/research/25/f/why-a-classic-mcp-server-vulnerability-can-undermine-your-entire-ai-agent.html"}},
	{ID: "CVE-2025-68143", Title: "mcp-server-git: git_init outside the repository", Severity: kidoban.High, Owasp: []string{"MCP02", "MCP05"}, Kind: "vulnerability",
		Summary:   "With its sister flaws CVE-2025-68144 and CVE-2025-68145: repositories in any directory, and arguments taken for options.",
		Ecosystem: "pypi", Package: "mcp-server-git", Fixed: "2025.12.18",
		Sources:     []string{"https://github.com/scaleapi/mcp-atlas/pull/10", "https://oddguan.com/blog/anthropic-mcp-server-git-add-path-traversal-credential-exfiltration-capability-laundering-cve-2026-27735"},
		See:         []string{"https://nvd.nist.gov/vuln/detail/CVE-2025-68143", "https://cyata.ai/blog/cyata-research-breaking-anthropics-official-mcp-server/"},
		Unconfirmed: "that 2025.12.18 is the first version with all three fixes"},
	{ID: "CVE-2026-27735", Title: "mcp-server-git: git_add stages files outside the repository", Severity: kidoban.Medium, Owasp: []string{"MCP02"}, Kind: "vulnerability",
		Summary:   "Paths with ../ bring any readable file into the index, from where a push publishes it.",
		Ecosystem: "pypi", Package: "mcp-server-git", Fixed: "2026.1.14",
		Sources: []string{"https://raxe.ai/labs/advisories/RAXE-2026-014", "https://oddguan.com/blog/anthropic-mcp-server-git-add-path-traversal-credential-exfiltration-capability-laundering-cve-2026-27735"},
		See:     []string{"https://github.com/advisories/GHSA-vjqx-cfc4-9h6v"}},
	{ID: "CVE-2025-9611", Title: "Playwright MCP: DNS rebinding", Severity: kidoban.High, Owasp: []string{"MCP07"}, Kind: "vulnerability",
		Summary:   "The Origin header is not checked, so a web page can drive the browser server.",
		Ecosystem: "npm", Package: "@playwright/mcp", Fixed: "0.0.40",
		Sources: []string{"https://mythos.one/me/brianswichkow/149777"},
		See:     []string{"https://nvd.nist.gov/vuln/detail/CVE-2025-9611"}},
	{ID: "CVE-2025-66416", Title: "MCP Python SDK: DNS rebinding protection off by default", Severity: kidoban.High, Owasp: []string{"MCP07"}, Kind: "vulnerability",
		Summary:   "Servers on loopback answer requests that a web page sends under another host name.",
		Ecosystem: "pypi", Package: "mcp", Fixed: "1.23.0",
		Sources: []string{"https://portal.vyprsec.ai/cves/CVE-2025-66416", "https://github.com/wolfi-dev/os/pull/74799"},
		See:     []string{"https://github.com/advisories/GHSA-9h52-p55h-vw2f"}},
	{ID: "GHSA-w48q-cv73-mx4w", Title: "MCP TypeScript SDK: DNS rebinding protection off by default", Severity: kidoban.High, Owasp: []string{"MCP07"}, Kind: "vulnerability",
		Summary:   "Servers on loopback answer requests that a web page sends under another host name.",
		Ecosystem: "npm", Package: "@modelcontextprotocol/sdk", Fixed: "1.24.0",
		Sources: []string{"https://rafter.so/blog/mcp-dns-rebinding-localhost"},
		See:     []string{"https://github.com/advisories/GHSA-w48q-cv73-mx4w"}},
	{ID: "GHSA-wmg3-h8mf-wgvr", Title: "mcp-server-kubernetes: argument injection", Severity: kidoban.High, Owasp: []string{"MCP05"}, Kind: "vulnerability",
		Summary:   "Values from the model are taken for kubectl options.",
		Ecosystem: "npm", Package: "mcp-server-kubernetes", Fixed: "3.9.0",
		Sources: []string{"https://github.com/github/advisory-database/pull/9036", "https://github.com/Flux159/mcp-server-kubernetes/issues/328"},
		See:     []string{"https://github.com/advisories/GHSA-wmg3-h8mf-wgvr"}},
	{ID: "CVE-2025-59377", Title: "mcp-kubernetes-server: command injection", Severity: kidoban.Critical, Owasp: []string{"MCP05"}, Kind: "vulnerability",
		Summary:   "The kubectl handler runs text from the request through a shell.",
		Ecosystem: "pypi", Package: "mcp-kubernetes-server", Instead: "No fixed version was published with the advisory: use another server.",
		Sources: []string{"https://github.com/github/advisory-database/pull/6199"},
		See:     []string{"https://github.com/advisories/GHSA-4hqq-7q79-932p"}},
	{ID: "CVE-2026-49857", Title: "auth-fetch-mcp: loopback through IPv4-mapped IPv6", Severity: kidoban.High, Owasp: []string{"MCP05", "MCP10"}, Kind: "vulnerability",
		Summary:   "The guard against internal addresses misses ::ffff:127.0.0.1 in hexadecimal form.",
		Ecosystem: "npm", Package: "auth-fetch-mcp", Fixed: "3.0.2",
		Sources: []string{"https://api.pruva.dev/v1/reproductions/REPRO-2026-00205/artifacts/bundle/repro/rca_report.md"},
		See:     []string{"https://nvd.nist.gov/vuln/detail/CVE-2026-49857"}},
	{ID: "CVE-2025-65512", Title: "markdownify-mcp: requests to internal addresses", Severity: kidoban.High, Owasp: []string{"MCP05", "MCP10"}, Kind: "vulnerability",
		Summary:   "Pages are fetched from any address that does not look internal as text: a name that resolves to one, or [::1], passes.",
		Ecosystem: "npm", Package: "mcp-markdownify-server", Instead: "1.1.0 was still reported as affected: run it behind the gateway's URL guard.",
		Sources: []string{"https://github.com/zcaceres/markdownify-mcp/issues/112", "https://github.com/JSONbored/awesome-claude/pull/1812"},
		See:     []string{"https://nvd.nist.gov/vuln/detail/CVE-2025-65512"}},
	{ID: "fetch-mcp-ssrf", Title: "fetch-mcp: requests to loopback and internal addresses", Severity: kidoban.High, Owasp: []string{"MCP05", "MCP10"}, Kind: "vulnerability",
		Summary:   "URLs from the model are fetched wherever they lead.",
		Ecosystem: "npm", Package: "fetch-mcp", Instead: "Run it behind the gateway's URL guard, or without a network that matters.",
		Sources: []string{"https://github.com/egoist/fetch-mcp/issues/3"}},
	{ID: "CVE-2026-61560", Title: "gitlab-mcp: unauthenticated SSE and file upload", Severity: kidoban.High, Owasp: []string{"MCP07", "MCP02"}, Kind: "vulnerability",
		Summary:   "The SSE transport answers without authentication, and a remote caller can have local files uploaded.",
		Ecosystem: "npm", Package: "@zereight/mcp-gitlab", Fixed: "2.1.27", Instead: "Use 2.1.27 or later, with SSE_AUTH_TOKEN set where SSE is on.",
		Sources: []string{"https://github.com/zereight/gitlab-mcp/pull/622"},
		See:     []string{"https://github.com/zereight/gitlab-mcp/security/advisories/GHSA-cv3r-c5h8-f4g5"}},
	{ID: "postmark-mcp", Title: "postmark-mcp: a copy of every mail to a stranger", Severity: kidoban.Critical, Owasp: []string{"MCP04", "MCP03"}, Kind: "malicious_package",
		Summary:   "An imitation of the vendor's server worked honestly for fifteen versions; 1.0.16 added a hidden BCC to every message.",
		Ecosystem: "npm", Package: "postmark-mcp", From: "1.0.16", Instead: "Remove the package, rotate what the mails contained, and use the vendor's own server.",
		Sources: []string{"https://akhilesharora.github.io/herkos/docs/case-postmark.html", "https://www.permissionprotocol.com/agent-incident-tracker/postmark-mcp-npm-bcc-email-exfiltration"},
		See:     []string{"https://postmarkapp.com/blog/information-regarding-malicious-postmark-mcp-package", "https://redsec.ninja/2025/10/01/supply-chain-risk-in-ai-agent-tooling-malicious-mcp-server-on-npm"}},
	{ID: "CVE-2025-54136", Title: "MCPoison: Cursor trusts an approved name, not its content", Severity: kidoban.High, Owasp: []string{"MCP04", "MCP03"}, Kind: "vulnerability",
		Summary: "An entry of mcp.json that was approved once may change its command later without another question: a rug pull in the configuration.",
		Package: "Cursor", Fixed: "1.3",
		Sources: []string{"https://github.com/HackTricks-wiki/hacktricks/pull/1243", "https://www.cncso.com/en/cursor-ide-secure-development-guide.html"},
		See:     []string{"https://nvd.nist.gov/vuln/detail/CVE-2025-54136", "https://research.checkpoint.com/2025/cursor-vulnerability-mcpoison/"}},
	{ID: "CVE-2025-54135", Title: "CurXecute: a message rewrites Cursor's mcp.json", Severity: kidoban.High, Owasp: []string{"MCP06", "MCP05"}, Kind: "vulnerability",
		Summary: "Injected content has the agent write an MCP configuration, which starts at once.",
		Package: "Cursor", Fixed: "1.3.9",
		Sources:     []string{"https://github.com/Agent-Threat-Rule/agent-threat-rules/pull/271", "https://www.cncso.com/en/cursor-ide-secure-development-guide.html"},
		See:         []string{"https://nvd.nist.gov/vuln/detail/CVE-2025-54135"},
		Unconfirmed: "that 1.3.9 is the first version with the fix; one source names 1.3"},
	{ID: "github-mcp-toxic-flow", Title: "GitHub MCP: an issue leaks a private repository", Severity: kidoban.High, Owasp: []string{"MCP06", "MCP10"}, Kind: "incident",
		Summary: "An issue in a public repository holds orders; the agent that reads it carries private data into a public pull request.",
		Instead: "Bar writing to public places once untrusted text was read; give the token one repository.",
		Sources: []string{"https://www.joinformal.com/blog/the-permission-pitfall-securing-mcp-servers-without-limiting-value", "https://windows.atsit.in/es/26552"},
		See:     []string{"https://invariantlabs.ai/blog/mcp-github-vulnerability", "https://www.docker.com/blog/mcp-horror-stories-github-prompt-injection/"}},
	{ID: "whatsapp-mcp-shadowing", Title: "WhatsApp MCP: a second server reads the messages", Severity: kidoban.High, Owasp: []string{"MCP03", "MCP10"}, Kind: "incident",
		Summary: "A harmless-looking server changes its description later and redirects the messaging server's recipient: rug pull and shadowing together.",
		Instead: "Pin definitions; check every server against the others.",
		Sources: []string{"https://rafter.so/blog/mcp-cross-server-capability-laundering", "https://acuvity.ai/cross-server-tool-shadowing-hijacking-calls-between-servers", "https://ernestprovo23.github.io/mcp-warden/tool-poisoning/"},
		See:     []string{"https://invariantlabs.ai/blog/whatsapp-mcp-exploited"}},
	{ID: "tool-poisoning", Title: "Tool poisoning: orders in a description", Severity: kidoban.High, Owasp: []string{"MCP03"}, Kind: "incident",
		Summary: "A description has the model read files and pass their contents in an argument, unseen by the user.",
		Instead: "Scan definitions before connecting, pin them, and hold every change.",
		Sources: []string{"https://policylayer.com/attacks/tool-poisoning", "https://redteams.ai/topics/case-studies/case-study-mcp-tool-poisoning"},
		See:     []string{"https://invariantlabs.ai/blog/mcp-security-notification-tool-poisoning-attacks"}},
	{ID: "CVE-2026-5058", Title: "aws-mcp-server: command injection", Severity: kidoban.High, Owasp: []string{"MCP05"}, Kind: "incident",
		Summary: "What the model writes becomes a part of a command line, where it can be taken for an option.",
		Instead: "Run it in the sandbox, with a role that can do nothing else.",
		Sources: []string{"https://mcpsafe.io/threats/MCP-276"}, See: []string{"https://labs.snyk.io/resources/prompt-injection-mcp/"},
		Unconfirmed: "which versions are affected, and whether one has a fix"},
	{ID: "hardcoded-credentials", Title: "Credentials in MCP configuration files", Severity: kidoban.Medium, Owasp: []string{"MCP01"}, Kind: "incident",
		Summary: "Keys written into configuration files are read by every program of the user and end up in repositories.",
		Instead: "Keep them in a vault; kidoban tools scan finds them.",
		Sources: []string{"https://risk-academy.ru/beware-of-mcp-hardcoded-credentials-a-perfect-target-for-threat-actors/"},
		See:     []string{"https://www.trendmicro.com/en_us/research/25/h/beware-of-mcp-hardcoded-credentials-a-perfect-target-for-threat-actors.html"}},
}
