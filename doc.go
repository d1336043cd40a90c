// Package kidoban is the vocabulary of the house: the words that both halves,
// the audit and the gateway, use for the same things. It does no I/O and
// imports the standard library only, so that every other package may import it.
//
// The names are those of the RFCs (6749, 7591, 8414, 9728 …) and of the Model
// Context Protocol specification. The ids of the flaw catalogue (F1 … E37) and
// their variants are stable: reports, docs, suppressions and test names use them.
package kidoban

// Version is the program's version as it stands in reports and in the User-Agent.
const Version = "0.1.0"
