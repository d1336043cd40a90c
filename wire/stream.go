package wire

import (
	"bytes"
	"errors"
	"io"

	"github.com/kidoban/kidoban"
)

// StreamEnd says how the walk through a large document ended.
type StreamEnd struct {
	Elements int   // handed to the caller
	Skipped  int   // longer than the bound, left out
	Offset   int64 // bytes read up to the end, or to where the text broke off
}

// StreamArray reads one JSON document from r and calls f for each element of
// the array at path ("log", "entries"), in order, until f returns false. Memory
// is bounded by max, the bytes of the largest element kept: longer ones are
// counted and left out. The Raw is valid during the call only. What follows the
// array is not read.
//
// Errors are KindInput and say where: the text is no JSON object, has no such
// array, or breaks off. What was read before an error was handed to f.
func StreamArray(r io.Reader, max int, f func(Raw) (more bool), path ...string) (StreamEnd, error) {
	s := &arrayStream{src: r, buf: make([]byte, 64<<10), max: max}
	err := s.walk(path, f)
	s.end.Offset = s.base + int64(s.at)
	return s.end, err
}

// arrayStream is a window over the document: buf[:n] is loaded, at is next.
type arrayStream struct {
	src  io.Reader
	buf  []byte
	n    int
	at   int
	base int64 // document offset of buf[0]
	max  int
	end  StreamEnd
	eof  error // what the source said last
}

var errStreamStop = errors.New("stopped by the caller")

// load drops what lies before keep and reads more. It reports false at the end.
func (s *arrayStream) load(keep int) bool {
	if s.eof != nil {
		return false
	}
	if keep > 0 {
		copy(s.buf, s.buf[keep:s.n])
		s.n -= keep
		s.at -= keep
		s.base += int64(keep)
	}
	if s.n == len(s.buf) {
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	for tries := 0; tries < 100; tries++ {
		k, err := s.src.Read(s.buf[s.n:])
		s.n += k
		if err != nil {
			s.eof = err
		}
		if k > 0 {
			return true
		}
		if err != nil {
			return false
		}
	}
	s.eof = io.ErrNoProgress
	return false
}

// next returns the next byte that is no space, without taking it.
func (s *arrayStream) next() (byte, error) {
	for {
		for ; s.at < s.n; s.at++ {
			switch s.buf[s.at] {
			case ' ', '\t', '\r', '\n':
			default:
				return s.buf[s.at], nil
			}
		}
		if !s.load(s.at) {
			return 0, s.broken()
		}
	}
}

func (s *arrayStream) broken() error {
	at := s.base + int64(s.n)
	if s.eof != nil && s.eof != io.EOF {
		return kidoban.Wrap(kidoban.KindInput, s.eof, "reading stopped at byte %d", at)
	}
	return kidoban.Errorf(kidoban.KindInput, "the text breaks off at byte %d", at)
}

func (s *arrayStream) unexpected(want string) error {
	return kidoban.Errorf(kidoban.KindInput, "byte %d should be %s", s.base+int64(s.at), want)
}

// walk goes down path and through the array at its end.
func (s *arrayStream) walk(path []string, f func(Raw) bool) error {
	c, err := s.next()
	if err == nil && c == byteOrderMark[0] {
		if err = s.mark(); err == nil {
			c, err = s.next()
		}
	}
	for _, name := range path {
		if err != nil {
			return err
		}
		if c != '{' {
			return s.unexpected("an object with the member " + name)
		}
		s.at++
		if err = s.member(name); err != nil {
			return err
		}
		c, err = s.next()
	}
	if err != nil {
		return err
	}
	if c != '[' {
		return s.unexpected("an array")
	}
	s.at++
	err = s.elements(f)
	if errors.Is(err, errStreamStop) {
		return nil
	}
	return err
}

// mark takes a byte order mark, of which a read may bring but a part.
func (s *arrayStream) mark() error {
	for i := range len(byteOrderMark) {
		if s.at == s.n && !s.load(s.at) {
			return s.broken()
		}
		if s.buf[s.at] != byteOrderMark[i] {
			return s.unexpected("an object")
		}
		s.at++
	}
	return nil
}

// member stops behind the colon of the member called name.
func (s *arrayStream) member(name string) error {
	for {
		c, err := s.next()
		switch {
		case err != nil:
			return err
		case c == ',':
			s.at++
			continue
		case c == '}':
			return kidoban.Errorf(kidoban.KindInput, "there is no member %q before byte %d", name, s.base+int64(s.at))
		case c != '"':
			return s.unexpected("a member name")
		}
		raw, err := s.value(true)
		if err != nil {
			return err
		}
		hit := nameIs(raw, name)
		if c, err = s.next(); err != nil {
			return err
		}
		if c != ':' {
			return s.unexpected("a colon")
		}
		s.at++
		if hit {
			return nil
		}
		if _, err = s.next(); err != nil {
			return err
		}
		if _, err = s.value(false); err != nil {
			return err
		}
	}
}

func (s *arrayStream) elements(f func(Raw) bool) error {
	for {
		c, err := s.next()
		switch {
		case err != nil:
			return err
		case c == ']':
			s.at++
			return nil
		case c == ',':
			s.at++
			continue
		}
		raw, err := s.value(true)
		if err != nil {
			return err
		}
		if raw == nil {
			s.end.Skipped++
			continue
		}
		s.end.Elements++
		if !f(raw) {
			return errStreamStop
		}
	}
}

// value takes the value that begins at at. It returns nil when it is not kept or
// longer than the bound. A number counts only with what follows it.
func (s *arrayStream) value(keep bool) (Raw, error) {
	start, i := s.at, s.at
	depth, inside, escaped := 0, false, false
	done := func(end int) (Raw, error) {
		if end == start {
			return nil, s.unexpected("a value") // or the walk would stand still
		}
		s.at = end
		if !keep {
			return nil, nil
		}
		return s.buf[start:end:end], nil
	}
	for {
		if keep && i-start > s.max {
			keep = false
		}
		if i >= s.n {
			from := start
			if !keep {
				from = i
			}
			s.at = i
			if !s.load(from) {
				return nil, s.broken()
			}
			i, start = i-from, start-from
		}
		switch c := s.buf[i]; {
		case escaped:
			escaped = false
			i++
		case inside:
			i, inside, escaped = s.text(i)
			if !inside && depth == 0 {
				return done(i)
			}
		case c == '"':
			inside = true
			i++
		case c == '{' || c == '[':
			depth++
			i++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return done(i + 1)
			} else if depth < 0 {
				return done(i)
			}
			i++
		case depth == 0 && (c == ',' || c == ':' || c == ' ' || c == '\t' || c == '\r' || c == '\n'):
			return done(i)
		default:
			i++
		}
	}
}

// text goes on inside a string: to behind its closing quote, or to the end of
// what is loaded, where a backslash may be open.
func (s *arrayStream) text(i int) (next int, inside, escaped bool) {
	for {
		end := s.n
		j := bytes.IndexByte(s.buf[i:s.n], '"')
		if j >= 0 {
			end = i + j
		}
		back := end
		for back > i && s.buf[back-1] == '\\' {
			back--
		}
		odd := (end-back)%2 == 1
		if j < 0 {
			return s.n, true, odd
		}
		if !odd {
			return end + 1, false, false
		}
		if i = end + 1; i >= s.n {
			return s.n, true, false
		}
	}
}
