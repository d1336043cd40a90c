package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/kidoban/kidoban"
)

// Letters travel as notifications of PostgreSQL on one channel, each with the
// name it is for. A notification holds 8000 bytes; a longer letter waits in a
// table, and the notification says where.
const (
	mailChannel = "kidoban"
	maxNotice   = 7000
	// letterLife is how long a letter waits for a process that has gone.
	letterLife = 2 * time.Minute
)

// mailOut sends letters in the order they were posted, over one connection; what
// waits while a batch is on its way goes with the next one.
type mailOut struct {
	pool *sql.DB

	mu      sync.Mutex
	waiting []*outLetter
	sending bool
	closed  bool
	conn    *sql.Conn // of the one who is sending
	swept   time.Time
}

type outLetter struct {
	notice string
	id     string // of a row, for a long letter
	body   []byte
	done   chan error
}

func newMailOut(pool *sql.DB) *mailOut { return &mailOut{pool: pool} }

func (m *mailOut) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.conn != nil && !m.sending {
		err := m.conn.Close()
		m.conn = nil
		return err
	}
	return nil
}

// Post implements gateway.Replicas.
func (p *Replicas) Post(ctx context.Context, to string, body []byte) error {
	l := &outLetter{done: make(chan error, 1)}
	if n := base64.StdEncoding.EncodedLen(len(body)); n <= maxNotice {
		l.notice = to + " " + base64.StdEncoding.EncodeToString(body)
	} else {
		l.id, l.body = rand.Text(), body
		l.notice = to + " #" + l.id
	}
	m := p.out
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return kidoban.Errorf(kidoban.KindUnreachable, "the database is closed")
	}
	m.waiting = append(m.waiting, l)
	first := !m.sending
	m.sending = true
	m.mu.Unlock()
	if first {
		m.send()
	}
	select {
	case err := <-l.done:
		return sentence(err)
	case <-ctx.Done():
		return sentence(ctx.Err())
	}
}

// send works off what waits. Exactly one caller is in it at a time.
func (m *mailOut) send() {
	for {
		m.mu.Lock()
		batch := m.waiting
		m.waiting = nil
		if len(batch) == 0 {
			m.sending = false
			if m.closed && m.conn != nil {
				m.conn.Close()
				m.conn = nil
			}
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		err := m.batch(batch)
		if err != nil { // a connection may have died since; once more with a new one
			m.conn = nil
			err = m.batch(batch)
		}
		for _, l := range batch {
			l.done <- err // has room for one
		}
	}
}

func (m *mailOut) batch(batch []*outLetter) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if m.conn == nil {
		conn, err := m.pool.Conn(ctx)
		if err != nil {
			return err
		}
		m.conn = conn
	}
	err := m.conn.Raw(func(dc any) error {
		conn := dc.(*stdlib.Conn).Conn()
		b := &pgx.Batch{}
		// A letter is worth nothing after a crash, so nobody waits for the disk.
		b.Queue("BEGIN")
		b.Queue("SET LOCAL synchronous_commit = off")
		if now := time.Now(); now.Sub(m.swept) > letterLife/2 {
			m.swept = now
			b.Queue(`DELETE FROM letters WHERE at_ms < $1`, ms(now.Add(-letterLife)))
		}
		notices := make([]string, len(batch))
		for i, l := range batch {
			notices[i] = l.notice
			if l.id != "" {
				b.Queue(`INSERT INTO letters(id, body, at_ms) VALUES ($1, $2, $3)`, l.id, l.body, ms(time.Now()))
			}
		}
		b.Queue(`SELECT pg_notify($1, n) FROM unnest($2::text[]) WITH ORDINALITY AS t(n, i) ORDER BY i`, mailChannel, notices)
		b.Queue("COMMIT")
		return errors.Join(conn.SendBatch(ctx, b).Close(), dead(conn))
	})
	if err != nil {
		m.conn.Close()
		m.conn = nil
	}
	return err
}

// dead makes the pool drop a connection that cannot be used again.
func dead(c *pgx.Conn) error {
	if c.IsClosed() {
		return driver.ErrBadConn
	}
	return nil
}

// Receive implements gateway.Replicas.
func (p *Replicas) Receive(ctx context.Context, name string, ready func(), f func(body []byte)) error {
	conn, err := p.pool.Conn(ctx)
	if err != nil {
		return sentence(err)
	}
	defer conn.Close()
	return sentence(conn.Raw(func(dc any) error {
		c := dc.(*stdlib.Conn).Conn()
		defer c.Close(context.WithoutCancel(ctx)) // never back to the pool: it listens
		if _, err := c.Exec(ctx, "LISTEN "+mailChannel); err != nil {
			return errors.Join(err, driver.ErrBadConn)
		}
		ready()
		for {
			n, err := c.WaitForNotification(ctx)
			if err != nil {
				return errors.Join(err, driver.ErrBadConn)
			}
			to, text, ok := strings.Cut(n.Payload, " ")
			if !ok || to != name && to != "*" {
				continue
			}
			if body := p.opened(ctx, text, to == name); body != nil {
				f(body)
			}
		}
	}))
}

// opened gives the body of a letter; nil when it cannot be had.
func (p *Replicas) opened(ctx context.Context, text string, last bool) (body []byte) {
	id, long := strings.CutPrefix(text, "#")
	if !long {
		body, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil
		}
		return body
	}
	q := `SELECT body FROM letters WHERE id = $1`
	if last {
		q = `DELETE FROM letters WHERE id = $1 RETURNING body`
	}
	if err := p.read(ctx, q, func(r row) error { return r.Scan(&body) }, id); err != nil {
		return nil
	}
	return body
}
