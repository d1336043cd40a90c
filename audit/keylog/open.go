package keylog

import (
	"github.com/kidoban/kidoban"
)

// Chunk is the content of one record.
type Chunk struct {
	End  int // offset in the recorded stream at which the record was complete
	Data []byte
}

// Plain is a connection in clear.
type Plain struct {
	Host           string // the name that the client asked for (SNI); "" without one
	Client, Server []Chunk
	Whole          bool // false when records at the end could not be opened
}

// Open reads a connection from what each end sent. What could be read before a
// record that no key opens is returned, marked by Whole. KindInput with a
// sentence when nothing can be read, KindNotFound when the log does not know the
// connection.
func (l *Log) Open(client, server []byte) (*Plain, error) {
	ch, err := readHello(client, 0, clientHello)
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInput, err, "the connection's beginning is missing or is no TLS")
	}
	sec := l.secrets[ch.random]
	if sec == nil {
		return nil, kidoban.Errorf(kidoban.KindNotFound, "the key log does not hold this connection")
	}
	sh, err := readHello(server, 0, serverHello)
	if err == nil && sh.retry {
		sh, err = readHello(server, sh.end, serverHello)
	}
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindInput, err, "the server's hello is missing")
	}
	s, ok := suiteOf(sh.suite)
	if !ok || sh.version != tls12 && sh.version != tls13 || sh.version == tls13 != (sh.suite>>8 == 0x13) {
		return nil, kidoban.Errorf(kidoban.KindInput, "version %#04x with cipher suite %#04x is not read; TLS 1.2 and 1.3 with AES-GCM or ChaCha20-Poly1305 are", sh.version, sh.suite)
	}
	p := &Plain{Host: ch.host}
	var cw, sw bool
	if sh.version == tls13 {
		p.Client, cw = open13(client, ch.end, keysOf(s, sec.early, sec.client, sec.clientApp))
		p.Server, sw = open13(server, sh.end, keysOf(s, sec.server, sec.serverApp))
	} else {
		if len(sec.master) != 48 { // RFC 5246 §8.1
			return nil, kidoban.Errorf(kidoban.KindNotFound, "the key log does not hold this connection's master secret")
		}
		ck, sk := newKeys12(s, sec.master, ch.random, sh.random)
		p.Client, cw = open12(client, ck)
		p.Server, sw = open12(server, sk)
	}
	p.Whole = cw && sw
	return p, nil
}

// keysOf derives the keys of a direction, in the order of their use.
func keysOf(s suite, list ...[]byte) (out []*key) {
	for _, secret := range list {
		if k := newKey13(s, secret); k != nil {
			out = append(out, k)
		}
	}
	return out
}

// maxRefused bounds the records in a row that no key opens: early data that the
// server refused, or whose secret is not in the log.
const maxRefused = 64

// generations bounds how many key updates are looked ahead at one record.
const generations = 2

// open13 opens what follows the hello of a direction.
func open13(stream []byte, off int, keys []*key) (out []Chunk, whole bool) {
	missed := 0
	for {
		r, ok := nextRecord(stream, off)
		if !ok {
			return out, missed == 0 && len(keys) > 0 && len(stream) == off
		}
		off = r.end
		if r.kind != recordData {
			continue // a second hello after a retry, or a change of cipher for show
		}
		kind, plain, rest, ok := openWith(keys, r)
		if !ok {
			if missed++; missed > maxRefused {
				return out, false
			}
			continue
		}
		keys, missed = rest, 0
		if kind == recordData && len(plain) > 0 {
			out = append(out, Chunk{off, plain})
		}
	}
}

// openWith tries the current key, those after it, and the next generations of
// the last. The keys before the one that opens the record are done with.
func openWith(keys []*key, r record) (kind byte, plain []byte, rest []*key, ok bool) {
	for i, k := range keys {
		if kind, plain, ok = k.open13(r); ok {
			return kind, plain, keys[i:], true
		}
	}
	if len(keys) != 1 { // updates concern the traffic key only
		return 0, nil, keys, false
	}
	k := keys[0]
	for range generations {
		if k = k.next(); k == nil {
			break
		}
		if kind, plain, ok = k.open13(r); ok {
			return kind, plain, []*key{k}, true
		}
	}
	return 0, nil, keys, false
}

// open12 opens a direction from its change of cipher on.
func open12(stream []byte, k *key) (out []Chunk, whole bool) {
	if k == nil {
		return nil, false
	}
	secret := false
	for off := 0; ; {
		r, ok := nextRecord(stream, off)
		if !ok {
			return out, len(stream) == off
		}
		off = r.end
		switch {
		case r.kind == recordChangeCipher:
			if secret {
				return out, false // a renegotiation: its keys are not in the log's line
			}
			secret = true
		case secret:
			plain, ok := k.open12(r)
			if !ok {
				return out, false
			}
			if r.kind == recordData && len(plain) > 0 {
				out = append(out, Chunk{off, plain})
			}
		}
	}
}
