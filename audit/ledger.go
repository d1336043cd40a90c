package audit

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
)

// Ledger is the residue ledger of one run (catalogue 5.5): what the run is about
// to leave on a server is on disk before the request goes out, so that a crash
// loses nothing that could be cleaned up. The file is append-only, one JSON
// object a line, fsynced after every line, and locked for the life of the run;
// a ledger that nobody holds belongs to a run that died.
//
// Management tokens are sealed with AES-256-GCM under a key of this state
// directory, bound to the run and the entry. The key file is readable by its
// owner only.
type Ledger struct {
	run  string
	path string
	f    *os.File
	aead cipher.AEAD
	n    int
}

// Entry is one line. Event says what happened to the registration with number N.
type Entry struct {
	N           int       `json:"n"`
	Kind        string    `json:"kind,omitempty"` // "" for a client, grant for tokens
	Event       string    `json:"event"`          // intent, registered, refused, deleted, left, expires
	Time        time.Time `json:"time"`
	Probe       string    `json:"probe,omitempty"`
	Issuer      string    `json:"issuer,omitempty"`
	Endpoint    string    `json:"registration_endpoint,omitempty"` // of a grant: the revocation endpoint
	ClientID    string    `json:"client_id,omitempty"`
	ClientURI   string    `json:"registration_client_uri,omitempty"`
	SealedToken string    `json:"sealed_token,omitempty"`
	Expires     string    `json:"expires,omitempty"`
	Why         string    `json:"why,omitempty"`
	Lab         bool      `json:"lab,omitempty"`
}

const (
	ledgerDir = "ledger"
	keyFile   = "ledger.key"
	maxLedger = 4 << 20
)

// OpenLedger creates the ledger of a run in dir and locks it.
func OpenLedger(dir, run string) (*Ledger, error) {
	aead, err := ledgerKey(dir)
	if err != nil {
		return nil, err
	}
	sub := filepath.Join(dir, ledgerDir)
	if err := os.MkdirAll(sub, 0o700); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "cannot create the ledger's directory")
	}
	path := filepath.Join(sub, run+".jsonl")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "cannot create the residue ledger; nothing was registered")
	}
	if err := lockFile(f); err != nil {
		f.Close()
		return nil, kidoban.Wrap(kidoban.KindConflict, err, "another process holds this run's ledger")
	}
	l := &Ledger{run: run, path: path, f: f, aead: aead}
	return l, syncDir(sub)
}

// Intend writes that a registration is about to be sent and returns its number.
// The line is on disk when Intend returns; without it nothing may be sent.
func (l *Ledger) Intend(e Entry) (int, error) {
	l.n++
	e.N, e.Event = l.n, "intent"
	return l.n, l.append(e)
}

// Registered writes what the server gave; token may be empty.
func (l *Ledger) Registered(e Entry, token string) error {
	e.Event = "registered"
	if token != "" {
		sealed, err := l.seal(e.N, token)
		if err != nil {
			return err
		}
		e.SealedToken = sealed
	}
	return l.append(e)
}

// Note writes an event that ends an entry: refused, deleted, left, or expires for
// what the server's cache forgets by itself.
func (l *Ledger) Note(n int, event, why string, at time.Time) error {
	return l.append(Entry{N: n, Event: event, Why: why, Time: at})
}

func (l *Ledger) append(e Entry) error {
	line, err := json.Marshal(e)
	if err == nil {
		_, err = l.f.Write(append(line, '\n'))
	}
	if err == nil {
		err = l.f.Sync()
	}
	return kidoban.Wrap(kidoban.KindInternal, err, "cannot write the residue ledger; no further registration is sent")
}

// Close unlocks the ledger. One whose entries are all settled is removed,
// unless something was left behind: then it moves aside for the records.
func (l *Ledger) Close() error {
	entries, err := readLedger(l.path)
	if closeBeforeRemove {
		err = errors.Join(err, l.f.Close())
	} else {
		defer l.f.Close() // every line was synced when it was written
	}
	if err != nil {
		return err
	}
	return l.settle(entries)
}

func (l *Ledger) settle(entries []Entry) error {
	unsettled, left := 0, 0
	for _, st := range states(entries) {
		switch st.Event {
		case "deleted", "refused", "expires":
		case "left":
			left++
		default:
			unsettled++
		}
	}
	switch {
	case unsettled > 0:
		return nil // the next start finishes it
	case left > 0:
		return os.Rename(l.path, strings.TrimSuffix(l.path, ".jsonl")+".left")
	}
	return os.Remove(l.path)
}

