package oauth

import "strings"

// Challenge is one challenge of a WWW-Authenticate header (RFC 9110 §11.6.1).
type Challenge struct {
	Scheme  string // as written; compare without case
	Token68 string // for schemes that send one blob instead of parameters
	Params  []Param
	Faults  []string // what a strict parser would have refused, one clause each
}

// Param is one parameter of a challenge.
type Param struct {
	Name   string // as written; compare without case
	Value  string // quotes and escapes removed
	Quoted bool
}

// Is tells whether the challenge is of the given scheme.
func (c Challenge) Is(scheme string) bool { return strings.EqualFold(c.Scheme, scheme) }

// Get returns the first parameter called name, or "".
func (c Challenge) Get(name string) string { v, _ := c.Lookup(name); return v }

// Lookup returns the first parameter called name and whether there is one.
func (c Challenge) Lookup(name string) (string, bool) {
	for _, p := range c.Params {
		if strings.EqualFold(p.Name, name) {
			return p.Value, true
		}
	}
	return "", false
}

// ResourceMetadata returns the URL of the protected resource metadata
// (RFC 9728 §5.1). Some servers write resource= where resource_metadata= is
// meant; such a value is returned when it looks like a metadata URL, with typo set.
func (c Challenge) ResourceMetadata() (url string, typo bool) {
	if v := c.Get("resource_metadata"); v != "" {
		return v, false
	}
	if v := c.Get("resource"); strings.Contains(v, "/.well-known/") {
		return v, true
	}
	return "", false
}

// Scopes returns the challenge's scope parameter as a list.
func (c Challenge) Scopes() []string { return SplitScope(c.Get("scope")) }

const (
	maxChallenges = 16
	maxParams     = 32
)

// ParseChallenges reads all WWW-Authenticate values of a response. It is
// lenient: unquoted URLs, single quotes, parameters parted by spaces and
// unterminated quotes are read as a person would, and noted in Faults. At most
// MaxChallenge bytes, 16 challenges and 32 parameters each are read; the rest
// is left out, with a fault on the last challenge.
func ParseChallenges(values []string) []Challenge {
	var out []Challenge
	left := MaxChallenge
	for _, v := range values {
		cut := len(v) > left
		if cut {
			v = v[:left]
		}
		left -= len(v)
		s := challengeScanner{in: v}
		out = append(out, s.all(maxChallenges-len(out))...)
		if (cut || s.cut) && len(out) > 0 {
			last := &out[len(out)-1]
			last.Faults = append(last.Faults, "the header is longer than the bound and was cut")
		}
		if left == 0 || len(out) == maxChallenges {
			break
		}
	}
	return out
}

type challengeScanner struct {
	in  string
	pos int
	cut bool // stopped at a bound with input left
}

// all reads challenges until the end of the value. A word opens a new
// challenge only at the start or after a comma; elsewhere it continues an
// unquoted value, because servers forget the quotes around "scope".
func (s *challengeScanner) all(limit int) []Challenge {
	var out []Challenge
	var cur *Challenge
	afterComma := true
	for {
		if s.skip(" \t"); s.peek() == ',' {
			s.pos++
			afterComma = true
			continue
		}
		if s.pos == len(s.in) {
			return out
		}
		word := s.token()
		if word == "" {
			s.pos++
			cur.note("a stray character")
			continue
		}
		mark := s.pos
		s.skip(" \t")
		switch {
		case s.peek() == '=' && cur != nil:
			s.pos++
			if !afterComma && len(cur.Params) > 0 {
				cur.note("parameters without a comma between them")
			}
			if len(cur.Params) == maxParams {
				s.cut = true
				return out
			}
			cur.Params = append(cur.Params, s.value(word, cur))
		case s.peek() == '=':
			s.pos++ // a parameter before any scheme
			out = append(out, Challenge{Faults: []string{"a parameter without a scheme"}})
			cur = &out[len(out)-1]
			cur.Params = append(cur.Params, s.value(word, cur))
		case afterComma || cur == nil:
			if len(out) == limit {
				s.cut = true
				return out
			}
			out = append(out, Challenge{Scheme: word})
			cur = &out[len(out)-1]
			if s.pos > mark {
				cur.Token68 = s.token68()
			}
		case len(cur.Params) > 0 && !cur.Params[len(cur.Params)-1].Quoted:
			cur.Params[len(cur.Params)-1].Value += " " + word
			cur.note("an unquoted value with spaces")
		default:
			cur.note("a word where a parameter belongs")
		}
		afterComma = false
	}
}

func (c *Challenge) note(fault string) {
	if c == nil {
		return
	}
	for _, f := range c.Faults {
		if f == fault {
			return
		}
	}
	c.Faults = append(c.Faults, fault)
}

// value reads what follows the = of a parameter.
func (s *challengeScanner) value(name string, c *Challenge) Param {
	s.skip(" \t")
	p := Param{Name: name}
	switch s.peek() {
	case '"':
		p.Quoted = true
		p.Value = s.quoted('"', c)
	case '\'':
		p.Quoted = true
		c.note("single quotes")
		p.Value = s.quoted('\'', c)
	default:
		start := s.pos
		for s.pos < len(s.in) && !strings.ContainsRune(" \t,", rune(s.in[s.pos])) {
			s.pos++
		}
		p.Value = s.in[start:s.pos]
		for i := 0; i < len(p.Value); i++ {
			if !isTokenChar(p.Value[i]) {
				c.note("an unquoted value that needs quotes")
				break
			}
		}
	}
	return p
}

func (s *challengeScanner) quoted(quote byte, c *Challenge) string {
	var b strings.Builder
	for s.pos++; s.pos < len(s.in); s.pos++ {
		ch := s.in[s.pos]
		if ch == quote {
			s.pos++
			return b.String()
		}
		if ch == '\\' && s.pos+1 < len(s.in) {
			s.pos++
			ch = s.in[s.pos]
		}
		b.WriteByte(ch)
	}
	c.note("an unterminated quote")
	return b.String()
}

// token68 reads a blob such as Negotiate sends, or nothing when what follows
// the scheme are parameters. "name=" with nothing after it is a parameter.
func (s *challengeScanner) token68() string {
	end := s.pos
	for end < len(s.in) && (isUnreserved(s.in[end]) || s.in[end] == '+' || s.in[end] == '/') {
		end++
	}
	body := end
	for end < len(s.in) && s.in[end] == '=' {
		end++
	}
	blob := s.in[s.pos:end]
	rest := strings.TrimLeft(s.in[end:], " \t")
	if blob == "" || rest != "" && rest[0] != ',' || end-body == 1 && strings.Trim(s.in[s.pos:body], "abcdefghijklmnopqrstuvwxyz_") == "" {
		return ""
	}
	if body == end && rest == "" && len(blob) < 8 {
		return "" // a lone short word is more likely a mistake than a blob
	}
	s.pos = end
	return blob
}

func (s *challengeScanner) token() string {
	start := s.pos
	for s.pos < len(s.in) && isTokenChar(s.in[s.pos]) {
		s.pos++
	}
	return s.in[start:s.pos]
}

func (s *challengeScanner) skip(set string) {
	for s.pos < len(s.in) && strings.IndexByte(set, s.in[s.pos]) >= 0 {
		s.pos++
	}
}

func (s *challengeScanner) peek() byte {
	if s.pos < len(s.in) {
		return s.in[s.pos]
	}
	return 0
}

func isTokenChar(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' ||
		strings.IndexByte("!#$%&*+-.^_`|~", c) >= 0
}
