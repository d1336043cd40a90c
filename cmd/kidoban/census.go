package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/census"
	"github.com/kidoban/kidoban/outbound"
	"github.com/kidoban/kidoban/store"
)

// censusCmd holds the commands of the census.
type censusCmd struct {
	Plan     censusPlanCmd     `cmd:"" help:"Normalise and count candidates, name the request budget, contact nobody."`
	Run      censusRunCmd      `cmd:"" help:"Measure candidates. The same command again goes on where it stopped."`
	Work     censusWorkCmd     `cmd:"" help:"Take part in a census on a PostgreSQL database, from this machine."`
	Report   censusReportCmd   `cmd:"" help:"The tables of a census beside the study's, as terminal, HTML, Markdown, CSV or JSON."`
	Diff     censusDiffCmd     `cmd:"" help:"What changed between two result files."`
	Selftest censusSelftestCmd `cmd:"" help:"Start a population on loopback, measure it, compare with its ground truth."`
}

// censusSources are the flags that say what to measure.
type censusSources struct {
	Sources      []string `arg:"" optional:"" help:"Files: URLs or host names one a line, JSON lines, Shodan, FOFA or crt.sh exports, registry answers, configurations of MCP hosts. - is the standard input."`
	Registry     string   `help:"Ask a registry too: official, or its base URL." placeholder:"URL"`
	UpdatedSince string   `help:"From the registry only what changed since (RFC 3339)." placeholder:"TIME"`
	Lab          bool     `help:"Targets on loopback, over http."`
}

// censusPlace is where a census lives.
type censusPlace struct {
	Dir  string `help:"Directory of the census; ./census by default." default:"census" placeholder:"DIR"`
	DB   string `name:"db" help:"PostgreSQL to share the census through; the directory's own SQLite by default." placeholder:"URL"`
	Name string `help:"Name of the census in its database." default:"census"`
}

func (p censusPlace) open(ctx context.Context) (*store.DB, error) {
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the directory of the census cannot be made")
	}
	if p.DB == "" {
		return store.Open(ctx, store.Options{URL: filepath.Join(p.Dir, "census.db")})
	}
	return store.Open(ctx, store.Options{URL: p.DB, MaxConns: censusConns})
}

// censusConns bounds a worker's connections to PostgreSQL for targets and turns;
// the queue takes up to five more. So eight workers fit into its default of a
// hundred.
const censusConns = 6

func (p censusPlace) file(name string) string { return filepath.Join(p.Dir, name) }

// load imports every source that has not been imported whole, and returns what
// became of every entry. Rejected entries go to rejected.jsonl.
func (c censusSources) load(e *env, db *store.DB, p censusPlace) ([]census.Accounting, error) {
	var all []census.Accounting
	names := c.Sources
	if c.Registry != "" {
		names = append(names, "registry "+c.Registry)
	}
	for _, name := range names {
		acc, err := c.once(e, db, p, name)
		if err != nil {
			return all, err
		}
		all = append(all, acc)
	}
	if len(names) == 0 { // going on: the sources of the first time
		return storedSources(p)
	}
	return all, jsonFile(p.file("sources.json"), all)
}

// once imports a source unless that was done. An import that was killed begins
// anew, so that its numbers add up.
func (c censusSources) once(e *env, db *store.DB, p censusPlace, name string) (acc census.Accounting, err error) {
	key := "census:source:" + name
	if raw, err := db.CensusKnown(e.ctx, p.Name, key); err != nil || raw != nil {
		if err == nil {
			err = json.Unmarshal(raw, &acc)
		}
		return acc, err
	}
	if err := db.CensusForget(e.ctx, p.Name, sourceName(name)); err != nil {
		return acc, err
	}
	sum := sha256.Sum256([]byte(name))
	path := p.file("rejected-" + hex.EncodeToString(sum[:4]) + ".jsonl")
	err = wholeFile(path, 0o666, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		acc, err = c.read(e, db, p, name, func(r census.Rejection) error { return enc.Encode(r) })
		return err
	})
	if err != nil {
		return acc, err
	}
	if acc.Targets == 0 { // a wrong file, perhaps: read it again when it was mended
		return acc, nil
	}
	raw, err := json.Marshal(acc)
	if err != nil {
		return acc, kidoban.Wrap(kidoban.KindInternal, err, "the account of %s cannot be stored", name)
	}
	if _, _, err := db.CensusClaim(e.ctx, p.Name, key, time.Second); err != nil {
		return acc, err
	}
	return acc, db.CensusLearn(e.ctx, p.Name, key, raw)
}