// orphans returns the ledgers in dir whose runs are dead, each locked for the
// caller, who closes them.
func orphans(dir string) ([]*Ledger, error) {
	names, err := filepath.Glob(filepath.Join(dir, ledgerDir, "*.jsonl"))
	if err != nil || len(names) == 0 {
		return nil, err
	}
	aead, err := ledgerKey(dir)
	if err != nil {
		return nil, err
	}
	var out []*Ledger
	for _, path := range names {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			continue // removed by its owner in between
		}
		if lockFile(f) != nil {
			f.Close() // its run is alive
			continue
		}
		if _, err := os.Stat(path); err != nil { // removed while we waited for the lock
			f.Close()
			continue
		}
		run := strings.TrimSuffix(filepath.Base(path), ".jsonl")
		out = append(out, &Ledger{run: run, path: path, f: f, aead: aead})
	}
	return out, nil
}

// readLedger reads a ledger. A torn last line, as a crash leaves it, is ignored.
func readLedger(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "cannot read a residue ledger")
	}
	defer f.Close()
	var out []Entry
	sc := bufio.NewScanner(io.LimitReader(f, maxLedger))
	sc.Buffer(nil, 64<<10)
	for sc.Scan() {
		var e Entry
		if json.Unmarshal(sc.Bytes(), &e) == nil && e.N > 0 {
			out = append(out, e)
		}
	}
	return out, kidoban.Wrap(kidoban.KindInternal, sc.Err(), "cannot read a residue ledger")
}

// states folds a ledger to the last word about each entry, in order; the facts
// of earlier lines are kept.
func states(entries []Entry) []Entry {
	var out []Entry
	at := map[int]int{}
	for _, e := range entries {
		i, ok := at[e.N]
		if !ok {
			at[e.N] = len(out)
			out = append(out, e)
			continue
		}
		s := &out[i]
		s.Event, s.Why = e.Event, e.Why
		if e.ClientID != "" {
			s.ClientID, s.ClientURI, s.SealedToken, s.Expires = e.ClientID, e.ClientURI, e.SealedToken, e.Expires
		}
	}
	return out
}

// seal and unseal bind a token to its run and entry, so that lines cannot be
// swapped between ledgers.
func (l *Ledger) seal(n int, token string) (string, error) {
	nonce := make([]byte, l.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return "", kidoban.Wrap(kidoban.KindInternal, err, "no randomness to seal a token")
	}
	return base64.RawStdEncoding.EncodeToString(l.aead.Seal(nonce, nonce, []byte(token), l.bind(n))), nil
}

func (l *Ledger) unseal(n int, sealed string) (string, error) {
	raw, err := base64.RawStdEncoding.DecodeString(sealed)
	if err != nil || len(raw) < l.aead.NonceSize() {
		return "", kidoban.Errorf(kidoban.KindInput, "a sealed token in the ledger is damaged")
	}
	k := l.aead.NonceSize()
	token, err := l.aead.Open(nil, raw[:k], raw[k:], l.bind(n))
	return string(token), kidoban.Wrap(kidoban.KindInput, err, "a sealed token in the ledger cannot be opened with this state directory's key")
}

func (l *Ledger) bind(n int) []byte { return []byte("kidoban ledger\x00" + l.run + "\x00" + itoa(n)) }

func ledgerKey(dir string) (cipher.AEAD, error) {
	key, err := stateKey(dir)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the ledger's key is unusable")
	}
	return cipher.NewGCM(block)
}

// stateKey returns the 32-byte key of a state directory and makes it on first
// use: written to a temporary file, linked into place, so that two starts at
// once agree on one key.
func stateKey(dir string) ([]byte, error) {
	if dir == "" {
		return nil, kidoban.Errorf(kidoban.KindUsage, "state-creating tests need a state directory for the residue ledger: set XDG_STATE_HOME or HOME")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "cannot create the state directory")
	}
	path := filepath.Join(dir, keyFile)
	key, err := os.ReadFile(path)
	if err == nil && len(key) == 32 {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "cannot read the ledger's key")
	}
	if err == nil {
		return nil, kidoban.Errorf(kidoban.KindInput, "the ledger's key file does not hold 32 bytes; move it away if no old ledger matters")
	}
	key = make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "no randomness for the ledger's key")
	}
	tmp, err := os.CreateTemp(dir, ".key-*") // mode 0600
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "cannot write the ledger's key")
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(key)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "cannot write the ledger's key")
	}
	if err := os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		return stateKey(dir)
	} else if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "cannot write the ledger's key")
	}
	return key, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err == nil {
		err = errors.Join(syncDirectory(d), d.Close())
	}
	return kidoban.Wrap(kidoban.KindInternal, err, "cannot sync the ledger's directory")
}

// OwnershipProof returns the line that the owner of host publishes to show that
// the one who runs the audit from this state directory may register clients
// there: in /.well-known/kidoban-audit.txt, or as a TXT record of
// _kidoban-audit.<host>. It is a keyed hash of the host; it tells nothing else.
func OwnershipProof(stateDir, host string) (string, error) {
	key, err := stateKey(stateDir)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("kidoban ownership\x00" + strings.ToLower(host)))
	return "kidoban-audit=" + hex.EncodeToString(mac.Sum(nil)), nil
}
