package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/kidoban/kidoban"
)

// said is an error in words for the person at the terminal: every sentence, and
// behind it what the system says, without the calls and temporary names that the
// library puts before that.
func said(err error) string {
	switch e := err.(type) {
	case *kidoban.Error:
		if e.Cause == nil {
			return e.Sentence
		}
		if why := said(e.Cause); !strings.Contains(e.Sentence, why) {
			return e.Sentence + ": " + why
		}
		return e.Sentence
	case *fs.PathError:
		return said(e.Err)
	case *os.LinkError:
		return said(e.Err)
	case *os.SyscallError:
		return said(e.Err)
	case *net.OpError:
		return said(e.Err)
	case *net.DNSError:
		if e.IsNotFound {
			return "there is no such host"
		}
		return e.Err
	case *json.SyntaxError:
		return fmt.Sprintf("not JSON at byte %d", e.Offset)
	case *json.UnmarshalTypeError:
		return fmt.Sprintf("%s stands at byte %d, where it does not belong", e.Value, e.Offset)
	case syscall.Errno:
		return e.Error()
	case interface{ Unwrap() []error }:
		var lines []string
		for _, one := range e.Unwrap() {
			lines = append(lines, said(one))
		}
		return strings.Join(lines, "\n")
	}
	text := err.Error()
	if inner := errors.Unwrap(err); inner != nil {
		return strings.Replace(text, inner.Error(), said(inner), 1)
	}
	return text
}