func sourceName(name string) string {
	switch {
	case strings.HasPrefix(name, "registry "):
		return "registry"
	case name == "-":
		return "standard input"
	}
	return filepath.Base(name)
}

func (c censusSources) read(e *env, db *store.DB, p censusPlace, name string, rejected func(census.Rejection) error) (census.Accounting, error) {
	if base, ok := strings.CutPrefix(name, "registry "); ok {
		if base == "official" {
			base = census.OfficialRegistry
		}
		var since time.Time
		if c.UpdatedSince != "" {
			var err error
			if since, err = time.Parse(time.RFC3339, c.UpdatedSince); err != nil {
				return census.Accounting{}, kidoban.Errorf(kidoban.KindUsage, "--updated-since wants a time like 2026-11-01T00:00:00Z")
			}
		}
		out := outbound.New(outbound.Options{Lab: c.Lab, PerHostInterval: time.Second})
		defer out.Close()
		return census.ImportRegistry(e.ctx, db, p.Name, c.Lab, out, base, since, rejected)
	}
	in := e.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return census.Accounting{}, kidoban.Wrap(kidoban.KindUsage, err, "the candidates %s cannot be read", name)
		}
		defer f.Close()
		if st, err := f.Stat(); err == nil && st.IsDir() {
			return census.Accounting{}, kidoban.Errorf(kidoban.KindUsage, "%s is a directory: name a file of candidates in it", name)
		}
		in = f
	}
	return census.Import(e.ctx, db, p.Name, c.Lab, sourceName(name), in, rejected)
}

func storedSources(p censusPlace) (all []census.Accounting, err error) {
	raw, err := os.ReadFile(p.file("sources.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, kidoban.Errorf(kidoban.KindUsage, "give candidates: a file, - for standard input, or --registry official")
	}
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	return all, kidoban.Wrap(kidoban.KindUsage, err, "what was imported before cannot be read from %s", p.file("sources.json"))
}

func jsonFile(path string, v any) error {
	return wholeFile(path, 0o666, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	})
}

// censusManners are the flags of politeness and reach.
type censusManners struct {
	OptOut       string        `name:"opt-out" help:"File of hosts that asked not to be measured, one a line." placeholder:"FILE"`
	Contact      string        `help:"Who measures: an address or a page, for the User-Agent. Needed outside --lab." placeholder:"URL|MAIL"`
	Interval     time.Duration `help:"Pause between two requests to one host; 0 only with --lab." default:"1s"`
	PerHost      int           `help:"Requests to one host at most." default:"40"`
	Timeout      time.Duration `help:"Bound of one exchange." default:"10s"`
	Workers      int           `help:"Targets in flight." default:"64"`
	CACert       string        `name:"ca-cert" help:"PEM file of an authority to trust besides the system's." placeholder:"FILE"`
	ResolveAllTo string        `name:"resolve-all-to" help:"Send every name to this loopback address; only with --lab." placeholder:"IP"`
}

