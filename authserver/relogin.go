package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/kidoban/kidoban"
)

// ProviderLogin is what an identity provider said of a person who logged in there.
type ProviderLogin struct {
	User    string // whose it is
	Issuer  string // as configured
	Subject string
	IDToken string
	Refresh string // refresh token; "" when the provider granted none
	Expires time.Time
}

// RenewLogin gets a fresh ID token for a login with its refresh token (OpenID
// Connect Core §12). The new one is verified like the first and must be of the same
// subject. KindNotFound: the provider does not renew it, the person must log in
// again. Other errors may pass.
//
// rotated, unless it is nil, is told the refresh token that takes the place of the old
// one before anything else of the answer is looked at: the old one may be good for
// nothing any more. Nothing is proved by it; it is for asking again alone.
func (s *Server) RenewLogin(ctx context.Context, old ProviderLogin, rotated func(refresh string)) (ProviderLogin, error) {
	again := func(cause error) (ProviderLogin, error) {
		return ProviderLogin{}, &kidoban.Error{Kind: kidoban.KindNotFound, Sentence: "the login at " + old.Issuer + " has ended: log in there again", Cause: cause}
	}
	policy := s.policy.Load()
	i := slices.IndexFunc(policy.Login.Providers, func(x Provider) bool { return x.Issuer == old.Issuer })
	if i < 0 || old.Refresh == "" {
		return again(nil)
	}
	x := policy.Login.Providers[i]
	before, err := s.deps.Store.Heard(ctx, old.User)
	if err != nil && kidoban.KindOf(err) != kidoban.KindNotFound {
		return ProviderLogin{}, err
	}
	p, ctx, err := s.provider(ctx, x)
	if err != nil {
		return ProviderLogin{}, err
	}
	tok, err := s.askProvider(ctx, policy, x, p, func(ctx context.Context, cfg oauth2.Config) (*oauth2.Token, error) {
		return cfg.TokenSource(ctx, &oauth2.Token{RefreshToken: old.Refresh}).Token()
	})
	if err != nil {
		ends, fault := renewFault(x, err)
		if ends {
			return again(fault)
		}
		return ProviderLogin{}, fault
	}
	if rotated != nil && tok.RefreshToken != "" && tok.RefreshToken != old.Refresh {
		rotated(tok.RefreshToken)
	}
	if raw, _ := tok.Extra("id_token").(string); raw == "" { // which OpenID Connect allows
		return again(errors.New("the provider gave no new ID token"))
	}
	raw, id, _, err := s.verifyIDToken(ctx, x, p, tok)
	switch {
	case keysAway(err):
		return ProviderLogin{}, kidoban.Wrap(kidoban.KindUnreachable, err, "the keys of the identity provider %s cannot be fetched", x.ID)
	case err != nil:
		return again(err)
	}
	if id.Subject != old.Subject {
		return again(errors.New("the new ID token is of another subject"))
	}
	groups, _, err := x.groupsOf(id)
	if err != nil {
		return again(err)
	}
	if err := s.hearAgain(ctx, x, before, groups); err != nil {
		return ProviderLogin{}, err
	}
	refresh := tok.RefreshToken // the old one stays when there is no new one
	return ProviderLogin{old.User, old.Issuer, id.Subject, raw, refresh, id.Expiry}, nil
}

// endings are what providers say of a refresh token that is good for nothing any more.
// Entra asks for the person by some of them.
var endings = []string{"invalid_grant", "interaction_required", "login_required", "consent_required", "access_denied"}

// renewFault tells why a login was not renewed, and whether the provider said plainly
// that it has ended. A wrong secret of ours ends nobody's login, nor does the page of a
// proxy that stands before the provider. Of its answer only the error's code is told.
func renewFault(x Provider, err error) (ends bool, fault error) {
	var said *oauth2.RetrieveError
	var way *url.Error
	switch {
	case errors.As(err, &way):
		return false, kidoban.Wrap(kidoban.KindUnreachable, way.Err, "the identity provider %s did not answer", x.ID)
	case !errors.As(err, &said) || said.Response == nil:
		return false, kidoban.Errorf(kidoban.KindUnreachable, "the identity provider %s answered without a token", x.ID)
	case unknownClient(err) || said.ErrorCode == "unauthorized_client":
		return false, kidoban.Errorf(kidoban.KindUnreachable, "the identity provider %s does not take this gateway as its client, %s: look at client_id and secret_file", x.ID, answered(said))
	case said.Response.StatusCode < http.StatusInternalServerError && slices.Contains(endings, said.ErrorCode): // Auth0 says so with 403
		return true, kidoban.Errorf(kidoban.KindRefused, "the identity provider %s said so, %s", x.ID, answered(said))
	}
	return false, kidoban.Errorf(kidoban.KindUnreachable, "the identity provider %s did not renew a login, %s", x.ID, answered(said))
}

// keysAway tells that an ID token could not be looked at, which says nothing of it. The
// library has no type for that, only these words.
func keysAway(err error) bool { return err != nil && strings.Contains(err.Error(), "fetching keys") }
