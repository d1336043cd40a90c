package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/account"
	"github.com/kidoban/kidoban/store"
	"github.com/kidoban/kidoban/vault"
)

// vaultCmd is kidoban vault: the secrets of the gateway, beside a running one.
type vaultCmd struct {
	Set    vaultSetCmd    `cmd:"" help:"Store the secret that the gateway sends to a server."`
	Remove vaultRemoveCmd `cmd:"" help:"Forget the secret of a server."`
	Rotate vaultRotateCmd `cmd:"" help:"Make a new key and re-wrap every secret with it, without downtime."`
	Retire vaultRetireCmd `cmd:"" help:"Forget every key but the newest, after re-wrapping what is left. Run it a few minutes after rotate."`
	Status vaultStatusCmd `cmd:"" help:"Where the key is and which accounts there are. No secrets."`
	Key    vaultKeyCmd    `cmd:"" help:"Make a key file for a gateway that will run elsewhere."`
	Move   vaultMoveCmd   `cmd:"" help:"Copy the keys to another place, such as a key management service, before the config names it."`
}

// openWallet opens database and vault.
func (f gatewayFile) openWallet(e *env) (*account.Wallet, *vault.Vault, *store.DB, gatewayConfig, error) {
	conf, err := f.load()
	if err != nil {
		return nil, nil, nil, conf, err
	}
	db, err := openBeside(e, conf)
	if err != nil {
		return nil, nil, nil, conf, err
	}
	v, err := openVault(e.ctx, conf, db)
	if err != nil {
		db.Close()
		return nil, nil, nil, conf, err
	}
	w := account.New(account.Options{Store: db, Vault: v})
	if apps, err := conf.apps(); err == nil { // so that what is removed is revoked, too
		w.SetApps(apps)
	}
	return w, v, db, conf, nil
}

type vaultSetCmd struct {
	gatewayFile
	Server string `arg:"" help:"The server's name in the config."`
	User   string `help:"Id of one user; without it the secret is for everybody (account: shared)." placeholder:"ID"`
	Header string `default:"Authorization" help:"Header that carries it. For Authorization, 'Bearer ' is put before a bare token."`
	Env    string `help:"For a stdio server: the environment variable that carries it." placeholder:"VAR"`
}

// Run reads the secret from the terminal without showing it, or from standard input.
func (c vaultSetCmd) Run(e *env) error {
	w, _, db, conf, err := c.openWallet(e)
	if err != nil {
		return err
	}
	defer db.Close()
	defer w.Close()
	secret, err := c.read(e)
	if err != nil {
		return err
	}
	if secret == "" {
		return kidoban.Errorf(kidoban.KindUsage, "there is no secret: type it, or give it on standard input; kidoban vault remove %s forgets one", c.Server)
	}
	if c.Env != "" {
		c.Header = c.Env
	}
	if strings.EqualFold(c.Header, "Authorization") && !strings.Contains(secret, " ") {
		secret = "Bearer " + secret
	}
	if err := w.Set(e.ctx, c.User, c.Server, kidoban.Field{Name: c.Header, Value: secret}); err != nil {
		return err
	}
	s, known := conf.Servers[c.Server]
	switch {
	case c.Config != "" && !known:
		fmt.Fprintf(e.stdout, "Stored. But %s has no server %s: is the name right? kidoban vault remove %s takes it back.\n", c.Config, c.Server, c.Server)
	case s.Account == "shared" || s.Account == "user":
		fmt.Fprintln(e.stdout, "Stored. A running gateway uses it within a minute.")
	default:
		fmt.Fprintf(e.stdout, "Stored. A running gateway uses it within a minute; set account: shared (or user) for %s in the config.\n", c.Server)
	}
	return nil
}

func (c vaultSetCmd) read(e *env) (string, error) {
	if f, ok := e.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(e.stderr, "Secret for %s: ", c.Server)
		raw, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(e.stderr)
		return string(raw), kidoban.Wrap(kidoban.KindUsage, err, "the secret cannot be read")
	}
	raw, err := io.ReadAll(io.LimitReader(e.stdin, 64<<10))
	return strings.TrimRight(string(raw), "\r\n"), kidoban.Wrap(kidoban.KindUsage, err, "the secret cannot be read")
}

type vaultRemoveCmd struct {
	gatewayFile
	Server string `arg:"" help:"The server's name in the config."`
	User   string `help:"Id of one user; without it the shared secret." placeholder:"ID"`
}

// Run forgets the account.
func (c vaultRemoveCmd) Run(e *env) error {
	w, _, db, _, err := c.openWallet(e)
	if err != nil {
		return err
	}
	defer db.Close()
	defer w.Close()
	if err := w.Disconnect(e.ctx, c.User, c.Server); err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, "Forgotten.")
	return nil
}

type vaultRotateCmd struct{ gatewayFile }

// Run rotates and re-wraps. Earlier keys stay, for what a running gateway sealed
// before it heard of the new one.
func (c vaultRotateCmd) Run(e *env) error {
	w, v, db, _, err := c.openWallet(e)
	if err != nil {
		return err
	}
	defer db.Close()
	defer w.Close()
	if err := v.Rotate(e.ctx); err != nil {
		return err
	}
	n, own, err := rewrapAll(e, w, v, db)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "A new key is in use; %s and %s of the gateway's own were re-wrapped. Running gateways follow within a minute; kidoban vault retire then forgets earlier keys.\n",
		kidoban.Count(n, "account", "accounts"), kidoban.Count(own, "key", "keys"))
	return nil
}

