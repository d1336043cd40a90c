package toolscan

// position says what role a text plays in a definition: the same words weigh
// differently in a description and in an example value.
type position uint8

const (
	posName position = iota
	posTitle
	posDescription
	posParamName
	posParamText
	posValue // enum, default, const, examples
	posMeta  // annotations, _meta and unknown members
	posContent
)

// segment is one text of an item: a span of scratch.text.
type segment struct {
	start, end int32
	pos        position
	node       int32 // path node
}

// pathNode is one step of a JSON pointer; the text is only built for findings.
type pathNode struct {
	parent     int32
	start, end int32 // key in scratch.keys; end<0: array index in start
}

// walker reads one JSON value and collects its texts. It accepts everything
// encoding/json accepts and stops quietly where the bytes stop being JSON: the
// strict reading of messages is package wire's; here nothing may hide behind an
// error, so what was read up to the fault is scanned.
type walker struct {
	in    []byte
	i     int
	s     *scratch
	depth int
	bad   bool
}

// scratch is the reusable memory of one scan.
type scratch struct {
	text  []byte // decoded texts, one after the other
	keys  []byte
	segs  []segment
	nodes []pathNode

	params   []param
	refs     []ref
	depth    int  // deepest schema nesting seen
	overflow bool // a bound was hit
	broken   bool // not JSON to the end

	norm      []byte  // normalised text of the item, lines separated by \n
	off       []int32 // offset in text of every byte of norm
	lines     []line
	hardLines bool // every line break ends a sentence

	feat  features
	words []token // of the sentence that is read
	open  []int32 // rules that may match the item

	anchors []anchorSet // literal sets of every line

	readOnly, destructive, openWorld int8 // annotation hints: -1 absent, 0 false, 1 true
}

// param is a declared parameter of a tool.
type param struct {
	name     string
	path     int32
	desc     int32 // segment of its description, -1 without
	typ      string
	required bool
	depth    int
}

// ref is a $ref of a schema.
type ref struct {
	value string
	path  int32
}

func (s *scratch) reset() {
	s.text, s.keys, s.segs, s.nodes = s.text[:0], s.keys[:0], s.segs[:0], s.nodes[:0]
	s.params, s.refs = s.params[:0], s.refs[:0]
	s.norm, s.off, s.lines = s.norm[:0], s.off[:0], s.lines[:0]
	s.hardLines = false
	s.depth, s.overflow, s.broken = 0, false, false
	s.readOnly, s.destructive, s.openWorld = -1, -1, -1
}

// context is what the walker knows about where it is.
type context uint8

const (
	ctxTop        context = iota // members of the definition itself
	ctxSchema                    // a JSON Schema
	ctxProperties                // the members are parameters
	ctxValue                     // enum, default, examples
	ctxMeta                      // annotations, _meta, unknown
	ctxContent                   // a result: everything is content
)

func (s *scratch) walk(raw []byte, top context) {
	if len(raw) > maxItemBytes {
		raw, s.overflow = raw[:maxItemBytes], true
	}
	w := walker{in: raw, s: s}
	w.value(top, -1, position(posMeta), -1)
	w.space()
	if w.bad || w.i < len(w.in) {
		s.broken = true
	}
}

func (w *walker) space() {
	for w.i < len(w.in) {
		switch w.in[w.i] {
		case ' ', '\t', '\n', '\r':
			w.i++
		default:
			return
		}
	}
}

// value reads one JSON value. pos is the role of a string found here, owner the
// parameter it belongs to (-1 for none).
func (w *walker) value(ctx context, node int32, pos position, owner int) {
	w.space()
	if w.i >= len(w.in) {
		w.bad = true
		return
	}
	switch w.in[w.i] {
	case '{':
		w.object(ctx, node, owner)
	case '[':
		w.array(ctx, node, pos, owner)
	case '"':
		start := len(w.s.text)
		w.s.text = w.str(w.s.text)
		w.emit(start, pos, node, owner, ctx)
	default:
		w.scalar()
	}
}

