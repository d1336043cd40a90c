// Package packets reads packet captures: the files of tcpdump and Wireshark, the
// headers down to TCP, and the streams of bytes that segments make in whatever order
// they were saved.
//
// It knows what the audit reads, and no more. The library for everything, gopacket,
// keeps tables of five megabytes that Go's collector looks through in every process
// of this program, the gateway's too (decision 16); the tests hold this package to it.
package packets

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"
)

// Packet is one of a capture.
type Packet struct {
	Link Link
	Data []byte // good until the next one is read
	At   time.Time
	Cut  bool // the file holds less of it than was on the wire
}

// Bounds of a file.
const (
	maxPacket     = 1 << 20 // bytes
	maxInterfaces = 4096
)

// Reader reads the packets of a file. Not for concurrent use.
type Reader struct {
	in    *bufio.Reader
	order binary.ByteOrder
	buf   []byte
	read  func() (Packet, error)

	unit time.Duration // of the fraction of a second, in pcap
	link Link          // of the file, in pcap
	on   []interfaceOf // of the section, in pcapng
	last time.Time     // of the packet before
}

// interfaceOf is what a section says of one of its interfaces.
type interfaceOf struct {
	link   Link
	snap   uint32
	ticks  uint64 // in a second
	offset int64  // seconds
}

var (
	errFormat = errors.New("it begins like neither")
	errEmpty  = errors.New("it is empty")
	errBroken = errors.New("the capture is broken")
)

// Open begins to read a file: pcap with micro- or nanoseconds in either byte order, or
// pcapng, also packed with gzip.
func Open(r io.Reader) (*Reader, error) {
	in := bufio.NewReaderSize(r, 1<<20)
	magic, err := in.Peek(4)
	if err == io.EOF && len(magic) == 0 {
		return nil, errEmpty
	}
	if err != nil {
		return nil, errFormat
	}
	if magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		in = bufio.NewReaderSize(z, 1<<20)
		if magic, err = in.Peek(4); err != nil {
			return nil, errFormat
		}
	}
	p := &Reader{in: in}
	if bytes.Equal(magic, []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
		p.read = p.block
		if err := p.section(); err != nil {
			return nil, errFormat
		}
		return p, nil
	}
	p.read = p.record
	switch binary.LittleEndian.Uint32(magic) {
	case 0xa1b2c3d4:
		p.order, p.unit = binary.LittleEndian, time.Microsecond
	case 0xd4c3b2a1:
		p.order, p.unit = binary.BigEndian, time.Microsecond
	case 0xa1b23c4d:
		p.order, p.unit = binary.LittleEndian, time.Nanosecond
	case 0x4d3cb2a1:
		p.order, p.unit = binary.BigEndian, time.Nanosecond
	default:
		return nil, errFormat
	}
	head, err := p.take(24)
	if err != nil || p.order.Uint16(head[4:]) != 2 {
		return nil, errFormat
	}
	p.link = Link(p.order.Uint32(head[20:]) & 0x3ff_ffff) // above that: the length of a checksum
	return p, nil
}

// Next returns the next packet. The error is io.EOF at the end, and another one where
// the file is cut off or broken.
func (p *Reader) Next() (Packet, error) {
	packet, err := p.read()
	if err == nil {
		p.last = packet.At
	}
	return packet, err
}

// take reads n bytes, which stay until the next call.
func (p *Reader) take(n int) ([]byte, error) {
	if cap(p.buf) < n {
		p.buf = make([]byte, max(n, 64<<10))
	}
	b := p.buf[:n]
	_, err := io.ReadFull(p.in, b)
	return b, err
}

// record is the next packet of a pcap file.
func (p *Reader) record() (Packet, error) {
	head, err := p.take(16)
	if err != nil {
		return Packet{}, err
	}
	at := time.Unix(int64(p.order.Uint32(head)), int64(p.order.Uint32(head[4:]))*int64(p.unit))
	saved, whole := p.order.Uint32(head[8:]), p.order.Uint32(head[12:])
	if saved > maxPacket {
		return Packet{}, errBroken
	}
	data, err := p.take(int(saved))
	if err != nil {
		return Packet{}, io.ErrUnexpectedEOF
	}
	return Packet{p.link, data, at, saved < whole}, nil
}

// Types of blocks in pcapng (draft-ietf-opsawg-pcapng). Others are passed over.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockOld       = 2
	blockSimple    = 3
	blockPacket    = 6
)

