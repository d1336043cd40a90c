package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver "pgx"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/kidoban/kidoban"
)

// Options say where the database is.
type Options struct {
	// URL is a path of an SQLite file, which is created with mode 0600, or a
	// postgres:// URL.
	URL string
	// MaxConns bounds the connections for reading (SQLite) or in all (PostgreSQL).
	// 0 means 4 for SQLite and 16 for PostgreSQL.
	MaxConns int
	// Now is the clock for migrations' records; nil means time.Now.
	Now func() time.Time
}

// DB is an open database. It implements the interfaces that its users declare.
type DB struct {
	pool   *sql.DB // readers of SQLite; all of PostgreSQL
	writer *writer // SQLite only
	stmts  sync.Map
	seen   seenLately
	now    func() time.Time
}

// Open opens the database and brings its schema up to date. A schema newer than
// this program is refused: there is no way back but a backup.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	db := &DB{now: o.Now}
	var err error
	if strings.HasPrefix(o.URL, "postgres://") || strings.HasPrefix(o.URL, "postgresql://") {
		err = db.openPostgres(o)
	} else {
		err = db.openSQLite(ctx, o)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	if err := db.migrate(ctx); err != nil {
		db.Close()
		return nil, err
	}
	if db.writer != nil {
		if err := db.writer.undoInMemory(ctx); err != nil {
			db.Close()
			return nil, err
		}
	}
	return db, nil
}

// Postgres tells whether the database is PostgreSQL, which several processes
// may share.
func (d *DB) Postgres() bool { return d.writer == nil }

// Clock is the present by the clock of PostgreSQL, or of this machine with SQLite.
func (d *DB) Clock(ctx context.Context) (now time.Time, err error) {
	if !d.Postgres() {
		return d.now(), nil
	}
	err = d.readOne(ctx, "clock", `SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT`, func(r row) error { return r.Scan(at(&now)) })
	return now, err
}

func (d *DB) openPostgres(o Options) error {
	pool, err := sql.Open("pgx", o.URL)
	if err != nil {
		return kidoban.Errorf(kidoban.KindUsage, "the database URL is not a valid postgres:// URL: check its form in the configuration")
	}
	if o.MaxConns == 0 {
		o.MaxConns = 16
	}
	pool.SetMaxOpenConns(o.MaxConns)
	pool.SetMaxIdleConns(o.MaxConns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	d.pool = pool
	return nil
}

// How much of the file each connection of SQLite keeps, in KiB (a page of 4 KiB takes
// 8 KiB of memory). SQLite's own 2,000 for each of five connections would be 18 MB;
// what is not kept here is read again from the system's cache of the file.
const (
	writerPages = "cache_size(-1000)" // the audit log's last pages and their indexes
	readerPages = "cache_size(-250)"
)

func (d *DB) openSQLite(ctx context.Context, o Options) error {
	path := strings.TrimPrefix(o.URL, "sqlite:")
	if path == "" {
		return kidoban.Errorf(kidoban.KindUsage, "the database path is empty: give a file name or a postgres:// URL")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the database directory cannot be made: check the path and its permissions")
	}
	// The file is made here so that it never exists with a wider mode.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the database file cannot be opened: check the path and its permissions")
	}
	if err := f.Close(); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the database file cannot be closed")
	}
	dsn := func(more ...string) string {
		v := url.Values{"_pragma": append([]string{"busy_timeout(10000)", "foreign_keys(1)"}, more...)}
		return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + v.Encode()
	}
	w, err := openWriter(ctx, dsn("journal_mode(WAL)", "synchronous(FULL)", "wal_autocheckpoint(4000)", "journal_size_limit(67108864)", writerPages))
	if err != nil {
		return err
	}
	d.writer = w
	d.pool, err = sql.Open("sqlite", dsn("query_only(1)", readerPages))
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the database cannot be opened for reading")
	}
	if o.MaxConns == 0 {
		o.MaxConns = 4
	}
	d.pool.SetMaxOpenConns(o.MaxConns)
	d.pool.SetMaxIdleConns(o.MaxConns)
	return nil
}

// Close waits for writes under way and closes the database.
func (d *DB) Close() error {
	var err error
	if d.writer != nil {
		err = d.writer.close()
	}
	if d.pool != nil {
		err = errors.Join(err, d.pool.Close())
	}
	return err
}

// tx is one write transaction.
type tx interface {
	// exec runs a statement and returns how many rows it changed.
	exec(q string, args ...any) (int64, error)
	// query runs a statement and gives each row to scan.
	query(q string, scan func(row) error, args ...any) error
}