func (w *walker) scalar() string {
	start := w.i
	for w.i < len(w.in) {
		switch c := w.in[w.i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c == '-', c == '+', c == '.', c == 'E':
			w.i++
			continue
		}
		break
	}
	if w.i == start {
		w.bad = true
		w.i = len(w.in)
	}
	return string(w.in[start:w.i])
}

func (w *walker) emit(start int, pos position, node int32, owner int, ctx context) {
	if ctx == ctxContent {
		pos = posContent
	}
	if len(w.s.segs) >= maxSegments {
		w.s.overflow = true
		w.s.text = w.s.text[:start]
		return
	}
	if len(w.s.text) == start {
		return
	}
	if owner >= 0 && pos == posParamText && w.s.params[owner].desc < 0 {
		w.s.params[owner].desc = int32(len(w.s.segs))
	}
	w.s.segs = append(w.s.segs, segment{int32(start), int32(len(w.s.text)), pos, node})
}

func (w *walker) array(ctx context, node int32, pos position, owner int) {
	w.i++
	if !w.enter() {
		return
	}
	defer func() { w.depth-- }()
	for n := int32(0); ; n++ {
		w.space()
		if w.i >= len(w.in) {
			w.bad = true
			return
		}
		if w.in[w.i] == ']' {
			w.i++
			return
		}
		w.value(ctx, w.child(node, n, -1), pos, owner)
		w.space()
		if w.i < len(w.in) && w.in[w.i] == ',' {
			w.i++
			continue
		}
		if w.i >= len(w.in) || w.in[w.i] != ']' || w.bad {
			w.bad, w.i = true, len(w.in)
			return
		}
	}
}

func (w *walker) enter() bool {
	w.depth++
	w.s.depth = max(w.s.depth, w.depth)
	if w.depth > maxDepth {
		w.s.overflow, w.bad = true, true
		w.i = len(w.in)
		w.depth--
		return false
	}
	return true
}

func (w *walker) child(parent, start, end int32) int32 {
	if len(w.s.nodes) > 4*maxSegments {
		w.s.overflow = true
		return parent
	}
	w.s.nodes = append(w.s.nodes, pathNode{parent, start, end})
	return int32(len(w.s.nodes) - 1)
}

func (w *walker) object(ctx context, node int32, owner int) {
	w.i++
	if !w.enter() {
		return
	}
	defer func() { w.depth-- }()
	first := len(w.s.params) // parameters declared inside this object
	for {
		w.space()
		if w.i >= len(w.in) {
			w.bad = true
			return
		}
		if w.in[w.i] == '}' {
			w.i++
			return
		}
		if w.in[w.i] != '"' {
			w.bad, w.i = true, len(w.in)
			return
		}
		ks := int32(len(w.s.keys))
		w.s.keys = w.str(w.s.keys)
		key := w.s.keys[ks:]
		w.space()
		if w.i >= len(w.in) || w.in[w.i] != ':' {
			w.bad, w.i = true, len(w.in)
			return
		}
		w.i++
		child := w.child(node, ks, int32(len(w.s.keys)))
		w.member(ctx, key, child, owner, first)
		w.space()
		if w.i < len(w.in) && w.in[w.i] == ',' {
			w.i++
			continue
		}
		if w.i >= len(w.in) || w.in[w.i] != '}' || w.bad {
			w.bad, w.i = true, len(w.in)
			return
		}
	}
}

// member decides what a member means where it stands.
func (w *walker) member(ctx context, key []byte, node int32, owner, first int) {
	switch ctx {
	case ctxTop:
		switch string(key) {
		case "name":
			w.value(ctxMeta, node, posName, -1)
		case "title":
			w.value(ctxMeta, node, posTitle, -1)
		case "description", "instructions":
			w.value(ctxMeta, node, posDescription, -1)
		case "inputSchema", "outputSchema":
			w.value(ctxSchema, node, posParamText, -1)
		case "arguments": // of a prompt: an array of {name, description}
			w.value(ctxTop, node, posParamText, -1)
		case "annotations":
			w.value(ctxMeta, node, posMeta, -1)
		case "uri", "uriTemplate", "mimeType", "$schema":
			w.value(ctxMeta, node, posValue, -1)
		default:
			w.key(key, node)
			w.value(ctxMeta, node, posMeta, -1)
		}
	case ctxSchema:
		w.schemaMember(key, node, owner, first)
	case ctxProperties:
		w.key(key, node)
		if len(w.s.params) < maxSegments {
			w.s.params = append(w.s.params, param{name: string(key), path: node, desc: -1, depth: w.depth})
			w.value(ctxSchema, node, posParamText, len(w.s.params)-1)
			return
		}
		w.s.overflow = true
		w.value(ctxSchema, node, posParamText, -1)
	case ctxContent:
		w.value(ctxContent, node, posContent, -1)
	default:
		w.hint(key)
		w.key(key, node)
		w.value(ctx, node, posOf(ctx), owner)
	}
}

