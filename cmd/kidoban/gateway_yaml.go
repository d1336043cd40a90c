package main

import (
	"bytes"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// decodeYAML reads a config strictly. The library takes [mcp:read, mcp:write] for
// a list of two maps, although YAML 1.2 (7.3.3) makes a colon without a space part
// of the word; such words are put together before anything is decoded.
func decodeYAML(raw []byte, into any) error {
	strict := []yaml.DecodeOption{yaml.Strict(), yaml.DisallowUnknownField()}
	file, err := parser.ParseBytes(raw, 0)
	if err != nil || len(file.Docs) != 1 {
		return yaml.NewDecoder(bytes.NewReader(raw), strict...).Decode(into)
	}
	var words flowWords
	ast.Walk(&words, file.Docs[0])
	if words == 0 { // the usual case: the decoder's own way
		return yaml.NewDecoder(bytes.NewReader(raw), strict...).Decode(into)
	}
	return yaml.NodeToValue(file.Docs[0].Body, into, strict...)
}

// isText tells whether a file can be shown to a person: UTF-8 without control
// characters, which a terminal might obey.
func isText(raw []byte) bool {
	return utf8.Valid(raw) && !bytes.ContainsFunc(raw, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\n\r", r) })
}

// clipLines cuts each line to so many characters.
func clipLines(text string, most int) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if r := []rune(l); len(r) > most {
			lines[i] = string(r[:most-1]) + "…"
		}
	}
	return strings.Join(lines, "\n")
}

// yamlFault says what is wrong in words of YAML: the library speaks of Go's types.
func yamlFault(err yaml.Error) string {
	switch e := err.(type) {
	case *yaml.TypeError:
		return speakOf(e.DstType) + ", not " + aKind(e.SrcType)
	case *yaml.UnexpectedNodeTypeError:
		switch e.Expected {
		case ast.MappingType:
			return "members belong here, each as name: value"
		case ast.SequenceType:
			return "a list belongs here, in brackets or with - before each entry"
		}
	}
	text := err.GetMessage()
	if strings.Contains(text, "found character '\t'") || strings.Contains(text, "found a tab character") {
		return "a tab stands where YAML takes only spaces"
	}
	return text + meant(text)
}

// speakOf says what belongs into a value of a type.
func speakOf(t reflect.Type) string {
	if a := aKind(t); a != "members" {
		return a + " belongs here"
	}
	return "members belong here, each as name: value"
}

// aKind is what YAML calls a value of Go's type.
func aKind(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch k := t.Kind(); {
	case k == reflect.String:
		return "a text"
	case k == reflect.Bool:
		return "true or false"
	case k == reflect.Slice || k == reflect.Array:
		return "a list"
	case k == reflect.Map || k == reflect.Struct:
		return "members"
	case k >= reflect.Int && k <= reflect.Uint64:
		return "a whole number"
	}
	return "a number"
}

// meant names the member that a misspelt one may have been meant for.
func meant(message string) string {
	word, ok := strings.CutPrefix(message, `unknown field "`)
	word = strings.TrimSuffix(word, `"`)
	if !ok || len(word) > 40 {
		return ""
	}
	best := nearest(word, membersOf(reflect.TypeFor[gatewayConfig](), nil))
	if best == "" {
		return "; docs/config.md lists what there is"
	}
	return "; did you mean " + best + "?"
}

// nearest is the name that word may have been meant for, "" when none is near.
func nearest(word string, names []string) string {
	best, within := "", len(word)/3+1
	if len(word) > 40 {
		return ""
	}
	for _, name := range names {
		if n := apart(word, name); n < within {
			best, within = name, n
		}
	}
	return best
}

// membersOf are the names of the members of a config and of all that is in it.
func membersOf(t reflect.Type, out []string) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return out
	}
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			out = membersOf(t.Field(i).Type, append(out, name))
		}
	}
	return out
}

// apart is how many letters have to be put in, left out or changed to make b of a.
func apart(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			here := before
			if a[i] != b[j] {
				here++
			}
			before, row[j+1] = row[j+1], min(here, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// flowWords puts the words of flow lists together and counts them.
type flowWords int

// Visit implements ast.Visitor.
func (n *flowWords) Visit(node ast.Node) ast.Visitor {
	list, ok := node.(*ast.SequenceNode)
	if !ok || !list.IsFlowStyle {
		return n
	}
	for i, item := range list.Values {
		if text, ok := flowWord(item); ok {
			list.Values[i] = ast.String(token.New(text, text, item.GetToken().Position))
			*n++
		}
	}
	return n
}

// flowWord is the text of a node that is one word with a colon in it.
func flowWord(node ast.Node) (string, bool) {
	if m, ok := node.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) == 1 {
		node = m.Values[0]
	}
	pair, ok := node.(*ast.MappingValueNode)
	if !ok || pair.Start == nil || pair.Value == nil || pair.Value.GetToken() == nil || pair.Value.GetToken().Position.Offset != pair.Start.Position.Offset+1 {
		return "", false
	}
	key, ok := pair.Key.(*ast.StringNode)
	if !ok || key.Token.Type != token.StringType {
		return "", false
	}
	rest, ok := flowWord(pair.Value)
	if !ok {
		value, plain := pair.Value.(ast.ScalarNode)
		if !plain || value.GetToken().Type == token.SingleQuoteType || value.GetToken().Type == token.DoubleQuoteType {
			return "", false
		}
		rest = value.GetToken().Value
	}
	return key.Value + ":" + rest, true
}
