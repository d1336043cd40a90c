package gateway

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Words at the end of a parameter's name that tell what it holds.
var kindWords = map[string]ArgKind{
	"path": ArgPath, "paths": ArgPath, "file": ArgPath, "files": ArgPath, "filename": ArgPath, "filenames": ArgPath, "filepath": ArgPath,
	"dir": ArgPath, "directory": ArgPath, "directories": ArgPath, "folder": ArgPath, "cwd": ArgPath, "dirname": ArgPath,
	"url": ArgURL, "urls": ArgURL, "uri": ArgURL, "href": ArgURL, "webhook": ArgURL, "endpoint": ArgURL,
	"command": ArgCommand, "cmd": ArgCommand, "shell": ArgCommand, "commandline": ArgCommand,
	"sql": ArgSQL, "template": ArgTemplate, "templates": ArgTemplate, "tmpl": ArgTemplate,
	"id": ArgToken, "ids": ArgToken, "key": ArgToken, "ref": ArgToken, "branch": ArgToken, "commit": ArgToken, "host": ArgToken, "hostname": ArgToken,
	"domain": ArgToken, "ip": ArgToken, "port": ArgToken, "repo": ArgToken, "repository": ArgToken, "package": ArgToken, "username": ArgToken,
}

// Words that tell it only together with the value.
var vagueWords = map[string]ArgKind{
	"query": ArgSQL, "statement": ArgSQL, "queries": ArgSQL,
	"source": ArgPath, "destination": ArgPath, "src": ArgPath, "dst": ArgPath, "dest": ArgPath, "target": ArgPath, "output": ArgPath, "input": ArgPath, "root": ArgPath,
}

// Formats of JSON Schema, and some that servers use without a standard.
var kindFormats = map[string]ArgKind{
	"uri": ArgURL, "url": ArgURL, "iri": ArgURL, "uri-reference": ArgURL, "path": ArgPath, "file-path": ArgPath, "directory-path": ArgPath,
	"sql": ArgSQL, "shell": ArgCommand, "command": ArgCommand,
}

var sqlStart = regexp.MustCompile(`(?i)^[\s(;]*(?:select|with|insert|update|delete|create|drop|alter|truncate|explain|begin|commit|rollback|copy|grant|call|do|set|show|pragma|attach|merge|replace)\b`)

// kindOf says what a string argument means: by config, by the schema's format, by
// the parameter's name, by the value where names are vague.
func kindOf(rules ArgumentRules, c *Call, name string, schema map[string]any, value string) ArgKind {
	if k := rules.Kinds[c.Params.Name+"."+name]; k != "" {
		return k
	}
	if k := rules.Kinds[name]; k != "" {
		return k
	}
	if format, _ := schema["format"].(string); kindFormats[format] != "" {
		return kindFormats[format]
	}
	last := lastWord(name)
	if k := kindWords[last]; k != "" {
		return k
	}
	switch vagueWords[last] {
	case ArgSQL:
		if sqlStart.MatchString(value) {
			return ArgSQL
		}
	case ArgPath:
		if filepath.IsAbs(value) || strings.Contains(value, "..") || strings.HasPrefix(value, "file:") {
			return ArgPath
		}
	}
	return ArgText
}

// textName tells that a parameter of this name is plain text whatever its value is,
// where neither config nor schema say more.
func textName(name string) bool {
	last := lastWord(name)
	return kindWords[last] == "" && vagueWords[last] == ""
}

func lastWord(name string) string {
	words := wordsOf(name)
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

// wordsOf cuts file_path, filePath and FILE-PATH into their words.
func wordsOf(name string) []string {
	var out []string
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			out = append(out, strings.ToLower(b.String()))
			b.Reset()
		}
	}
	lower := false
	for _, r := range name {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			flush()
			lower = false
			continue
		case unicode.IsUpper(r) && lower:
			flush()
		}
		lower = unicode.IsLower(r)
		b.WriteRune(r)
	}
	flush()
	return out
}

// roots are the directories that paths in arguments may lead into; none means
// that the server's places are not known here.
func (s *Server) roots() []string {
	if len(s.Arguments.Roots) > 0 || s.Stdio == nil {
		return s.Arguments.Roots
	}
	out := slices.Concat(s.Stdio.Read, s.Stdio.Write)
	if s.Stdio.Dir != "" {
		out = append(out, s.Stdio.Dir)
	}
	for _, a := range s.Stdio.Args {
		if filepath.IsAbs(a) {
			if i, err := os.Stat(a); err == nil && i.IsDir() {
				out = append(out, a)
			}
		}
	}
	return out
}

// dir is where the server resolves relative paths; "" when that is not known.
func (s *Server) dir() string {
	if s.Stdio == nil {
		return ""
	}
	return s.Stdio.Dir
}

// Shell characters that no plain argument of a command needs, and those that not
// even a name or key has.
const shellMeta = "`$;|&<>\n\r\x00"

func badCommand(v string) string {
	if strings.ContainsAny(v, shellMeta) {
		return "metacharacter"
	}
	return ""
}

var tokenMeta = regexp.MustCompile("`|\\$[({]|\\|\\s*\\S|&&|[<>\\n\\r\\x00]|[\"';&]\\s*[a-z./~$(]|\"")

// badToken allows the separators that keys of real services have, such as the
// "1:2;3:4" of a node in a drawing.
func badToken(v string) string {
	if tokenMeta.MatchString(v) {
		return "metacharacter"
	}
	return ""
}
