package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/browser"
)

// loginCmd is about the logins that kidoban audit --login-script plays.
type loginCmd struct {
	Record loginRecordCmd `cmd:"" help:"Watch you log in once, and write the login script."`
	Keep   loginKeepCmd   `cmd:"" help:"Put a secret of a login script into this system's keychain."`
}

type loginRecordCmd struct {
	URL      string `arg:"" help:"The login page, or the address that your client opens to log in."`
	Out      string `help:"File to write; it must not exist." default:"login.yaml"`
	Keychain string `help:"Refer to secrets as keychain:NAME-password and so on, instead of variables of the environment." placeholder:"NAME"`
	Passkeys bool   `help:"Answer for passkeys with a virtual authenticator; one that you make while recording is kept."`
	Browser  string `help:"The Chromium to use; found by itself." placeholder:"PATH"`
	Lab      bool   `help:"Loopback addresses may be opened."`
}

// Run opens a window and writes what the person did in it.
func (c loginRecordCmd) Run(e *env) error {
	if _, err := os.Lstat(c.Out); !errors.Is(err, fs.ErrNotExist) {
		return kidoban.Errorf(kidoban.KindUsage, "%s exists already: choose another file with --out", c.Out)
	}
	if !strings.HasPrefix(c.URL, "https://") && !c.Lab {
		return kidoban.Errorf(kidoban.KindUsage, "%q is no https address; a server on this machine needs --lab", c.URL)
	}
	chromium, err := browser.StartChromium(e.ctx, browser.ChromiumOptions{Path: c.Browser, Visible: true, Lab: c.Lab})
	if err != nil {
		return err
	}
	defer chromium.Close()
	fmt.Fprintln(e.stderr, "Log in with a test account in the window. The recording ends at the page that asks you to allow access, or when you close the window.")
	rec, err := chromium.Record(e.ctx, c.URL, browser.RecordOptions{Secret: c.reference(), Passkeys: c.Passkeys})
	if err != nil {
		return err
	}
	return c.write(e, rec)
}

// reference is how the script will name a secret; nil for the environment.
func (c loginRecordCmd) reference() func(string) string {
	if c.Keychain == "" {
		return nil
	}
	return func(what string) string { return "keychain:" + c.Keychain + "-" + what }
}

// write writes the script, and says what is still to be done.
func (c loginRecordCmd) write(e *env, rec *browser.Recording) error {
	if len(rec.Steps) == 0 {
		return kidoban.Errorf(kidoban.KindInput, "nothing was done in the window, so there is no script; if you were logged in already, start from the login page of a fresh profile")
	}
	raw, err := rec.YAML()
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the script cannot be written")
	}
	text := "# Played by: kidoban audit URL --login-script " + c.Out + "\n" + string(raw)
	if err := os.WriteFile(c.Out, []byte(text), 0o600); err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "cannot write %s", c.Out)
	}
	fmt.Fprintf(e.stdout, "%s: %s\n", c.Out, kidoban.Count(len(rec.Steps), "step", "steps"))
	for _, n := range rec.Notes {
		fmt.Fprintln(e.stdout, "  note: "+n)
	}
	for _, what := range []string{"password", "totp", "passkey"} {
		switch {
		case !strings.Contains(text, "KIDOBAN_"+strings.ToUpper(what)) && !strings.Contains(text, "-"+what):
		case what == "passkey" && len(rec.Passkeys) > 0:
			if err := c.keepPasskey(e, rec.Passkeys[len(rec.Passkeys)-1]); err != nil {
				return err
			}
		case c.Keychain != "":
			fmt.Fprintf(e.stdout, "  put the %s there:  kidoban login keep %s-%s\n", what, c.Keychain, what)
		default:
			fmt.Fprintf(e.stdout, "  before it is played, put the %s into KIDOBAN_%s\n", secretName(what), strings.ToUpper(what))
		}
	}
	return nil
}

func secretName(what string) string {
	switch what {
	case "totp":
		return "base32 secret of the second factor (not a code)"
	case "passkey":
		return "passkey (JSON; record with --passkeys to make one)"
	}
	return what
}

// keepPasskey keeps a passkey that was made while recording: in the keychain, or
// in a file that only its owner can read.
func (c loginRecordCmd) keepPasskey(e *env, p browser.Passkey) error {
	text, err := json.Marshal(p)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the passkey cannot be written")
	}
	then := "export KIDOBAN_PASSKEY=\"$(cat " + c.Out + ".passkey)\""
	if c.Keychain != "" {
		kept := browser.Keep(c.Keychain+"-passkey", string(text))
		if kept == nil {
			fmt.Fprintf(e.stdout, "  the passkey is in the keychain as %s-passkey\n", c.Keychain)
			return nil
		}
		fmt.Fprintln(e.stderr, "kidoban: "+kept.Error())
		then = "kidoban login keep " + c.Keychain + "-passkey < " + c.Out + ".passkey"
	}
	name := c.Out + ".passkey"
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "cannot write %s", name)
	}
	fmt.Fprintf(e.stdout, "  the passkey is in %s, which only you can read; before the script is played:\n    %s\n", name, then)
	return nil
}

type loginKeepCmd struct {
	Name string `arg:"" help:"What the script calls it, without keychain: before it."`
}

// Run reads the secret from the terminal without showing it, or one line of input.
func (c loginKeepCmd) Run(e *env) error {
	var secret string
	if f, ok := e.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(e.stderr, "secret for %s: ", c.Name)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(e.stderr)
		if err != nil {
			return kidoban.Wrap(kidoban.KindUsage, err, "the secret cannot be read from the terminal")
		}
		secret = string(b)
	} else {
		line, err := bufio.NewReader(io.LimitReader(e.stdin, 64<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return kidoban.Wrap(kidoban.KindUsage, err, "the secret cannot be read")
		}
		secret = strings.TrimRight(line, "\r\n")
	}
	if secret == "" {
		return kidoban.Errorf(kidoban.KindUsage, "the secret is empty: nothing was kept")
	}
	if err := browser.Keep(c.Name, secret); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "kept as keychain:%s\n", c.Name)
	return nil
}
