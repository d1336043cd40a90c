package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// output is standard output, which remembers the first write that failed: a
// command that does not look at what became of its words would end as if they
// had arrived, and a file they were sent to would be half of one.
type output struct {
	to  io.Writer
	mu  sync.Mutex
	err error
}

// Write writes, and keeps the first error.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.err == nil {
			o.err = err
		}
	}
	return n, err
}

// failed is the first error of a write, nil when there was none.
func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// lost says whether err is of a write to standard output; that is told once, at the end.
func (e *env) lost(err error) bool {
	o, ok := e.stdout.(*output)
	return ok && o.failed() != nil && errors.Is(err, o.failed())
}

// whole gives the code that a command ends with: what was not printed whole is
// never a success, nor the findings it stood for.
func (o *output) whole(e *env, code int) int {
	err := o.failed()
	if err == nil {
		return code
	}
	fmt.Fprintf(e.stderr, "kidoban: standard output cannot be written: %s; what went there is not whole\n", said(err))
	if code == exitInterrupted {
		return code
	}
	return exitInternal
}

// file is the file behind a writer, if there is one: whether it is a terminal is for it to say.
func file(w io.Writer) (*os.File, bool) {
	if o, ok := w.(*output); ok {
		w = o.to
	}
	f, ok := w.(*os.File)
	return f, ok
}
