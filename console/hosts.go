package console

import (
	"html/template"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
	"github.com/kidoban/kidoban/toolscan"
)

// hostRow is a redirect host, who takes codes there, and whether it is blocked.
type hostRow struct {
	Host
	Who    clientRow
	Denied bool
}

type hostsPage struct {
	Text string
	Rows []hostRow
	More more
}

// hosts lists every redirect host that was ever registered (G-RG3).
func (s *Server) hosts(v *visit) (any, error) {
	q := v.ask()
	page, err := s.deps.Store.PageHosts(v.r.Context(), q)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, h := range page.Rows {
		ids = append(ids, h.ClientID)
	}
	n, err := v.names(nil, ids)
	if err != nil {
		return nil, err
	}
	p := hostsPage{Text: q.Text, More: morePages(v, page)}
	for _, h := range page.Rows {
		p.Rows = append(p.Rows, hostRow{h, n.Client(h.ClientID), s.denied(h.Host.Host) != nil})
	}
	return p, nil
}

// denied finds the entry that blocks a host.
func (s *Server) denied(host string) *authserver.Deny { return s.deps.Auth.DeniedHost(host) }

type hostPage struct {
	hostRow
	Deny    *authserver.Deny
	Clients []clientRow
	Users   []string
	Names   names
	NextC   string // id after which the next clients come; empty at the end
	NextU   string
	Graph   template.HTML
}

// host shows who uses one redirect host.
func (s *Server) host(v *visit) (any, error) {
	ctx, name := v.r.Context(), v.text("name")
	h, err := s.deps.Store.Host(ctx, name)
	if err != nil {
		return nil, err
	}
	p := hostPage{hostRow: hostRow{Host: h}, Deny: s.denied(name)}
	p.Denied = p.Deny != nil
	clients, err := s.deps.Store.HostClients(ctx, name, v.text("c"), pageRows+1)
	if err != nil {
		return nil, err
	}
	if len(clients) > pageRows {
		clients = clients[:pageRows]
		p.NextC = clients[pageRows-1].ID
	}
	for _, c := range clients {
		p.Clients = append(p.Clients, v.look(c))
	}
	users, err := s.deps.Store.HostUsers(ctx, name, v.text("u"), pageRows+1)
	if err != nil {
		return nil, err
	}
	if len(users) > pageRows {
		users = users[:pageRows]
		p.NextU = users[pageRows-1]
	}
	p.Users = users
	if p.Names, err = v.names(users, nil); err != nil {
		return nil, err
	}
	p.Graph = v.graph(p)
	return p, nil
}

// graph draws the page's host with the first of its clients and people.
func (v *visit) graph(p hostPage) template.HTML {
	var clients, users []string
	for _, c := range p.Clients {
		clients = append(clients, toolscan.Visible(c.Name, 24))
	}
	for _, u := range p.Users {
		users = append(users, toolscan.Visible(p.Names.User(u), 24))
	}
	return hostGraph(v.t("host_graph"), toolscan.Visible(p.Host.Host.Host, 26), clients, users, p.NextC != "", p.NextU != "")
}

type denyPage struct {
	Rows  []denyRow
	Text  string
	Kinds []string
	Total int
	Next  int
}

type denyRow struct {
	authserver.Deny
	Who    string
	Config bool // stands in the configuration, which alone can take it away
}

// deny lists what is blocked. The list is in memory, because every request is held
// against it.
func (s *Server) deny(v *visit) (any, error) {
	list := s.deps.Auth.DenyList()
	p := denyPage{Text: clip(v.text("q"), maxText), Total: len(list), Kinds: []string{authserver.DenyHost, authserver.DenyURL, authserver.DenyCIMD, authserver.DenyClient}}
	from := whole(v.query.Get("from"))
	var ids []string
	for i := len(list) - 1 - from; i >= 0; i-- { // newest first
		d := list[i]
		if p.Text != "" && !containsFold(d.Pattern, p.Text) && !containsFold(d.Reason, p.Text) {
			continue
		}
		if len(p.Rows) == pageRows {
			p.Next = len(list) - 1 - i
			break
		}
		p.Rows = append(p.Rows, denyRow{Deny: d, Config: d.By == "config"})
		ids = append(ids, d.By)
	}
	n, err := v.names(ids, nil)
	for i := range p.Rows {
		p.Rows[i].Who = n.User(p.Rows[i].By)
	}
	return p, err
}

// denyActs block and unblock.
func (s *Server) denyActs() map[string]act {
	ban := func(v *visit, kind, pattern string) (string, error) {
		_, err := s.deps.Auth.Ban(v.r.Context(), kind, pattern, clip(v.form.Get("reason"), 500), v.guest.ID)
		return "denied", err
	}
	return map[string]act{
		"deny":        {do: func(v *visit, _ string) (string, error) { return ban(v, v.form.Get("kind"), v.form.Get("pattern")) }},
		"deny_host":   {do: func(v *visit, arg string) (string, error) { return ban(v, authserver.DenyHost, arg) }},
		"deny_client": {do: func(v *visit, arg string) (string, error) { return ban(v, authserver.DenyClient, arg) }},
		"deny_cimd":   {do: func(v *visit, arg string) (string, error) { return ban(v, authserver.DenyCIMD, arg) }},
		"undeny": {wide: true, do: func(v *visit, arg string) (string, error) {
			return "undenied", s.deps.Auth.Unban(v.r.Context(), arg)
		}},
	}
}

type domainsPage struct {
	Mode     string
	Queue    []clientRow
	More     more
	Admitted []authserver.Admission
	Names    names
	Docs     []clientRow
}

// domains shows client documents by their domains, those that wait first (G-RG6).
func (s *Server) domains(v *visit) (any, error) {
	ctx := v.r.Context()
	p := domainsPage{Mode: s.deps.Settings().CIMDMode}
	if p.Mode == "" {
		p.Mode = "open"
	}
	waiting, err := s.deps.Store.PageClients(ctx, ClientQuery{Query: Query{Limit: pageRows}, Review: true})
	if err != nil {
		return nil, err
	}
	for _, c := range waiting.Rows {
		p.Queue = append(p.Queue, v.look(c))
	}
	q := v.ask()
	docs, err := s.deps.Store.PageClients(ctx, ClientQuery{Query: q, Kind: authserver.ClientCIMD})
	if err != nil {
		return nil, err
	}
	for _, c := range docs.Rows {
		p.Docs = append(p.Docs, v.look(c))
	}
	p.More = morePages(v, docs)
	if p.Admitted, err = s.deps.Auth.Admitted(ctx); err != nil {
		return nil, err
	}
	var ids []string
	for _, a := range p.Admitted {
		ids = append(ids, a.By)
	}
	p.Names, err = v.names(clipList(ids, 200), nil)
	return p, err
}

func (s *Server) domainActs() map[string]act {
	acts := s.denyActs()
	acts["admit"] = act{wide: true, do: func(v *visit, arg string) (string, error) {
		if arg == "" {
			return "", kidoban.Errorf(kidoban.KindUsage, "name a domain")
		}
		_, err := s.deps.Auth.AdmitDomain(v.r.Context(), arg, v.guest.ID)
		return "admitted", err
	}}
	acts["dismiss"] = act{do: func(v *visit, arg string) (string, error) {
		return "dismissed", s.deps.Auth.DismissDomain(v.r.Context(), arg)
	}}
	acts["refetch"] = act{do: func(v *visit, arg string) (string, error) {
		return "refetch", s.deps.Auth.PurgeDocument(v.r.Context(), arg)
	}}
	return acts
}
