package keylog

import (
	"encoding/binary"
	"errors"

	"golang.org/x/crypto/cryptobyte"
)

// Record and handshake types (RFC 8446 §4, §5.1).
const (
	recordChangeCipher = 20
	recordHandshake    = 22
	recordData         = 23

	clientHello = 1
	serverHello = 2

	recordHeader = 5
	maxRecord    = 1<<14 + 2048 // RFC 5246 §6.2.3; TLS 1.3 allows less
	maxHello     = 64 << 10     // bytes of a hello, which may span records
)

// Versions that are read.
const (
	tls12 = 0x0303
	tls13 = 0x0304
)

// record is one record of a stream and where it ends there.
type record struct {
	kind   byte
	header []byte
	body   []byte
	end    int
}

// nextRecord cuts the record at offset at off; ok is false at the end of the
// stream, be it clean or in the middle of a record.
func nextRecord(stream []byte, off int) (r record, ok bool) {
	if len(stream)-off < recordHeader {
		return record{}, false
	}
	h := stream[off : off+recordHeader]
	n := int(binary.BigEndian.Uint16(h[3:]))
	if h[1] != 3 || n > maxRecord || len(stream)-off-recordHeader < n {
		return record{}, false
	}
	end := off + recordHeader + n
	return record{h[0], h, stream[off+recordHeader : end], end}, true
}

// hello is what matters of a client or server hello.
type hello struct {
	random  [32]byte
	version uint16
	suite   uint16 // of the server
	host    string // of the client's server_name
	retry   bool   // HelloRetryRequest
	end     int    // offset behind the last record of the hello
}

var errNoHello = errors.New("the connection's beginning is missing or is no TLS")

// readHello reads the hello that begins in the record at off.
func readHello(stream []byte, off int, kind byte) (hello, error) {
	var msg []byte
	for {
		r, ok := nextRecord(stream, off)
		if !ok {
			return hello{}, errNoHello
		}
		off = r.end
		if r.kind == recordChangeCipher { // TLS 1.3 sends them for show (RFC 8446 §5)
			continue
		}
		if r.kind != recordHandshake {
			return hello{}, errNoHello
		}
		msg = append(msg, r.body...)
		if len(msg) < 4 {
			continue
		}
		if msg[0] != kind {
			return hello{}, errNoHello
		}
		n := int(msg[1])<<16 | int(msg[2])<<8 | int(msg[3])
		if n > maxHello {
			return hello{}, errNoHello
		}
		if len(msg) < 4+n {
			continue
		}
		h, ok := parseHello(msg[4:4+n], kind)
		if !ok {
			return hello{}, errNoHello
		}
		h.end = off
		return h, nil
	}
}

// retryRandom marks a server hello as a HelloRetryRequest (RFC 8446 §4.1.3).
func retryRandom() [32]byte {
	return [32]byte{0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
		0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c}
}

func parseHello(body []byte, kind byte) (h hello, ok bool) {
	s := cryptobyte.String(body)
	var session, rest cryptobyte.String
	if !s.ReadUint16(&h.version) || !s.CopyBytes(h.random[:]) || !s.ReadUint8LengthPrefixed(&session) {
		return h, false
	}
	h.retry = kind == serverHello && h.random == retryRandom()
	if kind == serverHello {
		ok = s.ReadUint16(&h.suite) && s.Skip(1)
	} else {
		ok = s.ReadUint16LengthPrefixed(&rest) && s.ReadUint8LengthPrefixed(&rest)
	}
	if !ok {
		return h, false
	}
	var extensions cryptobyte.String
	if s.Empty() {
		return h, true
	}
	if !s.ReadUint16LengthPrefixed(&extensions) {
		return h, false
	}
	for !extensions.Empty() {
		var id uint16
		var data cryptobyte.String
		if !extensions.ReadUint16(&id) || !extensions.ReadUint16LengthPrefixed(&data) {
			return h, false
		}
		switch {
		case id == 43 && kind == serverHello: // supported_versions
			data.ReadUint16(&h.version)
		case id == 0 && kind == clientHello: // server_name
			h.host = serverName(data)
		}
	}
	return h, true
}

func serverName(data cryptobyte.String) string {
	var list, name cryptobyte.String
	var kind uint8
	if data.ReadUint16LengthPrefixed(&list) && list.ReadUint8(&kind) && kind == 0 && list.ReadUint16LengthPrefixed(&name) && len(name) <= 255 {
		return string(name)
	}
	return ""
}
