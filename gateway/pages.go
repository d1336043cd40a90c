package gateway

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/kidoban/kidoban/wire"
)

// A server may have a person open a page (elicitation in URL mode). It chooses the
// address, and the address works for whoever opens it: a link that one user's client is
// given can be handed to another, who then connects their account for the first (E35).
// So clients get the address of a page of ours instead (Decisions), which tells who asks
// and where it leads, and serves only the user who was asked (mcp-authorization 2.6). What
// the link needs is sealed in it, so every replica has the page and nothing is stored.

// sentTo is what a link to our page holds.
type sentTo struct {
	User   string `json:"u"`
	Client string `json:"c"`
	Server string `json:"s"`
	Title  string `json:"n"`
	URL    string `json:"a"`
}

const (
	pagePath = "/decisions/page/"
	pageLife = time.Hour
	maxPage  = 4 << 10 // bytes of an address; sealed, it still fits into a request's first line everywhere
)

func pageBinding() []byte { return binding("page of a server") }

// pages has the addresses in a message of a server lead through our page. One that is
// no page is refused: a script, a file, an address with a password in it, plain http
// (CL-14).
func (g *Gateway) pages(c *call, m wire.Message) (wire.Message, *Refusal) {
	var refusal *Refusal
	through := func(params wire.Raw) wire.Raw {
		if refusal != nil {
			return params
		}
		params, refusal = g.through(c, params)
		return params
	}
	switch {
	case m.Kind == wire.Request && urlMode(m.Method, m.Params):
		m.Params = through(m.Params)
	case m.Kind == wire.Result && c.Era == wire.Modern && (wire.LookupString(m.Result, "resultType") == "input_required" || strings.HasPrefix(c.Message.Method, "tasks/")):
		m.Result = askedFor(m.Result, through)
	case m.Kind == wire.Notification && strings.HasPrefix(m.Method, "notifications/tasks"):
		m.Params = askedFor(m.Params, through)
	case m.Kind == wire.ErrorReply && errorCode(m) == wire.CodeElicitationRequired:
		data, _ := wire.Lookup(m.Error, "data")
		list, _ := wire.Lookup(data, "elicitations")
		out := wire.Raw{'['}
		whole := wire.Elements(list, func(e wire.Raw) bool {
			if urlMode(wire.MethodElicit, e) {
				e = through(e)
			}
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(out, e...)
			return refusal == nil
		})
		if whole {
			m.Error = wire.SetMember(m.Error, "data", wire.SetMember(data, "elicitations", append(out, ']')))
		}
	}
	return m, refusal
}

// askedFor changes the pages in what a result, or a task that waits for input, asks for.
func askedFor(obj wire.Raw, through func(wire.Raw) wire.Raw) wire.Raw {
	all, ok := wire.Lookup(obj, "inputRequests")
	if !ok {
		return obj
	}
	out := all
	wire.Each(all, func(name, req wire.Raw) bool {
		if params, _ := wire.Lookup(req, "params"); urlMode(wire.LookupString(req, "method"), params) {
			if key, ok := wire.String(name); ok {
				out = wire.SetMember(out, key, wire.SetMember(req, "params", through(params)))
			}
		}
		return true
	})
	return wire.SetMember(obj, "inputRequests", out)
}

// through puts the address of our page in the place of a server's.
func (g *Gateway) through(c *call, params wire.Raw) (wire.Raw, *Refusal) {
	address := wire.LookupString(params, "url")
	inside := c.server != nil && (c.server.Transport == TransportStdio || c.server.Loopback || c.server.Private)
	switch {
	case !isPage(address, inside):
		return nil, refuse(http.StatusOK, wire.CodeInternal, "upstream:page", "The server "+c.Server+" wants an address opened that is not a page.")
	case !g.deps.Pages, c.Caller.User == "", c.server != nil && c.server.DirectPages:
		return params, nil
	case len(address) > maxPage:
		return nil, refuse(http.StatusOK, wire.CodeInternal, "upstream:page", "The server "+c.Server+" wants an address opened that is too long to be shown to a person.")
	}
	to := sentTo{User: c.Caller.User, Client: c.Caller.Client, Server: c.Server, Title: c.Server, URL: address}
	if c.server != nil && c.server.Title != "" {
		to.Title = c.server.Title
	}
	raw, err := json.Marshal(to)
	var sealed string
	if err == nil {
		sealed, err = g.seal.seal(raw, pageBinding(), pageLife)
	}
	if err != nil {
		return nil, refuse(http.StatusInternalServerError, wire.CodeInternal, "state", "The request cannot be continued.").because(err)
	}
	return wire.SetMember(params, "url", wire.Quote(c.st.config.PublicURL+pagePath+sealed)), nil
}

// isPage tells whether a person may be sent to an address: https, a host, and nobody's
// name or password; plain http where a server that is itself inside the house sends
// to an address inside.
func isPage(address string, inside bool) bool {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.ContainsAny(address, "\\ \t\r\n") {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	near := u.Hostname() == "localhost" || err == nil && (ip.IsLoopback() || ip.IsPrivate())
	return u.Scheme == "https" || u.Scheme == "http" && inside && near
}
