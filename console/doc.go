// Package console is the gateway's face to people: pages for administrators, who
// see and decide, and for users, who see what acts in their name and end it.
//
// The idea is plain pages. Each is made on the server from one template, works
// without a script, with a keyboard, a screen reader and a phone, and shows
// strangers' words (names of clients and tools, entries of the audit log) only
// through html/template's escaping under a content policy that runs no script but
// ours. What changes something is a form that only the person's own page can have
// sent. htmx, where the build brought it, adds one thing: the overview renews
// itself.
//
// What narrows access (deny, revoke, reject, disable) takes one click, because it
// is done in a hurry. What widens it (admit, approve, make an administrator) asks
// for a login that is not older than a quarter of an hour. Both are in the audit
// log with the name of who did it.
//
// Lists are paged by key over an index, and a search looks at a bounded number of
// rows before it shows what it has and offers to look on, so that every page
// costs about the same with a hundred clients and a hundred thousand.
package console
