package report

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// The two files of a run's directory.
const (
	RunFile      = "run.json"
	EvidenceFile = "exchanges.har"
)

// maxEvidence bounds the evidence file that is read back.
const maxEvidence = 512 << 20

// RunsDir returns where runs are kept: kidoban/runs below the state directory
// of the XDG convention. getenv is the environment.
func RunsDir(getenv func(string) string) string {
	if d := getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "kidoban", "runs")
	}
	return filepath.Join(getenv("HOME"), ".local", "state", "kidoban", "runs")
}

// Save writes a run into dir, which is created for its owner alone. run.json is
// written last and in one step: a directory without it is an unfinished run. The
// evidence beside it is written by outbound's recorder.
func Save(dir string, run kidoban.Run) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the run's directory cannot be made")
	}
	f, err := os.CreateTemp(dir, ".run-*")
	if err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the run cannot be written")
	}
	defer os.Remove(f.Name())
	err = JSON(f, run)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, RunFile))
	}
	return kidoban.Wrap(kidoban.KindUsage, err, "the run cannot be written")
}

// Load finds and reads a run. name is a run directory, a run.json, the id of a
// run below runs, or "" for the last finished one there. Evidence is read when
// it lies beside the run; without it Exchanges is empty.
func Load(runs, name string) (Input, error) {
	dir, file, err := locate(runs, name)
	if err != nil {
		return Input{}, err
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Input{}, kidoban.Errorf(kidoban.KindUsage, "the directory %s holds no %s: it is no run's, or of a run that did not end", dir, RunFile)
	}
	if err != nil {
		return Input{}, kidoban.Wrap(kidoban.KindUsage, err, "the run %s cannot be opened", file)
	}
	defer f.Close()
	run, err := ReadRun(f)
	if err != nil {
		return Input{}, kidoban.Wrap(kidoban.KindOf(err), err, "%s cannot be read as a run", file)
	}
	in := Input{Run: run}
	if in.Shots, err = loadShots(dir); err != nil {
		return in, err
	}
	har := filepath.Join(dir, EvidenceFile)
	if _, err := os.Stat(har); errors.Is(err, fs.ErrNotExist) {
		return in, nil
	}
	in.Exchanges, err = readEvidence(har)
	return in, err
}

// locate turns a name into a directory and its run file.
func locate(runs, name string) (dir, file string, err error) {
	if name == "" {
		if name, err = last(runs); err != nil {
			return "", "", err
		}
	}
	for _, path := range []string{name, filepath.Join(runs, filepath.Base(name))} {
		st, err := os.Stat(path)
		switch {
		case err != nil:
		case st.IsDir():
			return path, filepath.Join(path, RunFile), nil
		default:
			return filepath.Dir(path), path, nil
		}
	}
	return "", "", kidoban.Errorf(kidoban.KindUsage, "no run is called %.80q: give a directory, a run.json, or the id of a run in %s", name, runs)
}

// last returns the newest directory of runs that holds a finished run.
func last(runs string) (string, error) {
	entries, err := os.ReadDir(runs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", kidoban.Wrap(kidoban.KindUsage, err, "the runs cannot be listed")
	}
	type found struct {
		path string
		at   time.Time
	}
	var all []found
	for _, e := range entries {
		path := filepath.Join(runs, e.Name())
		if st, err := os.Stat(filepath.Join(path, RunFile)); err == nil {
			all = append(all, found{path, st.ModTime()})
		}
	}
	if len(all) == 0 {
		return "", kidoban.Errorf(kidoban.KindUsage, "no run is stored in %s yet: kidoban audit URL makes one", runs)
	}
	sort.Slice(all, func(i, j int) bool {
		if !all[i].at.Equal(all[j].at) {
			return all[i].at.After(all[j].at)
		}
		return all[i].path > all[j].path
	})
	return all[0].path, nil
}

