package limit

import (
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strings"
	"time"
)

// Limits holds every limit of the product under its name. Registration limits
// come in three so that no client can starve another (G-RG5): one address, one
// network, everybody.
type Limits struct {
	RegistrationPerIP     Limit
	RegistrationPerPrefix Limit
	RegistrationGlobal    Limit

	AuthorizePerIP    Limit
	TokenPerIP        Limit
	TokenPerClient    Limit
	RevokePerIP       Limit
	LoginPerName      Limit // failed attempts; keyed by the name typed, known or not
	LoginPerIP        Limit // failed attempts
	LoginPerPrefix    Limit // failed attempts
	ConsentPerUser    Limit
	DocumentPerSource Limit // client ID metadata documents: who makes us fetch
	DocumentPerHost   Limit // … and whom we fetch from
	DocumentGlobal    Limit

	CallPerUser    Limit
	CallPerClient  Limit
	CallPerServer  Limit
	CallPerTool    Limit
	ConnectPerUser Limit // upstream accounts linked
}

// Defaults returns the limits as they are without configuration.
func Defaults() Limits {
	return Limits{
		RegistrationPerIP:     Limit{"registration_per_ip", 20, time.Hour, 10, PerIP},
		RegistrationPerPrefix: Limit{"registration_per_prefix", 60, time.Hour, 30, PerPrefix},
		RegistrationGlobal:    Limit{"registration_global", 1000, time.Hour, 200, Global},
		AuthorizePerIP:        Limit{"authorize_per_ip", 60, time.Minute, 60, PerIP},
		TokenPerIP:            Limit{"token_per_ip", 120, time.Minute, 120, PerIP},
		TokenPerClient:        Limit{"token_per_client", 60, time.Minute, 60, PerClient},
		RevokePerIP:           Limit{"revoke_per_ip", 60, time.Minute, 60, PerIP},
		LoginPerName:          Limit{"login_per_name", 5, 15 * time.Minute, 5, PerLogin},
		LoginPerIP:            Limit{"login_per_ip", 20, 15 * time.Minute, 20, PerIP},
		LoginPerPrefix:        Limit{"login_per_prefix", 100, 15 * time.Minute, 100, PerPrefix},
		ConsentPerUser:        Limit{"consent_per_user", 20, time.Hour, 20, PerUser},
		DocumentPerSource:     Limit{"document_per_source", 30, time.Hour, 10, PerIP},
		DocumentPerHost:       Limit{"document_per_host", 60, time.Hour, 10, PerHost},
		DocumentGlobal:        Limit{"document_global", 600, time.Hour, 60, Global},
		CallPerUser:           Limit{"call_per_user", 600, time.Minute, 200, PerUser},
		CallPerClient:         Limit{"call_per_client", 1200, time.Minute, 400, PerClient},
		CallPerServer:         Limit{"call_per_server", 3000, time.Minute, 1000, PerServer},
		CallPerTool:           Limit{"call_per_tool", 300, time.Minute, 100, PerTool},
		ConnectPerUser:        Limit{"connect_per_user", 20, time.Hour, 10, PerUser},
	}
}

// All returns pointers to every limit in declaration order, so that a
// configuration can change them by name.
func (l *Limits) All() []*Limit {
	return []*Limit{
		&l.RegistrationPerIP, &l.RegistrationPerPrefix, &l.RegistrationGlobal,
		&l.AuthorizePerIP, &l.TokenPerIP, &l.TokenPerClient, &l.RevokePerIP,
		&l.LoginPerName, &l.LoginPerIP, &l.LoginPerPrefix, &l.ConsentPerUser,
		&l.DocumentPerSource, &l.DocumentPerHost, &l.DocumentGlobal,
		&l.CallPerUser, &l.CallPerClient, &l.CallPerServer, &l.CallPerTool, &l.ConnectPerUser,
	}
}

// IPKey is the key of one address: IPv4 whole, IPv6 as its /64, for a single
// machine owns that many. IPv4-mapped addresses count as IPv4, zones are dropped.
func IPKey(a netip.Addr) string { return prefixKey(a, 32, 64) }

// PrefixKey is the key of a network: IPv4 /24, IPv6 /48.
func PrefixKey(a netip.Addr) string { return prefixKey(a, 24, 48) }

func prefixKey(a netip.Addr, bits4, bits6 int) string {
	a = a.Unmap().WithZone("")
	bits := bits6
	if a.Is4() {
		bits = bits4
	}
	p, err := a.Prefix(bits)
	if err != nil || !p.IsValid() {
		return "invalid" // all nameless callers share one key
	}
	return p.String()
}

// Key joins parts to a key. Parts are attacker-written and of any length, so
// the key is a hash: fixed size, and no part can imitate a boundary.
func Key(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		sum := sha256.Sum256([]byte(p))
		b.Write(sum[:])
	}
	sum := sha256.Sum256([]byte(b.String()))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}
