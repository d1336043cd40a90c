package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// maxDepth bounds the nesting of a message.
const maxDepth = 64

// strictJSON reads one JSON value to its end and refuses a member that stands twice
// in one object, unless twice is allowed.
func strictJSON(body []byte, twice bool) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := strictValue(dec, twice, 0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the message")
	}
	return nil
}

// strictValue reads one value. Numbers and strings are checked by the decoder;
// objects are watched for members that stand twice.
func strictValue(dec *json.Decoder, twice bool, depth int) error {
	if depth > maxDepth {
		return errors.New("the message is nested too deeply")
	}
	tok, err := dec.Token()
	if err != nil {
		return errors.New("the body is not JSON")
	}
	d, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		if d == '{' {
			name, err := dec.Token()
			if err != nil {
				return errors.New("the body is not JSON")
			}
			s, _ := name.(string)
			if seen[s] && !twice {
				return errors.New("a member stands twice in one object")
			}
			seen[s] = true
		}
		if err := strictValue(dec, twice, depth+1); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return errors.New("the body is not JSON")
	}
	return nil
}
