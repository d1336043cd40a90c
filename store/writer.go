package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/kidoban/kidoban"
)

// maxBatch bounds the writes that share one sync. A larger batch gains nothing
// measurable and makes the first of it wait longer.
const maxBatch = 128

// writer is SQLite's single writer. One goroutine owns conn and stmts; it ends
// when ops is closed.
type writer struct {
	pool  *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt

	mu     sync.RWMutex // guards closed against sends on ops
	closed bool
	ops    chan *op
	done   chan struct{}
}

// op is one waiting write.
type op struct {
	ctx  context.Context
	fn   func(tx) error
	err  error
	done chan struct{}
}

func openWriter(ctx context.Context, dsn string) (*writer, error) {
	pool, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the database cannot be opened for writing")
	}
	pool.SetMaxOpenConns(1)
	conn, err := firstConn(ctx, pool)
	if err != nil {
		pool.Close()
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the database file cannot be used: is it an SQLite file, and is its directory writable?")
	}
	w := &writer{
		pool: pool, conn: conn, stmts: map[string]*sql.Stmt{},
		ops: make(chan *op, maxBatch), done: make(chan struct{}),
	}
	go w.run()
	return w, nil
}

// firstConn opens the connection. Of two processes that open a new file at once one
// may be told that it is busy, without the wait that every other statement has: the
// change to a write-ahead log waits for nobody.
func firstConn(ctx context.Context, pool *sql.DB) (*sql.Conn, error) {
	for try := 0; ; try++ {
		conn, err := pool.Conn(ctx)
		var se *sqlite.Error
		if err == nil || try == busyTries || !errors.As(err, &se) || se.Code()&0xff != sqlite3.SQLITE_BUSY {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(busyPause):
		}
	}
}

// Together busyTries and busyPause are as long as the wait of other statements.
const (
	busyTries = 200
	busyPause = 50 * time.Millisecond
)

// undoInMemory keeps in memory what SQLite needs to undo one statement of a
// transaction: by itself it makes and fills a file for each that stores several rows.
// A migration is made before, since its sorting may need more than memory has.
func (w *writer) undoInMemory(ctx context.Context) error {
	_, err := w.conn.ExecContext(ctx, "PRAGMA temp_store = MEMORY")
	return sentence(err)
}

// do queues fn and waits for its transaction to be durable. A context that ends
// while the write waits in the queue takes it out; one that ends later does not,
// because the effect may already be on disk.
func (w *writer) do(ctx context.Context, fn func(tx) error) error {
	o := &op{ctx: ctx, fn: fn, done: make(chan struct{})}
	w.mu.RLock()
	if w.closed {
		w.mu.RUnlock()
		return kidoban.Errorf(kidoban.KindUnreachable, "the database is closed")
	}
	select {
	case w.ops <- o:
		w.mu.RUnlock()
	case <-ctx.Done():
		w.mu.RUnlock()
		return sentence(ctx.Err())
	}
	<-o.done
	return sentence(o.err)
}

func (w *writer) run() {
	defer close(w.done)
	batch := make([]*op, 0, maxBatch)
	for first := range w.ops {
		batch = append(batch[:0], first)
	drain:
		for len(batch) < maxBatch {
			select {
			case o, ok := <-w.ops:
				if !ok {
					break drain
				}
				batch = append(batch, o)
			default:
				break drain
			}
		}
		w.commit(batch)
		for _, o := range batch {
			close(o.done)
		}
	}
}

// commit runs the batch in one transaction. When one write fails the transaction
// is rolled back and each write is run in a transaction of its own, so that
// nobody pays for another's error.
func (w *writer) commit(batch []*op) {
	live := batch[:0:0]
	for _, o := range batch {
		if o.err = o.ctx.Err(); o.err == nil {
			live = append(live, o)
		}
	}
	if len(live) > 1 {
		err := w.transact(func() error {
			for _, o := range live {
				if err := o.fn(sqliteTx{w}); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			return
		}
	}
	for _, o := range live {
		o.err = w.transact(func() error { return o.fn(sqliteTx{w}) })
	}
}

func (w *writer) transact(fn func() error) (err error) {
	t := sqliteTx{w}
	if _, err := t.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err = fn(); err == nil {
		_, err = t.exec("COMMIT")
	}
	if err != nil {
		// A failed COMMIT (a full disk) may have rolled back already.
		if _, rerr := t.exec("ROLLBACK"); rerr != nil && !errors.Is(err, rerr) {
			return err
		}
	}
	return err
}

// close ends the goroutine after the queued writes.
func (w *writer) close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	close(w.ops)
	w.mu.Unlock()
	<-w.done
	for _, st := range w.stmts {
		st.Close()
	}
	return errors.Join(w.conn.Close(), w.pool.Close())
}

// sqliteTx runs statements on the writer's connection. It uses a background
// context: a write that has begun is finished, and the driver need not watch.
type sqliteTx struct{ w *writer }

func (t sqliteTx) stmt(q string) (*sql.Stmt, error) {
	if st, ok := t.w.stmts[q]; ok {
		return st, nil
	}
	st, err := t.w.conn.PrepareContext(context.Background(), inOrder(q))
	if err == nil {
		t.w.stmts[q] = st
	}
	return st, err
}

// inOrder writes the parameters of a statement as ? where they are $1, $2, … in this
// order, each once. The text means the same; but SQLite keeps a list of names, which
// is walked for every parameter that is bound, and a statement for many rows has
// hundreds.
func inOrder(q string) string {
	pieces := strings.Split(q, "$")
	for i, piece := range pieces[1:] {
		n := strconv.Itoa(i + 1)
		rest, ok := strings.CutPrefix(piece, n)
		if !ok || rest != "" && rest[0] >= '0' && rest[0] <= '9' || strings.ContainsAny(pieces[i], "'\"?") {
			return q
		}
		pieces[i+1] = rest
	}
	return strings.Join(pieces, "?")
}

func (t sqliteTx) exec(q string, args ...any) (int64, error) {
	st, err := t.stmt(q)
	if err != nil {
		return 0, err
	}
	r, err := st.Exec(args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (t sqliteTx) query(q string, scan func(row) error, args ...any) error {
	st, err := t.stmt(q)
	if err != nil {
		return err
	}
	rows, err := st.Query(args...)
	return each(rows, err, scan)
}
