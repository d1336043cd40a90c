package audit

import (
	"bytes"
	"net/url"
	"slices"
	"strings"

	"github.com/kidoban/kidoban"
)

// The first line of a report about an address that has no grade: what is there, and
// what to do about it. It is what strangers meet first, so it is in words of ours;
// what the system said is the operator's (Target.Cause).

// elsewhere is the advice where something answers that is no MCP server.
const elsewhere = "; check the path: many servers are at /mcp"

// headline is the run's first word: whether a grade makes sense.
func (f *Facts) headline() (string, string) {
	switch {
	case f.Discover == nil || f.Discover.Response == nil:
		return kidoban.HeadlineUnreachable, why(f.Discover)
	case f.MovedTo != "":
		return kidoban.HeadlineMoved, f.moved()
	case f.AS != nil || f.Refused != nil:
		return kidoban.HeadlineGraded, ""
	case f.Open:
		return kidoban.HeadlineOpen, answering(f.Tools)
	case f.Greets:
		return kidoban.HeadlineGraded, ""
	}
	if f.hidesBehind() {
		return kidoban.HeadlineUnreachable, standIn(f.Discover)
	}
	return kidoban.HeadlineNotMCP, notMCP(f.Discover)
}

// why says for the person in front why x has no answer.
func why(x *kidoban.Exchange) string {
	switch {
	case x == nil || x.Err == "":
		return "no answer"
	case x.Sentence != "":
		return x.Sentence
	}
	return firstLine(x.Err)
}

// cause is what the system said where nothing answered, for operators.
func (f *Facts) cause() string {
	if f.Discover == nil || f.Discover.Response != nil {
		return ""
	}
	return firstLine(f.Discover.Cause)
}

// moved says what a redirect in place of an answer is.
func (f *Facts) moved() string {
	to, err := url.Parse(f.MovedTo)
	if err != nil {
		return "the server redirects there, and the address cannot be read"
	}
	low := strings.ToLower(to.Path)
	for _, w := range []string{"login", "signin", "sign-in", "sign_in", "sso", "saml", "oauth", "authorize", "/auth"} {
		if strings.Contains(low, w) {
			return "that looks like a login for people; an MCP server refuses with status 401 and says where to log in (kidoban explain E10)"
		}
	}
	return "the server redirects there; if that is the same server, audit it at that address"
}

// standIn says what answers in place of a server that was not seen.
func standIn(x *kidoban.Exchange) string {
	st := " (status " + itoa(x.Status()) + ")"
	switch {
	case rateLimited(x):
		return "the server limits its callers" + st + ", so nothing of it was seen; run this again later"
	case challenged(x):
		return "a firewall or content network answers in the server's place" + st + "; audit from a network that it lets through"
	case outage(x):
		return "what answers here says that the server behind it does not" + st + "; start that server, or run this again later"
	}
	return "the server fails at whatever it is asked" + st + "; its own log says why"
}

// notMCP says what answers at an address where no MCP server is.
func notMCP(x *kidoban.Exchange) string {
	st := " (status " + itoa(x.Status()) + ")"
	low := bytes.ToLower(head(x.Response.Body, 4096))
	switch {
	case x.Status() == 407:
		return "a proxy on the way wants a login of its own" + st
	case x.Status() == 400 && (bytes.Contains(low, []byte("to an https server")) || bytes.Contains(low, []byte("sent to https port"))):
		return "this port speaks TLS" + st + "; write https:// instead of http://"
	case x.Status() == 404, x.Status() == 410:
		return "there is nothing at this path" + st + elsewhere
	case slices.Contains([]string{"text/html", "application/xhtml+xml"}, mediaType(x)):
		return "a web page for people is here" + st + elsewhere
	}
	return "the address answers, but not as an MCP server" + st + elsewhere
}

// hidesBehind tells whether nothing that was asked got an answer of the server's own:
// limits, challenges, outages or crashes stood in for it.
func (f *Facts) hidesBehind() bool {
	for _, x := range []*kidoban.Exchange{f.Discover, f.Init, f.List} {
		if x != nil && !hidden(x) {
			return false
		}
	}
	return true
}

// Failing says why nothing was seen of a server though something answers: "outage"
// where a proxy says that it is not there, "failing" where it fails itself; else "".
func (f *Facts) Failing() string {
	x := f.Discover
	switch {
	case x == nil || x.Response == nil || f.Headline != kidoban.HeadlineUnreachable:
		return ""
	case outage(x):
		return "outage"
	case crashed(x):
		return "failing"
	}
	return ""
}