// block is the next packet of a pcapng file.
func (p *Reader) block() (Packet, error) {
	for {
		head, err := p.in.Peek(8)
		if err != nil {
			if len(head) > 0 {
				return Packet{}, io.ErrUnexpectedEOF
			}
			return Packet{}, err
		}
		if binary.LittleEndian.Uint32(head) == blockSection {
			if err := p.section(); err != nil {
				return Packet{}, err
			}
			continue
		}
		typ, size := p.order.Uint32(head), p.order.Uint32(head[4:])
		if size < 12 || size%4 != 0 {
			return Packet{}, errBroken
		}
		if typ != blockInterface && typ != blockOld && typ != blockSimple && typ != blockPacket {
			if _, err := io.CopyN(io.Discard, p.in, int64(size)); err != nil {
				return Packet{}, io.ErrUnexpectedEOF
			}
			continue
		}
		if size > maxPacket {
			return Packet{}, errBroken
		}
		body, err := p.take(int(size))
		if err != nil {
			return Packet{}, io.ErrUnexpectedEOF
		}
		if p.order.Uint32(body[size-4:]) != size {
			return Packet{}, errBroken
		}
		body = body[8 : size-4]
		if typ == blockInterface {
			if err := p.addInterface(body); err != nil {
				return Packet{}, err
			}
			continue
		}
		return p.packet(typ, body)
	}
}

// section reads the head of a section, which sets the byte order.
func (p *Reader) section() error {
	head, err := p.take(12)
	if err != nil {
		return io.ErrUnexpectedEOF
	}
	switch binary.LittleEndian.Uint32(head[8:]) {
	case 0x1a2b3c4d:
		p.order = binary.LittleEndian
	case 0x4d3c2b1a:
		p.order = binary.BigEndian
	default:
		return errBroken
	}
	size := p.order.Uint32(head[4:])
	if size < 28 || size%4 != 0 || size > maxPacket {
		return errBroken
	}
	body, err := p.take(int(size) - 12)
	if err != nil {
		return io.ErrUnexpectedEOF
	}
	if p.order.Uint16(body) != 1 {
		return fmt.Errorf("%w: its version is not known", errBroken)
	}
	p.on = nil
	return nil
}

// addInterface reads the description of an interface.
func (p *Reader) addInterface(b []byte) error {
	if len(b) < 8 || len(p.on) == maxInterfaces {
		return errBroken
	}
	i := interfaceOf{link: Link(p.order.Uint16(b)), snap: p.order.Uint32(b[4:]), ticks: 1_000_000}
	for b = b[8:]; len(b) >= 4; {
		code, n := p.order.Uint16(b), int(p.order.Uint16(b[2:]))
		b = b[4:]
		if code == 0 || n > len(b) {
			break
		}
		switch {
		case code == 9 && n == 1: // if_tsresol
			if i.ticks = ticksOf(b[0]); i.ticks == 0 {
				return errBroken
			}
		case code == 14 && n == 8: // if_tsoffset
			i.offset = int64(p.order.Uint64(b))
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	p.on = append(p.on, i)
	return nil
}

// ticksOf is how many ticks make a second: a power of ten, or of two with the high bit
// set. 0 is too many to count.
func ticksOf(resolution byte) uint64 {
	n := resolution & 0x7f
	if resolution&0x80 != 0 {
		if n > 63 {
			return 0
		}
		return 1 << n
	}
	ticks := uint64(1)
	for range n {
		high, low := bits.Mul64(ticks, 10)
		if high != 0 {
			return 0
		}
		ticks = low
	}
	return ticks
}

// packet reads the three kinds of blocks that hold one.
func (p *Reader) packet(typ uint32, b []byte) (Packet, error) {
	if typ == blockSimple { // of the first interface, without a time
		if len(b) < 4 || len(p.on) == 0 {
			return Packet{}, errBroken
		}
		whole := p.order.Uint32(b)
		saved := min(uint64(whole), uint64(len(b)-4))
		if snap := p.on[0].snap; snap > 0 {
			saved = min(saved, uint64(snap))
		}
		return Packet{p.on[0].link, b[4 : 4+saved], p.last, saved < uint64(whole)}, nil
	}
	if len(b) < 20 {
		return Packet{}, errBroken
	}
	of := p.order.Uint32(b)
	if typ == blockOld {
		of = uint32(p.order.Uint16(b))
	}
	ticks := uint64(p.order.Uint32(b[4:]))<<32 | uint64(p.order.Uint32(b[8:]))
	saved, whole := p.order.Uint32(b[12:]), p.order.Uint32(b[16:])
	if uint64(of) >= uint64(len(p.on)) || uint64(saved) > uint64(len(b)-20) {
		return Packet{}, errBroken
	}
	i := p.on[of]
	return Packet{i.link, b[20 : 20+saved], i.at(ticks), saved < whole}, nil
}

// at is the moment of so many ticks.
func (i interfaceOf) at(ticks uint64) time.Time {
	high, low := bits.Mul64(ticks%i.ticks, uint64(time.Second))
	nanos, _ := bits.Div64(high, low, i.ticks) // the rest is less than i.ticks, so this is less than a second
	return time.Unix(int64(ticks/i.ticks)+i.offset, int64(nanos))
}
