package store

import "testing"

func TestParametersInOrderLoseTheirNames(t *testing.T) {
	for q, want := range map[string]string{
		`INSERT INTO t VALUES ($1, $2), ($3, $4)`: `INSERT INTO t VALUES (?, ?), (?, ?)`,
		`COMMIT`: `COMMIT`,
		`SELECT a FROM t WHERE b = $2 AND c = $1`:   `SELECT a FROM t WHERE b = $2 AND c = $1`,
		`SELECT a FROM t WHERE b = $1 OR c = $1`:    `SELECT a FROM t WHERE b = $1 OR c = $1`,
		`SELECT '$1' FROM t WHERE b = $1`:           `SELECT '$1' FROM t WHERE b = $1`,
		`SELECT a FROM t WHERE b = $1 AND c = '$2'`: `SELECT a FROM t WHERE b = $1 AND c = '$2'`,
		`UPDATE t SET a = $1 WHERE b = $10`:         `UPDATE t SET a = $1 WHERE b = $10`,
		`SELECT a ? b FROM t WHERE c = $1`:          `SELECT a ? b FROM t WHERE c = $1`,
		insertRows("t(a)", 1, 12):                   `INSERT INTO t(a) VALUES (?), (?), (?), (?), (?), (?), (?), (?), (?), (?), (?), (?)`,
	} {
		if got := inOrder(q); got != want {
			t.Errorf("%s became %s", q, got)
		}
	}
}
