package packets

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Link is how packets of a capture begin (https://www.tcpdump.org/linktypes.html).
type Link uint32

// The links that Decode knows.
const (
	LinkNull     Link = 0 // BSD loopback, in the byte order of whoever wrote it
	LinkEthernet Link = 1
	LinkRawBSD   Link = 12
	LinkRawOpen  Link = 14
	LinkRaw      Link = 101
	LinkLoop     Link = 108 // OpenBSD loopback
	LinkLinux    Link = 113 // Linux "cooked"
	LinkIPv4     Link = 228
	LinkIPv6     Link = 229
	LinkLinux2   Link = 276
)

// Known tells whether packets of a link can be decoded.
func (l Link) Known() bool {
	switch l {
	case LinkNull, LinkEthernet, LinkRawBSD, LinkRawOpen, LinkRaw, LinkLoop, LinkLinux, LinkIPv4, LinkIPv6, LinkLinux2:
		return true
	}
	return false
}

// String names a link that people capture on by mistake; any other is its number.
func (l Link) String() string {
	switch l {
	case 105, 119, 127, 163, 192:
		return fmt.Sprintf("Wi-Fi in monitor mode, link type %d", uint32(l))
	case 189, 220, 249:
		return fmt.Sprintf("USB, link type %d", uint32(l))
	case 187, 201, 251, 254:
		return fmt.Sprintf("Bluetooth, link type %d", uint32(l))
	}
	return fmt.Sprintf("link type %d", uint32(l))
}

// Flow is one direction of a connection.
type Flow struct{ From, To netip.AddrPort }

// Reverse is the other direction.
func (f Flow) Reverse() Flow { return Flow{f.To, f.From} }

// Segment is a TCP segment (RFC 9293 section 3.1).
type Segment struct {
	Flow          Flow
	Seq           uint32
	SYN, ACK, FIN bool
	RST           bool
	Data          []byte // part of the packet's
	At            time.Time
}

// EtherTypes that lead to IP.
const (
	etherIPv4  = 0x0800
	etherIPv6  = 0x86dd
	etherVLAN  = 0x8100
	etherQinQ  = 0x88a8
	etherMPLS  = 0x8847
	etherPPPoE = 0x8864
)

// maxHeaders bounds the headers before TCP: tags, labels, extensions, tunnels.
const maxHeaders = 16

// Decode finds the TCP segment in a packet; ok is false for everything else, fragments
// of IP packets included. Checksums are not looked at: those of packets a machine sent
// itself are often not filled in yet.
func Decode(p Packet) (s Segment, ok bool) {
	b, ether := p.Data, 0
	switch p.Link {
	case LinkEthernet:
		if len(b) < 14 {
			return s, false
		}
		ether, b = int(binary.BigEndian.Uint16(b[12:])), b[14:]
	case LinkLinux:
		if len(b) < 16 {
			return s, false
		}
		ether, b = int(binary.BigEndian.Uint16(b[14:])), b[16:]
	case LinkLinux2:
		if len(b) < 20 {
			return s, false
		}
		ether, b = int(binary.BigEndian.Uint16(b)), b[20:]
	case LinkNull, LinkLoop: // the family says no more than the packet itself
		if len(b) < 4 {
			return s, false
		}
		b = b[4:]
	case LinkRawBSD, LinkRawOpen, LinkRaw, LinkIPv4, LinkIPv6:
	default:
		return s, false
	}
	if b, ok = network(ether, b); !ok {
		return s, false
	}
	s.At = p.At
	return s, s.ip(b, maxHeaders)
}

// network finds the IP packet behind an Ethernet type; 0 is IP at once.
func network(ether int, b []byte) (ip []byte, ok bool) {
	for range maxHeaders {
		switch ether {
		case 0, etherIPv4, etherIPv6:
			return b, true
		case etherVLAN, etherQinQ, 0x9100:
			if len(b) < 4 {
				return nil, false
			}
			ether, b = int(binary.BigEndian.Uint16(b[2:])), b[4:]
		case etherMPLS:
			if len(b) < 4 {
				return nil, false
			}
			if b[2]&1 != 0 { // the last label
				ether = 0
			}
			b = b[4:]
		case etherPPPoE:
			if len(b) < 8 {
				return nil, false
			}
			proto := binary.BigEndian.Uint16(b[6:])
			return b[8:], proto == 0x0021 || proto == 0x0057
		default:
			return nil, false
		}
	}
	return nil, false
}

// Protocol numbers of IP.
const (
	protoHopByHop = 0
	protoIPv4     = 4
	protoTCP      = 6
	protoIPv6     = 41
	protoRouting  = 43
	protoFragment = 44
	protoAuth     = 51
	protoOptions  = 60
)

// ip reads an IP packet, at most left headers deep.
func (s *Segment) ip(b []byte, left int) bool {
	if len(b) < 1 || left == 0 {
		return false
	}
	switch b[0] >> 4 {
	case 4: // RFC 791
		head := int(b[0]&15) * 4
		if len(b) < 20 || head < 20 || len(b) < head || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return false
		}
		if total := int(binary.BigEndian.Uint16(b[2:])); total >= head { // 0 where the network card does the rest
			b = b[:min(len(b), total)]
		} else if total != 0 {
			return false
		}
		return s.payload(b[9], netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:])), b[head:], left-1)
	case 6: // RFC 8200
		if len(b) < 40 {
			return false
		}
		from, to, next := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:])), b[6]
		n := int(binary.BigEndian.Uint16(b[4:]))
		if b = b[40:]; n != 0 {
			b = b[:min(len(b), n)]
		}
		for ; left > 0; left-- {
			size := 0
			switch next {
			case protoHopByHop, protoRouting, protoOptions:
				if len(b) >= 8 {
					size = (int(b[1]) + 1) * 8
				}
			case protoAuth:
				if len(b) >= 8 {
					size = (int(b[1]) + 2) * 4
				}
			case protoFragment:
				if len(b) >= 8 && binary.BigEndian.Uint16(b[2:])&^6 == 0 { // the only one
					size = 8
				}
			default:
				return s.payload(next, from, to, b, left-1)
			}
			if size == 0 || size > len(b) {
				return false
			}
			next, b = b[0], b[size:]
		}
	}
	return false
}

// payload reads what an IP packet carries: TCP, or another IP packet.
func (s *Segment) payload(proto byte, from, to netip.Addr, b []byte, left int) bool {
	switch proto {
	case protoIPv4, protoIPv6:
		return s.ip(b, left)
	case protoTCP:
	default:
		return false
	}
	if len(b) < 20 {
		return false
	}
	head := int(b[12]>>4) * 4
	if head < 20 || head > len(b) {
		return false
	}
	s.Flow = Flow{netip.AddrPortFrom(from, binary.BigEndian.Uint16(b)), netip.AddrPortFrom(to, binary.BigEndian.Uint16(b[2:]))}
	s.Seq = binary.BigEndian.Uint32(b[4:])
	s.FIN, s.SYN, s.RST, s.ACK = b[13]&1 != 0, b[13]&2 != 0, b[13]&4 != 0, b[13]&16 != 0
	s.Data = b[head:]
	return true
}
