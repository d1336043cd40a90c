package keylog

import (
	"bufio"
	"encoding/hex"
	"io"
	"strings"

	"github.com/kidoban/kidoban"
)

// Bounds of a key log.
const (
	maxLine        = 4096    // bytes of a line; longer ones are left out
	maxConnections = 200_000 // connections whose secrets are kept
)

// Log holds the secrets of connections by the random of their client hello. The
// zero value is empty and ready. Not safe for concurrent use.
type Log struct {
	secrets map[[32]byte]*secrets
}

// secrets of one connection; what the log does not hold is nil.
type secrets struct {
	master               []byte // TLS 1.2
	early                []byte // TLS 1.3, client only
	client, server       []byte // handshake traffic
	clientApp, serverApp []byte // application traffic, first generation
}

// Read adds the lines of a key log. Lines of other kinds are left out; so is
// whatever lies beyond maxConnections. KindInput when no line holds a secret.
func (l *Log) Read(name string, r io.Reader) error {
	if l.secrets == nil {
		l.secrets = map[[32]byte]*secrets{}
	}
	br := bufio.NewReaderSize(r, maxLine)
	found := false
	for {
		line, err := br.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			for err == bufio.ErrBufferFull { // no secret is that long
				_, err = br.ReadSlice('\n')
			}
			line = nil
		}
		found = l.line(string(line)) || found
		if err == io.EOF {
			break
		}
		if err != nil {
			return kidoban.Wrap(kidoban.KindInput, err, "%s cannot be read", name)
		}
	}
	if !found {
		return kidoban.Errorf(kidoban.KindInput, "%s holds no TLS secrets: it must be the file that SSLKEYLOGFILE named while the traffic was captured", name)
	}
	return nil
}

func (l *Log) line(s string) bool {
	f := strings.Fields(s)
	if len(f) != 3 || len(f[1]) != 64 || len(f[2]) > 128 {
		return false
	}
	var random [32]byte
	if _, err := hex.Decode(random[:], []byte(f[1])); err != nil {
		return false
	}
	secret, err := hex.DecodeString(f[2])
	if err != nil || len(secret) == 0 {
		return false
	}
	s1 := l.secrets[random]
	if s1 == nil {
		if len(l.secrets) >= maxConnections {
			return false
		}
		s1 = &secrets{}
	}
	switch f[0] {
	case "CLIENT_RANDOM":
		s1.master = secret
	case "CLIENT_EARLY_TRAFFIC_SECRET":
		s1.early = secret
	case "CLIENT_HANDSHAKE_TRAFFIC_SECRET":
		s1.client = secret
	case "SERVER_HANDSHAKE_TRAFFIC_SECRET":
		s1.server = secret
	case "CLIENT_TRAFFIC_SECRET_0":
		s1.clientApp = secret
	case "SERVER_TRAFFIC_SECRET_0":
		s1.serverApp = secret
	default:
		return false
	}
	l.secrets[random] = s1
	return true
}

// Knows tells from the first bytes of a client whether the log holds secrets of
// the connection: 43 bytes, which is less than any first segment, are enough.
func (l *Log) Knows(client []byte) bool {
	if len(client) < 43 || client[0] != recordHandshake || client[5] != clientHello {
		return false
	}
	return l.secrets[[32]byte(client[11:43])] != nil
}