// evidence is what reports read of a HAR that outbound's recorder wrote.
type evidence struct {
	Log struct {
		Entries []struct {
			Started string  `json:"startedDateTime"`
			Time    float64 `json:"time"`
			Request struct {
				Method   string          `json:"method"`
				URL      string          `json:"url"`
				Headers  []kidoban.Field `json:"headers"`
				PostData *struct {
					Text     string `json:"text"`
					Encoding string `json:"_encoding"`
				} `json:"postData"`
			} `json:"request"`
			Response struct {
				Status      int             `json:"status"`
				HTTPVersion string          `json:"httpVersion"`
				Headers     []kidoban.Field `json:"headers"`
				Content     struct {
					Text     string `json:"text"`
					Encoding string `json:"encoding"`
				} `json:"content"`
			} `json:"response"`
			Kidoban struct {
				ID        int              `json:"id"`
				Probe     string           `json:"probe"`
				Note      string           `json:"note"`
				Jar       string           `json:"jar"`
				Target    string           `json:"target"`
				Err       string           `json:"err"`
				ErrKind   kidoban.Kind     `json:"errKind"`
				Truncated bool             `json:"truncated"`
				Addr      string           `json:"addr"`
				TLS       *kidoban.TLSInfo `json:"tls"`
			} `json:"_kidoban"`
		} `json:"entries"`
	} `json:"log"`
}

// readEvidence reads the recorder's HAR. A file that was torn by a kill is read
// up to where it is whole, and left as it is on disk.
func readEvidence(path string) ([]kidoban.Exchange, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUsage, err, "the evidence cannot be opened")
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxEvidence+1))
	if err != nil || len(raw) > maxEvidence {
		return nil, kidoban.Errorf(kidoban.KindInput, "the evidence file cannot be read or is larger than %d MiB", maxEvidence>>20)
	}
	if !json.Valid(raw) {
		if raw, err = repaired(raw); err != nil {
			return nil, err
		}
	}
	return parseEvidence(raw)
}

// repaired mends a torn HAR in a temporary copy.
func repaired(raw []byte) ([]byte, error) {
	f, err := os.CreateTemp("", "kidoban-*.har")
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the torn evidence file cannot be copied")
	}
	defer os.Remove(f.Name())
	_, err = f.Write(raw)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = outbound.RepairHAR(f.Name())
	}
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInput, err, "the evidence file is torn and cannot be mended")
	}
	return os.ReadFile(f.Name())
}

func parseEvidence(raw []byte) ([]kidoban.Exchange, error) {
	var h evidence
	if err := json.Unmarshal(raw, &h); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInput, err, "the evidence is no HAR file")
	}
	out := make([]kidoban.Exchange, 0, len(h.Log.Entries))
	for i, e := range h.Log.Entries {
		k := e.Kidoban
		x := kidoban.Exchange{ID: k.ID, Probe: k.Probe, Note: k.Note, Jar: k.Jar, Err: k.Err, ErrKind: k.ErrKind,
			Duration: time.Duration(e.Time * float64(time.Millisecond)),
			Request:  kidoban.Request{Method: e.Request.Method, URL: e.Request.URL, Target: k.Target, Header: e.Request.Headers}}
		if x.ID == 0 {
			x.ID = i + 1 // a HAR of another tool
		}
		x.Started, _ = time.Parse(time.RFC3339Nano, e.Started)
		if p := e.Request.PostData; p != nil {
			x.Request.Body = decodeBody(p.Text, p.Encoding)
		}
		if r := e.Response; r.Status > 0 {
			x.Response = &kidoban.Response{Status: r.Status, Proto: r.HTTPVersion, Header: r.Headers,
				Body: decodeBody(r.Content.Text, r.Content.Encoding), Truncated: k.Truncated, Addr: k.Addr, TLS: k.TLS}
		}
		out = append(out, x)
	}
	return out, nil
}

func decodeBody(text, encoding string) []byte {
	if encoding == "base64" {
		if b, err := base64.StdEncoding.DecodeString(text); err == nil {
			return b
		}
	}
	return []byte(text)
}
