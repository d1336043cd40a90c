package console

import (
	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
)

type clientsPage struct {
	Text, Kind string
	Kinds      []string
	Rows       []clientRow
	More       more
}

// clients lists registrations, newest first. A text that is a client's id finds it
// at once.
func (s *Server) clients(v *visit) (any, error) {
	q := ClientQuery{Query: v.ask()}
	p := clientsPage{Text: q.Text, Kinds: []string{authserver.ClientDCR, authserver.ClientCIMD, authserver.ClientPre}}
	for _, k := range p.Kinds {
		if v.query.Get("kind") == k {
			q.Kind, p.Kind = k, k
		}
	}
	if q.Text != "" && q.After.At.IsZero() {
		exact, err := s.deps.Store.Client(v.r.Context(), q.Text)
		if err == nil {
			p.Rows = []clientRow{v.look(exact)}
			return p, nil
		}
		if kidoban.KindOf(err) != kidoban.KindNotFound {
			return nil, err
		}
	}
	page, err := s.deps.Store.PageClients(v.r.Context(), q)
	if err != nil {
		return nil, err
	}
	for _, c := range page.Rows {
		p.Rows = append(p.Rows, v.look(c))
	}
	p.More = morePages(v, page)
	return p, nil
}

type clientPage struct {
	Client  clientRow
	Grants  []authserver.Grant
	Names   names
	More    more
	Deny    *authserver.Deny
	Waiting bool
}

// client shows one registration with the grants that came of it.
func (s *Server) client(v *visit) (any, error) {
	ctx, id := v.r.Context(), v.text("id")
	c, err := s.deps.Store.Client(ctx, id)
	if err != nil {
		return nil, err
	}
	p := clientPage{Client: v.look(c), Waiting: c.Review}
	page, err := s.deps.Store.PageGrants(ctx, GrantQuery{Query: v.ask(), Client: id})
	if err != nil {
		return nil, err
	}
	var users []string
	for _, g := range page.Rows {
		users = append(users, g.UserID)
	}
	p.Grants, p.More = page.Rows, morePages(v, page)
	for _, d := range s.deps.Auth.DenyList() {
		if d.Kind == authserver.DenyClient && d.Pattern == id {
			p.Deny = &d
		}
	}
	p.Names, err = v.names(users, nil)
	return p, err
}

func (s *Server) clientActs() map[string]act {
	acts := s.denyActs()
	acts["revoke"] = act{do: func(v *visit, arg string) (string, error) {
		return "revoked", s.deps.Auth.EndGrant(v.r.Context(), arg, "revoked by an administrator")
	}}
	acts["refetch"] = act{do: func(v *visit, arg string) (string, error) {
		return "refetch", s.deps.Auth.PurgeDocument(v.r.Context(), arg)
	}}
	return acts
}
