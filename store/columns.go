package store

import (
	"fmt"
	"strings"
	"time"
)

// ms is a time as a column that is never NULL: zero time is 0.
func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// at scans a milliseconds column into t. NULL and 0 give the zero time.
func at(t *time.Time) *msColumn { return (*msColumn)(t) }

type msColumn time.Time

// Scan implements sql.Scanner.
func (c *msColumn) Scan(v any) error {
	switch x := v.(type) {
	case nil:
		*c = msColumn{}
	case int64:
		if x == 0 {
			*c = msColumn{}
		} else {
			*c = msColumn(time.UnixMilli(x))
		}
	default:
		return fmt.Errorf("a time column holds %T", v)
	}
	return nil
}

// words scans a space-separated column.
func words(w *[]string) *wordsColumn { return (*wordsColumn)(w) }

type wordsColumn []string

// Scan implements sql.Scanner.
func (c *wordsColumn) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("a words column holds %T", v)
	}
	*c = strings.Fields(s)
	return nil
}

// text scans a TEXT column into a byte slice.
func text[B ~[]byte](b *B) *textColumn[B] { return &textColumn[B]{b} }

type textColumn[B ~[]byte] struct{ b *B }

// Scan implements sql.Scanner.
func (c *textColumn[B]) Scan(v any) error {
	switch x := v.(type) {
	case string:
		*c.b = B(x)
	case []byte:
		*c.b = append(B(nil), x...)
	default:
		return fmt.Errorf("a text column holds %T", v)
	}
	return nil
}
