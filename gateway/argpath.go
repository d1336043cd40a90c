package gateway

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/text/unicode/norm"
)

// badPath says why a path does not stay inside the roots; "" when it does. Every
// reading that the server behind might make of it is judged: decoded once or
// twice, with compatibility characters folded, with backslashes as separators.
func badPath(v string, roots []string, dir string) string {
	if len(v) > 32<<10 {
		return "too_long"
	}
	for _, form := range pathForms(v) {
		if why := badForm(form, roots, dir); why != "" {
			return why
		}
	}
	return ""
}

func pathForms(v string) []string {
	forms := []string{v}
	add := func(s string) {
		for _, have := range forms {
			if have == s {
				return
			}
		}
		forms = append(forms, s)
	}
	if strings.HasPrefix(strings.ToLower(v), "file:") {
		rest := strings.TrimPrefix(v[5:], "//")
		forms = nil
		add("/" + strings.TrimLeft(strings.TrimPrefix(rest, "localhost"), "/"))
	}
	for _, f := range forms[:len(forms):len(forms)] {
		add(strings.TrimSpace(f))
		add(norm.NFKC.String(f))
	}
	for range 2 {
		for _, f := range forms[:len(forms):len(forms)] {
			if d, err := url.PathUnescape(f); err == nil {
				add(d)
			}
		}
	}
	for _, f := range forms[:len(forms):len(forms)] {
		add(strings.ReplaceAll(f, `\`, "/"))
	}
	return forms
}

func badForm(p string, roots []string, dir string) string {
	if strings.ContainsAny(p, "\x00\n\r") {
		return "control_character"
	}
	if strings.HasPrefix(p, "~") {
		return "home"
	}
	if len(roots) == 0 {
		for seg := range strings.SplitSeq(p, "/") {
			if strings.TrimSpace(seg) == ".." {
				return "traversal"
			}
		}
		return ""
	}
	if filepath.IsAbs(p) {
		return outside(filepath.Clean(p), roots)
	}
	if dir != "" {
		return outside(filepath.Join(dir, p), roots)
	}
	// Relative to whatever the server takes: it must not climb at all.
	if p != "" && !filepath.IsLocal(p) {
		return "traversal"
	}
	for _, r := range roots {
		if why := outside(filepath.Join(r, p), roots); why != "" {
			return why
		}
	}
	return ""
}

// outside judges a clean absolute path by whole segments, then where its links
// lead. What is looked at here may change before the server opens it: the box
// around a stdio server is the second wall.
func outside(p string, roots []string) string {
	if !within(p, roots) {
		return "outside"
	}
	real := make([]string, 0, len(roots))
	for _, r := range roots {
		if e, err := filepath.EvalSymlinks(r); err == nil {
			real = append(real, e)
		} else {
			real = append(real, filepath.Clean(r))
		}
	}
	for at := p; ; at = filepath.Dir(at) {
		e, err := filepath.EvalSymlinks(at)
		switch {
		case err == nil && !within(e, real) && within(at, roots):
			return "link"
		case err == nil:
			return ""
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
			return "unreadable"
		}
		if i, lerr := os.Lstat(at); lerr == nil && i.Mode()&fs.ModeSymlink != 0 {
			return "link" // to a place that does not exist yet
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}

func within(p string, roots []string) bool {
	for _, r := range roots {
		rel, err := filepath.Rel(filepath.Clean(r), p)
		if err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}
