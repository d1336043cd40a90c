package report

// Location is the place in a repository that names the audited server.
type Location struct {
	File string // path relative to the repository's root, with forward slashes
	Line int    // from 1
}
