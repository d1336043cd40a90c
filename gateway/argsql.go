package gateway

import (
	"regexp"
	"strings"
)

var (
	sqlReads   = regexp.MustCompile(`^(?:select|with|explain|show|values|table|describe|desc|pragma)\b`)
	sqlControl = regexp.MustCompile(`^(?:begin|commit|rollback|savepoint|release|abort|end|start\s+transaction|set|reset|discard|prepare)\b`)
	sqlWrites  = regexp.MustCompile(`\b(?:insert\s+into|update\s+(?:only\s+)?\S+(?:\s+(?:as\s+)?\w+)?\s+set|delete\s+from|merge\s+into|create\s+(?:table|materialized|temp)|into\s+(?:outfile|dumpfile))\b|\b(?:lo_import|lo_export|lo_put|lo_from_bytea|pg_read_file|pg_read_binary_file|pg_ls_dir|pg_stat_file|pg_terminate_backend|pg_reload_conf|dblink\w*|load_extension|load_file|set_config|xp_cmdshell)\s*\(|^pragma\b.*=`)
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
	case !sqlReads.MatchString(start), sqlWrites.MatchString(start):
		return "writes"
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
			if c == '`' { // a name to some dialects, code to others
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

var dollarQuote = regexp.MustCompile(`^\$(?:[A-Za-z_]\w*)?\$`)

// arrow tells whether the # at i is part of an operator of PostgreSQL; on one
// line only, for elsewhere it begins a comment.
func arrow(v string, i int) bool {
	return i+1 < len(v) && (v[i+1] == '>' || v[i+1] == '-') && !strings.ContainsAny(v, "\n\r")
}
