package console

import (
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
)

type grantsPage struct {
	User, Client string // as asked for
	Rows         []authserver.Grant
	Names        names
	More         more
}

// grants lists who gave what to whom, those that have ended too (G-CO6).
func (s *Server) grants(v *visit) (any, error) {
	ctx := v.r.Context()
	p := grantsPage{User: v.text("user"), Client: v.text("client")}
	q := GrantQuery{Query: v.ask(), User: p.User, Client: p.Client}
	if p.User != "" && !strings.HasPrefix(p.User, "u_") {
		u, err := s.deps.Store.UserByName(ctx, p.User)
		if err != nil && kidoban.KindOf(err) == kidoban.KindNotFound {
			return p, nil
		}
		if err != nil {
			return nil, err
		}
		q.User = u.ID
	}
	page, err := s.deps.Store.PageGrants(ctx, q)
	if err != nil {
		return nil, err
	}
	p.Rows, p.More = page.Rows, morePages(v, page)
	var users, clients []string
	for _, g := range p.Rows {
		users, clients = append(users, g.UserID), append(clients, g.ClientID)
	}
	p.Names, err = v.names(users, clients)
	return p, err
}

func (s *Server) grantActs() map[string]act {
	return map[string]act{"revoke": {do: func(v *visit, arg string) (string, error) {
		return "revoked", s.deps.Auth.EndGrant(v.r.Context(), arg, "revoked by an administrator")
	}}}
}

type usersPage struct {
	Text string
	Rows []authserver.User
	Next string

	Heard map[string]authserver.Heard // by user
}

// maxRowGroups bounds the groups in a row of the list.
const maxRowGroups = 3

// Groups are the first of a user's groups, and how many more there are.
func (p usersPage) Groups(id string) (out struct {
	Names []string
	More  int
}) {
	out.Names = p.Heard[id].Said()
	if n := len(out.Names); n > maxRowGroups {
		out.Names, out.More = out.Names[:maxRowGroups], n-maxRowGroups
	}
	return out
}

// users lists people in order of name.
func (s *Server) users(v *visit) (any, error) {
	p := usersPage{Text: clip(v.text("q"), maxText)}
	rows, err := s.deps.Store.PageUsers(v.r.Context(), p.Text, v.text("after"), pageRows+1)
	if len(rows) > pageRows {
		rows = rows[:pageRows]
		p.Next = rows[pageRows-1].Name
	}
	if p.Rows = rows; err != nil {
		return p, err
	}
	var ids []string
	for _, u := range rows {
		ids = append(ids, u.ID)
	}
	p.Heard, err = s.deps.Store.HeardOf(v.r.Context(), ids)
	return p, err
}

type userPage struct {
	User     authserver.User
	Own      bool // the administrator's own account
	Passkeys int
	Heard    authserver.Heard // of the identity provider; zero for an account of this gateway's own
	Accounts []authserver.UpstreamAccount
	Grants   []authserver.Grant
	Names    names
	More     more
}

// user shows one person: what they have, and what ends it.
func (s *Server) user(v *visit) (any, error) {
	ctx, id := v.r.Context(), v.text("id")
	u, err := s.deps.Store.User(ctx, id)
	if err != nil {
		return nil, err
	}
	p := userPage{User: u, Own: u.ID == v.guest.ID}
	keys, err := s.deps.Store.Passkeys(ctx, id)
	if err != nil {
		return nil, err
	}
	p.Passkeys = len(keys)
	heard, err := s.deps.Store.HeardOf(ctx, []string{id})
	if err != nil {
		return nil, err
	}
	p.Heard = heard[id]
	if p.Accounts, err = s.deps.Auth.Accounts(ctx, id); err != nil {
		return nil, err
	}
	page, err := s.deps.Store.PageGrants(ctx, GrantQuery{Query: v.ask(), User: id})
	if err != nil {
		return nil, err
	}
	p.Grants, p.More = page.Rows, morePages(v, page)
	var clients []string
	for _, g := range p.Grants {
		clients = append(clients, g.ClientID)
	}
	p.Names, err = v.names(nil, clients)
	return p, err
}

// userActs change accounts. Nobody takes their own rights away: there is always an
// administrator left.
func (s *Server) userActs() map[string]act {
	others := func(do func(v *visit, id string) (string, error)) func(*visit, string) (string, error) {
		return func(v *visit, id string) (string, error) {
			if id == v.guest.ID {
				return "", kidoban.Errorf(kidoban.KindUsage, "your own account is for another administrator to change")
			}
			return do(v, id)
		}
	}
	admin := func(yes bool) func(*visit, string) (string, error) {
		return others(func(v *visit, id string) (string, error) {
			return "changed", s.deps.Store.SetAdmin(v.r.Context(), id, yes)
		})
	}
	disable := func(yes bool) func(*visit, string) (string, error) {
		return others(func(v *visit, id string) (string, error) {
			return "changed", s.deps.Auth.DisableUser(v.r.Context(), id, yes)
		})
	}
	return map[string]act{
		"add": {wide: true, do: func(v *visit, _ string) (done string, err error) {
			v.link, err = s.deps.Auth.AddUser(v.r.Context(), strings.TrimSpace(v.form.Get("name")), v.form.Get("admin") != "")
			return "link", err
		}},
		"reset": {wide: true, do: func(v *visit, id string) (done string, err error) {
			u, err := s.deps.Store.User(v.r.Context(), id)
			if err == nil {
				v.link, err = s.deps.Auth.ResetLink(v.r.Context(), u.Name)
			}
			return "link", err
		}},
		"admin":   {wide: true, do: admin(true)},
		"noadmin": {do: admin(false)},
		"enable":  {wide: true, do: disable(false)},
		"disable": {do: disable(true)},
		"logout": {do: func(v *visit, id string) (string, error) {
			return "changed", s.deps.Store.EndSessions(v.r.Context(), id)
		}},
		"revoke": {do: func(v *visit, arg string) (string, error) {
			return "revoked", s.deps.Auth.EndGrant(v.r.Context(), arg, "revoked by an administrator")
		}},
		"revoke_all": {do: func(v *visit, id string) (string, error) {
			return "revoked", s.deps.Auth.RevokeUser(v.r.Context(), id, "revoked by an administrator")
		}},
		"disconnect": {do: func(v *visit, arg string) (string, error) {
			id, account, _ := strings.Cut(arg, " ")
			return "disconnected", s.deps.Auth.Disconnect(v.r.Context(), id, account)
		}},
	}
}
