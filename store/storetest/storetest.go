// Package storetest gives tests a real database: an SQLite file, or a PostgreSQL
// server that it starts from the system's binaries and stops again. There are no
// doubles: what a test shows here holds in production.
package storetest

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver to make databases with
	"github.com/kidoban/kidoban/outbound/freeport"
)

// SQLite returns the path of a fresh SQLite database.
func SQLite(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "kidoban.db")
}

// Server is a running PostgreSQL server.
type Server struct {
	dir   string
	port  int
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	cred  *syscall.Credential
	bin   string
}

// StartServer starts a PostgreSQL server in a temporary directory on a free
// loopback port. The caller stops it with Stop; most tests want a [Cluster].
func StartServer() (*Server, error) {
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(bins) == 0 {
		return nil, fmt.Errorf("PostgreSQL's initdb was not found under /usr/lib/postgresql: install the package postgresql")
	}
	sort.Strings(bins)
	s := &Server{bin: filepath.Dir(bins[len(bins)-1])}
	if s.dir, err = os.MkdirTemp("/tmp", "kidoban-pg-"); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		who, err := user.Lookup("postgres")
		if err != nil {
			if who, err = user.Lookup("nobody"); err != nil {
				return nil, err
			}
		}
		uid, _ := strconv.Atoi(who.Uid)
		gid, _ := strconv.Atoi(who.Gid)
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.dir, uid, gid); err != nil {
			return nil, err
		}
	}
	if out, err := s.command("initdb", "-D", s.dir+"/data", "-U", "kidoban", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	for try := 0; ; try++ { // somebody may take a free port before PostgreSQL does
		at, err := freeport.Loopback()
		if err != nil {
			return nil, err
		}
		s.port = int(at.Port())
		if err := s.Start(); err == nil || try == 5 || !errors.Is(err, errEnded) {
			return s, err
		}
	}
}

// errEnded is that of a server that ended before it answered.
var errEnded = errors.New("PostgreSQL ended while it started")

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// Start starts the server after a Stop and waits until it answers.
func (s *Server) Start() error {
	s.cmd = s.command("postgres", "-D", s.dir+"/data", "-k", s.dir, "-p", strconv.Itoa(s.port), "-h", "127.0.0.1",
		"-c", "max_connections=200", "-c", "shared_buffers=32MB")
	s.cmd.Stdout, s.cmd.Stderr = nil, nil
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // the exit code of an ended server says nothing here
		close(ended)
	}(s.cmd, s.ended)
	db, err := sql.Open("pgx", s.URL("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	for deadline := time.Now().Add(3 * time.Minute); ; {
		var dir string
		err := db.QueryRow("SHOW data_directory").Scan(&dir)
		if err == nil && dir == s.dir+"/data" { // and it is ours
			return nil
		}
		select {
		case <-s.ended:
			return errEnded
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL does not answer: %w", err)
		}
	}
}

// Stop stops the server at once, as a crash of its host would for its clients;
// the data stays.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	<-s.ended
	return nil
}

// Remove stops the server and deletes its data.
func (s *Server) Remove() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.Stop() // it may have been stopped already
	}
	os.RemoveAll(s.dir)
}

// URL returns the URL of a database of the server.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://kidoban@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

// Create makes a fresh database and returns its URL.
func (s *Server) Create() (string, error) {
	db, err := sql.Open("pgx", s.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer db.Close()
	name := "t" + rand.Text()
	if _, err := db.Exec(`CREATE DATABASE "` + name + `"`); err != nil {
		return "", err
	}
	return s.URL(name), nil
}

// Own returns a PostgreSQL server of the test's own, which it may stop and start, with
// the URL of a database on it.
func Own(t testing.TB) (*Server, string) {
	t.Helper()
	s, err := StartServer()
	if err != nil {
		t.Fatalf("PostgreSQL: %v", err)
	}
	t.Cleanup(s.Remove)
	u, err := s.Create()
	if err != nil {
		t.Fatalf("PostgreSQL: %v", err)
	}
	return s, u
}

// Cluster is one server for all tests of a package; it starts at first use. TestMain
// calls Run; where a few tests share one, the outermost calls Close.
type Cluster struct {
	once   sync.Once
	server *Server
	err    error
}

// Postgres returns the URL of a fresh database, or fails the test.
func (c *Cluster) Postgres(t testing.TB) string {
	t.Helper()
	c.once.Do(func() { c.server, c.err = StartServer() })
	if c.err != nil {
		t.Fatalf("PostgreSQL: %v", c.err)
	}
	u, err := c.server.Create()
	if err != nil {
		t.Fatalf("PostgreSQL: %v", err)
	}
	return u
}

// Run runs the tests of a package, then stops the server, and returns the exit code.
func (c *Cluster) Run(m *testing.M) int {
	code := m.Run()
	c.Close()
	return code
}

// Close stops the server if one was started.
func (c *Cluster) Close() {
	if c.server != nil {
		c.server.Remove()
	}
}
