// Package sandbox runs a stdio MCP server boxed in.
//
// A stdio server is a program from a stranger that would otherwise run with all
// rights of the person who started the gateway. In the box it sees the system's
// libraries, the roots it was given, a scratch directory of its own, and
// nothing else: no home, no environment, no network, no other process.
//
// On Linux the box is built from what every recent kernel offers without
// privileges: Landlock (kernel 6.2 or newer) for files, TCP ports, signals and
// abstract sockets; a seccomp filter for everything Landlock does not cover;
// no-new-privileges; resource limits; a session of its own that is killed as a
// whole. The program is not started directly: the own binary is started first
// as a helper stage (see Stage), puts the restrictions on itself and becomes
// the server. Where a piece is missing, the start is refused with a sentence
// that says so; nothing is weakened in silence.
//
// On other systems, and by choice everywhere, a container engine is the runner
// (docker, podman). RunnerNone is no box at all and must be spelled out.
//
// What the box does not bound: the number of files in a writable root, and
// what a server with network does there. A root covers everything below it.
package sandbox

import (
	"time"

	"github.com/kidoban/kidoban"
)

// Runner names the way a server is boxed in.
type Runner string

// The runners. The zero value is RunnerBox.
const (
	RunnerBox    Runner = "box"    // Landlock and seccomp; Linux on amd64 and arm64
	RunnerDocker Runner = "docker" // a container by docker
	RunnerPodman Runner = "podman" // a container by podman
	RunnerNone   Runner = "none"   // no box: the server has all rights of the gateway's user
)

// Network is what the server may reach.
type Network string

// The networks. The zero value is NetworkNone.
const (
	NetworkNone Network = "none" // no socket but the pipes it was given
	NetworkOut  Network = "out"  // outgoing IPv4 and IPv6; no listening, no local sockets
)

// Limits bound one server with all its descendants. Zero takes the default,
// which is given behind each member.
type Limits struct {
	Memory    int64         // resident bytes of all processes together; also each one's writable memory; 1 GiB
	CPU       time.Duration // processor time of each process, whole seconds; one hour
	Tasks     int           // processes and threads together; 128
	OpenFiles int           // per process; 1024
	FileSize  int64         // bytes of any file written; 256 MiB
}

func (l Limits) withDefaults() Limits {
	if l.Memory <= 0 {
		l.Memory = 1 << 30
	}
	if l.CPU <= 0 {
		l.CPU = time.Hour
	}
	if l.Tasks <= 0 {
		l.Tasks = 128
	}
	if l.OpenFiles <= 0 {
		l.OpenFiles = 1024
	}
	if l.FileSize <= 0 {
		l.FileSize = 256 << 20
	}
	return l
}

// Spec says what to run and what it may touch. The zero value of every right is
// the smallest one.
type Spec struct {
	Name    string   // for messages and container names; [a-z0-9-], at most 64
	Runner  Runner   // "" is RunnerBox
	Command string   // a path or a name looked up in the PATH of the box
	Args    []string // without the command itself
	Dir     string   // working directory; "" is the scratch directory
	Env     []string // KEY=value; the whole environment but for PATH, HOME, TMPDIR, LANG
	Read    []string // roots the server may read and execute from; absolute
	Write   []string // roots the server may read and write, not execute from; absolute
	Keep    []string // paths that must stay out of reach: a root that covers or lies in one is refused
	Network Network
	Ports   []uint16 // with NetworkOut: the only TCP ports it may connect to; empty means all (needs kernel 6.7)
	Limits  Limits
	UID     int    // user to run as when the gateway runs as root; 0 picks an unused one
	Image   string // container image for docker and podman
}

// path is where commands are looked up inside the box.
const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func errf(kind kidoban.Kind, name, format string, args ...any) error {
	e := kidoban.Errorf(kind, format, args...)
	e.Sentence = "stdio server " + name + ": " + e.Sentence
	return e
}
