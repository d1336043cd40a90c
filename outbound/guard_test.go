package outbound

import (
	"net/netip"
	"testing"

	"code.dny.dev/ssrf"

	"github.com/kidoban/kidoban"
)

// What the library refuses, our table refuses, and so does every IPv6 form that
// carries a closed IPv4 address.
func FuzzCheckAddr(f *testing.F) {
	for _, s := range closed4 {
		f.Add(s.prefix.Addr().AsSlice())
	}
	for _, s := range closed6 {
		f.Add(s.prefix.Addr().AsSlice())
	}
	f.Add(netip.MustParseAddr("8.8.8.8").AsSlice())
	f.Add(netip.MustParseAddr("2606:4700::5efe:808:808").AsSlice())
	library := ssrf.New(ssrf.WithAnyPort())
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		err := Guard{}.CheckAddr(a)
		if library.SafeAddr(a) != nil && err == nil {
			t.Fatalf("%s passes here and not in the library", a)
		}
		lab := Guard{Lab: true}.CheckAddr(a)
		if (err == nil || a.IsLoopback() && !a.Is4In6()) != (lab == nil) {
			t.Fatalf("%s: Lab opens more or less than loopback", a)
		}
		if (a.IsPrivate() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.Is4In6()) && kidoban.KindOf(err) != kidoban.KindRefused {
			t.Fatalf("%s passes", a)
		}
		if !a.Is4() {
			return
		}
		v4 := a.As4()
		for _, prefix := range []string{"64:ff9b::", "64:ff9b:1::", "::", "::ffff:0:0", "2606:4700::5efe:0:0", "2606:4700::200:5efe:0:0"} {
			p := netip.MustParseAddr(prefix).As16()
			copy(p[12:], v4[:])
			if Class(netip.AddrFrom16(p)) == "" {
				t.Fatalf("%s in %s passes", a, prefix)
			}
		}
		if Class(netip.AddrFrom16([16]byte{0x20, 0x02, v4[0], v4[1], v4[2], v4[3]})) == "" {
			t.Fatalf("6to4 of %s passes", a)
		}
	})
}

func BenchmarkCheckAddr(b *testing.B) {
	a := netip.MustParseAddr("2606:4700::1")
	b.ReportAllocs()
	for b.Loop() {
		if err := (Guard{}).CheckAddr(a); err != nil {
			b.Fatal(err)
		}
	}
}
