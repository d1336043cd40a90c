package audit

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// decoded undoes the content codings of a body as it went over the wire (RFC 9110
// §8.4.1), at most observeBody bytes. A body that cannot be undone is left out:
// compressed bytes must not be judged as text. cut says that bytes are missing.
func decoded(body []byte, codings string) (out []byte, cut bool) {
	list := strings.Split(strings.ToLower(codings), ",")
	for i := len(list) - 1; i >= 0; i-- { // they stand in the order in which they were applied
		if len(list) > 3 {
			return nil, true
		}
		rd, done, err := decoder(bytes.NewReader(body), strings.TrimSpace(list[i]))
		if err != nil {
			return nil, true
		}
		b, err := io.ReadAll(io.LimitReader(rd, observeBody+1))
		done()
		cut = cut || err != nil // a stream cut off counts as far as it goes
		body = b
	}
	if len(body) > observeBody {
		return body[:observeBody], true
	}
	return body, cut
}

// decoder undoes one coding. done is called when reading has ended.
func decoder(r *bytes.Reader, coding string) (rd io.Reader, done func(), err error) {
	done = func() {}
	switch coding {
	case "", "identity":
		return r, done, nil
	case "gzip", "x-gzip":
		rd, err = gzip.NewReader(r)
	case "deflate": // zlib by the book; some servers leave its frame out
		if rd, err = zlib.NewReader(r); err != nil {
			_, err = r.Seek(0, io.SeekStart)
			rd = flate.NewReader(r)
		}
	case "br":
		rd = brotli.NewReader(r)
	case "zstd":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20)); err == nil {
			rd, done = z, z.Close
		}
	default:
		err = errors.New("no coding that is read")
	}
	return rd, done, err
}