// row is one row of a result, ready to be scanned.
type row interface{ Scan(dest ...any) error }

// write runs fn in one transaction. fn may be run more than once and must set
// its results anew each time; when it returns an error nothing has happened.
func (d *DB) write(ctx context.Context, fn func(tx) error) error {
	if d.writer != nil {
		return d.writer.do(ctx, fn)
	}
	for try := 0; ; try++ {
		err := d.writePostgres(ctx, fn)
		var pe *pgconn.PgError
		// Serialization failures and deadlocks ask for another try.
		if try < 5 && errors.As(err, &pe) && (pe.Code == "40001" || pe.Code == "40P01") {
			continue
		}
		return sentence(err)
	}
}

func (d *DB) writePostgres(ctx context.Context, fn func(tx) error) error {
	t, err := d.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer t.Rollback() //nolint:errcheck // after Commit it does nothing; before, the connection is dropped
	if err := fn(pgTx{ctx, t}); err != nil {
		return err
	}
	return t.Commit()
}

type pgTx struct {
	ctx context.Context
	t   *sql.Tx
}

func (p pgTx) exec(q string, args ...any) (int64, error) {
	r, err := p.t.ExecContext(p.ctx, q, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (p pgTx) query(q string, scan func(row) error, args ...any) error {
	rows, err := p.t.QueryContext(p.ctx, q, args...)
	return each(rows, err, scan)
}

// read runs a query outside a transaction and gives each row to scan.
func (d *DB) read(ctx context.Context, q string, scan func(row) error, args ...any) error {
	if d.writer == nil { // pgx keeps prepared statements itself
		rows, err := d.pool.QueryContext(ctx, q, args...)
		return sentence(each(rows, err, scan))
	}
	st, ok := d.stmts.Load(q)
	if !ok {
		fresh, err := d.pool.PrepareContext(ctx, q)
		if err != nil {
			return sentence(err)
		}
		var loaded bool
		if st, loaded = d.stmts.LoadOrStore(q, fresh); loaded {
			fresh.Close()
		}
	}
	rows, err := st.(*sql.Stmt).QueryContext(ctx, args...)
	return sentence(each(rows, err, scan))
}

// readOne is read for a query that gives at most one row. what names the thing
// in the sentence of a not-found error.
func (d *DB) readOne(ctx context.Context, what, q string, scan func(row) error, args ...any) error {
	found := false
	err := d.read(ctx, q, func(r row) error { found = true; return scan(r) }, args...)
	if err == nil && !found {
		return notFound(what)
	}
	return err
}

func each(rows *sql.Rows, err error, scan func(row) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// change runs one statement on the thing that it is about; not-found, named by what,
// when there is none.
func (d *DB) change(ctx context.Context, what, q string, args ...any) error {
	return d.write(ctx, func(t tx) error {
		n, err := t.exec(q, args...)
		if err == nil && n == 0 {
			return notFound(what)
		}
		return err
	})
}

func notFound(what string) error {
	return kidoban.Errorf(kidoban.KindNotFound, "there is no such %s", what)
}

// sentence classes an engine's error. Errors that have a kind already pass.
func sentence(err error) error {
	var k *kidoban.Error
	if err == nil || errors.As(err, &k) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return kidoban.Wrap(kidoban.KindUnreachable, err, "the request ended before the database answered")
	}
	var pe *pgconn.PgError
	var se *sqlite.Error
	switch {
	case errors.As(err, &pe) && pe.Code == "23505":
		return kidoban.Wrap(kidoban.KindConflict, err, "that already exists")
	case errors.As(err, &pe) && (strings.HasPrefix(pe.Code, "57") || strings.HasPrefix(pe.Code, "08") || pe.Code == "53300"),
		errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), isConnect(err):
		return kidoban.Wrap(kidoban.KindUnreachable, err, "the database cannot be reached")
	case errors.As(err, &pe) && strings.HasPrefix(pe.Code, "53"):
		return kidoban.Wrap(kidoban.KindLimit, err, "the database is out of room")
	case errors.As(err, &se):
		switch se.Code() {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
			return kidoban.Wrap(kidoban.KindConflict, err, "that already exists")
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE: // the second: no room for the index of what was written last
			return kidoban.Wrap(kidoban.KindLimit, err, "the disk is full: make room for the database")
		}
	}
	return kidoban.Wrap(kidoban.KindInternal, err, "the database refused an operation")
}

func isConnect(err error) bool {
	var ce *pgconn.ConnectError
	return errors.As(err, &ce) || strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "unexpected EOF")
}
