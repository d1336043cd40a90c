package gateway

import (
	"bytes"

	"github.com/kidoban/kidoban/wire"
)

// plainSchema is an input schema of the form that most tools have: an object whose
// members each have one plain type and no other condition. Arguments are held to it
// as they are read, without being decoded. It only ever says that there is nothing
// to object to; whenever it cannot tell, the whole schema and the guards are asked.
type plainSchema struct {
	members  map[string]plainMember
	required uint64 // bits of members
}

type plainMember struct {
	kind string // its type
	bit  uint64 // among the required ones, 0: may be missing
	text bool   // no guard looks at it, whatever it says
}

// What may stand beside in a schema without a condition in it.
var plainWords = map[string]bool{"$schema": true, "$comment": true, "title": true, "description": true, "default": true, "examples": true}

// plainOf returns nil for a schema of any other form.
func plainOf(doc any) *plainSchema {
	s, _ := doc.(map[string]any)
	if s["type"] != "object" {
		return nil
	}
	for word, v := range s {
		switch word {
		case "type", "properties", "required":
		case "additionalProperties":
			if _, plain := v.(bool); !plain {
				return nil
			}
		default:
			if !plainWords[word] {
				return nil
			}
		}
	}
	props, _ := s["properties"].(map[string]any)
	p := &plainSchema{members: make(map[string]plainMember, len(props))}
	for name, v := range props {
		m, ok := plainMemberOf(v)
		if !ok {
			return nil
		}
		m.text = textName(name)
		p.members[name] = m
	}
	required, _ := s["required"].([]any)
	for i, v := range required {
		name, _ := v.(string)
		m, declared := p.members[name]
		if !declared || i >= 64 {
			return nil
		}
		m.bit = 1 << i
		p.members[name] = m
		p.required |= m.bit
	}
	return p
}

func plainMemberOf(schema any) (m plainMember, ok bool) {
	s, _ := schema.(map[string]any)
	for word := range s {
		if word != "type" && !plainWords[word] {
			return m, false
		}
	}
	m.kind, _ = s["type"].(string)
	switch m.kind {
	case "string", "boolean", "number", "integer":
		return m, true
	}
	return m, false
}

// passes tells that args, which were read strictly, fit the schema and hold nothing
// that a guard would look at.
func (p *plainSchema) passes(rules ArgumentRules, args wire.Raw) bool {
	if p == nil || len(rules.Kinds) > 0 || len(rules.OnlyHosts) > 0 {
		return false
	}
	fits, seen := true, uint64(0)
	object := wire.Each(args, func(name, value wire.Raw) bool {
		m, declared := p.members[string(name[1:len(name)-1])]
		seen |= m.bit
		fits = declared && m.fits(value) && bytes.IndexByte(name, '\\') < 0 // escapes may spell another name
		return fits
	})
	return object && fits && seen == p.required
}

func (m plainMember) fits(value wire.Raw) bool {
	number := value[0] == '-' || value[0] >= '0' && value[0] <= '9'
	switch m.kind {
	case "string":
		return value[0] == '"' && m.text
	case "boolean":
		return value[0] == 't' || value[0] == 'f'
	case "number":
		return number && !heavyNumber(value)
	}
	return number && len(value) <= maxDigits && !bytes.ContainsAny(value, ".eE") // 1.0 is an integer, too; the validator knows
}
