package main

import (
	"os"
	"path/filepath"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit/flaws"
)

// docsCmd writes the pages of docs/flaws from the texts beside the code.
type docsCmd struct {
	Dir string `arg:"" help:"The directory to write to, docs/flaws in the repository."`
}

// Run writes one page for each flaw and the index.
func (c docsCmd) Run(*env) error {
	docs, err := flaws.All()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return kidoban.Wrap(kidoban.KindUsage, err, "the directory cannot be made")
	}
	pages := map[string]string{"README.md": flaws.Index(docs)}
	for _, d := range docs {
		pages[d.ID+".md"] = d.Markdown()
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o644); err != nil {
			return kidoban.Wrap(kidoban.KindUsage, err, "the page %s cannot be written", name)
		}
	}
	return nil
}
