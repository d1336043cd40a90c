package census

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/kidoban/kidoban"
)

// A worker that dies must be noticed soon, though its job may be meant to take
// half an hour. So each worker holds an advisory lock under its name for as long
// as its connection lives: the database gives the lock back the moment the
// process is killed, and after some thirty seconds when its whole machine is
// gone (TCP keep-alive). The others look every second for jobs in work whose
// worker holds no lock, and put them back. No clock is compared.

// presence is the lock of one worker. It is used by one goroutine.
type presence struct {
	url, name string
	conn      *pgx.Conn
}

// presenceClass keeps our locks apart from other advisory locks of the database.
const presenceClass = 0x6b69646f // "kido"

// keep takes the lock, or takes it again after the connection was lost: others
// may then have put our jobs back, and some targets are asked twice.
func (p *presence) keep(ctx context.Context) error {
	if p.conn != nil && !p.conn.IsClosed() {
		return nil
	}
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUnreachable, err, "the census' database cannot be reached")
	}
	for _, s := range []string{`SET tcp_keepalives_idle = 10`, `SET tcp_keepalives_interval = 5`, `SET tcp_keepalives_count = 4`} {
		if _, err = conn.Exec(ctx, s); err != nil {
			break
		}
	}
	if err == nil {
		_, err = conn.Exec(ctx, `SELECT pg_advisory_lock($1, hashtext($2))`, presenceClass, p.name)
	}
	if err != nil {
		conn.Close(context.WithoutCancel(ctx))
		return kidoban.Wrap(kidoban.KindUnreachable, err, "the worker cannot make itself known to the others")
	}
	p.conn = conn
	return nil
}

// tend puts back the jobs of workers that are gone, and tells how many slices of
// run are queued or in work. A job whose worker finishes at the same moment stays
// finished: its state is compared in the statement that changes it.
func (p *presence) tend(ctx context.Context, run string) (left int, err error) {
	if err := p.keep(ctx); err != nil {
		return 0, err
	}
	_, err = p.conn.Exec(ctx, `UPDATE river_job SET state = 'available', scheduled_at = now()
		WHERE queue = $1 AND state = 'running' AND NOT EXISTS (SELECT 1 FROM pg_locks
			WHERE locktype = 'advisory' AND granted AND classid::BIGINT = $2 AND objsubid = 2
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
			AND objid::BIGINT = hashtext(attempted_by[array_upper(attempted_by, 1)])::BIGINT & 4294967295)`, queueName, presenceClass)
	if err == nil {
		err = p.conn.QueryRow(ctx, `SELECT COUNT(*) FROM river_job WHERE queue = $1 AND args->>'run' = $2
			AND state IN ('available', 'pending', 'running', 'retryable', 'scheduled')`, queueName, run).Scan(&left)
	}
	return left, kidoban.Wrap(kidoban.KindUnreachable, err, "the queue cannot be looked after")
}

// leave gives the lock back.
func (p *presence) leave(ctx context.Context) {
	if p.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	p.conn.Close(ctx) // what is left of the connection ends with the process
}