func posOf(ctx context) position {
	if ctx == ctxValue {
		return posValue
	}
	return posMeta
}

// hint notes the annotations a label may contradict.
func (w *walker) hint(key []byte) {
	var at *int8
	switch string(key) {
	case "readOnlyHint":
		at = &w.s.readOnly
	case "destructiveHint":
		at = &w.s.destructive
	case "openWorldHint":
		at = &w.s.openWorld
	default:
		return
	}
	w.space()
	rest := w.in[w.i:]
	switch {
	case len(rest) > 3 && string(rest[:4]) == "true":
		*at = 1
	case len(rest) > 4 && string(rest[:5]) == "false":
		*at = 0
	}
}

func (w *walker) schemaMember(key []byte, node int32, owner, first int) {
	switch string(key) {
	case "properties", "patternProperties", "$defs", "definitions":
		w.value(ctxProperties, node, posParamText, owner)
	case "description", "title", "$comment":
		w.value(ctxSchema, node, posParamText, owner)
	case "enum", "const", "default", "examples", "example", "pattern":
		w.value(ctxValue, node, posValue, owner)
	case "required":
		at := len(w.s.segs)
		text := len(w.s.text)
		w.value(ctxValue, node, posValue, -1)
		w.required(at, first)
		w.s.segs, w.s.text = w.s.segs[:min(at, len(w.s.segs))], w.s.text[:text]
	case "type", "format", "$schema", "$id", "id":
		at, text := len(w.s.segs), len(w.s.text)
		w.value(ctxValue, node, posValue, -1)
		if len(w.s.text) == text { // an object or a number: nothing to keep
			return
		}
		if owner >= 0 && string(key) == "type" && len(w.s.segs) == at+1 {
			w.s.params[owner].typ = string(w.s.text[text:])
		}
		// A type longer than any JSON Schema knows is not a type.
		if k := string(key); k == "$schema" || k == "$id" || k == "id" || len(w.s.text)-text <= 40 {
			w.s.segs, w.s.text = w.s.segs[:min(at, len(w.s.segs))], w.s.text[:text]
		}
	case "$ref", "$dynamicRef":
		at, text := len(w.s.segs), len(w.s.text)
		w.value(ctxValue, node, posValue, -1)
		if len(w.s.segs) == at+1 && len(w.s.refs) < 1000 {
			w.s.refs = append(w.s.refs, ref{string(w.s.text[text:]), node})
		}
	case "items", "additionalProperties", "anyOf", "oneOf", "allOf", "not", "prefixItems",
		"contains", "if", "then", "else", "propertyNames", "additionalItems":
		w.value(ctxSchema, node, posParamText, owner)
	default:
		w.key(key, node)
		w.value(ctxMeta, node, posMeta, owner)
	}
}

// required marks the parameters a schema names as required, among those its
// bytes declared before (every generator writes properties first).
func (w *walker) required(at, first int) {
	for i := at; i < len(w.s.segs); i++ {
		name := string(w.s.text[w.s.segs[i].start:w.s.segs[i].end])
		for j := first; j < len(w.s.params); j++ {
			if w.s.params[j].name == name {
				w.s.params[j].required = true
				break
			}
		}
		if i-at > 200 {
			return
		}
	}
}

// key emits a member name as a text of its own.
func (w *walker) key(key []byte, node int32) {
	start := len(w.s.text)
	w.s.text = append(w.s.text, key...)
	w.emit(start, posParamName, node, -1, ctxMeta)
}
