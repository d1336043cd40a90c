package store

import (
	"context"
	"embed"
	"io/fs"
	"strconv"
	"strings"

	"github.com/kidoban/kidoban"
)

// migrations are applied in order of their numbers, each in one transaction.
// A file that has been released is never changed: the next one changes things.
//
//go:embed migrations/*.sql
var migrations embed.FS

type migration struct {
	version    int
	name       string
	statements []string
}

func loadMigrations() ([]migration, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	var out []migration
	for i, path := range names {
		name := strings.TrimSuffix(strings.TrimPrefix(path, "migrations/"), ".sql")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			return nil, kidoban.Errorf(kidoban.KindInternal, "migration %s is out of order: number %d was expected", name, i+1)
		}
		text, err := migrations.ReadFile(path)
		if err != nil {
			return nil, err
		}
		out = append(out, migration{version, name, splitStatements(string(text))})
	}
	return out, nil
}

// splitStatements cuts at semicolons that end a line and drops comment lines:
// PostgreSQL's extended protocol takes one statement at a time.
func splitStatements(text string) []string {
	var out []string
	var b strings.Builder
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "--") {
			continue
		}
		b.WriteString(line)
		if strings.HasSuffix(trimmed, ";") {
			out = append(out, strings.TrimSuffix(strings.TrimSpace(b.String()), ";"))
			b.Reset()
		}
	}
	if rest := strings.TrimSpace(b.String()); rest != "" {
		out = append(out, rest)
	}
	return out
}

// ledger is the table that says which migrations there were.
const ledger = `CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_ms BIGINT NOT NULL)`

// migrate brings the schema up to date. Several processes may start at once: the
// row of a version is inserted before its statements run, so the second one
// waits for the first and then finds the work done.
func (d *DB) migrate(ctx context.Context) error {
	all, err := loadMigrations()
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		err = d.write(ctx, func(t tx) error { _, err := t.exec(ledger); return err })
		// PostgreSQL lets two concurrent CREATE TABLE IF NOT EXISTS collide: in the
		// table's row, its type's or their index, each with an error of its own.
		if err == nil || try == 3 || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return err
	}
	have := 0
	err = d.read(ctx, `SELECT COALESCE(MAX(version), 0) FROM schema_versions`, func(r row) error { return r.Scan(&have) })
	if err != nil {
		return err
	}
	if have > len(all) {
		return kidoban.Errorf(kidoban.KindUsage,
			"the database has schema version %d and this program knows %d: use the newer program, or restore the backup made before the upgrade", have, len(all))
	}
	for _, m := range all[have:] {
		err := d.write(ctx, func(t tx) error {
			if _, err := t.exec(`INSERT INTO schema_versions(version, name, applied_ms) VALUES ($1, $2, $3)`, m.version, m.name, ms(d.now())); err != nil {
				return err
			}
			for _, s := range m.statements {
				if _, err := t.exec(s); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil && kidoban.KindOf(err) != kidoban.KindConflict { // a conflict: another process did it
			return kidoban.Wrap(kidoban.KindInternal, err, "migration %s failed: the schema is as it was before", m.name)
		}
	}
	return nil
}
