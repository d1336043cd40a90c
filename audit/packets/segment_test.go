package packets

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"pgregory.net/rapid"
)

// drawPacket makes a packet with TCP in it, or something like it, with the library.
func drawPacket(t *rapid.T) (Link, gopacket.Decoder, []byte) {
	six := rapid.Bool().Draw(t, "IPv6")
	var ls []gopacket.SerializableLayer
	var head []byte
	link, first := LinkEthernet, gopacket.Decoder(layers.LinkTypeEthernet)
	ether := map[bool]layers.EthernetType{false: layers.EthernetTypeIPv4, true: layers.EthernetTypeIPv6}[six]
	switch rapid.SampledFrom([]string{"ethernet", "vlan", "two tags", "cooked", "raw", "mpls"}).Draw(t, "link") {
	case "ethernet":
		ls = append(ls, &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: ether})
	case "vlan":
		ls = append(ls, &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: layers.EthernetTypeDot1Q}, &layers.Dot1Q{VLANIdentifier: 7, Type: ether})
	case "two tags":
		ls = append(ls, &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: layers.EthernetTypeQinQ}, &layers.Dot1Q{Type: layers.EthernetTypeDot1Q}, &layers.Dot1Q{Type: ether})
	case "cooked":
		link, first = LinkLinux, layers.LinkTypeLinuxSLL
		head = append(head, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, byte(ether>>8), byte(ether))
	case "raw":
		link, first = LinkRaw, layers.LinkTypeRaw
	case "mpls":
		ls = append(ls, &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: layers.EthernetTypeMPLSUnicast}, &layers.MPLS{Label: 3}, &layers.MPLS{Label: 4, StackBottom: true})
	}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(rapid.Uint16().Draw(t, "from")), DstPort: layers.TCPPort(rapid.Uint16().Draw(t, "to")), Seq: rapid.Uint32().Draw(t, "seq"),
		SYN: rapid.Bool().Draw(t, "SYN"), ACK: rapid.Bool().Draw(t, "ACK"), FIN: rapid.Bool().Draw(t, "FIN"), RST: rapid.Bool().Draw(t, "RST"), PSH: true, Window: 9}
	if rapid.Bool().Draw(t, "options") {
		tcp.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 6}}}
	}
	proto := rapid.SampledFrom([]layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolTCP, layers.IPProtocolTCP, layers.IPProtocolUDP}).Draw(t, "protocol")
	if six {
		ip := &layers.IPv6{Version: 6, HopLimit: 1, NextHeader: proto, SrcIP: net.IP(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "source")), DstIP: net.IP(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "target"))}
		ls = append(ls, ip)
		_ = tcp.SetNetworkLayerForChecksum(ip)
		if rapid.Bool().Draw(t, "extension") {
			ip.NextHeader = layers.IPProtocolIPv6Destination
			d := &layers.IPv6Destination{}
			d.NextHeader = proto
			d.Options = []*layers.IPv6DestinationOption{{OptionType: 1, OptionData: make([]byte, 4)}}
			ls = append(ls, d)
		}
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 1, Protocol: proto, SrcIP: net.IP(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "source")), DstIP: net.IP(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "target"))}
		if rapid.IntRange(0, 9).Draw(t, "fragment") == 0 {
			ip.FragOffset, ip.Flags = uint16(rapid.IntRange(0, 9).Draw(t, "offset")), layers.IPv4MoreFragments
		}
		ls = append(ls, ip)
		_ = tcp.SetNetworkLayerForChecksum(ip)
	}
	if proto == layers.IPProtocolTCP {
		ls = append(ls, tcp)
	}
	ls = append(ls, gopacket.Payload(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")))
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, ls...); err != nil {
		t.Fatal(err)
	}
	b := append(append(head, buf.Bytes()...), make([]byte, rapid.SampledFrom([]int{0, 0, 6}).Draw(t, "padding"))...)
	return link, first, b[:len(b)-rapid.SampledFrom([]int{0, 0, 0, 1, 17, 45}).Draw(t, "cut")%len(b)]
}

