package outbound

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"strings"

	"github.com/kidoban/kidoban"
)

// readBody reads at most limit bytes after decoding. Only gzip, the one coding
// we ask for, is undone; any other body is kept as it came. The compressed
// side is bounded too, for archives that are long and decode to nothing.
func readBody(src io.Reader, encoding string, limit int64, stream func([]byte) bool) (body []byte, truncated bool, err error) {
	if e := strings.ToLower(strings.TrimSpace(encoding)); e == "gzip" || e == "x-gzip" {
		raw := &capped{r: src, left: 2*limit + 64<<10}
		br := bufio.NewReader(raw)
		if _, err := br.Peek(1); errors.Is(err, io.EOF) {
			return nil, false, nil // HEAD, 204, 304
		} else if err != nil {
			return nil, false, err
		}
		gz, gerr := gzip.NewReader(br)
		if gerr != nil {
			return nil, false, badGzip(gerr)
		}
		src = gz
		defer func() {
			if raw.hit {
				truncated, err = true, nil
			}
		}()
	}
	buf := make([]byte, 16<<10)
	for {
		n, rerr := src.Read(buf)
		if int64(n) > limit-int64(len(body)) {
			n, truncated = int(limit-int64(len(body))), true
		}
		body = append(body, buf[:n]...)
		if n > 0 && stream != nil && !stream(buf[:n]) {
			return body, truncated, nil
		}
		switch {
		case truncated || errors.Is(rerr, io.EOF):
			return body, truncated, nil
		case errors.Is(rerr, gzip.ErrChecksum) || errors.Is(rerr, gzip.ErrHeader):
			return body, false, badGzip(rerr)
		case rerr != nil:
			return body, truncated, rerr
		}
	}
}

func badGzip(err error) error {
	var ke *kidoban.Error
	if errors.As(err, &ke) {
		return ke
	}
	return kidoban.Wrap(kidoban.KindInput, err, "the response body says gzip and is not")
}

// capped reads at most left bytes and then remembers that it was cut.
type capped struct {
	r    io.Reader
	left int64
	hit  bool
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		c.hit = true
		return 0, io.ErrUnexpectedEOF
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.r.Read(p)
	c.left -= int64(n)
	return n, err
}
