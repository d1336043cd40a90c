package store

import (
	"context"
	"database/sql"
	"net/url"
	"os"
	"strings"

	"github.com/kidoban/kidoban"
)

// Snapshot writes a consistent copy of the SQLite database at source, which
// programs may be using, to the new file at path, and checks the copy. It changes
// nothing at the source and migrates nothing. Writers wait for no more than their
// own lock; what they commit meanwhile is not in the copy. PostgreSQL has pg_dump
// for this: KindUsage.
//
// When it fails no file is left at path.
func Snapshot(ctx context.Context, source, path string) (err error) {
	if strings.Contains(source, "://") {
		return kidoban.Errorf(kidoban.KindUsage, "the database is PostgreSQL: back it up with pg_dump --format=custom")
	}
	source = strings.TrimPrefix(source, "sqlite:")
	if _, err := os.Stat(source); err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "there is no database at %s", source)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // VACUUM INTO takes an empty file and keeps its mode
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the copy cannot be made")
	}
	f.Close()
	defer func() {
		if err != nil {
			os.Remove(path)
		}
	}()
	db, err := sql.Open("sqlite", fileDSN(source, "busy_timeout(10000)"))
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the database cannot be opened")
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "VACUUM INTO $1", path); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the database cannot be copied; is the disk full?")
	}
	return CheckFile(ctx, path)
}

// CheckFile reads the whole SQLite file at path and fails when anything in it is
// damaged, or when it is no database of this program.
func CheckFile(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", fileDSN(path, "query_only(1)"))
	if err != nil {
		return kidoban.Wrap(kidoban.KindInput, err, "the database cannot be opened")
	}
	defer db.Close()
	var answer string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&answer); err != nil || answer != "ok" {
		return kidoban.Wrap(kidoban.KindInput, errorOr(err, answer), "the database file is damaged")
	}
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM schema_versions").Scan(&n); err != nil || n == 0 {
		return kidoban.Wrap(kidoban.KindInput, errorOr(err, "no migrations"), "the file is not a database of kidoban")
	}
	return nil
}

func errorOr(err error, text string) error {
	if err != nil {
		return err
	}
	return kidoban.Errorf(kidoban.KindInput, "%.200s", text)
}

func fileDSN(path string, pragmas ...string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + url.Values{"_pragma": pragmas}.Encode()
}
