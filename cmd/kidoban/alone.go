package main

import (
	"os"
	"strings"

	"github.com/kidoban/kidoban"
)

// holdData makes sure that one gateway alone runs on an SQLite database: two would
// write two chains of one audit log and not learn of each other's revocations. The
// lock ends with the process, however that ends; release ends it before. Commands
// beside a running gateway do not need it.
func holdData(conf gatewayConfig) (release func(), err error) {
	if strings.Contains(conf.Database, "://") {
		return func() {}, nil
	}
	if err := makeData(conf.Data); err != nil {
		return nil, err
	}
	name := strings.TrimPrefix(conf.Database, "sqlite:") + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the data directory %s cannot be written: it must belong to the user that runs the gateway (see data, or --data)", conf.Data)
	}
	if lockAlone(f) != nil {
		f.Close()
		return nil, kidoban.Errorf(kidoban.KindUsage, "another gateway runs on %s: end it, name another directory with --data, or let several share a PostgreSQL database", conf.Data)
	}
	return func() { f.Close() }, nil
}
