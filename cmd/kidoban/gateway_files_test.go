package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFilesAreReadWhenTheyRest: a file that is emptied and then written is read once,
// with all that was written; one that was changed while the program started is read
// again; the same time does not hide another size.
func TestFilesAreReadWhenTheyRest(t *testing.T) {
	path := putText(t, filepath.Join(t.TempDir(), "kidoban.yaml"), "name: one\n")
	f := followed{read: onDisk(path), last: onDisk(path)}
	look := func(want bool) {
		t.Helper()
		if got := f.changed(onDisk(path)); got != want {
			t.Errorf("to be read: %v, want %v", got, want)
		}
	}
	look(false)
	putText(t, path, "")
	look(false)
	putText(t, path, "name: another\n")
	look(false)
	look(true)
	look(false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look(false)
	look(true)

	putText(t, path, "name: one\n")
	i, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	started := onDisk(path)
	f = followed{read: started, last: started}
	putText(t, path, "name: other\n")
	if err := os.Chtimes(path, i.ModTime(), i.ModTime()); err != nil {
		t.Fatal(err)
	}
	look(false)
	look(true)
	look(false)
}