// rewrapAll brings everything that the vault sealed to its newest key.
func rewrapAll(e *env, w *account.Wallet, v *vault.Vault, db *store.DB) (accounts, own int, err error) {
	if accounts, err = w.Rewrap(e.ctx); err != nil {
		return accounts, 0, err
	}
	own, err = db.RewrapSecrets(e.ctx, v.Rewrap)
	return accounts, own, err
}

type vaultRetireCmd struct{ gatewayFile }

// Run re-wraps what is left and forgets earlier keys. Nothing is lost that a row
// still needs: a row that does not re-wrap ends it before.
func (c vaultRetireCmd) Run(e *env) error {
	w, v, db, _, err := c.openWallet(e)
	if err != nil {
		return err
	}
	defer db.Close()
	defer w.Close()
	if _, _, err := rewrapAll(e, w, v, db); err != nil {
		return err
	}
	before := len(v.Status().Keys)
	if err := v.Retire(e.ctx); err != nil {
		return err
	}
	if before < 2 {
		fmt.Fprintln(e.stdout, "There is one key, the newest: nothing to forget. kidoban vault rotate makes a new one.")
		return nil
	}
	fmt.Fprintf(e.stdout, "%s forgotten. Backups made before the rotation need the key file of that time.\n", kidoban.Count(before-1, "earlier key is", "earlier keys are"))
	return nil
}

type vaultStatusCmd struct {
	gatewayFile
	JSON bool `help:"Print JSON."`
}

// Run prints what there is.
func (c vaultStatusCmd) Run(e *env) error {
	w, v, db, _, err := c.openWallet(e)
	if err != nil {
		return err
	}
	defer db.Close()
	defer w.Close()
	type entry struct {
		User    string    `json:"user,omitempty"`
		Server  string    `json:"server"`
		Issuer  string    `json:"issuer,omitempty"`
		Updated time.Time `json:"updated"`
	}
	status := struct {
		vault.Status
		Accounts []entry `json:"accounts"`
	}{Status: v.Status(), Accounts: []entry{}}
	user, server := "", ""
	for {
		page, err := db.AllAccounts(e.ctx, user, server, 100)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			user, server = a.User, a.Server
			status.Accounts = append(status.Accounts, entry{a.User, a.Server, a.Issuer, a.Updated.UTC()})
		}
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(status)
	}
	fmt.Fprintf(e.stdout, "Key: %s, %s, newest %s\n", status.Source, kidoban.Count(len(status.Keys), "key", "keys"), strings.Join(status.Keys[:min(1, len(status.Keys))], ""))
	for _, a := range status.Accounts {
		who := a.User
		switch {
		case who == "":
			who = "everybody"
		case strings.HasPrefix(who, account.ClientUser):
			who = "the gateway as a client"
		}
		fmt.Fprintf(e.stdout, "%-20s %-40s %s %s\n", a.Server, who, a.Updated.Format(time.RFC3339), a.Issuer)
	}
	return nil
}

type vaultKeyCmd struct {
	File string `arg:"" help:"The file to make; it must not exist yet."`
}

// Run makes a key file, mode 0600, that a secret store can hand to every replica.
func (c vaultKeyCmd) Run(e *env) error {
	if _, err := os.Lstat(c.File); err == nil {
		return kidoban.Errorf(kidoban.KindUsage, "%s exists already: a key is never overwritten", c.File)
	}
	if _, err := vault.Open(e.ctx, vault.File(c.File)); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "Made %s. Whoever has it and the database has every stored secret; name it as vault_key: file:PATH.\n", c.File)
	return nil
}

type vaultMoveCmd struct {
	gatewayFile
	To string `arg:"" help:"The vault_key that the config will have: file:PATH, keychain:ACCOUNT, hcvault://…, gcp-kms://… or aws-kms://…"`
}

// Run copies the keys and proves that they open from there. The old place keeps
// its copy, so that nothing is lost when the new one does not answer tomorrow.
func (c vaultMoveCmd) Run(e *env) error {
	w, v, db, conf, err := c.openWallet(e)
	if err != nil {
		return err
	}
	defer db.Close()
	defer w.Close()
	from, err := vaultSource(e.ctx, conf.VaultKey, db)
	if err != nil {
		return err
	}
	to, err := vaultSource(e.ctx, c.To, db)
	if err != nil {
		return err
	}
	if err := vault.Move(e.ctx, from, to); err != nil {
		return err
	}
	moved, err := vault.Open(e.ctx, to)
	if err != nil {
		return err
	}
	if a, b := v.Status().Keys, moved.Status().Keys; len(a) == 0 || len(b) == 0 || a[0] != b[0] {
		return kidoban.Errorf(kidoban.KindConflict, "the keys in %s are not those in %s: rotate neither meanwhile, and run it again", to, from)
	}
	fmt.Fprintf(e.stdout, "The keys are in %s, too. Set vault_key: %s and restart; when the gateway has started, remove the copy in %s.\n", to, c.To, from)
	return nil
}
