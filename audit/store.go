package audit

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/report"
)

// A finished run is kept as <state>/runs/<id>/run.json and exchanges.har, so
// that reports can be made again and two runs compared. Both files appear whole
// or not at all; run.json comes last and says that the run is complete.

// Save keeps a run under dir and returns its directory.
func Save(dir string, r *Report) (string, error) {
	if !safeRunID(r.Meta.RunID) {
		return "", kidoban.Errorf(kidoban.KindInternal, "the run has no usable id")
	}
	path := filepath.Join(dir, "runs", r.Meta.RunID)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", kidoban.Wrap(kidoban.KindInternal, err, "cannot create the run's directory")
	}
	if err := WriteFile(filepath.Join(path, "exchanges.har"), r.WriteHAR); err != nil {
		return "", err
	}
	return path, WriteFile(filepath.Join(path, "run.json"), func(w io.Writer) error { return report.JSON(w, r.Run) })
}

// Saved names the directory of a kept run: by its id, or "latest" for the one
// that was finished last.
func Saved(dir, id string) (string, error) {
	if id == "latest" {
		names, err := filepath.Glob(filepath.Join(dir, "runs", "*", "run.json"))
		if err != nil || len(names) == 0 {
			return "", kidoban.Errorf(kidoban.KindNotFound, "no run is kept yet; kidoban audit URL makes one")
		}
		best, at := "", time.Time{}
		for _, n := range names {
			if fi, err := os.Stat(n); err == nil && !fi.ModTime().Before(at) {
				best, at = filepath.Dir(n), fi.ModTime()
			}
		}
		return best, nil
	}
	path := filepath.Join(dir, "runs", id)
	if !safeRunID(id) {
		return "", kidoban.Errorf(kidoban.KindUsage, "a run is named by its id, twelve hex digits, or latest")
	}
	if _, err := os.Stat(filepath.Join(path, "run.json")); err != nil {
		return "", kidoban.Errorf(kidoban.KindNotFound, "no run %s is kept", id)
	}
	return path, nil
}

func safeRunID(id string) bool {
	return len(id) >= 8 && len(id) <= 32 && strings.Trim(id, "0123456789abcdef") == ""
}

// WriteFile writes a file whole or not at all: to a temporary file beside it,
// synced, then renamed. A file that is there is replaced. Mode 0600.
func WriteFile(path string, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "cannot write %s", path)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b.Bytes())
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	return kidoban.Wrap(kidoban.KindUsage, err, "cannot write %s", path)
}
