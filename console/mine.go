package console

import (
	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/authserver"
)

type minePage struct {
	Grants   []authserver.Grant
	Names    names
	Accounts []authserver.UpstreamAccount
	Calls    []JournalEntry // the last things done in the person's name
}

// mine shows a person what may act in their name (G-CO6).
func (s *Server) mine(v *visit) (any, error) {
	ctx := v.r.Context()
	page, err := s.deps.Store.PageGrants(ctx, GrantQuery{Query: Query{Limit: 200}, User: v.guest.ID})
	if err != nil {
		return nil, err
	}
	var p minePage
	var ids []string
	for _, g := range page.Rows {
		if g.Revoked.IsZero() && g.Expires.After(v.now) {
			p.Grants = append(p.Grants, g)
			ids = append(ids, g.ClientID)
		}
	}
	log, err := s.deps.Store.PageJournal(ctx, JournalQuery{Query: Query{Limit: 20}, User: v.guest.ID})
	if err != nil {
		return nil, err
	}
	p.Calls = log.Rows
	for _, e := range p.Calls {
		ids = append(ids, e.Record.Client)
	}
	if p.Accounts, err = s.deps.Auth.Accounts(ctx, v.guest.ID); err != nil {
		return nil, err
	}
	p.Names, err = v.names(nil, ids)
	return p, err
}

func (s *Server) mineActs() map[string]act {
	return map[string]act{
		"revoke": {do: func(v *visit, arg string) (string, error) {
			mine, err := s.owns(v, arg)
			if err == nil && !mine {
				err = kidoban.Errorf(kidoban.KindNotFound, "there is no such grant")
			}
			if err != nil {
				return "", err
			}
			return "revoked", s.deps.Auth.EndGrant(v.r.Context(), arg, "revoked by the user")
		}},
		"revoke_all": {do: func(v *visit, _ string) (string, error) {
			return "revoked", s.deps.Auth.RevokeUser(v.r.Context(), v.guest.ID, "revoked by the user")
		}},
		"disconnect": {do: func(v *visit, arg string) (string, error) {
			return "disconnected", s.deps.Auth.Disconnect(v.r.Context(), v.guest.ID, arg)
		}},
	}
}

// owns tells whether a grant is the person's.
func (s *Server) owns(v *visit, id string) (bool, error) {
	g, err := s.deps.Store.Grant(v.r.Context(), id)
	return err == nil && g.UserID == v.guest.ID, err
}
