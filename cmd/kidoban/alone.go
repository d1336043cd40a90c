package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/kidoban/kidoban"
)

// holdData makes sure that one gateway alone runs on an SQLite database: two would
// write two chains of one audit log and not learn of each other's revocations. The
// lock ends with the process, however that ends; release ends it before. Commands
// beside a running gateway do not need it.
func holdData(conf gatewayConfig) (release func(), err error) {
	if strings.HasPrefix(conf.Database, "postgres://") || strings.HasPrefix(conf.Database, "postgresql://") {
		return func() {}, nil
	}
	if err := makeData(conf.Data); err != nil {
		return nil, err
	}
	path := strings.TrimPrefix(conf.Database, "sqlite:")
	if real, err := filepath.EvalSymlinks(path); err == nil { // one database under two names
		path = real
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the directory %s of the database cannot be made", dir)
	}
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the data directory %s cannot be written: it must belong to the user that runs the gateway (see data, or --data)", dir)
	}
	if err := ownAs(f, dir); err != nil { // a restore by root makes it, too
		f.Close()
		return nil, err
	}
	switch taken, err := lockAlone(f); {
	case taken:
		f.Close()
		return nil, kidoban.Errorf(kidoban.KindUsage, "another gateway runs on %s: end it, name another directory with --data, or let several share a PostgreSQL database", dir)
	case err != nil:
		f.Close()
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the file system of %s has no locks, which the database needs: name a directory on a local disk with --data", dir)
	}
	return func() { f.Close() }, nil
}
