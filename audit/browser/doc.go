// Package browser walks through the login and consent pages of strangers as a
// person would, and keeps what it saw: the address, the headers, the text as it
// is rendered, a picture.
//
// There are two browsers behind one interface. Chromium is a real one, for pages
// that need their scripts; it runs headless, with a fresh profile for each walk,
// and reaches the network through the audit's address guard only. Forms is a
// browser without scripts on top of the audit's own HTTP client; it is fast, and
// every request of it is an exchange of the run.
//
// A Pilot decides what to press. It reads a page by what its fields declare
// (autocomplete, type, name, label) and its buttons by role, position and words in
// the common languages. It never decides whether a server is safe: it hands back
// the pages, and the audit judges.
//
// Passwords and codes live in an Account and go into fields; they never reach an
// error, a script file or a kept page. Pages are photographed before a field is
// filled.
package browser

import (
	"context"

	"github.com/kidoban/kidoban"
)

// Bounds of what is kept of one page.
const (
	MaxHTML     = 512 << 10
	MaxText     = 64 << 10
	MaxPNG      = 512 << 10
	MaxElements = 400
)

// Page is what a person sees at one moment.
type Page struct {
	URL      string
	Status   int // of the document, 0 when unknown
	Header   kidoban.Fields
	Title    string
	Text     string // as rendered, white space folded, at most MaxText bytes
	HTML     []byte // the document as it stands after its scripts ran, at most MaxHTML
	Elements []Element
	PNG      []byte // "" without a screen, or when larger than MaxPNG
	XID      int    // number of the document's exchange, 0 when unknown
	Doc      int    // number of the document in its tab; a script that changes the page keeps it
}

// Element is something that a person can fill in or press.
type Element struct {
	Index        int    `json:"i"`    // names the element to Fill and Click, until the page changes
	Kind         string `json:"kind"` // input, button, link, select, hidden
	Type         string `json:"type"` // of an input, lower case
	Name         string `json:"name"`
	ID           string `json:"id"`
	Autocomplete string `json:"auto"`
	Label        string `json:"label"` // label, placeholder or aria-label of a field; the words on a button
	Value        string `json:"value"`
	Form         int    `json:"form"` // number of its form on the page, -1 outside
	Href         string `json:"href"`
}

// Tab is one browser of one person, with cookies of its own. A Tab is used from
// one goroutine.
type Tab interface {
	// Goto opens an address and waits until the page rests. An address that the
	// policy captures is not opened.
	Goto(ctx context.Context, url string) error
	// Page returns the page as it stands.
	Page(ctx context.Context) (*Page, error)
	// Fill writes into a field.
	Fill(ctx context.Context, index int, value string) error
	// Click presses a button or link and waits until the page rests.
	Click(ctx context.Context, index int) error
	// Set gives a member of a form a value, and adds it where the form has none.
	Set(ctx context.Context, form int, name, value string) error
	// Captured is the navigation that the policy ended, "" before.
	Captured() string
	Close()
}

// Policy is what a tab may do.
type Policy struct {
	// Capture tells which navigation ends the walk: it is noted and never sent.
	Capture func(url string) bool
	// Seen gets the exchange of every main document, in order, and returns the
	// number that the run gave it. It may be nil.
	Seen func(x *kidoban.Exchange) int
	// Pictures asks for a screenshot of every page.
	Pictures bool
}

// Driver opens tabs, each with an empty profile.
type Driver interface {
	Open(ctx context.Context, p Policy) (Tab, error)
}
