package main

import (
	"reflect"
	"strings"
)

// gatewaySchema derives the JSON Schema (2020-12) of the config from its type,
// so that the two cannot differ.
func gatewaySchema() map[string]any {
	s := schemaOf(reflect.TypeFor[gatewayConfig](), "")
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = "https://github.com/kidoban/kidoban/docs/gateway.schema.json"
	s["title"] = "Kidoban gateway"
	return s
}

func schemaOf(t reflect.Type, enum string) map[string]any {
	switch {
	case t == reflect.TypeFor[span]():
		return map[string]any{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem(), enum)
	}
	switch t.Kind() {
	case reflect.Struct:
		props := map[string]any{}
		for i := range t.NumField() {
			f := t.Field(i)
			p := schemaOf(f.Type, f.Tag.Get("enum"))
			if doc := f.Tag.Get("doc"); doc != "" {
				p["description"] = doc
			}
			props[f.Tag.Get("yaml")] = p
		}
		return map[string]any{"type": "object", "properties": props, "additionalProperties": false}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem(), "")}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), "")}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		s := map[string]any{"type": "string"}
		if enum != "" {
			s["enum"] = strings.Split(enum, ",")
		}
		return s
	}
	return map[string]any{"type": "integer", "minimum": 0}
}
