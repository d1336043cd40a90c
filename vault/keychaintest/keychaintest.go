// Package keychaintest gives tests a real keychain: a session bus of its own and
// GNOME Keyring behind it, unlocked, in a temporary directory. What a desktop's
// user has already is neither read nor changed.
package keychaintest

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zalando/go-keyring"
)

// Start runs bus and keychain until the test ends, and points the environment of
// this process and of those it starts at them. It waits until the keychain
// answers. The packages dbus and gnome-keyring must be installed.
func Start(t *testing.T) {
	t.Helper()
	// Not t.TempDir: the path of a socket may have no more than 107 bytes.
	dir, err := os.MkdirTemp("/tmp", "kidoban-keychain-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, e := range []string{"HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"} {
		sub := filepath.Join(dir, strings.ToLower(e))
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv(e, sub)
	}
	conf := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(conf, []byte(strings.ReplaceAll(busConfig, "SOCKET", filepath.Join(dir, "bus"))), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", run(t, nil, "dbus-daemon", "--nofork", "--print-address=1", "--config-file="+conf))
	run(t, strings.NewReader("of a test"), "gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets", "--control-directory="+filepath.Join(dir, "control"))
	for ends := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, err := keyring.Get("keychaintest", "nothing")
		if errors.Is(err, keyring.ErrNotFound) {
			return
		}
		if time.Now().After(ends) {
			t.Fatalf("the keychain does not answer: %v", err)
		}
	}
}

// busConfig is a bus that starts no service by itself: a second keychain, locked,
// would be one.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=SOCKET</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

// run starts a program, returns its first line, and ends it with the test.
func run(t *testing.T, in io.Reader, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is missing: scripts/setup.sh keychain installs it", name)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.WaitDelay = in, time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s ended without a word: %v", name, err)
	}
	return strings.TrimSpace(line)
}
