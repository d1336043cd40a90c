package sandbox

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kidoban/kidoban"
)

var (
	nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	envRule  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	// Variables that make a dynamic linker or an interpreter load code are the
	// server's own business inside the box, but they are never needed to
	// configure a server, and with RunnerNone they would be a way in.
	envRefused = []string{"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "DYLD_INSERT_LIBRARIES"}
)

// Check says whether the specification can be run at all, without touching
// anything but the file roots. The first fault is returned, KindUsage.
func (s Spec) Check() error {
	if !nameRule.MatchString(s.Name) {
		return kidoban.Errorf(kidoban.KindUsage, "stdio server name %.80q: use lower-case letters, digits and '-', at most 64", s.Name)
	}
	bad := func(format string, args ...any) error { return errf(kidoban.KindUsage, s.Name, format, args...) }
	switch s.Runner {
	case "", RunnerBox, RunnerNone:
		if s.Command == "" {
			return bad("command is empty")
		}
	case RunnerDocker, RunnerPodman:
		if s.Image == "" || strings.HasPrefix(s.Image, "-") {
			return bad("runner %s needs an image", s.Runner)
		}
	default:
		return bad("runner %.40q is unknown: box, docker, podman or none", string(s.Runner))
	}
	switch s.Network {
	case "", NetworkNone:
		if len(s.Ports) > 0 {
			return bad("ports are given but the network is off: set network to out")
		}
	case NetworkOut:
	default:
		return bad("network %.40q is unknown: none or out", string(s.Network))
	}
	if len(s.Ports) > 64 {
		return bad("more than 64 ports")
	}
	for _, a := range append([]string{s.Command, s.Dir, s.Image}, s.Args...) {
		if strings.ContainsRune(a, 0) {
			return bad("the command line holds a NUL byte")
		}
	}
	if err := s.checkEnv(); err != nil {
		return err
	}
	return s.checkRoots()
}

func (s Spec) checkEnv() error {
	if len(s.Env) > 128 {
		return errf(kidoban.KindUsage, s.Name, "more than 128 environment variables")
	}
	for _, kv := range s.Env {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || !envRule.MatchString(k) || strings.ContainsRune(v, 0) || len(v) > 32<<10 {
			return errf(kidoban.KindUsage, s.Name, "environment variable %.40q is malformed: use NAME=value", k)
		}
		for _, r := range envRefused {
			if k == r {
				return errf(kidoban.KindUsage, s.Name, "environment variable %s is refused: it loads code into the server", k)
			}
		}
	}
	return nil
}

func (s Spec) checkRoots() error {
	if len(s.Read)+len(s.Write) > 64 {
		return errf(kidoban.KindUsage, s.Name, "more than 64 file roots")
	}
	for _, root := range append(append([]string{}, s.Read...), s.Write...) {
		real, err := resolve(root)
		if err != nil {
			return kidoban.Wrap(kidoban.KindUsage, err, "stdio server %s: file root %.200q cannot be used: give an existing absolute path", s.Name, root)
		}
		if real == string(filepath.Separator) {
			return errf(kidoban.KindUsage, s.Name, "file root / would open the whole system: name directories")
		}
		for _, keep := range s.Keep {
			k, err := resolve(keep)
			if err != nil {
				continue // what does not exist cannot be reached
			}
			if within(k, real) || within(real, k) {
				return errf(kidoban.KindRefused, s.Name, "file root %.200q reaches %.200q, which must stay out of reach: name a narrower root", root, keep)
			}
		}
	}
	return nil
}

// resolve follows every symlink, because rules bind to what a path leads to.
func resolve(p string) (string, error) {
	if !filepath.IsAbs(p) {
		return "", &os.PathError{Op: "resolve", Path: p, Err: os.ErrInvalid}
	}
	return filepath.EvalSymlinks(p)
}

// within reports whether p is dir or lies below it. Both are clean.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, string(filepath.Separator))+string(filepath.Separator))
}

// environment is the whole environment of the server.
func (s Spec) environment(scratch string) []string {
	base := map[string]string{"PATH": path, "HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8"}
	env := make([]string, 0, len(s.Env)+4)
	for _, kv := range s.Env {
		k, _, _ := strings.Cut(kv, "=")
		delete(base, k)
		env = append(env, kv)
	}
	for _, k := range []string{"PATH", "HOME", "TMPDIR", "LANG"} {
		if v, ok := base[k]; ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}
