package gateway

import (
	"regexp"
	"slices"
	"strings"
)

var (
	sqlReads   = regexp.MustCompile(`^(?:select|with|explain|show|values|table|describe|desc|pragma)\b`)
	sqlShows   = regexp.MustCompile(`^show\b`) // show create table t
	sqlControl = regexp.MustCompile(`^(?:begin|commit|rollback|savepoint|release|abort|end|start\s+transaction|set|reset|discard|prepare)\b`)
	// into stands unquoted only where something is written: insert, merge, and
	// select into a table, a file or a variable.
	sqlWrites = regexp.MustCompile(`\b(?:into|update\s+(?:only\s+)?\S+(?:\s+(?:as\s+)?\w+)?\s+set|delete\s+from|create\s+(?:table|materialized|temp))\b`)
	// Functions that write, or reach files, processes and other servers; a name may
	// stand in quotes.
	sqlDeeds = regexp.MustCompile("\\b(?:lo_(?:import|export|put|from_bytea|creat|create|unlink|open|truncate\\w*)|lowrite|setval|nextval|set_config|dblink\\w*|" +
		"pg_(?:read_\\w+|ls_\\w+|stat_file|file_\\w+|terminate_backend|cancel_backend|reload_conf|rotate_logfile|notify|promote|switch_wal|create_\\w+|drop_\\w+|advisory_\\w+|logical_emit_message)|" +
		"load_extension|load_file|readfile|writefile|fts3_tokenizer|xp_cmdshell|openrowset|opendatasource|openquery|(?:utl|dbms)_\\w+\\s*\\.\\s*\\w+)[\"`\\]]?\\s*\\(")
	// A pragma of SQLite reads, unless it is given a value; some do something by name.
	pragmaSets  = regexp.MustCompile(`^pragma\b(?:.*=|\s+(?:\w+\.)?(?:incremental_vacuum|optimize|wal_checkpoint)\b)`)
	pragmaCalls = regexp.MustCompile(`^pragma\s+(?:\w+\.)?(\w+)\s*\(`)
	pragmaReads = []string{"table_info", "table_xinfo", "index_list", "index_info", "index_xinfo", "foreign_key_list", "foreign_key_check", "integrity_check", "quick_check"}
)

// badSQL says why a statement is refused; "" when it is one plain statement. The
// text is read as no dialect in particular: where dialects would read it
// differently (comments, backslashes before quotes, dollar quotes) it is refused,
// for that is where a check and a server part ways.
func badSQL(v string, readOnly bool) string {
	if len(v) > 1<<20 {
		return "too_long"
	}
	code, why := sqlCode(v)
	if why != "" {
		return why
	}
	code = strings.TrimSpace(strings.ToLower(code))
	code = strings.TrimRight(code, "; \t\r\n")
	if strings.Contains(code, ";") {
		return "stacked"
	}
	if !readOnly {
		return ""
	}
	switch start := strings.TrimLeft(code, "( \t\r\n"); {
	case start == "":
		return ""
	case sqlControl.MatchString(start):
		return "transaction"
	case !sqlReads.MatchString(start), sqlWrites.MatchString(start) && !sqlShows.MatchString(start), sqlDeeds.MatchString(start), pragmaSets.MatchString(start):
		return "writes"
	default:
		if m := pragmaCalls.FindStringSubmatch(start); m != nil && !slices.Contains(pragmaReads, m[1]) {
			return "writes"
		}
	}
	return ""
}

// sqlCode returns the text with what stands in quotes left out.
func sqlCode(v string) (code, why string) {
	var b strings.Builder
	for i := 0; i < len(v); {
		c := v[i]
		switch {
		case c == 0:
			return "", "characters"
		case strings.HasPrefix(v[i:], "--"), strings.HasPrefix(v[i:], "/*"), c == '#' && !arrow(v, i):
			return "", "comment"
		case (c == 'u' || c == 'U') && i+2 < len(v) && v[i+1] == '&' && (v[i+2] == '"' || v[i+2] == '\''):
			return "", "escapes" // names and texts in code points
		case c == '$' && dollarQuote.MatchString(v[i:]):
			return "", "dollar_quote"
		case c == '\'' || c == '"' || c == '`':
			end := i + 1
			for {
				k := strings.IndexByte(v[end:], c)
				if k < 0 {
					return "", "open_quote"
				}
				if strings.HasSuffix(v[i:end+k], `\`) {
					return "", "backslash"
				}
				end += k + 1
				if end >= len(v) || v[end] != c { // a doubled quote goes on
					break
				}
				end++
			}
			if c == '`' || c == '"' && calls(v[end:]) { // a name to some dialects, code to others
				b.WriteString(v[i:end])
			} else {
				b.WriteByte(c)
				b.WriteByte(c)
			}
			i = end
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), ""
}

// calls tells whether what stands before rest is called: "name" (…).
func calls(rest string) bool { return strings.HasPrefix(strings.TrimLeft(rest, " \t\r\n"), "(") }

var dollarQuote = regexp.MustCompile(`^\$(?:[A-Za-z_]\w*)?\$`)

// arrow tells whether the # at i is part of an operator of PostgreSQL; on one
// line only, for elsewhere it begins a comment.
func arrow(v string, i int) bool {
	return i+1 < len(v) && (v[i+1] == '>' || v[i+1] == '-') && !strings.ContainsAny(v, "\n\r")
}
