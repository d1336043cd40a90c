// Package toolscan reads what Model Context Protocol servers offer (tools,
// prompts, resources, instructions) and what they return, and says what in it
// is an attack on the model or on the user.
//
// The idea: an attack has a reason, and the reason shows in a sentence. A
// definition describes its own tool; an attack speaks to the model about
// something else: other tools, files, secrets, the conversation, what the user
// may know. So text is cut into sentences, an Aho-Corasick pass says which
// literals a sentence holds, only rules whose gate (anchor.go) they open run,
// and a rule's regular expression (RE2, linear) gives the position. Rules are
// written over concepts (lexicon.go), so that they learn synonyms together.
// Rules are hard (enough alone) or soft (counted once per independent family);
// position, quoting and counter-evidence discount them (decide.go). A small
// linear model trained offline (model.go) adds one more soft signal.
//
// What is not in the sentences is looked for where it is: hidden characters
// (hidden.go), encoded payloads (decode.go), parameter names (param.go),
// schemas (schema.go), other servers (cross.go), older versions (drift.go).
//
// Everything is total and bounded: any bytes give an answer, in time linear in
// their number, and nothing here does I/O or starts a process.
package toolscan
