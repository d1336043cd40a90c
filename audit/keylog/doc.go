// Package keylog reads recorded TLS connections with the secrets that one of
// their ends wrote down (the SSLKEYLOGFILE format that browsers, curl, Node, Go
// and Python write).
//
// A connection is two byte streams and nothing else: the hellos are in clear and
// say which secrets, which version and which cipher; the rest is records. The key
// that opens a record is the right one, so the reader does not follow the
// handshake: when a record does not open it tries the next key of its direction
// (early data, handshake, traffic, the next generation after a key update). That
// also reads logs that hold only some of the secrets.
//
// Read are TLS 1.3 and TLS 1.2 with AES-GCM and ChaCha20-Poly1305, which is what
// today's clients and servers agree on. Older versions, CBC and CCM are named and
// left unread.
package keylog
