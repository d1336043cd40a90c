package main

import (
	"errors"
	"net/http"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/account"
	"github.com/kidoban/kidoban/gateway"
	"github.com/kidoban/kidoban/outbound"
)

// oauthConfig is how the gateway gets accounts at a server.
type oauthConfig struct {
	Discover      bool              `yaml:"discover" doc:"Find the authorization server in the server's own metadata, and become a client there: by client_id if there is one, by the gateway's client document, or by registering."`
	Issuer        string            `yaml:"issuer" doc:"Issuer identifier of the authorization server, instead of discover."`
	ClientID      string            `yaml:"client_id" doc:"The gateway's client there; register <public_url>/connect/callback as its redirect URI."`
	SecretFile    string            `yaml:"secret_file" doc:"File that holds the client secret; without secret and key the client is public."`
	KeyFile       string            `yaml:"key_file" doc:"PEM file with the private key for private_key_jwt."`
	KeyID         string            `yaml:"key_id" doc:"The kid under which the authorization server knows that key."`
	Method        string            `yaml:"auth_method" enum:"none,client_secret_basic,client_secret_post,private_key_jwt" doc:"How the client shows itself. Default: what the metadata allows."`
	Grant         string            `yaml:"grant" enum:"authorization_code,client_credentials,token_exchange,id_jag" doc:"Default authorization_code: each user connects an own account. client_credentials needs account shared; the others act for the user who logged in through provider."`
	Provider      oauthProvider     `yaml:"provider" doc:"For token_exchange and id_jag: the identity provider whose login proves who the user is."`
	Scopes        []string          `yaml:"scopes" doc:"What to ask for, and never more. Default: what the server asks for."`
	Resource      string            `yaml:"resource" doc:"Audience to ask for (RFC 8707). Default: the server's address; none sends none."`
	Params        map[string]string `yaml:"params" doc:"More parameters of the authorization request."`
	Legacy        bool              `yaml:"legacy" doc:"With discover: a server of revision 2025-03-26 without metadata, which is its own authorization server."`
	Authorization string            `yaml:"authorization_endpoint" doc:"For providers without metadata."`
	Token         string            `yaml:"token_endpoint" doc:"For providers without metadata."`
	Revocation    string            `yaml:"revocation_endpoint" doc:"For providers without metadata."`
}

// oauthProvider is an identity provider that answers token exchanges.
type oauthProvider struct {
	Issuer     string `yaml:"issuer" doc:"Issuer identifier; also a provider under login."`
	Token      string `yaml:"token_endpoint" doc:"When its metadata does not name one."`
	ClientID   string `yaml:"client_id" doc:"The gateway's client there."`
	SecretFile string `yaml:"secret_file" doc:"File that holds the client secret."`
	KeyFile    string `yaml:"key_file" doc:"PEM file with the private key for private_key_jwt."`
	KeyID      string `yaml:"key_id" doc:"The kid of that key."`
	Method     string `yaml:"auth_method" enum:"none,client_secret_basic,client_secret_post,private_key_jwt" doc:"How the client shows itself. Default: what the metadata allows."`
}

// reservedParams are what the gateway itself puts into an authorization request.
var reservedParams = []string{"response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method", "scope", "resource"}

// connectCallback is where authorization servers send people back.
const connectCallback = "/connect/callback"

// documentPath is where the gateway's client document stands.
const documentPath = "/.well-known/kidoban-client.json"

// document is the address of the gateway's own client document; "" where no
// authorization server could read it.
func (c gatewayConfig) document() string {
	if strings.HasPrefix(c.PublicURL, "https://") {
		return c.PublicURL + documentPath
	}
	return ""
}

