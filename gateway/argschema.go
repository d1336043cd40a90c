package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kidoban/kidoban/wire"
)

// argSchema is the compiled input schema of one tool. Servers write schemas, so
// everything is bounded: the bytes, and the number of subschemas one validation
// may visit, for a few lines of references can ask for billions of them.
type argSchema struct {
	doc      any // nil: the tool has no schema, everything fits
	names    map[string]bool
	closed   bool // names are all there are
	compiled *jsonschema.Schema
	plain    *plainSchema // nil: of no plain form

	mu    sync.Mutex // one validation at a time: it takes microseconds
	visit *visits
}

const (
	maxSchemas = 4096
	maxVisits  = 200_000
)

var errVisits = errors.New("the schema asks for too many steps")

// visits counts the subschemas that a validation visits; it is a vocabulary so
// that it is asked at each of them.
type visits struct{ left int }

// decoded reads a JSON value that was read strictly before. For messages of usual
// size there is a way with less garbage; it reads nested values once per level, so
// large ones go the other.
func decoded(raw wire.Raw) (any, error) {
	if heavyNumber(raw) {
		return nil, errHeavy
	}
	if len(raw) > 64<<10 {
		return jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	}
	return plainValue(bytes.TrimSpace(raw))
}

func plainValue(raw wire.Raw) (any, error) {
	if len(raw) == 0 {
		return nil, errNoValue
	}
	var err error
	switch raw[0] {
	case '{':
		out := map[string]any{}
		wire.Each(raw, func(name, v wire.Raw) bool {
			key, ok := wire.String(name)
			if !ok {
				err = errNoValue
				return false
			}
			out[key], err = plainValue(v)
			return err == nil
		})
		return out, err
	case '[':
		out := []any{}
		wire.Elements(raw, func(v wire.Raw) bool {
			var item any
			item, err = plainValue(v)
			out = append(out, item)
			return err == nil
		})
		return out, err
	case '"':
		text, ok := wire.String(raw)
		if !ok {
			return nil, errNoValue
		}
		return text, nil
	case 't':
		return true, nil
	case 'f':
		return false, nil
	case 'n':
		return nil, nil
	}
	return json.Number(raw), nil
}

var errNoValue = errors.New("this is no JSON value")

// Validate implements jsonschema.SchemaExt.
func (v *visits) Validate(*jsonschema.ValidatorContext, any) {
	if v.left--; v.left < 0 {
		panic(errVisits)
	}
}

// schemaCache keeps compiled schemas by the hash of the definition they stand in.
type schemaCache struct {
	mu  sync.Mutex
	all map[string]*argSchema
}

func (k *schemaCache) of(c *Call) (*argSchema, error) {
	key := c.fingerprint()
	k.mu.Lock()
	s := k.all[key]
	k.mu.Unlock()
	if s != nil {
		return s, nil
	}
	raw, _ := wire.Lookup(c.Tool, "inputSchema")
	s, err := newArgSchema(raw)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.all) >= maxSchemas {
		for old := range k.all {
			delete(k.all, old)
			break
		}
	}
	k.all[key] = s
	return s, nil
}

// noLoader refuses every reference that leads out of the schema.
type noLoader struct{}

func (noLoader) Load(string) (any, error) {
	return nil, errors.New("the schema refers to another document")
}

// anyText stands for a pattern that Go cannot compile, such as one with look-ahead:
// the server checks it itself.
type anyText string

func (anyText) MatchString(string) bool { return true }
func (p anyText) String() string        { return string(p) }

func newArgSchema(raw wire.Raw) (s *argSchema, err error) {
	s = &argSchema{visit: &visits{}}
	if len(raw) == 0 {
		return s, nil
	}
	if len(raw) > maxPinned {
		return nil, fmt.Errorf("the schema has %d bytes", len(raw))
	}
	if heavyNumber(raw) {
		return nil, errHeavy
	}
	if s.doc, err = jsonschema.UnmarshalJSON(bytes.NewReader(raw)); err != nil {
		return nil, err
	}
	defer func() { // a hostile schema must not take the gateway down
		if r := recover(); r != nil {
			err = fmt.Errorf("the schema cannot be compiled: %v", r)
		}
	}()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(func(p string) (jsonschema.Regexp, error) {
		re, err := regexp.Compile(p)
		if err != nil {
			return anyText(p), nil
		}
		return re, nil
	})
	c.RegisterVocabulary(&jsonschema.Vocabulary{URL: "https://github.com/kidoban/kidoban/visits",
		Compile: func(*jsonschema.CompilerContext, map[string]any) (jsonschema.SchemaExt, error) { return s.visit, nil }})
	c.AssertVocabs()
	const url = "urn:kidoban:input"
	if err := c.AddResource(url, s.doc); err != nil {
		return nil, err
	}
	if s.compiled, err = c.Compile(url); err != nil {
		return nil, err
	}
	s.declare()
	s.plain = plainOf(s.doc)
	return s, nil
}

// declare notes the parameters when the schema names them in plain sight.
func (s *argSchema) declare() {
	doc, _ := s.doc.(map[string]any)
	props, ok := doc["properties"].(map[string]any)
	if extra, set := doc["additionalProperties"]; set && extra != false {
		return
	}
	for _, open := range []string{"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas"} {
		if _, has := doc[open]; has {
			return
		}
	}
	if !ok {
		return
	}
	s.names, s.closed = map[string]bool{}, true
	for name := range props {
		s.names[name] = true
	}
}

// declared returns args without the members that the tool does not declare; more
// tells that there are such.
func (s *argSchema) declared(args wire.Raw) (kept wire.Raw, more bool) {
	if !s.closed {
		return args, false
	}
	kept = wire.Raw{'{'}
	wire.Each(args, func(name, value wire.Raw) bool {
		if text, _ := wire.String(name); !s.names[text] {
			more = true
			return true
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(append(append(kept, name...), ':'), value...)
		return true
	})
	return append(kept, '}'), more
}

// validate holds arguments to the schema.
func (s *argSchema) validate(args any) (err error) {
	if s.compiled == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visit.left = maxVisits
	defer func() {
		if r := recover(); r != nil {
			err = errVisits
		}
	}()
	return s.compiled.Validate(args)
}