// What the library finds in a packet, Decode finds, and nothing else.
func TestDecodesAsTheLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		link, first, b := drawPacket(t)
		s, ok := Decode(Packet{Link: link, Data: b})
		p := gopacket.NewPacket(b, first, gopacket.DecodeOptions{})
		tcp, is := p.TransportLayer().(*layers.TCP)
		is = is && p.ErrorLayer() == nil // else it found that it is cut
		if is != ok {
			t.Fatalf("TCP: %t, the library says %t: %v", ok, is, p)
		}
		if !ok {
			return
		}
		from, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Src().Raw())
		to, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Dst().Raw())
		want := Segment{Flow: Flow{netip.AddrPortFrom(from, uint16(tcp.SrcPort)), netip.AddrPortFrom(to, uint16(tcp.DstPort))}, Seq: tcp.Seq, SYN: tcp.SYN, ACK: tcp.ACK, FIN: tcp.FIN, RST: tcp.RST, Data: tcp.Payload}
		if s.Flow != want.Flow || s.Seq != want.Seq || s.SYN != want.SYN || s.ACK != want.ACK || s.FIN != want.FIN || s.RST != want.RST || !bytes.Equal(s.Data, want.Data) {
			t.Fatalf("%+v, the library says %+v", s, want)
		}
	})
}

// What the library cannot write, by hand: loopback, cooked version 2, PPPoE, tunnels.
func TestDecodesOtherWays(t *testing.T) {
	tcp := []byte{0, 80, 1, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0, 'h', 'i'}
	ip4 := append([]byte{0x45, 0, 0, 42, 0, 0, 0, 0, 9, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}, tcp...)
	ip6 := append(append([]byte{0x60, 0, 0, 0, 0, 22, 6, 9}, make([]byte, 32)...), tcp...)
	after := func(head []byte, b []byte) []byte { return append(bytes.Clone(head), b...) }
	changed := func(b []byte, at int, to byte) []byte {
		b = bytes.Clone(b)
		b[at] = to
		return b
	}
	ether := func(typ ...byte) []byte { return append(make([]byte, 12), typ...) }
	for what, c := range map[string]struct {
		link Link
		b    []byte
		ok   bool
	}{
		"loopback":        {LinkNull, after([]byte{2, 0, 0, 0}, ip4), true},
		"OpenBSD":         {LinkLoop, after([]byte{0, 0, 0, 24}, ip6), true},
		"cooked 2":        {LinkLinux2, after(append([]byte{0x86, 0xdd}, make([]byte, 18)...), ip6), true},
		"IPv4":            {LinkIPv4, ip4, true},
		"IPv6":            {LinkIPv6, ip6, true},
		"no length":       {LinkIPv4, changed(ip4, 3, 0), true},
		"PPPoE":           {LinkEthernet, after(append(ether(0x88, 0x64), 0x11, 0, 0, 0, 0, 44, 0, 0x21), ip4), true},
		"PPPoE control":   {LinkEthernet, after(append(ether(0x88, 0x64), 0x11, 0, 0, 0, 0, 44, 0xc0, 0x21), ip4), false},
		"ARP":             {LinkEthernet, after(ether(8, 6), ip4), false},
		"6 in 4":          {LinkRaw, after([]byte{0x45, 0, 0, 82, 0, 0, 0, 0, 9, 41, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}, ip6), true},
		"atomic fragment": {LinkRaw, after(append(append([]byte{0x60, 0, 0, 0, 0, 30, 44, 9}, make([]byte, 32)...), 6, 0, 0, 0, 0, 0, 0, 1), tcp), true},
		"first fragment":  {LinkRaw, after(append(append([]byte{0x60, 0, 0, 0, 0, 30, 44, 9}, make([]byte, 32)...), 6, 0, 0, 1, 0, 0, 0, 1), tcp), false},
		"tags for ever":   {LinkEthernet, ether(bytes.Repeat([]byte{0x81, 0}, 100)...), false},
		"options only":    {LinkRaw, append([]byte{0x60, 0, 0, 0, 0, 0, 60, 9}, append(make([]byte, 32), bytes.Repeat([]byte{60, 0, 0, 0, 0, 0, 0, 0}, 100)...)...), false},
		"IP in IP":        {LinkRaw, bytes.Repeat([]byte{0x45, 0, 0, 0, 0, 0, 0, 0, 9, 4, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}, 100), false},
		"version 5":       {LinkRaw, changed(ip4, 0, 0x55), false},
		"Wi-Fi":           {105, ip4, false},
		"nothing":         {LinkRaw, nil, false},
	} {
		s, ok := Decode(Packet{Link: c.link, Data: c.b})
		if ok != c.ok || ok && (string(s.Data) != "hi" || s.Seq != 9 || s.Flow.From.Port() != 80 || s.Flow.To.Port() != 256 || !s.ACK) {
			t.Errorf("%s: %v %+v", what, ok, s)
		}
		if c.link.Known() != (what != "Wi-Fi") {
			t.Errorf("link %d is known: %v", c.link, c.link.Known())
		}
	}
}