// apps are the ways in which the gateway gets accounts, by server.
func (c gatewayConfig) apps() (map[string]*account.App, error) {
	out := map[string]*account.App{}
	var bad []error
	for name, s := range c.Servers {
		o := s.OAuth
		if o.Issuer == "" && o.ClientID == "" && !o.Discover && o.Grant == "" {
			continue
		}
		for _, text := range o.wrong(s.Account) {
			bad = append(bad, kidoban.Errorf(kidoban.KindUsage, "server %s: oauth %s", name, text))
		}
		guard := outbound.Guard{Lab: s.Address == "loopback", Private: s.Address == "private"}
		for _, u := range []string{o.Issuer, o.Authorization, o.Token, o.Revocation, o.Provider.Issuer, o.Provider.Token} {
			if err := guard.CheckURL(u); u != "" && err != nil {
				bad = append(bad, kidoban.Wrap(kidoban.KindUsage, err, "server %s: oauth", name))
			}
		}
		clientName := c.Name
		if clientName == "" {
			clientName = "Kidoban"
		}
		app := &account.App{URL: s.URL, Issuer: o.Issuer, ClientID: o.ClientID, Method: o.Method, ClientName: clientName, Document: c.document(), Scopes: o.Scopes, Resource: o.Resource, Params: o.Params,
			Authorization: o.Authorization, Token: o.Token, Revocation: o.Revocation, Legacy: o.Legacy, Loopback: s.Address == "loopback", Private: s.Address == "private"}
		if o.Grant != "authorization_code" {
			app.Grant = account.Grant(o.Grant)
		}
		var err error
		app.ClientSecret, app.Key, err = clientProof(o.SecretFile, o.KeyFile, o.KeyID)
		bad = append(bad, err)
		if p := o.Provider; p.Issuer != "" {
			app.Provider = &account.Provider{Issuer: p.Issuer, Token: p.Token, ClientID: p.ClientID, Method: p.Method}
			app.Provider.ClientSecret, app.Provider.Key, err = clientProof(p.SecretFile, p.KeyFile, p.KeyID)
			bad = append(bad, err)
		}
		out[name] = app
	}
	return out, errors.Join(bad...)
}

// wrong lists what does not fit together.
func (o oauthConfig) wrong(mode string) (bad []string) {
	say := func(when bool, text string) {
		if when {
			bad = append(bad, text)
		}
	}
	own := o.Grant == "" || o.Grant == "authorization_code"
	acts := o.Grant == "token_exchange" || o.Grant == "id_jag"
	say(own && mode != gateway.AccountUser, "needs account: user")
	say(o.Grant == "client_credentials" && mode != gateway.AccountShared, "grant client_credentials needs account: shared")
	say(acts && mode != gateway.AccountUser, "grant "+o.Grant+" needs account: user")
	say(!own && !acts && o.Grant != "client_credentials", "grant must be authorization_code, client_credentials, token_exchange or id_jag")
	say(acts && o.Provider.Issuer == "", "grant "+o.Grant+" needs provider.issuer")
	say(!o.Discover && o.Issuer == "", "needs issuer, or discover: true")
	say(o.Discover && o.Issuer != "", "has both issuer and discover: choose one")
	say(o.ClientID == "" && !o.Discover, "needs client_id, or discover: true")
	say(o.ClientID == "" && !own, "grant "+o.Grant+" needs client_id: such clients are registered by hand")
	say((o.Authorization == "") != (o.Token == "") && own, "needs both authorization_endpoint and token_endpoint, or none")
	say(o.Legacy && !o.Discover, "legacy goes with discover")
	for _, p := range reservedParams {
		_, has := o.Params[p]
		say(has, "params must not hold "+p)
	}
	return bad
}

func clientProof(secretFile, keyFile, keyID string) (secret string, key *account.Key, err error) {
	if secretFile != "" {
		if secret, err = readSecret(secretFile); err != nil {
			return "", nil, err
		}
	}
	if keyFile != "" {
		text, err := readSecret(keyFile)
		if err != nil {
			return "", nil, err
		}
		if key, err = account.ParseKey([]byte(text), keyID); err != nil {
			return "", nil, err
		}
	}
	return secret, key, nil
}

// clientDocument serves the gateway's own client document, for the authorization
// servers that read such.
func (s *service) clientDocument(w http.ResponseWriter, r *http.Request) {
	conf := s.config()
	name := conf.Name
	if name == "" {
		name = "Kidoban"
	}
	raw, err := account.Document(conf.document(), name, conf.PublicURL+connectCallback)
	if err != nil || conf.document() == "" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "max-age=3600")
	_, _ = w.Write(raw)
}
