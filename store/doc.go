// Package store keeps the state of the gateway's halves in SQLite or PostgreSQL.
//
// The idea is one SQL text for both engines: $1 parameters, TEXT, BIGINT, BOOLEAN
// and BYTEA columns, partial indexes, ON CONFLICT and RETURNING mean the same in
// both, so what the contract suite shows on one holds on the other. Single use
// is always one statement, UPDATE … WHERE used_ms IS NULL … RETURNING, which both
// engines decide atomically.
//
// SQLite runs in WAL mode with one writer: a goroutine that takes whatever
// waiting writes there are, runs them in one transaction and syncs once for all
// of them. A write returns after that sync, so throughput grows with concurrency
// while each answer is durable. Reads go to a pool beside it and never wait for
// the writer. With PostgreSQL every write is its own transaction, and any number
// of processes may share the database.
//
// Size: a spent code is about 0.5 kB until it expires, a refresh token 0.3 kB, a
// registration 1 to 9 kB. [DB.Purge] takes away what has ended.
package store
