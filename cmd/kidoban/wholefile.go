package main

import (
	"bufio"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"

	"github.com/kidoban/kidoban"
)

// wholeFile writes a file through one beside it: whole, or as it was before, on a
// full disk too. What is no ordinary file, as a pipe or a terminal, is written as it
// is; so is a file where none can be put beside it or in its place. A file that was
// there keeps its mode.
func wholeFile(path string, mode os.FileMode, write func(io.Writer) error) error {
	to := path
	if real, err := filepath.EvalSymlinks(path); err == nil {
		to = real
	}
	st, err := os.Stat(to)
	switch {
	case err == nil && !st.Mode().IsRegular():
		return intoFile(path, to, os.O_WRONLY, write)
	case err == nil:
		mode = st.Mode().Perm()
	}
	there := err == nil
	f, err := os.OpenFile(filepath.Join(filepath.Dir(to), ".kidoban-"+rand.Text()), os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil && there {
		return intoFile(path, to, os.O_WRONLY|os.O_TRUNC, write)
	}
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "%s cannot be written", path)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is gone after the rename
	failed, err := fill(f, write)
	if failed != nil {
		return failed
	}
	if err == nil && there {
		err = os.Chmod(f.Name(), mode)
	}
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "%s cannot be written, and is as it was before", path)
	}
	if err = os.Rename(f.Name(), to); err != nil && there { // a file that is a mount of its own
		return intoFile(path, to, os.O_WRONLY|os.O_TRUNC, write)
	}
	return kidoban.Wrap(kidoban.KindInternal, err, "%s cannot be written", path)
}

// intoFile writes into what is there.
func intoFile(path, to string, flags int, write func(io.Writer) error) error {
	f, err := os.OpenFile(to, flags, 0)
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "%s cannot be written", path)
	}
	failed, err := fill(f, write)
	if failed != nil {
		return failed
	}
	return kidoban.Wrap(kidoban.KindInternal, err, "%s cannot be written", path)
}

// fill writes a file and closes it: what failed of that which was to be written, or
// of the file.
func fill(f *os.File, write func(io.Writer) error) (failed, err error) {
	w := &fileWriter{w: f}
	b := bufio.NewWriterSize(w, 64<<10)
	failed = write(b)
	err = b.Flush()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if w.err != nil {
		failed, err = nil, w.err
	}
	return failed, err
}

// fileWriter remembers that it was the file that failed.
type fileWriter struct {
	w   io.Writer
	err error
}

func (w *fileWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}
