package outbound

import (
	"encoding/json"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/kidoban/kidoban"
)

// Bounds of a Recorder.
const (
	recordBody = 256 << 10 // bytes kept of each body
	recordMax  = 64 << 20  // bytes of bodies kept in memory; later exchanges lose theirs
)

// Recorder keeps each exchange once, redacted at write: no secret of a run is
// ever in it. A nil Recorder keeps nothing. Safe for concurrent use.
//
// With a file (CreateRecorder) the file is a complete HAR 1.2 document after
// every exchange: each one is appended over the closing brackets, in a single
// write that brings the brackets along. A process killed at any moment leaves
// the last complete document; only when the kill hits the middle of that one
// write, the last line is torn, and RepairHAR cuts it off.
type Recorder struct {
	mu     sync.Mutex // guards what follows
	list   []kidoban.Exchange
	size   int
	known  secrets // of earlier exchanges, for echoes in later ones
	file   *os.File
	end    int64 // where the closing brackets stand
	n      int   // entries in the file
	failed error // first write error; later ones are not tried
}

// NewRecorder returns a Recorder in memory.
func NewRecorder() *Recorder { return &Recorder{} }

// CreateRecorder returns a Recorder that also writes the HAR file path (mode
// 0600, truncated if it exists). Close it.
func CreateRecorder(path string) (*Recorder, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the HAR file cannot be created; choose another path")
	}
	r := &Recorder{file: f, end: int64(len(harHead()))}
	if _, err := f.WriteAt([]byte(harHead()+harTail), 0); err != nil {
		f.Close()
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the HAR file cannot be written")
	}
	return r, nil
}

// Conceal has values replaced wherever an exchange that is added later holds them:
// secrets that somebody entrusted to the run, of which neither a part nor a hash may
// stay. Values that are already kept are not touched.
func (r *Recorder) Conceal(values ...string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		r.known.concealed = append(r.known.concealed, everyEscape(v)...)
	}
}

// Add keeps a redacted copy of x. What it does with a full disk is told by Close.
func (r *Recorder) Add(x kidoban.Exchange) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	x = redact(x, &r.known)
	x.Request.Body = cut(x.Request.Body)
	if x.Response != nil && len(x.Response.Body) > recordBody {
		x.Response.Body, x.Response.Truncated = cut(x.Response.Body), true
	}
	r.append(x)
	n := len(x.Request.Body)
	if x.Response != nil {
		n += len(x.Response.Body)
	}
	if r.size += n; r.size > recordMax {
		r.size -= n
		x.Request.Body = nil
		if x.Response != nil {
			resp := *x.Response
			resp.Body, resp.Truncated = nil, true
			x.Response = &resp
		}
	}
	r.list = append(r.list, x)
}

func cut(b []byte) []byte { return slices.Clone(b[:min(len(b), recordBody)]) }

// append writes x to the file, over the closing brackets. The caller holds mu.
func (r *Recorder) append(x kidoban.Exchange) {
	if r.file == nil || r.failed != nil {
		return
	}
	entry, err := json.Marshal(harEntry(x))
	if err != nil {
		r.failed = err
		return
	}
	sep := ",\n"
	if r.n == 0 {
		sep = "\n"
	}
	line := append([]byte(sep), entry...)
	if _, err := r.file.WriteAt(append(line, harTail...), r.end); err != nil {
		r.failed = err
		return
	}
	r.end += int64(len(sep) + len(entry))
	r.n++
}

// Exchanges returns the redacted exchanges in the order they ended.
func (r *Recorder) Exchanges() []kidoban.Exchange {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// WriteHAR writes everything kept as one HAR 1.2 document.
func (r *Recorder) WriteHAR(w io.Writer) error {
	list := r.Exchanges()
	if _, err := io.WriteString(w, harHead()); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the HAR cannot be written")
	}
	for i, x := range list {
		entry, err := json.Marshal(harEntry(x))
		if err != nil {
			return kidoban.Wrap(kidoban.KindInternal, err, "exchange %d cannot be written as HAR", x.ID)
		}
		sep := ",\n"
		if i == 0 {
			sep = "\n"
		}
		if _, err := w.Write(append([]byte(sep), entry...)); err != nil {
			return kidoban.Wrap(kidoban.KindInternal, err, "the HAR cannot be written")
		}
	}
	_, err := io.WriteString(w, harTail)
	return kidoban.Wrap(kidoban.KindInternal, err, "the HAR cannot be written")
}

// Close closes the file and returns the first error in writing it. What is in
// memory stays readable.
func (r *Recorder) Close() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	err := r.failed
	if cerr := r.file.Close(); err == nil {
		err = cerr
	}
	r.file = nil
	return kidoban.Wrap(kidoban.KindInternal, err, "the HAR file is not complete")
}