func (c censusManners) options(lab bool, run string) (o census.Options, err error) {
	o = census.Options{Run: run, Lab: lab, Workers: c.Workers, Interval: c.Interval, PerHost: c.PerHost, Timeout: c.Timeout}
	if c.Contact == "" && !lab {
		return o, kidoban.Errorf(kidoban.KindUsage, "say who measures, so that operators can reach you: --contact https://example.org/census")
	}
	if strings.ContainsAny(c.Contact, "()\r\n") || len(c.Contact) > 200 {
		return o, kidoban.Errorf(kidoban.KindUsage, "--contact is one address or page without brackets")
	}
	if c.Contact != "" {
		o.UserAgent = "kidoban/" + kidoban.Version + " (+https://github.com/kidoban/kidoban; " + c.Contact + ")"
	}
	if c.OptOut != "" {
		f, err := os.Open(c.OptOut)
		if err != nil {
			return o, kidoban.Wrap(kidoban.KindUsage, err, "the opt-out list %s cannot be read", c.OptOut)
		}
		defer f.Close()
		if o.OptOut, err = census.ReadOptOut(f); err != nil {
			return o, err
		}
	}
	if c.CACert != "" {
		pem, err := os.ReadFile(c.CACert)
		if err != nil {
			return o, kidoban.Wrap(kidoban.KindUsage, err, "the authority's certificate %s cannot be read", c.CACert)
		}
		if o.RootCAs, err = x509.SystemCertPool(); err != nil {
			o.RootCAs = x509.NewCertPool()
		}
		if !o.RootCAs.AppendCertsFromPEM(pem) {
			return o, kidoban.Errorf(kidoban.KindUsage, "%s holds no certificate in PEM form", c.CACert)
		}
	}
	if c.ResolveAllTo != "" {
		a, err := netip.ParseAddr(c.ResolveAllTo)
		if err != nil || !lab || !a.IsLoopback() {
			return o, kidoban.Errorf(kidoban.KindUsage, "--resolve-all-to takes a loopback address and needs --lab")
		}
		o.Resolve = census.Resolver(a)
	}
	return o, nil
}

// censusKey reads the key that hides host names, or makes one.
func censusKey(p censusPlace) ([]byte, error) {
	path := p.file("names.key")
	if key, err := os.ReadFile(path); err == nil && len(key) == 32 {
		return key, nil
	}
	key := make([]byte, 32)
	if _, err := io.ReadFull(rand.Reader, key); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "no randomness")
	}
	return key, kidoban.Wrap(kidoban.KindUsage, os.WriteFile(path, key, 0o600), "the key for host names cannot be kept")
}

type censusPlanCmd struct {
	censusSources
	Rejected string `help:"Write every entry that is no target to this file, with its line and the reason." placeholder:"FILE"`
	JSON     bool   `name:"json" help:"Print one JSON document."`
}

// Run plans in a database that is thrown away.
func (c censusPlanCmd) Run(e *env) error {
	dir, err := os.MkdirTemp("", "kidoban-plan-")
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "no temporary directory")
	}
	defer os.RemoveAll(dir)
	p := censusPlace{Dir: dir, Name: "plan"}
	db, err := p.open(e.ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	sources, err := c.load(e, db, p)
	if err != nil {
		return err
	}
	if c.Rejected != "" {
		if err := streamFile(e, c.Rejected, func(w io.Writer) error { return joinRejected(w, p) }); err != nil {
			return err
		}
	}
	return printPlan(e, db, p, sources, c.JSON)
}

// streamFile writes to a file, or to the standard output for "-", without
// keeping it in memory.
func streamFile(e *env, path string, write func(io.Writer) error) error {
	if path == "-" {
		return write(e.stdout)
	}
	return wholeFile(path, 0o666, write)
}

// joinRejected copies what the sources of a plan rejected.
func joinRejected(w io.Writer, p censusPlace) error {
	names, err := filepath.Glob(p.file("rejected-*.jsonl"))
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return err
}

func printPlan(e *env, db *store.DB, p censusPlace, sources []census.Accounting, asJSON bool) error {
	plan, err := census.MakePlan(e.ctx, db, p.Name, sources)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(e.stdout).Encode(plan)
	}
	var b bytes.Buffer
	plan.WriteText(&b)
	_, err = fmt.Fprint(e.stdout, b.String())
	return err
}
