package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// brokenList writes a candidate file of about size bytes in which most lines are
// bad, and returns what must become of them: by reason, "target" for targets and
// "blank" for empty lines and comments.
func brokenList(w *bufio.Writer, size int) (want map[string]int, lines int) {
	want = map[string]int{}
	hosts, cities := map[int]bool{}, map[int]bool{}
	once := func(seen map[int]bool, n int) string {
		if seen[n] {
			return "duplicate"
		}
		seen[n] = true
		return "target"
	}
	for written := 0; written < size; lines++ {
		i, line, is := lines/16, "", ""
		switch lines % 16 {
		case 0:
			line, is = fmt.Sprintf("https://h%d.example/mcp", i/10), once(hosts, i/10)
		case 1:
			line, is = fmt.Sprintf("  HTTPS://H%d.Example:443/mcp#again", i/10), once(hosts, i/10)
		case 2:
			line, is = fmt.Sprintf(`{"url":"https://h%d.example./mcp"}`, i/10), once(hosts, i/10)
		case 3:
			private := [...]string{"10.%d.2.3", "192.168.0.%d", "[fd00::%d]", "169.254.169.%d", "127.0.0.%d", "[::ffff:10.0.0.%d]"}
			line, is = "https://"+fmt.Sprintf(private[i%len(private)], i%200)+"/mcp", "private_address"
		case 4:
			line, is = fmt.Sprintf("https://münchen%d.example/mcp", i%50), once(cities, i%50)
		case 5:
			line, is = fmt.Sprintf("https://\u202efake%d.example/mcp", i), "bad_idn"
		case 6:
			line, is = fmt.Sprintf("https://a b%d\x00\xff", i), "bad_url"
		case 7:
			line, is = fmt.Sprintf("ftp://files%d.example/x", i), "scheme"
		case 8:
			line, is = fmt.Sprintf("https://user:secret%d@h.example/", i), "user_in_url"
		case 9:
			line, is = fmt.Sprintf("https://h.example/mcp?api_key=secret%d", i), "credential_in_url"
		case 10:
			line, is = fmt.Sprintf("*.w%d.example", i), "wildcard"
		case 11:
			line, is = fmt.Sprintf("http://h%d.example/mcp", i), "plain_http"
		case 12:
			line, is = fmt.Sprintf("https://{tenant%d}.example/mcp", i), "unfilled_template"
		case 13:
			line, is = fmt.Sprintf("printer%d.local", i), "local_name"
		case 14:
			line, is = fmt.Sprintf(`{"url":"https://h%d.example/mcp"`, i), "bad_json"
		default:
			switch {
			case i%2000 == 7:
				line, is = strings.Repeat("a", 70<<10), "too_long" // beyond any line
			case i%64 == 7:
				line, is = "https://h.example/"+strings.Repeat("a", 3000), "too_long"
			default:
				line, is = fmt.Sprintf("# %d", i), "blank"
			}
		}
		want[is]++
		n, _ := w.WriteString(line + "\n") // Flush tells
		written += n
	}
	return want, lines
}

// TestBrokenListIsAccountedFor: every line of a large bad list is a target, a
// duplicate, a comment or rejected with its reason, in the plan and in the file
// of rejections; memory does not grow with the list.
// KIDOBAN_CENSUS_BYTES=1000000000 makes it a gigabyte.
func TestBrokenListIsAccountedFor(t *testing.T) {
	size := 4_000_000
	if v, err := strconv.Atoi(os.Getenv("KIDOBAN_CENSUS_BYTES")); err == nil {
		size = v
	}
	dir := t.TempDir()
	list, rejected := filepath.Join(dir, "list.txt"), filepath.Join(dir, "rejected.jsonl")
	var want map[string]int
	var lines int
	if err := wholeFile(list, 0o666, func(w io.Writer) error {
		b := bufio.NewWriter(w)
		want, lines = brokenList(b, size)
		return b.Flush()
	}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestCensusProcess$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "KIDOBAN_CENSUS_ARGS="+strings.Join([]string{"census", "run", list, "--dry-run", "--rejected", rejected, "--json"}, "\n"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	var plan struct {
		Lines    int            `json:"lines"`
		Blank    int            `json:"blank"`
		Targets  int            `json:"targets"`
		Rejected map[string]int `json:"rejected"`
		Balanced bool           `json:"every_entry_accounted_for"`
	}
	if err := json.NewDecoder(&out).Decode(&plan); err != nil {
		t.Fatal(err)
	}
	if plan.Lines != lines || plan.Blank != want["blank"] || plan.Targets != want["target"] || !plan.Balanced {
		t.Errorf("%d lines, %d blank, %d targets, balanced %v; want %d, %d, %d", plan.Lines, plan.Blank, plan.Targets, plan.Balanced, lines, want["blank"], want["target"])
	}
	delete(want, "blank")
	delete(want, "target")
	if !maps.Equal(plan.Rejected, want) {
		t.Errorf("rejected %v, want %v", plan.Rejected, want)
	}
	checkRejections(t, rejected, want)
	// Go's own runtime and the database take some fifty.
	if used, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); !ok || used.Maxrss > 300<<10 {
		t.Errorf("%d KiB of memory", used.Maxrss)
	} else {
		t.Logf("%d bytes, %d lines, %d targets, %.1f s, %d MB", size, lines, plan.Targets, cmd.ProcessState.UserTime().Seconds()+cmd.ProcessState.SystemTime().Seconds(), used.Maxrss>>10)
	}
}

// checkRejections reads the file of rejections: one line an entry, the counts of
// the plan, and no credential.
func checkRejections(t *testing.T, path string, want map[string]int) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := map[string]int{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var r struct {
			Entry  int
			Reason string
		}
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil || r.Entry == 0 {
			t.Fatalf("%s: %v", sc.Bytes(), err)
		}
		got[r.Reason]++
		if bytes.Contains(sc.Bytes(), []byte("secret")) {
			t.Fatalf("a credential was written down: %s", sc.Bytes())
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("in the file: %v, want %v", got, want)
	}
}
